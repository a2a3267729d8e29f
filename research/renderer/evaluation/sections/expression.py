"""Does the picture do what was asked?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from talkingface_research.renderer.evaluation.portrait_run import Sitting
from talkingface_research.renderer.evaluation.poses import Pose, on_axis, poses
from talkingface_research.renderer.evaluation.readback import AXES
from talkingface_research.report import Bar, Row

OBEYED_BAR = Bar(0.9)
GAZES = ("gaze yaw", "gaze pitch")
EYES = ("lids", *GAZES)
Column = NDArray[np.float64]


class Told(NamedTuple):
    """One picture: how strongly something was asked for, and what was found."""

    level: float
    found: float
    where: str  # which picture
    scale: float = 1.0  # of a level in the unit of what was found: for lids, the eye's height


def measure(sittings: Sequence[Sitting]) -> list[Row]:
    """All rows of the section."""
    seeing = [s for s in sittings if s.eyes_seen]
    rows = []
    for axis, unit in AXES.items():
        told = _read(seeing if axis in EYES else sittings, on_axis(axis), axis)
        row = _row(f"{axis}, asked and read back", told, unit, OBEYED_BAR)
        note = f"{row.note}; {_levels(told)}; oddest {_oddest(told)}"
        if axis in EYES and len(seeing) < len(sittings):
            whole = _row(axis, _read(sittings, on_axis(axis), axis), unit).values["generated"]
            hidden = f"{len(sittings) - len(seeing)} behind dark glasses or shut in the photo"
            note += f"; with {hidden} {whole:.2f}"
        if axis == "lids":
            shares = [Told(one.level, one.found / one.scale, one.where) for one in told]
            note += f"; as shares of each eye's height r {correlation(*_columns(shares)):.2f}"
        rows.append(replace(row, note=note))
        if axis == "lids":
            rows.append(_row("lids half shut, by what is gone of the eye", _covered(seeing)))
        if axis == "gaze yaw":
            rows.append(_row(f"{axis}, by the iris's own pixels", _irises(seeing), unit))
    mixes = [pose for pose in poses() if pose.name.startswith("mix")]
    for axis, unit in AXES.items():
        told = _read(seeing if axis in EYES else sittings, mixes, axis)
        if axis in GAZES:  # where lids close, none is asked for
            told = [one for one in told if one.level != 0]
        row = _row(f"{axis}, while everything moves", told, unit)
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


def _read(sittings: Sequence[Sitting], asked_for: Sequence[Pose], axis: str) -> list[Told]:
    column = list(AXES).index(axis)
    return [
        Told(
            float(pose.asked[column]),
            float(s.readings[pose.name][column]),
            f"{s.name}, {pose.name}",
            s.lids if axis == "lids" else 1.0,
        )
        for s in sittings
        for pose in asked_for
        if pose.name in s.readings
    ]


def _covered(sittings: Sequence[Sitting]) -> list[Told]:
    column = list(AXES).index("lids")
    return [
        Told(float(pose.asked[column]), s.figures["covered"][pose.name], f"{s.name}, {pose.name}")
        for s in sittings
        for pose in on_axis("lids")
        if pose.name in s.figures["covered"]
    ]


def _irises(sittings: Sequence[Sitting]) -> list[Told]:
    column = list(AXES).index("gaze yaw")
    return [
        Told(float(pose.asked[column]), s.irises[pose.name], f"{s.name}, {pose.name}")
        for s in sittings
        for pose in on_axis("gaze yaw")
        if pose.name in s.irises
    ]


def _columns(told: Sequence[Told]) -> tuple[Column, Column]:
    """Asked and found."""
    asked = np.array([one.level * one.scale for one in told], float)
    return asked, np.array([one.found for one in told], float)


def _row(what: str, told: Sequence[Told], unit: str = "", bar: Bar | None = None) -> Row:
    asked, found = _columns(told)
    slope = scatter = float("nan")
    if len(told) > 1 and asked.std():
        slope, start = np.polyfit(asked, found, 1)
        scatter = float((found - slope * asked - start).std())
    mixed = np.random.default_rng(0).permutation(found)
    values = {"generated": correlation(asked, found), "shuffled": correlation(asked, mixed)}
    note = f"slope {slope:.2f}; scatter {scatter:.2g} {unit}".rstrip()
    return Row(what, values, "r", bar, digits=3, note=note)


def _by_level(told: Sequence[Told]) -> dict[float, list[Told]]:
    levels: dict[float, list[Told]] = {}
    for one in sorted(told):
        levels.setdefault(round(one.level, 3), []).append(one)
    return levels


def _levels(told: Sequence[Told]) -> str:
    """Median found for each strength that was asked for."""
    return ", ".join(
        f"{level:.3g}: {np.median([one.found / one.scale for one in group]):.3g}"
        for level, group in _by_level(told).items()
    )


def _oddest(told: Sequence[Told]) -> str:
    """The picture farthest from its strength's median."""
    odd = [(0.0, "none")]
    for group in _by_level(told).values():
        middle = float(np.median([one.found / one.scale for one in group]))
        odd += [(abs(one.found / one.scale - middle), one.where) for one in group]
    return max(odd)[1]
