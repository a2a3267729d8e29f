"""Smooth functions of one number that the compiler vectorises, for drawing in plain formulas."""

from __future__ import annotations

import math

import numpy as np

from talkingface.renderer.arrays import Pixel, Real
from talkingface.renderer.pixels.targets import device

_ZERO, _ONE, _TWO, _THREE = np.float32(0), np.float32(1), np.float32(2), np.float32(3)
_EIGHTH, _HALF, _SIXTH = np.float32(1 / 8), np.float32(1 / 2), np.float32(1 / 6)
_TWENTIETH, _LEAST = np.float32(1 / 24), np.float32(1e-6)
# x ** 0.8 as a polynomial of x from 0.3 to 1, within 0.03 %.
_POWER = tuple(np.float32(c) for c in (0.05301322, 1.19140236, -0.35005779, 0.10593125))


@device
def smooth(low: Real, high: Real, x: Real) -> Real:
    """Hermite step from 0 at `low` to 1 at `high`; `low` may be the larger."""
    t = min(max((x - low) / (high - low), _ZERO), _ONE)
    return t * t * (_THREE - _TWO * t)


@device
def decay(x: Real) -> Real:
    """e ** -x of a number of at least 0, within 0.0003."""
    y = x * _EIGHTH
    root = _ONE / (_ONE + y * (_ONE + y * (_HALF + y * _SIXTH)))
    root *= root
    root *= root
    return root * root


@device
def bell(x: Real) -> Real:
    """e ** -(x * x)."""
    return decay(x * x)


@device
def cosine(x: Real) -> Real:
    """The cosine of an angle up to 1.5 radians, within 0.001."""
    square = x * x
    return _ONE - square * (_HALF - square * (_TWENTIETH - square * np.float32(1 / 720)))


@device
def tenth_power(x: Real) -> Real:
    """x ** 0.1 of a number from 0 to 1; down to 0.0001 within 0.1 %."""
    root = math.sqrt(math.sqrt(math.sqrt(max(x, _LEAST))))
    return _POWER[0] + root * (_POWER[1] + root * (_POWER[2] + root * _POWER[3]))


@device
def colour_of(pixel: Pixel) -> tuple[Real, Real, Real]:
    """Red, green, blue of a packed pixel, 0..255."""
    byte, eight, sixteen = np.uint32(0xFF), np.uint32(8), np.uint32(16)
    red, green = np.float32(pixel & byte), np.float32((pixel >> eight) & byte)
    return red, green, np.float32((pixel >> sixteen) & byte)


@device
def share_of(pixel: Pixel) -> Real:
    """The fourth channel of a packed pixel, 0..1."""
    return np.float32(pixel >> np.uint32(24)) * np.float32(1 / 255)


@device
def _byte(value: Real) -> Pixel:
    return np.uint32(min(max(value, _ZERO), np.float32(255)) + _HALF)


@device
def packed_pixel(red: Real, green: Real, blue: Real, share: Real) -> Pixel:
    """A packed pixel of colours 0..255, and a fourth channel 0..1."""
    low = _byte(red) | (_byte(green) << np.uint32(8))
    return low | (_byte(blue) << np.uint32(16)) | (_byte(np.float32(255) * share) << np.uint32(24))
