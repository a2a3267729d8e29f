"""Contact sheets of the worst frames, cut out of the portraits' own sheets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from talkingface_research.renderer.evaluation import contact_sheets
from talkingface_research.renderer.evaluation.portrait_run import COLUMNS, PortraitMeasurements
from talkingface_research.renderer.evaluation.poses import NEUTRAL, sheet_poses
from talkingface_research.renderer.evaluation.sections.identity import distances

Image = NDArray[np.uint8]
Scores = dict[str, float]

COUNT = 12  # frames a sheet
WIDE = 8  # tiles across


def draw(portraits: Sequence[PortraitMeasurements], report: Path) -> None:
    """Write `worst_*.png`, each frame beside its photo, the worst first."""
    measures: dict[str, Callable[[PortraitMeasurements], Scores]] = {
        "identity": distances,
        "folded": lambda one: one.figures["folded"],
        "stretched": lambda one: one.figures["stretched"],
        "seams": lambda one: one.figures["seams"],
        "skin": lambda one: _inverse(one.figures["skin"]),
        "hair": lambda one: _inverse(one.figures["hair"]),
        "light_line": lambda one: {NEUTRAL: 100 * one.figures["light line"].get("shut", 0.0)},
        "shut_eyes": lambda one: one.figures["contrast"] if one.eyes_visible else {},
        "whites": lambda one: one.figures["white"] if one.eyes_visible else {},
    }
    positions = {pose.name: i + 1 for i, pose in enumerate(sheet_poses())}
    for name, measure in measures.items():
        scored = [
            (value, one.name, pose)
            for one in portraits
            for pose, value in measure(one).items()
            if pose in positions
        ]
        scored.sort(reverse=True)
        tiles = []
        for value, who, pose in scored[:COUNT]:
            sheet = contact_sheets.read(report / "portraits" / f"{who}.png")
            label = f"{who} {pose} {abs(value):.2f}"
            tiles += [_cut(sheet, 0), contact_sheets.label(_cut(sheet, positions[pose]), label)]
        if tiles:
            contact_sheets.write(report / f"worst_{name}.png", contact_sheets.grid(tiles, WIDE))


def _inverse(figures: Scores) -> Scores:
    return {pose: -value for pose, value in figures.items()}


def _cut(sheet: Image, position: int) -> Image:
    row, column = divmod(position, COLUMNS)
    size = contact_sheets.TILE
    return sheet[row * size : (row + 1) * size, column * size : (column + 1) * size].copy()
