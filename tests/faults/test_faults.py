"""Processes killed or frozen in mid-stream: the session goes on.

`FAULT_RUNS` sets how many random faults offline and live sessions get, run i being the same in
every run of the tests, and `FAULT_STALL` how many seconds a live one may stall (10 by default, so
that a busy machine passes as well; on a quiet one most stall for less than a second):

    FAULT_RUNS=30 FAULT_STALL=1 pytest tests/faults/test_faults.py -k random
"""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pytest

from talkingface.cli.mesh import STAGES
from talkingface.client import (
    OUTPUT_KIND_JPEG,
    OUTPUT_KIND_MOTION,
    NoCapacity,
    OutputKind,
    Started,
    TalkingFace,
    pcm,
)
from talkingface.contract.motion import MOTION_DIM
from talkingface.contract.portrait import handle_of
from talkingface.contract.video import View
from talkingface.renderer.session import RenderSession
from talkingface.v1.media_pb2 import FRAMING_CROP
from tests.support.audio import CHUNK_SECONDS, RATE, paced, pcm16
from tests.support.meshes import FPS, FaultOnce, Mesh, Part, Transcript, run_session
from tests.support.report import record

RUNS = int(os.environ.get("FAULT_RUNS", "2"))
STALL = float(os.environ.get("FAULT_STALL", "10"))
SECONDS = 5.0
LIVE_SECONDS = 6.0
FAULT_FRAME = 45
DEADLINE = 200.0  # seconds
SIZE = 256  # of frames, pixels


async def offline(
    mesh: Mesh,
    portrait: bytes,
    voice: np.ndarray,
    output: OutputKind,
    inject_fault: Callable[[Transcript], None] = lambda transcript: None,
    fault_frame: int = FAULT_FRAME,
) -> Transcript:
    """An offline session at twice the pace of speech, so that there is time for a fault."""
    return await run_session(
        mesh.target,
        paced(pcm16(voice, SECONDS), CHUNK_SECONDS / 2),
        portrait=portrait if output != OUTPUT_KIND_MOTION else None,
        output=output,
        size=SIZE,
        on_frame=FaultOnce(fault_frame, inject_fault),
    )


# --- one replica of each stage: the session waits for it


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    # Longer than a busy machine takes to start a renderer.
    environ = {"TALKINGFACE_RECOVERY_TIMEOUT": "100"}
    with Mesh(tmp_path_factory.mktemp("mesh"), environ=environ) as mesh:
        yield mesh


@pytest.fixture(scope="module")
def digests() -> dict[OutputKind, str]:
    """Hashes of the sessions without a fault, which all meshes and replicas must agree on."""
    return {}


async def expected_digest(
    digests: dict[OutputKind, str],
    mesh: Mesh,
    portrait: bytes,
    voice: np.ndarray,
    output: OutputKind,
) -> str:
    """The hash of the session without a fault."""
    if output not in digests:
        transcript = await offline(mesh, portrait, voice, output)
        assert not transcript.recovered
        digests[output] = transcript.digest
    return digests[output]


@pytest.mark.parametrize("part", ["triton", "service"])
@pytest.mark.parametrize("stage", STAGES)
async def test_a_session_outlives_any_process(
    mesh: Mesh,
    stage: str,
    part: Part,
    portrait_image: bytes,
    voice: np.ndarray,
    digests: dict[OutputKind, str],
) -> None:
    output = OUTPUT_KIND_JPEG if stage == "renderer" else OUTPUT_KIND_MOTION
    expected = await expected_digest(digests, mesh, portrait_image, voice, output)

    def inject_fault(transcript: Transcript) -> None:
        mesh.kill(stage, part)
        if part == "service":
            mesh.restart(stage)

    transcript = await offline(mesh, portrait_image, voice, output, inject_fault)
    assert [name for name, _ in transcript.recovered] == [stage]
    assert transcript.digest == expected


# --- two replicas of each stage: the other one takes over


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    environ = {
        "TALKINGFACE_SLOTS": "2",
        "TALKINGFACE_DRAIN_TIMEOUT": "30",
        "TALKINGFACE_STAGE_TIMEOUT": "5",
    }
    folder = tmp_path_factory.mktemp("pair")
    with Mesh(folder, environ=environ, replicas=dict.fromkeys(STAGES, 2)) as mesh:
        yield mesh


async def test_streams_are_spread_over_replicas(pair: Mesh) -> None:
    """Two sessions hold different replicas; the third is one more than the orchestrator takes."""
    holders: list[list[str]] = []
    hold, held = asyncio.Event(), asyncio.Semaphore(0)

    async def session() -> None:
        async def audio() -> AsyncIterator[bytes]:
            yield b"\0" * RATE
            await hold.wait()

        async with TalkingFace(pair.target) as face:
            async for message in face.animate(
                portrait=None, audio=audio(), audio_format=pcm(RATE), output=OUTPUT_KIND_MOTION
            ):
                if isinstance(message, Started):
                    holders.append([stage.replica for stage in message.stages])
                    held.release()

    async with asyncio.timeout(DEADLINE), asyncio.TaskGroup() as group:
        for _ in range(2):
            group.create_task(session())
            await held.acquire()
        assert {names[0] for names in holders} == {"audio_features", "audio_features-2"}
        assert {names[1] for names in holders} == {"motion_gen", "motion_gen-2"}
        with pytest.raises(NoCapacity):
            await session()
        hold.set()


