"""For tests of faults: meshes whose processes can be struck, and sessions seen from the client."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import itertools
import os
import signal
import time
import urllib.request
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import grpc
import numpy as np

from talkingface.cli.mesh import ORCHESTRATOR, LocalMesh, log_to
from talkingface.client import (
    OUTPUT_KIND_MOTION,
    PACING_LIVE,
    PACING_OFFLINE,
    Event,
    Media,
    Motion,
    Started,
    Summary,
    TalkingFace,
    pcm,
)
from talkingface.v1.media_pb2 import OutputKind
from talkingface.v1.stage_pb2 import GetStatusRequest, GetStatusResponse
from talkingface.v1.stage_pb2_grpc import StageStatusServiceStub

RATE = 16_000
FPS = 25
PIECE_SECONDS = 0.04  # of sound in one message
# An orchestrator hears of a replica's return when it asks next: half a second, and up to a second
# for the connection.
HEARD_SECONDS = 1.6

Part = Literal["service", "triton"]


class Mesh(LocalMesh):
    """A mesh whose parts can be killed and frozen; each renderer has a store of its own."""

    def __init__(
        self, folder: Path, *, orchestrator: Mapping[str, str] | None = None, **options: Any
    ) -> None:
        """
        :param folder: for what the services store, and their log.
        :param orchestrator: settings of the orchestrator alone.
        :param options: of `LocalMesh`.
        """
        super().__init__(on_line=log_to(folder / "mesh.log"), **options)
        self._folder = folder
        self._orchestrator = {
            "TALKINGFACE_UPLOAD_STORE": str(folder / "uploads"),
            **(orchestrator or {}),
        }
        self._frozen: set[int] = set()

    def pid_of(self, name: str, part: Part) -> int:
        """Process id of a service, or of its Triton."""
        parent = self.processes[name].pid
        if part == "service":
            return parent
        for folder in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                command, _, rest = (folder / "stat").read_text().partition("(")[2].rpartition(")")
                if int(rest.split()[1]) == parent and command == "tritonserver":
                    return int(folder.name)
        raise AssertionError(f"{name} has no Triton")

    def kill(self, name: str, part: Part) -> None:
        """SIGKILL; a service takes its Triton along, a Triton is started again by its service."""
        os.kill(self.pid_of(name, part), signal.SIGKILL)

    def freeze(self, name: str, part: Part) -> None:
        """SIGSTOP: its sockets stay open, and nobody answers."""
        pid = self.pid_of(name, part)
        self._frozen.add(pid)
        os.kill(pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT to all that are frozen."""
        while self._frozen:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._frozen.pop(), signal.SIGCONT)

    def restart(self, name: str) -> None:
        """Start a service that has ended, at the port that it had."""
        ended = self.processes[name]
        ended.wait(0)
        environ = {"TALKINGFACE_PORT": str(ended.port), "TALKINGFACE_REPLICA": name}
        self._spawn(ended.name, name, environ)

    def restart_dead(self) -> None:
        """Start all stages that have ended."""
        for name, process in list(self.processes.items()):
            if process.exit_code is not None and name != ORCHESTRATOR:
                self.restart(name)

    def logged(self, text: str) -> int:
        """How many lines of the services' logs hold a text."""
        return sum(text in line for line in (self._folder / "mesh.log").open())

    def resident(self, name: str) -> float:
        """Memory of a service, in MiB."""
        pages = int(Path(f"/proc/{self.processes[name].pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20

    async def status(self, name: str) -> GetStatusResponse:
        """What a stage tells of itself.

        :raises grpc.aio.AioRpcError: it does not answer.
        """
        async with grpc.aio.insecure_channel(self.processes[name].target) as channel:
            answer: GetStatusResponse = await StageStatusServiceStub(channel).GetStatus(
                GetStatusRequest(), timeout=2
            )
        return answer

    def sessions(self) -> int:
        """Sessions that the orchestrator holds."""
        port = self.processes[ORCHESTRATOR].metrics_port
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
            lines = answer.read().decode().splitlines()
        return int(sum(float(x.split()[-1]) for x in lines if "talkingface_slots_in_use{" in x))

    async def serving(self, name: str, seconds: float = 60.0) -> None:
        """Wait until a stage takes streams."""
        async with asyncio.timeout(seconds):
            while True:
                if self.processes[name].port:
                    with contextlib.suppress(grpc.aio.AioRpcError):
                        if (await self.status(name)).serving:
                            return
                await asyncio.sleep(0.1)

    async def idle(self, seconds: float = 10.0) -> None:
        """Wait until no slot is taken anywhere."""
        stages = [name for name in self.processes if name != ORCHESTRATOR]
        taken: dict[str, int] = {}
        try:
            async with asyncio.timeout(seconds):
                while True:
                    taken = {name: (await self.status(name)).slots_in_use for name in stages}
                    taken[ORCHESTRATOR] = self.sessions()
                    if not any(taken.values()):
                        return
                    await asyncio.sleep(0.05)
        except TimeoutError:
            raise AssertionError(f"slots are still taken: {taken}") from None

    async def whole(self) -> None:
        """Revive what is frozen or dead, and wait until every replica serves, is free and known."""
        self.thaw()
        self.restart_dead()
        for name in self.processes:
            if name != ORCHESTRATOR:
                await self.serving(name)
        await self.idle()
        await asyncio.sleep(HEARD_SECONDS)
        self.check()

    def stop(self) -> None:
        """End everything, what is frozen too."""
        self.thaw()
        super().stop()

    def _spawn(self, service: str, name: str, environ: Mapping[str, str]) -> None:
        super()._spawn(service, name, {**environ, **self.own_settings(name)})

    def own_settings(self, name: str) -> Mapping[str, str]:
        """Settings of one service alone."""
        if name == ORCHESTRATOR:
            return self._orchestrator
        return {"TALKINGFACE_PORTRAIT_STORE": str(self._folder / name)}


@dataclass
class Seen:
    """What a client has seen of a session."""

    frames: int = 0
    shown: list[int] = field(default_factory=list)
    """Indices of the frames."""
    pictures: list[float] = field(default_factory=list)
    """When they came, seconds of `time.perf_counter`."""
    sounds: list[float] = field(default_factory=list)
    """When pieces of sound came."""
    replicas: dict[str, str] = field(default_factory=dict)
    """Stage -> name of the replica that held it at first."""
    recovered: list[tuple[str, float]] = field(default_factory=list)
    """Stages that were found again, and how long that took, as the session tells."""
    late: int = 0
    """Pictures that were left out, by the summary."""
    expected: int = 0
    """Frames of the whole sound, by the summary."""
    digest: str = ""
    """Hash of all frames, in order."""

    @property
    def stall(self) -> float:
        """The longest time without a picture or without sound, in seconds."""
        gaps = [gap(self.pictures)] + ([gap(self.sounds)] if self.sounds else [])
        return max(gaps)

    @property
    def behind(self) -> float:
        """How late the latest live picture came, compared with the first, in seconds."""
        first, at = self.shown[0], self.pictures[0]
        return max(
            time - at - (index - first) / FPS
            for time, index in zip(self.pictures, self.shown, strict=True)
        )


def gap(times: list[float]) -> float:
    """The longest time between two that follow each other, in seconds."""
    return max((b - a for a, b in itertools.pairwise(times)), default=0.0)


def sound_of(voice: np.ndarray, seconds: float) -> bytes:
    """A voice, repeated or cut to a length, as 16-bit samples."""
    samples = np.resize(voice, round(seconds * RATE))
    return np.rint(np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes()


async def paced(sound: bytes, pause: float) -> AsyncIterator[bytes]:
    """Sound in small pieces with a pause after each; `PIECE_SECONDS` is the pace of a voice."""
    size = round(RATE * PIECE_SECONDS) * 2
    began = time.perf_counter()
    for number, first in enumerate(range(0, len(sound), size)):
        await asyncio.sleep(began + number * pause - time.perf_counter())
        yield sound[first : first + size]


async def watch(
    target: str,
    audio: AsyncIterator[Any],
    *,
    portrait: bytes | str | None,
    output: OutputKind,
    live: bool = False,
    seed: int = 5,
    size: int | None = None,
    deadline: float = 100.0,
    on_frame: Callable[[Seen], None] = lambda seen: None,
) -> Seen:
    """Run a session to its end.

    :param portrait: its file, which is uploaded first, or its handle.
    :param on_frame: called after every answer that holds frames.
    :raises TalkingFaceError: what the session ended with.
    """
    seen, digest = Seen(), hashlib.sha256()
    async with TalkingFace(target) as face, asyncio.timeout(deadline):
        if isinstance(portrait, bytes):
            portrait = (await face.upload_portrait(portrait)).handle
        async for message in face.animate(
            portrait=portrait,
            audio=audio,
            audio_format=pcm(RATE),
            output=output,
            seed=seed,
            size=size if output != OUTPUT_KIND_MOTION else None,
            pacing=PACING_LIVE if live else PACING_OFFLINE,
        ):
            now = time.perf_counter()
            match message:
                case Started():
                    seen.replicas = {info.stage: info.replica for info in message.stages}
                case Media():
                    digest.update(message.data)
                    if message.audio:
                        seen.sounds.append(now)
                    if message.frame_count:
                        last = message.first_frame + message.frame_count
                        seen.shown += range(message.first_frame, last)
                        seen.pictures.append(now)
                        seen.frames += message.frame_count
                        on_frame(seen)
                case Motion():
                    for frame in message.frames:
                        digest.update(frame.SerializeToString(deterministic=True))
                        seen.shown.append(frame.index)
                    seen.pictures.append(now)
                    seen.frames += len(message.frames)
                    on_frame(seen)
                case Event() if message.kind == Event.KIND_RECOVERED:
                    seen.recovered.append((message.stage, message.stall.ToMilliseconds() / 1000))
                case Summary():
                    seconds = message.audio_duration.ToMicroseconds() / 1e6
                    seen.expected = int(np.ceil(round(seconds * FPS, 3)))
                    seen.late = message.dropped_frames
                    assert message.frames == seen.frames
    seen.digest = digest.hexdigest()
    # Every picture is accounted for, none came twice, none out of order.
    assert seen.expected > 0, "the session ended without a summary"
    assert seen.shown == sorted(set(seen.shown))
    assert seen.frames + seen.late == seen.expected
    assert live or seen.late == 0
    return seen
