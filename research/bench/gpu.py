"""`talkingface bench gpu`: one command for a machine with a GPU, done in eight minutes.

Frames of the GPU against those of the CPU (`gpu_frames`), frames a second by requests at a time,
streams that each stage carries alone, and live sessions in growing number over a whole mesh
(`gpu_sessions`), with what limits them and what a frame costs (`gpu_table`). `--dry-run` does all
of it with the CPU's instances and tiny counts. With a GPU it has not been run.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import grpc
import numpy as np
from rich.console import Console

import talkingface
from talkingface.cli.mesh import STAGES, LocalMesh, MeshError, log_to
from talkingface.client import TalkingFace
from talkingface.serving.config import StartError
from talkingface.serving.triton.server import choose_device
from talkingface.v1.stage_pb2 import MeasureCapacityRequest
from talkingface.v1.stage_pb2_grpc import StageStatusServiceStub
from talkingface_research.bench import gpu_frames, gpu_monitor, gpu_sessions, inputs, machine
from talkingface_research.bench.gpu_sessions import Clients
from talkingface_research.bench.gpu_table import Results, tabulate
from talkingface_research.bench.other_work import OtherWork, text_of

_SERVICES = Path(talkingface.__file__).parent
_CAPACITY_SECONDS = 60.0  # deadline of the measurement of a stage's capacity


@dataclass(frozen=True)
class Plan:
    """How much is measured."""

    device: str = "gpu"
    few_frames: bool = False
    callers: Sequence[int] = (1, 2, 4, 8, 16, 32, 64)
    seconds: float = 4.0  # for each number of callers
    first_sessions: int = 16
    most_sessions: int = 512
    session_seconds: float = 15.0
    limit_seconds: float = 440.0  # after which no further step begins


DRY_RUN = Plan(
    device="cpu",
    few_frames=True,
    callers=(1, 2),
    seconds=0.5,
    first_sessions=1,
    most_sessions=1,
    session_seconds=3.0,
)


@dataclass
class _Clock:
    begin: float = field(default_factory=time.perf_counter)

    def spent(self) -> float:
        """Seconds since the begin."""
        return time.perf_counter() - self.begin


def run(options: argparse.Namespace) -> int:
    """Run the command; the result is the exit code.

    :raises MeshError: there is no GPU that can be used
    """
    console = Console(width=None if sys.stdout.isatty() else 110)

    def note(what: str) -> None:
        console.print(what, style="dim")

    plan, clock = DRY_RUN if options.dry_run else Plan(), _Clock()
    reasons = asyncio.run(_devices(plan.device))
    portrait = inputs.read_portrait(options.portrait)
    speech = inputs.decode(options.audio.read_bytes())
    audio = np.rint(speech * 32767).astype("<i2").tobytes()
    before = machine.measure()
    with OtherWork() as others, tempfile.TemporaryDirectory(prefix="talkingface-bench-") as folder:
        results = asyncio.run(_measure_frames(plan, portrait, Path(folder), note))
        on_line = options.log and log_to(options.log)
        with LocalMesh(environ=_settings(plan, Path(folder)), on_line=on_line) as mesh:
            asyncio.run(_measure_mesh(plan, mesh, portrait, audio, results, clock, note))
    after = machine.measure()
    report = tabulate(
        results,
        {
            "version": talkingface.__version__,
            "device": f"{plan.device}: {reasons}" + (", DRY RUN" if options.dry_run else ""),
            "GPU": gpu_monitor.about() or "none",
            "encoder of H.264": results.encoder,
            "cpus": os.cpu_count(),
            "seconds": f"{clock.spent():.0f}",
            **machine.header(before, after),
            "other programs": text_of(others.cores),
        },
        on_gpu=plan.device == "gpu",
    )
    print(report.markdown())
    if options.json is not None:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        speed = {**machine.as_json(before, after), "other_cores": others.cores}
        result = {**report.json(), "dry_run": options.dry_run, "machine": speed}
        options.json.write_text(json.dumps(result, indent=1) + "\n")
    return 0


async def _devices(device: str) -> str:
    """Check that all stages can run on the device; why, in words.

    :raises MeshError: one of them cannot
    """
    try:
        choices = [
            await choose_device(device, _SERVICES / stage / "model_repository") for stage in STAGES
        ]
    except StartError as error:
        raise MeshError(f"{error}; `--dry-run` tries the command on the CPU") from None
    return "; ".join(dict.fromkeys(choice.reason for choice in choices))


def _settings(plan: Plan, folder: Path) -> dict[str, str]:
    return {
        "TALKINGFACE_DEVICE": plan.device,
        "TALKINGFACE_SLOTS": "1024",  # no limit: the bench looks for it
        "TALKINGFACE_PORTRAIT_STORE": str(folder / "portraits"),
        "TALKINGFACE_UPLOAD_STORE": str(folder / "uploads"),
    }


async def _measure_frames(
    plan: Plan, portrait: bytes, folder: Path, note: Callable[[str], None]
) -> Results:
    """Measure the renderer's Triton alone, beside one on the CPU."""
    store = folder / "portraits"
    note("starting two Tritons of the renderer")
    async with gpu_frames.renderer("cpu", store) as (_, reference):
        images = [portrait] if plan.few_frames else [portrait, mirrored(portrait)]
        portraits = await gpu_frames.prepare(reference, images)
        wanted = gpu_frames.requests(portraits, plan.few_frames)
        async with gpu_frames.renderer(plan.device, store) as (triton, client):
            note(f"comparing {len(wanted)} frames of {plan.device} and CPU")
            difference = await gpu_frames.compare(reference, client, wanted)
            typical = [request for request in wanted if request.name.endswith("512, I420")]
            throughput = []
            for callers in plan.callers:
                note(f"frames requested {callers} at a time")
                async with gpu_monitor.Monitor() as monitor:
                    done = await gpu_frames.throughput(
                        triton, client, typical, callers, plan.seconds
                    )
                throughput.append((done, monitor.usage))
    return Results(difference, throughput)


