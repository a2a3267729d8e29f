"""Sessions that outlive their orchestrator: snapshots of the stages, and killed servers."""

from __future__ import annotations

import asyncio
import os
import time
import wave
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import av
import grpc
import numpy as np
import pytest

from talkingface.client import (
    OUTPUT_KIND_FMP4,
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
    MotionFrame,
    Summary,
    TalkingFace,
    Unavailable,
    pcm,
)
from talkingface.orchestrator.session.resume_token import Tokens
from talkingface.v1.talking_face_pb2 import (
    AnimateConfig,
    AnimateRequest,
    Resume,
    ResumeToken,
)
from talkingface.v1.talking_face_pb2_grpc import TalkingFaceServiceStub
from tests.support.audio import RATE, pcm16
from tests.support.builds import other_build
from tests.support.report import record
from tests.support.services import ServiceProcess, StreamClient, until_free

RUNS = int(os.environ.get("RESUME_RUNS", "1"))
DEADLINE = 200.0  # seconds
SECONDS = 6.0


class Orchestrators:
    """Several orchestrators of the same stages, each at a port of its own that it keeps."""

    def __init__(self, packages: Sequence[str], folder: Path, **settings: str) -> None:
        """
        :param packages: build of each, see `ServiceProcess`.
        """
        self._packages, self._folder, self._settings = packages, folder, settings
        self.services = [self._start(number, "0") for number in range(len(packages))]
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
            if service.process.poll() is None
            and "event=listening" in service.log
            and service.slots_in_use()
        )
        return holder

    def kill(self, number: int) -> None:
        """SIGKILL."""
        self.services[number].process.kill()
        self.services[number].process.wait()

    def kill_holder(self) -> None:
        """SIGKILL to the one that holds a session, which is then started again."""
        holder = self.holder()
        self.kill(holder)
        self.start(holder)

    def recover(self) -> None:
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
        return ServiceProcess(
            "talkingface.orchestrator.server",
            log,
            package=self._packages[number],
            port=port,
            **self._settings,
        )


@pytest.fixture(scope="module")
def settings(
    tmp_path_factory: pytest.TempPathFactory,
    audio_features_service: ServiceProcess,
    motion_gen_service: ServiceProcess,
    renderer_service: ServiceProcess,
) -> dict[str, str]:
    """Settings of orchestrators."""
    return {
        "audio_features_target": audio_features_service.address,
        "motion_gen_target": motion_gen_service.address,
        "renderer_target": renderer_service.address,
        "upload_store": str(tmp_path_factory.mktemp("uploads")),
    }


@pytest.fixture(scope="module")
def pair(service_logs: Path, settings: dict[str, str]) -> Iterator[Orchestrators]:
    found = Orchestrators(["", ""], service_logs, **settings)
    yield found
    found.stop()


@pytest.fixture
def orchestrators(pair: Orchestrators) -> Orchestrators:
    """Two of them."""
    pair.recover()
    return pair


@pytest.fixture
def two_builds(
    service_logs: Path, settings: dict[str, str], tmp_path: Path
) -> Iterator[Orchestrators]:
    """Two orchestrators, the second of another build."""
    changes = {"orchestrator/session/jitter_buffer.py": ("_DECAY = 0.97", "_DECAY = 0.96")}
    found = Orchestrators(["", str(other_build(tmp_path, changes))], service_logs, **settings)
    yield found
    found.stop()


@dataclass
class Transcript:
    """What a client has received in a session."""

    motion: list[bytes] = field(default_factory=list)
    video: list[tuple[int, bytes]] = field(default_factory=list)
    """Indices and data of the frames."""
    audio: bytes = b""
    events: list[Event] = field(default_factory=list)
    summary: Summary | None = None
    times: list[float] = field(default_factory=list)

    @property
    def frames(self) -> int:
        return len(self.motion) + len(self.video)

    @property
    def stalls(self) -> list[float]:
        return [
            event.stall.ToMilliseconds() / 1000
            for event in self.events
            if event.kind == Event.KIND_RECOVERED and event.stage == "orchestrator"
        ]


