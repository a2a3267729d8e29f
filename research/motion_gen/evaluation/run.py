"""The table of all sections: how the generated motion compares with real speakers.

Lips are compared band-passed (2-8 Hz), all clips of a set end to end, with one lag for the set. The
offset between audio and video of a recording set-up is found first, by the best lag of the audio's
energy: one for GRID's studio, one for each natural recording.
"""

from __future__ import annotations

import multiprocessing
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from importlib import import_module

from talkingface_research.motion_gen.evaluation.context import EvalContext
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


def run(context: EvalContext, only: Sequence[str], jobs: int = 1) -> Report:
    """Measure the sections and write `table.md`, `table.json` and the images.

    :param jobs: processes; each keeps what it has generated for its later sections
    """
    context.report.mkdir(parents=True, exist_ok=True)
    report = Report(TITLES)
    pipeline = Pipeline(context.models)
    for model in (pipeline.encoder, pipeline.generator):
        report.about[model.name] = f"{model.path.name} sha256 {model.digest[:16]}"
    if context.quick:
        report.about["quick"] = "fewer clips: figures to compare candidates, not to quote"
    began = time.monotonic()
    for name, rows in zip(only, _measured(context, only, jobs), strict=True):
        report.add(name, rows)
        print(f"{name} after {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
        report.write(context.report)
    return report


def measure(context: EvalContext, section: str) -> list[Row]:
    """The rows of one section."""
    rows: list[Row] = import_module(f"{__package__}.sections.{section}").measure(context)
    return rows


def _measured(context: EvalContext, only: Sequence[str], jobs: int) -> Iterator[list[Row]]:
    if jobs == 1:
        yield from (measure(context, name) for name in only)
        return
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=spawn) as pool:
        yield from pool.map(measure, [context] * len(only), only)
