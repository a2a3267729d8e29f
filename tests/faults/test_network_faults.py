"""Faults of the network between the orchestrator and its stages, which run in network namespaces.

The namespaces have no name: they and all that is in them end with the processes that use them,
however those end. Needs root, `ip`, `tc` and `iptables`.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import random
import shutil
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from talkingface.cli.mesh import ServiceProcess
from talkingface.client import OUTPUT_KIND_H264, OUTPUT_KIND_JPEG, OUTPUT_KIND_MOTION, OutputKind
from tests.support.meshes import FPS, PIECE_SECONDS, Mesh, Seen, gap, paced, sound_of, watch

SECONDS = 5.0
STALL = float(os.environ.get("FAULT_STALL", "3"))
_CLONE_NEWNET = 0x40000000
_HERE = "/proc/thread-self/ns/net"
_LIBC = ctypes.CDLL(None, use_errno=True)


def _missing() -> str:
    """Why these tests cannot run here; empty where they can."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    absent = [tool for tool in ("ip", "tc", "iptables") if shutil.which(tool) is None]
    if absent:
        return f"no {', '.join(absent)} here"
    try:
        with Namespace().entered():
            sh("iptables -A INPUT -m statistic --mode random --probability 0.5 -j DROP")
            sh("tc qdisc add dev lo root tbf rate 50mbit burst 64kb latency 50ms")
    except (OSError, subprocess.CalledProcessError) as error:
        return f"network namespaces cannot be used here: {error}"
    return ""


def sh(command: str, check: bool = True) -> None:
    """Run a command in the network that this thread is in."""
    subprocess.run(command.split(), check=check, capture_output=True, timeout=10)


class Namespace:
    """A network of its own; it lives as long as this object or a process in it."""

    def __init__(self) -> None:
        """
        :raises OSError: it is not allowed.
        """
        with self._coming_back():
            if _LIBC.unshare(_CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), "unshare")
            self._fd = os.open(_HERE, os.O_RDONLY)
            sh("ip link set lo up")

    @property
    def path(self) -> str:
        """A name of it for `ip`."""
        return f"/proc/{os.getpid()}/fd/{self._fd}"

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        """This thread, and the processes that it starts, are in it."""
        with self._coming_back():
            _enter(self._fd)
            yield

    def close(self) -> None:
        """Give it up."""
        os.close(self._fd)

    @staticmethod
    @contextlib.contextmanager
    def _coming_back() -> Iterator[None]:
        home = os.open(_HERE, os.O_RDONLY)
        try:
            yield
        finally:
            _enter(home)
            os.close(home)


def _enter(fd: int) -> None:
    if _LIBC.setns(fd, _CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "setns")


class Link:
    """A network for one service, and the wire that leads to it from here."""

    def __init__(self) -> None:
        # Two tests at a time on one machine are unlikely to choose the same of 32,768 networks,
        # of the range that is set aside for tests of networks.
        number = random.SystemRandom().randrange(1 << 15)
        net = f"198.{18 + (number >> 14)}.{number >> 6 & 255}"
        low = (number & 63) * 4
        self.here, self.host = f"{net}.{low + 1}", f"{net}.{low + 2}"
        self._wire = f"tf{number}"
        self._namespace = Namespace()
        sh(f"ip link add {self._wire} type veth peer name far netns {self._namespace.path}")
        sh(f"ip address add {self.here}/30 dev {self._wire}")
        sh(f"ip link set {self._wire} up")
        with self.inside():
            sh(f"ip address add {self.host}/30 dev far")
            sh("ip link set far up")

    def inside(self) -> contextlib.AbstractContextManager[None]:
        """Where the service is."""
        return self._namespace.entered()

    def cut(self) -> None:
        """Nothing comes through, and nobody is told."""
        with self.inside():
            sh("ip link set far down")

    def mend(self) -> None:
        """Let it be as it was."""
        with self.inside():
            sh("ip link set far up")
            sh("iptables -F")
            sh("tc qdisc del dev far root", check=False)  # where there is one
        sh(f"tc qdisc del dev {self._wire} root", check=False)

    def lose(self, part: float) -> None:
        """Lose this part of the packets, in each of the two directions."""
        with self.inside():
            for way in ("INPUT -i", "OUTPUT -o"):
                sh(f"iptables -A {way} far -m statistic --mode random --probability {part} -j DROP")

    def slow(self, rate: str) -> None:
        """Let no more than this come through, in each of the two directions."""
        limit = f"root tbf rate {rate} burst 64kb latency 100ms"
        sh(f"tc qdisc add dev {self._wire} {limit}")
        with self.inside():
            sh(f"tc qdisc add dev far {limit}")

    def close(self) -> None:
        """Take it away."""
        sh(f"ip link del {self._wire}", check=False)
        self._namespace.close()