async def run(
    target: str,
    audio: Any,
    *fault_frames: int,
    inject_fault: Callable[[], Any] = lambda: None,
    transcript: Transcript | None = None,
    **options: Any,
) -> Transcript:
    """Run a session; `inject_fault` is called each time when so many frames have come."""
    due = list(fault_frames)
    transcript = transcript if transcript is not None else Transcript()
    options = {
        "portrait": None, "output": OUTPUT_KIND_MOTION, "audio_format": pcm(RATE),
        "resumable": True, "seed": 3, **options,
    }  # fmt: skip
    async with TalkingFace(target) as face, asyncio.timeout(DEADLINE):
        async for message in face.animate(audio=audio, **options):
            match message:
                case Motion():
                    for frame in message.frames:
                        assert frame.index == len(transcript.motion)
                        transcript.motion.append(frame.SerializeToString(deterministic=True))
                case Media():
                    if message.frame_count:
                        transcript.video.append((message.first_frame, message.data))
                    transcript.audio += message.audio
                case Event():
                    transcript.events.append(message)
                case Summary():
                    transcript.summary = message
            if isinstance(message, Motion | Media):
                transcript.times.append(time.perf_counter())
            if due and transcript.frames >= due[0]:
                del due[0]
                await asyncio.to_thread(inject_fault)
    assert transcript.summary is not None
    return transcript


