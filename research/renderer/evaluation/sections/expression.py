"""Whether rendered frames show the requested movements."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from talkingface_research.renderer.evaluation.portrait_run import PortraitMeasurements
from talkingface_research.renderer.evaluation.poses import Pose, on_axis, poses
from talkingface_research.renderer.evaluation.readback import AXES
from talkingface_research.report import Bar, Row

R_BAR = Bar(0.9)
GAZES = ("gaze yaw", "gaze pitch")
EYES = ("lids", *GAZES)
Column = NDArray[np.float64]


class Response(NamedTuple):
    """One frame: the strength of a requested movement, and the measured one."""

    level: float
    measured: float
    where: str  # portrait and pose
    scale: float = 1.0  # unit of the level in that of the measurement: for lids, the eye's height


def measure(portraits: Sequence[PortraitMeasurements]) -> list[Row]:
    """All rows of the section."""
    visible = [s for s in portraits if s.eyes_visible]
    rows = []
    for axis, unit in AXES.items():
        responses = _responses(visible if axis in EYES else portraits, on_axis(axis), axis)
        row = _row(f"{axis}, requested and measured", responses, unit, R_BAR)
        note = f"{row.note}; {_levels(responses)}; farthest from the median {_farthest(responses)}"
        if axis in EYES and len(visible) < len(portraits):
            whole = _row(axis, _responses(portraits, on_axis(axis), axis), unit).values["generated"]
            hidden = f"{len(portraits) - len(visible)} behind dark glasses or closed in the photo"
            note += f"; with {hidden} {whole:.2f}"
        if axis == "lids":
            shares = [Response(one.level, one.measured / one.scale, one.where) for one in responses]
            note += f"; as shares of each eye's height r {correlation(*_columns(shares)):.2f}"
        rows.append(replace(row, note=note))
        if axis == "lids":
            rows.append(
                _row("lids half closed, by the covered share of the eye", _covered(visible))
            )
        if axis == "gaze yaw":
            rows.append(_row(f"{axis}, by matching the iris's pixels", _irises(visible), unit))
    mixes = [pose for pose in poses() if pose.name.startswith("mix")]
    for axis, unit in AXES.items():
        responses = _responses(visible if axis in EYES else portraits, mixes, axis)
        if axis in GAZES:  # none is requested where lids close
            responses = [one for one in responses if one.level != 0]
        row = _row(f"{axis}, while everything moves", responses, unit)
        if axis in GAZES:  # an error of the head's angle shifts the irises as well
            row = replace(row, note=f"{row.note}; includes errors of the head's angle")
        rows.append(row)
    lost = sum(len(s.lost) for s in portraits)
    rows.append(
        Row(
            "frames in which no face is found",
            {"generated": 100 * lost / (len(portraits) * len(poses()))},
            "%",
            digits=2,
        )
    )
    return rows


def correlation(requested: Column, measured: Column) -> float:
    """Pearson's r; NaN where one of the two does not change."""
    if len(requested) < 2 or not requested.std() or not measured.std():
        return float("nan")
    return float(np.corrcoef(requested, measured)[0, 1])


def _responses(
    portraits: Sequence[PortraitMeasurements], candidates: Sequence[Pose], axis: str
) -> list[Response]:
    column = list(AXES).index(axis)
    return [
        Response(
            float(pose.requested[column]),
            float(s.readback[pose.name][column]),
            f"{s.name}, {pose.name}",
            s.lids if axis == "lids" else 1.0,
        )
        for s in portraits
        for pose in candidates
        if pose.name in s.readback
    ]


def _covered(portraits: Sequence[PortraitMeasurements]) -> list[Response]:
    column = list(AXES).index("lids")
    return [
        Response(
            float(pose.requested[column]), s.figures["covered"][pose.name], f"{s.name}, {pose.name}"
        )
        for s in portraits
        for pose in on_axis("lids")
        if pose.name in s.figures["covered"]
    ]


def _irises(portraits: Sequence[PortraitMeasurements]) -> list[Response]:
    column = list(AXES).index("gaze yaw")
    return [
        Response(float(pose.requested[column]), s.irises[pose.name], f"{s.name}, {pose.name}")
        for s in portraits
        for pose in on_axis("gaze yaw")
        if pose.name in s.irises
    ]


def _columns(responses: Sequence[Response]) -> tuple[Column, Column]:
    """Requested and measured values."""
    requested = np.array([one.level * one.scale for one in responses], float)
    return requested, np.array([one.measured for one in responses], float)


def _row(what: str, responses: Sequence[Response], unit: str = "", bar: Bar | None = None) -> Row:
    requested, measured = _columns(responses)
    slope = scatter = float("nan")
    if len(responses) > 1 and requested.std():
        slope, start = np.polyfit(requested, measured, 1)
        scatter = float((measured - slope * requested - start).std())
    mixed = np.random.default_rng(0).permutation(measured)
    values = {
        "generated": correlation(requested, measured),
        "shuffled": correlation(requested, mixed),
    }
    note = f"slope {slope:.2f}; scatter {scatter:.2g} {unit}".rstrip()
    return Row(what, values, "r", bar, digits=3, note=note)


def _by_level(responses: Sequence[Response]) -> dict[float, list[Response]]:
    levels: dict[float, list[Response]] = {}
    for one in sorted(responses):
        levels.setdefault(round(one.level, 3), []).append(one)
    return levels


def _levels(responses: Sequence[Response]) -> str:
    """Median measurement for each requested strength."""
    return ", ".join(
        f"{level:.3g}: {np.median([one.measured / one.scale for one in group]):.3g}"
        for level, group in _by_level(responses).items()
    )


def _farthest(responses: Sequence[Response]) -> str:
    """The frame farthest from the median of its strength."""
    odd = [(0.0, "none")]
    for group in _by_level(responses).values():
        middle = float(np.median([one.measured / one.scale for one in group]))
        odd += [(abs(one.measured / one.scale - middle), one.where) for one in group]
    return max(odd)[1]
