"""Removal of jaw and cheeks from the rear layer where the face moves away from them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit

from talkingface.renderer.arrays import Float32Array, Int32Array, Uint8Image, Uint32Array
from talkingface.renderer.geometry.portrait import PreparedPortrait
from talkingface.renderer.geometry.rear_layer import MARGIN, SOLID

# The cheek that a turned side keeps in the rear layer: heights over which it begins (face widths
# above the turning point), face widths from the middle from which it is kept, and over how many;
# by eye.
CHEEK_HEIGHTS = (np.float32(-0.22), np.float32(-0.08))
CHEEK_ASIDE, CHEEK_FADE = np.float32(0.1), np.float32(0.1)


class _Clearing(NamedTuple):
    """How jaw and cheeks are to be removed from the rear layer."""

    box: Int32Array  # (4,) left, top, right, bottom of where it differs from the cleared one
    weight: float  # 0..1
    turned: Float32Array  # (2,) how far the viewer's left, right side turned to the viewer, 0..1
    across: Float32Array  # (3,) affine function of a pixel: face widths right of the head's middle
    up: Float32Array  # (3,) ... and upwards


def clear_rear(portrait: PreparedPortrait, cleared: float, turned: Float32Array) -> Uint8Image:
    """The rear layer without jaw and cheeks where they move away, (704, 704, 4).

    :param cleared: how far they are, 0..1.
    :param turned: (2,) how far the viewer's left, right side turned towards the viewer, 0..1.
    """
    rear = portrait.rear.copy()
    if cleared > 0:
        camera = portrait.fit.camera
        scale, roll = float(camera.scale[0]), np.deg2rad(float(camera.angles[0, 2]))
        pivot = camera.translation[0] + MARGIN
        across = np.array([np.cos(roll), np.sin(roll)]) / scale
        up = np.array([np.sin(roll), -np.cos(roll)]) / scale
        clearing = _Clearing(
            portrait.rear_difference,
            cleared,
            turned,
            np.append(across, -across @ pivot).astype(np.float32),
            np.append(up, -up @ pivot).astype(np.float32),
        )
        without = portrait.rear_without_face
        _clear(
            rear, without, rear.view(np.uint32)[..., 0], without.view(np.uint32)[..., 0], clearing
        )
    return rear


@njit(cache=True, fastmath=True)
def _clear(
    rear: Uint8Image,
    without_face: Uint8Image,
    rear_pixels: Uint32Array,
    without_pixels: Uint32Array,
    clearing: _Clearing,
) -> None:
    """Remove jaw and cheeks from the rear layer in place, except on a side turned to the viewer.

    :param rear_pixels: (H, W) the pixels of `rear` as one number each.
    :param without_pixels: (H, W) the same of `without_face`.
    """
    box, weight, turned, across, up = clearing
    zero, one = np.float32(0), np.float32(1)
    for y in range(box[1], box[3]):
        for x in range(box[0], box[2]):
            if rear_pixels[y, x] == without_pixels[y, x]:
                continue
            a = np.float32(weight)
            aside = across[0] * x + across[1] * y + across[2]
            kept = turned[0] if aside < 0 else turned[1]
            if kept > 0:
                height = up[0] * x + up[1] * y + up[2]
                low, high = CHEEK_HEIGHTS
                kept *= min(max((height - low) / (high - low), zero), one)
                kept *= min(max((abs(aside) - CHEEK_ASIDE) / CHEEK_FADE, zero), one)
                a *= one - kept
            part = int(a * np.float32(256) + np.float32(0.5))
            if part == 0:
                continue
            for k in range(4):
                here = int(rear[y, x, k])
                rear[y, x, k] = here + ((part * (int(without_face[y, x, k]) - here) + 128) >> 8)
            rear[y, x, 3] = min(rear[y, x, 3], SOLID)  # no longer the photo itself
