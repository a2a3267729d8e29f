"""Sessions through the real mesh: orchestrator, stages and their Triton servers as processes."""

from __future__ import annotations

import asyncio
import io
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import av
import grpc
import numpy as np
import pytest
from google.protobuf.duration_pb2 import Duration

from talkingface.client import (
    OUTPUT_KIND_MOTION,
    Controls,
    ControlUpdate,
    Event,
    InvalidInput,
    Motion,
    NoCapacity,
    Started,
    Summary,
    TalkingFace,
    TalkingFaceError,
    Unavailable,
    pcm,
)
from talkingface.contract.call_status import CallStatus
from talkingface.contract.errors import ServiceError
from talkingface.contract.messages import motion_array
from talkingface.contract.motion import TONGUE_BACK, TONGUE_TIP
from talkingface.v1 import media_pb2 as media
from talkingface.v1 import motion_gen_pb2 as motion_gen
from talkingface.v1 import talking_face_pb2 as talking_face
from talkingface.v1.talking_face_pb2_grpc import TalkingFaceServiceStub
from tests.support.audio import RATE, pcm16
from tests.support.report import record
from tests.support.services import ServiceProcess, until_free

SLOTS = 3
Request = talking_face.AnimateRequest


@pytest.fixture(scope="session")
def orchestrator(
    service_logs: Path,
    tmp_path_factory: pytest.TempPathFactory,
    audio_features_service: ServiceProcess,
    motion_gen_service: ServiceProcess,
) -> Iterator[ServiceProcess]:
    """An orchestrator whose renderer is unavailable, for all that needs no frames."""
    service = ServiceProcess(
        "talkingface.orchestrator.server",
        service_logs / "orchestrator.log",
        slots=str(SLOTS),
        idle_timeout="3",
        audio_features_target=audio_features_service.address,
        motion_gen_target=motion_gen_service.address,
        renderer_target="127.0.0.1:1",
        upload_store=str(tmp_path_factory.mktemp("uploads")),
    )
    try:
        service.wait_until_serving()
        yield service
    finally:
        service.stop()


@pytest.fixture
async def face(orchestrator: ServiceProcess) -> AsyncIterator[TalkingFace]:
    async with TalkingFace(orchestrator.address) as client:
        yield client


@pytest.fixture
async def stub(orchestrator: ServiceProcess) -> AsyncIterator[TalkingFaceServiceStub]:
    """For messages that the client would never send."""
    async with grpc.aio.insecure_channel(orchestrator.address) as channel:
        yield TalkingFaceServiceStub(channel)


@pytest.fixture(scope="session")
def speech(voice: np.ndarray) -> bytes:
    """The made-up speech as 16-bit samples at 16 kHz."""
    return pcm16(voice)


async def chunks(data: bytes, size: int) -> AsyncIterator[bytes]:
    for first in range(0, len(data), size):
        yield data[first : first + size]


async def motion_of(face: TalkingFace, audio: Any, **options: Any) -> np.ndarray:
    """The motion of a session without frames: (n, 60)."""
    options = {"audio_format": pcm(RATE), "seed": 11, **options}
    frames: list[Any] = []
    messages = face.animate(portrait=None, audio=audio, output=OUTPUT_KIND_MOTION, **options)
    async for message in messages:
        if isinstance(message, Motion):
            frames += message.frames
    return motion_array(motion_gen.MotionChunk(frames=frames), 0)


def file_of(speech: bytes, container: str, codec: str) -> bytes:
    file = io.BytesIO()
    with av.open(file, "w", format=container) as out:
        stream: Any = out.add_stream(codec, rate=RATE, layout="mono")
        stream.format = "s16"
        samples = np.frombuffer(speech, "<i2").reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(samples, format="s16", layout="mono")
        frame.sample_rate = RATE
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            out.mux(packet)
    return file.getvalue()


