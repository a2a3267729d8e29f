"""Faults of the network between the orchestrator and its stages."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from talkingface.cli.mesh import ORCHESTRATOR, ServiceProcess
from talkingface.client import OUTPUT_KIND_H264, OUTPUT_KIND_JPEG, OUTPUT_KIND_MOTION
from tests.support.audio import CHUNK_SECONDS, paced, pcm16
from tests.support.links import Link
from tests.support.meshes import FPS, FaultOnce, Mesh, Transcript, longest_gap, run_session
from tests.support.report import record

SECONDS = 5.0
STALL = float(os.environ.get("FAULT_STALL", "10"))


class LinkedService(ServiceProcess):
    """A service that others reach by way of a link."""

    def __init__(
        self, link: Link, name: str, environ: Mapping[str, str], on_line: Callable[[str, str], None]
    ) -> None:
        super().__init__(name, environ, on_line)
        self._link = link

    @property
    def target(self) -> str:
        """Its gRPC address, at this end of the link."""
        return f"127.0.0.1:{self._link.port}"


class LinkedMesh(Mesh):
    """A mesh whose stages are each at the other end of a link."""

    def __init__(self, folder: Path, **options: Any) -> None:
        super().__init__(folder, **options)
        self.links: dict[str, Link] = {}

    def restore_links(self) -> None:
        """Let everything through again."""
        for link in self.links.values():
            link.restore()

    def stop(self) -> None:
        """End everything, the links last."""
        self.restore_links()
        try:
            super().stop()
        finally:
            while self.links:
                self.links.popitem()[1].close()

    def _spawn(self, service: str, name: str, environ: Mapping[str, str]) -> None:
        if service == ORCHESTRATOR:
            super()._spawn(service, name, environ)
            return
        if name not in self.links:
            self.links[name] = Link(lambda: self.processes[name].port)
        environ = {**self._environ, **environ, **self.own_settings(name)}
        link = self.links[name]
        self.processes[name] = LinkedService(link, service, environ, self._on_line)


@pytest.fixture(scope="module")
def linked_mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LinkedMesh]:
    environ = {"TALKINGFACE_STAGE_TIMEOUT": "3"}
    folder = tmp_path_factory.mktemp("linked")
    with LinkedMesh(folder, environ=environ, replicas={"motion_gen": 2}) as mesh:
        yield mesh


@pytest.fixture
async def mesh(linked_mesh: LinkedMesh) -> AsyncIterator[LinkedMesh]:
    """The mesh, in order again after each test."""
    try:
        yield linked_mesh
    finally:
        linked_mesh.restore_links()
        await linked_mesh.recover()


async def offline_motion(
    mesh: LinkedMesh,
    voice: np.ndarray,
    inject_fault: Callable[[Transcript], None] = lambda transcript: None,
) -> Transcript:
    """An offline session without frames at twice the pace of speech, with a fault after 1.5 s."""
    return await run_session(
        mesh.target,
        paced(pcm16(voice, SECONDS), CHUNK_SECONDS / 2),
        portrait=None,
        output=OUTPUT_KIND_MOTION,
        on_frame=FaultOnce(round(1.5 * FPS), inject_fault),
    )


@pytest.fixture(scope="module")
async def expected(linked_mesh: LinkedMesh, voice: np.ndarray) -> str:
    """The hash of that session's motion without a fault."""
    return (await offline_motion(linked_mesh, voice)).digest


async def test_a_cut_link_to_one_of_two_replicas(
    mesh: LinkedMesh, voice: np.ndarray, expected: str
) -> None:
    """Nothing reports that the connection is gone; the other replica takes over nevertheless."""
    began = time.perf_counter()
    transcript = await offline_motion(
        mesh,
        voice,
        lambda transcript: mesh.links[transcript.replicas["motion_gen"]].cut(),
    )
    record(f"{time.perf_counter() - began:.1f} s, recovered {transcript.recovered}")
    assert [name for name, _ in transcript.recovered] == ["motion_gen"]
    assert transcript.digest == expected


async def test_a_cut_link_in_a_live_session(
    mesh: LinkedMesh, portrait_image: bytes, voice: np.ndarray
) -> None:
    transcript = await run_session(
        mesh.target,
        paced(pcm16(voice, 6.0), CHUNK_SECONDS),
        portrait=portrait_image,
        output=OUTPUT_KIND_JPEG,
        size=256,
        live=True,
        on_frame=FaultOnce(
            round(2.5 * FPS),
            lambda transcript: mesh.links[transcript.replicas["motion_gen"]].cut(),
        ),
    )
    record(transcript.live_figures())
    assert [name for name, _ in transcript.recovered] == ["motion_gen"]
    assert transcript.stall <= STALL


async def test_a_link_that_is_restored(mesh: LinkedMesh, voice: np.ndarray, expected: str) -> None:
    """The only replica of a stage cannot be reached for a while."""
    link = mesh.links["audio_features"]

    def inject_fault(transcript: Transcript) -> None:
        link.cut()
        asyncio.get_running_loop().call_later(2.0, link.restore)

    transcript = await offline_motion(mesh, voice, inject_fault)
    gap = longest_gap(transcript.frame_times)
    record(f"link cut for 2 s: no motion for {gap:.2f} s, recovered {transcript.recovered}")
    assert gap > 0.5, "the cut had no effect"
    assert transcript.digest == expected


async def test_a_fifth_of_all_packets_lost(
    mesh: LinkedMesh, voice: np.ndarray, expected: str
) -> None:
    for link in mesh.links.values():
        link.lose(0.2)
    began = time.perf_counter()
    transcript = await offline_motion(mesh, voice)
    record(f"{time.perf_counter() - began:.1f} s, recovered {transcript.recovered}")
    assert transcript.digest == expected


async def test_live_at_fifty_megabits(
    mesh: LinkedMesh, portrait_image: bytes, voice: np.ndarray
) -> None:
    for link in mesh.links.values():
        link.limit(50e6)
    transcript = await run_session(
        mesh.target,
        paced(pcm16(voice, 5.0), CHUNK_SECONDS),
        portrait=portrait_image,
        output=OUTPUT_KIND_H264,
        live=True,
    )
    record(f"512 pixels: {transcript.live_figures()}")
    assert transcript.recovered == []