def mirrored(image: bytes) -> bytes:
    """The file of the mirror image: another portrait for the renderer."""
    pixels = cv2.imdecode(np.frombuffer(image, np.uint8), cv2.IMREAD_COLOR)
    _, data = cv2.imencode(".png", pixels[:, ::-1])
    return data.tobytes()


async def _measure_mesh(
    plan: Plan,
    mesh: LocalMesh,
    portrait: bytes,
    audio: bytes,
    results: Results,
    clock: _Clock,
    note: Callable[[str], None],
) -> None:
    """Measure the stages alone, and live sessions."""
    services = {name: process.pid for name, process in mesh.processes.items()}
    targets = {name: mesh.processes[name].target for name in STAGES}
    results.capacity = await _capacity(targets, note)
    async with TalkingFace(mesh.target) as face:
        handle = (await face.upload_portrait(portrait)).handle
    clients = Clients(mesh.target, handle, audio, plan.session_seconds)
    results.steps = await gpu_sessions.ramp(
        clients,
        services,
        plan.first_sessions,
        plan.most_sessions,
        lambda: plan.limit_seconds - clock.spent(),
        note,
    )


async def _capacity(targets: Mapping[str, str], note: Callable[[str], None]) -> dict[str, float]:
    """Streams that each stage carries in real time if it is alone on the machine."""
    streams = {}
    for stage, target in targets.items():
        note(f"capacity of {stage} alone")
        async with grpc.aio.insecure_channel(target) as channel:
            stub = StageStatusServiceStub(channel)
            request = MeasureCapacityRequest()
            streams[stage] = (
                await stub.MeasureCapacity(request, timeout=_CAPACITY_SECONDS)
            ).streams
    return streams
