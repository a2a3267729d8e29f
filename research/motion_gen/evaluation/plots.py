"""Plots for inspection, one function a file; matplotlib without a screen."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from numpy.typing import NDArray

from talkingface.contract.arrays import Float32Array
from talkingface.contract.motion import ARKIT_INDEX, ARKIT_NAMES, PITCH
from talkingface.contract.rates import MOTION_FPS
from talkingface.contract.speech_features import PHONES
from talkingface_research.motion_gen.evaluation.curves import Curve
from talkingface_research.motion_gen.evaluation.gaze import in_camera
from talkingface_research.motion_gen.evaluation.head import spectrum
from talkingface_research.motion_gen.evaluation.mouth import opening, width
from talkingface_research.motion_gen.evaluation.phones import BILABIAL, LABIODENTAL, SILENCE, Phones
from talkingface_research.motion_gen.evaluation.recordings import Recording
from talkingface_research.motion_gen.evaluation.singing import Note

CLIPS, SECONDS = 4, 8.0


@contextmanager
def figure(path: Path, rows: int, columns: int = 1, height: float = 3.0) -> Iterator[Any]:
    """Axes (rows, columns) of a figure that is written at the end."""
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


def mark_phones(
    axis: Any, phones: Phones, late: float, height: float, begin: float, end: float
) -> None:
    """Write the names of phones along the axis; those that close the lips are shaded."""
    for phone, start, stop in zip(
        phones.phone, phones.start + late, phones.end + late, strict=True
    ):
        if phone < 0 or phone == SILENCE or stop < begin or start > end:
            continue
        shade = {True: "red"}.get(phone in BILABIAL) or ("orange" if phone in LABIODENTAL else None)
        if shade:
            axis.axvspan(start, stop, color=shade, alpha=0.25, lw=0)
        axis.text(
            (start + stop) / 2, height, PHONES[phone], fontsize=7, ha="center", clip_on=True,
            in_layout=False,
        )  # fmt: skip


def lips(
    path: Path, clips: Sequence[Recording], made: Sequence[Curve], rules: Sequence[Curve]
) -> None:
    """Plot real against generated opening, with loudness and, where known, phones."""
    shown = list(zip(clips, made, rules, strict=True))[:: max(1, len(clips) // CLIPS)][:CLIPS]
    with figure(path, len(shown)) as axes:
        for axis, (clip, curve, rule) in zip(axes[:, 0], shown, strict=True):
            count = min(clip.frames, int(SECONDS * MOTION_FPS))
            seconds = times(count)
            energy = clip.video_energy[:count]
            axis.fill_between(seconds, 0.1 * energy / energy.max(), color="0.85", label="loudness")
            axis.plot(seconds, clip.opening[:count], "k", label="real")
            axis.plot(seconds, curve[:count], "C0", label="generated")
            axis.plot(seconds, rule[:count], "C1", lw=0.8, label="rules alone")
            if clip.phones is not None:
                late = clip.offset / MOTION_FPS
                mark_phones(axis, clip.phones, late, -0.012, 0.0, float(seconds[-1]))
            axis.set_title(f"{clip.name}: opening of the inner lips, face widths")
            axis.set_xlim(0, seconds[-1])
            axis.legend(fontsize=7, loc="upper right")


def blinks(
    path: Path, intervals: Curve, duration: Curve, true_duration: Curve, motion: Float32Array
) -> None:
    """Plot intervals with their log-normal fit, durations, and lid closure over time."""
    with figure(path, 2, 2) as axes:
        logs = np.log(intervals)
        at = np.linspace(0.2, max(10.0, float(intervals.max())), 300)
        density = np.exp(-0.5 * ((np.log(at) - logs.mean()) / logs.std()) ** 2)
        density /= at * logs.std() * np.sqrt(2 * np.pi)
        axes[0, 0].hist(intervals, 30, density=True, color="0.8")
        axes[0, 0].plot(at, density, "C0")
        axes[0, 0].set_title("blink intervals, s, and the log-normal fit")
        bins = np.arange(80, 600, 20)
        axes[0, 1].hist(duration, bins, density=True, alpha=0.6, label="generated")
        axes[0, 1].hist(true_duration, bins, density=True, alpha=0.6, label="real")
        axes[0, 1].set_title("blink durations, ms")
        axes[0, 1].legend()
        for axis, first, last in ((axes[1, 0], 0, 1500), (axes[1, 1], 0, 250)):
            lids = motion[first:last, ARKIT_INDEX["eyeBlinkLeft"]]
            axis.plot(times(len(lids)), lids)
            axis.set_title("lid closure, speaking")


def gaze(path: Path, made: Curve, real: Curve) -> None:
    """Plot gaze over time in the camera's frame, and its map."""
    with figure(path, 2, 2) as axes:
        for row, (track, title) in zip(axes, ((made, "generated"), (real, "real")), strict=True):
            row[0].plot(times(len(track)), track, label=["pitch", "yaw"])
            row[0].set_title(f"{title}: gaze in the camera's frame, degrees")
            row[0].legend(fontsize=7)
            row[1].plot(track[:, 1], track[:, 0], ".-", lw=0.3, ms=2)
            row[1].set_aspect("equal")
            row[1].set(xlim=(-20, 20), ylim=(-15, 15))


