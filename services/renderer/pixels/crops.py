"""Crops of a frame for the inpainting network, and its result laid into the frame."""

from __future__ import annotations

import numpy as np

from talkingface.renderer.arrays import (
    Float32Array,
    Index,
    Pixel,
    Real,
    Uint8Array,
    Uint8Image,
    Uint32Array,
)
from talkingface.renderer.pixels.packed import bilinear
from talkingface.renderer.pixels.targets import device, loop

_BYTE = np.uint32(0xFF)


@device
def mapped(matrix: Float32Array, x: Real, y: Real) -> tuple[Real, Real]:
    """Where an affine map (2, 3) takes a pixel."""
    across = matrix[0, 0] * x + matrix[0, 1] * y + matrix[0, 2]
    down = matrix[1, 0] * x + matrix[1, 1] * y + matrix[1, 2]
    return across, down


@device
def _channel(image: Uint8Image, x: Real, y: Real, k: int) -> Real:
    """Interpolate a channel of an image (H, W, C) at a position within it, 0..255."""
    j: Index = min(np.int32(x), image.shape[1] - 2)
    i: Index = min(np.int32(y), image.shape[0] - 2)
    a, b = x - np.float32(j), y - np.float32(i)
    upper = np.float32(image[i, j, k])
    upper += a * (np.float32(image[i, j + 1, k]) - upper)
    lower = np.float32(image[i + 1, j, k])
    lower += a * (np.float32(image[i + 1, j + 1, k]) - lower)
    return upper + b * (lower - upper)


@device
def write_crop_pixel(
    image: Uint32Array, mask: Uint8Image, own: Uint8Array, x: Real, y: Real, out: Uint8Array
) -> None:
    """Write what the network sees of a frame at a position, and of the portrait, (8,)."""
    inside = x >= 0 and y >= 0 and x <= image.shape[1] - 1 and y <= image.shape[0] - 1
    colour = np.uint32(0)
    if inside:
        colour = bilinear(image, x, y)
    for k in range(3):
        out[k] = np.uint8((colour >> np.uint32(8 * k)) & _BYTE)
        out[5 + k] = own[k]
    for k in range(2):
        out[3 + k] = np.uint8(_channel(mask, x, y, k) + np.float32(0.5)) if inside else np.uint8(0)


@loop
def cut_crop(
    image: Uint32Array, mask: Uint8Image, own: Uint8Image, back: Float32Array, out: Uint8Image
) -> None:
    """Write a crop (S, S, 8): the frame's colours, its mask, the portrait's own colours.

    :param image: (H, W) packed.
    :param mask: (H, W, 2).
    :param own: (S, S, 3).
    :param back: (2, 3) crop pixel -> frame pixel.
    """
    for i in range(out.shape[0]):
        for j in range(out.shape[1]):
            x, y = mapped(back, np.float32(j), np.float32(i))
            write_crop_pixel(image, mask, own[i, j], x, y, out[i, j])


@device
def _tap(
    residual: Float32Array, edge: Float32Array, i: Index, j: Index, share: Real
) -> tuple[Real, Real, Real]:
    """Red, green and blue that one pixel of a residual adds, by its share."""
    opacity = np.float32(255) * share * residual[i, j, 3] * edge[i] * edge[j]
    return opacity * residual[i, j, 0], opacity * residual[i, j, 1], opacity * residual[i, j, 2]


@device
def _added(channel: Pixel, change: Real) -> Pixel:
    """A channel plus a change, rounded, 0..255."""
    value = np.float32(channel & _BYTE) + change + np.float32(0.5)
    return np.uint32(min(max(value, np.float32(0)), np.float32(255)))


@device
def pasted_pixel(
    pixel: Pixel, residual: Float32Array, edge: Float32Array, x: Real, y: Real
) -> Pixel:
    """A packed pixel with the residual at a position of the crop added."""
    last = residual.shape[0] - 1
    if x < 0 or y < 0 or x > last or y > last:
        return pixel
    j: Index = min(np.int32(x), last - 1)
    i: Index = min(np.int32(y), last - 1)
    a, b = x - np.float32(j), y - np.float32(i)
    red, green, blue = np.float32(0), np.float32(0), np.float32(0)
    for n in range(4):
        down, right = n >> 1, n & 1
        share = (b if down else np.float32(1) - b) * (a if right else np.float32(1) - a)
        r, g, u = _tap(residual, edge, i + down, j + right, share)
        red, green, blue = red + r, green + g, blue + u
    red = _added(pixel, red)
    green = _added(pixel >> np.uint32(8), green)
    blue = _added(pixel >> np.uint32(16), blue)
    return red | (green << np.uint32(8)) | (blue << np.uint32(16)) | (pixel & np.uint32(0xFF000000))


@loop
def find_applied(residual: Float32Array) -> tuple[int, int, int, int]:
    """First and last column, first and last row where a residual (S, S, 4) changes anything."""
    size = residual.shape[0]
    left, right, top, bottom = size, -1, size, -1
    for i in range(size):
        for j in range(size):
            if residual[i, j, 3] > 0:
                left, right = min(left, j), max(right, j)
                top, bottom = min(top, i), max(bottom, i)
    return left, right, top, bottom


@loop
def paste_residual(
    residual: Float32Array,
    edge: Float32Array,
    matrix: Float32Array,
    box: tuple[int, int, int, int],
    image: Uint32Array,
) -> None:
    """Add a network's residual (S, S, 4) to a packed frame, in place.

    :param edge: (S,) by which it fades out towards the crop's borders.
    :param matrix: (2, 3) frame pixel -> crop pixel.
    :param box: left, top, right, bottom of the pixels that it may change.
    """
    left, top, right, bottom = box
    for y in range(top, bottom):
        for x in range(left, right):
            u, v = mapped(matrix, np.float32(x), np.float32(y))
            image[y, x] = pasted_pixel(image[y, x], residual, edge, u, v)
