"""The mouth drawn on the CPU: the lips, then all pixels of each kind by themselves."""

from __future__ import annotations

import numpy as np

from talkingface.renderer.arrays import (
    Float32Array,
    Index,
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
    middle_of,
    span_of_row,
    triangle_or_any,
    weigh_quarters,
)
from talkingface.renderer.pixels.mouth import (
    KINDS,
    LOWER,
    LOWER_TEETH,
    TONGUE,
    UPPER,
    UPPER_TEETH,
    Lips,
    Mouth,
    lip_pixel,
    lip_weight,
    seam_pixel,
    tongue_pixel,
    tooth_pixel,
    wall_pixel,
)
from talkingface.renderer.pixels.mouth_finding import find_inside, find_openings, find_spans
from talkingface.renderer.pixels.targets import loop

_ZERO, _HALF, _ONE = np.float32(0), np.float32(0.5), np.float32(1)
_ROW, _COLUMN = np.uint32(16), np.uint32(0xFFFF)  # of a pixel's place: bits below, bits


@loop
def _draw_teeth(
    mouth: Mouth,
    drawing: Drawing,
    places: Uint32Array,
    boundaries: tuple[Real, ...],
    upper: bool,
    out: Uint32Array,
) -> None:
    for k in range(len(out)):
        y, x = places[k] >> _ROW, places[k] & _COLUMN
        t, x, y = np.uint32(drawing.ids[y, x]), np.float32(x), np.float32(y)
        out[k] = tooth_pixel(mouth, boundaries, upper, drawing.table, t, x, y)


@loop
def _draw_tongue(mouth: Mouth, drawing: Drawing, places: Uint32Array, out: Uint32Array) -> None:
    for k in range(len(out)):
        y, x = places[k] >> _ROW, places[k] & _COLUMN
        t, x, y = np.uint32(drawing.ids[y, x]), np.float32(x), np.float32(y)
        out[k] = tongue_pixel(mouth, drawing.table, t, x, y)


@loop
def _draw_walls(mouth: Mouth, drawing: Drawing, places: Uint32Array, out: Uint32Array) -> None:
    for k in range(len(out)):
        y, x = places[k] >> _ROW, places[k] & _COLUMN
        t, x, y = np.uint32(drawing.ids[y, x]), np.float32(x), np.float32(y)
        out[k] = wall_pixel(mouth, drawing.table, t, x, y)


@loop
def draw_inside(
    mouth: Mouth, drawing: Drawing, places: Uint32Array, counts: Int64Array, painted: Uint32Array
) -> None:
    """Colour the pixels that show the mouth's inside.

    :param places: (P,) sorted by kind, and `counts`, as from `find_inside`.
    :param painted: (P,) scratch.
    """
    start = 0
    for kind in range(KINDS):
        end = start + counts[kind]
        some, out = places[start:end], painted[start:end]
        if kind == UPPER:
            _draw_teeth(mouth, drawing, some, UPPER_TEETH, True, out)
        elif kind == LOWER:
            _draw_teeth(mouth, drawing, some, LOWER_TEETH, False, out)
        elif kind == TONGUE:
            _draw_tongue(mouth, drawing, some, out)
        else:
            _draw_walls(mouth, drawing, some, out)
        start = end
    for k in range(start):
        drawing.quarters[places[k] >> _ROW, places[k] & _COLUMN] = painted[k]


@loop
def _weigh_lips(
    mouth: Mouth,
    table: Float32Array,
    ids: Int32Array,
    y: Real,
    upper: Float32Array,
    lower: Float32Array,
    first: Index,
    weight: Float32Array,
    whole: Float32Array,
) -> None:
    for k in range(len(whole)):
        x = np.float32(first + k) * np.float32(2) + _HALF
        seen = lip_weight(mouth, table, triangle_or_any(ids[2 * k]), x, y)
        i, j = 2 * k, 2 * k + 1
        whole[k] = is_whole(upper[i], upper[j], lower[i], lower[j])
        weight[k] = seen if whole[k] > 0 else _ZERO


@loop
def _weigh_beside(mouth: Mouth, drawing: Drawing, y: int, first: Index, end: Index) -> None:
    """Write the weights of pixels of a row that show skin alone."""
    start, stop = 2 * first, 2 * end
    _weigh_lips(
        mouth,
        drawing.table,
        drawing.ids[2 * y, start:stop],
        np.float32(2 * y) + _HALF,
        drawing.weights[2 * y, start:stop],
        drawing.weights[2 * y + 1, start:stop],
        first,
        drawing.weight[y + 1, 1 + first : 1 + end],
        drawing.whole[y, first:end],
    )


@loop
def _weigh_skin(
    mouth: Mouth, table: Float32Array, ids: Int32Array, x: Index, y: Real, weights: Float32Array
) -> None:
    for k in range(len(ids)):
        t = triangle_or_any(ids[k])
        seen = lip_weight(mouth, table, t, np.float32(x + k), y)
        weights[k] = seen if weights[k] == 0 else weights[k]


