"""Folds, stretching and seams of the warp."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from talkingface_research.renderer.evaluation.flow import SEAM, STRETCH
from talkingface_research.renderer.evaluation.portrait_run import (
    PortraitMeasurements,
    found,
    median,
)
from talkingface_research.renderer.evaluation.poses import NEUTRAL, sheet_poses
from talkingface_research.report import Bar, Row

FOLDED_BAR = Bar(high=0.1)
TURNED = ("yaw -20", "yaw +20")


def measure(portraits: Sequence[PortraitMeasurements]) -> list[Row]:
    """All rows of the section."""
    turned = " and ".join(TURNED)
    seams = f"steps of over {SEAM:.0f} grey values where layers meet, {turned}"
    rows = [
        _row(portraits, "folded", f"folded inside the head, {turned}", TURNED, FOLDED_BAR),
        _row(portraits, "stretched", f"stretched more than {STRETCH:.0f} times, {turned}", TURNED),
        _row(portraits, "seams", seams, TURNED),
    ]
    for name in (pose.name for pose in sheet_poses()):
        values = {m: found(portraits, m, [name]) for m in ("folded", "stretched", "seams")}
        worst, where = max(values["folded"])
        rows.append(
            Row(
                f"folded, {name}",
                {"generated": _mean(values["folded"])},
                "%",
                digits=3,
                note=f"worst {worst:.2f} ({where}); stretched {_mean(values['stretched']):.2f}; "
                f"seams {_mean(values['seams']):.3f}",
            )
        )
    return rows


def _row(
    portraits: Sequence[PortraitMeasurements],
    figure: str,
    what: str,
    names: Sequence[str],
    bar: Bar | None = None,
) -> Row:
    values = found(portraits, figure, names)
    worst, where = max(values)
    return Row(
        what,
        {"generated": _mean(values), "static": _mean(found(portraits, figure, [NEUTRAL]))},
        "% of the head",
        bar,
        digits=3,
        note=f"static: at rest; half of the frames below {median(values):.3f}; "
        f"worst {worst:.2f} ({where})",
    )


def _mean(values: Sequence[tuple[float, str]]) -> float:
    return float(np.mean([value for value, _ in values]))
