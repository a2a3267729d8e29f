"""Crops of a frame for the inpainting network, and its result laid into the frame."""

from __future__ import annotations

import numpy as np

from talkingface.renderer.arrays import (
    Float32Array,
    Index,
    Pixel,
    Real,
    Uint8Image,
    Uint16Array,
    Uint32Array,
    Uint64Array,
)
from talkingface.renderer.pixels.packed import bilinear
from talkingface.renderer.pixels.targets import device, loop

# Of crops, little-endian, as all processors are that numba compiles vectors for.
_BYTE = np.uint32(0xFF)


@device
def mapped(matrix: Float32Array, x: Real, y: Real) -> tuple[Real, Real]:
    """Where an affine map (2, 3) takes a pixel."""
    across = matrix[0, 0] * x + matrix[0, 1] * y + matrix[0, 2]
    down = matrix[1, 0] * x + matrix[1, 1] * y + matrix[1, 2]
    return across, down


@device
def crop_pixel(image: Uint32Array, mask: Uint16Array, x: Real, y: Real) -> tuple[Pixel, Index]:
    """What the network sees of a frame at a position: packed colour, and the mask's two bytes.

    Nothing, beyond the frame.
    """
    height, width = image.shape
    inside = (
        (x >= np.float32(0))
        & (y >= np.float32(0))
        & (x <= np.float32(width - 1))
        & (y <= np.float32(height - 1))
    )
    seen = np.uint32(inside)
    return bilinear(image, x, y) * seen, bilinear(mask, x, y) * seen


@device
def joined(colour: Pixel, mask: Index, red: Index, green: Index, blue: Index) -> Index:
    """The eight channels of a crop's pixel in one number: colour, mask, the portrait's own."""
    own = np.uint64(red) | (np.uint64(green) << np.uint64(8)) | (np.uint64(blue) << np.uint64(16))
    seen = np.uint64(colour & np.uint32(0x00FFFFFF))
    return seen | (np.uint64(mask) << np.uint64(24)) | (own << np.uint64(40))


@loop
def _cut_row(
    image: Uint32Array,
    mask: Uint16Array,
    own: Uint8Image,
    back: Float32Array,
    y: Real,
    out: Uint64Array,
) -> None:
    for j in range(len(out)):
        u, v = mapped(back, np.float32(j), y)
        colour, seen = crop_pixel(image, mask, u, v)
        out[j] = joined(colour, seen, own[j, 0], own[j, 1], own[j, 2])


@loop
def cut_crop(
    image: Uint32Array, mask: Uint16Array, own: Uint8Image, back: Float32Array, out: Uint64Array
) -> None:
    """Write a crop (S, S): a number for the frame's colours, its mask, the portrait's own colours.

    :param image: (H, W) packed.
    :param mask: (H, W) its two bytes in one number.
    :param own: (S, S, 3).
    :param back: (2, 3) crop pixel -> frame pixel.
    """
    for i in range(out.shape[0]):
        _cut_row(image, mask, own[i], back, np.float32(i), out[i])


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
