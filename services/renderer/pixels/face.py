"""The face over what lies behind it: soft edges, colours from the photo, what is hidden."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from talkingface.renderer.arrays import (
    BoolArray,
    Float32Array,
    Index,
    Int32Array,
    Pixel,
    Real,
    Uint8Image,
    Uint32Array,
)
from talkingface.renderer.pixels.packed import bilinear, mix, weight_of
from talkingface.renderer.pixels.targets import device, loop
from talkingface.renderer.pixels.triangles import NONE

FLOW_REACH = 4  # pixels by which the face's flow goes on beyond its edge; by eye
OPAQUE = np.float32(0.999)  # opacity through which nothing is seen
# Weights of a Gaussian with a deviation of one pixel, from the middle to three pixels aside.
_BLUR = tuple(np.float32(w) for w in (0.39905028, 0.24203623, 0.05400558, 0.00443305))
_REACH = len(_BLUR) - 1
_PART = 32  # pixels of a row that are looked at together


class FacePixels(NamedTuple):
    """The front layer at the pixels of its box, (h, w)."""

    u: Float32Array  # pixel of the photo that it takes its colour from
    v: Float32Array
    opacity: Float32Array
    ids: Int32Array  # triangles, or NONE


@device
def blurred(here: Real, one: Real, two: Real, three: Real) -> Real:
    """A blurred value, from the value and the sums of those at one, two and three pixels aside."""
    return _BLUR[0] * here + _BLUR[1] * one + _BLUR[2] * two + _BLUR[3] * three


@device
def largest_around(values: Float32Array, x: int, y: int) -> Real:
    """The largest of the 3x3 values around a pixel."""
    height, width = values.shape
    left, right = max(x - 1, 0), min(x + 1, width - 1)
    most = np.float32(0)
    for i in range(max(y - 1, 0), min(y + 2, height)):
        most = max(most, values[i, left], values[i, x], values[i, right])
    return most


@device
def blurred_across(values: Float32Array, x: int, y: int) -> Real:
    """The values of a row around a pixel, averaged; beyond its ends they go on."""
    row, last = values[y], values.shape[1] - 1
    return blurred(
        row[x],
        row[max(x - 1, 0)] + row[min(x + 1, last)],
        row[max(x - 2, 0)] + row[min(x + 2, last)],
        row[max(x - 3, 0)] + row[min(x + 3, last)],
    )


@device
def blurred_down(values: Float32Array, x: int, y: int) -> Real:
    """The values of a column around a pixel, averaged; beyond its ends they go on."""
    last = values.shape[0] - 1
    return blurred(
        values[y, x],
        values[max(y - 1, 0), x] + values[min(y + 1, last), x],
        values[max(y - 2, 0), x] + values[min(y + 2, last), x],
        values[max(y - 3, 0), x] + values[min(y + 3, last), x],
    )


# Rows are cut out first: an index that begins at 0 lets the compiler vectorise a loop.
@loop
def _largest_of_rows(
    above: Float32Array, here: Float32Array, below: Float32Array, out: Float32Array
) -> None:
    for x in range(len(out)):
        out[x] = max(above[x], here[x], below[x])


@loop
def _largest_across(row: Float32Array, out: Float32Array) -> None:
    left, right = row[:-2], row[2:]
    for x in range(len(left)):
        out[1 + x] = max(left[x], row[1 + x], right[x])
    out[0], out[-1] = max(row[0], row[1]), max(row[-2], row[-1])


@loop
def _blur_row(values: Float32Array, y: int, out: Float32Array) -> None:
    row, last = values[y], len(out) - 1
    a, b, c, d, e, f = row[:-6], row[1:-5], row[2:-4], row[4:-2], row[5:-1], row[6:]
    for x in range(len(a)):
        out[_REACH + x] = blurred(row[_REACH + x], c[x] + d[x], b[x] + e[x], a[x] + f[x])
    for x in range(_REACH):
        out[x] = blurred_across(values, x, y)
        out[last - x] = blurred_across(values, last - x, y)


@loop
def _blur_rows(
    here: Float32Array,
    a: Float32Array,
    b: Float32Array,
    c: Float32Array,
    d: Float32Array,
    e: Float32Array,
    f: Float32Array,
    out: Float32Array,
) -> None:
    for x in range(len(out)):
        out[x] = blurred(here[x], c[x] + d[x], b[x] + e[x], a[x] + f[x])


@loop
def soften(shown: Float32Array, scratch: Float32Array, out: Float32Array) -> None:
    """Write the opacity of a layer with soft edges, (h, w): `largest_around`, blurred both ways.

    :param shown: (h, w) its opacity by triangle, 0 where there is none; overwritten.
    """
    height, width = shown.shape
    last, row = height - 1, np.empty(width, np.float32)
    for y in range(height):
        _largest_of_rows(shown[max(y - 1, 0)], shown[y], shown[min(y + 1, last)], row)
        _largest_across(row, scratch[y])
    for y in range(height):
        _blur_row(scratch, y, shown[y])
    for y in range(height):
        _blur_rows(
            shown[y],
            shown[max(y - 3, 0)],
            shown[max(y - 2, 0)],
            shown[max(y - 1, 0)],
            shown[min(y + 1, last)],
            shown[min(y + 2, last)],
            shown[min(y + 3, last)],
            out[y],
        )


@device
def continued(
    u: Float32Array, v: Float32Array, ids: Int32Array, x: int, y: int
) -> tuple[Real, Real]:
    """The flow at a pixel that shows no triangle: that of the nearest one in its row or column.

    The displacement is what goes on; 0, 0 if there is none within `FLOW_REACH`.
    """
    height, width = ids.shape
    for d in range(1, FLOW_REACH + 1):
        if x >= d and ids[y, x - d] != NONE:
            return u[y, x - d] + np.float32(d), v[y, x - d]
        if x + d < width and ids[y, x + d] != NONE:
            return u[y, x + d] - np.float32(d), v[y, x + d]
        if y >= d and ids[y - d, x] != NONE:
            return u[y - d, x], v[y - d, x] + np.float32(d)
        if y + d < height and ids[y + d, x] != NONE:
            return u[y + d, x], v[y + d, x] - np.float32(d)
    return np.float32(0), np.float32(0)


@loop
def _count_open(ids: Int32Array, opacity: Float32Array) -> int:
    """Count the pixels of a row where the edge is seen but no triangle."""
    count = np.int32(0)
    for x in range(len(ids)):
        count += np.int32((ids[x] == NONE) & (opacity[x] > np.float32(0)))
    return int(count)


@loop
def continue_flow(face: FacePixels) -> None:
    """Let the flow go on where the soft edge is seen but no triangle, in place."""
    height, width = face.ids.shape
    for y in range(height):
        for start in range(0, width, _PART):
            end = min(start + _PART, width)
            if _count_open(face.ids[y, start:end], face.opacity[y, start:end]) == 0:
                continue
            for x in range(start, end):
                if face.ids[y, x] == NONE and face.opacity[y, x] > 0:
                    face.u[y, x], face.v[y, x] = continued(face.u, face.v, face.ids, x, y)


@device
def face_pixel(photo: Uint32Array, below: Pixel, u: Real, v: Real, opacity: Real) -> Pixel:
    """The photo's colour at u, v, laid over a pixel."""
    above = bilinear(photo, np.float32(2) * u, np.float32(2) * v)
    return mix(below, above, weight_of(opacity))


