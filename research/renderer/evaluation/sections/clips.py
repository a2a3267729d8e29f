"""Real clips played again: how near the pictures come to what the camera saw."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from talkingface_research.renderer.evaluation.clip import Replay
from talkingface_research.report import Bar, Row

FIGURES = (
    ("PSNR, face", "dB", 1), ("PSNR, mouth", "dB", 1), ("PSNR, frame", "dB", 1),
    ("SSIM, face", "", 3), ("SSIM, mouth", "", 3),
    ("landmark distance", "% of the face's width", 2),
    ("landmark distance, lips", "% of the face's width", 2),
    ("deepest blink", "share shut as read", 2),
    ("sharpness, face", "of the real frame's", 2),
    ("flicker, face", "grey values", 3), ("flicker, background", "grey values", 3),
)  # fmt: skip
BARS = {"sharpness, face": Bar(0.9)}


def measure(replays: Sequence[Replay]) -> list[Row]:
    """All rows of the section."""
    rows = []
    for figure, unit, digits in FIGURES:
        told = [one for one in replays if figure in one.figures]
        if not told:
            continue
        scale = 100 if unit.startswith("%") else 1
        ways = told[0].figures[figure]
        values = {
            way: scale * float(np.mean([one.figures[figure][way] for one in told])) for way in ways
        }
        each = ", ".join(
            f"{one.name} {scale * one.figures[figure]['generated']:.{digits}f}" for one in told
        )
        rows.append(Row(figure, values, unit, BARS.get(figure), digits, each))
    return rows
