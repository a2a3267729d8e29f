"""Face detection with BlazeFace (Bazarevsky et al. 2019, arXiv 1907.05047).

Two networks of MediaPipe: the short-range one sees faces of about 15 % of the photo and more, the
full-range one smaller faces. Both see the whole photo, once tightly and once with a wide border,
for faces that fill it. If nothing is found, overlapping tiles are searched, for faces that are
small in it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from talkingface.renderer.analysis.tflite_graph import Runner
from talkingface.renderer.arrays import Float32Array, Uint8Image
from talkingface.renderer.opencv import cv

MIN_SCORE = 0.5  # of a detection, 0..1
MAX_OVERLAP = 0.4  # of two boxes of different faces
SQUARES = (1.0, 1.6)  # sides of the squares searched first, over the image's larger side
TILES, MIN_TILE = (2, 4), 96  # along the larger side; pixels below which none is searched
SEARCHED_PIXELS = 384  # side to which a square is reduced


@dataclass(frozen=True)
class Detection:
    """A face, in pixels of the image."""

    box: tuple[float, float, float, float]  # x0, y0, x1, y1
    eyes: Float32Array  # (2, 2) from the viewer's left to right
    score: float  # 0..1

    @property
    def size(self) -> float:
        """The larger side of the box in pixels."""
        return max(self.box[2] - self.box[0], self.box[3] - self.box[1])


def box_overlap(a: tuple[float, ...], b: tuple[float, ...]) -> float:
    """Intersection over the smaller area of two boxes (x0, y0, x1, y1), 0..1."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    smaller = min((a[2] - a[0]) * (a[3] - a[1]), (b[2] - b[0]) * (b[3] - b[1]))
    return width * height / max(smaller, 1e-9)


def _anchors(input_size: int, strides: list[tuple[int, int]]) -> Float32Array:
    """Anchor centres in [0, 1], (n, 2), for layers of (stride, anchors a cell)."""
    layers = []
    for stride, count in strides:
        centres = (np.arange(input_size // stride, dtype=np.float32) + 0.5) * stride / input_size
        grid = np.stack(np.meshgrid(centres, centres), -1).reshape(-1, 1, 2)
        layers.append(np.repeat(grid, count, 1).reshape(-1, 2))
    return np.concatenate(layers)


class _BlazeFace:
    """One detector network."""

    def __init__(self, path: Path, size: int, strides: list[tuple[int, int]]) -> None:
        """
        :param size: side of the network's input in pixels.
        :param strides: as in `_anchors`.
        """
        self._run, self._size = Runner(path.read_bytes()), size
        self._anchors = _anchors(size, strides)

    def __call__(self, image: Uint8Image, square: tuple[float, float, float]) -> list[Detection]:
        """Detect faces in a square (x0, y0, side) of the image, which may reach beyond it."""
        x0, y0, side = square
        scale = self._size / side
        matrix = np.array([[scale, 0, -x0 * scale], [0, scale, -y0 * scale]])
        patch = cv.warpAffine(image, matrix, (self._size, self._size), flags=cv.INTER_LINEAR)
        regression, logits = self._run(patch[None].astype(np.float32) / 127.5 - 1)
        scores = 1 / (1 + np.exp(-np.clip(logits[0, :, 0], -80, 80)))
        found = []
        for i in np.flatnonzero(scores > MIN_SCORE):
            values = regression[0, i].reshape(-1, 2) / self._size
            values[[0, *range(2, 8)]] += self._anchors[i]
            centre, extent = values[0], values[1]
            points = np.array([x0, y0]) + side * np.stack(
                [centre - extent / 2, centre + extent / 2]
            )
            eyes = (np.array([x0, y0]) + side * values[2:4]).astype(np.float32)
            box = (
                float(points[0, 0]),
                float(points[0, 1]),
                float(points[1, 0]),
                float(points[1, 1]),
            )
            found.append(Detection(box, eyes, float(scores[i])))
        return found


def suppress(detections: list[Detection], overlap: float = MAX_OVERLAP) -> list[Detection]:
    """Keep the best-scored detection of every group of overlapping ones, best first.

    :param overlap: `box_overlap` from which two detections are of one face.
    """
    kept: list[Detection] = []
    for candidate in sorted(detections, key=lambda d: -d.score):
        if all(box_overlap(candidate.box, other.box) < overlap for other in kept):
            kept.append(candidate)
    return kept


def _tiles(width: int, height: int, side: float) -> Iterator[tuple[float, float, float]]:
    """Squares (x0, y0, side) that cover an image and overlap by half."""
    for y in np.arange(0, max(height - side / 2, 1), side / 2):
        for x in np.arange(0, max(width - side / 2, 1), side / 2):
            yield float(x), float(y), side


class FaceDetector:
    """Both detectors, and the search over scales."""

    def __init__(self, folder: Path) -> None:
        """:param folder: holds MediaPipe's two `face_detection_*.tflite` files."""
        self._short = _BlazeFace(
            folder / "face_detection_short_range.tflite", 128, [(8, 2), (16, 6)]
        )
        self._full = _BlazeFace(folder / "face_detection_full_range_sparse.tflite", 192, [(4, 1)])

    def coarse(self, image: Uint8Image) -> list[Detection]:
        """Detect faces at the scale of the whole image, and with a wide border (very large ones).

        :param image: (H, W, 3) RGB.
        """
        height, width = image.shape[:2]
        side = max(width, height)
        found = []
        for factor in SQUARES:
            square = ((width - side * factor) / 2, (height - side * factor) / 2, side * factor)
            small = _shrink(image, side * factor, SEARCHED_PIXELS)
            found += _scaled(self._short, image, small, square)
            found += _scaled(self._full, image, small, square)
        return suppress(found)

    def fine(self, image: Uint8Image) -> list[Detection]:
        """Detect faces in tiles of a half or, failing that, a quarter of the larger side.

        The smallest face found is about 2.5 % of that side.
        """
        height, width = image.shape[:2]
        for parts in TILES:
            side = max(width, height) / parts
            if side < MIN_TILE:
                break
            small = _shrink(image, side, SEARCHED_PIXELS)
            tiles = list(_tiles(width, height, side))
            found = [d for t in tiles for d in _scaled(self._full, image, small, t)]
            if found := suppress(found):
                return found
        return []


def _shrink(image: Uint8Image, side: float, target: int) -> Uint8Image:
    """Reduce an image by area averaging so that `side` pixels become `target` at most."""
    scale = min(1.0, target / side)
    if scale == 1.0:
        return image
    small: Uint8Image = cv.resize(image, None, fx=scale, fy=scale, interpolation=cv.INTER_AREA)
    return small


def _scaled(
    network: _BlazeFace, image: Uint8Image, small: Uint8Image, square: tuple[float, float, float]
) -> list[Detection]:
    """Detect in a reduced copy `small`; `square` and the result are in the pixels of the image."""
    scale = small.shape[1] / image.shape[1]
    x, y, side = square
    return [
        Detection(
            (d.box[0] / scale, d.box[1] / scale, d.box[2] / scale, d.box[3] / scale),
            d.eyes / np.float32(scale),
            d.score,
        )
        for d in network(small, (x * scale, y * scale, side * scale))
    ]