@device
def stretch_at(opacity: Real, stretch: Real) -> Index:
    """How far a pixel of the face is stretched, 0..255."""
    return np.uint8(np.float32(255) * opacity * stretch)


@device
def texture_pixel(texture: Uint32Array, below: Pixel, u: Real, v: Real, opacity: Real) -> Pixel:
    """A texture's colour at u, v, laid over a pixel."""
    return mix(below, bilinear(texture, u, v), weight_of(opacity))


@device
def shared(opacity: Real, share: Real) -> tuple[Real, Real]:
    """The opacities of a pixel and of a texture laid over it that give their mixture.

    :param share: how much of the mixture is the texture.
    """
    other = opacity * share
    one, least = np.float32(1), np.float32(1e-6)
    return (opacity - other) / max(one - other, least), other


@device
def is_hidden(opacity: Float32Array, rows: int, columns: int, n: Index, j: Index) -> bool:
    """Whether a layer hides a tile of so many rows and columns."""
    least = np.float32(1)
    for y in range(j * rows, (j + 1) * rows):
        for x in range(n * columns, (n + 1) * columns):
            least = min(least, opacity[y, x])
    return bool(least > OPAQUE)


@loop
def _blend_row(
    photo: Uint32Array,
    u: Float32Array,
    v: Float32Array,
    opacity: Float32Array,
    row: Uint32Array,
) -> None:
    for x in range(len(row)):
        row[x] = face_pixel(photo, row[x], u[x], v[x], opacity[x])


@loop
def blend_face(
    photo: Uint32Array,
    face: FacePixels,
    left: int,
    top: int,
    image: Uint32Array,
) -> None:
    """Lay the face over a frame in place, its box at `left`, `top`.

    :param photo: the portrait's frame at twice its size.
    """
    height, width = face.ids.shape
    for y in range(height):
        first, last = width, -1
        for x in range(width):
            if face.opacity[y, x] > 0:
                first, last = min(first, x), x
        end = last + 1
        _blend_row(
            photo,
            face.u[y, first:end],
            face.v[y, first:end],
            face.opacity[y, first:end],
            image[top + y, left + first : left + end],
        )


@loop
def write_stretch(
    face: FacePixels, stretch: Float32Array, left: int, top: int, mask: Uint8Image
) -> None:
    """Write how far the face at `left`, `top` is stretched into the mask's second channel.

    :param stretch: (F,) of the face's triangles, 0..1.
    """
    for y in range(face.ids.shape[0]):
        for x in range(face.ids.shape[1]):
            t = face.ids[y, x]
            if t != NONE:
                mask[top + y, left + x, 1] = stretch_at(face.opacity[y, x], stretch[t])


@loop
def blend_texture(
    texture: Uint32Array, face: FacePixels, left: int, top: int, image: Uint32Array
) -> None:
    """Lay a texture of its own over the face of a frame, in place."""
    height, width = face.ids.shape
    for y in range(height):
        for x in range(width):
            a = face.opacity[y, x]
            if a > 0:
                below = image[top + y, left + x]
                image[top + y, left + x] = texture_pixel(
                    texture, below, face.u[y, x], face.v[y, x], a
                )


@loop
def find_hidden(opacity: Float32Array, rows: int, columns: int, out: BoolArray) -> None:
    """Write which tiles of so many rows and columns a layer (h, w) hides."""
    for j in range(out.shape[0]):
        for n in range(out.shape[1]):
            out[j, n] = is_hidden(opacity, rows, columns, n, j)


@loop
def share_opacity(opacity: Float32Array, share: Float32Array) -> None:
    """Divide the opacity of a face (h, w) among itself and a texture that is laid over it.

    :param opacity: in and out, so that laying one over the other gives their mixture.
    :param share: (h, w) in: how much of the mixture is the texture; out: its opacity.
    """
    for y in range(opacity.shape[0]):
        for x in range(opacity.shape[1]):
            opacity[y, x], share[y, x] = shared(opacity[y, x], share[y, x])
