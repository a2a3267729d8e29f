"""`talkingface bench KIND --against REF`: this tree and another commit, in turns on one machine.

Machines differ by a factor of two, and one machine from hour to hour: only ratios of runs that
alternate mean something. Each run is a mesh of its own (`trees`). The stages are driven by the
bench of their own tree, because the messages between services change from commit to commit; starts
and live sessions are measured by this one, through the client's API.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rich.console import Console

import talkingface
from talkingface_research.bench import live, machine, startup
from talkingface_research.bench.inputs import read_portrait
from talkingface_research.bench.live_table import tabulate
from talkingface_research.bench.other_work import OtherWork, comparison_of
from talkingface_research.bench.soak import OUTPUTS, Soak
from talkingface_research.bench.trees import Tree, commit_of, mesh_of, trees
from talkingface_research.report import JUDGED, Bar, Report, Row

Note = Callable[[str], None]


class Figure(NamedTuple):
    """A figure that both trees have: what was measured, and which value of it."""

    section: str
    what: str
    unit: str


Figures = Mapping[Figure, float]

# Figures of a measurement of `bench speed`: key in its JSON, name and unit.
SPEED_FIGURES = {"fps": "FPS", "first_ms": "first, ms", "p95_ms": "p95, ms", "cpu_ms": "CPU, ms"}
# Bars of ratios to this commit, by section, row and unit.
BASELINE = "b366c56"
_BARS = {
    ("speed", "renderer", "CPU, ms"): Bar(high=0.5),
    ("speed", "offline, 1 session", "FPS"): Bar(low=2.0),
    ("processes", "CPU of all", "cores"): Bar(high=0.42),
}
# Runs `bench speed` of a tree, with one round, which older trees call `repeats`.
_SPEED = """
import sys
from talkingface.cli import parser
options = parser().parse_args(sys.argv[1:])
options.rounds = options.repeats = 1
raise SystemExit(options.run(options))
"""


def run(options: argparse.Namespace) -> int:
    """Run the command; the result is the exit code."""
    console = Console(width=None if sys.stdout.isatty() else 110)

    def note(what: str) -> None:
        console.print(what, style="dim")

    commit = commit_of(options.against)
    measure = {"speed": speed, "live": live_sessions, "start": start}[options.kind]
    before = machine.measure()
    rounds: list[tuple[Figures, Figures]] = []
    others: tuple[list[float], list[float]] = ([], [])  # cores that other programs used
    with tempfile.TemporaryDirectory(prefix="talkingface-against-") as name:
        folder = Path(name)
        (folder / "portrait").write_bytes(read_portrait(options.portrait))
        with trees(commit, folder) as pair:
            for number in range(options.rounds):
                found: list[Figures] = [{}, {}]
                for side in order(number):
                    name = ("this tree", options.against)[side]
                    note(f"round {number + 1} of {options.rounds}: {name}")
                    with OtherWork() as other:
                        found[side] = measure(pair[side], folder, options, note)
                    others[side].append(other.cores)
                rounds.append((found[0], found[1]))
    after = machine.measure()
    about = {
        "version": talkingface.__version__,
        "compared with": f"{options.against}, {commit}",
        "cpus": os.cpu_count(),
        "rounds": f"{options.rounds}, in turns; ratios: median, lowest and highest round",
        **machine.header(before, after),
        "other programs": comparison_of(*others),
    }
    bars = _BARS if commit.startswith(BASELINE) else {}
    report = compare(rounds, about, options.against, bars)
    print(report.markdown())
    if options.json is not None:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        result = {
            **report.json(),
            "machine": {**machine.as_json(before, after), "other_cores": others},
            "rounds": [[_plain(side) for side in pair] for pair in rounds],
        }
        options.json.write_text(json.dumps(result, indent=1) + "\n")
    return 0


def order(number: int) -> tuple[int, int]:
    """Which side runs first in a round: each in every second one."""
    return (1, 0) if number % 2 else (0, 1)


def speed(tree: Tree, folder: Path, options: argparse.Namespace, note: Note) -> Figures:
    """Run the tree's own `bench speed` once."""
    report = folder / "speed.json"
    command = ["bench", "speed", str(folder / "portrait"), str(options.audio.resolve())]
    command += ["--sessions", str(options.sessions), "--json", str(report)]
    subprocess.run(
        [str(tree.python), "-c", _SPEED, *command],
        env={**os.environ, **tree.environ},
        check=True,
        stdout=subprocess.DEVNULL,
    )
    return figures_of_speed(json.loads(report.read_text()))


