"""Sheets of the pictures that did worst, cut out of the portraits' own sheets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from talkingface_research.renderer.evaluation import sheets
from talkingface_research.renderer.evaluation.portrait_run import COLUMNS, Sitting
from talkingface_research.renderer.evaluation.poses import NEUTRAL, shown
from talkingface_research.renderer.evaluation.sections.identity import distances

Image = NDArray[np.uint8]
Scores = dict[str, float]

COUNT = 12  # pictures a sheet
WIDE = 8  # tiles across


def draw(sittings: Sequence[Sitting], report: Path) -> None:
    """Write `worst_*.png`, each picture beside its photo, the worst first."""
    measures: dict[str, Callable[[Sitting], Scores]] = {
        "identity": distances,
        "folded": lambda one: one.figures["folded"],
        "stretched": lambda one: one.figures["stretched"],
        "seams": lambda one: one.figures["seams"],
        "skin": lambda one: _inverse(one.figures["skin"]),
        "hair": lambda one: _inverse(one.figures["hair"]),
        "light_line": lambda one: {NEUTRAL: 100 * one.figures["light line"].get("shut", 0.0)},
        "shut_eyes": lambda one: one.figures["contrast"] if one.eyes_seen else {},
        "whites": lambda one: one.figures["white"] if one.eyes_seen else {},
    }
    places = {pose.name: i + 1 for i, pose in enumerate(shown())}
    for name, measure in measures.items():
        scored = [
            (value, one.name, pose)
            for one in sittings
            for pose, value in measure(one).items()
            if pose in places
        ]
        scored.sort(reverse=True)
        tiles = []
        for value, who, pose in scored[:COUNT]:
            sheet = sheets.read(report / "portraits" / f"{who}.png")
            label = f"{who} {pose} {abs(value):.2f}"
            tiles += [_cut(sheet, 0), sheets.label(_cut(sheet, places[pose]), label)]
        if tiles:
            sheets.write(report / f"worst_{name}.png", sheets.grid(tiles, WIDE))


def _inverse(figures: Scores) -> Scores:
    return {pose: -value for pose, value in figures.items()}


def _cut(sheet: Image, place: int) -> Image:
    row, column = divmod(place, COLUMNS)
    size = sheets.TILE
    return sheet[row * size : (row + 1) * size, column * size : (column + 1) * size].copy()
