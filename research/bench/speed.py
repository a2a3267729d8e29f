"""`talkingface bench speed`: how fast a mesh is, stage by stage and end to end."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

import talkingface
from talkingface.cli.mesh import STAGES, LocalMesh, log_to
from talkingface.client import TalkingFace
from talkingface.contract.rates import SAMPLE_RATE
from talkingface.orchestrator.config import OrchestratorConfig
from talkingface.orchestrator.stages.pool import Stages
from talkingface.v1 import media_pb2 as media
from talkingface_research.bench import inputs, machine
from talkingface_research.bench.measures import Samples
from talkingface_research.bench.other_work import OtherWork, text_of
from talkingface_research.bench.processes import Memory, cpu_seconds, memory_of
from talkingface_research.bench.runs import Run, StageBench, live, offline, offline_together

RENDERER = "renderer"
# Fields of the renderer's configuration, beside its defaults: 512x512 pixels at 25 FPS.
RENDERINGS: dict[str, dict[str, Any]] = {
    "renderer": {},
    "renderer, 256x256": {"size": 256},
    "renderer, 1024x1024": {"size": 1024},
    "renderer, whole photo": {"framing": media.FRAMING_PHOTO},
    "renderer, 40 FPS": {"frame_rate": 40},
    "renderer, 60 FPS": {"frame_rate": 60},
}


@dataclass(frozen=True)
class Measurement:
    """One line of the table: each figure is that of its slowest round. Times in milliseconds."""

    what: str
    frames: int  # of one round
    fps: float  # frames over the time from the first input to the last frame
    first_ms: float  # from the first input to the first frame
    p50_ms: float  # `interval`: time from one result to the next, a frame
    p95_ms: float  # `lag` (live): from the last sample of a frame's audio to the frame
    p99_ms: float
    times: str  # "interval" or "lag"
    cpu_ms: float  # a frame, of all processes that take part
    rounds: dict[str, list[float]]  # the other rounds too, by figure


@dataclass(frozen=True)
class Preparation:
    """Time of the portrait's preparation, in seconds."""

    wall: float
    cpu: float


def run(options: argparse.Namespace) -> int:
    """Run the command; the result is the exit code."""
    console = Console(width=None if sys.stdout.isatty() else 120)
    portrait = inputs.read_portrait(options.portrait)
    audio = options.audio.read_bytes()
    samples = inputs.decode(audio)
    before = machine.measure()
    with OtherWork() as others, ExitStack() as stack:
        # Stores of its own, since a portrait that is prepared already would cost nothing.
        stores = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="talkingface-bench-")))
        environ = {
            "TALKINGFACE_SLOTS": str(max(4, options.sessions)),
            "TALKINGFACE_PORTRAIT_STORE": str(stores / "portraits"),
            "TALKINGFACE_UPLOAD_STORE": str(stores / "uploads"),
        }
        begin = time.perf_counter()
        console.print("starting the mesh", style="dim")
        on_line = options.log and log_to(options.log)
        mesh = stack.enter_context(LocalMesh(environ=environ, on_line=on_line))
        start_seconds = time.perf_counter() - begin
        preparation, measurements = asyncio.run(
            _measure(mesh, portrait, audio, samples, options, console)
        )
        memory = [memory_of(name, process.pid) for name, process in mesh.processes.items()]
    after = machine.measure()
    header = {**machine.header(before, after), "other programs": text_of(others.cores)}
    for name, value in header.items():
        console.print(f"{name}: {value}", highlight=False)
    _print(console, measurements, memory)
    if options.json is not None:
        result = {
            "version": talkingface.__version__,
            "cpus": os.cpu_count(),
            "machine": {**machine.as_json(before, after), "other_cores": others.cores},
            "audio_seconds": len(samples) / SAMPLE_RATE,
            "start_seconds": start_seconds,
            "preparation_seconds": asdict(preparation),
            "measurements": [asdict(measurement) for measurement in measurements],
            "memory_mib": [asdict(entry) for entry in memory],
        }
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(result, indent=2) + "\n")
    return 0


