"""An eye drawn on the CPU: the hole between the lids, then lids that close over it."""

from __future__ import annotations

import numpy as np

from talkingface.renderer.arrays import (
    Float32Array,
    Int32Array,
    Int64Array,
    Real,
    Uint8Image,
    Uint32Array,
)
from talkingface.renderer.pixels.drawing import (
    Drawing,
    draw_strokes,
    find_opacity,
    is_whole,
    join_quarters,
    merge,
    skin_weight,
    span_of_row,
    weigh_quarters,
)
from talkingface.renderer.pixels.eyes import (
    Eye,
    Lashes,
    covers,
    hole_weight,
    hull_span,
    lid_opacity,
    lid_pixel,
    quarter_pixel,
    skin_pixel,
    skin_share,
)
from talkingface.renderer.pixels.targets import loop
from talkingface.renderer.pixels.triangles import NONE

_ZERO, _HALF, _ONE, _TWO = np.float32(0), np.float32(0.5), np.float32(1), np.float32(2)


@loop
def _hole_row(ids: Int32Array, weights: Float32Array) -> None:
    for k in range(len(ids)):
        weights[k] = hole_weight(ids[k])


@loop
def _skin_row(ids: Int32Array, weights: Float32Array) -> None:
    for k in range(len(ids)):
        weights[k] = skin_weight(ids[k])


