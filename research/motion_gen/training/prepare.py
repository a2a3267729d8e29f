"""Tracked clips to training data: motion frames and audio in two small files.

    python -m talkingface_research.motion_gen.training.prepare --tracking DIR --names GRID --out DIR
        [--speakers FILE]

`DIR` holds what `track` wrote for one speaker. Every `HELD_OUT`-th clip of the sorted folder is
held out and written to no file. Writes

- `real.npz`: `coefficients` (N, 52) uint8 in units of 1/255, `pose` (N, 6) float16 (the last
  columns of the motion frame), `lips` (N, 135) float16 displacements of the lips (`lip_shapes`),
  with `--speakers` half-way to the mean of all speakers (`speakers`),
  `clip` (clips,) the clips' names, `frames` (clips,) how many frames each has,
  `opening` (N,) float16 measured inner-lip opening in face widths, `opening_map` (52,) float32
  inner-lip opening in face widths by coefficient;
- `real.ogg`: the clips' audio end to end (Opus, 16 kHz), 640 samples a frame.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray
from scipy.signal import savgol_filter

from talkingface.contract.arrays import Float32Array
from talkingface.contract.motion import ARKIT_DIM, ARKIT_INDEX, DISTANCE, PITCH
from talkingface.contract.rates import MOTION_FPS
from talkingface.renderer.face.fitting import estimate_person, track
from talkingface.renderer.face.model import FaceModel
from talkingface_research.motion_gen.training.lip_shapes import (
    displacements,
    fitted,
    jacobian,
    measures,
)
from talkingface_research.motion_gen.training.speakers import Speakers, towards_mean

HELD_OUT = 23
SAMPLES_PER_FRAME = 16000 // MOTION_FPS
BIT_RATE = 20000  # of the Opus file, bits a second
UPPER_LIP, LOWER_LIP = 13, 14
MAX_LOST = 0.1  # of a clip's frames without a face
REST_FRAMES = 6  # each clip of the corpus starts with a still face
FAST = [
    i for name, i in ARKIT_INDEX.items() if name.startswith(("mouth", "jaw", "eyeBlink", "tongue"))
]


def held_out(clips: list[Path]) -> list[Path]:
    """The clips of a sorted folder that training never sees."""
    return clips[::HELD_OUT]


def opening_map() -> Float32Array:
    """Inner-lip opening in face widths that each coefficient adds: (52,) float32."""
    shapes = FaceModel.load().landmark_expressions
    opens: Float32Array = (shapes[:, UPPER_LIP, 1] - shapes[:, LOWER_LIP, 1]).astype(np.float32)
    return opens


def lost_frames(landmarks: Float32Array) -> NDArray[np.bool_]:
    """(T,) whether no face was found."""
    result: NDArray[np.bool_] = ~np.isfinite(landmarks).all(axis=(1, 2))
    return result


def bridge(landmarks: Float32Array) -> Float32Array:
    """Frames without a face (NaN) interpolated from their neighbours."""
    lost = lost_frames(landmarks)
    if not lost.any():
        return landmarks
    times, out = np.arange(len(landmarks)), landmarks.reshape(len(landmarks), -1).copy()
    for column in range(out.shape[1]):
        out[lost, column] = np.interp(times[lost], times[~lost], out[~lost, column])
    return out.reshape(landmarks.shape)


def to_fps(frames: Float32Array, fps: float) -> Float32Array:
    """Resample (T, ...) to `MOTION_FPS`, linearly."""
    if abs(fps - MOTION_FPS) < 0.01:
        return frames
    count = int(len(frames) / fps * MOTION_FPS)
    at = np.minimum(np.arange(count) * (fps / MOTION_FPS), len(frames) - 1)
    low = at.astype(int)
    high = np.minimum(low + 1, len(frames) - 1)
    share = (at - low).astype(np.float32).reshape(-1, *[1] * (frames.ndim - 1))
    result: Float32Array = frames[low] * (1 - share) + frames[high] * share
    return result


def measured_opening(landmarks: Float32Array) -> Float32Array:
    """Inner-lip opening over face height, (T,)."""
    gap = np.linalg.norm(landmarks[:, UPPER_LIP, :2] - landmarks[:, LOWER_LIP, :2], axis=1)
    height = np.linalg.norm(landmarks[:, 10, :2] - landmarks[:, 152, :2], axis=1)
    result: Float32Array = gap / height
    return result


def speaker_motion(tracks: list[Float32Array]) -> list[Float32Array]:
    """Motion frames (T, 60) of one speaker's clips, relative to the resting face.

    :param tracks: landmarks of each clip (T, 478, 3), 25 frames a second, without NaN
    """
    sample = np.concatenate([clip[::12] for clip in tracks])
    identity, lids = estimate_person(sample, frames=240)
    tracked = [track(clip, identity, lids) for clip in tracks]
    rest = np.median(np.concatenate([t.coefficients[:REST_FRAMES] for t in tracked]), axis=0)
    motions = []
    for one in tracked:
        motion = one.motion()
        coefficients = np.clip(motion[:, :ARKIT_DIM] - rest, 0, 1)
        smoothed = savgol_filter(motion, 7, 2, axis=0)
        motion[:, PITCH:] = smoothed[:, PITCH:]
        slow = np.clip(savgol_filter(coefficients, 7, 2, axis=0), 0, 1)
        slow[:, FAST] = coefficients[:, FAST]
        motion[:, :ARKIT_DIM] = slow
        motions.append(motion.astype(np.float32))
    return motions


def report_fit(lips: Float32Array) -> None:
    """Print how well the face model's coefficients reproduce tracked lips (N, 135)."""
    made, real = measures(fitted(lips) @ jacobian().T), measures(lips)
    for name, curve in real.items():
        r = np.corrcoef(made[name], curve)[0, 1]
        print(f"{name}: r {r:.2f}, size {made[name].std() / curve.std():.2f} of the tracked one")


