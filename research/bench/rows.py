"""Rows of the benches' tables: columns, times with their percentiles, and the worst of rounds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from talkingface_research.report import JUDGED, Bar, Report, Row

TITLES = {
    JUDGED: "figure",
    "low": "lowest round",
    "high": "highest round",
    "p50": "p50",
    "p95": "p95",
    "p99": "p99",
    "max": "max",
    "n": "of",
    "baseline": "baseline",
}


def spread(
    what: str,
    seconds: Sequence[float],
    bar: Bar | None = None,
    baseline: float | None = None,
    note: str = "",
    judged: str = "p95",
) -> Row:
    """A row of milliseconds with percentiles; the bar judges one of them."""
    values = {"n": float(len(seconds))}
    if len(seconds):
        ordered = 1000 * np.asarray(seconds, float)
        values |= {f"p{q}": float(np.percentile(ordered, q)) for q in (50, 95, 99)}
        values["max"] = float(ordered.max())
    values[JUDGED] = values.get(judged, math.nan)
    if baseline is not None:
        values["baseline"] = baseline
    return Row(what, values, "ms", bar, 0, note or f"figure: {judged}")


def figure(
    what: str,
    value: float,
    unit: str = "",
    bar: Bar | None = None,
    digits: int = 0,
    note: str = "",
    higher_is_better: bool = False,
) -> Row:
    """A row of one figure."""
    return Row(what, {JUDGED: value}, unit, bar, digits, note, higher_is_better)


def worst_of(reports: Sequence[Report], about: Mapping[str, Any]) -> Report:
    """The table of several rounds: each row from the round in which its figure was worst, with the
    lowest and the highest figure of all.

    :param about: header of the table
    """
    merged = Report(TITLES, dict(about))
    sections = dict.fromkeys(name for report in reports for name in report.sections)
    for section in sections:
        by_name: dict[str, list[Row]] = {}
        for report in reports:
            for row in report.sections.get(section, []):
                by_name.setdefault(row.what, []).append(row)
        merged.add(section, [_worst(rows) for rows in by_name.values()])
    return merged


def _worst(rows: Sequence[Row]) -> Row:
    worst = max(rows, key=_badness)
    figures = [row.values[JUDGED] for row in rows if math.isfinite(row.values[JUDGED])]
    if len(rows) == 1 or not figures:
        return worst
    return replace(worst, values={**worst.values, "low": min(figures), "high": max(figures)})


def _badness(row: Row) -> float:
    """How bad a figure is, by the direction of its bar. One that was not measured is the worst if
    there is a bar, which it misses, else the best."""
    value = row.values[JUDGED]
    if math.isnan(value):
        return -math.inf if row.bar is None else math.inf
    if row.bar is not None and not row.higher_is_better:
        low, high = row.bar.low, row.bar.high
        if math.isfinite(low) and math.isfinite(high):
            return abs(value - (low + high) / 2)
        if math.isfinite(low):
            return -value
    return -value if row.higher_is_better else value