async def _measure(
    mesh: LocalMesh,
    portrait: bytes,
    audio: bytes,
    samples: Samples,
    options: argparse.Namespace,
    console: Console,
) -> tuple[Preparation, list[Measurement]]:
    encoder, generator, renderer = (mesh.processes[name].target for name in STAGES)
    config = OrchestratorConfig(
        audio_features_target=encoder, motion_gen_target=generator, renderer_target=renderer
    )
    stages = Stages(config)
    bench = StageBench(stages, samples)
    begin, used = time.perf_counter(), _cpu(mesh, RENDERER)
    handle = (await stages.prepare_portrait(portrait)).handle
    preparation = Preparation(time.perf_counter() - begin, _cpu(mesh, RENDERER) - used)
    console.print(
        f"portrait prepared in {preparation.wall:.2f} s, CPU {preparation.cpu:.2f} s", style="dim"
    )

    async def measure(
        what: str, times: str, once: Callable[[], Awaitable[Run]], *services: str
    ) -> Measurement:
        console.print(f"measuring: {what}", style="dim")
        rounds = []
        for _ in range(options.rounds):
            used = _cpu(mesh, *services)
            done = await once()
            rounds.append((done, _cpu(mesh, *services) - used))
        return slowest(what, times, rounds)

    async with TalkingFace(mesh.target) as face:
        results = [
            await measure(name, "interval", once, name)
            for name, once in zip(STAGES[:2], (bench.audio_features, bench.motion_gen), strict=True)
        ]
        for what, fields in RENDERINGS.items():
            results.append(
                await measure(what, "interval", partial(bench.renderer, handle, fields), RENDERER)
            )
        once = partial(offline, face, portrait, audio)
        results.append(await measure("offline, 1 session", "interval", once))
        if options.sessions > 1:
            what = f"offline, each of {options.sessions} sessions"
            many = partial(offline_together, face, portrait, audio, options.sessions)
            results.append(await measure(what, "interval", many))
        results.append(
            await measure("live, 1 session", "lag", partial(live, face, portrait, samples))
        )
    await stages.close()
    return preparation, results


def _cpu(mesh: LocalMesh, *services: str) -> float:
    """CPU seconds that services and their Triton servers have used so far; default: all."""
    return cpu_seconds(mesh.processes[name].pid for name in services or mesh.processes)


def slowest(what: str, times: str, rounds: list[tuple[Run, float]]) -> Measurement:
    """Each figure of the slowest round.

    :param rounds: each with its CPU seconds
    """
    figures: dict[str, list[float]] = {}
    for run, cpu in rounds:
        p50, p95, p99 = (float(np.percentile(run.times, q)) * 1000 for q in (50, 95, 99))
        values = {
            "fps": run.frames / run.seconds,
            "first_ms": 1000 * run.first,
            "p50_ms": p50,
            "p95_ms": p95,
            "p99_ms": p99,
            "cpu_ms": 1000 * cpu / (run.frames * run.side_by_side),
        }
        for name, value in values.items():
            figures.setdefault(name, []).append(value)
    worst = {name: (min if name == "fps" else max)(values) for name, values in figures.items()}
    return Measurement(what, rounds[0][0].frames, times=times, rounds=figures, **worst)


def _print(console: Console, measurements: list[Measurement], memory: list[Memory]) -> None:
    table = Table(
        title="Speed: the slowest round, and (lowest-highest) of all rounds. ms; live: lag from "
        "the end of a frame's audio to the frame; CPU: of all processes, a frame"
    )
    table.add_column("what", no_wrap=True)
    for column in ("frames", "FPS", "first", "p50", "p95", "p99", "of", "CPU"):
        table.add_column(column, justify="right")
    for m in measurements:
        shown = (f"{value:.1f}" for value in (m.first_ms, m.p50_ms, m.p95_ms, m.p99_ms))
        fps, cpu = (_spread(getattr(m, name), m.rounds[name]) for name in ("fps", "cpu_ms"))
        table.add_row(m.what, str(m.frames), fps, *shown, m.times, cpu)
    console.print(table)
    table = Table(title="Memory (MiB), each service with its Triton")
    table.add_column("service", no_wrap=True)
    for column in ("processes", "RSS", "PSS", "largest process"):
        table.add_column(column, justify="right")
    for entry in memory:
        sizes = (f"{value:.0f}" for value in (entry.rss, entry.pss, entry.peak))
        table.add_row(entry.service, str(entry.processes), *sizes)
    total = sum(entry.rss for entry in memory), sum(entry.pss for entry in memory)
    processes = sum(entry.processes for entry in memory)
    table.add_row("all", str(processes), *(f"{value:.0f}" for value in total), style="bold")
    console.print(table)


def _spread(value: float, values: list[float]) -> str:
    spread = f" ({min(values):.1f}-{max(values):.1f})" if len(values) > 1 else ""
    return f"{value:.1f}{spread}"
