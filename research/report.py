"""Reports of benchmarks: rows, bars and the table in Markdown and JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

JUDGED = "generated"  # the column that bars judge: that of the product


@dataclass(frozen=True)
class Bar:
    """The range that a figure must be in: low..high, both inclusive."""

    low: float = -math.inf
    high: float = math.inf

    def missed_by(self, value: float) -> float:
        """Distance of the value from the range; 0 within it."""
        if math.isnan(value):
            return math.inf
        return max(self.low - value, value - self.high, 0.0)

    def text(self, digits: int) -> str:
        """The range as in the table."""
        low, high = f"{self.low:.{digits}f}", f"{self.high:.{digits}f}"
        if math.isinf(self.low):
            return f"<= {high}"
        return f">= {low}" if math.isinf(self.high) else f"{low} .. {high}"


@dataclass(frozen=True)
class Row:
    """One measure: a figure for some of the table's columns; the bar judges `JUDGED`."""

    what: str
    values: Mapping[str, float]
    unit: str = ""
    bar: Bar | None = None
    digits: int = 2
    note: str = ""
    higher_is_better: bool = False  # where no bar states it

    @property
    def verdict(self) -> str:
        """ "PASS", "MISS by how much", or nothing without a bar."""
        if self.bar is None:
            return ""
        missed = self.bar.missed_by(self.values[JUDGED])
        if missed == 0.0:
            return "PASS"
        return "MISS" if math.isinf(missed) else f"MISS by {missed:.{self.digits}f}"


@dataclass
class Report:
    """All rows by section; `titles` are those of the columns by name, in their order."""

    titles: Mapping[str, str]
    about: dict[str, Any] = field(default_factory=dict)
    sections: dict[str, list[Row]] = field(default_factory=dict)

    def add(self, section: str, rows: Sequence[Row]) -> None:
        """Add a section.

        :raises ValueError: a row has a figure for a column that the table does not have
        """
        unknown = {column for row in rows for column in row.values} - set(self.titles)
        if unknown:
            raise ValueError(f"no such column: {', '.join(sorted(unknown))}")
        self.sections[section] = list(rows)

    def write(self, folder: Path) -> None:
        """Write `table.md` and `table.json`."""
        (folder / "table.md").write_text(self.markdown())
        (folder / "table.json").write_text(json.dumps(self.json(), indent=1) + "\n")

    @property
    def missed(self) -> list[Row]:
        """The rows whose bar was missed."""
        return [r for rows in self.sections.values() for r in rows if r.verdict[:4] == "MISS"]

    def markdown(self) -> str:
        """The table, without columns that a section does not use."""
        lines = [f"{name}: {value}" for name, value in self.about.items()]
        for name, rows in self.sections.items():
            lines += ["", f"## {name}", "", *self._table(rows)]
        lines += ["", f"## bars missed: {len(self.missed)}", ""]
        lines += [f"- {row.what}: {row.verdict}" for row in self.missed]
        return "\n".join(lines) + "\n"

    def json(self) -> dict[str, Any]:
        """The table as JSON; figures that are not finite are null."""
        return {
            "about": self.about,
            "sections": {
                name: [_plain(row) for row in rows] for name, rows in self.sections.items()
            },
        }

    def _table(self, rows: Sequence[Row]) -> list[str]:
        used = [name for name in self.titles if any(name in row.values for row in rows)]
        heads = ["measure", *(self.titles[name] for name in used), "bar", "verdict", ""]
        lines = [heads, ["---"] * len(heads)]
        for row in rows:
            what = f"{row.what}, {row.unit}" if row.unit else row.what
            cells = [_number(row.values.get(name), row.digits) for name in used]
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
