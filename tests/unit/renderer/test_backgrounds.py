"""Backgrounds other than the photo's, without networks."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from talkingface.contract.errors import ServiceError
from talkingface.contract.motion import YAW, neutral
from talkingface.contract.video import Background, BackgroundKind, RenderLevel, View
from talkingface.renderer.geometry import FRAME, PreparedPortrait, prepare
from talkingface.renderer.opencv import cv
from talkingface.renderer.pixels.layers import MARGIN
from talkingface.renderer.pixels.packed import channels
from talkingface.renderer.portrait_store import GREY_FACE, PHOTO, PORTRAIT, pack
from talkingface.renderer.portrait_store import PreparedPortraitStore as Store
from talkingface.renderer.video_encoder import make_encoder
from talkingface.renderer.worker.backgrounds import (
    background_pixels,
    cover,
    cut_out,
    foreground_colours,
    with_background,
)
from talkingface.renderer.worker.frame_synthesis import grey_face, whole_photo
from talkingface.renderer.worker.viewer_cache import ViewerCache
from talkingface.renderer.worker.viewport import Canvases, PhotoPixels, make_viewer
from talkingface.v1 import media_pb2 as media
from talkingface.v1.renderer_pb2 import Portrait, RenderConfig

Image = np.ndarray

GREEN = (0, 177, 64)
COLOUR = Background(BackgroundKind.COLOUR, colour=GREEN)
TRANSPARENT = Background(BackgroundKind.TRANSPARENT)
FACE = (slice(226, 286), slice(226, 286))
CORNER = (slice(0, 40), slice(0, 40))


@pytest.fixture(scope="module")
def portrait() -> PreparedPortrait:
    """A grey face before blue; the edge of its matte is soft."""
    frame, points = grey_face()
    disc = np.zeros((FRAME, FRAME), np.float32)
    cv.circle(disc, (256, 256), 190, 1, -1)
    matte = cv.GaussianBlur(disc, (0, 0), 4)
    behind = np.full_like(frame, (20, 40, 200))
    mixed = behind + matte[..., None] * (frame.astype(np.float32) - behind)
    return prepare((mixed + 0.5).astype(np.uint8), points, matte, behind)


def shown(
    portrait: PreparedPortrait,
    background: Background,
    yaw: float = 8.0,
    planar: bool = False,
    size: int = FRAME,
    level: RenderLevel = RenderLevel.FULL,
    square: Image | None = None,
) -> Image:
    """A frame of a portrait that is turned by some degrees."""
    view = View(media.FRAMING_CROP, size, size, planar, background)
    pixels = whole_photo(portrait.frame)
    if square is not None:
        pixels = PhotoPixels(square, pixels.whole, pixels.place)
    if background.kind != BackgroundKind.PHOTO:
        portrait = cut_out(portrait)
        behind = background_pixels(background, portrait, None)  # type: ignore[arg-type]
        portrait, pixels = with_background(portrait, pixels, behind)
    viewer = make_viewer(portrait, pixels, view)
    motion = portrait.own_motion
    motion[YAW] += yaw
    image = viewer.show(viewer.render(motion, level, Canvases()))
    assert image.shape == view.shape
    return image


def poses_and_levels(test: Any) -> Any:
    """Run a test unmoved and turned, in full and at half the resolution."""
    levels = [RenderLevel.FULL, RenderLevel.HALF_RESOLUTION]
    return pytest.mark.parametrize("yaw", [0.0, 8.0])(
        pytest.mark.parametrize("level", levels)(test)
    )


@poses_and_levels
def test_a_colour_is_behind_the_person(
    portrait: PreparedPortrait, yaw: float, level: RenderLevel
) -> None:
    image = shown(portrait, COLOUR, yaw, level=level)
    assert (image[CORNER] == GREEN).all()
    photo = shown(portrait, Background(), yaw, level=level)
    np.testing.assert_array_equal(image[FACE], photo[FACE])


@poses_and_levels
def test_opacity_is_that_of_the_person(
    portrait: PreparedPortrait, yaw: float, level: RenderLevel
) -> None:
    image = shown(portrait, TRANSPARENT, yaw, level=level)
    assert (image[CORNER][..., 3] == 0).all()
    assert image[FACE][..., 3].min() >= 254
    opaque = shown(portrait, Background(), yaw, level=level)
    off = np.abs(image[FACE][..., :3].astype(int) - opaque[FACE])
    assert np.percentile(off, 99) <= 6  # an unmoved frame is the photo itself, this one is drawn


def test_a_transparent_frame_over_a_colour_is_that_with_the_colour(
    portrait: PreparedPortrait,
) -> None:
    image = shown(portrait, TRANSPARENT).astype(np.float32)
    share = image[..., 3:] / 255
    over = GREEN + share * (image[..., :3] - GREEN)
    off = np.abs(over - shown(portrait, COLOUR))
    assert off.mean() < 0.5
    assert off.max() < 30


def test_an_edge_keeps_nothing_of_the_photo_s_background(portrait: PreparedPortrait) -> None:
    black = shown(portrait, Background(BackgroundKind.COLOUR))
    # The person is grey and the photo's background blue.
    blue = black[..., 2].astype(int) - black[..., 0]
    assert blue.max() < 25
    straight = shown(portrait, TRANSPARENT)
    seen = straight[..., 3] > 8
    assert (straight[seen][:, 2].astype(int) - straight[seen][:, 0]).max() < 40


def test_planes_have_the_opacity_right_of_the_colours(portrait: PreparedPortrait) -> None:
    planes = shown(portrait, TRANSPARENT, planar=True)
    image = shown(portrait, TRANSPARENT)
    assert planes.shape == (FRAME * 3 // 2, 2 * FRAME)
    luma = planes[:FRAME, FRAME:]
    expected = 16 + image[..., 3] * (219 / 255)
    assert np.abs(luma - expected).max() <= 1
    chroma = planes[FRAME:].reshape(2, FRAME // 2, FRAME)[..., FRAME // 2 :]
    assert (chroma == 128).all()
    whole = cv.cvtColor(planes, cv.COLOR_YUV2RGB_I420)
    assert np.abs(whole[:, :FRAME][FACE].astype(int) - image[FACE][..., :3]).mean() < 3


@pytest.mark.parametrize("background", [COLOUR, TRANSPARENT])
def test_a_larger_frame_has_detail_of_the_person_alone(
    portrait: PreparedPortrait, background: Background
) -> None:
    side = 768
    square = cv.resize(portrait.frame, (side, side), interpolation=cv.INTER_CUBIC)
    noise = np.random.default_rng(1).integers(-20, 20, square.shape)
    square = np.clip(square + noise, 0, 255).astype(np.uint8)
    image = shown(portrait, background, 0.0, size=side, square=square)
    grain = image[..., :3].astype(np.float32)
    grain -= cv.GaussianBlur(grain, (0, 0), 2)
    assert grain[330:430, 330:430].std() > 5
    assert grain[:60, :60].std() < 1


def test_doubtful_parts_are_cut_out(portrait: PreparedPortrait) -> None:
    doubtful = portrait.matte.copy()
    doubtful[470:, :40] = 100
    layers = portrait.layers
    filled = layers.rear.copy()
    channels(filled)[MARGIN + 470 : MARGIN + FRAME, MARGIN : MARGIN + 40, 3] = 255
    before = replace(portrait, matte=doubtful, layers=replace(layers, rear=filled))
    opacity = channels(cut_out(before).layers.rear)[..., 3]
    assert (opacity[MARGIN + 470 : MARGIN + FRAME, MARGIN : MARGIN + 40] == 100).all()


def test_foreground_colours_are_found() -> None:
    row = np.clip((np.arange(128, dtype=np.float32) - 60) / 12, 0, 1)
    opacity = np.tile(row, (128, 1))
    person = np.full((128, 128, 3), (180, 60, 30), np.float32)
    behind = np.full((128, 128, 3), (10, 90, 220), np.float32)
    image = behind + opacity[..., None] * (person - behind)
    found = foreground_colours(image, opacity)
    edge = (opacity > 0.1) & (opacity < 1)
    # Weighted as they will be seen.
    off = (np.abs(found - person) * opacity[..., None])[edge].mean()
    assert off < 0.2 * (np.abs(image - person) * opacity[..., None])[edge].mean()


def test_an_image_covers_the_frame() -> None:
    image = np.zeros((300, 900, 3), np.uint8)
    image[:, 300:600] = 200
    assert (cover(image) == 200).mean() > 0.98


def test_views_pass_as_arrays() -> None:
    image = Background.from_message(media.Background(image=b"file"))
    messages = (Background(), COLOUR, TRANSPARENT, image)
    for background in messages:
        view = View(media.FRAMING_CROP, 512, 512, True, background)
        assert view.to_array().shape == (13,)
        assert View.from_array(view.to_array()) == view
    assert len({View(1, 512, 512, True, b).to_array().tobytes() for b in messages}) == 4


@pytest.fixture
def store(tmp_path: Path, portrait: PreparedPortrait) -> Store:
    store = Store(tmp_path)
    arrays = pack(portrait, PORTRAIT) | pack(whole_photo(portrait.frame), PHOTO)
    store.save(Portrait(handle=GREY_FACE), arrays)
    return store


def cached(store: Store, image: bytes) -> Image:
    """The frame that a worker shows of a portrait before an image."""
    background = Background.from_message(media.Background(image=image))
    view = View(media.FRAMING_CROP, FRAME, FRAME, False, background)
    digest = bytes.fromhex(GREY_FACE.removeprefix("sha256:"))
    viewer = ViewerCache(store, 1 << 30)(digest, view.to_array())
    return viewer.show(viewer.render(neutral(1)[0], RenderLevel.FULL, Canvases()))


def encoded(extension: str, colour: tuple[int, int, int]) -> bytes:
    image = np.full((80, 100, 3), colour[::-1], np.uint8)
    return cv.imencode(extension, image)[1].tobytes()


@pytest.mark.parametrize("extension", [".png", ".jpg", ".webp"])
def test_an_image_reaches_the_worker(store: Store, extension: str) -> None:
    image = encoded(extension, (200, 30, 60))
    handle = store.save_background(image)
    assert store.save_background(image) == handle
    assert store.has(handle)
    off = np.abs(cached(store, image)[CORNER].astype(int) - (200, 30, 60))
    assert off.max() <= 4


def test_an_image_that_cannot_be_used_is_refused(store: Store) -> None:
    with pytest.raises(ServiceError) as caught:
        cached(store, b"never stored")
    assert caught.value.reason == "PORTRAIT_NOT_FOUND"
    store.save_background(b"no image")
    with pytest.raises(ServiceError) as caught:
        cached(store, b"no image")
    assert caught.value.reason == "FIELD_INVALID"
    assert set(caught.value.field_violations) == {"config.background.image"}


def encode(codec: Any, image: Image, width: int, height: int) -> bytes:
    picture = media.VideoFormat(width=width, height=height, frame_rate=25)
    encoder = make_encoder(RenderConfig(codec=codec), picture)
    return encoder.encode(image)[0]


def test_png_has_the_opacity(portrait: PreparedPortrait) -> None:
    image = shown(portrait, TRANSPARENT)
    data = encode(media.VIDEO_CODEC_PNG, image, FRAME, FRAME)
    decoded = cv.imdecode(np.frombuffer(data, np.uint8), cv.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(cv.cvtColor(decoded, cv.COLOR_BGRA2RGBA), image)


def test_h264_is_composed_by_the_documented_filter(portrait: PreparedPortrait) -> None:
    planes = shown(portrait, TRANSPARENT, planar=True)
    data = encode(media.VIDEO_CODEC_H264, planes, 2 * FRAME, FRAME)
    codec = av.CodecContext.create("h264", "r")
    assert isinstance(codec, av.VideoCodecContext)
    (frame,) = [*codec.decode(av.Packet(data)), *codec.decode(None)]
    assert (frame.width, frame.height) == (2 * FRAME, FRAME)
    merged = merged_by_filter(frame)
    image = shown(portrait, TRANSPARENT)
    off = np.abs(merged.astype(int) - image)
    assert off[..., 3].mean() < 2
    assert off[..., 3].max() < 40
    assert off[FACE].mean() < 4


def merged_by_filter(frame: av.VideoFrame) -> Image:
    """RGBA by the filters that media.proto states."""
    graph = av.filter.Graph()
    source = graph.add_buffer(
        width=frame.width,
        height=frame.height,
        format=av.VideoFormat(frame.format.name),
        time_base=Fraction(1, 25),
    )
    split, left = graph.add("split"), graph.add("crop", "iw/2:ih:0:0")
    right, grey = graph.add("crop", "iw/2:ih:iw/2:0"), graph.add("format", "gray")
    merge, rgba = graph.add("alphamerge"), graph.add("format", "rgba")
    sink = graph.add("buffersink")
    source.link_to(split)
    split.link_to(left, 0, 0)
    split.link_to(right, 1, 0)
    right.link_to(grey)
    left.link_to(merge, 0, 0)
    grey.link_to(merge, 0, 1)
    merge.link_to(rgba)
    rgba.link_to(sink)
    graph.configure()
    frame.pts = 0
    source.push(frame)
    source.push(None)
    pulled = sink.pull()
    assert isinstance(pulled, av.VideoFrame)
    return pulled.to_ndarray(format="rgba")
