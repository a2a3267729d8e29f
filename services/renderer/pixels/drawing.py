"""Regions of a frame drawn at twice its resolution, and merged into it."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from talkingface.renderer.arrays import (
    Float32Array,
    Index,
    Int32Array,
    Int64Array,
    Pixel,
    Real,
    Uint8Image,
    Uint32Array,
)
from talkingface.renderer.pixels.packed import bilinear, mix, weight_of
from talkingface.renderer.pixels.targets import device, loop
from talkingface.renderer.pixels.triangles import FIRST_ATTRIBUTE, NONE

NOTHING = np.float32(-1)  # instead of a weight, where a pixel has no colour
U, V = 0, 1  # first attributes of the triangles drawn: where in the photo a pixel comes from

_ZERO, _ONE, _TWO, _HALF = np.float32(0), np.float32(1), np.float32(2), np.float32(0.5)
_PAIR, _EIGHT = np.uint32(0x00FF00FF), np.uint32(8)
_STROKE = 6  # numbers of a stroke


class Drawing(NamedTuple):
    """What is drawn in a region (h, w) of the frame.

    A pixel is the mean of its quarters, (2h, 2w). What is fine between lids and lips is drawn in
    all four; of skin two stand for them, the upper left and the lower right, which show its edges
    as well.
    """

    ids: Int32Array  # (2h, 2w) triangles, or NONE
    table: Float32Array  # of the triangles, see `draw_triangles`
    # Of the quarters: how much is to be seen, 0..1, or NOTHING; colour, packed, whose fourth
    # channel is how much of it the photo does not show; opacity of strokes.
    weights: Float32Array
    quarters: Uint32Array
    line: Float32Array
    weight: Float32Array  # (h + 2, w + 2) how much is to be seen, 0..1; with a border of 0
    whole: Float32Array  # (h, w) 1 where all of a pixel has a colour, else 0
    opacity: Float32Array  # (h, w) the largest weight around: what is drawn covers its soft edge
    pixels: Uint32Array  # (h, w) colour, like `quarters`
    lists: Uint32Array  # (4, at least 4hw) scratch for lists of pixels


@loop
def place_vertices(
    points: Float32Array, index: Int64Array, left: int, top: int, out: Float32Array
) -> None:
    """Write some vertices (N,) of the frame (V, 3) in pixels of a region; depths stay."""
    x, y = np.float32(left), np.float32(top)
    for n in range(len(index)):
        i = np.uint32(index[n])
        out[n, 0] = (points[i, 0] - x) * _TWO + _HALF
        out[n, 1] = (points[i, 1] - y) * _TWO + _HALF
        out[n, 2] = points[i, 2]


@device
def attribute(table: Float32Array, t: Index, k: int, x: Real, y: Real) -> Real:
    """An attribute of a triangle at a pixel; `t` unsigned, `k` from 0."""
    at = FIRST_ATTRIBUTE + 3 * k
    return (
        table[t, at] + table[t, at + 1] * (x - table[t, 0]) + table[t, at + 2] * (y - table[t, 1])
    )


@device
def photo_pixel(photo: Uint32Array, table: Float32Array, t: Index, x: Real, y: Real) -> Pixel:
    """The photo's colour on a triangle; `photo` has twice the size."""
    u, v = attribute(table, t, U, x, y), attribute(table, t, V, x, y)
    return bilinear(photo, _TWO * u, _TWO * v)


@device
def stroke_opacity(stroke: Float32Array, soft: Real, x: Real, y: Real) -> Real:
    """Opacity of a line with soft edges at a pixel.

    :param stroke: (6,) from x, y to x, y, thickness in pixels, opacity.
    :param soft: pixels over which the edges fade.
    """
    reach = _HALF * stroke[4] + soft
    dx, dy = stroke[2] - stroke[0], stroke[3] - stroke[1]
    u, v = x - stroke[0], y - stroke[1]
    t = (u * dx + v * dy) / max(dx * dx + dy * dy, np.float32(1e-6))
    t = min(max(t, _ZERO), _ONE)
    u, v = u - t * dx, v - t * dy
    edge = (reach - math.sqrt(u * u + v * v)) / (_TWO * min(soft, reach))
    weight = min(max(edge, _ZERO), _ONE)
    return stroke[5] * weight * weight * (np.float32(3) - _TWO * weight)


