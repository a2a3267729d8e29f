"""The ruler: how the generated motion compares with real speakers, on data never trained on.

    python -m talkingface.motion_gen.training.evaluate --tracking DIR --names DIR [--plots DIR]
        [--voices DIR]

`--tracking` holds what `track` wrote, one folder a set: `grid_s1`, `grid_other_speakers`,
`public_domain_speech`. `--names` is the folder of the grid_s1 videos, whose order says which clips
are held out. The real ONNX models run through the real sessions.

Lips: inner-lip opening (points 13-14) of the generated motion, through the face model, against the
speaker's own; both band-passed 2-8 Hz, all clips laid end to end, one lag for the set within
-40..+80 ms. A recording's own sound-to-picture offset is fixed first, by the best lag of its speech
energy. Beside it the same figure for another clip's sound, for the energy alone and for a still
face. `--compare` adds other ways of running the same model.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np
import onnxruntime
import soundfile
from numpy.typing import NDArray
from scipy.signal import butter, sosfiltfilt

from talkingface import audio_features, motion_gen
from talkingface.audio_features.contract import MODEL_NAME as ENCODER
from talkingface.audio_features.contract import PHONE_INDEX, SAMPLE_RATE
from talkingface.audio_features.session import AudioFeaturesSession
from talkingface.audio_features.training.train import HELD_OUT as ENCODER_HELD_OUT
from talkingface.common.motion import (
    ARKIT_DIM,
    ARKIT_INDEX,
    MOTION_FPS,
    PITCH,
    ROLL,
    Array,
    arkit_to_gaze,
)
from talkingface.motion_gen.contract import MODEL_NAME as GENERATOR
from talkingface.motion_gen.controls import Controls
from talkingface.motion_gen.session import DEFAULT_STYLE, MotionSession
from talkingface.motion_gen.training.prepare import (
    SAMPLES_PER_FRAME,
    bridge,
    held_out,
    measured_opening,
    opening_map,
    speaker_motion,
    to_fps,
)

BAND = (2.0, 8.0)
LAGS = (-1, 0, 1, 2)  # frames: -40..+80 ms, positive = generated lips late
OFFSETS = range(-6, 10)  # frames by which a recording's sound may lead its picture
CLOSURE_SECONDS = 120.0
CLOSURE_SLACK = 0.06
CLOSED_BELOW = 0.008  # face widths
QUIET_BELOW_PEAK = 30.0  # dB


@dataclass
class Clip:
    """One recording at 25 frames a second; `opening` over face height."""

    name: str
    audio: Array
    opening: Array
    motion: Array
    offset: int = 0  # frames by which the sound comes before the picture

    @property
    def energy(self) -> Array:
        """Root mean square of each frame's sound."""
        frames = len(self.audio) // SAMPLES_PER_FRAME
        cut = self.audio[: frames * SAMPLES_PER_FRAME].reshape(frames, -1)
        level: Array = np.sqrt((cut**2).mean(axis=1))
        return level


def load(folder: Path, names: Path | None = None) -> list[Clip]:
    """The clips of a set, each with its offset.

    :param names: folder of one speaker's videos, of which only the held-out ones are loaded;
        without it all clips are, each of another speaker
    """
    paths = sorted(folder.glob("*.npz"))
    if names is not None:
        chosen = {clip.stem for clip in held_out(sorted(names.glob("*.mp4")))}
        paths = [path for path in paths if path.stem in chosen]
    clips, points = [], []
    for path in paths:
        with np.load(path) as stored:
            landmarks = to_fps(bridge(stored["landmarks"]), float(stored["fps"]))
            audio = stored["audio"].astype(np.float32) / 32768.0
        clips.append(Clip(path.stem, audio, measured_opening(landmarks), np.zeros(0, np.float32)))
        points.append(landmarks)
    if names is not None:
        motions = speaker_motion(points)
    else:
        motions = [speaker_motion([one])[0] for one in points]
    for clip, motion in zip(clips, motions, strict=True):
        clip.motion = motion
    if names is not None:  # one recording set-up, one offset
        common = best_offset(clips)
        for clip in clips:
            clip.offset = common
    else:
        for clip in clips:
            clip.offset = best_offset([clip])
    return clips


def band_passed(track: Array) -> Array:
    """The track's 2-8 Hz."""
    sections = butter(3, BAND, "bandpass", fs=MOTION_FPS, output="sos")
    passed: Array = sosfiltfilt(sections, track)
    return passed


def shifted(track: Array, frames: int, length: int) -> Array:
    """`track` delayed by `frames`, its ends repeated, cut to `length`."""
    index = np.clip(np.arange(length) - frames, 0, len(track) - 1)
    moved: Array = track[index]
    return moved


