"""Sessions that outlive their orchestrator: the cut through the stages, and killed servers."""

from __future__ import annotations

import asyncio
import os
import time
import wave
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from conftest import ServiceProcess

from talkingface.client import (
    OUTPUT_KIND_FMP4,
    OUTPUT_KIND_H264,
    OUTPUT_KIND_JPEG,
    OUTPUT_KIND_MOTION,
    PACING_LIVE,
    Controls,
    ControlUpdate,
    EndOfUtterance,
    Event,
    HeadRotation,
    InvalidInput,
    Media,
    Motion,
    MotionFrame,
    Summary,
    TalkingFace,
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

    def kill_holder(self) -> None:
        """SIGKILL to the one that holds a session."""
        self.kill(self.holder())

    def revive(self) -> None:
        """Start all that have ended."""
        for number, service in enumerate(self.services):
            if service.process.poll() is not None:
                self.start(number)
        for service in self.services:
            service.wait_until_serving()

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
def pair(
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


@pytest.fixture
def orchestrators(pair: Orchestrators) -> Orchestrators:
    """Two of them."""
    pair.revive()
    return pair


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

    strike_at = int(np.random.default_rng(number).integers(5, 140))
    broken = await run(orchestrators.target, audio(), strike_at, orchestrators.kill_holder)
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


@pytest.mark.parametrize("rate", [RATE, 24_000, 0])
async def test_audio_of_any_kind_goes_on(
    orchestrators: Orchestrators, voice: np.ndarray, rate: int, tmp_path: Path
) -> None:
    """Bit for bit at 16 kHz and in files (0); else but for the rounding of the resampler."""
    seconds = 4.0
    sound = said(voice, seconds, rate or 24_000)
    if not rate:
        path = tmp_path / "voice.wav"
        with wave.open(str(path), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(24_000)
            file.writeframes(sound)
        sound = path.read_bytes()

    async def audio() -> AsyncIterator[bytes]:
        for first in range(0, len(sound), 4001):
            yield sound[first : first + 4001]
            await asyncio.sleep(0.03)

    options: dict[str, Any] = {"audio_format": pcm(rate) if rate else None}
    whole = await run(orchestrators.target, audio(), **options)

    broken = await run(orchestrators.target, audio(), 70, orchestrators.kill_holder, **options)
    assert len(broken.stalls) == 1
    assert len(broken.motion) == len(whole.motion) == 25 * seconds
    if rate in (0, RATE):
        assert broken.motion == whole.motion
    else:
        frames = [[MotionFrame.FromString(f) for f in s.motion] for s in (whole, broken)]
        tracks = [np.array([frame.coefficients for frame in f]) for f in frames]
        assert np.array_equal(tracks[0][:50], tracks[1][:50])
        np.testing.assert_allclose(*tracks, atol=0.02)


@pytest.mark.parametrize("output", [OUTPUT_KIND_JPEG, OUTPUT_KIND_H264])
async def test_pictures_go_on(
    orchestrators: Orchestrators, portrait_image: bytes, voice: np.ndarray, output: Any
) -> None:
    audio = paced(said(voice, 3.0))
    options = {"portrait": portrait_image, "output": output, "size": 256, "frame_rate": 30}
    whole = await run(orchestrators.target, audio(), **options)

    broken = await run(orchestrators.target, audio(), 50, orchestrators.kill_holder, **options)
    assert len(broken.stalls) == 1
    assert [index for index, _ in broken.pictures] == list(range(90))
    assert broken.sound == whole.sound
    if output == OUTPUT_KIND_JPEG:
        assert broken.pictures == whole.pictures
    else:  # it begins again with an IDR picture
        decoder = av.CodecContext.create("h264", "r")
        shown = [
            frame
            for data in [*(data for _, data in broken.pictures), None]
            for frame in decoder.decode(None if data is None else av.Packet(data))
        ]
        assert len(shown) == 90


@pytest.mark.parametrize("output", [OUTPUT_KIND_MOTION, OUTPUT_KIND_H264])
async def test_a_live_session_goes_on(
    orchestrators: Orchestrators, portrait_image: bytes, voice: np.ndarray, output: Any
) -> None:
    """What was not heard is heard then; what was told is not told again."""
    speech = said(voice[voice != 0], 2.0)
    seen = Seen()

    async def until(seconds: float) -> None:
        while seen.frames < 25 * seconds:  # noqa: ASYNC110
            await asyncio.sleep(0.02)

    async def conversation() -> AsyncIterator[Any]:
        yield speech[: RATE // 2]
        yield EndOfUtterance(id="first")
        await until(1.5)
        yield ControlUpdate(controls=Controls(head_pose=HeadRotation(yaw=15)))
        yield speech
        yield EndOfUtterance(id="second")
        await until(5.0)
        yield speech[:RATE]
        yield EndOfUtterance(id="third")

    options: dict[str, Any] = {"pacing": PACING_LIVE, "output": output}
    if output == OUTPUT_KIND_H264:
        options |= {"portrait": portrait_image, "size": 256}
    await run(orchestrators.target, conversation(), 62, orchestrators.kill_holder, seen, **options)
    print(f"\nlive: nothing came for {seen.stalls} s")
    assert len(seen.stalls) == 1
    told = [event for event in seen.events if event.kind == Event.KIND_UTTERANCE]
    assert [event.utterance_id for event in told] == ["first", "second", "third"]
    played = [event.played.ToMicroseconds() / 1e6 for event in told]
    assert played == pytest.approx([0.25, 2.0, 0.5], abs=0.02)
    assert seen.summary is not None
    if output == OUTPUT_KIND_H264:
        shown = [index for index, _ in seen.pictures]
        assert shown == sorted(set(shown))
        sound = np.frombuffer(seen.sound, "<i2")
        length = seen.summary.audio_duration.ToMicroseconds() / 1e6
        assert len(sound) == pytest.approx(length * RATE, abs=RATE / 100)
        assert np.count_nonzero(sound) == pytest.approx(2.75 * RATE, abs=0.02 * RATE)
        assert len(shown) + seen.summary.late_frames == round(length * 25 + 0.49)
    else:
        yaws = [MotionFrame.FromString(frame).rotation.yaw for frame in seen.motion]
        assert np.mean(yaws[-25:]) > 10, "the control is in force"


async def test_the_same_orchestrator_started_again(
    orchestrators: Orchestrators, voice: np.ndarray
) -> None:
    """There is no other: the client waits for it."""
    audio = paced(said(voice, 4.0))
    target = orchestrators.services[0].address
    whole = await run(target, audio())

    def strike() -> None:
        orchestrators.kill(0)
        orchestrators.start(0)

    broken = await run(target, audio(), 60, strike)
    print(f"\nstarted again: nothing came for {broken.stalls} s")
    assert len(broken.stalls) == 1
    assert broken.motion == whole.motion


async def test_a_session_leaves_a_server_that_drains(
    orchestrators: Orchestrators, voice: np.ndarray
) -> None:
    audio = paced(said(voice, 4.0), 0.04)
    whole = await run(orchestrators.target, audio())
    left = -1

    def strike() -> None:
        nonlocal left
        left = orchestrators.holder()
        orchestrators.services[left].process.terminate()

    moved = await run(orchestrators.target, audio(), 30, strike)
    assert [e.kind for e in moved.events].count(Event.KIND_DRAINING) == 1
    assert len(moved.stalls) == 1
    assert moved.motion == whole.motion
    assert orchestrators.services[left].process.wait(10) == 0, "it need not wait for the session"


async def test_what_is_told_where_it_cannot_go_on(
    orchestrators: Orchestrators, voice: np.ndarray
) -> None:
    target = orchestrators.services[0].address
    with pytest.raises(Unavailable, match="session is lost, call again"):
        await run(
            target, paced(said(voice, 3.0))(), 20, lambda: orchestrators.kill(0), resumable=False
        )
    orchestrators.revive()
    with pytest.raises(InvalidInput, match=r"config\.resumable"):
        await run(target, b"", output=OUTPUT_KIND_FMP4, portrait=b"x")
