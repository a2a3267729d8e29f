"""Sessions with frames, through the whole mesh."""

from __future__ import annotations

import asyncio
import io
import zlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import av
import grpc
import numpy as np
import pytest
from PIL import Image

from talkingface.client import (
    OUTPUT_KIND_FMP4,
    OUTPUT_KIND_H264,
    OUTPUT_KIND_JPEG,
    OUTPUT_KIND_PNG,
    Media,
    Started,
    Summary,
    TalkingFace,
    TalkingFaceError,
    pcm,
)
from talkingface.contract.portrait import handle_of
from talkingface.v1 import talking_face_pb2 as talking_face
from talkingface.v1.talking_face_pb2_grpc import TalkingFaceServiceStub
from tests.support.audio import RATE, pcm16
from tests.support.report import record
from tests.support.services import ServiceProcess, until_free


@pytest.fixture(scope="session")
def image(portrait_file: Path) -> bytes:
    return portrait_file.read_bytes()


@pytest.fixture(scope="session")
def speech(voice: np.ndarray) -> bytes:
    """0.81 s of made-up speech: 21 frames, the last one in part."""
    return pcm16(voice[:12960])


@pytest.fixture
async def face(mesh: ServiceProcess) -> AsyncIterator[TalkingFace]:
    async with TalkingFace(mesh.address) as client:
        yield client


async def media_of(face: TalkingFace, portrait: Any, audio: Any, **options: Any) -> list[Media]:
    options = {"audio_format": pcm(RATE), "seed": 3, **options}
    messages = face.animate(portrait=portrait, audio=audio, **options)
    return [message async for message in messages if isinstance(message, Media)]


async def test_a_portrait_speaks(face: TalkingFace, image: bytes, speech: bytes) -> None:
    messages = [
        message
        async for message in face.animate(
            portrait=image, audio=speech, audio_format=pcm(RATE), seed=3
        )
    ]
    started, summary = messages[0], messages[-1]
    assert isinstance(started, Started)
    assert isinstance(summary, Summary)
    assert [stage.stage for stage in started.stages] == ["audio_features", "motion_gen", "renderer"]
    assert started.portrait.handle == started.config.portrait_handle == handle_of(image)
    assert (started.portrait.width, started.portrait.height) == (512, 512)
    assert not started.config.portrait_image
    assert summary.frames == 21
    file = io.BytesIO(b"".join(m.data for m in messages if isinstance(m, Media)))
    with av.open(file, "r") as container:
        video = container.streams.video[0]
        assert (video.width, video.height, video.codec_context.name) == (512, 512, "h264")
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video)]
    assert len(frames) == 21
    original = np.asarray(Image.open(io.BytesIO(image)).convert("RGB"))
    assert np.abs(frames[0].astype(int).mean() - original.mean()) < 40, "it shows the portrait"
    file.seek(0)
    with av.open(file, "r") as container:
        last: Any = [p for p in container.demux(container.streams.audio[0]) if p.size][-1]
        seconds = (last.pts + last.duration) * last.time_base
    assert abs(float(seconds) - 0.81) < 0.001


@pytest.mark.parametrize(("output", "form"), [(OUTPUT_KIND_JPEG, "JPEG"), (OUTPUT_KIND_PNG, "PNG")])
async def test_single_frames(
    face: TalkingFace, image: bytes, speech: bytes, output: Any, form: str
) -> None:
    chunks = await media_of(face, image, speech, output=output)
    assert [chunk.first_frame for chunk in chunks] == list(range(21))
    assert [chunk.presentation_time.ToMilliseconds() for chunk in chunks[:3]] == [0, 40, 80]
    assert b"".join(chunk.audio for chunk in chunks) == pytest.approx(speech)
    for chunk in chunks:
        frame = Image.open(io.BytesIO(chunk.data))
        assert (frame.format, frame.size) == (form, (512, 512))
        assert chunk.keyframe


