"""Processes killed in mid-stream: the session goes on, and its result is the same bit for bit."""

from __future__ import annotations

import contextlib
import hashlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from talkingface.cli.mesh import STAGES, LocalMesh, ServiceProcess
from talkingface.client import Event, Media, Motion, TalkingFace, pcm
from talkingface.common.motion import MOTION_DIM
from talkingface.renderer.picture import View
from talkingface.renderer.session import RenderSession
from talkingface.renderer.store import handle_of
from talkingface.v1.media_pb2 import FRAMING_CROP, OUTPUT_KIND_JPEG, OUTPUT_KIND_MOTION

SEED = 5
SECONDS = 5.0
KILL_AT = 45  # frames
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
        killed = self.processes[stage]
        killed.kill()
        killed.wait(0)
        environ = {**self._environ, "TALKINGFACE_PORT": str(killed.port)}
        self.processes[stage] = ServiceProcess(stage, environ, self._on_line)


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
    mesh: Mesh, portrait: bytes, voice: np.ndarray, output: Any, kill: Any = None
) -> tuple[str, list[str]]:
    """A session's result as a hash, and the stages that it had to find again."""
    digest, frames, recovered = hashlib.sha256(), 0, []
    samples = np.resize(voice, int(SECONDS * RATE))
    sound = np.rint(np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes()
    async with TalkingFace(mesh.target) as face:
        async for message in face.animate(
            portrait=portrait, audio=sound, audio_format=pcm(RATE), output=output, seed=SEED
        ):
            if isinstance(message, Media):
                digest.update(message.data)
                frames += message.frame_count
            elif isinstance(message, Motion):
                for frame in message.frames:
                    digest.update(frame.SerializeToString(deterministic=True))
                frames += len(message.frames)
            elif isinstance(message, Event) and message.kind == Event.KIND_RECOVERED:
                assert message.stall.ToMilliseconds() > 0
                recovered.append(message.stage)
            if frames >= KILL_AT and kill is not None:
                kill, killer = None, kill
                killer()
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
