"""`talkingface bench --against`: ratios of runs that alternate."""

from __future__ import annotations

import math
from typing import Any

import pytest

from talkingface_research.bench.comparison import (
    SPEED_FIGURES,
    Figure,
    Figures,
    compare,
    figures_of_speed,
    order,
)
from talkingface_research.report import JUDGED, Bar, Report, Row

RENDERER = Figure("speed", "renderer", "CPU, ms")
FPS = Figure("speed", "renderer", "FPS")


def rows_of(report: Report) -> dict[str, Row]:
    return {row.what: row for rows in report.sections.values() for row in rows}


def compared(*rounds: tuple[Figures, Figures], bar: Bar | None = None) -> Report:
    return compare(rounds, {}, "REF", {} if bar is None else {RENDERER: bar})


def test_rounds_are_compared_one_by_one() -> None:
    """A slow round does not count more."""
    report = compared(
        ({RENDERER: 20.0, FPS: 40.0}, {RENDERER: 40.0, FPS: 20.0}),
        ({RENDERER: 40.0, FPS: 20.0}, {RENDERER: 50.0, FPS: 10.0}),
        ({RENDERER: 20.0, FPS: 30.0}, {RENDERER: 40.0, FPS: 10.0}),
    )
    values = rows_of(report)["renderer: CPU, ms"].values
    assert values == {JUDGED: 0.5, "low": 0.5, "high": 0.8, "ours": 20.0, "other": 40.0}
    assert rows_of(report)["renderer: FPS"].values[JUDGED] == 2.0
    assert "| 0.50 | 0.50 | 0.80 | 20.00 | 40.00 |" in report.markdown()


def test_the_median_ratio_is_judged() -> None:
    pairs = [({RENDERER: a}, {RENDERER: 10.0}) for a in (4.0, 5.5, 7.0)]
    (row,) = rows_of(compared(*pairs, bar=Bar(high=0.5))).values()
    assert row.verdict == "MISS by 0.05"


def test_what_only_one_tree_has_is_named() -> None:
    new, old = Figure("speed", "new", "ms"), Figure("speed", "old", "ms")
    report = compared(({RENDERER: 1.0, new: 1.0}, {RENDERER: 1.0, old: 1.0}))
    assert list(rows_of(report)) == ["renderer: CPU, ms"]
    assert report.about == {"only in REF": "old (ms)", "only here": "new (ms)"}


@pytest.mark.parametrize(("ours", "other"), [(1.0, 0.0), (-3.0, 2.0), (math.nan, 1.0)])
def test_where_there_is_no_ratio_the_figures_are_shown(ours: float, other: float) -> None:
    (row,) = rows_of(compared(({RENDERER: ours}, {RENDERER: other}))).values()
    assert math.isnan(row.values[JUDGED])
    assert row.values["other"] == other


def test_sides_take_turns_in_running_first() -> None:
    assert [order(number) for number in range(4)] == [(0, 1), (1, 0), (0, 1), (1, 0)]


def test_the_figures_of_an_older_report_are_read() -> None:
    """That of b366c56 has the same keys, but neither rounds nor the machine's speed."""
    measurement: dict[str, Any] = {"what": "renderer", "frames": 10, "times": "interval"}
    measurement |= dict.fromkeys(SPEED_FIGURES, 0.0) | {"fps": 40.0, "cpu_ms": 20.0}
    figures = figures_of_speed(
        {
            "measurements": [measurement],
            "preparation_seconds": {"wall": 0.7, "cpu": 0.9},
            "memory_mib": [{"rss": 100.0, "pss": 80.0}, {"rss": 50.0, "pss": 30.0}],
        }
    )
    assert figures[FPS] == 40.0
    assert figures[RENDERER] == 20.0
    assert figures[Figure("memory", "all processes", "RSS, MiB")] == 150.0
    assert figures[Figure("speed", "preparation of a portrait", "CPU, s")] == 0.9