def paced(audio: bytes, pause: float = 0.02) -> Callable[[], AsyncIterator[Any]]:
    """Chunks of 40 ms with changes of controls between them."""

    async def chunks() -> AsyncIterator[Any]:
        for number, first in enumerate(range(0, len(audio), RATE * 2 // 25)):
            if number % 30 == 7:
                yaw = 10.0 * (-1) ** (number // 30)
                yield ControlUpdate(controls=Controls(head_pose=HeadRotation(yaw=yaw)))
            yield audio[first : first + RATE * 2 // 25]
            await asyncio.sleep(pause)

    return chunks


@pytest.mark.parametrize("number", range(RUNS))
async def test_offline_motion_is_the_same_bit_for_bit(
    orchestrators: Orchestrators, voice: np.ndarray, number: int
) -> None:
    """One orchestrator is killed and the other goes on, or both one after the other."""
    audio = paced(pcm16(voice, SECONDS))
    whole = await run(orchestrators.target, audio())
    assert not whole.stalls

    rng = np.random.default_rng(number)
    moments = sorted(rng.integers(5, 145, 2 - number % 2).tolist())
    broken = await run(
        orchestrators.target, audio(), *moments, inject_fault=orchestrators.kill_holder
    )
    record(f"killed after {moments} frames: nothing came for {broken.stalls} s")
    assert len(broken.stalls) == len(moments)
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
    data = pcm16(voice, seconds, rate or 24_000)
    if not rate:
        path = tmp_path / "voice.wav"
        with wave.open(str(path), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(24_000)
            file.writeframes(data)
        data = path.read_bytes()

    async def audio() -> AsyncIterator[bytes]:
        for first in range(0, len(data), 4001):
            yield data[first : first + 4001]
            await asyncio.sleep(0.03)

    options: dict[str, Any] = {"audio_format": pcm(rate) if rate else None}
    whole = await run(orchestrators.target, audio(), **options)

    broken = await run(
        orchestrators.target, audio(), 70, inject_fault=orchestrators.kill_holder, **options
    )
    assert len(broken.stalls) == 1
    assert len(broken.motion) == len(whole.motion) == 25 * seconds
    if rate in (0, RATE):
        assert broken.motion == whole.motion
    else:
        frames = [[MotionFrame.FromString(f) for f in s.motion] for s in (whole, broken)]
        tracks = [np.array([frame.coefficients for frame in f]) for f in frames]
        assert np.array_equal(tracks[0][:50], tracks[1][:50])
        np.testing.assert_allclose(tracks[0], tracks[1], atol=0.02)


@pytest.mark.parametrize("output", [OUTPUT_KIND_JPEG, OUTPUT_KIND_H264])
async def test_frames_go_on(
    orchestrators: Orchestrators, portrait_image: bytes, voice: np.ndarray, output: Any
) -> None:
    audio = paced(pcm16(voice, 3.0))
    options = {"portrait": portrait_image, "output": output, "size": 256, "frame_rate": 30}
    whole = await run(orchestrators.target, audio(), **options)

    broken = await run(
        orchestrators.target, audio(), 50, inject_fault=orchestrators.kill_holder, **options
    )
    assert len(broken.stalls) == 1
    assert [index for index, _ in broken.video] == list(range(90))
    assert broken.audio == whole.audio
    if output == OUTPUT_KIND_JPEG:
        assert broken.video == whole.video
    else:  # it begins again with an IDR frame
        decoder = av.CodecContext.create("h264", "r")
        shown = [
            frame
            for data in [*(data for _, data in broken.video), None]
            for frame in decoder.decode(None if data is None else av.Packet(data))
        ]
        assert len(shown) == 90


@pytest.mark.parametrize("number", range(RUNS))
@pytest.mark.parametrize("output", [OUTPUT_KIND_MOTION, OUTPUT_KIND_H264])
async def test_a_live_session_goes_on(
    orchestrators: Orchestrators,
    portrait_image: bytes,
    voice: np.ndarray,
    output: Any,
    number: int,
) -> None:
    """Audio that was not played is played then; events that were reported do not come again."""
    fault_frame = int(np.random.default_rng(number).integers(3, 120))
    speech = pcm16(voice[voice != 0], 2.0)
    transcript = Transcript()

    async def until(seconds: float) -> None:
        while transcript.frames < 25 * seconds:  # noqa: ASYNC110
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
    await run(
        orchestrators.target,
        conversation(),
        fault_frame,
        inject_fault=orchestrators.kill_holder,
        transcript=transcript,
        **options,
    )
    record(f"killed after {fault_frame} frames: nothing came for {transcript.stalls} s")
    assert len(transcript.stalls) == 1
    ends = [event for event in transcript.events if event.kind == Event.KIND_PLAYBACK_FINISHED]
    assert [event.utterance_id for event in ends] == ["first", "second", "third"]
    played = [event.played.ToMicroseconds() / 1e6 for event in ends]
    assert played == pytest.approx([0.25, 2.0, 0.5], abs=0.02)
    assert transcript.summary is not None
    if output == OUTPUT_KIND_H264:
        shown = [index for index, _ in transcript.video]
        assert shown == sorted(set(shown))
        samples = np.frombuffer(transcript.audio, "<i2")
        length = transcript.summary.audio_duration.ToMicroseconds() / 1e6
        assert len(samples) == pytest.approx(length * RATE, abs=RATE / 100)
        assert np.count_nonzero(samples) == pytest.approx(2.75 * RATE, abs=0.02 * RATE)
        assert len(shown) + transcript.summary.dropped_frames == round(length * 25 + 0.49)
    else:
        yaws = [MotionFrame.FromString(frame).rotation.yaw for frame in transcript.motion]
        assert np.mean(yaws[-25:]) > 10, "the control is in force"


@pytest.mark.parametrize("live", [False, True])
async def test_an_orchestrator_of_another_build_takes_over(
    two_builds: Orchestrators, voice: np.ndarray, live: bool
) -> None:
    """The session continues without a gap or a jump, with the controls in effect."""
    speech = pcm16(voice, 6.0)

    async def audio() -> AsyncIterator[Any]:
        yield ControlUpdate(controls=Controls(head_pose=HeadRotation(yaw=15), head_motion_scale=0))
        for first in range(0, len(speech), RATE * 2 // 25):
            yield speech[first : first + RATE * 2 // 25]
            await asyncio.sleep(0.04)

    killed: list[int] = []

    def kill() -> None:
        killed.append(two_builds.holder())
        two_builds.kill(killed[0])

    transcript = await run(
        two_builds.target,
        audio(),
        75,
        inject_fault=kill,
        pacing=PACING_LIVE if live else PACING_OFFLINE,
    )
    (stall,) = transcript.stalls
    record(f"another build: no motion for {stall:.2f} s")
    motion = [MotionFrame.FromString(frame) for frame in transcript.motion]
    assert len(motion) >= 150
    assert [frame.index for frame in motion] == list(range(len(motion)))
    yaw = np.array([frame.rotation.yaw for frame in motion])
    assert np.abs(yaw[75:] - 15).max() < 3, "the head stays where it was turned"
    assert np.abs(np.diff(yaw)).max() < 3


async def test_the_same_orchestrator_started_again(
    orchestrators: Orchestrators, voice: np.ndarray
) -> None:
    """There is no other: the client waits for it."""
    audio = paced(pcm16(voice, 4.0))
    target = orchestrators.services[0].address
    whole = await run(target, audio())

    def inject_fault() -> None:
        orchestrators.kill(0)
        orchestrators.start(0)

    broken = await run(target, audio(), 60, inject_fault=inject_fault)
    record(f"nothing came for {broken.stalls} s")
    assert len(broken.stalls) == 1
    assert broken.motion == whole.motion


async def test_a_session_moves_off_a_server_that_drains(
    orchestrators: Orchestrators, voice: np.ndarray
) -> None:
    audio = paced(pcm16(voice, 4.0), 0.04)
    whole = await run(orchestrators.target, audio())
    draining = -1

    def drain() -> None:
        nonlocal draining
        draining = orchestrators.holder()
        orchestrators.services[draining].process.terminate()

    moved = await run(orchestrators.target, audio(), 30, inject_fault=drain)
    assert [e.kind for e in moved.events].count(Event.KIND_DRAINING) == 1
    assert len(moved.stalls) == 1
    assert moved.motion == whole.motion
    process = orchestrators.services[draining].process
    assert process.wait(60) == 0, "it did not have to wait for the session's end"


async def test_leaving_the_loop_ends_the_session(
    orchestrators: Orchestrators, voice: np.ndarray
) -> None:
    service = orchestrators.services[0]
    async with TalkingFace(service.address) as face:
        messages = face.animate(
            portrait=None,
            audio=paced(pcm16(voice, 10.0))(),
            audio_format=pcm(RATE),
            output=OUTPUT_KIND_MOTION,
            resumable=True,
        )
        async for message in messages:
            if isinstance(message, Motion):
                break
        assert service.slots_in_use() == 1
        await messages.aclose()
        record(f"free {await until_free(service) * 1000:.0f} ms after the end")


async def test_an_error_of_the_audio_source_reaches_the_caller(
    orchestrators: Orchestrators, voice: np.ndarray
) -> None:
    async def microphone() -> AsyncIterator[bytes]:
        yield pcm16(voice, 1.0)
        raise RuntimeError("the microphone is gone")

    with pytest.raises(RuntimeError, match="microphone is gone"):
        await run(orchestrators.target, microphone())


async def test_a_session_that_cannot_go_on_fails(
    orchestrators: Orchestrators, voice: np.ndarray
) -> None:
    target = orchestrators.services[0].address
    with pytest.raises(Unavailable, match="session is lost, call again"):
        await run(
            target,
            paced(pcm16(voice, 3.0))(),
            20,
            inject_fault=lambda: orchestrators.kill(0),
            resumable=False,
        )
    orchestrators.recover()
    with pytest.raises(InvalidInput, match=r"config\.resumable"):
        await run(target, b"", output=OUTPUT_KIND_FMP4, portrait=b"x")


@pytest.mark.parametrize(
    "spoil", ["rubbish", "signature", "age", "frame", "frames", "position", "far", "beside"]
)
async def test_what_is_no_token_is_refused(
    orchestrators: Orchestrators, voice: np.ndarray, spoil: str
) -> None:
    token = await a_token(orchestrators, voice)
    resume = Resume(token=token.token, next_frame=80, frames=80, position=token.position)
    config = AnimateConfig(resume=resume)
    reason, path = "FIELD_INVALID", "config.resume.token"
    match spoil:
        case "rubbish":
            config.resume.token = b"token"
        case "signature":
            config.resume.token = bytes([token.token[0] ^ 1]) + token.token[1:]
        case "age":
            config.resume.token = aged(token.token, 61.0)
            reason, path = "SESSION_EXPIRED", ""
        case "frame":
            config.resume.next_frame = config.resume.frames = 100_000
            path = "config.resume.next_frame"
        case "position":
            config.resume.position.messages += 1
            path = "config.resume.position"
        case "far":
            config.resume.position.utterance_bytes = 1 << 60
            path = "config.resume.position"
        case "frames":
            config.resume.frames = 79
            path = "config.resume.frames"
        case "beside":
            config.seed = 1
            path = "config.resume"
    async with grpc.aio.insecure_channel(orchestrators.services[0].address) as channel:
        client = StreamClient(TalkingFaceServiceStub(channel).Animate)
        await client.check_refusal([AnimateRequest(config=config)], reason, path)


async def a_token(orchestrators: Orchestrators, voice: np.ndarray) -> ResumeToken:
    """The last token of a session of 3 s."""
    config = AnimateConfig(audio=pcm(RATE), output=OUTPUT_KIND_MOTION, resumable=True)
    requests = [AnimateRequest(config=config), AnimateRequest(audio=pcm16(voice, 3.0))]
    async with grpc.aio.insecure_channel(orchestrators.services[0].address) as channel:
        client = StreamClient(TalkingFaceServiceStub(channel).Animate)
        answers = await client.exchange([*requests, AnimateRequest(end_of_audio={})])
    tokens = [a.resume_token for a in answers if a.HasField("resume_token")]
    assert [a.WhichOneof("payload") for a in answers[:2]] == ["started", "resume_token"]
    assert len(tokens) >= 3
    record(f"tokens of {[len(token.token) for token in tokens]} bytes")
    return tokens[-1]


def aged(token: bytes, seconds: float) -> bytes:
    """The token as if it had been made so much earlier."""
    state = Tokens("", 3600).unpack(token)
    tokens = Tokens("", 3600)
    now = time.time_ns
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("time.time_ns", lambda: now() - int(seconds * 1e9))
        return tokens.pack(state)
