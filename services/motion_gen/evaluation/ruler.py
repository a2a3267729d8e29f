"""One command, one table: how the generated motion compares with real speakers.

Lips are compared band-passed (2-8 Hz), all clips of a set end to end, with one lag for the set. A
recording's own sound-to-picture offset is fixed first, by the best lag of its sound's energy.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence
from importlib import import_module

from talkingface.motion_gen.evaluation.bench import Bench
from talkingface.motion_gen.evaluation.table import Report, Row

SECTIONS = (
    "lips",
    "closures",
    "liveliness",
    "controls",
    "emotion",
    "robustness",
    "languages",
    "cost",
)


def run(bench: Bench, only: Sequence[str] = SECTIONS) -> Report:
    """Measure the sections and write `table.md`, `table.json` and the pictures."""
    measures: dict[str, Callable[[Bench], list[Row]]] = {
        name: import_module(f"{__package__}.sections.{name}").measure for name in only
    }
    bench.report.mkdir(parents=True, exist_ok=True)
    report = Report()
    for model in (bench.pipeline.encoder, bench.pipeline.generator):
        report.about[model.name] = f"{model.path.name} sha256 {model.digest[:16]}"
    if bench.quick:
        report.about["quick"] = "fewer clips: figures to compare candidates, not to quote"
    for name, measure in measures.items():
        began = time.monotonic()
        report.sections[name] = measure(bench)
        print(f"{name}: {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
        (bench.report / "table.md").write_text(report.markdown())
        (bench.report / "table.json").write_text(json.dumps(report.json(), indent=1) + "\n")
    return report