@loop
def _find_hole(eye: Eye, drawing: Drawing, spans: Int64Array) -> bool:
    """Give weight to the hole between the lids; return whether there is any.

    :param spans: (h, 2) out: first pixel of a row that the hole touches, and one behind the last.
    """
    height, width = drawing.whole.shape
    found = False
    for y in range(height):
        spans[y, 0], spans[y, 1] = width, 0
        for row in range(2 * y, 2 * y + 2):
            ids, weights = drawing.ids[row], drawing.weights[row]
            _skin_row(ids, weights)
            first, end = hull_span(eye.hull, np.float32(row), 2 * width)
            _hole_row(ids[first:end], weights[first:end])
            while first < end and ids[first] != NONE:
                first += 1
            while end > first and ids[end - 1] != NONE:
                end -= 1
            if first < end:
                found = True
                spans[y, 0] = min(spans[y, 0], first // 2)
                spans[y, 1] = max(spans[y, 1], (end + 1) // 2)
        spans[y, 1] = max(spans[y, 0], spans[y, 1])
    return found


@loop
def _open_row(
    eye: Eye, table: Float32Array, ids: Int32Array, x: int, y: Real, out: Uint32Array
) -> None:
    for k in range(len(out)):
        out[k] = quarter_pixel(eye, table, ids[k], np.float32(x + k), y)


@loop
def _open_quarters(eye: Eye, drawing: Drawing, y: int, first: int, end: int) -> None:
    """Colour the quarters of a row of pixels."""
    start, stop = 2 * first, 2 * end
    for row in range(2 * y, 2 * y + 2):
        ids, out = drawing.ids[row, start:stop], drawing.quarters[row, start:stop]
        _open_row(eye, drawing.table, ids, start, np.float32(row), out)


@loop
def _lid_row(
    eye: Eye,
    ids: Int32Array,
    line: Float32Array,
    x: int,
    y: Real,
    weights: Float32Array,
    out: Uint32Array,
) -> None:
    for k in range(len(out)):
        lid, over = lid_opacity(eye, np.float32(ids[k] != NONE), np.float32(x + k), y)
        out[k] = lid_pixel(out[k], lid, over, line[k], eye.lash)
        weights[k] = covers(over, line[k], weights[k])


@loop
def _lid_quarters(eye: Eye, drawing: Drawing, y: int, first: int, end: int) -> None:
    """Lay the lid over the quarters of a row of pixels."""
    start, stop = 2 * first, 2 * end
    for row in range(2 * y, 2 * y + 2):
        _lid_row(
            eye,
            drawing.ids[row, start:stop],
            drawing.line[row, start:stop],
            start,
            np.float32(row),
            drawing.weights[row, start:stop],
            drawing.quarters[row, start:stop],
        )


@loop
def _lid_pixels(
    eye: Eye,
    table: Float32Array,
    upper: Int32Array,
    lower: Int32Array,
    upper_line: Float32Array,
    lower_line: Float32Array,
    x: int,
    y: Real,
    weight: Float32Array,
    whole: Float32Array,
    out: Uint32Array,
) -> None:
    for k in range(len(out)):
        i, j = 2 * k, 2 * k + 1
        at = np.float32(x + k) * _TWO
        line = upper_line[i] + upper_line[j] + lower_line[i] + lower_line[j]
        line *= np.float32(0.25)
        share = skin_share(upper[i], lower[j])
        lid, over = lid_opacity(eye, share, at + _HALF, y + _HALF)
        skin = skin_pixel(eye, table, upper[i], lower[j], at, y)
        out[k] = lid_pixel(skin, lid, over, line, eye.lash)
        weight[k] = covers(over, line, _ZERO)
        whole[k] = is_whole(upper[i], upper[j], lower[i], lower[j])


@loop
def _lid_beside(eye: Eye, drawing: Drawing, y: int, first: int, end: int) -> None:
    """Colour pixels of a row that show skin alone."""
    start, stop = 2 * first, 2 * end
    _lid_pixels(
        eye,
        drawing.table,
        drawing.ids[2 * y, start:stop],
        drawing.ids[2 * y + 1, start:stop],
        drawing.line[2 * y, start:stop],
        drawing.line[2 * y + 1, start:stop],
        first,
        np.float32(2 * y),
        drawing.weight[y + 1, 1 + first : 1 + end],
        drawing.whole[y, first:end],
        drawing.pixels[y, first:end],
    )


@loop
def _draw_open(eye: Eye, drawing: Drawing) -> None:
    height, width = drawing.whole.shape
    for y in range(height):
        weigh_quarters(drawing, y, 0, width)
    find_opacity(drawing)
    for y in range(height):
        first, end = span_of_row(drawing.opacity[y])
        _open_quarters(eye, drawing, y, first, end)
        join_quarters(drawing, y, first, end)


@loop
def _draw_closing(eye: Eye, drawing: Drawing, spans: Int64Array) -> None:
    height, width = drawing.whole.shape
    for y in range(height):
        first, end = spans[y]
        _lid_beside(eye, drawing, y, 0, first)
        _lid_beside(eye, drawing, y, end, width)
        _open_quarters(eye, drawing, y, first, end)
        _lid_quarters(eye, drawing, y, first, end)
        weigh_quarters(drawing, y, first, end)
        join_quarters(drawing, y, first, end)
    find_opacity(drawing)


@loop
def draw_eye_pixels(eye: Eye, lashes: Lashes, drawing: Drawing) -> bool:
    """Colour an eye and its lids; return whether there is anything to draw.

    :param lashes: none if the lids do not close.
    """
    spans = np.empty((len(drawing.whole), 2), np.int64)
    found = _find_hole(eye, drawing, spans)
    if len(lashes.strokes) > 0:
        drawing.line[:] = _ZERO
        draw_strokes(lashes.strokes, lashes.soft, drawing.line)
        draw_strokes(lashes.shadow, lashes.shadow_soft, drawing.line)
        _draw_closing(eye, drawing, spans)
        return True
    if found:
        _draw_open(eye, drawing)
    return found


def draw_eye(
    eye: Eye,
    lashes: Lashes,
    drawing: Drawing,
    left: int,
    top: int,
    image: Uint32Array,
    mask: Uint8Image,
) -> None:
    """Draw an eye into a frame and its mask, the region at `left`, `top`."""
    if draw_eye_pixels(eye, lashes, drawing):
        merge(drawing, left, top, image, mask)
