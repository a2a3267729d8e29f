"""Packed pixels: four channels of eight bits in one number."""

from __future__ import annotations

import numpy as np

from talkingface.renderer.arrays import Pixel, Real, Uint8Image, Uint16Array, Uint32Array
from talkingface.renderer.opencv import cv
from talkingface.renderer.pixels.targets import device

# Numbers of the width that keeps the compiler's vectors full.
_PAIR = np.uint32(0x00FF00FF)  # two channels with room for their products
_HALF = np.uint32(0x00800080)  # a half of each, before eight bits are cut off
_UPPER = np.uint32(0xFF00FF00)
_BYTE, _ONE, _FOUR, _EIGHT = np.uint32(0xFF), np.uint32(1), np.uint32(4), np.uint32(8)
_WHOLE = np.uint32(256)  # the weight 1
_STEPS = np.float32(16)  # parts of a pixel between which positions are rounded


def pack(image: Uint8Image) -> Uint32Array:
    """Pack an image (H, W, 3), opaque, or (H, W, 4)."""
    if image.shape[2] == 3:
        image = np.asarray(cv.cvtColor(image, cv.COLOR_RGB2RGBA), np.uint8)
    packed: Uint32Array = np.ascontiguousarray(image).view(np.uint32)[..., 0]
    return packed


def unpack(packed: Uint32Array) -> Uint8Image:
    """The colours (H, W, 3) of a packed image, as a new array."""
    return np.asarray(cv.cvtColor(channels(packed), cv.COLOR_RGBA2RGB), np.uint8)


def channels(packed: Uint32Array) -> Uint8Image:
    """A packed image as (H, W, 4), not copied."""
    view: Uint8Image = packed.view(np.uint8).reshape(*packed.shape, 4)
    return view


@device
def opaque_pixel(red: Pixel, green: Pixel, blue: Pixel) -> Pixel:
    """A packed pixel of three bytes."""
    low = np.uint32(red) | (np.uint32(green) << _EIGHT)
    return low | (np.uint32(blue) << np.uint32(16)) | (_BYTE << np.uint32(24))


@device
def mix(below: Pixel, above: Pixel, weight: Pixel) -> Pixel:
    """Blend two packed pixels; a weight of 256 is all of `above`."""
    rest = _WHOLE - weight
    even = ((below & _PAIR) * rest + (above & _PAIR) * weight + _HALF) >> _EIGHT
    odd = ((below >> _EIGHT) & _PAIR) * rest + ((above >> _EIGHT) & _PAIR) * weight + _HALF
    return (even & _PAIR) | (odd & _UPPER)


@device
def weight_of(share: Real) -> Pixel:
    """A share from 0 to 1 as the weight of `mix`, 0..256."""
    return np.uint32(share * np.float32(256) + np.float32(0.5))


@device
def bilinear(image: Uint32Array | Uint16Array, x: Real, y: Real) -> Pixel:
    """Interpolate a packed image at a position in pixels; beyond its borders they go on.

    Also an image of uint16, of two channels.

    Positions count in sixteenths of a pixel, so that the four weights have eight bits each.
    """
    height, width = image.shape
    x = min(max(x, np.float32(0)), np.float32(width) - np.float32(1.0625))
    y = min(max(y, np.float32(0)), np.float32(height) - np.float32(1.0625))
    across, down = np.uint32(x * _STEPS + np.float32(0.5)), np.uint32(y * _STEPS + np.float32(0.5))
    j, i = across >> _FOUR, down >> _FOUR
    a, b = across & np.uint32(15), down & np.uint32(15)
    both = a * b
    right, lower = (a << _FOUR) - both, (b << _FOUR) - both
    here = _WHOLE - right - lower - both
    p, q = np.uint32(image[i, j]), np.uint32(image[i, j + _ONE])
    r, s = np.uint32(image[i + _ONE, j]), np.uint32(image[i + _ONE, j + _ONE])
    even = (p & _PAIR) * here + (q & _PAIR) * right + (r & _PAIR) * lower + (s & _PAIR) * both
    odd = ((p >> _EIGHT) & _PAIR) * here + ((q >> _EIGHT) & _PAIR) * right
    odd += ((r >> _EIGHT) & _PAIR) * lower + ((s >> _EIGHT) & _PAIR) * both
    return (((even + _HALF) >> _EIGHT) & _PAIR) | ((odd + _HALF) & _UPPER)
