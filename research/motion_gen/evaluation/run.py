"""One command, one table: how the generated motion compares with real speakers.

Lips are compared band-passed (2-8 Hz), all clips of a set end to end, with one lag for the set. A
recording set-up's own sound-to-picture offset is fixed first, by the best lag of the sound's
energy: one for GRID's studio, one for each natural recording.
"""

from __future__ import annotations

import multiprocessing
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from importlib import import_module

from talkingface_research.motion_gen.evaluation.bench import Bench
from talkingface_research.motion_gen.evaluation.pipeline import Pipeline
from talkingface_research.report import Report, Row

TITLES = {
    "generated": "generated",
    "calm": "expressivity 0",
    "lively": "expressivity 2",
    "real": "real video",
    "shuffled": "shuffled audio",
    "rules": "rules alone",
    "still": "still",
    "loudness": "loudness alone",
    "ridge": "ridge on the same rows",
}


def run(bench: Bench, only: Sequence[str], jobs: int = 1) -> Report:
    """Measure the sections and write `table.md`, `table.json` and the pictures.

    :param jobs: processes; one shares what it has generated between sections
    """
    bench.report.mkdir(parents=True, exist_ok=True)
    report = Report(TITLES)
    pipeline = Pipeline(bench.models)
    for model in (pipeline.encoder, pipeline.generator):
        report.about[model.name] = f"{model.path.name} sha256 {model.digest[:16]}"
    if bench.quick:
        report.about["quick"] = "fewer clips: figures to compare candidates, not to quote"
    began = time.monotonic()
    for name, rows in zip(only, _measured(bench, only, jobs), strict=True):
        report.add(name, rows)
        print(f"{name} after {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
        report.write(bench.report)
    return report


def measure(bench: Bench, section: str) -> list[Row]:
    """The rows of one section."""
    rows: list[Row] = import_module(f"{__package__}.sections.{section}").measure(bench)
    return rows


def _measured(bench: Bench, only: Sequence[str], jobs: int) -> Iterator[list[Row]]:
    if jobs == 1:
        yield from (measure(bench, name) for name in only)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=context) as pool:
        yield from pool.map(measure, [bench] * len(only), only)
