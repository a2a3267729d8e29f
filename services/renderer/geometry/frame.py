"""The portrait's frame: its size, its axes, points and boxes in it."""

from __future__ import annotations

import numpy as np
from numba import njit

from talkingface.renderer.arrays import Float32Array

FRAME = 512  # pixels a side
FLIP = np.array([1, -1], np.float32)  # from the head's axes (y up) to the frame's (y down)
FLIP_3D = np.array([1, -1, 1], np.float32)


def affine(matrix: Float32Array, points: Float32Array) -> Float32Array:
    """Map points (N, 2) by a matrix (2, 3)."""
    moved: Float32Array = points @ matrix[:, :2].T + matrix[:, 2]
    return moved


def bounding_box(points: Float32Array, margin: float) -> tuple[int, int, int, int]:
    """left, top, right, bottom of points (N, 2+) with a margin, within the frame."""
    limits = _bounds(points)
    low = np.clip(np.floor(limits[:2] - margin), 0, FRAME - 1).astype(int)
    high = np.clip(np.ceil(limits[2:] + margin) + 1, 1, FRAME).astype(int)
    high = np.maximum(high, low + 1)
    return int(low[0]), int(low[1]), int(high[0]), int(high[1])


@njit(cache=True)
def _bounds(points: Float32Array) -> Float32Array:
    """Smallest x and y, largest x and y, (4,)."""
    out = np.array([np.inf, np.inf, -np.inf, -np.inf], np.float32)
    for n in range(len(points)):
        x, y = points[n, 0], points[n, 1]
        out[0], out[1] = min(out[0], x), min(out[1], y)
        out[2], out[3] = max(out[2], x), max(out[3], y)
    return out
