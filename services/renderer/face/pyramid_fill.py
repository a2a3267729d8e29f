"""Smooth continuation of an image."""

from __future__ import annotations

import numpy as np

from talkingface.renderer.arrays import Float32Array
from talkingface.renderer.opencv import cv


def fill_outside(image: Float32Array, weight: Float32Array) -> Float32Array:
    """Continue an image smoothly from where `weight` is 1 to where it is 0.

    Push and pull on a pyramid (Gortler et al. 1996, "The lumigraph").

    :param image: (H, W, C).
    :param weight: (H, W) in [0, 1].
    """
    height, width = weight.shape
    channels = image.shape[2]
    opacity = weight[..., None]
    if min(height, width) <= 2 or weight.min() >= 1:
        filling = (image * opacity).sum((0, 1)) / max(float(weight.sum()), 1e-6)
    else:
        size = ((width + 1) // 2, (height + 1) // 2)
        half = cv.resize(weight, size, interpolation=cv.INTER_AREA)
        colour = cv.resize(image * opacity, size, interpolation=cv.INTER_AREA)
        colour = colour.reshape(size[1], size[0], channels) / np.maximum(half, 1e-6)[..., None]
        coarse = fill_outside(colour, np.minimum(half * 4, 1))
        filling = cv.resize(coarse, (width, height), interpolation=cv.INTER_LINEAR)
        filling = filling.reshape(height, width, channels)
    filled: Float32Array = image * opacity + filling * (1 - opacity)
    return filled