class FarService(ServiceProcess):
    """A service in a network of its own."""

    def __init__(
        self, link: Link, name: str, environ: Mapping[str, str], on_line: Callable
    ) -> None:  # type: ignore[type-arg]
        self._host = link.host
        with link.inside():
            super().__init__(name, {**environ, "TALKINGFACE_HOST": link.host}, on_line)

    @property
    def target(self) -> str:
        """Its gRPC address."""
        return f"{self._host}:{self.port}"


class FarMesh(Mesh):
    """A mesh whose stages are each at the other end of a link."""

    def __init__(self, folder: Path, **options: Any) -> None:
        super().__init__(folder, **options)
        self.links: dict[str, Link] = {}

    def mend(self) -> None:
        """Let all links be as they were."""
        for link in self.links.values():
            link.mend()

    def stop(self) -> None:
        """End everything, the links last."""
        try:
            super().stop()
        finally:
            while self.links:
                self.links.popitem()[1].close()

    def _spawn(self, service: str, name: str, environ: Mapping[str, str]) -> None:
        if service == "orchestrator":
            super()._spawn(service, name, environ)
            return
        if name not in self.links:
            self.links[name] = Link()
        environ = {**self._environ, **environ, **self.own_settings(name)}
        self.processes[name] = FarService(self.links[name], service, environ, self._on_line)


@pytest.fixture(scope="module")
def far_mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FarMesh]:
    if why := _missing():
        pytest.skip(why)
    environ = {"TALKINGFACE_STAGE_TIMEOUT": "3"}
    folder = tmp_path_factory.mktemp("far")
    with FarMesh(folder, environ=environ, replicas={"motion_gen": 2}) as mesh:
        yield mesh


@pytest.fixture
async def mesh(far_mesh: FarMesh) -> AsyncIterator[FarMesh]:
    """The mesh, whole again after each test."""
    try:
        yield far_mesh
    finally:
        far_mesh.mend()
        await far_mesh.whole()


@pytest.fixture(scope="module")
def unbroken() -> dict[OutputKind, str]:
    """Hashes of the sessions without a fault."""
    return {}


async def offline(
    mesh: FarMesh,
    voice: np.ndarray,
    output: OutputKind,
    portrait: bytes | None = None,
    strike: Callable[[Seen], None] = lambda seen: None,
) -> Seen:
    """An offline session at twice its pace, struck in the middle."""
    struck = False

    def on_frame(seen: Seen) -> None:
        nonlocal struck
        if seen.frames >= 1.5 * FPS and not struck:
            struck = True
            strike(seen)

    audio = paced(sound_of(voice, SECONDS), PIECE_SECONDS / 2)
    return await watch(
        mesh.target, audio, portrait=portrait, output=output, size=256, on_frame=on_frame
    )