def best_offset(clips: list[Clip]) -> int:
    """The delay of the sound, in frames, at which its energy fits the lips best."""
    scores = {
        offset: _pooled(
            [shifted(c.energy, offset, len(c.opening)) for c in clips],
            [c.opening for c in clips],
        )
        for offset in OFFSETS
    }
    return max(scores, key=scores.__getitem__)


def _pooled(first: list[Array], second: list[Array]) -> float:
    a = np.concatenate([band_passed(track) for track in first])
    b = np.concatenate([band_passed(track) for track in second])
    if a.std() < 1e-9:
        return 0.0
    return float(np.corrcoef(a, b)[0, 1])


def lip_score(made: list[Array], clips: list[Clip]) -> tuple[float, int]:
    """Best pooled correlation over `LAGS`, and its lag in ms.

    :param made: opening of each clip as generated from its sound, on the sound's clock
    """
    scores = {
        lag: _pooled(
            [shifted(m, c.offset - lag, len(c.opening)) for m, c in zip(made, clips, strict=True)],
            [c.opening for c in clips],
        )
        for lag in LAGS
    }
    best = max(scores, key=scores.__getitem__)
    return scores[best], best * 1000 // MOTION_FPS


class Pipeline:
    """Both stages' models, run by ONNX Runtime on one thread."""

    def __init__(self) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self._models = {
            name: onnxruntime.InferenceSession(
                str(Path(*package.__path__) / "model_repository" / name / "1" / "model.onnx"),
                options,
                providers=["CPUExecutionProvider"],
            )
            for name, package in ((ENCODER, audio_features), (GENERATOR, motion_gen))
        }
        self.seconds = {ENCODER: 0.0, GENERATOR: 0.0}
        self.heard = 0.0

    def _infer(self, name: str, request: dict[str, Array]) -> dict[str, Array]:
        began = time.process_time()
        model = self._models[name]
        outputs = model.run(None, {key: value[None] for key, value in request.items()})
        self.seconds[name] += time.process_time() - began
        return {o.name: value[0] for o, value in zip(model.get_outputs(), outputs, strict=True)}

    def rows(self, audio: Array) -> tuple[Array, Array]:
        """Features and speech of a whole clip."""
        session = AudioFeaturesSession()
        session.push(audio.astype(np.float32))
        session.end()
        features, speech = [], []
        while (request := session.next_request()) is not None:
            rows = session.accept(self._infer(ENCODER, request))
            features.append(rows.features)
            speech.append(rows.speech)
        self.heard += len(audio) / SAMPLE_RATE
        return np.concatenate(features), np.concatenate(speech)

    def motion(
        self,
        rows: tuple[Array, Array],
        seed: int = 0,
        controls: Controls | None = None,
        style: tuple[float, float] = DEFAULT_STYLE,
    ) -> Array:
        """Motion frames for the rows of a clip."""
        session = MotionSession(seed, controls, style)
        session.push(*rows)
        session.end()
        made = []
        while (request := session.next_request()) is not None:
            made.append(session.accept(self._infer(GENERATOR, request)))
        return np.concatenate(made)


def quiet_jitter(opening: Array, energy: Array) -> float:
    """Mean change of the opening from frame to frame where the voice is silent."""
    level = 20 * np.log10(energy[: len(opening)] + 1e-6)
    quiet = level < level.max() - QUIET_BELOW_PEAK
    both = quiet[1:] & quiet[:-1]
    return float(np.abs(np.diff(opening[: len(level)]))[both].mean()) if both.any() else np.nan


def blink_times(motion: Array) -> NDArray[np.float64]:
    """When the lids begin to close, seconds."""
    lid = motion[:, ARKIT_INDEX["eyeBlinkLeft"]]
    down = lid > 0.5
    return np.flatnonzero(down[1:] & ~down[:-1]) / MOTION_FPS


def head_step(motion: Array) -> float:
    """Mean of the pitch, yaw and roll changes from frame to frame, degrees."""
    return float(np.abs(np.diff(motion[:, PITCH : ROLL + 1], axis=0)).mean())


