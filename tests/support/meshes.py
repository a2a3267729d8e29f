"""For tests of faults: meshes whose processes can fail, and sessions as a client receives them."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import itertools
import os
import signal
import time
import urllib.request
import warnings
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import grpc
import numpy as np

from talkingface.cli.mesh import ORCHESTRATOR, LocalMesh, MeshError, log_to
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
from tests.support.audio import RATE

FPS = 25

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
        # Stated, so that no test depends on what the machine holds.
        options["environ"] = {"TALKINGFACE_SLOTS": "4", **(options.get("environ") or {})}
        super().__init__(on_line=log_to(folder / "mesh.log"), **options)
        self._folder = folder
        self._orchestrator = {
            "TALKINGFACE_UPLOAD_STORE": str(folder / "uploads"),
            **(orchestrator or {}),
        }
        self._frozen: set[int] = set()

    def start(self) -> None:
        """Start all services, once more where a busy machine let them miss the deadline.

        :raises MeshError: one of them cannot start; nothing is left running.
        """
        try:
            super().start()
        except MeshError as error:
            if "did not start in time" not in str(error):
                raise
            warnings.warn(f"the mesh is started once more: {error}", stacklevel=2)
            self.processes.clear()
            super().start()

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

    def count_logged(self, text: str) -> int:
        """How many lines of the services' logs contain a text."""
        return sum(text in line for line in (self._folder / "mesh.log").open())

    def resident(self, name: str) -> float:
        """Memory of a service, in MiB."""
        pages = int(Path(f"/proc/{self.processes[name].pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20

    async def status(self, name: str) -> GetStatusResponse:
        """The status that a stage reports.

        :raises grpc.aio.AioRpcError: it does not answer.
        """
        async with grpc.aio.insecure_channel(self.processes[name].target) as channel:
            answer: GetStatusResponse = await StageStatusServiceStub(channel).GetStatus(
                GetStatusRequest(), timeout=2
            )
        return answer

    def metric(self, sample: str) -> int:
        """The sum of the orchestrator's samples that contain a text, such as `name{`."""
        port = self.processes[ORCHESTRATOR].metrics_port
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as answer:
            lines = answer.read().decode().splitlines()
        return int(sum(float(line.split()[-1]) for line in lines if sample in line))

    async def until_serving(self, name: str, seconds: float = 120.0) -> None:
        """Wait until a stage takes streams."""
        async with asyncio.timeout(seconds):
            while True:
                if self.processes[name].port:
                    with contextlib.suppress(grpc.aio.AioRpcError):
                        if (await self.status(name)).serving:
                            return
                await asyncio.sleep(0.1)

    async def until_idle(self, seconds: float = 30.0) -> None:
        """Wait until no slot is taken anywhere."""
        stages = [name for name in self.processes if name != ORCHESTRATOR]
        taken: dict[str, int] = {}
        try:
            async with asyncio.timeout(seconds):
                while True:
                    taken = {name: (await self.status(name)).slots_in_use for name in stages}
                    taken[ORCHESTRATOR] = self.metric("talkingface_slots_in_use{")
                    if not any(taken.values()):
                        return
                    await asyncio.sleep(0.05)
        except TimeoutError:
            raise AssertionError(f"slots are still taken: {taken}") from None

    def _replicas_serving(self) -> int:
        return self.metric("talkingface_replicas_serving{")

    async def until_discovered(self, seconds: float = 60.0) -> None:
        """Wait until the orchestrator counts every replica among those that take streams."""
        async with asyncio.timeout(seconds):
            # Another process: there is no event to wait for.
            while self._replicas_serving() < len(self.processes) - 1:  # noqa: ASYNC110
                await asyncio.sleep(0.05)

    async def recover(self) -> None:
        """Restart what is frozen or dead, and wait until every replica serves and is idle."""
        self.thaw()
        self.restart_dead()
        for name in self.processes:
            if name != ORCHESTRATOR:
                await self.until_serving(name)
        await self.until_idle()
        await self.until_discovered()
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
class Transcript:
    """What a client has received in a session."""

    frames: int = 0
    """Frames that came."""
    indices: list[int] = field(default_factory=list)
    """Their indices, in the order in which they came."""
    frame_times: list[float] = field(default_factory=list)
    """When messages with frames came, seconds of `time.perf_counter`."""
    audio_times: list[float] = field(default_factory=list)
    """When messages with audio came."""
    replicas: dict[str, str] = field(default_factory=dict)
    """Stage -> name of the replica that held the session at first."""
    recovered: list[tuple[str, float]] = field(default_factory=list)
    """Stages that were recovered, and the stall in seconds that the session reported for each."""
    dropped_frames: int = 0
    """Frames that were left out, by the summary."""
    expected_frames: int = 0
    """Frames of all the audio, by the summary."""
    digest: str = ""
    """Hash of all frames, in order."""

    @property
    def stall(self) -> float:
        """The longest time without a frame or without audio, in seconds."""
        return max(longest_gap(self.frame_times), longest_gap(self.audio_times))

    @property
    def lateness(self) -> float:
        """How late the latest live frame came, compared with the first, in seconds."""
        first, at = self.indices[0], self.frame_times[0]
        return max(
            time - at - (index - first) / FPS
            for time, index in zip(self.frame_times, self.indices, strict=True)
        )

    def live_figures(self) -> str:
        """How a live session went, in words."""
        return (
            f"no frame for {longest_gap(self.frame_times):.2f} s, no audio for "
            f"{longest_gap(self.audio_times):.2f} s, {self.dropped_frames} of "
            f"{self.expected_frames} frames dropped, recovered {self.recovered}"
        )


def longest_gap(times: list[float]) -> float:
    """The longest time between two that follow each other, in seconds."""
    return max((b - a for a, b in itertools.pairwise(times)), default=0.0)


async def run_session(
    target: str,
    audio: AsyncIterator[Any],
    *,
    portrait: bytes | str | None,
    output: OutputKind,
    live: bool = False,
    seed: int = 5,
    size: int | None = None,
    deadline: float = 200.0,
    on_frame: Callable[[Transcript], None] = lambda transcript: None,
) -> Transcript:
    """Run a session to its end.

    :param portrait: its file, which is uploaded first, or its handle.
    :param on_frame: called after every message that holds frames.
    :raises TalkingFaceError: what the session ended with.
    """
    transcript, digest = Transcript(), hashlib.sha256()
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
                    transcript.replicas = {info.stage: info.replica for info in message.stages}
                case Media():
                    digest.update(message.data)
                    if message.audio:
                        transcript.audio_times.append(now)
                    if message.frame_count:
                        end = message.first_frame + message.frame_count
                        transcript.indices += range(message.first_frame, end)
                        transcript.frame_times.append(now)
                        transcript.frames += message.frame_count
                        on_frame(transcript)
                case Motion():
                    for frame in message.frames:
                        digest.update(frame.SerializeToString(deterministic=True))
                        transcript.indices.append(frame.index)
                    transcript.frame_times.append(now)
                    transcript.frames += len(message.frames)
                    on_frame(transcript)
                case Event() if message.kind == Event.KIND_RECOVERED:
                    stall = message.stall.ToMilliseconds() / 1000
                    transcript.recovered.append((message.stage, stall))
                case Summary():
                    seconds = message.audio_duration.ToMicroseconds() / 1e6
                    transcript.expected_frames = int(np.ceil(round(seconds * FPS, 3)))
                    transcript.dropped_frames = message.dropped_frames
                    assert message.frames == transcript.frames
    transcript.digest = digest.hexdigest()
    # Every frame is accounted for, none came twice, none out of order.
    assert transcript.expected_frames > 0, "the session ended without a summary"
    assert transcript.indices == sorted(set(transcript.indices))
    assert transcript.frames + transcript.dropped_frames == transcript.expected_frames
    assert live or transcript.dropped_frames == 0
    return transcript


class FaultOnce:
    """Injects a fault into a running session, once: an `on_frame` of `run_session`."""

    def __init__(self, frame: int, inject: Callable[[Transcript], None]) -> None:
        """
        :param frame: the index of the frame that the session has reached.
        :param inject: causes the fault.
        """
        self._frame, self._inject = frame, inject
        self.injected = False

    def __call__(self, transcript: Transcript) -> None:
        if not self.injected and transcript.indices and transcript.indices[-1] >= self._frame - 1:
            self.injected = True
            self._inject(transcript)
