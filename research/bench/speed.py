"""`talkingface bench speed`: how fast a mesh is, stage by stage and end to end."""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rich.console import Console
from rich.table import Table

import talkingface
from talkingface.cli.mesh import STAGES, LocalMesh, log_to
from talkingface.client import OUTPUT_KIND_H264, Media, Summary, TalkingFace, pcm
from talkingface.contract.rates import MOTION_FPS, SAMPLE_RATE
from talkingface.contract.stage_streams import StreamConfig, StreamRequest, StreamResponse
from talkingface.orchestrator.config import OrchestratorConfig
from talkingface.orchestrator.stages.call import StageCall
from talkingface.orchestrator.stages.methods import ExtractMethod, GenerateMethod, RenderMethod
from talkingface.orchestrator.stages.pool import Stages
from talkingface.v1 import audio_features_pb2 as audio_features
from talkingface.v1 import media_pb2 as media
from talkingface.v1 import motion_gen_pb2 as motion_gen
from talkingface.v1 import renderer_pb2 as renderer
from talkingface_research.bench import inputs
from talkingface_research.bench.measures import Samples
from talkingface_research.bench.processes import Memory, cpu_seconds, memory_of

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
_LIVE_SAMPLES = SAMPLE_RATE // MOTION_FPS  # audio of one frame: a chunk of a live client


@dataclass(frozen=True)
class Measurement:
    """One line of the table. Times are in milliseconds."""

    what: str
    frames: int
    fps: float  # frames over the time from the first input to the last frame
    first_ms: float  # from the first input to the first frame, mean of the runs
    p50_ms: float  # `interval`: time from one result to the next, a frame
    p95_ms: float  # `lag` (live): from the last sample of a frame's audio to the frame
    p99_ms: float
    times: str  # "interval" or "lag"
    cpu_ms: float  # a frame, of all processes that take part


@dataclass(frozen=True)
class Preparation:
    """Time of the portrait's preparation, in seconds."""

    wall: float
    cpu: float


class Run(NamedTuple):
    """One run: times in seconds."""

    first: float  # from the first input to the first result
    times: list[float]  # intervals or lags, one a frame
    frames: int
    seconds: float  # from the first input to the last result
    side_by_side: int = 1  # runs of which this is the mean


