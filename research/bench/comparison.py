"""`talkingface bench speed --against REF`: this tree and another commit, in turns on one machine.

Machines differ by a factor of two, and one machine from hour to hour: only ratios of runs that
alternate mean something. Each run is a mesh of its own, with the source of its tree and the
packages of this environment.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import sysconfig
import tempfile
import venv
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

import talkingface
from talkingface_research.bench.inputs import read_portrait

TREE = Path(talkingface.__file__).resolve().parents[1]  # of this source
_COMMAND = "from talkingface.cli import main; raise SystemExit(main())"


@dataclass(frozen=True)
class Ratio:
    """A figure of this tree over that of the other commit, by rounds."""

    what: str
    figure: str
    values: tuple[float, ...]

    @property
    def median(self) -> float:
        return float(np.median(self.values))


# Figures of a measurement: key in the JSON, heading.
FIGURES = {"fps": "FPS", "first_ms": "first", "p95_ms": "p95", "cpu_ms": "CPU"}


def ratios(ours: Sequence[dict[str, Any]], others: Sequence[dict[str, Any]]) -> list[Ratio]:
    """Compare the reports of successive rounds, in what both measure."""
    found = []
    names = [m["what"] for m in ours[0]["measurements"]]
    for name in names:
        for figure in FIGURES:
            pairs = [
                (_figure(a, name, figure), _figure(b, name, figure))
                for a, b in zip(ours, others, strict=True)
            ]
            values = tuple(a / b for a, b in pairs if a and b)
            if len(values) == len(pairs):
                found.append(Ratio(name, figure, values))
    return found


def _figure(report: dict[str, Any], what: str, figure: str) -> float | None:
    for measurement in report["measurements"]:
        if measurement["what"] == what:
            value: float = measurement[figure]
            return value
    return None


@contextmanager
def _checkout(ref: str, folder: Path) -> Iterator[Path]:
    """A worktree of a commit, which is removed afterwards."""
    tree = folder / "tree"
    git = ("git", "-C", str(TREE), "worktree")
    subprocess.run([*git, "add", "--quiet", "--detach", str(tree), ref], check=True)
    try:
        yield tree
    finally:
        subprocess.run([*git, "remove", "--force", str(tree)], check=True)


def _python(tree: Path, folder: Path) -> str:
    """Make an environment with a tree's source and this environment's packages; its interpreter.

    An environment of its own, because Triton's Python backend ignores PYTHONPATH.
    """
    venv.create(folder, symlinks=True)
    mine = Path(sysconfig.get_paths()["purelib"])
    target = folder / mine.relative_to(sys.prefix)
    for entry in mine.iterdir():
        if not entry.name.startswith("__editable__") and not (target / entry.name).exists():
            (target / entry.name).symlink_to(entry)
    for name, source in (("talkingface", "services"), ("talkingface_research", "research")):
        if (tree / source).is_dir():
            (target / name).symlink_to(tree / source)
    return str(folder / "bin" / "python3")


def run(options: argparse.Namespace) -> int:
    """Run the command; the result is the exit code."""
    console = Console(width=None if sys.stdout.isatty() else 110)
    with tempfile.TemporaryDirectory(prefix="talkingface-against-") as name:
        folder = Path(name)
        with _checkout(options.against, folder) as tree:
            pythons = {
                "ours": _python(TREE, folder / "ours"),
                "other": _python(tree, folder / "other"),
            }
            fetch = [pythons["other"], "-m", "talkingface.renderer.fetch_assets", "models"]
            subprocess.run(fetch, check=True, stdout=subprocess.DEVNULL)
            portrait = folder / "portrait"
            portrait.write_bytes(read_portrait(options.portrait))
            files = [str(portrait), str(options.audio.resolve())]
            reports: dict[str, list[dict[str, Any]]] = {"ours": [], "other": []}
            for number in range(options.rounds):
                # In turns, and each first in every second round.
                for side in sorted(pythons, reverse=bool(number % 2)):
                    console.print(f"round {number + 1} of {options.rounds}: {side}", style="dim")
                    report = folder / f"{side}-{number}.json"
                    command = ["bench", "speed", *files, "--repeats", str(options.repeats)]
                    command += ["--sessions", str(options.sessions)]
                    subprocess.run(
                        [pythons[side], "-c", _COMMAND, *command, "--json", str(report)],
                        env={
                            **os.environ,
                            "PATH": f"{Path(pythons[side]).parent}:{os.environ['PATH']}",
                        },
                        check=True,
                        stdout=subprocess.DEVNULL,
                    )
                    reports[side].append(json.loads(report.read_text()))
    found = ratios(reports["ours"], reports["other"])
    _print(console, options.against, found)
    if options.json is not None:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        lines = [{"what": r.what, "figure": r.figure, "ratios": r.values} for r in found]
        options.json.write_text(json.dumps(lines, indent=2) + "\n")
    return 0


def _print(console: Console, ref: str, found: list[Ratio]) -> None:
    table = Table(title=f"This tree over {ref}: median ratio, and the smallest and the largest")
    table.add_column("what", no_wrap=True)
    for heading in FIGURES.values():
        table.add_column(heading, justify="right")
    cells = {(ratio.what, ratio.figure): ratio for ratio in found}
    for what in dict.fromkeys(ratio.what for ratio in found):
        row = []
        for figure in FIGURES:
            ratio = cells.get((what, figure))
            low, high = (min(ratio.values), max(ratio.values)) if ratio else (0.0, 0.0)
            row.append(f"{ratio.median:.2f} ({low:.2f}-{high:.2f})" if ratio else "")
        table.add_row(what, *row)
    console.print(table)
