"""Colours of the photo between its pixels."""

from __future__ import annotations

import numpy as np

from talkingface.renderer.arrays import Float32Array, Uint8Image
from talkingface.renderer.geometry.portrait import PreparedPortrait
from talkingface.renderer.opencv import cv


def sample_photo(portrait: PreparedPortrait, uv: Float32Array) -> Uint8Image:
    """Return the photo's colours at pixels (H, W, 2) of the portrait's frame.

    From the photo at twice its size: nearly as sharp as cubic interpolation, and several times as
    fast.
    """
    return sample(portrait.frame_2x, uv * np.float32(2))


def upsample2x(photo: Uint8Image) -> Uint8Image:
    """A photo at twice its size, every second pixel its own; see `sample_photo`."""
    double = np.array([[0.5, 0, 0], [0, 0.5, 0]], np.float32)
    size = (2 * photo.shape[1], 2 * photo.shape[0])
    flags = cv.INTER_CUBIC | cv.WARP_INVERSE_MAP
    large: Uint8Image = cv.warpAffine(
        photo, double, size, flags=flags, borderMode=cv.BORDER_REFLECT_101
    )
    return large


def sample(image: Uint8Image, uv: Float32Array) -> Uint8Image:
    """Return the colours of an image at pixels (H, W, 2) of it."""
    colours: Uint8Image = cv.remap(
        image, uv, None, cv.INTER_LINEAR, borderMode=cv.BORDER_REFLECT_101
    )
    return colours
