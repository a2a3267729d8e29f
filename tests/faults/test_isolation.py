"""No session has an effect on another: not through shared batches, and not by what it does wrong.

`ISOLATION_SECONDS` sets how long the good sessions are repeated beside the bad ones.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import itertools
import os
import random
import struct
import time
import urllib.request
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps

from talkingface.cli.mesh import ORCHESTRATOR
from talkingface.client import (
    OUTPUT_KIND_JPEG,
    OUTPUT_KIND_MOTION,
    OUTPUT_KIND_PNG,
    PACING_LIVE,
    Controls,
    ControlUpdate,
    Gaze,
    Media,
    OutputKind,
    Summary,
    TalkingFace,
    TalkingFaceError,
    pcm,
)
from tests.support.audio import CHUNK_SECONDS, RATE, paced, pcm16
from tests.support.meshes import FPS, Mesh, Transcript, longest_gap, run_session
from tests.support.report import record

SLOTS = 8
GOOD = (0, 1)  # sessions that run beside misbehaving clients
SECONDS = 1.2
SIZE = 256
IDLE_SECONDS = 4.0  # for which a client may read nothing
PAUSE_SECONDS = 2.0  # for which the live clients read nothing
DISTURBED_SECONDS = float(os.environ.get("ISOLATION_SECONDS", "8"))
FLOOD = 5_000  # changes of controls


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    with Mesh(
        tmp_path_factory.mktemp("isolation"),
        environ={"TALKINGFACE_SLOTS": str(SLOTS)},
        orchestrator={
            "TALKINGFACE_IDLE_TIMEOUT": str(IDLE_SECONDS),
            "TALKINGFACE_LIVE_IDLE_TIMEOUT": str(IDLE_SECONDS),
        },
    ) as mesh:
        yield mesh


@dataclass(frozen=True)
class Session:
    """A session unlike the others: its own portrait, voice and seed."""

    seed: int
    portrait: str
    audio: bytes
    output: OutputKind = OUTPUT_KIND_JPEG

    async def run(self, mesh: Mesh) -> str:
        """The hash of its frames."""
        transcript = await run_session(
            mesh.target,
            paced(self.audio, 0),
            portrait=self.portrait if self.output != OUTPUT_KIND_MOTION else None,
            output=self.output,
            seed=self.seed,
            size=SIZE,
        )
        assert transcript.frames == SECONDS * FPS
        assert transcript.recovered == []
        return transcript.digest


@pytest.fixture(scope="module")
async def sessions(mesh: Mesh, portrait_image: bytes, voice: np.ndarray) -> list[Session]:
    """As many as there are slots: portraits, mirrored and in coloured light, that speak at their
    own pitch and pace."""
    with Image.open(io.BytesIO(portrait_image)) as image:
        photo = np.asarray(image.convert("RGB"), np.float32)
    sessions = []
    for number in range(SLOTS):
        light = np.roll([1.0, 0.92, 0.84], number // 2) * (1 - number / 50)
        lit = Image.fromarray((photo * light).astype(np.uint8))
        file = io.BytesIO()
        (ImageOps.mirror(lit) if number % 2 else lit).save(file, "PNG")
        async with TalkingFace(mesh.target) as face:
            portrait = await face.upload_portrait(file.getvalue())
        times = np.arange(0, len(voice), 0.8 + 0.1 * number)
        own = np.interp(times, np.arange(len(voice)), voice)
        sessions.append(Session(number, portrait.handle, pcm16(own, SECONDS)))
    return sessions


@pytest.fixture(scope="module")
async def alone(mesh: Mesh, sessions: list[Session]) -> list[str]:
    """The hashes of the sessions, one after the other."""
    return [await session.run(mesh) for session in sessions]


def batches(mesh: Mesh, stage: str, model: str) -> tuple[int, int]:
    """Requests that a model has answered, and in how many executions, by its Triton's metrics."""
    command = Path(f"/proc/{mesh.pid_of(stage, 'triton')}/cmdline").read_bytes().decode()
    port = next(x for x in command.split("\0") if x.startswith("--metrics-port=")).split("=")[1]
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as answer:
        lines = answer.read().decode().splitlines()

    def value(name: str) -> int:
        of_model = (x for x in lines if x.startswith(name + "{") and f'model="{model}"' in x)
        return int(sum(float(x.split()[-1]) for x in of_model))

    return value("nv_inference_count"), value("nv_inference_exec_count")


@pytest.mark.timeout(600)  # with the preparation of eight portraits
async def test_full_batches_mix_nothing(
    mesh: Mesh, sessions: list[Session], alone: list[str]
) -> None:
    """Every slot of every stage is taken, and each session is what it is when alone."""
    assert len(set(alone)) == len(sessions), "the sessions are not distinct"
    asked, executed = batches(mesh, "motion_gen", "motion_generator")
    assert asked == executed
    together = await asyncio.gather(*(session.run(mesh) for session in sessions))
    assert together == alone
    more_asked, more_executed = (
        now - before
        for now, before in zip(
            batches(mesh, "motion_gen", "motion_generator"), (asked, executed), strict=True
        )
    )
    record(f"{more_asked} windows of motion in {more_executed} batches")
    assert more_executed < more_asked, "nothing was batched"
    await mesh.until_idle()


