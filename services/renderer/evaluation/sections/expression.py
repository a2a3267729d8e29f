"""Does the picture do what was asked?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from talkingface.common.report import Bar, Row
from talkingface.renderer.evaluation.poses import Pose, on_axis, poses
from talkingface.renderer.evaluation.reading import AXES
from talkingface.renderer.evaluation.sitting import Sitting

OBEYED_BAR = Bar(0.9)
GAZES = ("gaze yaw", "gaze pitch")
EYES = ("lids", *GAZES)
Column = NDArray[np.float64]
Told = list[tuple[float, float, str]]  # asked, found, which picture


def measure(sittings: Sequence[Sitting]) -> list[Row]:
    """All rows of the section."""
    rows = []
    seeing = [s for s in sittings if s.eyes_seen]
    for i, (axis, unit) in enumerate(AXES.items()):
        alone = on_axis(axis)
        told = _told(seeing if axis in EYES else sittings, alone, i)
        row = _row(f"{axis}, asked and read back", told, unit, OBEYED_BAR)
        if axis in EYES and len(seeing) < len(sittings):
            whole = _row(axis, _told(sittings, alone, i), unit, None).values["generated"]
            hidden = f"{len(sittings) - len(seeing)} behind dark glasses or shut in the photo"
            row = replace(row, note=f"{row.note}; with {hidden} {whole:.2f}")
        rows.append(row)
        if axis == "gaze yaw":
            by_pixels = [
                (float(pose.asked[i]), s.irises[pose.name], f"{s.name}, {pose.name}")
                for s in seeing
                for pose in alone
                if pose.name in s.irises
            ]
            rows.append(_row(f"{axis}, by the iris's own pixels", by_pixels, unit, None))
    mixes = [pose for pose in poses() if pose.name.startswith("mix")]
    for i, (axis, unit) in enumerate(AXES.items()):
        told = _told(seeing if axis in EYES else sittings, mixes, i)
        if axis in GAZES:  # where lids close, none is asked for
            told = [one for one in told if one[0] != 0]
        row = _row(f"{axis}, while everything moves", told, unit, None)
        if axis in GAZES:  # a head read some degrees wrong puts the irises as far aside
            row = replace(row, note=f"{row.note}; errors of the head's reading included")
        rows.append(row)
    lost = sum(len(s.lost) for s in sittings)
    rows.append(
        Row(
            "pictures in which no face is found",
            {"generated": 100 * lost / (len(sittings) * len(poses()))},
            "%",
            digits=2,
        )
    )
    return rows


def correlation(asked: Column, found: Column) -> float:
    """Pearson's r; not a number where one of the two does not change."""
    if len(asked) < 2 or not asked.std() or not found.std():
        return float("nan")
    return float(np.corrcoef(asked, found)[0, 1])


def _told(sittings: Sequence[Sitting], asked_for: Sequence[Pose], axis: int) -> Told:
    return [
        (float(pose.asked[axis]), float(s.readings[pose.name][axis]), f"{s.name}, {pose.name}")
        for s in sittings
        for pose in asked_for
        if pose.name in s.readings
    ]


def _row(what: str, told: Told, unit: str, bar: Bar | None) -> Row:
    asked, found = (np.array([one[k] for one in told], float) for k in range(2))
    slope, scatter = _line(told)
    note = f"slope {slope:.2f}; scatter {scatter:.2g} {unit}"
    if bar is not None:
        note += f"; {_levels(asked, found)}; oddest {_oddest(asked, found, told)}"
    mixed = np.random.default_rng(0).permutation(found)
    values = {"generated": correlation(asked, found), "shuffled": correlation(asked, mixed)}
    return Row(what, values, "r", bar, note=note)


def _line(told: Told) -> tuple[float, float]:
    """Slope, and standard deviation about the line."""
    asked, found = (np.array([one[k] for one in told], float) for k in range(2))
    if len(told) < 2 or not asked.std():
        return float("nan"), float("nan")
    slope, start = np.polyfit(asked, found, 1)
    return float(slope), float((found - slope * asked - start).std())


def _levels(asked: Column, found: Column) -> str:
    """Median found for each strength that was asked for."""
    means = [
        f"{at:.3g}: {np.median(found[np.abs(asked - at) < 1e-3]):.3g}"
        for at in np.unique(asked.round(3))
    ]
    return ", ".join(means)


def _oddest(asked: Column, found: Column, told: Told) -> str:
    """The picture farthest from its strength's median."""
    if not told:
        return "none"
    off = np.zeros(len(asked))
    for at in np.unique(asked.round(3)):
        here = np.abs(asked - at) < 1e-3
        off[here] = np.abs(found[here] - np.median(found[here]))
    return told[int(off.argmax())][2]
