"""Frames of the renderer's Triton alone: those of two devices compared, and how many a second."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import grpc
import numpy as np
from numpy.typing import NDArray
from tritonclient.grpc import service_pb2, service_pb2_grpc

import talkingface.renderer
from talkingface.contract.portrait import handle_of
from talkingface.contract.video import RenderLevel, View, photo_size
from talkingface.renderer.session import MODEL_NAME
from talkingface.serving.triton.client import TritonClient
from talkingface.serving.triton.server import EmbeddedTriton
from talkingface.v1.media_pb2 import FRAMING_CROP, FRAMING_PHOTO
from talkingface.v1.renderer_pb2 import Portrait
from talkingface_research.bench.processes import Program, cpu_by_program
from talkingface_research.renderer.evaluation.poses import MIXES, NEUTRAL, poses

REPOSITORY = Path(talkingface.renderer.__file__).parent / "model_repository"
MODELS = (MODEL_NAME, "inpainter")
_PREPARATION = "portrait_preparation"
_START_SECONDS = 120.0
_IN_FLIGHT = 16  # frames requested at once where devices are compared, so that batches are mixed
_RAMP_SECONDS = 0.5  # before a measurement, in which queues fill
Image = NDArray[np.uint8]


@dataclass(frozen=True)
class FrameRequest:
    """One frame that is requested."""

    name: str  # of portrait, pose, view and level
    inputs: Mapping[str, NDArray[np.generic]]
    view: View

    @property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Shapes of the model's outputs."""
        return {"image": self.view.shape}


class Difference(NamedTuple):
    """How far the frames of two devices are apart."""

    frames: int
    largest: int  # grey levels
    share: float  # of the values of all frames that differ by more than one grey level
    mean: float  # grey levels
    worst: str  # name of the frame with the largest difference


class Times(NamedTuple):
    """What Triton's statistics of a model count, summed; times in seconds."""

    frames: int
    runs: int  # executions, of one batch each
    queue: float
    input: float
    compute: float
    output: float

    def since(self, before: Times) -> Times:
        """The difference to an earlier reading."""
        frames, runs = self.frames - before.frames, self.runs - before.runs
        return Times(frames, runs, *(a - b for a, b in zip(self[2:], before[2:], strict=True)))


class Throughput(NamedTuple):
    """Frames requested by so many callers at once."""

    callers: int
    seconds: float
    latencies: list[float]  # seconds, one a frame
    times: Mapping[str, Times]  # by model
    cpu: Mapping[Program, float]  # CPU seconds

    @property
    def fps(self) -> float:
        """Frames a second."""
        return len(self.latencies) / self.seconds


@asynccontextmanager
async def renderer(device: str, store: Path) -> AsyncIterator[tuple[EmbeddedTriton, TritonClient]]:
    """Run a renderer's Triton.

    :param store: folder of prepared portraits
    :raises talkingface.serving.triton.server.TritonError: it does not start
    """
    environ = {"TALKINGFACE_PORTRAIT_STORE": str(store), "TALKINGFACE_DEVICE": device}
    triton = EmbeddedTriton(REPOSITORY, environ, device=device)
    try:
        await triton.start(_START_SECONDS)
        client = TritonClient(triton.url, timeout=60.0)
        try:
            yield triton, client
        finally:
            await client.close()
    finally:
        await triton.stop()


async def prepare(client: TritonClient, images: Sequence[bytes]) -> list[Portrait]:
    """Prepare portraits into the store."""
    portraits = []
    for image in images:
        inputs = {"image": np.frombuffer(image, np.uint8)}
        outputs = await client.infer(_PREPARATION, inputs)
        portrait = Portrait.FromString(outputs["portrait"].tobytes())
        assert portrait.handle == handle_of(image)
        portraits.append(portrait)
    return portraits