def evaluate_set(
    pipeline: Pipeline, name: str, clips: list[Clip], plots: Path | None, compare: bool
) -> None:
    """Print the figures of one set."""
    weights = opening_map()
    rows = [pipeline.rows(clip.audio) for clip in clips]
    print(f"\n## {name}: {len(clips)} clips, offsets {sorted({c.offset for c in clips})} frames")

    def run(**how: object) -> tuple[list[Array], list[Array]]:
        motions = [pipeline.motion(row, **how) for row in rows]  # type: ignore[arg-type]
        return motions, [motion[:, :ARKIT_DIM] @ weights for motion in motions]

    motions, lips = run()
    table = {"generated": lips}
    if len(clips) > 1:
        table["shuffled sound"] = [*lips[1:], lips[0]]
    table["energy alone"] = [clip.energy for clip in clips]
    table["still"] = [np.zeros(len(clip.opening), np.float32) for clip in clips]
    if compare:
        table["style of the recorded man"] = run(style=(1.0, 0.0))[1]
        table["style of the rules"] = run(style=(0.0, 1.0))[1]
        table["no audio guidance"] = run(controls=Controls(audio_guidance=0.0))[1]
        table["another seed"] = run(seed=1)[1]
        table["gaze 10, 20"] = run(controls=Controls(gaze=(10.0, 20.0)))[1]
        table["full anger"] = run(controls=Controls(emotion={"anger": 1.0}))[1]
    for label, made in table.items():
        r, lag = lip_score(made, clips)
        print(f"{label:24} r {r:.3f}  lag {lag:+d} ms")
    real = [clip.motion[:, :ARKIT_DIM] @ weights for clip in clips]
    ratio = _spread(lips) / _spread(real)
    print(f"opening spread against real: {ratio:.2f}")
    for label, moved, opened in (
        ("real", [c.motion for c in clips], real),
        ("made", motions, lips),
    ):
        seconds = sum(len(m) for m in moved) / MOTION_FPS
        blinks = sum(len(blink_times(m)) for m in moved) / seconds * 60
        steps = np.mean([head_step(m) for m in moved])
        jitter = np.nanmean(
            [
                quiet_jitter(
                    track, shifted(clip.energy, clip.offset * (label == "real"), len(track))
                )
                for track, clip in zip(opened, clips, strict=True)
            ]
        )
        print(
            f"{label}: blinks {blinks:.1f} a minute, head step {steps:.3f} degrees, "
            f"quiet lip jitter {1000 * jitter:.2f} / 1000 face widths a frame"
        )
    if plots is not None:
        _plot(plots / f"{name}.png", clips, motions, lips)


def _spread(tracks: list[Array]) -> float:
    return float(np.concatenate([band_passed(track) for track in tracks]).std())


def closures(pipeline: Pipeline, folder: Path) -> None:
    """Print how often /p b m/ close the lips in synthetic speech with exact phone times.

    :param folder: the packed voices of the speech encoder's training (`labels.npz`, `*.opus`)
    """
    bilabial = [PHONE_INDEX[name] for name in "pbm"]
    weights = opening_map()
    with np.load(folder / "labels.npz") as labels:
        for name in ENCODER_HELD_OUT:
            audio, _ = soundfile.read(folder / f"{name}.opus", dtype="float32")
            audio = audio[: int(CLOSURE_SECONDS * SAMPLE_RATE)]
            lips = pipeline.motion(pipeline.rows(audio))[:, :ARKIT_DIM] @ weights
            phone, end = labels[f"{name}/phone"], labels[f"{name}/end"] / SAMPLE_RATE
            start = np.concatenate([[0.0], end[:-1]])
            seconds = (np.arange(len(lips)) + 0.5) / MOTION_FPS
            spoken = np.isin(phone, bilabial) & (end < seconds[-1] - 0.1)
            closed = [
                lips[(seconds > a - CLOSURE_SLACK) & (seconds < b + CLOSURE_SLACK)].min()
                < CLOSED_BELOW
                for a, b in zip(start[spoken], end[spoken], strict=True)
            ]
            by_chance = (lips < CLOSED_BELOW).mean()
            print(
                f"{name}: {np.mean(closed):.0%} of {len(closed)} /p b m/ closed; lips are "
                f"closed in {by_chance:.0%} of all frames"
            )


def gaze_error(pipeline: Pipeline, rows: tuple[Array, Array]) -> float:
    """Mean distance in degrees between the gaze asked for and given, camera's frame."""
    errors = []
    for gaze in ((0.0, 0.0), (10.0, 20.0), (-10.0, -20.0), (15.0, -10.0)):
        motion = pipeline.motion(rows, controls=Controls(gaze=gaze))[15:]
        pitch, yaw = arkit_to_gaze(motion[:, :ARKIT_DIM])
        seen = np.stack([pitch, yaw], 1) + motion[:, PITCH : PITCH + 2]
        errors.append(np.linalg.norm(seen - gaze, axis=1).mean())
    return float(np.mean(errors))


