"""Track the faces of video clips: 478 landmarks, blendshape scores, head matrix and 16 kHz audio.

Needs `mediapipe >= 1.2` and Google's `face_landmarker_v2_with_blendshapes.task` (Apache-2.0);
both are for making training data only and are not shipped. One `.npz` a clip:

| array | shape | meaning |
|---|---|---|
| `landmarks` | (T, 478, 3) float32 | pixels of the source frame; z in the same scale |
| `blendshapes` | (T, 52) float32 | scores in Apple's order (`tongueOut` is always 0) |
| `matrix` | (T, 4, 4) float32 | canonical face to camera |
| `size` | (2,) | width, height of the frame |
| `fps` | () | frames a second |
| `audio` | (N,) int16 | mono, 16 kHz; from a `.wav` of the same name if it exists |
| `audio_start`, `video_start` | () | presentation time of the first sample and frame, seconds |

A frame without a face carries NaN. Use:

    python -m talkingface_research.motion_gen.training.track --model FILE.task
        --out DIR VIDEO_OR_FOLDER...
"""

from __future__ import annotations

import argparse
import logging
import time
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from talkingface.contract.arrays import Float32Array
from talkingface.contract.motion import ARKIT_INDEX, ARKIT_NAMES

AUDIO_RATE = 16000
VIDEO_SUFFIXES = {".mp4", ".mpg", ".mov", ".mkv", ".webm"}
log = logging.getLogger(__name__)


def decode_audio(path: Path) -> tuple[NDArray[np.int16], float]:
    """Mono 16 kHz samples of a file and the time of the first one in seconds."""
    chunks: list[NDArray[np.int16]] = []
    start = 0.0
    with av.open(str(path)) as container:
        if not container.streams.audio:
            return np.zeros(0, np.int16), start
        resampler = av.AudioResampler(format="s16", layout="mono", rate=AUDIO_RATE)
        for frame in container.decode(audio=0):
            if not chunks and frame.pts is not None and frame.time_base is not None:
                start = float(frame.pts * frame.time_base)
            chunks.extend(out.to_ndarray()[0] for out in resampler.resample(frame))
        chunks.extend(out.to_ndarray()[0] for out in resampler.resample(None))
    return np.concatenate(chunks) if chunks else np.zeros(0, np.int16), start


def track(path: Path, model: Path) -> dict[str, Any]:
    """Landmarks, scores, head matrix and audio of one clip (table above)."""
    import mediapipe as mp
    from mediapipe.tasks.python import BaseOptions, vision

    options = vision.FaceLandmarkerOptions(
        base_options=BaseOptions(model_asset_path=str(model)),
        # The video mode smooths landmarks over time, which removes the closures of the lips.
        running_mode=vision.RunningMode.IMAGE,
        output_face_blendshapes=True,
        output_facial_transformation_matrixes=True,
    )
    landmarks: list[Float32Array] = []
    scores: list[Float32Array] = []
    matrices: list[Float32Array] = []
    video_start = 0.0
    with vision.FaceLandmarker.create_from_options(options) as tracker, av.open(str(path)) as clip:
        stream = clip.streams.video[0]
        fps = float(stream.average_rate or 25)
        width, height = stream.codec_context.width, stream.codec_context.height
        for frame in clip.decode(stream):
            if not landmarks and frame.pts is not None and frame.time_base is not None:
                video_start = float(frame.pts * frame.time_base)
            pixels = np.ascontiguousarray(frame.to_ndarray(format="rgb24"))
            image = mp.Image(image_format=mp.ImageFormat.SRGB, data=pixels)
            result = tracker.detect(image)
            points = np.full((478, 3), np.nan, np.float32)
            score = np.full(len(ARKIT_NAMES), np.nan, np.float32)
            matrix = np.full((4, 4), np.nan, np.float32)
            if result.face_landmarks:
                points = np.array([[p.x, p.y, p.z] for p in result.face_landmarks[0]], np.float32)
                points *= np.array([width, height, width], np.float32)
                score = np.zeros(len(ARKIT_NAMES), np.float32)
                for category in result.face_blendshapes[0]:
                    if category.category_name in ARKIT_INDEX:
                        score[ARKIT_INDEX[category.category_name]] = category.score
                matrix = np.asarray(result.facial_transformation_matrixes[0], np.float32)
            landmarks.append(points)
            scores.append(score)
            matrices.append(matrix)
    wav = path.with_suffix(".wav")
    audio, audio_start = decode_audio(wav if wav.exists() else path)
    return {
        "landmarks": np.stack(landmarks),
        "blendshapes": np.stack(scores),
        "matrix": np.stack(matrices),
        "size": np.array([width, height]),
        "fps": np.float32(fps),
        "audio": audio,
        "audio_start": np.float32(audio_start),
        "video_start": np.float32(video_start),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("inputs", type=Path, nargs="+")
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    args.out.mkdir(parents=True, exist_ok=True)
    clips = [
        clip
        for path in args.inputs
        for clip in (sorted(path.iterdir()) if path.is_dir() else [path])
        if clip.suffix.lower() in VIDEO_SUFFIXES
    ]
    began = time.monotonic()
    for done, clip in enumerate(clips, 1):
        target = args.out / f"{clip.stem}.npz"
        if target.exists():
            continue
        partial = target.with_suffix(".part")
        with partial.open("wb") as file:
            np.savez(file, **track(clip, args.model))
        partial.rename(target)
        if done % 20 == 0 or done == len(clips):
            log.info("%d of %d clips, %.0f s", done, len(clips), time.monotonic() - began)


if __name__ == "__main__":
    main()
