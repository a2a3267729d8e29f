"""Comparison of two images: error, structure, detail; and flicker of a clip."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from talkingface_research.renderer.evaluation.flow import luma

Array = NDArray[np.float32]
Image = NDArray[np.uint8]
Mask = NDArray[np.bool_]
cv: Any = cv2  # OpenCV's stubs have no element types

FINE = 1.5  # pixels: sigma of the Gaussian whose residual is detail


def psnr(first: Image, second: Image, where: Mask) -> float:
    """Peak signal-to-noise ratio of RGB images within a mask, dB; at most 99."""
    error = (first[where].astype(np.float32) - second[where].astype(np.float32)) ** 2
    return min(float(10 * np.log10(255**2 / max(float(error.mean()), 1e-9))), 99.0)


def ssim(first: Image, second: Image) -> Array:
    """Structural similarity of luma about each pixel, (H, W) (Wang et al. 2004, sigma 1.5)."""
    a, b = luma(first), luma(second)

    def mean(image: Array) -> Array:
        return np.asarray(cv.GaussianBlur(image, (11, 11), 1.5))

    low, high = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    mu_a, mu_b = mean(a), mean(b)
    var_a, var_b = mean(a * a) - mu_a**2, mean(b * b) - mu_b**2
    both = mean(a * b) - mu_a * mu_b
    similarity = (2 * mu_a * mu_b + low) * (2 * both + high)
    similarity /= (mu_a**2 + mu_b**2 + low) * (var_a + var_b + high)
    return np.asarray(similarity)


def detail(image: Image) -> Array:
    """Energy (H, W) of the fine detail in an image's luma."""
    grey = luma(image)
    return np.asarray((grey - cv.GaussianBlur(grey, (0, 0), FINE)) ** 2)


def sharpness(energy: Array, reference: Array, where: Mask) -> float:
    """Amplitude of detail over the reference's, both (H, W) energies, within a mask."""
    return float(np.sqrt(energy[where].mean() / max(float(reference[where].mean()), 1e-6)))


def flicker(frames: NDArray[np.uint8], where: Mask) -> float:
    """Flicker in grey values: half the mean absolute second difference of luma in time.

    :param frames: (T, H, W, 3)
    """
    grey = np.stack([luma(frame)[where] for frame in frames])
    return float(np.abs(np.diff(grey, 2, axis=0)).mean()) / 2
