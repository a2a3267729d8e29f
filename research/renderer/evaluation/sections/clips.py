"""Reenacted clips: how close rendered frames are to the real ones."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from talkingface_research.renderer.evaluation.reenactment import Reenactment
from talkingface_research.report import Bar, Row

FIGURES = (
    ("PSNR, face", "dB", 1), ("PSNR, mouth", "dB", 1), ("PSNR, frame", "dB", 1),
    ("SSIM, face", "", 3), ("SSIM, mouth", "", 3),
    ("landmark distance", "% of the face's width", 2),
    ("landmark distance, lips", "% of the face's width", 2),
    ("deepest blink", "share of closure as measured", 2),
    ("sharpness, face", "of the real frame's", 2),
    ("flicker, face", "grey values", 3), ("flicker, background", "grey values", 3),
)  # fmt: skip
BARS = {"sharpness, face": Bar(0.9)}


def measure(reenactments: Sequence[Reenactment]) -> list[Row]:
    """All rows of the section."""
    rows = []
    for figure, unit, digits in FIGURES:
        measured = [one for one in reenactments if figure in one.figures]
        if not measured:
            continue
        scale = 100 if unit.startswith("%") else 1
        columns = measured[0].figures[figure]
        values = {
            column: scale * float(np.mean([one.figures[figure][column] for one in measured]))
            for column in columns
        }
        each = ", ".join(
            f"{one.name} {scale * one.figures[figure]['generated']:.{digits}f}" for one in measured
        )
        rows.append(Row(figure, values, unit, BARS.get(figure), digits, each))
    return rows
