"""Sessions that outlive their orchestrator: the cut through the stages, and killed servers."""

from __future__ import annotations

import asyncio
import hashlib
import os
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from conftest import ServiceProcess

from talkingface.client import (
    OUTPUT_KIND_H264,
    OUTPUT_KIND_JPEG,
    OUTPUT_KIND_MOTION,
    PACING_LIVE,
    PACING_OFFLINE,
    Controls,
    ControlUpdate,
    EndOfUtterance,
    Event,
    HeadRotation,
    InvalidInput,
    Media,
    Motion,
    Started,
    Summary,
    TalkingFace,
    TalkingFaceError,
    Unavailable,
    pcm,
)

RUNS = int(os.environ.get("RESUME_RUNS", "2"))
DEADLINE = 100.0
RATE = 16_000
SECONDS = 6.0


class Orchestrators:
    """Several orchestrators of the same stages, each at a port of its own that it keeps."""

    def __init__(self, count: int, folder: Path, **settings: str) -> None:
        self._folder, self._settings = folder, settings
        self.services = [self._start(number, "0") for number in range(count)]
        for service in self.services:
            service.wait_until_serving()
        self._ports = [service.address.rpartition(":")[2] for service in self.services]

    @property
    def target(self) -> str:
        """All of them."""
        return "ipv4:" + ",".join(f"127.0.0.1:{port}" for port in self._ports)

    def holder(self) -> int:
        """Which of them holds a session."""
        (holder,) = (
            number
            for number, service in enumerate(self.services)
            if service.process.poll() is None and service.slots_in_use()
        )
        return holder

    def kill(self, number: int) -> None:
        """SIGKILL."""
        self.services[number].process.kill()
        self.services[number].process.wait()

    def start(self, number: int) -> None:
        """Start one that has ended, at the port that it had."""
        self.services[number] = self._start(number, self._ports[number])

    def stop(self) -> None:
        """End all."""
        for service in self.services:
            service.stop()

    def _start(self, number: int, port: str) -> ServiceProcess:
        log = self._folder / f"resume-{number}-{time.time_ns()}.log"
        return ServiceProcess("talkingface.orchestrator.server", log, port=port, **self._settings)


@pytest.fixture(scope="module")
def orchestrators(
    service_logs: Path,
    tmp_path_factory: pytest.TempPathFactory,
    audio_features_service: ServiceProcess,
    motion_gen_service: ServiceProcess,
    renderer_service: ServiceProcess,
) -> Iterator[Orchestrators]:
    found = Orchestrators(
        2,
        service_logs,
        audio_features_target=audio_features_service.address,
        motion_gen_target=motion_gen_service.address,
        renderer_target=renderer_service.address,
        upload_store=str(tmp_path_factory.mktemp("uploads")),
    )
    yield found
    found.stop()


@dataclass
class Seen:
    """What came of a session."""

    motion: list[bytes] = field(default_factory=list)
    pictures: list[tuple[int, bytes]] = field(default_factory=list)
    sound: bytes = b""
    events: list[Event] = field(default_factory=list)
    summary: Summary | None = None
    times: list[float] = field(default_factory=list)

    @property
    def frames(self) -> int:
        return len(self.motion) + len(self.pictures)

    @property
    def stalls(self) -> list[float]:
        return [
            event.stall.ToMilliseconds() / 1000
            for event in self.events
            if event.kind == Event.KIND_RECOVERED and event.stage == "orchestrator"
        ]


def said(voice: np.ndarray, seconds: float, rate: int = RATE) -> bytes:
    samples = np.resize(voice, int(seconds * rate))
    return np.rint(np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes()


async def run(
    target: str,
    audio: Any,
    strike_at: int | None = None,
    strike: Callable[[], Any] = lambda: None,
    seen: Seen | None = None,
    **options: Any,
) -> Seen:
    """A session; `strike` is called when so many frames have come."""
    seen = seen if seen is not None else Seen()
    options = {
        "portrait": None, "output": OUTPUT_KIND_MOTION, "audio_format": pcm(RATE),
        "resumable": True, "seed": 3, **options,
    }  # fmt: skip
    async with TalkingFace(target) as face, asyncio.timeout(DEADLINE):
        async for message in face.animate(audio=audio, **options):
            match message:
                case Motion():
                    for frame in message.frames:
                        assert frame.index == len(seen.motion)
                        seen.motion.append(frame.SerializeToString(deterministic=True))
                case Media():
                    if message.frame_count:
                        seen.pictures.append((message.first_frame, message.data))
                    seen.sound += message.audio
                case Event():
                    seen.events.append(message)
                case Summary():
                    seen.summary = message
            if isinstance(message, Motion | Media):
                seen.times.append(time.perf_counter())
            if strike_at is not None and seen.frames >= strike_at:
                strike_at = None
                await asyncio.to_thread(strike)
    assert seen.summary is not None
    return seen


def paced(sound: bytes, pause: float = 0.02) -> Callable[[], AsyncIterator[Any]]:
    """Pieces of 40 ms with changes of controls between them."""

    async def pieces() -> AsyncIterator[Any]:
        for number, first in enumerate(range(0, len(sound), RATE * 2 // 25)):
            if number % 30 == 7:
                yaw = 10.0 * (-1) ** (number // 30)
                yield ControlUpdate(controls=Controls(head_pose=HeadRotation(yaw=yaw)))
            yield sound[first : first + RATE * 2 // 25]
            await asyncio.sleep(pause)

    return pieces


@pytest.mark.parametrize("number", range(RUNS))
async def test_offline_motion_is_the_same_bit_for_bit(
    orchestrators: Orchestrators, voice: np.ndarray, number: int
) -> None:
    """One orchestrator is killed; the other goes on."""
    audio = paced(said(voice, SECONDS))
    whole = await run(orchestrators.target, audio())
    assert not whole.stalls

    def strike() -> None:
        nonlocal killed
        killed = orchestrators.holder()
        orchestrators.kill(killed)

    killed = -1
    strike_at = int(np.random.default_rng(number).integers(5, 140))
    broken = await run(orchestrators.target, audio(), strike_at, strike)
    print(f"\nkilled after {strike_at} frames: nothing came for {broken.stalls} s")
    assert len(broken.stalls) == 1
    assert broken.motion == whole.motion
    assert broken.summary is not None and whole.summary is not None
    assert broken.summary.frames == whole.summary.frames == len(whole.motion)
    voices = [
        [(e.kind, e.time.ToMicroseconds()) for e in s.events if e.kind != Event.KIND_RECOVERED]
        for s in (whole, broken)
    ]
    assert voices[0] == voices[1]
    orchestrators.start(killed)
    orchestrators.services[killed].wait_until_serving()
