"""Live sessions over the real mesh: idle, speech, interruption, the end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from talkingface.cli.mesh import STAGES
from talkingface.client import (
    OUTPUT_KIND_H264,
    OUTPUT_KIND_MOTION,
    PACING_LIVE,
    Controls,
    ControlUpdate,
    EndOfUtterance,
    Event,
    HeadRotation,
    Interrupt,
    InvalidInput,
    Media,
    Motion,
    Started,
    Summary,
    TalkingFace,
    pcm,
)
from talkingface.contract.motion import ARKIT_INDEX
from talkingface.orchestrator.config import OrchestratorConfig
from talkingface.orchestrator.pipeline import SessionPipeline
from talkingface.orchestrator.session.open_session import open_session
from talkingface.orchestrator.stages.pool import Stages
from talkingface.orchestrator.stages.portraits import Portraits, UploadStore
from talkingface.v1.talking_face_pb2 import AnimateConfig, AnimateRequest
from talkingface_research.motion_gen.evaluation.mouth import opening
from tests.support.audio import RATE, pcm16
from tests.support.report import record
from tests.support.services import ServiceProcess

DEADLINE = 120.0  # seconds
# Within which a control or an interruption acts on a busy machine; without it 20 s of speech would
# go on. On a quiet one it takes 0.1 to 0.4 s.
ACT_SECONDS = 5.0
JAW = ARKIT_INDEX["jawOpen"]


@pytest.fixture
async def face(mesh: ServiceProcess) -> AsyncIterator[TalkingFace]:
    async with TalkingFace(mesh.address) as client:
        yield client


async def live(face: TalkingFace, audio: Any, **options: Any) -> AsyncIterator[Any]:
    options = {"portrait": None, "output": OUTPUT_KIND_MOTION, "audio_format": pcm(RATE), **options}
    async with asyncio.timeout(DEADLINE):
        async for message in face.animate(audio=audio, pacing=PACING_LIVE, seed=1, **options):
            yield message


async def test_idle_speech_and_interruption(face: TalkingFace, voice: np.ndarray) -> None:
    """The face is there before the first word, and at rest after an interruption."""
    ends = asyncio.Queue[float]()  # of the motion that has come, seconds of the session

    async def until(seconds: float) -> None:
        while await ends.get() < seconds:
            pass

    async def conversation() -> AsyncIterator[Any]:
        await until(0.8)
        yield pcm16(voice, 1.0)
        yield EndOfUtterance(id="first")
        await until(2.6)
        yield pcm16(voice, 30.0)  # far ahead of the clock
        yield EndOfUtterance(id="second")
        await until(4.0)
        yield Interrupt()
        await until(5.2)
        yield pcm16(voice, 0.4)
        yield EndOfUtterance(id="third")

    motion: list[np.ndarray] = []
    events: list[Event] = []
    summary = None
    async for message in live(face, conversation()):
        match message:
            case Motion():
                for frame in message.frames:
                    assert frame.index == len(motion)
                    motion.append(np.array(frame.coefficients))
                ends.put_nowait(len(motion) / 25)
            case Event() if message.kind == Event.KIND_PLAYBACK_FINISHED:
                events.append(message)
            case Summary():
                summary = message
    assert summary is not None
    reported = [(e.utterance_id, e.interrupted) for e in events]
    assert reported == [("first", False), ("second", True), ("third", False)]
    played = [e.played.ToMilliseconds() / 1000 for e in events]
    assert played[0] == pytest.approx(1.0, abs=0.001)
    assert 0 < played[1] < 29
    jaw = np.array(motion)[:, JAW]
    first, cut, _ = (e.time.ToMilliseconds() / 1000 for e in events)
    speaking = jaw[round(25 * (first - 1.0)) : round(25 * cut)]  # both utterances
    # The last audio that was played lies before `cut`; 0.3 s later the mouth is at rest.
    resting = jaw[round(25 * (cut + 0.3)) : round(25 * (cut + 0.8))]
    assert speaking.max() > 3 * max(jaw[:15].max(), resting.max(), 0.01)
    assert len(motion) == summary.frames
    assert len(motion) == np.ceil(summary.audio_duration.ToMicroseconds() / 40_000 - 1e-6)


async def test_frames_and_audio_stay_in_sync(
    face: TalkingFace, portrait_image: bytes, voice: np.ndarray
) -> None:
    """However slow the machine: frames are in order, audio has no gap, both are of one time."""

    async def conversation() -> AsyncIterator[Any]:
        await asyncio.sleep(1.0)
        yield pcm16(voice, 1.5)

    decoder = av.CodecContext.create("h264", "r")
    chunks: list[Media] = []
    decoded = samples = late = 0
    async for message in live(
        face, conversation(), portrait=portrait_image, output=OUTPUT_KIND_H264, size=256
    ):
        if isinstance(message, Media):
            chunks.append(message)
            samples += len(message.audio) // 2
            if message.frame_count:
                decoded += len(decoder.decode(av.Packet(message.data)))
                assert samples >= (message.first_frame + 1) * RATE // 25 or message is chunks[-1]
        elif isinstance(message, Summary):
            late = message.dropped_frames
            seconds = message.audio_duration.ToMilliseconds() / 1000
            frames = message.frames
    shown = [chunk.first_frame for chunk in chunks if chunk.frame_count]
    assert shown == sorted(set(shown))
    assert decoded + len(decoder.decode(None)) == len(shown) == frames
    assert frames + late == int(np.ceil(seconds * 25 - 1e-6))
    assert samples == pytest.approx(seconds * RATE, abs=RATE / 1000)
    spoken = np.concatenate([np.frombuffer(chunk.audio, "<i2") for chunk in chunks])
    assert np.abs(spoken[: RATE // 5]).max() == 0, "silence before the first word"
    assert np.abs(spoken).max() > 1000


async def test_offline_sessions_refuse_interruptions(face: TalkingFace, voice: np.ndarray) -> None:
    async def interrupted() -> AsyncIterator[Any]:
        yield pcm16(voice, 0.5)
        yield Interrupt()

    with pytest.raises(InvalidInput, match="PACING_LIVE"):
        async for _ in face.animate(
            portrait=None, audio=interrupted(), audio_format=pcm(RATE), output=OUTPUT_KIND_MOTION
        ):
            pass
    with pytest.raises(InvalidInput, match=r"config\.audio\.encoding"):
        async for _ in live(face, b"RIFF", audio_format=None):
            pass


async def act_after(
    face: TalkingFace, act: Any, voice: bytes, after: float, **options: Any
) -> tuple[float, list[tuple[float, Any]]]:
    """Run a live session in which something is sent after a while.

    :param act: what is sent after `after` seconds.
    :return: when it was sent, and all messages with when they came, in seconds since the start.
    """
    began = acted = 0.0
    started, came = asyncio.Event(), []

    async def conversation() -> AsyncIterator[Any]:
        nonlocal acted
        yield voice
        await started.wait()
        await asyncio.sleep(after - (time.perf_counter() - began))
        acted = time.perf_counter() - began
        yield act
        await asyncio.sleep(1.0)

    async for message in live(face, conversation(), **options):
        if isinstance(message, Started):
            began = time.perf_counter()
            started.set()
        came.append((time.perf_counter() - began, message))
    return acted, came


async def test_a_control_acts_on_the_next_motion_made(face: TalkingFace) -> None:
    """Not with the audio that is played next, which is heard later."""
    turned = ControlUpdate(controls=Controls(head_pose=HeadRotation(yaw=15)))
    tracks = []
    for act in (turned, b""):
        acted, came = await act_after(face, act, b"", 1.23)
        frames = [frame for _, m in came if isinstance(m, Motion) for frame in m.frames]
        tracks.append((acted, np.array([frame.rotation.yaw for frame in frames])))
    (acted, yaw), (_, straight) = tracks
    both = min(len(yaw), len(straight))
    changed = np.flatnonzero(np.abs(yaw[:both] - straight[:both]) > 1e-6)[0] / 25
    record(f"a control takes effect {1000 * (changed - acted):.0f} ms after it is sent")
    assert changed - acted < ACT_SECONDS
    assert yaw[both - 1] - straight[both - 1] > 10


async def test_an_interruption_acts_on_audio_and_frames_at_once(
    face: TalkingFace, portrait_image: bytes, voice: np.ndarray
) -> None:
    speech = pcm16(voice[voice != 0], 20.0)  # without a pause
    acted, came = await act_after(face, Interrupt(), speech, 1.4)
    times, lips = [], []
    for at, message in came:
        for frame in message.frames if isinstance(message, Motion) else ():
            times.append(max(at, frame.index / 25))  # shown when it has come and its time as well
            lips.append(frame.coefficients)
    # A jaw alone may make room for lips that are pressed, in a smile say.
    gap = opening(np.array(lips, np.float32))
    open_until = times[np.flatnonzero(gap > 0.1 * gap.max())[-1]] + 0.04
    (cut,) = (m for _, m in came if isinstance(m, Event) and m.kind == Event.KIND_PLAYBACK_FINISHED)
    assert cut.interrupted and cut.played.ToMilliseconds() < 1000 * (1.4 + ACT_SECONDS)
    frames = {"portrait": portrait_image, "output": OUTPUT_KIND_H264, "size": 256}
    acted_too, came = await act_after(face, Interrupt(), speech, 1.4, **frames)
    chunks = [message for _, message in came if isinstance(message, Media)]
    samples = np.concatenate([np.frombuffer(chunk.audio, "<i2") for chunk in chunks])
    heard_from, heard_until = np.flatnonzero(samples)[[0, -1]] / RATE
    silent_from = max(  # when the last audio has come and its time as well
        heard_until, *(at for at, m in came if isinstance(m, Media) and any(m.audio))
    )
    (cut,) = (m for _, m in came if isinstance(m, Event) and m.kind == Event.KIND_PLAYBACK_FINISHED)
    assert cut.time.ToMicroseconds() / 1e6 == pytest.approx(heard_until, abs=0.06)
    assert cut.played.ToMicroseconds() / 1e6 == pytest.approx(heard_until - heard_from, abs=0.06)
    record(
        f"silent {1000 * (silent_from - acted_too):.0f} ms after an interruption, the mouth at "
        f"rest after {1000 * (open_until - acted):.0f} ms"
    )
    assert silent_from - acted_too < ACT_SECONDS and open_until - acted < ACT_SECONDS


async def test_a_client_that_reads_slowly_misses_frames_and_no_audio(
    audio_features_service: ServiceProcess,
    motion_gen_service: ServiceProcess,
    renderer_service: ServiceProcess,
    mesh: ServiceProcess,
    portrait_image: bytes,
    voice: np.ndarray,
) -> None:
    """It reads five messages a second; without a network, whose buffers would hold the rest."""
    async with TalkingFace(mesh.address) as face:
        handle = (await face.upload_portrait(portrait_image)).handle
    services = (audio_features_service, motion_gen_service, renderer_service)
    targets: dict[str, Any] = {
        f"{name}_target": s.address for name, s in zip(STAGES, services, strict=True)
    }
    stages = Stages(OrchestratorConfig(**targets))
    await stages.start()
    config = AnimateConfig(audio=pcm(RATE), output=OUTPUT_KIND_H264, size=256, pacing=PACING_LIVE)
    config.portrait_handle = handle
    session = open_session(config)
    portraits = Portraits(stages, UploadStore(Path(mesh.settings["upload_store"]), 1 << 30))
    pipeline = SessionPipeline(session, stages, portraits, 1.0)
    requests = asyncio.Queue[AnimateRequest | None]()
    requests.put_nowait(AnimateRequest(audio=pcm16(voice, 4.0)))
    requests.put_nowait(AnimateRequest(end_of_audio={}))
    answers = []

    async def write(answer: Any) -> None:
        answers.append(answer)
        await asyncio.sleep(0.2)

    async with asyncio.timeout(DEADLINE):
        portrait = await portraits.find(handle)
        await pipeline.run(portrait, lambda idle: requests.get(), write)
    await stages.close()
    summary = answers[-1].summary
    samples = sum(len(answer.media.audio) // 2 for answer in answers)
    late = [a.event.frames for a in answers if a.event.kind == Event.KIND_FRAMES_DROPPED]
    shown = [a.media.first_frame for a in answers if a.media.frame_count]
    assert shown == sorted(set(shown)) and len(shown) == summary.frames < 60
    assert 20 < summary.dropped_frames >= sum(late) > 0
    assert samples == pytest.approx(summary.audio_duration.ToMicroseconds() * RATE / 1e6, abs=16)
    most = max(len(answer.media.audio) // 2 for answer in answers) / RATE
    record(f"at most {most:.2f} s of audio in a message; {summary.dropped_frames} frames left out")
