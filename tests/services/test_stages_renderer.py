"""The renderer over gRPC with its real Triton: portraits, frames, refusals."""

from __future__ import annotations

import asyncio
import io
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import av
import cv2
import grpc
import numpy as np
import pytest
from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import Message
from PIL import Image

from talkingface.contract.channel import CLIENT_OPTIONS
from talkingface.contract.errors import ServiceError
from talkingface.contract.messages import motion_message
from talkingface.contract.motion import ARKIT_INDEX, MOTION_DIM, YAW, neutral
from talkingface.contract.portrait import handle_of
from talkingface.contract.video import RenderLevel, View
from talkingface.renderer import geometry
from talkingface.renderer.h264 import H264Encoder, H264Format
from talkingface.renderer.portrait_store import PORTRAIT, PreparedPortraitStore, pack, unpack
from talkingface.renderer.session import RenderSession
from talkingface.renderer.video_encoder import make_encoder
from talkingface.renderer.worker.portrait_preparation import PortraitPreparation
from talkingface.v1 import renderer_pb2_grpc
from talkingface.v1.media_pb2 import FRAMING_CROP, FRAMING_PHOTO, VideoCodec, VideoFormat
from talkingface.v1.renderer_pb2 import (
    Portrait,
    PreparePortraitRequest,
    RenderConfig,
    RenderRequest,
)
from tests.support.services import ServiceProcess, StreamClient, until_free

H264, JPEG, PNG = (
    VideoCodec.VIDEO_CODEC_H264,
    VideoCodec.VIDEO_CODEC_JPEG,
    VideoCodec.VIDEO_CODEC_PNG,
)
END = RenderRequest(end=Empty())
# How often the renderer's Triton has prepared a portrait.
PREPARATIONS = 'talkingface_step_seconds_count{service="renderer",step="portrait_preparation"'


@pytest.fixture
async def stub(
    renderer_service: ServiceProcess,
) -> AsyncIterator[renderer_pb2_grpc.RendererServiceStub]:
    """Client of the renderer."""
    async with grpc.aio.insecure_channel(renderer_service.address, CLIENT_OPTIONS) as channel:
        yield renderer_pb2_grpc.RendererServiceStub(channel)


async def prepare(
    stub: renderer_pb2_grpc.RendererServiceStub, content: bytes, chunk: int = 1 << 20
) -> Portrait:
    """Prepare a portrait sent in chunks."""
    chunks = [content[i : i + chunk] for i in range(0, len(content), chunk)]
    call = stub.PreparePortrait(PreparePortraitRequest(data=data) for data in chunks)
    try:
        return (await call).portrait
    except grpc.aio.AioRpcError as error:
        raise ServiceError.from_rpc(error) from error


@pytest.fixture
async def handle(stub: renderer_pb2_grpc.RendererServiceStub, portrait_image: bytes) -> str:
    """Handle of the prepared portrait."""
    return (await prepare(stub, portrait_image)).handle


def config(handle: str, codec: Any = H264, **fields: Any) -> RenderRequest:
    """First message of a stream."""
    return RenderRequest(
        config=RenderConfig(session_id="test-1", portrait_handle=handle, codec=codec, **fields)
    )


def speaking(frames: int) -> np.ndarray:
    """Motion (frames, 60): jaw and head move, the eyes shut at frame 4."""
    motion = neutral(frames)
    beat = np.arange(frames)
    motion[:, ARKIT_INDEX["jawOpen"]] = 0.4 * np.abs(np.sin(beat))
    motion[:, YAW] = 8 * np.sin(beat / 5)
    for side in ("Left", "Right"):
        motion[4:5, ARKIT_INDEX[f"eyeBlink{side}"]] = 1
    return motion


def messages(motion: np.ndarray, chunk: int = 2) -> list[RenderRequest]:
    """Messages of motion in chunks."""
    return [
        RenderRequest(motion=motion_message(i, motion[i : i + chunk]))
        for i in range(0, len(motion), chunk)
    ]


