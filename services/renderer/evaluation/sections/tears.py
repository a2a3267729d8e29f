"""Does the face stay in one piece?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from talkingface.common.report import Bar, Row
from talkingface.renderer.evaluation.flow import SEAM, STRETCH
from talkingface.renderer.evaluation.poses import NEUTRAL, shown
from talkingface.renderer.evaluation.sitting import Sitting

FOLDED_BAR = Bar(high=0.1)
TURNED = ("yaw -20", "yaw +20")


def measure(sittings: Sequence[Sitting]) -> list[Row]:
    """All rows of the section."""
    rows = [
        _row(sittings, "folded", f"folded inside the head, {' and '.join(TURNED)}", TURNED, FOLDED_BAR),
        _row(sittings, "stretched", f"stretched more than {STRETCH:.0f} times, the same", TURNED),
        _row(sittings, "seams", f"steps of over {SEAM:.0f} grey values where layers meet, the same", TURNED),
    ]  # fmt: skip
    for name in (pose.name for pose in shown()):
        mean = {m: _mean(sittings, m, [name]) for m in ("folded", "stretched", "seams")}
        worst, where = _worst(sittings, "folded", [name])
        rows.append(
            Row(
                f"folded, {name}",
                {"generated": mean["folded"]},
                "%",
                digits=3,
                note=f"worst {worst:.2f} ({where}); stretched {mean['stretched']:.2f}; "
                f"seams {mean['seams']:.3f}",
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
    worst, where = _worst(sittings, figure, names)
    every = [s.figures[figure][name] for s in sittings for name in names]
    return Row(
        what,
        {"generated": _mean(sittings, figure, names), "static": _mean(sittings, figure, [NEUTRAL])},
        "% of the head",
        bar,
        digits=3,
        note=f"static: at rest; half of the pictures below {np.median(every):.3f}; "
        f"worst {worst:.2f} ({where})",
    )


def _mean(sittings: Sequence[Sitting], figure: str, names: Sequence[str]) -> float:
    return float(np.mean([s.figures[figure][name] for s in sittings for name in names]))


def _worst(sittings: Sequence[Sitting], figure: str, names: Sequence[str]) -> tuple[float, str]:
    return max((s.figures[figure][name], f"{s.name}, {name}") for s in sittings for name in names)