@loop
def weigh_mouth(mouth: Mouth, drawing: Drawing, spans: Int32Array) -> None:
    """Write weights and opacity of the pixels; `spans` as from `find_spans`."""
    height, width = drawing.whole.shape
    for y in range(height):
        first, end = np.int64(spans[y, 0]), np.int64(spans[y, 1])
        _weigh_beside(mouth, drawing, y, 0, first)
        _weigh_beside(mouth, drawing, y, end, width)
        for row in range(2 * y, 2 * y + 2):
            weights = drawing.weights[row, 2 * first : 2 * end]
            ids = drawing.ids[row, 2 * first : 2 * end]
            _weigh_skin(mouth, drawing.table, ids, 2 * first, np.float32(row), weights)
        weigh_quarters(drawing, y, first, end)
    find_opacity(drawing)


@loop
def _lip_quarters(
    mouth: Mouth, table: Float32Array, ids: Int32Array, x: Index, y: Real, out: Uint32Array
) -> None:
    for k in range(len(out)):
        t = triangle_or_any(ids[k])
        out[k] = lip_pixel(mouth, table, t, np.float32(x + k), y)


@loop
def _lip_pixels(
    mouth: Mouth,
    table: Float32Array,
    upper: Int32Array,
    lower: Int32Array,
    first: Index,
    y: Real,
    out: Uint32Array,
) -> None:
    for k in range(len(out)):
        x = np.float32(first + k) * np.float32(2)
        one = lip_pixel(mouth, table, triangle_or_any(upper[2 * k]), x, y)
        t = triangle_or_any(lower[2 * k + 1])
        out[k] = middle_of(one, lip_pixel(mouth, table, t, x + _ONE, y + _ONE))


@loop
def _lips_beside(mouth: Mouth, drawing: Drawing, y: int, first: Index, end: Index) -> None:
    """Colour pixels of a row that show skin alone."""
    upper = drawing.ids[2 * y, 2 * first : 2 * end]
    lower, out = drawing.ids[2 * y + 1, 2 * first : 2 * end], drawing.pixels[y, first:end]
    _lip_pixels(mouth, drawing.table, upper, lower, first, np.float32(2 * y), out)


@loop
def draw_lips(mouth: Mouth, drawing: Drawing, spans: Int32Array) -> None:
    """Colour the lips, in quarters beside the mouth's inside; `spans` as from `find_spans`."""
    for y in range(len(drawing.opacity)):
        left, right = span_of_row(drawing.opacity[y])
        first: Index = min(max(np.int64(spans[y, 0]), left), right)
        end: Index = min(max(np.int64(spans[y, 1]), first), right)
        _lips_beside(mouth, drawing, y, left, first)
        _lips_beside(mouth, drawing, y, end, right)
        start, stop = 2 * first, 2 * end
        for row in range(2 * y, 2 * y + 2):
            ids, out = drawing.ids[row, start:stop], drawing.quarters[row, start:stop]
            _lip_quarters(mouth, drawing.table, ids, start, np.float32(row), out)


@loop
def join_inside(drawing: Drawing, spans: Int32Array) -> None:
    """Join the quarters that show the mouth's inside, or lips beside it, to pixels."""
    for y in range(len(spans)):
        join_quarters(drawing, y, np.int64(spans[y, 0]), np.int64(spans[y, 1]))


@loop
def _seam_row(seam: Float32Array, line: Float32Array, out: Uint32Array) -> None:
    for k in range(len(out)):
        out[k] = seam_pixel(out[k], seam, line[k])


@loop
def draw_seam(mouth: Mouth, strokes: Float32Array, soft: np.float32, drawing: Drawing) -> None:
    """Darken the line between the lips; `strokes` and `soft` as in `draw_strokes`, in pixels."""
    height, width = drawing.opacity.shape
    line = drawing.line.reshape(-1)[: height * width].reshape(height, width)
    line[:] = _ZERO
    draw_strokes(strokes, soft, line)
    for y in range(height):
        first, end = span_of_row(drawing.opacity[y])
        _seam_row(mouth.seam, line[y, first:end], drawing.pixels[y, first:end])


@loop
def draw_mouth_pixels(mouth: Mouth, drawing: Drawing, lips: Lips) -> bool:
    """Colour a mouth; return whether there is anything to draw."""
    places, state = drawing.lists[:2], drawing.lists[2].view(np.int32)
    counts = np.empty(KINDS, np.int64)
    find_inside(mouth, drawing, lips.outline, lips.reach, lips.box, places, state, counts)
    inside = places[1, : counts.sum()]
    if len(inside) == 0 and mouth.lip_change == 0:
        return False
    spans = np.empty((len(drawing.whole), 2), np.int32)
    find_openings(inside, mouth.unit, mouth.opening)
    find_spans(inside, spans)
    weigh_mouth(mouth, drawing, spans)
    draw_lips(mouth, drawing, spans)
    draw_inside(mouth, drawing, inside, counts, drawing.lists[3])
    join_inside(drawing, spans)
    return True


def draw_mouth(
    mouth: Mouth,
    drawing: Drawing,
    lips: Lips,
    left: int,
    top: int,
    image: Uint32Array,
    mask: Uint8Image,
) -> None:
    """Draw a mouth into a frame and its mask, the region at `left`, `top`."""
    if not draw_mouth_pixels(mouth, drawing, lips):
        return
    if len(lips.strokes) > 0:
        draw_seam(mouth, lips.strokes, lips.soft, drawing)
    merge(drawing, left, top, image, mask)