def run(options: argparse.Namespace) -> int:
    """Run the command; the result is the exit code."""
    console = Console(width=None if sys.stdout.isatty() else 110)
    portrait = inputs.read_portrait(options.portrait)
    audio = options.audio.read_bytes()
    samples = inputs.decode(audio)
    with ExitStack() as stack:
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
    _print(console, measurements, memory)
    if options.json is not None:
        result = {
            "version": talkingface.__version__,
            "cpus": os.cpu_count(),
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
    encoder, generator, renderer_target = (mesh.processes[name].target for name in STAGES)
    config = OrchestratorConfig(
        audio_features_target=encoder,
        motion_gen_target=generator,
        renderer_target=renderer_target,
    )
    stages = Stages(config)
    bench = _StageBench(stages, samples)
    begin, used = time.perf_counter(), _cpu(mesh, RENDERER)
    handle = (await stages.prepare_portrait(portrait)).handle
    preparation = Preparation(time.perf_counter() - begin, _cpu(mesh, RENDERER) - used)
    console.print(
        f"portrait prepared in {preparation.wall:.2f} s, CPU {preparation.cpu:.2f} s", style="dim"
    )

    async def repeat(
        what: str, times: str, once: Callable[[], Awaitable[Run]], *services: str
    ) -> Measurement:
        console.print(f"measuring: {what}", style="dim")
        used = _cpu(mesh, *services)
        runs = [await once() for _ in range(options.repeats)]
        return _summary(what, times, runs, _cpu(mesh, *services) - used)

    async with TalkingFace(mesh.target) as face:
        results = [
            await repeat(name, "interval", once, name)
            for name, once in zip(STAGES[:2], (bench.audio_features, bench.motion_gen), strict=True)
        ]
        for what, fields in RENDERINGS.items():
            results.append(
                await repeat(what, "interval", partial(bench.renderer, handle, fields), RENDERER)
            )
        results.append(
            await repeat("offline, 1 session", "interval", lambda: _offline(face, portrait, audio))
        )
        if options.sessions > 1:

            async def together() -> Run:
                runs = await asyncio.gather(
                    *(_offline(face, portrait, audio) for _ in range(options.sessions))
                )
                return Run(
                    float(np.mean([run.first for run in runs])),
                    [interval for run in runs for interval in run.times],
                    runs[0].frames,
                    float(np.mean([run.seconds for run in runs])),
                    options.sessions,
                )

            what = f"offline, each of {options.sessions} sessions"
            results.append(await repeat(what, "interval", together))
        results.append(
            await repeat("live, 1 session", "lag", lambda: _live(face, portrait, samples))
        )
    await stages.close()
    return preparation, results


class _StageBench:
    """Drives each stage alone; the results of one stage are the input of the next."""

    def __init__(self, stages: Stages, samples: Samples) -> None:
        self._stages = stages
        self._samples = samples
        self._features: list[motion_gen.GenerateRequest] = []
        self._motion: list[renderer.RenderRequest] = []

    async def audio_features(self) -> Run:
        chunks = np.array_split(self._samples, math.ceil(len(self._samples) / 4000))
        messages = [
            audio_features.ExtractRequest(audio=chunk.astype("<f4").tobytes()) for chunk in chunks
        ]
        config = audio_features.ExtractConfig(session_id="bench")
        call = await self._stages.open(ExtractMethod(), config)
        results, run = await _drive(call, messages, lambda r: r.features.rows / 2)
        self._features = [
            motion_gen.GenerateRequest(features=result.features) for result in results
        ]
        return run

    async def motion_gen(self) -> Run:
        config = motion_gen.GenerateConfig(session_id="bench", seed=1)
        call = await self._stages.open(GenerateMethod(), config)
        results, run = await _drive(call, self._features, lambda r: len(r.motion.frames))
        self._motion = [renderer.RenderRequest(motion=result.motion) for result in results]
        return run

    async def renderer(self, handle: str, fields: dict[str, Any]) -> Run:
        config = renderer.RenderConfig(
            session_id="bench", portrait_handle=handle, codec=media.VIDEO_CODEC_H264, **fields
        )
        call = await self._stages.open(RenderMethod(config.frame_rate or MOTION_FPS), config)
        return (await _drive(call, self._motion, lambda r: 1))[1]


async def _drive(
    call: StageCall[StreamConfig, StreamRequest, StreamResponse],
    messages: list[StreamRequest],
    frames_of: Callable[[Any], float],
) -> tuple[list[Any], Run]:
    """Send all messages as fast as the stage accepts them; return its results and their times."""

    async def send() -> None:
        for message in messages:
            await call.send(message)
        await call.end()

    begin = time.perf_counter()
    sender = asyncio.create_task(send())
    results: list[Any] = []
    times: list[float] = []
    frames = first = 0.0
    last = begin
    while (result := await call.receive()) is not None:
        now = time.perf_counter()
        count = frames_of(result)
        first = first or now - begin
        times += [(now - last) / count] * math.ceil(count)
        last = now
        frames += count
        results.append(result)
    await sender
    return results, Run(first, times, round(frames), last - begin)


async def _offline(face: TalkingFace, portrait: bytes, audio: bytes) -> Run:
    begin = last = time.perf_counter()
    first, times, frames = 0.0, [], 0
    async for message in face.animate(portrait=portrait, audio=audio, seed=1):
        if isinstance(message, Media) and message.frame_count:
            now = time.perf_counter()
            first = first or now - begin
            times += [(now - last) / message.frame_count] * message.frame_count
            last = now
            frames += message.frame_count
    return Run(first, times, frames, last - begin)


async def _live(face: TalkingFace, portrait: bytes, samples: Samples) -> Run:
    """Send audio in real time; times are lags from the end of a frame's audio to the frame."""
    pcm16 = np.rint(samples * 32767).astype("<i2")
    begin = 0.0

    async def microphone() -> AsyncIterator[bytes]:
        nonlocal begin
        begin = time.perf_counter()
        for i in range(0, len(pcm16), _LIVE_SAMPLES):
            chunk = pcm16[i : i + _LIVE_SAMPLES]
            due = begin + (i + len(chunk)) / SAMPLE_RATE
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            yield chunk.tobytes()

    first, lags = 0.0, []
    async for message in face.animate(
        portrait=portrait,
        audio=microphone(),
        audio_format=pcm(SAMPLE_RATE),
        output=OUTPUT_KIND_H264,
        seed=1,
    ):
        if isinstance(message, Media):
            now = time.perf_counter() - begin
            first = first or now
            lags.append(now - (message.first_frame + 1) / MOTION_FPS)
        elif isinstance(message, Summary):
            frames = message.frames
    return Run(first, lags, frames, now)


def _cpu(mesh: LocalMesh, *services: str) -> float:
    """CPU seconds that services and their Triton servers have used so far; default: all."""
    return cpu_seconds(mesh.processes[name].pid for name in services or mesh.processes)


def _summary(what: str, times: str, runs: list[Run], cpu: float) -> Measurement:
    values = np.array([value for run in runs for value in run.times]) * 1000
    p50, p95, p99 = (float(np.percentile(values, q)) for q in (50, 95, 99))
    frames = sum(run.frames for run in runs)
    fps = frames / sum(run.seconds for run in runs)
    first = float(np.mean([run.first for run in runs])) * 1000
    made = sum(run.frames * run.side_by_side for run in runs)
    return Measurement(what, frames, fps, first, p50, p95, p99, times, 1000 * cpu / made)


def _print(console: Console, measurements: list[Measurement], memory: list[Memory]) -> None:
    table = Table(
        title="Speed (ms; live: lag from the end of a frame's audio to the frame; CPU: of all "
        "processes, a frame)"
    )
    table.add_column("what", no_wrap=True)
    for column in ("frames", "FPS", "first", "p50", "p95", "p99", "of", "CPU"):
        table.add_column(column, justify="right")
    for m in measurements:
        values = (m.first_ms, m.p50_ms, m.p95_ms, m.p99_ms)
        shown = (f"{value:.1f}" for value in (m.fps, *values))
        table.add_row(m.what, str(m.frames), *shown, m.times, f"{m.cpu_ms:.1f}")
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
