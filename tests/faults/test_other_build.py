"""The middle of an upgrade: the build that serves a session dies, and only another one is left.

A checkpoint is read by the build alone that made it. The session must go on all the same.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from talkingface.cli.mesh import STAGES
from talkingface.client import (
    OUTPUT_KIND_FMP4,
    OUTPUT_KIND_H264,
    OUTPUT_KIND_MOTION,
    Event,
    Motion,
    Started,
    TalkingFace,
    pcm,
)
from talkingface.contract.messages import motion_array
from talkingface.contract.motion import YAW
from talkingface.v1.motion_gen_pb2 import MotionChunk
from tests.support.audio import CHUNK_SECONDS, RATE, paced, pcm16
from tests.support.builds import other_build
from tests.support.meshes import FaultOnce, Mesh, run_session
from tests.support.report import record

SIZE = 256
DEADLINE = 200.0
SECONDS = 6.0
# A constant of every stage that decides results.
CHANGES = {
    "audio_features/session.py": ("np.clip(pcm, -1.0, 1.0)", "np.clip(pcm, -0.999, 1.0)"),
    "motion_gen/session.py": ("NECK_RATE = 40.0", "NECK_RATE = 39.0"),
    "renderer/session.py": (
        'MODEL_NAME = "frame_synthesis"',
        'MODEL_NAME = str("frame_synthesis")',
    ),
}


class MeshOfTwoBuilds(Mesh):
    """Two replicas of every stage; the second one is of another build."""

    def __init__(self, folder: Path) -> None:
        self._other = str(other_build(folder / "other", CHANGES))
        super().__init__(folder, replicas=dict.fromkeys(STAGES, 2))

    def own_settings(self, name: str) -> Mapping[str, str]:
        settings = dict(super().own_settings(name))
        return {**settings, "PYTHONPATH": self._other} if name.endswith("-2") else settings


@pytest.fixture(scope="module")
def two_builds(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MeshOfTwoBuilds]:
    with MeshOfTwoBuilds(tmp_path_factory.mktemp("two_builds")) as mesh:
        yield mesh


@pytest.fixture
async def mesh(two_builds: MeshOfTwoBuilds) -> AsyncIterator[MeshOfTwoBuilds]:
    yield two_builds
    await two_builds.recover()


async def test_the_builds_are_distinguished(mesh: MeshOfTwoBuilds) -> None:
    for stage in STAGES:
        models = {(await mesh.status(name)).info.model for name in (stage, f"{stage}-2")}
        assert len(models) == 2, stage
        assert len({model.partition("@")[0] for model in models}) == 1


@pytest.mark.parametrize("stage", STAGES)
async def test_an_offline_job_is_finished_by_another_build(
    mesh: MeshOfTwoBuilds, portrait_image: bytes, voice: np.ndarray, stage: str
) -> None:
    """Every frame comes once, in an MP4 that can be played; see `run_session`."""
    kill = FaultOnce(13, lambda transcript: mesh.kill(transcript.replicas[stage], "service"))
    transcript = await run_session(
        mesh.target,
        paced(pcm16(voice, SECONDS), CHUNK_SECONDS),
        portrait=portrait_image,
        output=OUTPUT_KIND_FMP4,
        size=SIZE,
        on_frame=kill,
    )
    assert kill.injected
    assert [name for name, _ in transcript.recovered] == [stage]
    assert transcript.frames == SECONDS * 25


@pytest.mark.parametrize("stage", STAGES)
async def test_a_live_session_goes_on_at_another_build(
    mesh: MeshOfTwoBuilds, portrait_image: bytes, voice: np.ndarray, stage: str
) -> None:
    kill = FaultOnce(52, lambda transcript: mesh.kill(transcript.replicas[stage], "service"))
    transcript = await run_session(
        mesh.target,
        paced(pcm16(voice, SECONDS), CHUNK_SECONDS),
        portrait=portrait_image,
        output=OUTPUT_KIND_H264,
        live=True,
        size=SIZE,
        on_frame=kill,
    )
    record(transcript.live_figures())
    assert kill.injected
    # On a busy machine another stage may fall silent as well, for a moment.
    assert stage in [name for name, _ in transcript.recovered]
    assert transcript.indices[-1] > transcript.expected_frames - 25, "it shows the end again"


async def test_motion_goes_on_without_a_jump(mesh: MeshOfTwoBuilds, voice: np.ndarray) -> None:
    audio = pcm16(voice, SECONDS)

    async def run(kill_after: int | None) -> tuple[np.ndarray, list[Event]]:
        frames: list[Any] = []
        events: list[Event] = []
        holder = ""
        async with TalkingFace(mesh.target) as face, asyncio.timeout(DEADLINE):
            async for message in face.animate(
                portrait=None,
                audio=paced(audio, CHUNK_SECONDS / 2),
                audio_format=pcm(RATE),
                output=OUTPUT_KIND_MOTION,
                seed=5,
            ):
                if isinstance(message, Motion):
                    frames += message.frames
                    if kill_after is not None and len(frames) > kill_after:
                        kill_after = None
                        mesh.kill(holder, "service")
                elif isinstance(message, Event):
                    events.append(message)
                elif isinstance(message, Started):
                    (holder,) = (i.replica for i in message.stages if i.stage == "motion_gen")
        motion = motion_array(MotionChunk(frames=frames), 0)
        return motion, [event for event in events if event.kind == Event.KIND_RECOVERED]

    whole, _ = await run(None)
    broken, recovered = await run(60)
    assert len(broken) == len(whole) == SECONDS * 25
    assert [(event.stage, event.restarted) for event in recovered] == [("motion_gen", True)]
    steps = [np.abs(np.diff(motion[:, YAW])).max() for motion in (whole, broken)]
    record(f"largest step of yaw: {steps[0]:.2f} undisturbed, {steps[1]:.2f} degrees a frame")
    assert steps[1] < max(3 * steps[0], 3.0)