def idle(pipeline: Pipeline, seconds: float, plots: Path | None, show: Callable[..., None]) -> None:
    """A minute of silence: the lips must rest, eyes and head must live."""
    motion = pipeline.motion(pipeline.rows(np.zeros(int(seconds * SAMPLE_RATE), np.float32)))
    lips = motion[:, :ARKIT_DIM] @ opening_map()
    print(
        f"\n## silence: lip jitter {1000 * np.abs(np.diff(lips)).mean():.2f} / 1000 face widths, "
        f"opening up to {lips.max():.4f}; blinks {len(blink_times(motion)) / seconds * 60:.1f} a "
        f"minute; head step {head_step(motion):.3f} degrees"
    )
    if plots is not None:
        show(plots / "silence.png", motion[:500])


def _plot_motion(path: Path, motion: Array) -> None:
    import matplotlib.pyplot as plt

    _, axes = plt.subplots(3, 1, figsize=(16, 10))
    seconds = np.arange(len(motion)) / MOTION_FPS
    axes[0].plot(seconds, motion[:, :ARKIT_DIM] @ opening_map() * 10, label="opening x 10")
    for name in ("eyeBlinkLeft", "browInnerUp", "mouthSmileLeft", "mouthPucker", "jawOpen"):
        axes[0].plot(seconds, motion[:, ARKIT_INDEX[name]], label=name)
    pitch, yaw = arkit_to_gaze(motion[:, :ARKIT_DIM])
    axes[1].plot(seconds, pitch, label="eye pitch")
    axes[1].plot(seconds, yaw, label="eye yaw")
    axes[1].plot(seconds, pitch + motion[:, PITCH], label="gaze pitch")
    axes[1].plot(seconds, yaw + motion[:, PITCH + 1], label="gaze yaw")
    for i, name in enumerate(("pitch", "yaw", "roll")):
        axes[2].plot(seconds, motion[:, PITCH + i], label=name)
    for axis in axes:
        axis.legend(fontsize=7)
        axis.grid()
    plt.tight_layout()
    plt.savefig(path, dpi=60)
    plt.close()


def _plot(path: Path, clips: list[Clip], motions: list[Array], lips: list[Array]) -> None:
    import matplotlib.pyplot as plt

    _, axes = plt.subplots(4, 1, figsize=(16, 12))
    for axis, clip, made in zip(axes, clips, lips, strict=False):
        count = min(len(clip.opening), 250)
        seconds = np.arange(count) / MOTION_FPS
        # Over the face's height, so that it is lower than the generated one by the face's shape.
        axis.plot(seconds, clip.opening[:count], label="real")
        axis.plot(seconds, shifted(made, clip.offset, count), label="generated")
        energy = shifted(clip.energy, clip.offset, count)
        axis.plot(seconds, 0.08 * energy / energy.max(), lw=0.5, label="energy")
        axis.set_title(clip.name)
        axis.legend(fontsize=7)
        axis.grid()
    plt.tight_layout()
    plt.savefig(path, dpi=60)
    plt.close()
    _plot_motion(path.with_name(f"{path.stem}_motion.png"), motions[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tracking", type=Path, required=True)
    parser.add_argument("--names", type=Path, required=True)
    parser.add_argument("--plots", type=Path)
    parser.add_argument("--voices", type=Path, help="packed voices, for closures of /p b m/")
    parser.add_argument("--compare", action="store_true", help="other styles, guidance, controls")
    args = parser.parse_args()
    matplotlib.use("Agg")
    if args.plots is not None:
        args.plots.mkdir(parents=True, exist_ok=True)
    pipeline = Pipeline()
    sets = {
        "grid_s1": load(args.tracking / "grid_s1", args.names),
        "grid_other_speakers": load(args.tracking / "grid_other_speakers"),
        "public_domain_speech": load(args.tracking / "public_domain_speech"),
    }
    for name, clips in sets.items():
        evaluate_set(pipeline, name, clips, args.plots, args.compare)
    if args.voices is not None:
        closures(pipeline, args.voices)
    idle(pipeline, 60.0, args.plots, _plot_motion)
    rows = pipeline.rows(sets["public_domain_speech"][0].audio)
    print(f"gaze control error {gaze_error(pipeline, rows):.2f} degrees")
    began = dict(pipeline.seconds)
    heard = pipeline.heard
    rows = pipeline.rows(sets["public_domain_speech"][0].audio)
    pipeline.motion(rows)
    heard = pipeline.heard - heard
    for name, total in pipeline.seconds.items():
        print(f"{name}: real-time factor {(total - began[name]) / heard:.3f} on one core")


if __name__ == "__main__":
    main()