async def test_motion_does_not_depend_on_how_the_audio_is_sent(
    face: TalkingFace, speech: bytes
) -> None:
    whole = await motion_of(face, speech)
    assert whole.shape == (50, 60)
    assert whole[:, :52].std(axis=0).max() > 0.005, "the face moves"
    assert (whole[:, TONGUE_TIP : TONGUE_BACK + 1].max(axis=0) > 0).all(), "the tongue moves"
    floats = (np.frombuffer(speech, "<i2") / np.float32(32768)).astype("<f4").tobytes()
    stereo = np.repeat(np.frombuffer(speech, "<i2"), 2).tobytes()
    wav, flac = file_of(speech, "wav", "pcm_s16le"), file_of(speech, "flac", "flac")
    others = {
        "777 bytes at a time": motion_of(face, chunks(speech, 777)),
        "20 ms at a time": motion_of(face, chunks(speech, 640)),
        "floats": motion_of(face, floats, audio_format=pcm(RATE, floats=True)),
        "stereo": motion_of(face, stereo, audio_format=pcm(RATE, 2)),
        "WAV": motion_of(face, wav, audio_format=None),
        "FLAC in chunks": motion_of(face, chunks(flac, 1000), audio_format=None),
    }
    for what, motion in others.items():
        np.testing.assert_array_equal(await motion, whole, err_msg=what)
    assert not np.array_equal(await motion_of(face, speech, seed=12), whole)


async def test_motion_comes_before_the_audio_ends(face: TalkingFace, speech: bytes) -> None:
    enough = asyncio.Event()

    async def audio() -> AsyncIterator[bytes]:
        yield speech[:RATE]  # half a second
        await enough.wait()
        yield speech[RATE:]

    frames = 0
    messages = face.animate(
        portrait=None, audio=audio(), audio_format=pcm(RATE), output=OUTPUT_KIND_MOTION
    )
    async with asyncio.timeout(100):
        async for message in messages:
            if isinstance(message, Motion):
                frames += len(message.frames)
            if frames >= 5:
                enough.set()
    assert frames == 50


async def test_first_and_last_messages(face: TalkingFace, speech: bytes) -> None:
    messages = [
        message
        async for message in face.animate(
            portrait=None,
            audio=speech + bytes(2 * RATE),
            audio_format=pcm(RATE),
            output=OUTPUT_KIND_MOTION,
        )
    ]
    started, summary = messages[0], messages[-1]
    assert isinstance(started, Started)
    assert isinstance(summary, Summary)
    assert [stage.stage for stage in started.stages] == ["audio_features", "motion_gen"]
    assert all("@" in stage.model for stage in started.stages)
    assert started.config.HasField("seed")
    assert summary.frames == 75
    assert summary.audio_duration.ToMilliseconds() == 3000
    events = [message for message in messages if isinstance(message, Event)]
    assert [event.kind for event in events[:1]] in ([], [Event.KIND_SPEECH_STARTED])
    times = [event.time.ToMilliseconds() for event in events]
    assert times == sorted(times)


async def test_a_control_acts_at_its_time(face: TalkingFace, speech: bytes) -> None:
    plain = await motion_of(face, speech)
    still = Controls(head_motion_scale=0, mouth_scale=0)

    async def steered(time: Duration | None, size: int) -> AsyncIterator[bytes | ControlUpdate]:
        """The change is sent after 0.8 s of audio; it begins then, or at its time."""
        update = ControlUpdate(time=time, controls=still)
        async for chunk in chunks(speech[: 2 * 12800], size):
            yield chunk
        yield update
        async for chunk in chunks(speech[2 * 12800 :], size):
            yield chunk

    timed = await motion_of(face, steered(Duration(seconds=1, nanos=200_000_000), 3000))
    again = await motion_of(face, steered(Duration(seconds=1, nanos=200_000_000), 50000))
    untimed = await motion_of(face, steered(None, 3000))
    untimed_again = await motion_of(face, steered(None, 50000))
    np.testing.assert_array_equal(timed, again)
    np.testing.assert_array_equal(untimed, untimed_again)
    np.testing.assert_array_equal(timed[:30], plain[:30])
    np.testing.assert_array_equal(untimed[:20], plain[:20])
    assert not np.array_equal(timed[30:], plain[30:])
    assert not np.array_equal(untimed[20:30], plain[20:30])


