"""Packed frames as the planes of I420: BT.601 in limited range, colour at half the resolution."""

from __future__ import annotations

import numpy as np

from talkingface.renderer.arrays import Index, Pixel, Uint8Array, Uint8Image, Uint32Array
from talkingface.renderer.pixels.targets import device, loop

_Weights = tuple[np.int32, np.int32, np.int32]  # of red, green, blue

_BYTE, _EIGHT, _SIXTEEN = np.uint32(0xFF), np.uint32(8), np.uint32(16)
# ITU-R BT.601 for values of eight bits, times 256.
_LUMA = (np.int32(66), np.int32(129), np.int32(25))
BLUE = (np.int32(-38), np.int32(-74), np.int32(112))
RED = (np.int32(112), np.int32(-94), np.int32(-18))


@device
def _weighted(pixel: Pixel, weights: _Weights) -> Index:
    """The weighted sum of a packed pixel's red, green and blue."""
    red, green = np.int32(pixel & _BYTE), np.int32((pixel >> _EIGHT) & _BYTE)
    blue = np.int32((pixel >> _SIXTEEN) & _BYTE)
    return weights[0] * red + weights[1] * green + weights[2] * blue


@device
def luma_of(pixel: Pixel) -> Index:
    """Y of a packed pixel, 16..235."""
    return np.uint8(((_weighted(pixel, _LUMA) + np.int32(128)) >> np.int32(8)) + np.int32(16))


@device
def chroma_of(p: Pixel, q: Pixel, r: Pixel, s: Pixel, weights: _Weights) -> Index:
    """U or V of four packed pixels, 16..240."""
    total = _weighted(p, weights) + _weighted(q, weights)
    total += _weighted(r, weights) + _weighted(s, weights)
    return np.uint8(((total + np.int32(512)) >> np.int32(10)) + np.int32(128))


def i420(image: Uint32Array) -> Uint8Image:
    """A packed image (H, W) of even sides as the planes of I420, (3 / 2 H, W)."""
    height, width = image.shape
    out = np.empty((height * 3 // 2, width), np.uint8)
    write_i420(image, out)
    return out


@device
def write_chroma(image: Uint32Array, x: Index, y: Index, out: Uint8Image) -> None:
    """Write U and V for the two by two pixels of a packed image from column 2 x and row 2 y."""
    height, width = image.shape
    p, q = image[2 * y, 2 * x], image[2 * y, 2 * x + 1]
    r, s = image[2 * y + 1, 2 * x], image[2 * y + 1, 2 * x + 1]
    at = y * (width // 2) + x
    quarter = (height // 2) * (width // 2)
    out[height + at // width, at % width] = chroma_of(p, q, r, s, BLUE)
    at += quarter
    out[height + at // width, at % width] = chroma_of(p, q, r, s, RED)


@loop
def _luma_row(row: Uint32Array, out: Uint8Array) -> None:
    for x in range(len(out)):
        out[x] = luma_of(row[x])


@loop
def _chroma_row(upper: Uint32Array, lower: Uint32Array, u: Uint8Array, v: Uint8Array) -> None:
    for x in range(len(u)):
        p, q, r, s = upper[2 * x], upper[2 * x + 1], lower[2 * x], lower[2 * x + 1]
        u[x] = chroma_of(p, q, r, s, BLUE)
        v[x] = chroma_of(p, q, r, s, RED)


@loop
def write_i420(image: Uint32Array, out: Uint8Image) -> None:
    """Write a packed image (H, W) of even sides as Y, U and V one after the other, (3 / 2 H, W)."""
    height, width = image.shape
    flat = out.reshape(-1)
    half, count = width // 2, height * width
    for y in range(height):
        _luma_row(image[y], out[y])
    for y in range(height // 2):
        start = count + y * half
        end = count + count // 4 + y * half
        u, v = flat[start : start + half], flat[end : end + half]
        _chroma_row(image[2 * y], image[2 * y + 1], u, v)
