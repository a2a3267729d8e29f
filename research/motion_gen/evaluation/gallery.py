"""Images for inspection: contact sheets, close-ups of mouths, lips against audio."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from talkingface.contract.arrays import Float32Array
from talkingface.contract.rates import MOTION_FPS
from talkingface_research.motion_gen.evaluation.curves import Curve
from talkingface_research.motion_gen.evaluation.plots import figure, times
from talkingface_research.renderer.evaluation import contact_sheets
from talkingface_research.renderer.evaluation.contact_sheets import Image

if TYPE_CHECKING:
    from talkingface_research.motion_gen.evaluation.context import EvalContext
    from talkingface_research.motion_gen.evaluation.sections.expression import Clip
    from talkingface_research.motion_gen.evaluation.speech_clips import SpeechClip

SUCCESSIVE, CLOSE = 12, 24  # frames of a row, and of a mouth
STEP = 2  # frames from one of a row to the next; mouths show every frame
TILE, MOUTH = 192, 144  # pixels
CLOSE_CLIPS, PLOTTED = 3, 4  # clips with close-ups; clips with plots
OUTER_LIPS = (61, 291, 0, 17)
cv: Any = cv2  # OpenCV's stubs have no element types


def draw(
    context: EvalContext,
    voices: Sequence[SpeechClip],
    photos: Sequence[Path],
    motions: Sequence[Float32Array],
    clips: Sequence[Clip],
    tracks: Mapping[str, Mapping[str, Sequence[Curve]]],
) -> None:
    """Write `expression_frames.png`, `expression_mouths.png` and `expression_lips.png`."""
    rows, mouths = [], []
    for i, (voice, photo, motion, clip) in enumerate(
        zip(voices, photos, motions, clips, strict=True)
    ):
        first = liveliest(tracks["generated"]["opening"][i], SUCCESSIVE * STEP)
        part = slice(first, first + SUCCESSIVE * STEP)
        images = context.readback.frames(photo, motion[part])
        row = [_sized(image, TILE) for image in images[::STEP]]
        if row:
            row[0] = contact_sheets.tile(images[0], voice.name)
            row[0] = _sized(row[0], TILE)
            rows.append(np.concatenate([*row, *[row[-1]] * (SUCCESSIVE - len(row))], axis=1))
        if i < CLOSE_CLIPS:
            close = [
                mouth(image, points)
                for image, points in zip(images[:CLOSE], clip.landmarks[part], strict=False)
            ]
            mouths.append(contact_sheets.grid(close, CLOSE // 2))
    if rows:
        contact_sheets.write(context.report / "expression_frames.png", np.concatenate(rows))
        contact_sheets.write(context.report / "expression_mouths.png", np.concatenate(mouths))
    _plot(context.report / "expression_lips.png", voices, clips, tracks)


def liveliest(track: Curve, count: int) -> int:
    """The first of `count` successive frames in which a curve moves most."""
    if len(track) <= count:
        return 0
    spread = [track[i : i + count].std() for i in range(0, len(track) - count, 5)]
    return 5 * int(np.argmax(spread))


def mouth(image: Image, landmarks: Float32Array) -> Image:
    """A square about the lips, half as large again as they are wide."""
    lips = landmarks[list(OUTER_LIPS), :2]
    centre = lips.mean(axis=0)
    half = 0.75 * float(np.linalg.norm(lips[0] - lips[1]))
    left, top = (np.clip(centre - half, 0, None)).astype(int)
    right, bottom = (centre + half).astype(int)
    return _sized(image[top : max(bottom, top + 2), left : max(right, left + 2)], MOUTH)


def _sized(image: Image, size: int) -> Image:
    return np.asarray(cv.resize(image, (size, size), interpolation=cv.INTER_AREA), np.uint8)


def _plot(
    path: Path,
    voices: Sequence[SpeechClip],
    clips: Sequence[Clip],
    tracks: Mapping[str, Mapping[str, Sequence[Curve]]],
) -> None:
    shown = list(range(len(voices)))[:: max(1, len(voices) // PLOTTED)][:PLOTTED]
    own = [i for i, voice in enumerate(voices) if voice.landmarks is not None]
    with figure(path, len(shown), 2) as axes:
        for row, i in zip(axes, shown, strict=True):
            for axis, name in zip(row, ("opening", "width"), strict=True):
                made = tracks["generated"][name][i]
                seconds = times(len(made))
                level = clips[i].level - clips[i].level.min()
                low, high = made.min(), max(made.max(), made.min() + 1)
                if i in own:
                    real = tracks["real"][name][own.index(i)]
                    real = real - real.mean() + made.mean()
                    axis.plot(times(len(real)), real, "k", lw=0.9, label="real")
                    low, high = min(low, real.min()), max(high, real.max())
                axis.plot(seconds, made, "C0", label="generated, rendered")
                scaled = low + (high - low) * level / max(level.max(), 1)
                axis.fill_between(seconds, low, scaled, color="0.88", lw=0, label="loudness, dB")
                axis.set_title(f"{voices[i].name}: {name}, % of the face; real at the same mean")
                axis.set_xlim(0, len(made) / MOTION_FPS)
                axis.legend(fontsize=7, loc="upper right")