# --- misbehaving clients: each makes one call that goes wrong in its own way, and returns how the
# call ended


async def consume(
    mesh: Mesh, audio: AsyncIterator[Any], *, floats: bool = False, **options: Any
) -> str:
    """Run a session to its end, whatever that is."""
    options = {"portrait": None, "output": OUTPUT_KIND_MOTION, **options}
    try:
        async with TalkingFace(mesh.target) as face:
            async for _ in face.animate(
                audio=audio, audio_format=pcm(RATE, floats=floats), **options
            ):
                pass
    except TalkingFaceError as error:
        return error.reason
    return "OK"


async def not_a_number(mesh: Mesh, portrait: str) -> str:
    """Send samples that are not finite, after good ones."""

    async def audio() -> AsyncIterator[bytes]:
        yield np.zeros(RATE, "<f4").tobytes()
        yield struct.pack("<4f", 0.1, float("nan"), float("inf"), -float("inf"))
        yield np.zeros(RATE, "<f4").tobytes()

    return await consume(mesh, audio(), floats=True)


async def cut_anywhere(mesh: Mesh, portrait: str) -> str:
    """Send chunks of no, one and odd numbers of bytes, and half a sample in the end."""

    async def audio() -> AsyncIterator[bytes]:
        for size in itertools.chain([0, 1, 3, 1, 0, 4097] * 20):
            yield bytes(size)
        yield b"\0" * 7

    return await consume(mesh, audio())


async def far_ahead(mesh: Mesh, portrait: str) -> str:
    """Send more audio at once than a live session may be ahead of the clock."""
    return await consume(mesh, paced(bytes(2 * RATE * 120), 0), pacing=PACING_LIVE)


async def nan_control(mesh: Mesh, portrait: str) -> str:
    """Send a change of controls that is not a number."""

    async def audio() -> AsyncIterator[Any]:
        yield bytes(RATE)
        yield ControlUpdate(controls=Controls(gaze_direction=Gaze(pitch=float("nan"))))
        yield bytes(RATE)

    return await consume(mesh, audio())


async def flood(mesh: Mesh, portrait: str, times: int = 200) -> str:
    """Send thousands of changes of controls, at as many times as may be waiting."""

    async def audio() -> AsyncIterator[Any]:
        yield bytes(RATE)
        for number in range(FLOOD):
            update = ControlUpdate(controls=Controls(mouth_scale=0.5 + number % 2))
            update.time.FromMilliseconds(40 * (number % times))
            yield update
        yield bytes(RATE)

    return await consume(mesh, audio())


async def too_many_changes(mesh: Mesh, portrait: str) -> str:
    """Send changes of controls at more times than may be waiting."""
    return await flood(mesh, portrait, times=FLOOD)


async def cancel_repeatedly(mesh: Mesh, portrait: str) -> str:
    """Open a session and cancel it at once, again and again."""
    async with TalkingFace(mesh.target) as face:
        for number in range(20):
            answers = face.animate(
                portrait=None,
                audio=paced(bytes(RATE), CHUNK_SECONDS),
                audio_format=pcm(RATE),
                output=OUTPUT_KIND_MOTION,
            )
            try:
                for _ in range(number % 3):
                    await anext(answers)
            except TalkingFaceError as error:
                return error.reason
            finally:
                await answers.aclose()
    return "OK"


