"""Table and command of the motion benchmark; needs no training packages."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

import pytest

from talkingface_research.report import Bar, Report, Row

BLOCKED = (
    "import sys; sys.modules[sys.argv[1]] = None; from talkingface.cli import main; "
    "sys.exit(main(sys.argv[2:]))"
)


def arguments(folder: Path) -> list[str]:
    given = [f"--{name}={folder}" for name in ("tracking", "names", "voices", "report")]
    return ["evaluate", "motion", *given]


@pytest.mark.parametrize(
    ("bar", "value", "verdict"),
    [
        (Bar(0.8), 0.8, "PASS"),
        (Bar(0.8), 0.71, "MISS by 0.09"),
        (Bar(high=3), 3.5, "MISS by 0.50"),
        (Bar(-40, 80), 120, "MISS by 40.00"),
        (Bar(0.8, 1.3), 1.0, "PASS"),
        (Bar(0.8), math.nan, "MISS"),
        (Bar(high=0.6), math.inf, "MISS"),
    ],
)
def test_a_bar_judges_the_generated_figure(bar: Bar, value: float, verdict: str) -> None:
    assert Row("x", {"generated": value, "real": 0.0}, bar=bar).verdict == verdict


def test_a_missed_bar_is_listed_and_columns_that_are_empty_are_not() -> None:
    titles = {"generated": "generated", "real": "real video", "shuffled": "shuffled audio"}
    report = Report(titles, {"model": "abc"})
    rows = [
        Row("opening", {"generated": 0.7, "shuffled": 0.05}, "r", Bar(0.8)),
        Row("lag", {"generated": 40}, "ms", Bar(-40, 80), digits=0),
        Row("width", {"generated": math.nan}, "r"),
    ]
    report.add("lips", rows)
    assert [row.what for row in report.missed] == ["opening"]
    text = report.markdown()
    assert "| opening, r | 0.70 | 0.05 | >= 0.80 | MISS by 0.10 |  |" in text
    assert "| lag, ms | 40 |  | -40 .. 80 | PASS |  |" in text
    assert "real video" not in text
    plain = report.json()["sections"]["lips"]
    assert plain[0]["bar"] == [0.8, None] and plain[2]["values"] == {"generated": None}


def test_a_column_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ValueError, match="imagined"):
        Report({"generated": "ours"}).add("lips", [Row("x", {"imagined": 1.0})])


@pytest.mark.parametrize("package", ["scipy", "matplotlib", "soundfile"])
def test_the_missing_extra_is_named(package: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", BLOCKED, package, *arguments(tmp_path)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 4
    assert "pip install '.[research]' ./research" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_section_that_does_not_exist_is_a_usage_error(tmp_path: Path) -> None:
    done = subprocess.run(
        [
            Path(sys.executable).with_name("talkingface"),
            *arguments(tmp_path),
            "--only",
            "lips,ears",
        ],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 2
    assert "ears" in done.stderr


def test_portraits_without_a_landmarker_are_a_usage_error(tmp_path: Path) -> None:
    done = subprocess.run(
        [
            Path(sys.executable).with_name("talkingface"),
            *arguments(tmp_path),
            f"--portraits={tmp_path}",
        ],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 2
    assert "--landmarker" in done.stderr
