"""The portrait's frame: its size, its axes, points and boxes in it."""

from __future__ import annotations

import numpy as np

from talkingface.renderer.arrays import Float32Array
from talkingface.renderer.compiler import njit

FRAME = 512  # pixels a side
MOUTH_CROP, EYE_CROP = 128, 64  # pixels a side of what the inpainter sees
FLIP = np.array([1, -1], np.float32)  # from the head's axes (y up) to the frame's (y down)
FLIP_3D = np.array([1, -1, 1], np.float32)


def affine(matrix: Float32Array, points: Float32Array) -> Float32Array:
    """Map points (N, 2) by a matrix (2, 3)."""
    moved: Float32Array = points @ matrix[:, :2].T + matrix[:, 2]
    return moved


def bounding_box(
    points: Float32Array, margin: float, side: int = FRAME
) -> tuple[int, int, int, int]:
    """left, top, right, bottom of points (N, 2+) with a margin, within a frame of `side` pixels."""
    return _box(points, float(margin), side)


@njit(cache=True, error_model="numpy")
def _box(points: Float32Array, margin: float, side: int) -> tuple[int, int, int, int]:
    """As `bounding_box`."""
    left, top, right, bottom = np.inf, np.inf, -np.inf, -np.inf
    for n in range(len(points)):
        x, y = points[n, 0], points[n, 1]
        left, top, right, bottom = min(left, x), min(top, y), max(right, x), max(bottom, y)
    first, last = side - 1.0, float(side)
    left, top = min(max(left - margin, 0.0), first), min(max(top - margin, 0.0), first)
    column, row = int(np.floor(left)), int(np.floor(top))
    right = min(max(np.ceil(right + margin) + 1, 1.0), last)
    bottom = min(max(np.ceil(bottom + margin) + 1, 1.0), last)
    return column, row, max(int(right), column + 1), max(int(bottom), row + 1)
