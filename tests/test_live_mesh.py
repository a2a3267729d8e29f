"""Live sessions over the real mesh: idle, speech, interruption, the end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import av
import numpy as np
import pytest
from conftest import ServiceProcess

from talkingface.client import (
    OUTPUT_KIND_H264,
    OUTPUT_KIND_MOTION,
    PACING_LIVE,
    EndOfUtterance,
    Event,
    Interrupt,
    InvalidInput,
    Media,
    Motion,
    Summary,
    TalkingFace,
    pcm,
)
from talkingface.common.motion import ARKIT_INDEX

RATE = 16000
DEADLINE = 60.0
JAW = ARKIT_INDEX["jawOpen"]


@pytest.fixture
async def face(mesh: ServiceProcess) -> AsyncIterator[TalkingFace]:
    async with TalkingFace(mesh.address) as client:
        yield client


def said(voice: np.ndarray, seconds: float) -> bytes:
    samples = np.resize(voice, int(seconds * RATE))
    return np.rint(np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes()


async def live(face: TalkingFace, audio: Any, **options: Any) -> AsyncIterator[Any]:
    options = {"portrait": None, "output": OUTPUT_KIND_MOTION, "audio_format": pcm(RATE), **options}
    async with asyncio.timeout(DEADLINE):
        async for message in face.animate(audio=audio, pacing=PACING_LIVE, seed=1, **options):
            yield message


async def test_idle_speech_and_interruption(face: TalkingFace, voice: np.ndarray) -> None:
    """The face is there before the first word, and at rest after an interruption."""
    seen = asyncio.Queue[float]()  # ends of the motion that has come, seconds of the session

    async def until(seconds: float) -> None:
        while await seen.get() < seconds:
            pass

    async def conversation() -> AsyncIterator[Any]:
        await until(0.8)
        yield said(voice, 1.0)
        yield EndOfUtterance(id="first")
        await until(2.6)
        yield said(voice, 30.0)  # far ahead of the clock
        yield EndOfUtterance(id="second")
        await until(4.0)
        yield Interrupt()
        await until(5.2)
        yield said(voice, 0.4)
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
                seen.put_nowait(len(motion) / 25)
            case Event() if message.kind == Event.KIND_UTTERANCE:
                events.append(message)
            case Summary():
                summary = message
    assert summary is not None
    told = [(e.utterance_id, e.interrupted) for e in events]
    assert told == [("first", False), ("second", True), ("third", False)]
    played = [e.played.ToMilliseconds() / 1000 for e in events]
    assert played[0] == pytest.approx(1.0, abs=0.001)
    assert 0 < played[1] < 29
    jaw = np.array(motion)[:, JAW]
    first, cut, _ = (e.time.ToMilliseconds() / 1000 for e in events)
    speaking = jaw[round(25 * (first - 1.0)) : round(25 * cut)]  # both utterances
    # The last sound that was played lies before `cut`; 0.3 s later the mouth is at rest.
    resting = jaw[round(25 * (cut + 0.3)) : round(25 * (cut + 0.8))]
    assert speaking.max() > 3 * max(jaw[:15].max(), resting.max(), 0.01)
    assert len(motion) == summary.frames
    assert len(motion) == np.ceil(summary.audio_duration.ToMicroseconds() / 40_000 - 1e-6)


async def test_pictures_and_sound_keep_together(
    face: TalkingFace, portrait_image: bytes, voice: np.ndarray
) -> None:
    """However slow the machine: pictures rise, the sound has no gap, both are of one time."""

    async def conversation() -> AsyncIterator[Any]:
        await asyncio.sleep(1.0)
        yield said(voice, 1.5)

    decoder = av.CodecContext.create("h264", "r")
    pieces: list[Media] = []
    pictures = samples = late = 0
    async for message in live(
        face, conversation(), portrait=portrait_image, output=OUTPUT_KIND_H264, size=256
    ):
        if isinstance(message, Media):
            pieces.append(message)
            samples += len(message.audio) // 2
            if message.frame_count:
                pictures += len(decoder.decode(av.Packet(message.data)))
                assert samples >= (message.first_frame + 1) * RATE // 25 or message is pieces[-1]
        elif isinstance(message, Summary):
            late = message.late_frames
            seconds = message.audio_duration.ToMilliseconds() / 1000
            frames = message.frames
    shown = [piece.first_frame for piece in pieces if piece.frame_count]
    assert shown == sorted(set(shown))
    assert pictures + len(decoder.decode(None)) == len(shown) == frames
    assert frames + late == int(np.ceil(seconds * 25 - 1e-6))
    assert samples == pytest.approx(seconds * RATE, abs=RATE / 1000)
    spoken = np.concatenate([np.frombuffer(piece.audio, "<i2") for piece in pieces])
    assert np.abs(spoken[: RATE // 4]).max() == 0, "silence before the first word"
    assert np.abs(spoken).max() > 1000


async def test_what_only_live_sessions_take(face: TalkingFace, voice: np.ndarray) -> None:
    async def interrupted() -> AsyncIterator[Any]:
        yield said(voice, 0.5)
        yield Interrupt()

    with pytest.raises(InvalidInput, match="PACING_LIVE"):
        async for _ in face.animate(
            portrait=None, audio=interrupted(), audio_format=pcm(RATE), output=OUTPUT_KIND_MOTION
        ):
            pass
    with pytest.raises(InvalidInput, match=r"config\.audio\.encoding"):
        async for _ in live(face, b"RIFF", audio_format=None):
            pass