async def test_access_units(face: TalkingFace, image: bytes, speech: bytes) -> None:
    chunks = await media_of(face, image, speech, output=OUTPUT_KIND_H264, quality=30)
    assert len(chunks) == 21
    assert chunks[0].keyframe
    decoder = av.CodecContext.create("h264", "r")
    frames = [f for chunk in chunks for f in decoder.decode(av.Packet(chunk.data))]
    frames += decoder.decode(None)
    assert len(frames) == 21


async def test_an_uploaded_portrait_gives_the_same_frames(
    face: TalkingFace, image: bytes, speech: bytes
) -> None:
    portrait = await face.upload_portrait(image)
    assert portrait.handle == handle_of(image)
    assert portrait.face.width > 50
    one = await media_of(face, portrait.handle, speech, output=OUTPUT_KIND_PNG)
    other = await media_of(face, image, speech, output=OUTPUT_KIND_PNG)
    assert [chunk.data for chunk in one] == [chunk.data for chunk in other]


def prepared(renderer_service: ServiceProcess) -> list[Path]:
    """Files of the portraits that the renderer keeps."""
    return list(Path(renderer_service.settings["portrait_store"]).glob("*.npz"))


async def test_a_renderer_that_lost_a_portrait_gets_it_again(
    mesh: ServiceProcess,
    renderer_service: ServiceProcess,
    face: TalkingFace,
    image: bytes,
    speech: bytes,
) -> None:
    handle = (await face.upload_portrait(image)).handle
    assert prepared(renderer_service)
    for path in prepared(renderer_service):
        path.unlink()
    assert len(await media_of(face, handle, speech, output=OUTPUT_KIND_JPEG)) == 21
    assert prepared(renderer_service)


def grey_image(form: str = "PNG", size: tuple[int, int] = (256, 256), value: int = 128) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", size, (value, value, value)).save(file, form)
    return file.getvalue()