async def unbroken_motion(mesh: FarMesh, voice: np.ndarray, unbroken: dict[OutputKind, str]) -> str:
    """The hash of a session's motion without a fault."""
    if OUTPUT_KIND_MOTION not in unbroken:
        unbroken[OUTPUT_KIND_MOTION] = (await offline(mesh, voice, OUTPUT_KIND_MOTION)).digest
    return unbroken[OUTPUT_KIND_MOTION]


async def test_a_cut_link_to_one_of_two_replicas(
    mesh: FarMesh, voice: np.ndarray, unbroken: dict[OutputKind, str]
) -> None:
    """Nobody says that the connection is gone; the other replica has the stream nevertheless."""
    expected = await unbroken_motion(mesh, voice, unbroken)
    began = time.perf_counter()
    seen = await offline(
        mesh,
        voice,
        OUTPUT_KIND_MOTION,
        strike=lambda seen: mesh.links[seen.replicas["motion_gen"]].cut(),
    )
    print(f"\noffline: {time.perf_counter() - began:.1f} s, {seen.recovered}")
    assert [name for name, _ in seen.recovered] == ["motion_gen"]
    assert seen.digest == expected


async def test_a_cut_link_in_a_live_session(
    mesh: FarMesh, portrait_image: bytes, voice: np.ndarray
) -> None:
    struck = False

    def on_frame(seen: Seen) -> None:
        nonlocal struck
        if seen.shown[-1] >= 2.5 * FPS and not struck:
            struck = True
            mesh.links[seen.replicas["motion_gen"]].cut()

    seen = await watch(
        mesh.target,
        paced(sound_of(voice, 6.0), PIECE_SECONDS),
        portrait=portrait_image,
        output=OUTPUT_KIND_JPEG,
        size=256,
        live=True,
        on_frame=on_frame,
    )
    print(
        f"\nlive: no picture for {gap(seen.pictures):.2f} s, no sound for {gap(seen.sounds):.2f} "
        f"s, {seen.late} of {seen.expected} pictures late, {seen.recovered}"
    )
    assert [name for name, _ in seen.recovered] == ["motion_gen"]
    assert seen.stall <= STALL


async def test_a_link_that_comes_back(
    mesh: FarMesh, voice: np.ndarray, unbroken: dict[OutputKind, str]
) -> None:
    """The only replica of a stage is out of reach for a while."""
    expected = await unbroken_motion(mesh, voice, unbroken)
    link = mesh.links["audio_features"]

    def strike(seen: Seen) -> None:
        link.cut()
        asyncio.get_running_loop().call_later(2.0, link.mend)

    seen = await offline(mesh, voice, OUTPUT_KIND_MOTION, strike=strike)
    print(f"\nlink away for 2 s: {seen.recovered}, no motion for {gap(seen.pictures):.2f} s")
    assert gap(seen.pictures) > 0.5, "the cut was not felt"
    assert seen.digest == expected


async def test_a_fifth_of_all_packets_lost(
    mesh: FarMesh, voice: np.ndarray, unbroken: dict[OutputKind, str]
) -> None:
    expected = await unbroken_motion(mesh, voice, unbroken)
    for link in mesh.links.values():
        link.lose(0.2)
    began = time.perf_counter()
    seen = await offline(mesh, voice, OUTPUT_KIND_MOTION)
    print(f"\na fifth lost: {time.perf_counter() - began:.1f} s, {seen.recovered}")
    assert seen.digest == expected


async def test_live_at_fifty_megabits(
    mesh: FarMesh, portrait_image: bytes, voice: np.ndarray
) -> None:
    for link in mesh.links.values():
        link.slow("50mbit")
    seen = await watch(
        mesh.target,
        paced(sound_of(voice, 5.0), PIECE_SECONDS),
        portrait=portrait_image,
        output=OUTPUT_KIND_H264,
        live=True,
    )
    print(
        f"\n50 Mbit/s, 512 pixels: {seen.late} of {seen.expected} pictures late, no picture for "
        f"{gap(seen.pictures):.2f} s, {seen.recovered}"
    )
    assert seen.recovered == []