async def test_sessions_side_by_side_do_not_mix(face: TalkingFace, speech: bytes) -> None:
    voices = [speech, speech[::-1][: len(speech) // 2 * 2], bytes(len(speech))]
    alone = [await motion_of(face, voice, seed=i) for i, voice in enumerate(voices)]
    together = await asyncio.gather(
        *(motion_of(face, voice, seed=i) for i, voice in enumerate(voices))
    )
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_array_equal(one, other)


def config(**fields: Any) -> Request:
    fields = {"audio": pcm(RATE), "output": OUTPUT_KIND_MOTION, **fields}
    return Request(config=talking_face.AnimateConfig(**fields))


AUDIO, END = Request(audio=bytes(2 * RATE)), Request(end_of_audio={})
NAN = np.full(RATE, np.nan, "<f4").tobytes()

# What a client may do wrong, and the reason of its error.
MISUSE: dict[str, tuple[list[Request], str]] = {
    "nothing at all": ([], "MESSAGE_ORDER"),
    "an empty message first": ([Request()], "MESSAGE_ORDER"),
    "audio first": ([AUDIO], "MESSAGE_ORDER"),
    "end first": ([END], "MESSAGE_ORDER"),
    "two configurations": ([config(), config()], "MESSAGE_ORDER"),
    "an empty message": ([config(), Request()], "MESSAGE_ORDER"),
    "audio after the end": ([config(), AUDIO, END, AUDIO], "MESSAGE_ORDER"),
    "two ends": ([config(), AUDIO, END, END], "MESSAGE_ORDER"),
    "no end": ([config(), AUDIO], "MESSAGE_ORDER"),
    "no portrait": ([config(output=media.OUTPUT_KIND_FMP4)], "FIELD_INVALID"),
    "no such output": ([config(output=99)], "FIELD_INVALID"),
    "no audio format": (
        [Request(config=talking_face.AnimateConfig(output=OUTPUT_KIND_MOTION))],
        "FIELD_INVALID",
    ),
    "4 kHz": ([config(audio=pcm(4000))], "FIELD_INVALID"),
    "a control out of range": ([config(controls={"blink_rate": 100})], "FIELD_INVALID"),
    "a control that is not finite": ([config(controls={"mouth_scale": np.nan})], "FIELD_INVALID"),
    "a control out of range later": (
        [config(), AUDIO, Request(control={"controls": {"distance_ratio": 3}})],
        "FIELD_INVALID",
    ),
    "an unknown portrait": (
        [config(output=media.OUTPUT_KIND_FMP4, portrait_handle="sha256:" + "0" * 64)],
        "PORTRAIT_NOT_FOUND",
    ),
    "an unavailable renderer": (
        [config(output=media.OUTPUT_KIND_FMP4, portrait_image=b"JPEG")],
        "STAGE_UNAVAILABLE",
    ),
    "too much audio in a message": (
        [config(), Request(audio=bytes(2**20 + 2))],
        "MESSAGE_TOO_LARGE",
    ),
    "no audio": ([config(), END], "AUDIO_TOO_SHORT"),
    "too little audio": ([config(), Request(audio=bytes(6000)), END], "AUDIO_TOO_SHORT"),
    "half a sample": ([config(), AUDIO, Request(audio=b"1"), END], "AUDIO_BROKEN"),
    "samples that are not finite": (
        [config(audio=pcm(RATE, floats=True)), Request(audio=NAN)],
        "AUDIO_NOT_FINITE",
    ),
    "no audio file": (
        [config(audio={"encoding": media.AUDIO_ENCODING_FILE}), Request(audio=b"%PDF" * 99), END],
        "AUDIO_BROKEN",
    ),
}


@pytest.mark.parametrize("what", MISUSE)
async def test_misuse_is_refused(
    stub: TalkingFaceServiceStub, orchestrator: ServiceProcess, what: str
) -> None:
    requests, reason = MISUSE[what]
    call = stub.Animate(iter(requests))
    status = CallStatus(call)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        async with asyncio.timeout(60):
            async for _ in call:
                pass
    error = await status.error(caught.value)
    assert error.reason == reason
    assert bool(error.field_violations) == (reason == "FIELD_INVALID")
    await until_free(orchestrator)


async def test_the_next_session_is_served(face: TalkingFace, speech: bytes) -> None:
    with pytest.raises(InvalidInput, match="AUDIO_BROKEN"):
        await motion_of(face, b"no audio file" * 10, audio_format=None)
    assert len(await motion_of(face, speech)) == 50


async def test_an_oversized_message_is_refused(orchestrator: ServiceProcess) -> None:
    options = [("grpc.max_send_message_length", -1)]
    async with grpc.aio.insecure_channel(orchestrator.address, options) as channel:
        call = TalkingFaceServiceStub(channel).Animate(
            iter([config(), Request(audio=bytes(40 << 20))])
        )
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            async for _ in call:
                pass
    assert ServiceError.from_rpc(caught.value).reason == "MESSAGE_TOO_LARGE"


async def test_a_client_that_disconnects_frees_all_slots(
    orchestrator: ServiceProcess,
    audio_features_service: ServiceProcess,
    motion_gen_service: ServiceProcess,
    speech: bytes,
) -> None:
    services = orchestrator, audio_features_service, motion_gen_service
    async with TalkingFace(orchestrator.address) as face:

        async def endless() -> AsyncIterator[bytes]:
            while True:
                yield speech[:6400]
                await asyncio.sleep(0.2)

        messages = face.animate(
            portrait=None, audio=endless(), audio_format=pcm(RATE), output=OUTPUT_KIND_MOTION
        )
        async for message in messages:
            if isinstance(message, Motion):
                break
        assert [service.slots_in_use() for service in services] == [1, 1, 1]
    record(f"free {await until_free(*services) * 1000:.0f} ms after the client disconnected")


async def test_a_full_server_refuses(orchestrator: ServiceProcess, speech: bytes) -> None:
    async with TalkingFace(orchestrator.address) as face:
        finish = asyncio.Event()
        started = asyncio.Barrier(SLOTS + 1)

        async def audio() -> AsyncIterator[bytes]:
            yield speech[: len(speech) // 2]
            await finish.wait()
            yield speech[len(speech) // 2 :]

        async def hold() -> int:
            frames = 0
            messages = face.animate(
                portrait=None, audio=audio(), audio_format=pcm(RATE), output=OUTPUT_KIND_MOTION
            )
            async for message in messages:
                if isinstance(message, Started):
                    await started.wait()
                elif isinstance(message, Motion):
                    frames += len(message.frames)
            return frames

        sessions = [asyncio.create_task(hold()) for _ in range(SLOTS)]
        await started.wait()
        with pytest.raises(NoCapacity) as caught:
            async with asyncio.timeout(60):
                await motion_of(face, speech)
        assert caught.value.reason == "NO_CAPACITY"
        assert caught.value.retry_delay
        finish.set()
        assert await asyncio.gather(*sessions) == [50] * SLOTS
        assert len(await motion_of(face, speech)) == 50


async def test_a_silent_client_times_out(stub: TalkingFaceServiceStub) -> None:
    call = stub.Animate()
    await call.write(config())
    await call.read()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        async with asyncio.timeout(60):
            while await call.read() is not grpc.aio.EOF:
                pass
    assert ServiceError.from_rpc(caught.value).reason == "IDLE_TIMEOUT"


async def test_a_stage_that_hangs_or_dies_is_reported(
    service_logs: Path, motion_gen_service: ServiceProcess, speech: bytes
) -> None:
    encoder = ServiceProcess(
        "talkingface.audio_features.server", service_logs / "faulty_encoder.log"
    )
    encoder.wait_until_serving()
    orchestrator = ServiceProcess(
        "talkingface.orchestrator.server",
        service_logs / "orchestrator_of_faulty.log",
        audio_features_target=encoder.address,
        motion_gen_target=motion_gen_service.address,
        stage_timeout="2",
        recovery_timeout="1",
    )

    async def audio(number: signal.Signals) -> AsyncIterator[bytes]:
        yield speech[:16000]
        await asyncio.sleep(0.5)
        encoder.process.send_signal(number)
        await asyncio.sleep(0.2)
        yield speech

    try:
        orchestrator.wait_until_serving()
        async with TalkingFace(orchestrator.address) as face, asyncio.timeout(120):
            for number in (signal.SIGSTOP, signal.SIGKILL):
                assert len(await motion_of(face, speech)) == 50
                with pytest.raises(Unavailable) as caught:
                    await motion_of(face, audio(number))
                assert caught.value.reason == "STAGE_UNAVAILABLE"
                assert caught.value.metadata["stage"] == "audio_features"
                await until_free(orchestrator, motion_gen_service)
                encoder.process.send_signal(signal.SIGCONT)
            with pytest.raises(Unavailable):
                await motion_of(face, speech)
    finally:
        encoder.process.kill()
        orchestrator.stop()
        encoder.process.wait(60)


async def test_a_server_that_drains_finishes_its_sessions(
    service_logs: Path,
    audio_features_service: ServiceProcess,
    motion_gen_service: ServiceProcess,
    speech: bytes,
) -> None:
    orchestrator = ServiceProcess(
        "talkingface.orchestrator.server",
        service_logs / "draining_orchestrator.log",
        audio_features_target=audio_features_service.address,
        motion_gen_target=motion_gen_service.address,
        drain_timeout="60",
    )
    draining = asyncio.Event()

    async def audio() -> AsyncIterator[bytes]:
        yield speech[:32000]
        await asyncio.sleep(0.5)
        orchestrator.process.send_signal(signal.SIGTERM)
        await draining.wait()
        yield speech[32000:]

    try:
        orchestrator.wait_until_serving()
        frames = 0
        async with TalkingFace(orchestrator.address) as face, asyncio.timeout(60):
            async for message in face.animate(
                portrait=None, audio=audio(), audio_format=pcm(RATE), output=OUTPUT_KIND_MOTION
            ):
                if isinstance(message, Motion):
                    frames += len(message.frames)
                elif isinstance(message, Event) and message.kind == Event.KIND_DRAINING:
                    assert 30 < message.deadline.ToMilliseconds() / 1000 <= 60
                    with pytest.raises(Unavailable) as refused:
                        await motion_of(face, speech)
                    assert refused.value.reason == "DRAINING"
                    draining.set()
        assert frames == 50
        assert await asyncio.to_thread(orchestrator.process.wait, 60) == 0
    finally:
        orchestrator.process.kill()


async def test_capabilities_and_dry_run(face: TalkingFace) -> None:
    report = await face.self_test()
    assert [timing.stage.stage for timing in report.timings] == ["audio_features", "motion_gen"]
    assert all(timing.results for timing in report.timings)
    assert report.total.ToMilliseconds() >= report.timings[1].total.ToMilliseconds() > 0
    can = await face.capabilities()
    assert can.frame_rate == 25
    assert can.limits.max_sessions == SLOTS
    assert [stage.stage for stage in can.stages] == ["audio_features", "motion_gen"]
    with pytest.raises(TalkingFaceError, match="PORTRAIT_NOT_FOUND"):
        await face.self_test("sha256:" + "1" * 64)
