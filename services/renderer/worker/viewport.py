"""From frames of 512x512 pixels to the views that are asked for: other sizes, the whole photo.

Geometry and network work at 512x512. On a finer grid the frame is enlarged, and what the photo
holds beyond it is added: its detail, which is the photo on that grid less the enlarged portrait.
Detail moves along the same flow as the pixels that it belongs to, and counts where a pixel is the
photo's own. So an unmoved frame is the photo, and a moved one as sharp. A smaller view is the
frame reduced. In the whole photo the frame's square is replaced in the same way; the rest stands
still.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from talkingface.contract.video import MAX_SIZE, RenderLevel, View
from talkingface.renderer.arrays import Float32Array, Uint8Image, Uint32Array
from talkingface.renderer.compiler import njit
from talkingface.renderer.geometry import (
    FRAME,
    HALF,
    Canvas,
    PreparedPortrait,
    WarpedFrame,
    enlarged,
    pin,
    reduced_portrait,
    render,
    render_reduced,
)
from talkingface.renderer.geometry.rear_flow import Borders
from talkingface.renderer.opencv import cv
from talkingface.renderer.pixels.packed import channels, pack, unpack
from talkingface.renderer.pixels.planar import i420
from talkingface.v1.media_pb2 import FRAMING_CROP

MIN_ENLARGEMENT = 1.1  # pixels of the photo for one of the frame, from which its detail is kept
STRIP_ROWS = 128  # worked on at a time, so that they stay in the processor's cache
MAX_FLOW_STEP = 1.0  # pixels by which neighbours' flow may differ before detail would show a seam
NO_DETAIL = 128  # level
GREY = np.uint32(0x010101)  # packed pixel of the level 1


@dataclass(frozen=True)
class PhotoPixels:
    """What the photo holds beyond the portrait's frame."""

    square: Uint8Image  # (S, S, 3) the frame's square, 512 < S <= 1024; (0, 0, 3): nothing more
    whole: Uint8Image  # (H, W, 3) the photo at the size of its view, see `photo_size`
    place: tuple[int, int, int]  # left, top, side of the frame's square in `whole`