def requests(portraits: Sequence[Portrait], few: bool) -> list[FrameRequest]:
    """Frames that are hard to render: strong poses, mixtures of motion, all views and levels.

    :param few: two poses in two views alone
    """
    chosen = [pose for pose in poses() if pose.hard or pose.name == NEUTRAL]
    chosen += poses()[-MIXES:]
    views = {
        "512, I420": (View(FRAMING_CROP, 512, 512, planar=True), RenderLevel.FULL),
        "512, half resolution": (View(FRAMING_CROP, 512, 512), RenderLevel.HALF_RESOLUTION),
        "256": (View(FRAMING_CROP, 256, 256), RenderLevel.FULL),
        "1024": (View(FRAMING_CROP, 1024, 1024), RenderLevel.FULL),
    }
    found = []
    for number, portrait in enumerate(portraits):
        size = photo_size(portrait.width, portrait.height)
        photo = View(FRAMING_PHOTO, *size, planar=True)
        shown = views | {"whole photo": (photo, RenderLevel.FULL)}
        if few:
            chosen, shown = chosen[1:3], dict(list(shown.items())[:2])
        for pose in chosen:
            for what, (view, level) in shown.items():
                name = f"portrait {number + 1}, {pose.name}, {what}"
                found.append(_request(name, portrait, pose.motion, view, level))
    # Mixed, so that a batch has several portraits and views.
    order = np.random.default_rng(0).permutation(len(found))
    return [found[i] for i in order]


def _request(
    name: str, portrait: Portrait, motion: NDArray[np.float32], view: View, level: RenderLevel
) -> FrameRequest:
    digest = bytes.fromhex(portrait.handle.removeprefix("sha256:"))
    inputs: dict[str, NDArray[np.generic]] = {
        "portrait": np.frombuffer(digest, np.uint8),
        "motion": motion,
        "view": view.to_array(),
        "level": np.array([level], np.int32),
    }
    return FrameRequest(name, inputs, view)


async def compare(
    reference: TritonClient, other: TritonClient, wanted: Sequence[FrameRequest]
) -> Difference:
    """Render the same frames on two devices."""
    limit = asyncio.Semaphore(_IN_FLIGHT)
    largest, worst, above, total, values = 0, "", 0, 0.0, 0

    async def one(request: FrameRequest) -> None:
        nonlocal largest, worst, above, total, values
        async with limit:
            images = await asyncio.gather(
                *(
                    client.infer(MODEL_NAME, request.inputs, shapes=request.shapes)
                    for client in (reference, other)
                )
            )
        first, second = (image["image"].astype(np.int16) for image in images)
        apart = np.abs(first - second)
        above += int(np.count_nonzero(apart > 1))
        total += float(apart.sum())
        values += apart.size
        if not worst or apart.max() > largest:
            largest, worst = int(apart.max()), request.name

    await asyncio.gather(*map(one, wanted))
    return Difference(len(wanted), largest, above / values, total / values, worst)


async def throughput(
    triton: EmbeddedTriton,
    client: TritonClient,
    wanted: Sequence[FrameRequest],
    callers: int,
    seconds: float,
) -> Throughput:
    """Request frames by so many callers at once, each the next one when it has its last."""
    assert triton.pid is not None
    latencies: list[float] = []
    begin = time.perf_counter() + _RAMP_SECONDS
    end = begin + seconds

    async def call(number: int) -> None:
        position = number
        while (sent := time.perf_counter()) < end:
            request = wanted[position % len(wanted)]
            await client.infer(MODEL_NAME, request.inputs, shapes=request.shapes)
            position += callers
            if begin <= sent:
                latencies.append(time.perf_counter() - sent)

    async with grpc.aio.insecure_channel(triton.url) as channel, asyncio.TaskGroup() as group:
        for number in range(callers):
            group.create_task(call(number))
        await asyncio.sleep(_RAMP_SECONDS)
        before = await _statistics(channel), cpu_by_program({"renderer": triton.pid})
        await asyncio.sleep(max(end - time.perf_counter(), 0.0))
        took = time.perf_counter() - begin
        after = await _statistics(channel), cpu_by_program({"renderer": triton.pid})
    times = {model: after[0][model].since(before[0][model]) for model in MODELS}
    cpu = {program: value - before[1].get(program, 0.0) for program, value in after[1].items()}
    return Throughput(callers, took, latencies, times, cpu)


async def _statistics(channel: grpc.aio.Channel) -> dict[str, Times]:
    stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
    found = {}
    for model in MODELS:
        response = await stub.ModelStatistics(service_pb2.ModelStatisticsRequest(name=model))
        (statistics,) = response.model_stats
        parts = statistics.inference_stats
        spent = (parts.queue, parts.compute_input, parts.compute_infer, parts.compute_output)
        seconds = (part.ns / 1e9 for part in spent)
        found[model] = Times(statistics.inference_count, statistics.execution_count, *seconds)
    return found