def bomb() -> bytes:
    """A PNG of 100 kB whose header claims 10^10 pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        body = kind + data
        return len(data).to_bytes(4, "big") + body + zlib.crc32(body).to_bytes(4, "big")

    size = (100_000).to_bytes(4, "big")
    header = chunk(b"IHDR", size + size + bytes([8, 2, 0, 0, 0]))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(10**6)))


def portraits(image: bytes, turned_face: bytes) -> dict[str, tuple[bytes, str]]:
    """Portraits that cannot be animated, and why."""
    original = Image.open(io.BytesIO(image)).convert("RGB")

    def encoded(image: Image.Image, form: str = "PNG") -> bytes:
        file = io.BytesIO()
        image.save(file, form)
        return file.getvalue()

    two = Image.new("RGB", (1024, 512))
    two.paste(original, (0, 0))
    two.paste(original, (512, 0))
    tiny = Image.new("RGB", (1024, 1024), (90, 90, 90))
    tiny.paste(original.resize((340, 340)), (400, 400))
    return {
        "empty": (b"", "IMAGE_BROKEN"),
        "text": (b"this is not an image", "IMAGE_BROKEN"),
        "GIF": (encoded(original, "GIF"), "IMAGE_FORMAT"),
        "cut off": (image[: len(image) // 2], "IMAGE_BROKEN"),
        "bomb": (bomb(), "IMAGE_TOO_LARGE"),
        "no face": (grey_image(), "NO_FACE"),
        "two faces": (encoded(two), "SEVERAL_FACES"),
        "a tiny face": (encoded(tiny), "FACE_TOO_SMALL"),
        "turned away": (turned_face, "FACE_TURNED"),
        "too dark": (encoded(original.point(lambda value: value // 12)), "TOO_DARK"),
    }


@pytest.mark.parametrize(
    "what",
    [
        *("empty", "text", "GIF", "cut off", "bomb", "no face"),
        *("two faces", "a tiny face", "turned away", "too dark"),
    ],
)
async def test_a_portrait_that_cannot_be_animated(
    face: TalkingFace, image: bytes, turned_face: bytes, speech: bytes, what: str
) -> None:
    content, reason = portraits(image, turned_face)[what]
    with pytest.raises(TalkingFaceError) as caught:
        await face.upload_portrait(content)
    assert caught.value.reason == reason
    with pytest.raises(TalkingFaceError) as caught:
        await media_of(face, content, speech)
    assert caught.value.reason == reason
    assert caught.value.code == grpc.StatusCode.INVALID_ARGUMENT


async def test_after_bad_portraits_good_ones_are_served(
    face: TalkingFace, image: bytes, speech: bytes
) -> None:
    with pytest.raises(TalkingFaceError):
        await face.upload_portrait(grey_image())
    assert len(await media_of(face, image, speech, output=OUTPUT_KIND_H264)) == 21


async def test_an_upload_has_its_limits(mesh: ServiceProcess, face: TalkingFace) -> None:
    with pytest.raises(TalkingFaceError) as caught:
        await face.upload_portrait(bytes((20 << 20) + 1))
    assert caught.value.reason == "IMAGE_TOO_LARGE"
    async with grpc.aio.insecure_channel(mesh.address) as channel:
        chunk = talking_face.UploadPortraitRequest(data=bytes((1 << 20) + 1))
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await TalkingFaceServiceStub(channel).UploadPortrait(iter([chunk]))
    assert refused.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_a_client_that_disconnects_frees_the_renderer_too(
    mesh: ServiceProcess,
    audio_features_service: ServiceProcess,
    motion_gen_service: ServiceProcess,
    renderer_service: ServiceProcess,
    image: bytes,
    speech: bytes,
) -> None:
    services = mesh, audio_features_service, motion_gen_service, renderer_service
    async with TalkingFace(mesh.address) as face:
        messages = face.animate(portrait=image, audio=speech * 10, audio_format=pcm(RATE))
        async for message in messages:
            if isinstance(message, Media):
                break
        assert [service.slots_in_use() for service in services] == [1, 1, 1, 1]
    record(f"free {await until_free(*services) * 1000:.0f} ms after the client disconnected")


async def test_a_reader_that_stops_holds_up_only_itself(
    mesh: ServiceProcess,
    renderer_service: ServiceProcess,
    face: TalkingFace,
    image: bytes,
    speech: bytes,
) -> None:
    handle = (await face.upload_portrait(image)).handle
    options = [("grpc.http2.bdp_probe", 0)]
    async with grpc.aio.insecure_channel(mesh.address, options) as channel:
        slow = TalkingFaceServiceStub(channel).Animate()
        config = talking_face.AnimateConfig(
            portrait_handle=handle, audio=pcm(RATE), output=OUTPUT_KIND_PNG
        )
        await slow.write(talking_face.AnimateRequest(config=config))
        await slow.read()
        frames = 'talkingface_items_total{kind="frames"'
        before = renderer_service.metric(frames)

        async def flood() -> None:
            while True:
                await slow.write(talking_face.AnimateRequest(audio=speech))

        flooding = asyncio.create_task(flood())
        for _ in range(2):
            assert len(await media_of(face, handle, speech, output=OUTPUT_KIND_H264)) == 21
        # The session runs 4 s ahead of the frames that it has sent, which wait in a bounded queue.
        assert renderer_service.metric(frames) - before < 2 * 21 + 150
        flooding.cancel()
        slow.cancel()


async def test_a_dry_run_renders(face: TalkingFace, image: bytes) -> None:
    handle = (await face.upload_portrait(image)).handle
    report = await face.self_test(handle)
    assert [(t.stage.stage, t.results) for t in report.timings][2] == ("renderer", 25)
    can = await face.capabilities()
    assert [stage.stage for stage in can.stages] == ["audio_features", "motion_gen", "renderer"]
    assert list(can.outputs) == [
        OUTPUT_KIND_FMP4,
        OUTPUT_KIND_H264,
        OUTPUT_KIND_JPEG,
        OUTPUT_KIND_PNG,
        5,
    ]
