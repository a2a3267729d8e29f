"""Does the face stay in one piece?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from talkingface_research.renderer.evaluation.flow import SEAM, STRETCH
from talkingface_research.renderer.evaluation.portrait_run import Sitting, found, median
from talkingface_research.renderer.evaluation.poses import NEUTRAL, shown
from talkingface_research.report import Bar, Row

FOLDED_BAR = Bar(high=0.1)
TURNED = ("yaw -20", "yaw +20")


def measure(sittings: Sequence[Sitting]) -> list[Row]:
    """All rows of the section."""
    turned = " and ".join(TURNED)
    seams = f"steps of over {SEAM:.0f} grey values where layers meet, {turned}"
    rows = [
        _row(sittings, "folded", f"folded inside the head, {turned}", TURNED, FOLDED_BAR),
        _row(sittings, "stretched", f"stretched more than {STRETCH:.0f} times, {turned}", TURNED),
        _row(sittings, "seams", seams, TURNED),
    ]
    for name in (pose.name for pose in shown()):
        told = {m: found(sittings, m, [name]) for m in ("folded", "stretched", "seams")}
        worst, where = max(told["folded"])
        rows.append(
            Row(
                f"folded, {name}",
                {"generated": _mean(told["folded"])},
                "%",
                digits=3,
                note=f"worst {worst:.2f} ({where}); stretched {_mean(told['stretched']):.2f}; "
                f"seams {_mean(told['seams']):.3f}",
            )
        )
    return rows


def _row(
    sittings: Sequence[Sitting],
    figure: str,
    what: str,
    names: Sequence[str],
    bar: Bar | None = None,
) -> Row:
    told = found(sittings, figure, names)
    worst, where = max(told)
    return Row(
        what,
        {"generated": _mean(told), "static": _mean(found(sittings, figure, [NEUTRAL]))},
        "% of the head",
        bar,
        digits=3,
        note=f"static: at rest; half of the pictures below {median(told):.3f}; "
        f"worst {worst:.2f} ({where})",
    )


def _mean(told: Sequence[tuple[float, str]]) -> float:
    return float(np.mean([value for value, _ in told]))
