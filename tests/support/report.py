"""Figures that tests measure, kept in a file beside the result of the run."""

from __future__ import annotations

import os

from tests.support import ROOT

FOLDER = ROOT / "build" / "test-report"


def clear() -> None:
    """Remove the reports of earlier runs."""
    for file in FOLDER.glob("*.txt"):
        file.unlink()


def record(line: str) -> None:
    """Append a line to the report of this test's tier, under the name of the test."""
    test = os.environ.get("PYTEST_CURRENT_TEST", "").rpartition(" ")[0]  # without its phase
    tier = test.removeprefix("tests/").partition("/")[0]
    FOLDER.mkdir(parents=True, exist_ok=True)
    with (FOLDER / f"{tier}.txt").open("a") as file:
        file.write(f"{test}: {line}\n")
