"""Does the picture do what was asked?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from talkingface.common.report import Bar, Row
from talkingface.renderer.evaluation.poses import Pose, on_axis, poses
from talkingface.renderer.evaluation.reading import AXES
from talkingface.renderer.evaluation.sitting import Sitting

OBEYED_BAR = Bar(0.9)
Column = NDArray[np.float64]


def measure(sittings: Sequence[Sitting]) -> list[Row]:
    """All rows of the section."""
    rows = []
    for i, (axis, unit) in enumerate(AXES.items()):
        asked, found, names = _pairs(sittings, on_axis(axis), i)
        slope, error = _line(asked, found)
        rows.append(
            Row(
                f"{axis}, asked and read back",
                {"generated": correlation(asked, found), "shuffled": _shuffled(asked, found)},
                "r",
                OBEYED_BAR,
                note=f"slope {slope:.2f}; scatter {error:.3g} {unit}; {len(asked)} pictures; "
                f"{_levels(asked, found)}; worst {_worst(asked, found, names)}",
            )
        )
    mixes = [pose for pose in poses() if pose.name.startswith("mix")]
    for i, axis in enumerate(AXES):
        asked, found, _ = _pairs(sittings, mixes, i)
        keep = asked != 0 if axis.startswith("gaze") else np.ones(len(asked), bool)
        rows.append(
            Row(
                f"{axis}, while everything moves",
                {
                    "generated": correlation(asked[keep], found[keep]),
                    "shuffled": _shuffled(asked[keep], found[keep]),
                },
                "r",
                note=f"slope {_line(asked[keep], found[keep])[0]:.2f}",
            )
        )
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


def _pairs(
    sittings: Sequence[Sitting], asked_for: Sequence[Pose], axis: int
) -> tuple[Column, Column, list[str]]:
    told = [
        (float(pose.asked[axis]), float(s.readings[pose.name][axis]), f"{s.name}, {pose.name}")
        for s in sittings
        for pose in asked_for
        if pose.name in s.readings
    ]
    return np.array([t[0] for t in told]), np.array([t[1] for t in told]), [t[2] for t in told]


def _line(asked: Column, found: Column) -> tuple[float, float]:
    """Slope, and standard deviation about the line."""
    if len(asked) < 2 or not asked.std():
        return float("nan"), float("nan")
    slope, start = np.polyfit(asked, found, 1)
    return float(slope), float((found - slope * asked - start).std())


def _shuffled(asked: Column, found: Column) -> float:
    return correlation(asked, np.random.default_rng(0).permutation(found))


def _levels(asked: Column, found: Column) -> str:
    levels = np.unique(asked.round(3))
    means = [f"{at:.3g}: {found[np.abs(asked - at) < 1e-3].mean():.3g}" for at in levels]
    return ", ".join(means)


def _worst(asked: Column, found: Column, names: Sequence[str]) -> str:
    """The picture farthest from its level's mean."""
    if not len(asked):
        return "none"
    off = np.zeros(len(asked))
    for at in np.unique(asked.round(3)):
        here = np.abs(asked - at) < 1e-3
        off[here] = np.abs(found[here] - found[here].mean())
    return names[int(off.argmax())]
