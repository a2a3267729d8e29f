"""Processes killed in mid-stream: the session goes on, and its result is the same bit for bit."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from talkingface.cli.mesh import STAGES, LocalMesh
from talkingface.client import Event, Media, Motion, NoCapacity, Started, TalkingFace, pcm
from talkingface.common.motion import MOTION_DIM
from talkingface.renderer.picture import View
from talkingface.renderer.session import RenderSession
from talkingface.renderer.store import handle_of
from talkingface.v1.media_pb2 import FRAMING_CROP, OUTPUT_KIND_JPEG, OUTPUT_KIND_MOTION

SEED = 5
SECONDS = 5.0
STRIKE_AT = 45  # frames
DEADLINE = 100.0
RATE = 16_000


class Mesh(LocalMesh):
    """A mesh whose parts can be killed; a killed service is started again at the same port."""

    def kill_triton(self, stage: str) -> None:
        """SIGKILL to the stage's Triton, which the stage starts again."""
        parent = self.processes[stage].pid
        for folder in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                name, _, rest = (folder / "stat").read_text().partition("(")[2].rpartition(")")
                if int(rest.split()[1]) == parent and name == "tritonserver":
                    os.kill(int(folder.name), signal.SIGKILL)
                    return
        raise AssertionError(f"{stage} has no Triton")

    def kill_service(self, stage: str) -> None:
        """SIGKILL to the stage and its Triton."""
        self.processes[stage].kill()
        self.restart(stage)

    def restart(self, name: str) -> None:
        """Start a service that has ended, at the port that it had."""
        ended = self.processes[name]
        ended.wait(0)
        environ = {"TALKINGFACE_PORT": str(ended.port), "TALKINGFACE_REPLICA": name}
        self._spawn(ended.name, name, environ)


@pytest.fixture(scope="module")
def lines() -> list[str]:
    """The mesh's log."""
    return []


@pytest.fixture(scope="module")
def mesh(lines: list[str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    environ = {"TALKINGFACE_PORTRAIT_STORE": str(tmp_path_factory.mktemp("portraits"))}
    with Mesh(environ=environ, on_line=lambda name, line: lines.append(f"{name} {line}")) as mesh:
        yield mesh


async def animate(
    mesh: Mesh,
    portrait: bytes | None,
    voice: np.ndarray,
    output: Any,
    strike: Callable[[], None] | None = None,
    names: list[str] | None = None,
    pace: float = 0.02,
) -> tuple[str, list[str]]:
    """A session's result as a hash, and the stages that it had to find again.

    :param strike: called in mid-stream.
    :param names: filled with the names of the replicas that hold the stages.
    :param pace: seconds to wait after each piece of sound, of 40 ms.
    """
    digest, frames, recovered = hashlib.sha256(), 0, []
    samples = np.resize(voice, int(SECONDS * RATE))
    sound = np.rint(np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes()

    async def audio() -> AsyncIterator[bytes]:
        for first in range(0, len(sound), RATE * 2 // 25):
            yield sound[first : first + RATE * 2 // 25]
            await asyncio.sleep(pace)

    async with TalkingFace(mesh.target) as face, asyncio.timeout(DEADLINE):
        async for message in face.animate(
            portrait=portrait, audio=audio(), audio_format=pcm(RATE), output=output, seed=SEED
        ):
            if isinstance(message, Media):
                digest.update(message.data)
                frames += message.frame_count
            elif isinstance(message, Motion):
                for frame in message.frames:
                    digest.update(frame.SerializeToString(deterministic=True))
                frames += len(message.frames)
            elif isinstance(message, Started) and names is not None:
                names += [stage.replica for stage in message.stages]
            elif isinstance(message, Event) and message.kind == Event.KIND_RECOVERED:
                assert message.stall.ToMilliseconds() >= 0
                recovered.append(message.stage)
            if frames >= STRIKE_AT and strike is not None:
                strike, struck = None, strike
                struck()
    assert frames == SECONDS * 25
    return digest.hexdigest(), recovered


@pytest.mark.parametrize("part", ["kill_triton", "kill_service"])
@pytest.mark.parametrize("stage", STAGES)
async def test_a_session_outlives_any_process(
    mesh: Mesh, stage: str, part: str, portrait_image: bytes, voice: np.ndarray
) -> None:
    output = OUTPUT_KIND_JPEG if stage == "renderer" else OUTPUT_KIND_MOTION
    whole, none = await animate(mesh, portrait_image, voice, output)
    assert not none
    broken, recovered = await animate(
        mesh, portrait_image, voice, output, lambda: getattr(mesh, part)(stage)
    )
    assert recovered == [stage]
    assert broken == whole


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    """Two speech encoders and two motion generators; nothing is rendered."""
    with Mesh(
        stages=("audio_features", "motion_gen"),
        replicas={"audio_features": 2, "motion_gen": 2},
        environ={"TALKINGFACE_SLOTS": "2", "TALKINGFACE_DRAIN_TIMEOUT": "30"},
    ) as mesh:
        yield mesh


async def test_streams_are_spread_over_replicas(pair: Mesh, voice: np.ndarray) -> None:
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


async def test_another_replica_takes_over(pair: Mesh, voice: np.ndarray) -> None:
    whole, _ = await animate(pair, None, voice, OUTPUT_KIND_MOTION)
    names: list[str] = []
    broken, recovered = await animate(
        pair, None, voice, OUTPUT_KIND_MOTION, lambda: pair.processes[names[0]].kill(), names
    )
    assert recovered == ["audio_features"]
    assert broken == whole
    pair.restart(names[0])


async def test_streams_leave_a_stage_that_drains(pair: Mesh, voice: np.ndarray) -> None:
    whole, _ = await animate(pair, None, voice, OUTPUT_KIND_MOTION)
    names: list[str] = []
    leaver = ""

    def leave() -> None:
        nonlocal leaver
        leaver = names[1]
        pair.processes[leaver].terminate()

    moved, recovered = await animate(pair, None, voice, OUTPUT_KIND_MOTION, leave, names)
    assert moved == whole
    assert recovered == [], "the other replica had the stream before this one was gone"
    # It did not have to wait for its stream's end to leave.
    await asyncio.to_thread(pair.processes[leaver].wait, time.monotonic() + DEADLINE)
    assert pair.processes[leaver].exit_code == 0
    pair.restart(leaver)


# --- parts without network


@pytest.mark.parametrize("rate", [25, 40])
@pytest.mark.parametrize("cut", [1, 2, 7])
def test_a_render_session_goes_on_from_its_snapshot(rate: int, cut: int) -> None:
    view = View(FRAMING_CROP, 512, 512)
    motion = np.random.default_rng(0).random((20, MOTION_DIM), np.float32)
    image = {"image": np.zeros((512, 512, 3), np.uint8)}

    def requests(session: RenderSession, most: int = 1000) -> list[np.ndarray]:
        found = []
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
    assert np.array_equal(*rests)