@device
def strokes_at(strokes: Float32Array, soft: Real, x: Real, y: Real) -> Real:
    """The largest opacity of lines (N, 6) at a pixel."""
    most = _ZERO
    for n in range(len(strokes)):
        most = max(most, stroke_opacity(strokes[n], soft, x, y))
    return most


@device
def skin_weight(id: Index) -> Real:
    """The weight of a quarter before anything is drawn: 0, or NOTHING where there is no skin."""
    return NOTHING if id == NONE else _ZERO


@loop
def _stroke_row(stroke: Float32Array, soft: Real, x: Index, y: Real, row: Float32Array) -> None:
    for k in range(len(row)):
        row[k] = max(row[k], stroke_opacity(stroke, soft, np.float32(x + k), y))


@loop
def draw_strokes(strokes: Float32Array, soft: np.float32, line: Float32Array) -> None:
    """Draw lines with soft edges, in place; `strokes` (N, 6) and `soft` as in `stroke_opacity`."""
    height, width = line.shape
    for n in range(len(strokes)):
        stroke = strokes[n]
        reach: Real = _HALF * stroke[4] + soft
        left: Index = max(np.int32(min(stroke[0], stroke[2]) - reach), np.int32(0))
        right: Index = min(np.int32(max(stroke[0], stroke[2]) + reach) + 2, width)
        top: Index = max(np.int32(min(stroke[1], stroke[3]) - reach), np.int32(0))
        bottom: Index = min(np.int32(max(stroke[1], stroke[3]) + reach) + 2, height)
        if left < right:
            for y in range(top, bottom):
                _stroke_row(stroke, soft, left, np.float32(y), line[y, left:right])


@device
def weight_of_quarters(a: Real, b: Real, c: Real, d: Real) -> Real:
    """The weight of a pixel, from those of its quarters."""
    total = max(a, _ZERO) + max(b, _ZERO) + max(c, _ZERO) + max(d, _ZERO)
    return np.float32(0.25) * total


@device
def is_whole(a: Real, b: Real, c: Real, d: Real) -> Real:
    """1 if all four quarters have a colour, else 0; of their weights, or triangles or NONE."""
    return _ONE if min(a, b, min(c, d)) >= 0 else _ZERO


@loop
def _weigh_row(
    upper: Float32Array, lower: Float32Array, weight: Float32Array, whole: Float32Array
) -> None:
    for k in range(len(whole)):
        a, b, c, d = upper[2 * k], upper[2 * k + 1], lower[2 * k], lower[2 * k + 1]
        weight[k] = weight_of_quarters(a, b, c, d)
        whole[k] = is_whole(a, b, c, d)


@loop
def weigh_quarters(drawing: Drawing, y: int, first: Index, end: Index) -> None:
    """Write the weights of a row of pixels, from those of their quarters."""
    upper, lower = drawing.weights[2 * y], drawing.weights[2 * y + 1]
    _weigh_row(
        upper[2 * first : 2 * end],
        lower[2 * first : 2 * end],
        drawing.weight[y + 1, 1 + first : 1 + end],
        drawing.whole[y, first:end],
    )


@loop
def _opacity_row(
    above: Float32Array, here: Float32Array, below: Float32Array, out: Float32Array
) -> None:
    for k in range(len(out)):
        left = max(above[k], here[k], below[k])
        middle = max(above[k + 1], here[k + 1], below[k + 1])
        out[k] = max(left, middle, max(above[k + 2], here[k + 2], below[k + 2]))


