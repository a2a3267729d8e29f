"""Smooth continuation of a picture."""

from __future__ import annotations

import numpy as np

from talkingface.renderer.arrays import Float32Array
from talkingface.renderer.opencv import cv


def fill_outside(image: Float32Array, weight: Float32Array) -> Float32Array:
    """Continue an image smoothly from where `weight` is 1 to where it is 0.

    Push and pull on a pyramid (Gortler et al. 1996, "The lumigraph").

    :param image: (H, W, C); :param weight: (H, W) in [0, 1].
    """
    height, width = weight.shape
    channels = image.shape[2]
    if min(height, width) <= 2 or weight.min() >= 1:
        total = float(weight.sum())
        mean = (image * weight[..., None]).sum((0, 1)) / max(total, 1e-6)
        return image * weight[..., None] + mean * (1 - weight[..., None])
    size = ((width + 1) // 2, (height + 1) // 2)
    half = cv.resize(weight, size, interpolation=cv.INTER_AREA)
    colour = cv.resize(image * weight[..., None], size, interpolation=cv.INTER_AREA)
    colour = colour.reshape(size[1], size[0], channels) / np.maximum(half, 1e-6)[..., None]
    coarse = fill_outside(colour, np.minimum(half * 4, 1))
    up = cv.resize(coarse, (width, height), interpolation=cv.INTER_LINEAR)
    up = up.reshape(height, width, channels)
    return image * weight[..., None] + up * (1 - weight[..., None])
