"""Whether the photo's detail is kept, and still parts do not move."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from talkingface_research.renderer.evaluation.portrait_run import (
    PortraitMeasurements,
    found,
    median,
)
from talkingface_research.renderer.evaluation.poses import JAW, NEUTRAL, PUCKER, poses
from talkingface_research.report import Bar, Row

SHARP_BAR = Bar(0.9)
STILL_BAR = Bar(high=1.0)
HEAD = ("yaw", "pitch", "roll")
MOUTH = (JAW, "smile", PUCKER)


def measure(portraits: Sequence[PortraitMeasurements]) -> list[Row]:
    """All rows of the section."""
    turned = [pose.name for pose in poses() if pose.hard and pose.axis in HEAD]
    rows = []
    for part in ("skin", "hair"):
        values = found(portraits, part, turned)
        bare = found(portraits, part, ["photo"])
        value, where = min(values, default=(np.nan, "none"))
        rows.append(
            Row(
                f"sharpness of {part}, head turned, over the photo's",
                {"generated": median(values), "static": median(bare)},
                "median",
                SHARP_BAR,
                note=f"static: the photo moved by half a pixel; {len(values)} frames; "
                f"a tenth below {_low(values):.2f}; worst {value:.2f} ({where})",
            )
        )
        rows += [
            Row(
                f"sharpness of {part}, {name}",
                {"generated": median(found(portraits, part, [name]))},
                "median",
            )
            for name in (NEUTRAL, "yaw +20", "pitch +15", "pitch -15", "roll +15")
        ]
    for part in ("background", "shoulders"):
        values = found(portraits, part, MOUTH)
        value, where = max(values, default=(np.nan, "none"))
        moved = found(portraits, part, ["yaw +20"])
        rows.append(
            Row(
                f"{part}: change while only the mouth moves",
                {
                    "generated": float(np.mean([v for v, _ in values])) if values else np.nan,
                    "static": 0.0,
                },
                "grey values",
                STILL_BAR,
                digits=3,
                note=f"worst {value:.2f} ({where}); with yaw +20 {median(moved):.2f}",
            )
        )
    exact = np.mean([s.figures["exact"]["own"] for s in portraits])
    rows.append(
        Row(
            "unmoved frames that are the photo bit for bit",
            {"generated": 100 * float(exact)},
            "%",
            Bar(100.0),
            digits=0,
        )
    )
    return rows


def _low(values: Sequence[tuple[float, str]]) -> float:
    return float(np.quantile([value for value, _ in values], 0.1)) if values else float("nan")