@loop
def find_opacity(drawing: Drawing) -> None:
    """Write the opacity of the pixels, from their weights."""
    weight, opacity = drawing.weight, drawing.opacity
    height, width = opacity.shape
    weight[0], weight[height + 1] = _ZERO, _ZERO
    weight[:, 0], weight[:, width + 1] = _ZERO, _ZERO
    for y in range(height):
        _opacity_row(weight[y], weight[y + 1], weight[y + 2], opacity[y])


@device
def span_of_row(opacity: Float32Array) -> tuple[Index, Index]:
    """First pixel of a row (w,) that is seen, and the one behind the last."""
    first, end = 0, len(opacity)
    while first < end and opacity[first] == 0:
        first += 1
    while end > first and opacity[end - 1] == 0:
        end -= 1
    return first, end


@device
def mean_of(a: Pixel, b: Pixel, c: Pixel, d: Pixel) -> Pixel:
    """The mean of four packed pixels."""
    half = np.uint32(0x00020002)
    even = (a & _PAIR) + (b & _PAIR) + (c & _PAIR) + (d & _PAIR) + half
    odd = ((a >> _EIGHT) & _PAIR) + ((b >> _EIGHT) & _PAIR) + ((c >> _EIGHT) & _PAIR)
    odd += ((d >> _EIGHT) & _PAIR) + half
    return ((even >> np.uint32(2)) & _PAIR) | (((odd >> np.uint32(2)) & _PAIR) << _EIGHT)


@device
def middle_of(a: Pixel, b: Pixel) -> Pixel:
    """The mean of two packed pixels."""
    return mix(a, b, np.uint32(128))


@device
def triangle_or_any(id: Index) -> Index:
    """A triangle's index to read its row by; any where there is none."""
    return np.uint32(max(id, np.int32(0)))


@loop
def _join_row(upper: Uint32Array, lower: Uint32Array, out: Uint32Array) -> None:
    for k in range(len(out)):
        i, j = 2 * k, 2 * k + 1
        out[k] = mean_of(upper[i], upper[j], lower[i], lower[j])


@loop
def join_quarters(drawing: Drawing, y: int, first: Index, end: Index) -> None:
    """Write the colours of a row of pixels, from those of their quarters."""
    upper, lower = drawing.quarters[2 * y], drawing.quarters[2 * y + 1]
    start, stop = 2 * first, 2 * end
    _join_row(upper[start:stop], lower[start:stop], drawing.pixels[y, first:end])


@device
def merged_pixel(below: Pixel, drawn: Pixel, opacity: Real, whole: Real) -> Pixel:
    """A drawing's pixel over one of the frame, packed; the drawing itself is opaque."""
    return mix(below, drawn | np.uint32(0xFF000000), weight_of(opacity * whole))


@device
def invented_of(drawn: Pixel, opacity: Real) -> Pixel:
    """How much of a drawing's pixel the photo does not show, 0..255."""
    return drawn >> np.uint32(24) if opacity > 0 else np.uint32(0)


@loop
def _merge_row(
    drawn: Uint32Array,
    opacity: Float32Array,
    whole: Float32Array,
    image: Uint32Array,
    invented: Uint32Array,
) -> None:
    for k in range(len(image)):
        image[k] = merged_pixel(image[k], drawn[k], opacity[k], whole[k])
        invented[k] = invented_of(drawn[k], opacity[k])


@loop
def merge(drawing: Drawing, left: int, top: int, image: Uint32Array, mask: Uint8Image) -> None:
    """Lay a drawing into a frame and its mask at `left`, `top`, in place."""
    invented = np.empty(drawing.opacity.shape[1], np.uint32)
    for y in range(len(drawing.opacity)):
        opacity = drawing.opacity[y]
        first, end = span_of_row(opacity)
        row = image[top + y, left + first : left + end]
        drawn, whole = drawing.pixels[y, first:end], drawing.whole[y, first:end]
        _merge_row(drawn, opacity[first:end], whole, row, invented)
        for x in range(first, end):
            seen = mask[top + y, left + x, 0]
            mask[top + y, left + x, 0] = max(seen, np.uint8(invented[x - first]))
