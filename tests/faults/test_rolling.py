"""Replicas of every stage are replaced while sessions run: none of them notices.

`ROLLING_ROUNDS` sets how often each is replaced; by default one replica of each stage is, once.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import time
from collections.abc import AsyncIterator, Iterator

import numpy as np
import pytest

from talkingface.cli.mesh import STAGES
from talkingface.client import OUTPUT_KIND_JPEG, OUTPUT_KIND_MOTION
from tests.support.audio import CHUNK_SECONDS, paced, pcm16
from tests.support.meshes import Mesh, run_session
from tests.support.report import record

ROUNDS = int(os.environ.get("ROLLING_ROUNDS", "0"))
REPLACED = [
    *STAGES,
    *(name for _ in range(ROUNDS) for stage in STAGES for name in (f"{stage}-2", stage)),
]
DEADLINE = 200.0  # seconds, of one replacement
SECONDS = 4.0  # of an offline session
SIZE = 256


@pytest.fixture
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    environ = {"TALKINGFACE_DRAIN_TIMEOUT": "20"}
    folder = tmp_path_factory.mktemp("rolling")
    with Mesh(folder, environ=environ, replicas=dict.fromkeys(STAGES, 2)) as mesh:
        yield mesh


async def replace(mesh: Mesh, name: str) -> float:
    """Shut a replica down and start it again, until it serves; the seconds of its shutdown."""
    began = time.perf_counter()
    process = mesh.processes[name]
    process.terminate()
    while process.exit_code is None:
        assert time.perf_counter() < began + DEADLINE, f"{name} does not end"
        await asyncio.sleep(0.05)
    assert process.exit_code == 0
    gone = time.perf_counter() - began
    mesh.restart(name)
    await mesh.until_serving(name, DEADLINE)
    await mesh.until_discovered()
    return gone


@pytest.mark.timeout(300 + 300 * ROUNDS)
async def test_a_rolling_restart_loses_no_session(
    mesh: Mesh, portrait_image: bytes, voice: np.ndarray
) -> None:
    over = asyncio.Event()

    async def offline(seed: int) -> str:
        audio = paced(pcm16(voice, SECONDS), CHUNK_SECONDS / 2)
        transcript = await run_session(
            mesh.target, audio, portrait=None, output=OUTPUT_KIND_MOTION, seed=seed
        )
        return transcript.digest

    async def repeat(seed: int, expected: str) -> int:
        for count in itertools.count():
            if over.is_set():
                return count
            assert await offline(seed) == expected
        raise AssertionError("unreachable")

    async def talk() -> AsyncIterator[bytes]:
        while not over.is_set():
            async for chunk in paced(pcm16(voice, 2.0), CHUNK_SECONDS):
                yield chunk

    alone = [await offline(seed) for seed in (1, 2)]
    async with asyncio.TaskGroup() as group:
        sessions = [group.create_task(repeat(i + 1, alone[i])) for i in range(2)]
        live = group.create_task(
            run_session(
                mesh.target,
                talk(),
                portrait=portrait_image,
                output=OUTPUT_KIND_JPEG,
                live=True,
                size=SIZE,
                deadline=200 + 300 * ROUNDS,
            )
        )
        try:
            for name in REPLACED:
                record(f"{name} had shut down after {await replace(mesh, name):.1f} s")
        finally:
            over.set()
    done, transcript = [task.result() for task in sessions], live.result()
    record(
        f"{sum(done)} offline sessions with the same bits; live for "
        f"{transcript.expected_frames / 25:.0f} s: {transcript.live_figures()}, the latest frame "
        f"{transcript.lateness:.2f} s late"
    )
    assert min(done) > 0
    await mesh.recover()
