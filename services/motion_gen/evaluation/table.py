"""Rows, bars and the table in Markdown and JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

COLUMNS = ("generated", "real", "shuffled", "rules", "still", "loudness")
TITLES = (
    "generated", "real video", "shuffled audio", "rules alone", "still", "loudness alone",
)  # fmt: skip


@dataclass(frozen=True)
class Bar:
    """What a figure must reach: within low..high, both inclusive."""

    low: float = -math.inf
    high: float = math.inf

    def missed_by(self, value: float) -> float:
        """0 where the value is within."""
        if math.isnan(value):
            return math.inf
        return max(self.low - value, value - self.high, 0.0)

    def text(self, digits: int) -> str:
        """As the table shows it."""
        low, high = f"{self.low:.{digits}f}", f"{self.high:.{digits}f}"
        if math.isinf(self.low):
            return f"<= {high}"
        return f">= {low}" if math.isinf(self.high) else f"{low} .. {high}"


@dataclass(frozen=True)
class Row:
    """One measure: a figure for some of `COLUMNS`; the bar judges `generated`."""

    what: str
    values: Mapping[str, float]
    unit: str = ""
    bar: Bar | None = None
    digits: int = 2
    note: str = ""

    def __post_init__(self) -> None:
        unknown = set(self.values) - set(COLUMNS)
        if unknown:
            raise ValueError(f"no such column: {', '.join(sorted(unknown))}")

    @property
    def verdict(self) -> str:
        """ "PASS", "MISS by how much", or nothing without a bar."""
        if self.bar is None:
            return ""
        missed = self.bar.missed_by(self.values["generated"])
        if missed == 0.0:
            return "PASS"
        return "MISS" if math.isinf(missed) else f"MISS by {missed:.{self.digits}f}"


@dataclass
class Report:
    """All rows by section, with what was measured."""

    about: dict[str, Any] = field(default_factory=dict)
    sections: dict[str, list[Row]] = field(default_factory=dict)

    @property
    def missed(self) -> list[Row]:
        """The rows whose bar was missed."""
        return [r for rows in self.sections.values() for r in rows if r.verdict[:4] == "MISS"]

    def markdown(self) -> str:
        """The table, columns that a section does not use left out."""
        lines = [f"{name}: {value}" for name, value in self.about.items()]
        for name, rows in self.sections.items():
            lines += ["", f"## {name}", "", *_table(rows)]
        lines += ["", f"## bars missed: {len(self.missed)}", ""]
        lines += [f"- {row.what}: {row.verdict}" for row in self.missed]
        return "\n".join(lines) + "\n"

    def json(self) -> dict[str, Any]:
        """The same for programs; figures that are not finite are null."""
        return {
            "about": self.about,
            "sections": {
                name: [_plain(row) for row in rows] for name, rows in self.sections.items()
            },
        }


def _table(rows: Sequence[Row]) -> list[str]:
    used = [column for column in COLUMNS if any(column in row.values for row in rows)]
    heads = ["measure", *(TITLES[COLUMNS.index(column)] for column in used), "bar", "verdict", ""]
    lines = [heads, ["---"] * len(heads)]
    for row in rows:
        what = f"{row.what}, {row.unit}" if row.unit else row.what
        cells = [_number(row.values.get(column), row.digits) for column in used]
        bar = row.bar.text(row.digits) if row.bar else ""
        lines.append([what, *cells, bar, row.verdict, row.note])
    return [f"| {' | '.join(line)} |" for line in lines]


def _number(value: float | None, digits: int) -> str:
    if value is None:
        return ""
    return "-" if math.isnan(value) else f"{value:.{digits}f}"


def _plain(row: Row) -> dict[str, Any]:
    plain = asdict(row)
    plain["values"] = {k: v if math.isfinite(v) else None for k, v in row.values.items()}
    if row.bar is not None:
        plain["bar"] = [v if math.isfinite(v) else None for v in (row.bar.low, row.bar.high)]
    return {**plain, "verdict": row.verdict}