async def test_streams_move_off_a_stage_that_drains(
    pair: Mesh, portrait_image: bytes, voice: np.ndarray, digests: dict[OutputKind, str]
) -> None:
    expected = await expected_digest(digests, pair, portrait_image, voice, OUTPUT_KIND_MOTION)
    draining = ""

    def drain(transcript: Transcript) -> None:
        nonlocal draining
        draining = transcript.replicas["motion_gen"]
        pair.processes[draining].terminate()

    moved = await offline(pair, portrait_image, voice, OUTPUT_KIND_MOTION, drain)
    assert moved.digest == expected
    assert moved.recovered == [], "the other replica had the stream before this one was gone"
    # It did not have to wait for its stream's end to shut down.
    await asyncio.to_thread(pair.processes[draining].wait, time.monotonic() + DEADLINE)
    assert pair.processes[draining].exit_code == 0
    await pair.recover()


@dataclass(frozen=True)
class Fault:
    """What happens to the process that holds a session."""

    stage: str
    part: Part
    kind: Literal["kill", "freeze"]
    moment: float  # part of the session that is over, 0..1
    thaw_after: float | None  # seconds; None: when the session is over

    def inject(self, mesh: Mesh, transcript: Transcript) -> None:
        """Cause it."""
        name = transcript.replicas[self.stage]
        if self.kind == "kill":
            mesh.kill(name, self.part)
            return
        mesh.freeze(name, self.part)
        if self.thaw_after is not None:
            asyncio.get_running_loop().call_later(self.thaw_after, mesh.thaw)


def random_fault(pacing: str, run: int) -> Fault:
    """A random fault; twelve that follow each other contain every kind once."""
    rng = random.Random(f"{pacing} {run // 12}")
    kinds = list(itertools.product(STAGES, ("service", "triton"), ("kill", "freeze")))
    rng.shuffle(kinds)
    stage, part, kind = kinds[run % 12]
    rng = random.Random(f"{pacing} {run}")
    return Fault(stage, part, kind, rng.uniform(0.1, 0.8), rng.choice([None, 1.5]))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def stalls() -> Iterator[list[float]]:
    """The stalls of the live sessions in seconds, whose distribution is recorded in the end."""
    stalls: list[float] = []
    yield stalls
    if stalls:
        short = sum(stall <= 1 for stall in stalls)
        record(
            f"{len(stalls)} live sessions with a fault: {short} stalled at most 1 s, median "
            f"{np.median(stalls):.2f}, longest {max(stalls):.2f} s"
        )


@pytest.mark.parametrize("run", range(RUNS))
async def test_random_fault_offline(
    pair: Mesh,
    run: int,
    portrait_image: bytes,
    voice: np.ndarray,
    digests: dict[OutputKind, str],
) -> None:
    fault = random_fault("offline", run)
    # The frames that have come show how far the stage is.
    output = OUTPUT_KIND_JPEG if fault.stage == "renderer" else OUTPUT_KIND_MOTION
    expected = await expected_digest(digests, pair, portrait_image, voice, output)
    at = max(1, round(fault.moment * SECONDS * FPS))
    began = time.perf_counter()
    transcript = await offline(
        pair, portrait_image, voice, output, lambda transcript: fault.inject(pair, transcript), at
    )
    seconds = time.perf_counter() - began
    record(f"{fault}: {seconds:.1f} s, recovered {transcript.recovered}")
    assert transcript.digest == expected
    if fault.kind == "kill":
        assert [name for name, _ in transcript.recovered] == [fault.stage]
    await pair.recover()


@pytest.mark.parametrize("run", range(RUNS))
async def test_random_fault_live(
    pair: Mesh, run: int, portrait_image: bytes, voice: np.ndarray, stalls: list[float]
) -> None:
    fault = random_fault("live", run)
    at = round(fault.moment * LIVE_SECONDS * FPS)
    fault_once = FaultOnce(at, lambda transcript: fault.inject(pair, transcript))
    transcript = await run_session(
        pair.target,
        paced(pcm16(voice, LIVE_SECONDS), CHUNK_SECONDS),
        portrait=portrait_image,
        output=OUTPUT_KIND_JPEG,
        live=True,
        size=SIZE,
        on_frame=fault_once,
    )
    record(
        f"{fault}: {transcript.live_figures()}, the latest frame {transcript.lateness:.2f} s late"
    )
    stalls.append(transcript.stall)
    assert fault_once.injected
    assert transcript.stall <= STALL
    await pair.recover()


# --- parts without network


@pytest.mark.parametrize("rate", [25, 40])
@pytest.mark.parametrize("cut", [1, 2, 7])
def test_a_render_session_goes_on_from_its_snapshot(rate: int, cut: int) -> None:
    view = View(FRAMING_CROP, 512, 512)
    motion = np.random.default_rng(0).random((20, MOTION_DIM), np.float32)
    image = {"image": np.zeros((512, 512, 3), np.uint8)}

    def requests(session: RenderSession, most: int = 1000) -> list[np.ndarray]:
        found: list[np.ndarray] = []
        while len(found) < most and (request := session.next_request()) is not None:
            found.append(request["motion"])
        return found

    session = RenderSession(handle_of(b"photo"), view, rate)
    session.push(motion[:cut])
    under_way = requests(session, 2)
    if len(under_way) > 1:
        session.accept(image)
    copy = RenderSession(handle_of(b"photo"), view, rate)
    copy.restore(session.snapshot())
    again = requests(copy, 1 if under_way else 0)
    assert np.array_equal(again, under_way[-1:])
    rests = []
    for one in (session, copy):
        one.push(motion[cut:])
        one.end()
        rests.append(requests(one))
        assert one.accept(image).index == max(len(under_way) - 1, 0)
    assert np.array_equal(rests[0], rests[1])
