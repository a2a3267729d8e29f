"""The Python client against the whole mesh."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from talkingface.client import (
    FRAMING_CROP,
    FRAMING_PHOTO,
    OUTPUT_KIND_H264,
    OUTPUT_KIND_MOTION,
    InvalidInput,
    Media,
    NotFound,
    Started,
    Summary,
    TalkingFace,
    TalkingFaceError,
    Unavailable,
    VideoFormat,
    pcm,
)
from tests.support.audio import RATE, pcm16
from tests.support.report import record
from tests.support.services import ServiceProcess, until_free


@pytest.fixture
def speech(voice: np.ndarray) -> bytes:
    return pcm16(voice[: RATE // 2])


async def test_paths_and_large_portraits(
    mesh: ServiceProcess, portrait_file: Path, voice: np.ndarray, tmp_path: Path
) -> None:
    large = tmp_path / "large.png"  # larger than what fits into the configuration
    noise = np.random.default_rng(0).integers(-6, 7, (1024, 1024, 3))
    photo = np.asarray(Image.open(portrait_file).convert("RGB").resize((1024, 1024)), np.int16)
    Image.fromarray(np.clip(photo + noise, 0, 255).astype(np.uint8)).save(large)
    assert large.stat().st_size > 1 << 20
    audio = tmp_path / "voice.wav"
    with av.open(str(audio), "w") as out:
        stream = out.add_stream("pcm_s16le", rate=RATE, layout="mono")
        samples = np.rint(voice[None, : RATE // 2] * 32767).astype(np.int16)
        frame = av.AudioFrame.from_ndarray(samples, format="s16", layout="mono")
        frame.sample_rate = RATE
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            out.mux(packet)
    frames = 0
    async with TalkingFace(mesh.address) as face:
        async for message in face.animate(portrait=large, audio=audio):
            if isinstance(message, Started):
                assert (message.portrait.width, message.portrait.height) == (1024, 1024)
                assert message.video == VideoFormat(width=512, height=512, frame_rate=25)
            elif isinstance(message, Media):
                frames += message.frame_count
    assert frames == 13


async def test_the_whole_photo_at_another_rate(
    mesh: ServiceProcess, portrait_file: Path, speech: bytes, tmp_path: Path
) -> None:
    photo = tmp_path / "photo.png"
    Image.open(portrait_file).convert("RGB").crop((0, 0, 512, 401)).save(photo)
    chunks, times = [], []
    async with TalkingFace(mesh.address) as face:
        messages = face.animate(
            portrait=photo,
            audio=speech,
            audio_format=pcm(RATE),
            framing=FRAMING_PHOTO,
            frame_rate=30,
        )
        async for message in messages:
            if isinstance(message, Started):
                assert message.video == VideoFormat(width=512, height=400, frame_rate=30)
                assert (message.config.framing, message.config.frame_rate) == (FRAMING_PHOTO, 30)
            elif isinstance(message, Media):
                chunks.append(message.data)
                times.append((message.first_frame, message.presentation_time.ToMicroseconds()))
            elif isinstance(message, Summary):
                assert message.frames == 16  # 13 motion frames last for as many
        report = await face.self_test((await face.upload_portrait(photo)).handle)
        assert report.timings[2].results == 25
        can = await face.capabilities()
    assert list(can.framings) == [FRAMING_CROP, FRAMING_PHOTO]
    assert (can.limits.min_frame_size, can.limits.max_frame_size) == (256, 1024)
    assert all(time == round(first * 1e6 / 30) for first, time in times)
    with av.open(io.BytesIO(b"".join(chunks)), "r") as file:
        video = list(file.decode(video=0))
    assert [round(float(frame.time) * 30, 3) for frame in video] == list(range(16))
    assert (video[0].width, video[0].height) == (512, 400)


async def test_errors_have_their_class(mesh: ServiceProcess, speech: bytes) -> None:
    async with TalkingFace(mesh.address) as face:
        with pytest.raises(InvalidInput) as invalid:
            async for _ in face.animate(portrait=b"no image", audio=speech, audio_format=pcm(RATE)):
                pass
        assert invalid.value.reason == "IMAGE_BROKEN"
        with pytest.raises(InvalidInput) as invalid:
            async for _ in face.animate(portrait=None, audio=speech, audio_format=pcm(1)):
                pass
        assert "config.portrait_handle" in invalid.value.field_violations
        with pytest.raises(NotFound):
            async for _ in face.animate(portrait="sha256:" + "a" * 64, audio=speech):
                pass
    async with TalkingFace("127.0.0.1:1") as nobody:
        with pytest.raises(Unavailable) as unavailable:
            await nobody.capabilities()
        assert unavailable.value.retry_delay
        with pytest.raises(TalkingFaceError):
            async for _ in nobody.animate(portrait=None, audio=speech):
                pass


async def test_an_error_of_the_audio_source_reaches_the_caller(
    mesh: ServiceProcess, speech: bytes
) -> None:
    async def microphone() -> AsyncIterator[bytes]:
        yield speech
        raise RuntimeError("the microphone is gone")

    async with TalkingFace(mesh.address) as face:
        with pytest.raises(RuntimeError, match="microphone is gone"):
            async for _ in face.animate(
                portrait=None,
                audio=microphone(),
                audio_format=pcm(RATE),
                output=OUTPUT_KIND_MOTION,
            ):
                pass


async def test_leaving_the_loop_ends_the_session(
    mesh: ServiceProcess, portrait_file: Path, speech: bytes
) -> None:
    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield speech
            await asyncio.sleep(0.1)

    async with TalkingFace(mesh.address) as face:
        messages = face.animate(
            portrait=portrait_file,
            audio=endless(),
            audio_format=pcm(RATE),
            output=OUTPUT_KIND_H264,
        )
        async for message in messages:
            if isinstance(message, Media):
                break
        await messages.aclose()
        record(f"free {await until_free(mesh) * 1000:.0f} ms after the end")