def head(path: Path, made: Sequence[Curve], real: Sequence[Curve]) -> None:
    """Plot head angles over time and their spectra."""
    with figure(path, 2, 2) as axes:
        for i, (tracks, title) in enumerate(((made, "generated"), (real, "real"))):
            axes[i, 0].plot(times(len(tracks[0])), tracks[0], label=["pitch", "yaw", "roll"])
            axes[i, 0].set_title(f"{title}: head, degrees")
            axes[i, 0].legend(fontsize=7)
            axes[0, 1].loglog(*spectrum(tracks), label=title)
        axes[0, 1].set_title("power of head rotation, degrees^2 / Hz")
        axes[0, 1].legend()
        for tracks, title in ((made, "generated"), (real, "real")):
            steps = np.concatenate([np.abs(np.diff(t, axis=0)).mean(axis=1) for t in tracks])
            axes[1, 1].hist(steps, np.linspace(0, 2, 60), density=True, alpha=0.6, label=title)
        axes[1, 1].set_title("head step, degrees a frame")
        axes[1, 1].legend()


def minute(path: Path, motion: Float32Array) -> None:
    """Plot everything that moves during silence."""
    with figure(path, 3) as axes:
        seconds = times(len(motion))
        axes[0, 0].plot(seconds, 10 * opening(motion), label="opening x 10, face widths")
        for name in ("eyeBlinkLeft", "browInnerUp", "mouthSmileLeft", "jawOpen"):
            axes[0, 0].plot(seconds, motion[:, ARKIT_INDEX[name]], label=name)
        axes[1, 0].plot(seconds, in_camera(motion), label=["gaze pitch", "gaze yaw"])
        axes[2, 0].plot(seconds, motion[:, PITCH : PITCH + 3], label=["pitch", "yaw", "roll"])
        for axis in axes[:, 0]:
            axis.legend(fontsize=7, loc="upper right")
            axis.set_xlim(0, seconds[-1])


def controlled(path: Path, track: Curve, wanted: Curve) -> None:
    """Plot requested and generated gaze."""
    with figure(path, 1) as axes:
        axes[0, 0].plot(times(len(wanted)), wanted, "k", lw=0.7)
        axes[0, 0].plot(times(len(track)), track, label=["pitch", "yaw"])
        axes[0, 0].set_title("gaze control, camera's frame, degrees (black: requested)")
        axes[0, 0].legend(fontsize=7)


def voice(path: Path, made: Curve, rule: Curve, energy: Curve, phones: Phones) -> None:
    """Plot the opening for a voice whose phones are known, in lines of a few seconds."""
    count = int(SECONDS * MOTION_FPS)
    with figure(path, 3) as axes:
        for i, axis in enumerate(axes[:, 0]):
            part = slice(i * count, (i + 1) * count)
            seconds = times(len(made))[part]
            level = energy[part] / energy.max()
            axis.fill_between(seconds[: len(level)], 0.1 * level, color="0.85", label="loudness")
            axis.plot(seconds, made[part], "C0", label="generated")
            axis.plot(seconds, rule[part], "C1", lw=0.8, label="rules, true phones")
            mark_phones(axis, phones, 0.0, -0.012, float(seconds[0]), float(seconds[-1]))
            axis.set_xlim(seconds[0], seconds[-1])
            axis.legend(fontsize=7, loc="upper right")


def song(path: Path, motion: Float32Array, notes: Sequence[Note], energy: Curve) -> None:
    """Plot opening and width over a sung scale."""
    with figure(path, 1, height=4.0) as axes:
        axis = axes[0, 0]
        axis.fill_between(
            times(len(energy)), 0.1 * energy / energy.max(), color="0.85", label="loudness"
        )
        axis.plot(times(len(motion)), opening(motion), label="opening, face widths")
        axis.plot(times(len(motion)), width(motion), label="width")
        for note in notes:
            axis.plot([note.start, note.end], [0.1 * note.openness] * 2, "k", lw=0.7)
            axis.text(note.start, -0.03, note.vowel, fontsize=8)
        axis.legend(fontsize=7)


def emotions(path: Path, faces: Mapping[str, Float32Array]) -> None:
    """Draw the mean coefficients (T, 52) of each emotion, less the neutral ones, as a map."""
    rest = faces["neutral"].mean(axis=0)
    table = np.stack([face.mean(axis=0) - rest for face in faces.values()])
    with figure(path, 1, height=5.0) as axes:
        axis = axes[0, 0]
        axis.imshow(table, vmin=-0.8, vmax=0.8, cmap="RdBu_r", aspect="auto")
        axis.set_yticks(range(len(faces)), list(faces))
        axis.set_xticks(range(len(ARKIT_NAMES)), ARKIT_NAMES, rotation=90, fontsize=7)
        axis.set_title("mean coefficients of each emotion, less neutral")


def faces(path: Path, drawn: Mapping[str, Sequence[NDArray[np.uint8]]]) -> None:
    """Draw frames of each emotion, a column an emotion."""
    with figure(path, max(map(len, drawn.values())), len(drawn), height=2.4) as axes:
        for column, (name, images) in zip(axes.T, drawn.items(), strict=True):
            for axis, image in zip(column, images, strict=False):
                axis.imshow(image)
                axis.set_axis_off()
            column[0].set_title(name)