async def garbage(mesh: Mesh, portrait: str) -> str:
    """Send bytes that are not gRPC to the ports of all services."""
    rng = random.Random(0)
    for process in mesh.processes.values():
        for beginning in (b"", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n"):
            reader, writer = await asyncio.open_connection("127.0.0.1", process.port)
            with contextlib.suppress(ConnectionError):
                writer.write(beginning + rng.randbytes(20_000))
                await writer.drain()
                async with asyncio.timeout(5):
                    await reader.read(100)
            writer.close()
    return "OK"


async def never_read(mesh: Mesh, portrait: str) -> str:
    """Send, and read nothing for longer than a client may."""
    async with TalkingFace(mesh.target) as face:
        answers = face.animate(
            portrait=portrait,
            audio=paced(bytes(2 * RATE * 4), 0),
            audio_format=pcm(RATE),
            output=OUTPUT_KIND_PNG,  # more than the connection holds
        )
        before = mesh.count_logged("reason=IDLE_TIMEOUT")
        try:
            await anext(answers)
            async with asyncio.timeout(60):
                # Another process: there is no event to wait for.
                while mesh.count_logged("reason=IDLE_TIMEOUT") == before:  # noqa: ASYNC110
                    await asyncio.sleep(0.1)
            async for _ in answers:
                pass
        except TalkingFaceError as error:
            return error.reason
        finally:
            await answers.aclose()
    return "OK"


MISBEHAVIOURS: dict[str, tuple[Callable[[Mesh, str], Awaitable[str]], str]] = {
    "samples that are not finite": (not_a_number, "AUDIO_NOT_FINITE"),
    "controls that are not finite": (nan_control, "FIELD_INVALID"),
    "audio cut anywhere": (cut_anywhere, "AUDIO_BROKEN"),
    "two minutes at once": (far_ahead, "AUDIO_TOO_LONG"),
    "a flood of controls": (flood, "OK"),
    "controls at too many times": (too_many_changes, "FIELD_INVALID"),
    "cancelled sessions": (cancel_repeatedly, "OK"),
    "garbage": (garbage, "OK"),
    "reading nothing": (never_read, "IDLE_TIMEOUT"),
}


@pytest.mark.timeout(300 + 2 * DISTURBED_SECONDS)
async def test_misbehaving_clients_do_no_harm(
    mesh: Mesh, sessions: list[Session], alone: list[str]
) -> None:
    """Two good sessions beside clients that do everything wrong, again and again."""
    over = asyncio.Event()
    outcomes: dict[str, Counter[str]] = {name: Counter() for name in MISBEHAVIOURS}
    at_a_time = asyncio.Semaphore(SLOTS - len(GOOD) - 2)  # the two good ones have room

    async def misbehave(name: str) -> None:
        while not over.is_set():
            async with at_a_time:
                outcomes[name][await MISBEHAVIOURS[name][0](mesh, sessions[2].portrait)] += 1

    async def good(number: int) -> int:
        for count in itertools.count():
            if over.is_set():
                return count
            assert await sessions[number].run(mesh) == alone[number]
        raise AssertionError("unreachable")

    async with asyncio.timeout(200 + 2 * DISTURBED_SECONDS), asyncio.TaskGroup() as group:
        rounds = [group.create_task(good(number)) for number in GOOD]
        for name in MISBEHAVIOURS:
            group.create_task(misbehave(name))
        await asyncio.sleep(DISTURBED_SECONDS)
        over.set()
    record(f"good sessions: {[task.result() for task in rounds]}; beside them: {outcomes}")
    mesh.check()
    await mesh.until_idle()
    assert {name: set(counter) for name, counter in outcomes.items()} == {
        name: {expected} for name, (_, expected) in MISBEHAVIOURS.items()
    }


# --- slow readers


async def pause_reading(
    mesh: Mesh, portrait: str, seconds: float, resume: bool
) -> tuple[Transcript, float]:
    """Be a live client that reads nothing for a while, and then resumes or disconnects.

    :return: what it received, and by how many MiB the orchestrator has grown meanwhile.
    """
    transcript, end = Transcript(), asyncio.Event()

    async def audio() -> AsyncIterator[bytes]:
        while not end.is_set():
            async for chunk in paced(bytes(RATE), CHUNK_SECONDS):
                yield chunk

    async with TalkingFace(mesh.target) as face:
        answers = face.animate(
            portrait=portrait,
            audio=audio(),
            audio_format=pcm(RATE),
            output=OUTPUT_KIND_PNG,  # 10 MB a second
            pacing=PACING_LIVE,
        )
        before = most = mesh.resident(ORCHESTRATOR)
        paused = 0.0
        async for message in answers:
            if isinstance(message, Summary):
                length = message.audio_duration.ToMicroseconds() / 1e6
                transcript.dropped_frames = message.dropped_frames
                transcript.expected_frames = int(np.ceil(round(length * FPS, 3)))
            if not isinstance(message, Media):
                continue
            now = time.perf_counter()
            if message.audio:
                transcript.audio_times.append(now)
            if message.frame_count:
                transcript.frame_times.append(now)
                transcript.indices.append(message.first_frame)
            if not paused and message.first_frame >= FPS:
                while paused < seconds:
                    await asyncio.sleep(0.1)
                    paused += 0.1
                    most = max(most, mesh.resident(ORCHESTRATOR))
                if not resume:
                    await answers.aclose()
                    break
                resumed = time.perf_counter()
            elif paused and now > resumed + 2:
                end.set()
    return transcript, most - before


async def test_a_live_client_that_pauses_and_resumes(mesh: Mesh, sessions: list[Session]) -> None:
    transcript, grown = await pause_reading(mesh, sessions[0].portrait, PAUSE_SECONDS, resume=True)
    record(
        f"paused for {longest_gap(transcript.frame_times):.1f} s: {transcript.dropped_frames} of "
        f"{transcript.expected_frames} frames left out, orchestrator {grown:.1f} MiB larger"
    )
    assert len(transcript.indices) + transcript.dropped_frames == transcript.expected_frames
    assert transcript.indices == sorted(set(transcript.indices))
    assert grown < 40
    await mesh.until_idle()


async def test_a_live_client_that_pauses_and_disconnects(
    mesh: Mesh, sessions: list[Session]
) -> None:
    _, grown = await pause_reading(mesh, sessions[0].portrait, PAUSE_SECONDS, resume=False)
    began = time.perf_counter()
    await mesh.until_idle()
    record(f"all slots free after {time.perf_counter() - began:.2f} s; {grown:.1f} MiB larger")
    assert grown < 40
