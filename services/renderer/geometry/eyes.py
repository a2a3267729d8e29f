"""Eyes as a layer of their own: sclera behind, iris gliding over it, both under the lids."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from talkingface.renderer.arrays import Float32Array, Uint32Array
from talkingface.renderer.pixels.eyes import RIM_STEPS, Rims, sample_rims, write_light

RINGS = (
    (33, 7, 163, 144, 145, 153, 154, 155, 133, 173, 157, 158, 159, 160, 161, 246),
    (263, 249, 390, 373, 374, 380, 381, 382, 362, 398, 384, 385, 386, 387, 388, 466),
)  # subject's right eye, left eye: corner, lower lid, corner, upper lid
IRIS = (468, 473)  # its centre; the four points around it follow
BROWS = (
    (70, 63, 105, 66, 107, 55, 65, 52, 53, 46),
    (300, 293, 334, 296, 336, 285, 295, 282, 283, 276),
)
LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601


@dataclass(frozen=True)
class EyeTexture:
    """One eye without lids, in a box of the portrait's frame; images packed, (H, W)."""

    origin: Float32Array  # (2,) frame pixel of the box's upper left pixel
    rest: Uint32Array  # as photographed, completed under the lids
    ball: Uint32Array  # sclera without the upper lid's shadow; opaque where the photo has it
    iris: Uint32Array  # completed disc, likewise; its opacity
    brightest: float  # brightness of `ball` and `iris` that are 255: without shadow it may be more
    white: Float32Array  # (3,) the sclera's bright colour
    lid: Uint32Array  # the shut lid's skin in the eye's place; opaque over the eye, fading
    lid_brightness: float  # luma of the lid's mean colour, 0..255
    visible: float  # 0 behind dark glasses, else 1


def rims_of(ring: Float32Array, face: float) -> Rims:
    """The rims of an eye along the line between its corners.

    :param ring: (16, 2) the lids' edge as in `RINGS`, in pixels.
    :param face: the face's width in pixels.
    """
    corner, far = ring[0], ring[8]
    sign = 1.0 if far[0] > corner[0] else -1.0
    x, y = sign * float(far[0] - corner[0]), sign * float(far[1] - corner[1])
    length = math.hypot(x, y) + 1e-6
    along = np.array([x / length, y / length], np.float32)
    places = (ring - corner) @ along
    first, last = float(places.min()), float(places.max())
    rims = Rims(
        np.empty((2, RIM_STEPS), np.float32),
        np.array(corner, np.float32),
        along,
        np.float32(sign * length),
        np.float32(first),
        np.float32(max(last - first, 1e-3) / (RIM_STEPS - 1)),
        np.float32(face),
    )
    sample_rims(ring, rims)
    return rims


def lid_shade(ring: Float32Array, face: float, size: tuple[int, ...]) -> Float32Array:
    """The light on an eyeball under its lids, (H, W), 0..1; arguments as in `rims_of`."""
    out = np.empty(size, np.float32)
    write_light(rims_of(ring, face), out)
    return out
