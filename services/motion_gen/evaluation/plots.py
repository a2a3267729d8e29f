"""Pictures to look at. One function a picture; matplotlib without a screen."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

from talkingface.audio_features.contract import PHONES
from talkingface.common.motion import MOTION_FPS
from talkingface.motion_gen.evaluation.curves import Curve
from talkingface.motion_gen.evaluation.phones import BILABIAL, LABIODENTAL, SILENCE, Phones
from talkingface.motion_gen.evaluation.recordings import Recording

CLIPS, SECONDS = 4, 8.0


@contextmanager
def figure(path: Path, rows: int, columns: int = 1, height: float = 3.0) -> Iterator[Any]:
    """Axes (rows, columns) of a picture that is written at the end."""
    matplotlib.use("Agg")
    from matplotlib import pyplot

    drawn, axes = pyplot.subplots(
        rows, columns, figsize=(16, height * rows), squeeze=False, layout="constrained"
    )
    yield axes
    drawn.savefig(path, dpi=70)
    pyplot.close(drawn)


def times(count: int) -> Curve:
    """Seconds of the middles of frames."""
    return (np.arange(count) + 0.5) / MOTION_FPS


def mark_phones(axis: Any, phones: Phones, late: float, height: float, end: float) -> None:
    """Names of the phones along the axis; those that close the lips are shaded."""
    for phone, start, stop in zip(
        phones.phone, phones.start + late, phones.end + late, strict=True
    ):
        if phone < 0 or phone == SILENCE or start > end:
            continue
        shade = {True: "red"}.get(phone in BILABIAL) or ("orange" if phone in LABIODENTAL else None)
        if shade:
            axis.axvspan(start, stop, color=shade, alpha=0.25, lw=0)
        axis.text((start + stop) / 2, height, PHONES[phone], fontsize=7, ha="center")


def lips(
    path: Path, clips: Sequence[Recording], made: Sequence[Curve], rules: Sequence[Curve]
) -> None:
    """Real against generated opening, with loudness and, where known, phones."""
    shown = list(zip(clips, made, rules, strict=True))[:: max(1, len(clips) // CLIPS)][:CLIPS]
    with figure(path, len(shown)) as axes:
        for axis, (clip, curve, rule) in zip(axes[:, 0], shown, strict=True):
            count = min(clip.frames, int(SECONDS * MOTION_FPS))
            seconds = times(count)
            energy = clip.heard_energy[:count]
            axis.fill_between(seconds, 0.1 * energy / energy.max(), color="0.85", label="loudness")
            axis.plot(seconds, clip.opening[:count], "k", label="real")
            axis.plot(seconds, curve[:count], "C0", label="generated")
            axis.plot(seconds, rule[:count], "C1", lw=0.8, label="rules alone")
            if clip.phones is not None:
                late = clip.offset / MOTION_FPS
                mark_phones(axis, clip.phones, late, -0.012, float(seconds[-1]))
            axis.set_title(f"{clip.name}: opening of the inner lips, face widths")
            axis.set_xlim(0, seconds[-1])
            axis.legend(fontsize=7, loc="upper right")
