"""Images of a live bench: some of its frames, and curves where matplotlib is installed."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from talkingface.client import OutputKind
from talkingface.contract.rates import SAMPLE_RATE
from talkingface_research.bench import measures
from talkingface_research.bench.frame_measurements import Curves, sheet
from talkingface_research.bench.outcome import Outcome
from talkingface_research.bench.recording import Recording

_TILES = 12
_UTTERANCES = 12


def draw(folder: Path, outcome: Outcome, curves: Sequence[Curves], output: OutputKind) -> None:
    """Write `frames.png` and, where matplotlib is there, `lips.png` and `session.png`."""
    recording = next((r for r in outcome.recordings if len(r.indices)), None)
    if recording is None:
        return
    chunks = recording.with_frames
    chosen = {int(i): "" for i in np.linspace(0, len(chunks) - 1, _TILES)}
    titles = {i: f"{chunks[i].number / recording.frame_rate:.2f} s" for i in chosen}
    image = sheet(chunks, output, titles)
    cv2.imwrite(str(folder / "frames.png"), image[..., ::-1])
    if importlib.util.find_spec("matplotlib") is None:
        return
    if curves:
        _lips(folder / "lips.png", outcome.recordings[0], curves[0], outcome.analyses[0].usual)
    _session(folder / "session.png", outcome)


def _lips(path: Path, recording: Recording, curves: Curves, usual: float) -> None:
    """Draw utterances one below the other: loudness by the time of sending, opening by that of
    arrival."""
    from matplotlib import pyplot

    plain = [s for s in recording.trace.utterances if not s.at_once and not s.after_interrupt]
    plain = plain[:_UTTERANCES]
    if not plain:
        return
    moments = recording.arrivals + recording.opened
    rows = -(-len(plain) // 3)
    figure, axes = pyplot.subplots(rows, 3, figsize=(15, 2.4 * rows), squeeze=False)
    for axis, utterance in zip(axes.flat, plain, strict=False):
        sent, samples = utterance.sent, utterance.samples
        begin, end = sent - 0.6, sent + len(samples) / SAMPLE_RATE + 0.9
        level = measures.loudness_on_grid(samples, SAMPLE_RATE, sent, begin, end)
        grid = 1000 * (begin - sent + measures.GRID * np.arange(len(level)))
        axis.fill_between(grid, level / max(level.max(), 1), color="0.8")
        inside = (moments >= begin) & (moments <= end)
        twin = axis.twinx()
        twin.plot(1000 * (moments[inside] - sent), curves.opening[inside], ".-", color="C3")
        twin.set_ylim(0, max(np.nanmax(curves.opening), 0.01))
        found = measures.at_rest(moments, curves.opening, sent, usual)
        axis.axvline(250, color="C0", linewidth=0.8)
        if found is not None:
            twin.axhline(found.level + found.least, color="C2", linewidth=0.8)
            took = measures.onset(moments, curves.opening, sent, found)
            axis.axvline(1000 * took, color="C3", linewidth=1.2)
            axis.set_title(f"{1000 * took:.0f} ms", fontsize=8)
    for axis in axes.flat[len(plain) :]:
        axis.set_axis_off()
    figure.suptitle("loudness as sent (grey), opening as received (red); ms after sending")
    figure.tight_layout()
    figure.savefig(path, dpi=80)
    pyplot.close(figure)


def _session(path: Path, outcome: Outcome) -> None:
    """Draw arrival minus presentation, gaps and memory over time."""
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(3, 1, figsize=(12, 9))
    for i, recording in enumerate(outcome.recordings):
        times = recording.presented
        lag = 1000 * (recording.arrivals - times)
        axes[0].plot(times, lag, ".", markersize=2, label=f"session {i + 1}")
        axes[1].plot(times[1:], 1000 * np.diff(recording.arrivals), ".", markersize=2)
    axes[0].set_ylabel("arrival - presentation, ms")
    axes[1].set_ylabel("frame to frame, ms")
    names = sorted({key for sample in outcome.memory for key in sample.sizes})
    for key in names:
        series = [(s.seconds, s.sizes[key].rss) for s in outcome.memory if key in s.sizes]
        axes[2].plot(*zip(*series, strict=True), label=f"{key[0]} {key[1]}")
    axes[2].set_ylabel("RSS, MiB")
    axes[2].set_xlabel("s")
    if names:
        axes[2].legend(fontsize=6, ncol=3)
    figure.tight_layout()
    figure.savefig(path, dpi=80)
    pyplot.close(figure)