def photo_pixels(
    photo: Uint8Image, frame: Uint8Image, to_photo: Float32Array, size: tuple[int, int]
) -> PhotoPixels:
    """Keep what views other than the frame need of a photo.

    :param photo: (H, W, 3), upright.
    :param frame: (512, 512, 3) of `analysis.cut_frame`.
    :param to_photo: (2, 3), frame pixel to photo pixel.
    :param size: width and height of the whole photo's view.
    """
    scale = float(to_photo[0, 0])
    # The frame of a reduced photo is averaged from whole pixels: its centres lie half a step on.
    corner = to_photo[:, 2].astype(float) - 0.5 * min(scale, 1.0)  # of the square, pixel edges
    corner += 0.5
    square = np.zeros((0, 0, 3), np.uint8)
    if scale > MIN_ENLARGEMENT:
        square = _cut_square(photo, frame, scale, corner, min(round(scale * FRAME), MAX_SIZE))
    height, width = photo.shape[:2]
    if (width // 2 * 2, height // 2 * 2) == size:
        zoom = 1.0
        whole = photo[: size[1], : size[0]]
    else:
        zoom = size[0] / width
        method = cv.INTER_AREA if zoom < 1 else cv.INTER_CUBIC
        whole = cv.resize(photo, size, interpolation=method)
    left, top = (round(float(v) * zoom) for v in corner)
    return PhotoPixels(
        square, np.ascontiguousarray(whole), (left, top, round(scale * zoom * FRAME))
    )


def _cut_square(
    photo: Uint8Image, frame: Uint8Image, scale: float, corner: Float32Array, side: int
) -> Uint8Image:
    """The frame's square with `side` pixels; beyond the photo the enlarged frame.

    :param scale: pixels of the photo for one of the frame.
    :param corner: (2,) upper left corner of the square, pixel edges of the photo.
    """
    step = scale * FRAME / side
    height, width = photo.shape[:2]
    if step > 1:
        photo = cv.resize(photo, None, fx=1 / step, fy=1 / step, interpolation=cv.INTER_AREA)
        corner, height, width, step = corner / step, *photo.shape[:2], 1.0
    first = corner + 0.5 * step - 0.5
    matrix = np.array([[step, 0, first[0]], [0, step, first[1]]])
    flags = cv.INTER_CUBIC | cv.WARP_INVERSE_MAP
    cut = cv.warpAffine(photo, matrix, (side, side), flags=flags, borderMode=cv.BORDER_REPLICATE)
    along = np.arange(side) * step
    inside_x = (along + first[0] >= 0) & (along + first[0] <= width - 1)
    inside_y = (along + first[1] >= 0) & (along + first[1] <= height - 1)
    return np.where((inside_y[:, None] & inside_x)[..., None], cut, _resized(frame, side))


def _resized(image: Uint8Image, side: int) -> Uint8Image:
    """A frame (512, 512, ...) with `side` pixels."""
    method = cv.INTER_AREA if side < FRAME else cv.INTER_CUBIC
    resized: Uint8Image = cv.resize(image, (side, side), interpolation=method)
    return resized


class _Resampler:
    """Frames on a grid of `side` pixels, with the photo's detail on that grid if it is known."""

    def __init__(self, frame: Uint8Image, side: int, photo: Uint8Image | None) -> None:
        """
        :param frame: (512, 512, 3) the unmoved portrait.
        :param photo: (side, side, 3) the same square of the photo, or None.
        """
        self.side = side
        self._detail: Uint8Image | None = None
        if photo is not None:
            detail = photo.astype(np.int16) - _resized(frame, side) + NO_DETAIL
            self._detail = np.clip(detail, 0, 255).astype(np.uint8)
            # Moved by parts of a pixel, detail would blur if it were not known in between.
            self._finer = 2 if side <= MAX_SIZE else 1
            if self._finer > 1:
                matrix = np.diag([1 / self._finer, 1 / self._finer, 0])[:2]
                flags = cv.INTER_CUBIC | cv.WARP_INVERSE_MAP
                size = (self._finer * side,) * 2
                self._detail = cv.warpAffine(
                    self._detail, matrix, size, flags=flags, borderMode=cv.BORDER_REPLICATE
                )

    @property
    def traced(self) -> bool:
        """Whether it needs to know where a frame's pixels come from."""
        return self._detail is not None

    @property
    def unchanged(self) -> bool:
        """Whether frames stay as they are."""
        return self.side == FRAME and self._detail is None

    @property
    def nbytes(self) -> int:
        """Memory that it holds."""
        return 0 if self._detail is None else self._detail.nbytes

    def __call__(self, frame: WarpedFrame) -> Uint8Image:
        """The frame's image, (side, side, 3)."""
        image = unpack(enlarged(frame.pixels))
        if self.unchanged:
            return image
        image = _resized(image, self.side)
        if self._detail is None or frame.flow is None:
            return image  # a reduced frame has no detail
        assert frame.flow_weight is not None
        moved, weight = _displacement(frame.flow, frame.flow_weight)
        for top in range(0, self.side, STRIP_ROWS):
            strip = image[top : top + STRIP_ROWS]
            source, strip_weight = _detail_sources(
                moved, weight, self.side, top, len(strip), self._finer
            )
            detail = cv.remap(
                self._detail,
                source,
                None,
                cv.INTER_LINEAR,
                borderMode=cv.BORDER_CONSTANT,
                borderValue=(NO_DETAIL,) * 3,
            )
            _add_detail(strip, detail, strip_weight)
        return image


@njit(cache=True, fastmath=True)
def _displacement(flow: Float32Array, flow_weight: Uint8Image) -> tuple[Float32Array, Uint8Image]:
    """How far each pixel has come, (H, W, 2), and its weight (H, W), 0 where the flow breaks."""
    height, width = flow_weight.shape
    moved = np.empty_like(flow)
    weight = flow_weight.copy()
    for y in range(height):
        for x in range(width):
            moved[y, x, 0] = flow[y, x, 0] - np.float32(x)
            moved[y, x, 1] = flow[y, x, 1] - np.float32(y)
            for k in range(2):
                if x and abs(moved[y, x, k] - moved[y, x - 1, k]) > MAX_FLOW_STEP:
                    weight[y, x], weight[y, x - 1] = 0, 0
                if y and abs(moved[y, x, k] - moved[y - 1, x, k]) > MAX_FLOW_STEP:
                    weight[y, x], weight[y - 1, x] = 0, 0
    return moved, weight


@njit(cache=True, fastmath=True)
def _detail_sources(
    moved: Float32Array, weight: Uint8Image, side: int, top: int, rows: int, finer: int
) -> tuple[Float32Array, Uint8Image]:
    """Interpolate a displacement and its weight on some rows of a finer grid.

    :param moved: (512, 512, 2) and `weight` (512, 512), of `_displacement`.
    :param side: pixels of the grid along a side; its rows from `top` are wanted.
    :param finer: pixels of the detail for one of the grid, along a side.
    :return: pixels of the detail (rows, side, 2), and weights (rows, side).
    """
    size = len(weight)
    half, zero, last = np.float32(0.5), np.float32(0), np.float32(size - 1)
    scale = np.float32(size) / np.float32(side)
    grown = np.float32(finer) / scale
    first, fraction = np.empty(side, np.int32), np.empty(side, np.float32)
    for j in range(side):
        x = min(max((np.float32(j) + half) * scale - half, zero), last)
        first[j] = min(int(x), size - 2)
        fraction[j] = x - np.float32(first[j])
    row = np.empty((size, 3), np.float32)
    out, out_weight = np.empty((rows, side, 2), np.float32), np.empty((rows, side), np.uint8)
    for i in range(rows):
        y = min(max((np.float32(top + i) + half) * scale - half, zero), last)
        y0 = min(int(y), size - 2)
        b = y - np.float32(y0)
        for x0 in range(size):
            for k in range(2):
                above = moved[y0, x0, k]
                row[x0, k] = (above + b * (moved[y0 + 1, x0, k] - above)) * grown
            above = np.float32(weight[y0, x0])
            row[x0, 2] = above + b * (np.float32(weight[y0 + 1, x0]) - above) + half
        for j in range(side):
            x0, a = first[j], fraction[j]
            out[i, j, 0] = np.float32(finer * j) + row[x0, 0] + a * (row[x0 + 1, 0] - row[x0, 0])
            out[i, j, 1] = row[x0, 1] + a * (row[x0 + 1, 1] - row[x0, 1])
            out[i, j, 1] += np.float32(finer * (top + i))
            out_weight[i, j] = np.uint8(row[x0, 2] + a * (row[x0 + 1, 2] - row[x0, 2]))
    return out, out_weight


@njit(cache=True, fastmath=True)
def _add_detail(image: Uint8Image, detail: Uint8Image, weight: Uint8Image) -> None:
    """Add detail (H, W, 3) to an image by its weight (H, W), in place."""
    for y in range(image.shape[0]):
        for x in range(image.shape[1]):
            w = np.int32(weight[y, x])
            if w == 0:
                continue
            for k in range(3):
                change = (np.int32(detail[y, x, k]) - NO_DETAIL) * w
                # Divided by 255 and rounded.
                value = np.int32(image[y, x, k]) + ((change * 257 + 32768) >> 16)
                image[y, x, k] = min(max(value, 0), 255)


class _Renderer:
    """Renders a portrait at any level, in memory of its own for half the resolution."""

    nbytes = 4 << 20  # of the reduced portrait, which is made when it is needed

    def __init__(self, portrait: PreparedPortrait, pinned: Borders | bool, traced: bool) -> None:
        self._portrait = portrait
        self._pinned = pinned
        self._traced = traced
        self._half: PreparedPortrait | None = None

    def render(self, motion: Float32Array, level: RenderLevel, canvases: Canvases) -> WarpedFrame:
        """Render the frame of motion (60,)."""
        if level == RenderLevel.FULL:
            return render(
                self._portrait,
                motion,
                pinned=self._pinned,
                traced=self._traced,
                canvas=canvases.full,
            )
        if self._half is None:
            self._half = reduced_portrait(self._portrait)
        return render_reduced(self._portrait, self._half, motion, canvases.half, self._pinned)


class Canvases:
    """What frames of all levels are drawn on, one after the other."""

    def __init__(self) -> None:
        self.full = Canvas()
        self.half = Canvas(HALF)


class CropViewer:
    """The frame's square at the size of a view."""

    def __init__(self, portrait: PreparedPortrait, pixels: PhotoPixels, view: View) -> None:
        photo = None
        if view.width > FRAME and len(pixels.square):
            photo = pixels.square
            if len(photo) != view.width:
                reduced = len(photo) > view.width
                method = cv.INTER_AREA if reduced else cv.INTER_CUBIC
                photo = cv.resize(photo, (view.width,) * 2, interpolation=method)
        self._planar, self._transparent = view.planar, view.transparent
        self._resample = _Resampler(portrait.frame, view.width, photo)
        self.traced = self._resample.traced  # its frames need a canvas of the CPU
        # Whether its images are the planes of a frame of 512 pixels as it is.
        self.shows_planes = view.planar and self._resample.unchanged and not view.transparent
        self._renderer = _Renderer(portrait, False, self._resample.traced)
        self.nbytes = self._resample.nbytes + _Renderer.nbytes

    def render(self, motion: Float32Array, level: RenderLevel, canvases: Canvases) -> WarpedFrame:
        """Render the frame that `show` needs, for motion (60,)."""
        return self._renderer.render(motion, level, canvases)

    def show(self, frame: WarpedFrame) -> Uint8Image:
        """Bring a finished frame into the shape of the view."""
        if self.shows_planes:
            return i420(enlarged(frame.pixels))
        if self._transparent:
            pixels = self._with_opacity(frame)
            return i420(_beside_opacity(pixels)) if self._planar else channels(pixels)
        image = self._resample(frame)
        return i420(pack(image)) if self._planar else image

    def _with_opacity(self, frame: WarpedFrame) -> Uint32Array:
        """The frame's image with its opacity, packed (side, side)."""
        pixels = enlarged(frame.pixels)
        if self._resample.unchanged:
            return pixels
        opacity = _resized(np.ascontiguousarray(channels(pixels)[..., 3]), self._resample.side)
        return pack(np.dstack([self._resample(frame), opacity]))


class PhotoViewer:
    """The whole photo, in which the frame's square moves."""

    traced = True
    shows_planes = False

    def __init__(self, portrait: PreparedPortrait, pixels: PhotoPixels, view: View) -> None:
        height, width = pixels.whole.shape[:2]
        if (width, height) != (view.width, view.height):
            raise ValueError(f"the whole photo is shown at {width}x{height}")
        left, top, side = pixels.place
        self._frame = portrait.frame
        self._planar = view.planar
        # Borders beyond which the photo goes on: left, top, right, bottom.
        self._pinned = (left > 0, top > 0, left + side < width, top + side < height)
        x0, y0 = max(left, 0), max(top, 0)
        x1, y1 = min(left + side, width), min(top + side, height)
        self._part = (slice(y0 - top, y1 - top), slice(x0 - left, x1 - left))  # of the square
        # Planes of colour have half the resolution: what is replaced has even borders.
        self._left, self._top = x0 // 2 * 2, y0 // 2 * 2
        self._around = pixels.whole[
            self._top : (y1 + 1) // 2 * 2, self._left : (x1 + 1) // 2 * 2
        ].copy()
        self._inner = (
            slice(y0 - self._top, y1 - self._top),
            slice(x0 - self._left, x1 - self._left),
        )
        photo = _resized(portrait.frame, side)
        photo[self._part] = pixels.whole[y0:y1, x0:x1]
        self._resample = _Resampler(portrait.frame, side, photo)
        self._still = i420(pack(pixels.whole)) if view.planar else pixels.whole
        self._renderer = _Renderer(portrait, self._pinned, True)
        kept = self._around.nbytes + self._still.nbytes
        self.nbytes = self._resample.nbytes + _Renderer.nbytes + kept

    def render(self, motion: Float32Array, level: RenderLevel, canvases: Canvases) -> WarpedFrame:
        """As `CropViewer.render`."""
        return self._renderer.render(motion, level, canvases)

    def show(self, frame: WarpedFrame) -> Uint8Image:
        """As `CropViewer.show`."""
        pixels = enlarged(frame.pixels)
        if pixels is not frame.pixels:
            pin(pixels, self._frame, self._pinned)
            frame = replace(frame, pixels=pixels)
        changed = self._around.copy()
        changed[self._inner] = self._resample(frame)[self._part]
        image = self._still.copy()
        if not self._planar:
            height, width = changed.shape[:2]
            image[self._top : self._top + height, self._left : self._left + width] = changed
            return image
        planes = zip(_planes(image), _planes(i420(pack(changed))), (1, 2, 2), strict=True)
        for plane, part, step in planes:
            left, top = self._left // step, self._top // step
            plane[top : top + part.shape[0], left : left + part.shape[1]] = part
        return image


def _planes(image: Uint8Image) -> tuple[Uint8Image, Uint8Image, Uint8Image]:
    """Y (H, W), U and V (H / 2, W / 2) of an I420 image (3 / 2 H, W), not copied."""
    width, height = image.shape[1], image.shape[0] * 2 // 3
    flat, count = image.reshape(-1), width * height
    half = (height // 2, width // 2)
    return (
        flat[:count].reshape(height, width),
        flat[count : count * 5 // 4].reshape(half),
        flat[count * 5 // 4 :].reshape(half),
    )


def _beside_opacity(pixels: Uint32Array) -> Uint32Array:
    """Packed colours (H, W), and right of them the opacity as grey, (H, 2 W)."""
    height, width = pixels.shape
    both = np.empty((height, 2 * width), np.uint32)
    both[:, :width] = pixels
    np.multiply(pixels >> np.uint32(24), GREY, out=both[:, width:])
    return both


Viewer = CropViewer | PhotoViewer


def make_viewer(portrait: PreparedPortrait, pixels: PhotoPixels, view: View) -> Viewer:
    """Make what shows a portrait in a view.

    :raises ValueError: a view of the photo with other sides than `photo_size` gives.
    """
    kind = CropViewer if view.framing == FRAMING_CROP else PhotoViewer
    return kind(portrait, pixels, view)