async def render(
    stub: renderer_pb2_grpc.RendererServiceStub, first: RenderRequest, motion: np.ndarray
) -> list[bytes]:
    """The packets of a whole stream, their order checked."""
    answers = await StreamClient(stub.Render).exchange([first, *messages(motion), END])
    assert answers[0].started.stage == "renderer"
    assert answers[0].started.model.startswith("frame_synthesis@")
    frames = [answer.frame for answer in answers[1:]]
    assert [frame.index for frame in frames] == list(range(len(motion)))
    return [frame.data for frame in frames]


# --- portraits


async def test_a_portrait_is_described(
    stub: renderer_pb2_grpc.RendererServiceStub,
    renderer_service: ServiceProcess,
    portrait_image: bytes,
) -> None:
    portrait = await prepare(stub, portrait_image, 10_000)
    assert portrait.handle == handle_of(portrait_image)
    assert (portrait.width, portrait.height) == (512, 512)
    face = portrait.face
    # Where a person sees the face in the photo.
    assert 150 < face.left < face.left + face.width < 300
    assert 40 < face.top < face.top + face.height < 200
    assert abs(portrait.yaw) < 15
    preparations = renderer_service.metric(PREPARATIONS)
    assert await prepare(stub, portrait_image) == portrait
    assert renderer_service.metric(PREPARATIONS) == preparations > 0


