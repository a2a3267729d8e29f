"""Frames on other grids: sizes, the photo's detail, the whole photo; without networks or faces.

And that kernels are compiled once.
"""

from __future__ import annotations

import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest

from talkingface.contract.video import View, photo_size
from talkingface.renderer.geometry import FRAME, Canvas, WarpedFrame
from talkingface.renderer.pixels.packed import pack
from talkingface.renderer.pixels.planar import i420
from talkingface.renderer.worker.kernels import compile_kernels
from talkingface.renderer.worker.viewport import PhotoPixels, Viewer, make_viewer, photo_pixels
from talkingface.v1.media_pb2 import FRAMING_CROP, FRAMING_PHOTO

Image = np.ndarray


def texture(width: int, height: int, scale: float = 1.0) -> Image:
    """An image with detail down to single pixels and no strong edges."""
    random = np.random.default_rng(3)
    coarse = random.integers(70, 190, (9, 9, 3)).astype(np.float32)
    smooth = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    noise = random.normal(0, 10, (height, width, 3))
    return np.clip(smooth + scale * noise, 0, 255).astype(np.uint8)


def frame_of(photo: Image, left: int, top: int, side: int) -> tuple[Image, Image]:
    """The frame of a square of a photo, and the matrix from its pixels to the photo's."""
    square = photo[top : top + side, left : left + side]
    method = cv2.INTER_AREA if side > FRAME else cv2.INTER_CUBIC
    scale = side / FRAME
    shift = 0.5 * (scale - 1) if scale <= 1 else 0.0
    to_photo = np.array([[scale, 0, left + shift], [0, scale, top + shift]], np.float32)
    return cv2.resize(square, (FRAME, FRAME), interpolation=method), to_photo


def warped(image: Image, dx: float = 0.0, weight: int = 255) -> WarpedFrame:
    """A frame whose pixels come from `dx` pixels further right."""
    along = np.arange(FRAME, dtype=np.float32)
    flow = np.stack(np.meshgrid(along + dx, along), -1)
    crops: Any = ()
    mask = np.zeros((FRAME, FRAME, 2), np.uint8)
    weights = np.full((FRAME, FRAME), weight, np.uint8)
    return WarpedFrame(pack(image), mask, crops, Canvas(), flow, weights)


def pixels_of(photo: Image, frame: Image, to_photo: Image) -> PhotoPixels:
    height, width = photo.shape[:2]
    return photo_pixels(photo, frame, to_photo, photo_size(width, height))


def viewer_of(frame: Image, pixels: PhotoPixels, view: View) -> Viewer:
    portrait: Any = SimpleNamespace(frame=frame)
    return make_viewer(portrait, pixels, view)


def crop(size: int, planar: bool = False) -> View:
    return View(FRAMING_CROP, size, size, planar)


def test_a_view_of_512_pixels_is_the_frame_itself() -> None:
    frame, to_photo = frame_of(texture(1400, 1400), 10, 20, 1300)
    pixels = pixels_of(texture(1400, 1400), frame, to_photo)
    shown = warped(frame[::-1].copy())
    assert np.array_equal(viewer_of(frame, pixels, crop(512)).show(shown), frame[::-1])
    small = viewer_of(frame, pixels, crop(256)).show(shown)
    assert np.array_equal(small, cv2.resize(shown.image, (256, 256), interpolation=cv2.INTER_AREA))


def test_detail_is_kept_only_where_the_photo_has_it() -> None:
    photo = texture(1500, 1300)
    for side, kept in ((400, 0), (512, 0), (560, 0), (700, 700), (1200, 1024)):
        pixels = pixels_of(photo, *frame_of(photo, 40, 50, side))
        assert pixels.square.shape == (kept, kept, 3)
        left, top, length = pixels.place
        assert (left, top, length) == (40, 50, side)
        assert np.array_equal(pixels.whole, photo)


@pytest.mark.parametrize("size", [640, 1024])
def test_an_unmoved_frame_is_the_photo(size: int) -> None:
    photo = texture(1400, 1400)
    frame, to_photo = frame_of(photo, 100, 60, 1024)
    pixels = pixels_of(photo, frame, to_photo)
    shown_image = viewer_of(frame, pixels, crop(size)).show(warped(frame))
    truth = photo[60:1084, 100:1124]
    if size != 1024:
        truth = cv2.resize(truth, (size, size), interpolation=cv2.INTER_AREA)
    assert np.array_equal(shown_image, truth)


def test_detail_goes_with_the_pixels_that_it_belongs_to() -> None:
    photo = texture(1400, 1400)
    frame, to_photo = frame_of(photo, 100, 60, 1024)
    viewer = viewer_of(frame, pixels_of(photo, frame, to_photo), crop(1024))
    moved = np.roll(frame, -20, axis=1)  # 40 pixels of the photo
    inner = np.s_[50:-50, 50:-90]
    truth = photo[60:1084, 140:1164][inner].astype(int)
    shown_image = viewer.show(warped(moved, 20.0))
    assert np.abs(shown_image[inner] - truth).mean() < 0.5
    # What is drawn has no detail of the photo, and is not changed.
    drawn = viewer.show(warped(moved, 20.0, weight=0))
    enlarged = cv2.resize(moved, (1024, 1024), interpolation=cv2.INTER_CUBIC)
    assert np.array_equal(drawn, enlarged)
    assert np.abs(drawn[inner] - truth).mean() > 3


