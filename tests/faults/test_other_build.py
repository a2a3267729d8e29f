"""The middle of an upgrade: the build that serves a session dies, and only another one is left.

A checkpoint is read by the build alone that made it. The session must go on all the same.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest

import talkingface
from talkingface.cli.mesh import STAGES
from talkingface.client import (
    OUTPUT_KIND_FMP4,
    OUTPUT_KIND_H264,
    OUTPUT_KIND_MOTION,
    Event,
    Motion,
    Summary,
    TalkingFace,
    pcm,
)
from talkingface.contract.messages import motion_array
from talkingface.contract.motion import YAW
from talkingface.v1.motion_gen_pb2 import MotionChunk
from tests.support.meshes import PIECE_SECONDS, RATE, Mesh, Seen, paced, sound_of, watch

SIZE = 256
DEADLINE = 100.0
SECONDS = 8.0
# A constant of every stage, and of the orchestrator, that decides results.
CHANGES = {
    "audio_features/session.py": ("np.clip(pcm, -1.0, 1.0)", "np.clip(pcm, -0.999, 1.0)"),
    "motion_gen/session.py": ("NECK_RATE = 40.0", "NECK_RATE = 39.0"),
    "renderer/session.py": (
        'MODEL_NAME = "frame_synthesis"',
        'MODEL_NAME = str("frame_synthesis")',
    ),
}


def other_build(folder: Path) -> Path:
    """A copy of the package that gives other results, in a folder for PYTHONPATH."""
    source = Path(talkingface.__file__).parent
    copy = folder / "talkingface"
    shutil.copytree(source, copy, ignore=shutil.ignore_patterns("__pycache__", "README.md"))
    for name, (before, after) in CHANGES.items():
        text = (copy / name).read_text()
        assert text.count(before) == 1, name
        (copy / name).write_text(text.replace(before, after))
    return folder


class MeshOfTwoBuilds(Mesh):
    """Two replicas of every stage; the second one is of another build."""

    def __init__(self, folder: Path) -> None:
        self._other = str(other_build(folder / "other"))
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
    await two_builds.whole()


async def test_the_builds_are_told_apart(mesh: MeshOfTwoBuilds) -> None:
    for stage in STAGES:
        models = {(await mesh.status(name)).info.model for name in (stage, f"{stage}-2")}
        assert len(models) == 2, stage
        assert len({model.partition("@")[0] for model in models}) == 1


@pytest.mark.parametrize("stage", STAGES)
async def test_an_offline_job_is_finished_by_another_build(
    mesh: MeshOfTwoBuilds, portrait_image: bytes, voice: np.ndarray, stage: str
) -> None:
    """Every frame comes once, in an MP4 that can be played; see `watch`."""
    killed = False

    def kill(seen: Seen) -> None:
        nonlocal killed
        if not killed and seen.frames > 12:
            killed = True
            mesh.kill(seen.replicas[stage], "service")

    audio = paced(sound_of(voice, SECONDS), PIECE_SECONDS)
    seen = await watch(
        mesh.target, audio, portrait=portrait_image, output=OUTPUT_KIND_FMP4, size=SIZE,
        on_frame=kill,
    )  # fmt: skip
    assert killed
    assert [name for name, _ in seen.recovered] == [stage]
    assert seen.frames == SECONDS * 25


@pytest.mark.parametrize("stage", STAGES)
async def test_a_live_session_goes_on_at_another_build(
    mesh: MeshOfTwoBuilds, portrait_image: bytes, voice: np.ndarray, stage: str
) -> None:
    killed = False

    def kill(seen: Seen) -> None:
        nonlocal killed
        if not killed and seen.shown[-1] > 50:
            killed = True
            mesh.kill(seen.replicas[stage], "service")

    seen = await watch(
        mesh.target,
        paced(sound_of(voice, SECONDS), PIECE_SECONDS),
        portrait=portrait_image,
        output=OUTPUT_KIND_H264,
        live=True,
        size=SIZE,
        on_frame=kill,
    )
    print(
        f"\n{stage}: {seen.recovered}; no frame for {seen.stall:.2f} s, {seen.late} of "
        f"{seen.expected} dropped"
    )
    assert killed
    assert [name for name, _ in seen.recovered] == [stage]
    assert seen.shown[-1] > seen.expected - 25, "it shows the end again"


async def test_motion_goes_on_without_a_jump(mesh: MeshOfTwoBuilds, voice: np.ndarray) -> None:
    audio = sound_of(voice, SECONDS)

    async def run(kill_after: int | None) -> tuple[np.ndarray, list[Event]]:
        frames, events, holder = [], [], ""
        async with TalkingFace(mesh.target) as face, asyncio.timeout(DEADLINE):
            async for message in face.animate(
                portrait=None,
                audio=paced(audio, PIECE_SECONDS / 2),
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
                elif not isinstance(message, Summary):
                    (holder,) = (i.replica for i in message.stages if i.stage == "motion_gen")
        motion = motion_array(MotionChunk(frames=frames), 0)
        return motion, [event for event in events if event.kind == Event.KIND_RECOVERED]

    whole, _ = await run(None)
    broken, recovered = await run(60)
    assert len(broken) == len(whole) == SECONDS * 25
    assert [(event.stage, event.restarted) for event in recovered] == [("motion_gen", True)]
    steps = [np.abs(np.diff(motion[:, YAW])).max() for motion in (whole, broken)]
    print(f"\nlargest step of yaw: {steps[0]:.2f} undisturbed, {steps[1]:.2f} degrees a frame")
    assert steps[1] < max(3 * steps[0], 3.0)