def write_opus(path: Path, audio: NDArray[np.int16]) -> None:
    """Mono 16 kHz samples as Ogg Opus."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libopus", rate=16000, layout="mono")
        stream.bit_rate = BIT_RATE
        frame = av.AudioFrame.from_ndarray(audio[None], format="s16", layout="mono")
        frame.sample_rate = 16000
        for packet in (*stream.encode(frame), *stream.encode(None)):
            container.mux(packet)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tracking", type=Path, required=True)
    parser.add_argument(
        "--names",
        type=Path,
        required=True,
        help="folder whose sorted *.mp4 decide what is held out",
    )
    parser.add_argument("--speakers", type=Path, help="mouths of GRID's other speakers: a prior")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    every = sorted(args.names.glob("*.mp4"))
    kept = sorted(set(every) - set(held_out(every)))
    paths = [args.tracking / f"{clip.stem}.npz" for clip in kept]
    names, landmarks, audio = [], [], []
    for path in paths:
        if not path.exists():
            continue
        with np.load(path) as clip:
            points, samples = clip["landmarks"], clip["audio"]
        if lost_frames(points).mean() > MAX_LOST:
            continue
        points = bridge(points)
        names.append(path.stem)
        frames = min(len(points), len(samples) // SAMPLES_PER_FRAME)
        landmarks.append(points[:frames])
        audio.append(samples[: frames * SAMPLES_PER_FRAME])
    motion = speaker_motion(landmarks)
    joined = np.concatenate(motion)
    measured = np.concatenate([measured_opening(clip) for clip in landmarks])
    opens = joined[:, :ARKIT_DIM] @ opening_map()
    print(f"{len(motion)} clips, {len(joined)} frames")
    print(
        f"opening of the coefficients against measured: r {np.corrcoef(opens, measured)[0, 1]:.3f}"
    )
    moved = dict(zip(names, map(displacements, landmarks), strict=True))
    report_fit(np.concatenate(list(moved.values()))[::7])
    if args.speakers:
        moved = towards_mean(moved, Speakers(args.speakers, without="s1"), args.names)
    np.savez_compressed(
        args.out / "real.npz",
        coefficients=np.round(joined[:, :ARKIT_DIM] * 255).astype(np.uint8),
        pose=joined[:, PITCH : DISTANCE + 1].astype(np.float16),
        clip=np.array(names),
        frames=np.array([len(clip) for clip in motion]),
        lips=np.concatenate(list(moved.values())).astype(np.float16),
        opening=measured.astype(np.float16),
        opening_map=opening_map(),
    )
    write_opus(args.out / "real.ogg", np.concatenate(audio))


if __name__ == "__main__":
    main()