def test_detail_ends_where_the_flow_breaks() -> None:
    photo = texture(1400, 1400)
    frame, to_photo = frame_of(photo, 100, 60, 1024)
    viewer = viewer_of(frame, pixels_of(photo, frame, to_photo), crop(1024))
    shown = warped(frame)
    assert shown.flow is not None
    shown.flow[:, 256:, 0] -= 30
    shown_image = viewer.show(shown)
    enlarged = cv2.resize(frame, (1024, 1024), interpolation=cv2.INTER_CUBIC)
    assert np.array_equal(shown_image[:, 511:513], enlarged[:, 511:513])
    assert np.array_equal(shown_image[:, :508], photo[60:1084, 100:608])


@pytest.mark.parametrize("side", [200, 333, 512, 700])
@pytest.mark.parametrize("planar", [False, True])
def test_the_whole_photo_changes_only_within_the_square(side: int, planar: bool) -> None:
    photo = texture(903, 901)
    frame, to_photo = frame_of(photo, 101, 53, side)
    pixels = pixels_of(photo, frame, to_photo)
    width, height = photo_size(903, 901)
    assert (width, height) == (902, 900)
    viewer = viewer_of(frame, pixels, View(FRAMING_PHOTO, width, height, planar))
    still, rolled = (viewer.show(warped(image)) for image in (frame, frame[::-1].copy()))
    truth = photo[:height, :width]
    if planar:
        assert np.array_equal(still, i420(pack(truth)))
        rgb = viewer_of(frame, pixels, View(FRAMING_PHOTO, width, height))
        moved = i420(pack(rgb.show(warped(frame[::-1].copy()))))
        assert np.array_equal(rolled, moved)
        return
    assert np.array_equal(still, truth)
    changed = (rolled != truth).any(axis=2)
    inside = np.zeros_like(changed)
    inside[53 : 53 + side, 101 : 101 + side] = True
    assert not changed[~inside].any()
    assert changed[inside].mean() > 0.9


def test_a_square_that_reaches_beyond_the_photo() -> None:
    photo = texture(640, 480)
    wide = cv2.copyMakeBorder(photo, 100, 120, 60, 0, cv2.BORDER_REFLECT)
    frame, _ = frame_of(wide, 0, 0, 700)
    to_photo = np.array([[700 / 512, 0, -60], [0, 700 / 512, -100]], np.float32)
    pixels = pixels_of(photo, frame, to_photo)
    assert pixels.place == (-60, -100, 700)
    viewer = viewer_of(frame, pixels, View(FRAMING_PHOTO, 640, 480))
    assert np.array_equal(viewer.show(warped(frame)), photo)
    # In the crop, what lies beyond the photo is the enlarged frame.
    assert pixels.square.shape == (700, 700, 3)
    enlarged = cv2.resize(frame, (700, 700), interpolation=cv2.INTER_CUBIC)
    assert np.array_equal(pixels.square[:99], enlarged[:99])
    assert np.array_equal(pixels.square[:, :59], enlarged[:, :59])


def test_a_large_photo_is_reduced() -> None:
    photo = texture(2400, 3000)
    frame, to_photo = frame_of(photo, 500, 300, 1500)
    pixels = pixels_of(photo, frame, to_photo)
    assert photo_size(2400, 3000) == (1536, 1920)
    assert pixels.whole.shape == (1920, 1536, 3)
    assert pixels.square.shape == (1024, 1024, 3)
    assert pixels.place == (320, 192, 960)
    viewer = viewer_of(frame, pixels, View(FRAMING_PHOTO, 1536, 1920))
    assert np.array_equal(viewer.show(warped(frame)), pixels.whole)
    with pytest.raises(ValueError, match="1536x1920"):
        viewer_of(frame, pixels, View(FRAMING_PHOTO, 640, 480))


def test_a_photo_that_was_decoded_reduced_has_the_size_of_its_file() -> None:
    photo = texture(1800, 1750)  # of 3600x3500
    frame, to_photo = frame_of(photo, 500, 300, 700)
    size = photo_size(3600, 3500)
    pixels = photo_pixels(photo, frame, to_photo, size)
    assert pixels.whole.shape == (size[1], size[0], 3) == (1866, 1920, 3)
    assert pixels.place == (533, 320, 747)


def test_kernels_are_compiled_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept, other = tmp_path / "kernels-now", tmp_path / "kernels-before"
    other.mkdir()
    calls: list[list[str]] = []
    codes = [0, 1, 0, 0]  # of two processes each time

    def popen(command: list[str]) -> SimpleNamespace:
        calls.append(command)
        code = codes[len(calls) - 1]
        return SimpleNamespace(wait=lambda: code)

    monkeypatch.setattr(subprocess, "Popen", popen)
    for _ in range(4):  # fails, is tried again, is done
        compile_kernels(kept)
    assert list(tmp_path.iterdir()) == [kept]
    module = ["python3", "-m", "talkingface.renderer.worker.kernels"]
    assert calls == [[*module, "portraits"], [*module, "frames"]] * 2
