"""Cost in time and memory."""

from __future__ import annotations

import numpy as np

from talkingface_research.renderer.evaluation.cost import Preparation, Rendering
from talkingface_research.report import Bar, Row

FRAME_BAR = Bar(high=32.0)
PREPARATION_BAR = Bar(high=3.0)
MEMORY_BAR = Bar(high=400.0)


def measure(preparation: Preparation, renderings: dict[int, Rendering]) -> list[Row]:
    """All rows of the section.

    :param renderings: by size in pixels; the first is judged
    """
    rows = []
    for i, (size, rendering) in enumerate(renderings.items()):
        parts = ", ".join(f"{part} {value:.1f}" for part, value in rendering.milliseconds.items())
        rows.append(
            Row(
                f"whole frame of {size} pixels, one core",
                {"generated": sum(rendering.milliseconds.values())},
                "ms CPU",
                FRAME_BAR if i == 0 else None,
                digits=1,
                note=f"{parts}; 5 % above {rendering.slow:.1f}",
            )
        )
    return [
        *rows,
        Row(
            "preparing a portrait, one core",
            {"generated": float(np.max(preparation.seconds))},
            "s CPU, slowest",
            PREPARATION_BAR,
            note=f"{len(preparation.seconds)} portraits, mean {np.mean(preparation.seconds):.2f}",
        ),
        Row(
            "memory of a process that prepares",
            {"generated": preparation.megabytes},
            "MB",
            MEMORY_BAR,
            digits=0,
        ),
        Row(
            "memory of a process that renders",
            {"generated": max(one.megabytes for one in renderings.values())},
            "MB",
            MEMORY_BAR,
            digits=0,
        ),
    ]
