"""Drawing a region of the frame at twice its resolution, and merging it into the frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numba import njit

from talkingface.renderer.arrays import BoolArray, Float32Array, Int32Array, Int64Array, Uint8Image
from talkingface.renderer.face.model import FaceModel
from talkingface.renderer.geometry.frame import bounding_box


@dataclass(frozen=True)
class Region:
    """A box of the frame, pixels."""

    left: int
    top: int
    right: int
    bottom: int

    @classmethod
    def around(cls, points: Float32Array, margin: float) -> Region:
        """The box of points (N, 2+) with a margin in pixels, within the frame."""
        return cls(*bounding_box(points, margin))

    @property
    def size(self) -> tuple[int, int]:
        """Rows and columns at twice the resolution."""
        return 2 * (self.bottom - self.top), 2 * (self.right - self.left)

    def local(self, points: Float32Array) -> Float32Array:
        """Points (N, 2 or 3) of the frame in pixels of the region; depths stay."""
        flat = (points[:, :2] - np.array([self.left, self.top])) * 2 + 0.5
        local: Float32Array = np.concatenate([flat, points[:, 2:]], 1).astype(np.float32)
        return local


class DrawnPixels(NamedTuple):
    """What is drawn in a region at twice the resolution."""

    colour: Float32Array  # (2h, 2w, 3) RGB 0..255
    weight: Float32Array  # (2h, 2w) how much of it is to be seen, 0..1
    solid: BoolArray  # (2h, 2w) where it has a colour
    invented: Float32Array  # (2h, 2w) how much of it the photo does not show, for the mask


@njit(cache=True)
def merge(image: Uint8Image, mask: Uint8Image, left: int, top: int, drawn: DrawnPixels) -> None:
    """Lay what is drawn into the frame and its mask at `left`, `top`, in place."""
    colours, weight, solid, invented = drawn
    height, width = weight.shape[0] // 2, weight.shape[1] // 2
    small = np.empty((height, width), np.float32)
    for y in range(height):
        for x in range(width):
            total = weight[2 * y, 2 * x] + weight[2 * y, 2 * x + 1]
            total += weight[2 * y + 1, 2 * x] + weight[2 * y + 1, 2 * x + 1]
            small[y, x] = 0.25 * total
    for y in range(height):
        for x in range(width):
            # The largest weight around: what is drawn covers its soft edge.
            opacity = np.float32(0.0)
            for v in range(max(y - 1, 0), min(y + 2, height)):
                for u in range(max(x - 1, 0), min(x + 2, width)):
                    opacity = max(opacity, small[v, u])
            if opacity == 0.0:
                continue
            whole, fresh = True, np.float32(0.0)
            for v in range(2 * y, 2 * y + 2):
                for u in range(2 * x, 2 * x + 2):
                    whole = whole and solid[v, u]
                    fresh += invented[v, u]
            if whole:
                for k in range(3):
                    colour = colours[2 * y, 2 * x, k] + colours[2 * y, 2 * x + 1, k]
                    colour += colours[2 * y + 1, 2 * x, k] + colours[2 * y + 1, 2 * x + 1, k]
                    below = np.float32(image[top + y, left + x, k])
                    value = below + opacity * (np.float32(0.25) * colour - below)
                    image[top + y, left + x, k] = np.uint8(min(max(value + 0.5, 0.0), 255.0))
            value = min(np.float32(0.25) * fresh, np.float32(1.0)) * 255
            mask[top + y, left + x, 0] = max(mask[top + y, left + x, 0], np.uint8(value))


def landmarks_of(values: Float32Array, indices: Sequence[int]) -> Float32Array:
    """Some of the skin's landmarks (N, C) of any vertex values (V, C)."""
    model = FaceModel.load()
    out = np.empty((len(indices), values.shape[1]), np.float32)
    _interpolate(values, np.asarray(indices), model.landmark_corners, model.landmark_weights, out)
    return out


@njit(cache=True)
def _interpolate(
    values: Float32Array,
    indices: Int64Array,
    corners: Int32Array,
    weights: Float32Array,
    out: Float32Array,
) -> None:
    """Write the landmarks of `indices` (N,); `corners` and `weights` as in `FaceModel`."""
    for n in range(len(indices)):
        i = indices[n]
        for k in range(values.shape[1]):
            total = np.float32(0)
            for c in range(3):
                total += weights[i, c] * values[corners[i, c], k]
            out[n, k] = total