def figures_of_speed(report: Mapping[str, Any]) -> Figures:
    """The figures of a report of `bench speed`, by this tree or an older one."""
    figures = {
        Figure("speed", measurement["what"], unit): float(measurement[key])
        for measurement in report["measurements"]
        for key, unit in SPEED_FIGURES.items()
    }
    preparation = report["preparation_seconds"]
    figures[Figure("speed", "preparation of a portrait", "s")] = preparation["wall"]
    figures[Figure("speed", "preparation of a portrait", "CPU, s")] = preparation["cpu"]
    for kind in ("rss", "pss"):
        total = sum(entry[kind] for entry in report["memory_mib"])
        figures[Figure("memory", "all processes", f"{kind.upper()}, MiB")] = total
    return figures


def live_sessions(tree: Tree, folder: Path, options: argparse.Namespace, note: Note) -> Figures:
    """Run one round of `bench live` at a mesh of the tree."""
    portrait = (folder / "portrait").read_bytes()
    soak = Soak(options, portrait, live.read_speech(options.audio), note)
    with (
        tempfile.TemporaryDirectory(dir=folder) as stores,
        mesh_of(tree, live.mesh_settings(options, Path(stores))) as mesh,
    ):
        outcome = asyncio.run(soak.measure(mesh.target, mesh.services))
    live.analyse(outcome, OUTPUTS[options.output], note)
    return figures_of_report(tabulate(outcome))


def start(tree: Tree, folder: Path, options: argparse.Namespace, note: Note) -> Figures:
    """Run one round of `bench start` with the tree."""
    portrait = (folder / "portrait").read_bytes()
    return figures_of_report(startup.measure(tree, portrait, options.opens, note))


def figures_of_report(report: Report) -> Figures:
    """The figures of a table."""
    return {
        Figure(section, row.what, row.unit): row.values[JUDGED]
        for section, rows in report.sections.items()
        for row in rows
    }


def compare(
    rounds: Sequence[tuple[Figures, Figures]],
    about: Mapping[str, Any],
    ref: str,
    bars: Mapping[tuple[str, str, str], Bar],
) -> Report:
    """The table of ratios, in what both trees have in every round.

    :param rounds: figures of this tree and of the other
    :param bars: of the ratios, by section, row and unit
    """
    titles = {
        JUDGED: "ratio",
        "low": "lowest",
        "high": "highest",
        "ours": "this tree",
        "other": ref,
    }
    sides = [[pair[side] for pair in rounds] for side in (0, 1)]
    ours, others = (
        [name for name in side[0] if all(name in one for one in side)] for side in sides
    )
    report = Report(titles, dict(about))
    for where, names, absent in ((f"only in {ref}", others, ours), ("only here", ours, others)):
        if alone := [f"{n.what} ({n.unit})" for n in names if n not in absent]:
            report.about[where] = "; ".join(alone)
    for section in dict.fromkeys(name.section for name in ours):
        rows = [
            _row(name, [(a[name], b[name]) for a, b in rounds], bars.get(name))
            for name in ours
            if name.section == section and name in others
        ]
        report.add(section, rows)
    return report


def _row(name: Figure, pairs: Sequence[tuple[float, float]], bar: Bar | None) -> Row:
    medians = {
        key: float(np.median([p[i] for p in pairs])) for i, key in enumerate(("ours", "other"))
    }
    what = f"{name.what}: {name.unit}" if name.unit else name.what
    # Nothing is a multiple of 0, and differences of times have no ratio.
    if not all(math.isfinite(a) and a >= 0 and math.isfinite(b) and b > 0 for a, b in pairs):
        return Row(what, {JUDGED: math.nan, **medians}, bar=bar)
    ratios = [a / b for a, b in pairs]
    values = {JUDGED: float(np.median(ratios)), "low": min(ratios), "high": max(ratios)}
    return Row(what, {**values, **medians}, bar=bar)


def _plain(figures: Figures) -> list[dict[str, Any]]:
    return [
        {**name._asdict(), "value": value if math.isfinite(value) else None}
        for name, value in figures.items()
    ]
