"""`talkingface bench live`: live sessions, measured from what a client receives.

Sessions talk, interrupt and change controls (`conversation`) while their messages are recorded
(`recording`, `soak`). After the mesh has ended, so that nothing disturbs it, frames are decoded and
measured (`frame_measurements`), each act is matched with its response (`analysis`), and the table
is made (`live_table`).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

import talkingface
from talkingface.cli.mesh import LocalMesh, log_to
from talkingface.client import OutputKind
from talkingface_research.bench import analysis, inputs, machine, measures
from talkingface_research.bench.conversation import find_utterances
from talkingface_research.bench.live_table import tabulate
from talkingface_research.bench.other_work import OtherWork, text_of
from talkingface_research.bench.outcome import Outcome, as_json
from talkingface_research.bench.rows import worst_of
from talkingface_research.bench.soak import OUTPUTS, Soak
from talkingface_research.report import Report

if TYPE_CHECKING:
    from talkingface_research.bench.frame_measurements import Curves


def run(options: argparse.Namespace) -> int:
    """Run the command; the result is the exit code."""
    console = Console(width=None if sys.stdout.isatty() else 110)

    def note(what: str) -> None:
        console.print(what, style="dim")

    portrait = inputs.read_portrait(options.portrait)
    speech = read_speech(options.audio)
    before = machine.measure()
    with OtherWork() as others:
        outcomes = _rounds(options, portrait, speech, note)
    after = machine.measure()
    # A round without any frame is an error of the mesh, not a figure.
    for outcome in outcomes:
        errors = [r.error for r in outcome.recordings if r.error is not None]
        if errors and not any(len(r.indices) for r in outcome.recordings):
            raise errors[0]
    curves = []
    for outcome in outcomes:
        curves = [] if options.ramp else analyse(outcome, OUTPUTS[options.output], note)
    about = {
        **_about(options, outcomes),
        **machine.header(before, after),
        "other programs": text_of(others.cores),
    }
    report = worst_of([tabulate(outcome) for outcome in outcomes], about)
    print(report.markdown())
    if options.json is not None:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        result = {
            **report.json(),
            "machine": {**machine.as_json(before, after), "other_cores": others.cores},
            "rounds": [as_json(outcome) for outcome in outcomes],
        }
        options.json.write_text(json.dumps(result, indent=1) + "\n")
    if options.report is not None:
        _draw(options, report, outcomes[-1], curves)
    return 0


def read_speech(path: Path) -> measures.Samples:
    """Read the recording that the sessions speak.

    :raises OSError: it cannot be read, or has no utterance
    """
    speech = inputs.decode(path.read_bytes())
    try:
        find_utterances(speech)
    except ValueError as error:
        raise OSError(0, str(error), str(path)) from None
    return speech


def _rounds(
    options: argparse.Namespace,
    portrait: bytes,
    speech: measures.Samples,
    note: Callable[[str], None],
) -> list[Outcome]:
    """Run all rounds at one mesh."""

    async def measure(target: str, services: dict[str, int]) -> list[Outcome]:
        outcomes = []
        for number in range(options.rounds):
            if options.rounds > 1:
                note(f"round {number + 1} of {options.rounds}")
            outcomes.append(await Soak(options, portrait, speech, note).measure(target, services))
        return outcomes

    if options.target:
        return asyncio.run(measure(options.target, {}))
    with ExitStack() as stack:
        note("starting the mesh")
        mesh = stack.enter_context(_own_mesh(options, stack))
        services = {name: process.pid for name, process in mesh.processes.items()}
        return asyncio.run(measure(mesh.target, services))


def mesh_settings(options: argparse.Namespace, folder: Path) -> dict[str, str]:
    """Environment variables of the services of a mesh that the bench starts.

    :param folder: for its stores
    """
    settings = {
        "TALKINGFACE_PORTRAIT_STORE": str(folder / "portraits"),
        "TALKINGFACE_UPLOAD_STORE": str(folder / "uploads"),
    }
    # Fixed, so that the bench shows what a session costs also on a machine that cannot hold it.
    slots = options.slots or (options.sessions if options.overload else max(4, options.sessions))
    settings["TALKINGFACE_SLOTS"] = str(slots)
    return settings


def _own_mesh(options: argparse.Namespace, stack: ExitStack) -> LocalMesh:
    stores = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="talkingface-bench-")))
    on_line = options.log and log_to(options.log)
    environ = mesh_settings(options, stores)
    return LocalMesh(environ=environ, replicas=options.replicas, on_line=on_line)


def _about(options: argparse.Namespace, outcomes: list[Outcome]) -> dict[str, object]:
    replicas = ", ".join(f"{n} x {stage}" for stage, n in options.replicas.items())
    mesh = options.target or f"its own on this machine{replicas and ', with '}{replicas}"
    about: dict[str, object] = {
        "version": talkingface.__version__,
        "mesh": mesh,
        "cpus": os.cpu_count(),
        "rounds": len(outcomes),
        "sessions": len(outcomes[0].recordings),
        "seconds": ", ".join(f"{outcome.seconds:.1f}" for outcome in outcomes),
        "frames": f"{options.output}, {options.size}x{options.size} at {options.fps} a second",
    }
    if outcomes[0].stress:
        about["other work meanwhile"] = outcomes[0].stress
    return about


def analyse(outcome: Outcome, output: OutputKind, note: Callable[[str], None]) -> list[Curves]:
    """Measure the frames of all sessions, and analyse them."""
    from talkingface_research.bench import frame_measurements  # loads networks

    curves = []
    for recording in outcome.recordings:
        wanted = analysis.frames_to_measure(recording)
        note(f"measuring {wanted.sum()} of {len(wanted)} frames")
        measured = frame_measurements.measure_frames(recording.with_frames, output, wanted)
        outcome.analyses.append(analysis.analyse(recording, measured))
        curves.append(measured)
    return curves


def _draw(
    options: argparse.Namespace, report: Report, outcome: Outcome, curves: list[Curves]
) -> None:
    from talkingface_research.bench import plots  # loads networks

    options.report.mkdir(parents=True, exist_ok=True)
    report.write(options.report)
    plots.draw(options.report, outcome, curves, OUTPUTS[options.output])