def encoded(image: np.ndarray, form: str = "PNG") -> bytes:
    """A file of an image."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, form)
    return file.getvalue()


BAD_IMAGES = {
    "nothing": (b"", "IMAGE_BROKEN"),
    "no image": (b"hello, world" * 100, "IMAGE_BROKEN"),
    "a GIF": (encoded(np.zeros((100, 100), np.uint8), "GIF"), "IMAGE_FORMAT"),
    "nobody": (encoded(np.full((400, 400, 3), 128, np.uint8)), "NO_FACE"),
    "too many bytes": (bytes((20 << 20) + 1), "IMAGE_TOO_LARGE"),
}


@pytest.mark.parametrize("case", BAD_IMAGES)
async def test_a_bad_image_is_refused(
    stub: renderer_pb2_grpc.RendererServiceStub, case: str
) -> None:
    content, reason = BAD_IMAGES[case]
    with pytest.raises(ServiceError) as refused:
        await prepare(stub, content)
    assert refused.value.reason == reason
    assert not refused.value.retryable


async def test_a_cut_off_file_is_refused(
    stub: renderer_pb2_grpc.RendererServiceStub, portrait_image: bytes
) -> None:
    with pytest.raises(ServiceError, match="IMAGE_BROKEN"):
        await prepare(stub, portrait_image[: len(portrait_image) // 2])


# What is wrong with the face, and the number that names what was found.
BAD_FACES = {
    "two faces": ("SEVERAL_FACES", "count", 2, 0),
    "a small face": ("FACE_TOO_SMALL", "pixels", 73, 6),
    "a face turned away": ("FACE_TURNED", "yaw", 50, 5),
    "a face in the dark": ("TOO_DARK", "brightness", 22, 6),
}


@pytest.fixture(scope="module")
def bad_faces(portrait_image: bytes, turned_face: bytes) -> dict[str, bytes]:
    """A file for each of `BAD_FACES`."""
    image = Image.open(io.BytesIO(portrait_image)).convert("RGB")
    face = np.asarray(image)[:250, 100:350]
    return {
        "two faces": encoded(np.hstack([face, face[:, ::-1]])),
        "a small face": encoded(np.asarray(image.resize((330, 330)))),
        "a face turned away": turned_face,
        "a face in the dark": encoded(np.asarray(image) // 10),
    }


@pytest.mark.parametrize("case", BAD_FACES)
async def test_a_bad_face_is_refused_with_what_was_found(
    stub: renderer_pb2_grpc.RendererServiceStub, bad_faces: dict[str, bytes], case: str
) -> None:
    reason, name, expected, tolerance = BAD_FACES[case]
    with pytest.raises(ServiceError) as refused:
        await prepare(stub, bad_faces[case])
    assert refused.value.reason == reason
    assert not refused.value.retryable
    found = float(refused.value.metadata[name])
    assert found == pytest.approx(expected, abs=tolerance)
    assert f"{abs(found):.0f}" in refused.value.message


async def test_a_message_too_large_is_refused(
    stub: renderer_pb2_grpc.RendererServiceStub,
) -> None:
    with pytest.raises(ServiceError, match="MESSAGE_TOO_LARGE"):
        await prepare(stub, bytes(2 << 20), chunk=2 << 20)


# --- frames


def decode_h264(packets: list[bytes]) -> list[np.ndarray]:
    """All frames (512, 512, 3) RGB."""
    codec = av.CodecContext.create("h264", "r")
    frames = [frame for packet in packets for frame in codec.decode(av.Packet(packet))]
    frames += codec.decode(None)
    return [frame.to_ndarray(format="rgb24") for frame in frames]


async def test_every_frame_comes_and_decodes(
    stub: renderer_pb2_grpc.RendererServiceStub, handle: str
) -> None:
    motion = speaking(7)
    answers = await StreamClient(stub.Render).exchange(
        [config(handle, keyframe_interval=3), *messages(motion), END]
    )
    assert [a.frame.keyframe for a in answers[1:]] == [i % 3 == 0 for i in range(7)]
    packets = [a.frame.data for a in answers[1:]]
    lossless = await render(stub, config(handle, PNG), motion)
    jpegs = await render(stub, config(handle, JPEG), motion)
    truth = [cv2.imdecode(np.frombuffer(p, np.uint8), 1)[..., ::-1] for p in lossless]
    coded = [cv2.imdecode(np.frombuffer(p, np.uint8), 1)[..., ::-1] for p in jpegs]
    decoded = decode_h264(packets)
    assert len(decoded) == 7
    for a, b, c in zip(truth, decoded, coded, strict=True):
        assert np.abs(a.astype(int) - b).mean() < 4
        assert np.abs(a.astype(int) - c).mean() < 3
    # Decoding can begin at any keyframe.
    assert len(decode_h264(packets[3:])) == 4
    # The face moves, the corner of the frame does not.
    change = np.abs(truth[4].astype(int) - truth[0]).mean(axis=2)
    assert change[150:350, 150:350].mean() > 2
    assert change[:20, :20].max() < 3


def decoded(packets: list[bytes]) -> list[np.ndarray]:
    """Frames (H, W, 3) RGB of PNG or JPEG files."""
    return [cv2.imdecode(np.frombuffer(p, np.uint8), 1)[..., ::-1] for p in packets]


async def test_a_crop_has_the_size_that_is_asked_for(
    stub: renderer_pb2_grpc.RendererServiceStub, handle: str
) -> None:
    motion = speaking(3)
    frames = decoded(await render(stub, config(handle, PNG), motion))
    for size in (256, 1024):
        sized = decoded(await render(stub, config(handle, PNG, size=size), motion))
        for frame, other in zip(frames, sized, strict=True):
            assert other.shape == (size, size, 3)
            reduced = cv2.resize(frame, (256, 256), interpolation=cv2.INTER_AREA)
            again = cv2.resize(other, (256, 256), interpolation=cv2.INTER_AREA)
            assert np.abs(reduced.astype(int) - again).max() <= (0 if size == 256 else 12)
    video = await render(stub, config(handle, size=1024), motion)
    assert [picture.shape for picture in decode_h264(video)] == [(1024, 1024, 3)] * 3


async def test_another_background_is_shown(
    stub: renderer_pb2_grpc.RendererServiceStub, handle: str
) -> None:
    motion = speaking(3)
    motion[:, YAW] = 5
    image = cv2.imencode(".png", np.full((90, 70, 3), (60, 20, 240), np.uint8))[1].tobytes()
    photo = decoded(await render(stub, config(handle, PNG), motion))
    before = decoded(await render(stub, config(handle, PNG, background={"image": image}), motion))
    clear = await render(stub, config(handle, PNG, background={"transparent": {}}), motion)
    for own, frame, data in zip(photo, before, clear, strict=True):
        rgba = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
        assert rgba.shape == (512, 512, 4)
        behind = rgba[..., 3] == 0
        assert behind.mean() > 0.05
        assert (frame[behind] == (240, 20, 60)).all()
        middle = (slice(226, 286), slice(226, 286))
        np.testing.assert_array_equal(frame[middle], own[middle])
        assert (rgba[middle][..., 3] >= 254).all()
    video = decode_h264(await render(stub, config(handle, background={"transparent": {}}), motion))
    assert [picture.shape for picture in video] == [(512, 1024, 3)] * 3
    assert (video[0][226:286, 512 + 226 : 512 + 286] > 245).all()


async def test_the_whole_photo_moves_only_around_the_head(
    stub: renderer_pb2_grpc.RendererServiceStub, portrait_image: bytes
) -> None:
    coarse = np.random.default_rng(0).integers(60, 200, (24, 32, 3), np.uint8)
    photo = cv2.resize(coarse, (903, 701), interpolation=cv2.INTER_CUBIC)
    portrait = np.asarray(Image.open(io.BytesIO(portrait_image)).convert("RGB"))
    photo[150:662, 300:812] = portrait
    prepared = await prepare(stub, encoded(photo))
    whole = config(prepared.handle, PNG, framing=FRAMING_PHOTO)
    frames = decoded(await render(stub, whole, speaking(4)))
    face = prepared.face
    near = np.s_[
        round(face.top - face.height) : round(face.top + 2 * face.height),
        round(face.left - face.width) : round(face.left + 2 * face.width),
    ]
    for frame in frames:
        assert frame.shape == (700, 902, 3)
        same = (frame == photo[:700, :902]).all(axis=2)
        same[near] = True
        assert same.all()
    changed = np.abs(frames[3].astype(int) - frames[0])[near]
    assert changed.mean() > 1
    video = decode_h264(
        await render(stub, config(prepared.handle, framing=FRAMING_PHOTO), speaking(2))
    )
    assert video[0].shape == (700, 902, 3)
    assert np.abs(video[1][near].astype(int) - frames[1][near]).mean() < 5


async def test_more_frames_a_second_keep_those_of_the_motion(
    stub: renderer_pb2_grpc.RendererServiceStub, handle: str
) -> None:
    motion = speaking(5)
    frames = await render(stub, config(handle, JPEG, size=256), motion)
    first = config(handle, JPEG, size=256, frame_rate=50)
    answers = await StreamClient(stub.Render).exchange([first, *messages(motion, 3), END])
    assert answers[0].started.look_ahead_ms == 40
    twice = [answer.frame.data for answer in answers[1:]]
    assert len(twice) == 10
    assert twice[::2] == frames
    assert twice[1] not in frames
    assert twice[9] == frames[4]


async def test_frames_do_not_depend_on_neighbours(
    stub: renderer_pb2_grpc.RendererServiceStub, handle: str, portrait_image: bytes
) -> None:
    mirrored = np.asarray(Image.open(io.BytesIO(portrait_image)).convert("RGB"))[:, ::-1]
    other = (await prepare(stub, encoded(np.ascontiguousarray(mirrored)))).handle
    motion = speaking(5)
    alone = [await render(stub, config(h, JPEG), motion) for h in (handle, other)]
    assert alone[0] != alone[1]
    together = await asyncio.gather(
        *(render(stub, config(h, JPEG), motion) for h in (handle, other, handle))
    )
    assert together == [alone[0], alone[1], alone[0]]


async def test_a_slow_reader_blocks_nobody_else(
    stub: renderer_pb2_grpc.RendererServiceStub, handle: str
) -> None:
    slow = stub.Render()
    await slow.write(config(handle, PNG))
    assert (await slow.read()).HasField("started")
    for message in messages(speaking(40)):
        await slow.write(message)
    # It reads nothing of 16 MB: more than the buffers on the way hold.
    assert len(await render(stub, config(handle, JPEG), speaking(4))) == 4
    for index in range(40):
        assert (await slow.read()).frame.index == index
    slow.cancel()


async def test_frames_flow_before_the_motion_ends(
    stub: renderer_pb2_grpc.RendererServiceStub, renderer_service: ServiceProcess, handle: str
) -> None:
    call = stub.Render()
    await call.write(config(handle))
    assert (await call.read()).HasField("started")
    await call.write(messages(speaking(2))[0])
    async with asyncio.timeout(60):
        assert (await call.read()).frame.index == 0
        assert (await call.read()).frame.index == 1
    assert renderer_service.slots_in_use() == 1
    call.cancel()
    await until_free(renderer_service)


async def test_half_the_rate_repeats_every_other_frame(
    stub: renderer_pb2_grpc.RendererServiceStub, renderer_service: ServiceProcess, handle: str
) -> None:
    """From a stated frame on and without a gap; what is shown shows its own motion exactly."""
    repeated = 'talkingface_items_total{kind="repeated_frames"'
    motion, before = speaking(12), renderer_service.metric(repeated)
    full = [decode_png(data) for data in await render(stub, config(handle, PNG), motion)]
    requests = messages(motion, 1)
    for request in requests[4:8]:
        request.level = RenderLevel.HALF_RATE
    answers = await StreamClient(stub.Render).exchange([config(handle, PNG), *requests, END])
    frames = [answer.frame for answer in answers[1:]]
    assert [frame.index for frame in frames] == list(range(12))
    assert [frame.load > 0 for frame in frames] == [i not in (5, 7) for i in range(12)]
    assert renderer_service.metric(repeated) == before + 2
    images = [decode_png(frame.data) for frame in frames]
    for index in (*range(4), *range(8, 12)):
        assert np.array_equal(images[index], full[index])
    half = await at_level(stub, handle, motion, RenderLevel.HALF_RESOLUTION)
    for index in (4, 6):
        assert np.array_equal(images[index], images[index + 1])
        assert np.array_equal(images[index], half[index])


async def test_half_the_resolution_shows_the_same_frames_less_sharply(
    stub: renderer_pb2_grpc.RendererServiceStub, handle: str
) -> None:
    motion = speaking(4)
    full, half = [
        await at_level(stub, handle, motion, level)
        for level in (RenderLevel.FULL, RenderLevel.HALF_RESOLUTION)
    ]
    for sharp, soft in zip(full, half, strict=True):
        assert cv2.Laplacian(soft, cv2.CV_64F).std() < 0.8 * cv2.Laplacian(sharp, cv2.CV_64F).std()
        small = cv2.resize(sharp, (256, 256), interpolation=cv2.INTER_AREA)
        blurred = cv2.resize(small, (512, 512), interpolation=cv2.INTER_LINEAR)
        assert np.abs(blurred.astype(int) - soft).mean() < np.abs(sharp.astype(int) - soft).mean()
        assert np.abs(blurred.astype(int) - soft).mean() < 2


async def at_level(
    stub: renderer_pb2_grpc.RendererServiceStub, handle: str, motion: np.ndarray, level: int
) -> list[np.ndarray]:
    """Images of motion rendered at a level from its first frame on."""
    requests = messages(motion, 1)
    for request in requests:
        request.level = level
    answers = await StreamClient(stub.Render).exchange([config(handle, PNG), *requests, END])
    return [decode_png(answer.frame.data) for answer in answers[1:]]


async def test_a_video_at_half_the_rate_has_all_its_frames(
    stub: renderer_pb2_grpc.RendererServiceStub, handle: str
) -> None:
    requests = messages(speaking(9), 3)
    for request in requests:
        request.level = RenderLevel.HALF_RATE
    first = config(handle, frame_rate=50)
    answers = await StreamClient(stub.Render).exchange([first, *requests, END])
    codec = av.CodecContext.create("h264", "r")
    packets = [av.Packet(answer.frame.data) for answer in answers[1:]]
    frames = [frame for packet in packets for frame in codec.decode(packet)] + codec.decode(None)
    assert len(packets) == len(frames) == 18


def decode_png(data: bytes) -> np.ndarray:
    """An image (H, W, 3)."""
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)


# --- refusals


def off_range() -> np.ndarray:
    """Motion with a jaw beyond open."""
    motion = neutral(2)
    motion[1, ARKIT_INDEX["jawOpen"]] = 1.5
    return motion


@pytest.mark.parametrize(
    ("fields", "motion", "reason", "path"),
    [
        ({"codec": VideoCodec.VIDEO_CODEC_UNSPECIFIED}, None, "FIELD_INVALID", "config.codec"),
        ({"quality": 9}, None, "FIELD_INVALID", "config.quality"),
        ({"codec": JPEG, "quality": 101}, None, "FIELD_INVALID", "config.quality"),
        ({"keyframe_interval": 0}, None, "FIELD_INVALID", "config.keyframe_interval"),
        ({"size": 1026}, None, "FIELD_INVALID", "config.size"),
        ({"size": 257}, None, "FIELD_INVALID", "config.size"),
        ({"size": 512, "framing": FRAMING_PHOTO}, None, "FIELD_INVALID", "config.size"),
        ({"frame_rate": 61}, None, "FIELD_INVALID", "config.frame_rate"),
        ({"framing": 7}, None, "FIELD_INVALID", "config.framing"),
        (
            {"codec": JPEG, "background": {"transparent": {}}},
            None,
            "FIELD_INVALID",
            "config.background.transparent",
        ),
        (
            {"background": {"image": b"no image"}},
            speaking(2),
            "FIELD_INVALID",
            "config.background.image",
        ),
        ({"handle": ""}, None, "FIELD_INVALID", "config.portrait_handle"),
        ({"handle": "../../etc/passwd"}, None, "PORTRAIT_NOT_FOUND", ""),
        ({"handle": handle_of(b"never seen")}, None, "PORTRAIT_NOT_FOUND", ""),
        ({}, off_range(), "FIELD_INVALID", "motion.frames[1].coefficients[17]"),
    ],
)
async def test_bad_render_input_is_refused(
    stub: renderer_pb2_grpc.RendererServiceStub,
    renderer_service: ServiceProcess,
    handle: str,
    fields: dict[str, Any],
    motion: np.ndarray | None,
    reason: str,
    path: str,
) -> None:
    requests: list[Message] = [config(**{"handle": handle, **fields})]
    requests += messages(motion) if motion is not None else []
    await StreamClient(stub.Render).check_refusal(requests, reason, path)
    assert renderer_service.slots_in_use() == 0


async def test_an_unknown_level_is_refused(
    stub: renderer_pb2_grpc.RendererServiceStub, handle: str
) -> None:
    requests = [config(handle), *messages(neutral(2))]
    requests[1].level = 3
    await StreamClient(stub.Render).check_refusal(requests, "FIELD_INVALID", "level")


async def test_a_gap_in_the_motion_is_refused(
    stub: renderer_pb2_grpc.RendererServiceStub, handle: str
) -> None:
    requests = [config(handle), RenderRequest(motion=motion_message(3, neutral(1)))]
    await StreamClient(stub.Render).check_refusal(requests, "MESSAGE_ORDER")


# --- parts without network


def test_a_session_gives_frames_in_order() -> None:
    view = View(FRAMING_CROP, 512, 512)
    session = RenderSession(handle_of(b"photo"), view, 25)
    motion = speaking(5)
    session.push(motion[:2])
    session.push(motion[2:])
    requests = []
    while (request := session.next_request()) is not None:
        requests.append(request)
    assert np.array_equal([r["motion"] for r in requests], motion)
    assert all(r["portrait"].tobytes().hex() in handle_of(b"photo") for r in requests)
    assert all(View.from_array(r["view"]) == view for r in requests)
    image = np.zeros((512, 512, 3), np.uint8)
    assert [session.accept({"image": image}).index for _ in requests] == list(range(5))
    with pytest.raises(RuntimeError):
        session.accept({"image": image})
    with pytest.raises(ValueError, match=str(MOTION_DIM)):
        session.push(motion[:, :57])
    session.push(motion[:1])
    assert session.next_request() is not None
    with pytest.raises(ValueError, match="512, 3"):
        session.accept({"image": image[:-1]})


def test_a_session_interpolates() -> None:
    session = RenderSession(handle_of(b"photo"), View(FRAMING_CROP, 512, 512), 50)
    motion = speaking(5)
    session.push(motion)
    requests = list(iter(session.next_request, None))
    assert len(requests) == 9
    assert np.array_equal([r["motion"] for r in requests[::2]], motion)
    session.end()
    assert len(list(iter(session.next_request, None))) == 1


def test_the_same_frames_give_the_same_bytes() -> None:
    images = np.random.default_rng(0).integers(0, 255, (4, 96, 64), np.uint8)
    streams = [[encoder.encode(image) for image in images] for encoder in h264_pair()]
    assert streams[0] == streams[1]
    assert [keyframe for _, keyframe in streams[0]] == [True, False, True, False]


def h264_pair() -> tuple[H264Encoder, H264Encoder]:
    """Two fresh encoders with an IDR every other frame."""
    form = H264Format(64, 64, frame_rate=25, crf=20, keyframe_interval=2)
    return H264Encoder(form), H264Encoder(form)


@pytest.mark.parametrize("codec", [H264, JPEG, PNG])
def test_an_encoder_repeats_a_frame(codec: VideoCodec) -> None:
    picture = VideoFormat(width=64, height=64, frame_rate=25)
    shape = (96, 64) if codec == H264 else (64, 64, 3)
    image = np.random.default_rng(0).integers(0, 255, shape, np.uint8)
    encoder, other = (make_encoder(RenderConfig(codec=codec), picture) for _ in range(2))
    assert encoder.encode(image) == other.encode(image)
    assert encoder.repeat() == other.encode(image)


def test_quality_is_obeyed() -> None:
    picture = VideoFormat(width=64, height=64, frame_rate=25)
    for codec, shape, rough, fine in ((H264, (96, 64), 40, 10), (JPEG, (64, 64, 3), 50, 100)):
        image = np.random.default_rng(0).integers(0, 255, shape, np.uint8)
        sizes = [
            len(make_encoder(RenderConfig(codec=codec, quality=q), picture).encode(image)[0])
            for q in (rough, fine)
        ]
        assert sizes[0] < sizes[1] / 2


@pytest.mark.parametrize("rate", [25, 30, 60])
def test_video_has_its_frame_rate_and_keyframes(rate: int) -> None:
    picture = VideoFormat(width=66, height=70, frame_rate=rate)  # no multiples of 4
    encoder = make_encoder(RenderConfig(codec=H264), picture)
    images = np.random.default_rng(0).integers(0, 255, (2 * rate + 1, 105, 66), np.uint8)
    coded = [encoder.encode(image) for image in images]
    assert [i for i, (_, keyframe) in enumerate(coded) if keyframe] == [0, 2 * rate]
    codec = av.CodecContext.create("h264", "r")
    frames = [f for data, _ in coded for f in codec.decode(av.Packet(data))] + codec.decode(None)
    assert len(frames) == len(images)
    assert (frames[0].width, frames[0].height) == (66, 70)
    assert codec.framerate == rate


def test_a_store_keeps_finds_and_evicts(tmp_path: Path) -> None:
    store = PreparedPortraitStore(tmp_path, max_bytes=2_500_000)
    handles = [handle_of(bytes([i])) for i in range(4)]
    arrays: dict[str, np.ndarray] = {
        "frame.plane": np.arange(1_000_000, dtype=np.uint8),
        "other": np.zeros(3),
    }
    for age, handle in enumerate(handles):
        store.save(Portrait(handle=handle, width=age), arrays)
        time.sleep(0.02)
    assert np.array_equal(store.load(handles[1], "frame")["frame.plane"], arrays["frame.plane"])
    assert store.portrait(handles[3]).width == 3
    assert store.has(handles[0])  # used again: now the youngest
    deleted = store.evict(in_use=[handles[1]])
    assert len(deleted) == 2
    assert [store.has(handle) for handle in handles] == [True, True, False, False]
    with pytest.raises(ServiceError, match="PORTRAIT_NOT_FOUND"):
        store.load(handles[2], "frame")
    assert not list(tmp_path.glob("*.part"))


def test_a_packed_portrait_comes_back(portrait_image: bytes) -> None:
    _, arrays = PortraitPreparation().prepare(portrait_image)
    assert all(array.dtype != object for array in arrays.values())
    portrait = unpack(geometry.PreparedPortrait, arrays, PORTRAIT)
    again = pack(portrait, PORTRAIT)
    assert again.keys() == {name for name in arrays if name.startswith(f"{PORTRAIT}.")}
    assert all(np.array_equal(again[name], arrays[name]) for name in again)
    motion = speaking(5)[4]
    frame = geometry.render(portrait, motion)
    assert frame.image.shape == (512, 512, 3)
