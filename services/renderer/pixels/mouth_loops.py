"""The mouth drawn on the CPU: its pixels sorted by what they show, then each kind by itself."""

from __future__ import annotations

import numpy as np

from talkingface.renderer.arrays import Float32Array, Int32Array, Int64Array, Uint32Array
from talkingface.renderer.pixels.drawing import (
    NOTHING,
    Drawing,
    draw_strokes,
    find_opacity,
    join_quarters,
    middle_of,
    span_of_row,
    triangle_or_any,
    weigh_quarters,
)
from talkingface.renderer.pixels.mouth import (
    KINDS,
    LOWER,
    LOWER_TEETH,
    OPENING_REACH,
    OUTSIDE,
    TONGUE,
    UPPER,
    UPPER_TEETH,
    Mouth,
    beside_edge,
    lip_pixel,
    lip_weight,
    seam_pixel,
    tongue_pixel,
    tooth_pixel,
    wall_pixel,
)
from talkingface.renderer.pixels.targets import loop
from talkingface.renderer.pixels.triangles import NONE

_ZERO, _HALF, _ONE = np.float32(0), np.float32(0.5), np.float32(1)
_ROW, _COLUMN = np.uint32(16), np.uint32(0xFFFF)  # of a pixel's place: bits below, bits


@loop
def write_vertices(
    index: Int64Array,
    uv: Float32Array,
    constant: Float32Array,
    inner_lip: Float32Array,
    vertices: Float32Array,
    normals: Float32Array,
    lips: Float32Array,
    out: Float32Array,
) -> None:
    """Write the attributes of the mouth's vertices, (ATTRIBUTES, N).

    :param index: (N,) of the vertices among all (V, ...).
    :param constant: (3, N) along the arch, above the edge, weight of the lips.
    :param lips: (5,) height and depth of the lower lip, height and depth of the upper lip over
        these, face widths by which the lips' plane lies before them.
    """
    for n in range(len(index)):
        i = np.uint32(index[n])
        height = (vertices[i, 1] - lips[0]) / max(lips[2], np.float32(1e-3))
        plane = lips[1] + min(max(height, _ZERO), _ONE) * lips[3]
        out[0, n], out[1, n] = uv[i, 0], uv[i, 1]
        out[2, n], out[3, n] = constant[0, n], constant[1, n]
        out[4, n] = plane - vertices[i, 2] - lips[4]
        out[5, n], out[6, n] = normals[i, 1], normals[i, 2]
        out[7, n], out[8, n] = inner_lip[i], constant[2, n]


@loop
def choose_triangles(
    points: Float32Array,
    index: Int64Array,
    triangles: Int32Array,
    kinds: Int32Array,
    box: Float32Array,
    chosen: Int32Array,
    chosen_kinds: Int32Array,
) -> int:
    """Leave out triangles of the mouth's inside that cannot be seen; return how many are left.

    :param points: (V, 3) of the whole mesh, in pixels of the frame.
    :param index: (N,) vertices that `triangles` (T, 3) use.
    :param kinds: (T,) as in `Mouth`.
    :param box: (4,) left, top, right, bottom of where the inside may show, pixels of the frame;
        out: of the inside's triangles that are left.
    :param chosen: (T, 3) and `chosen_kinds`, (T,), out.
    """
    left, top, right, bottom = box[0], box[1], box[2], box[3]
    box[:2], box[2:] = np.inf, -np.inf
    count = 0
    for t in range(len(triangles)):
        chosen[count], chosen_kinds[count] = triangles[t], kinds[t]
        if kinds[t] == OUTSIDE:
            count += 1
            continue
        i, j, k = index[triangles[t, 0]], index[triangles[t, 1]], index[triangles[t, 2]]
        low_x = min(points[i, 0], points[j, 0], points[k, 0])
        high_x = max(points[i, 0], points[j, 0], points[k, 0])
        low_y = min(points[i, 1], points[j, 1], points[k, 1])
        high_y = max(points[i, 1], points[j, 1], points[k, 1])
        if low_x <= right and high_x >= left and low_y <= bottom and high_y >= top:
            count += 1
            box[0], box[1] = min(box[0], low_x), min(box[1], low_y)
            box[2], box[3] = max(box[2], high_x), max(box[3], high_y)
    return count


@loop
def _mark_row(ids, weights):
    for k in range(len(ids)):
        weights[k] = NOTHING if ids[k] == NONE else _ZERO


@loop
def _edge_row(edge, reach, places, state):
    for k in range(len(places)):
        x, y = np.float32(places[k] & _COLUMN), np.float32(places[k] >> _ROW)
        state[k] = beside_edge(edge, reach, x, y, state[k])


@loop
def find_inside(
    mouth: Mouth,
    drawing: Drawing,
    outline: Float32Array,
    reach: np.float32,
    box: Float32Array,
    places: Uint32Array,
    state: Int32Array,
    counts: Int64Array,
) -> None:
    """Find the quarters of pixels that show the mouth's inside.

    They have the weight 1 then, skin 0, and whatever is not seen NOTHING.

    :param outline: (N, 2) of the lips' opening. Insides show in it or near it; anywhere else they
        would shine through.
    :param reach: pixels from the outline that are still near it.
    :param box: (4,) left, top, right, bottom of where there are triangles of the inside, pixels.
    :param places: (2, P) out: row and column of the quarters; the second sorted by kind.
    :param state: (P,) scratch.
    :param counts: (KINDS,) out: how many of each kind.
    """
    found = 0
    height, width = drawing.ids.shape
    for y in range(height):
        ids, weights = drawing.ids[y], drawing.weights[y]
        _mark_row(ids, weights)
        if y < box[1] or y > box[3]:
            continue
        for x in range(max(np.int64(box[0]), 0), min(np.int64(box[2]) + 1, width)):
            if ids[x] != NONE and mouth.kinds[ids[x]] != OUTSIDE:
                weights[x] = NOTHING
                places[0, found] = np.uint32((y << 16) | x)
                found += 1
    state[:found] = 0
    edge = np.empty(4, np.float32)
    for n in range(len(outline)):
        edge[:2], edge[2:] = outline[n], outline[(n + 1) % len(outline)]
        _edge_row(edge, reach, places[0, :found], state[:found])
    counts[:] = 0
    for k in range(found):
        y, x = places[0, k] >> _ROW, places[0, k] & _COLUMN
        if state[k]:
            state[k] = mouth.kinds[drawing.ids[y, x]]
            drawing.weights[y, x] = _ONE
            counts[state[k]] += 1
        else:
            state[k] = OUTSIDE
    starts = np.zeros(KINDS, np.int64)
    for n in range(1, KINDS):
        starts[n] = starts[n - 1] + counts[n - 1]
    for k in range(found):
        if state[k] != OUTSIDE:
            places[1, starts[state[k]]] = places[0, k]
            starts[state[k]] += 1


@loop
def find_openings(places: Uint32Array, unit: np.float32, out: Float32Array) -> None:
    """Measure in each column of pixels where the mouth's inside begins, ends, and how high it is.

    :param places: (N,) of the pixels that show it.
    :param unit: pixels a face width.
    :param out: (3, W): first row, last row, height in face widths, smooth along the lips.
    """
    width = out.shape[1]
    out[0], out[1] = np.float32(1 << 15), np.float32(-1)
    for k in range(len(places)):
        x, y = places[k] & _COLUMN, np.float32(places[k] >> _ROW)
        out[0, x], out[1, x] = min(out[0, x], y), max(out[1, x], y)
    reach = int(OPENING_REACH * unit) + 1
    whole = np.float32(reach + 1)
    for x in range(width):
        total = _ZERO
        for d in range(max(-reach, -x), min(reach + 1, width - x)):
            if out[1, x + d] >= 0:
                w = _ONE - np.float32(abs(d)) / whole
                total += w * (out[1, x + d] - out[0, x + d] + _ONE)
        out[2, x] = total / (whole * unit)


@loop
def _draw_upper(mouth, drawing, places, out):
    for k in range(len(out)):
        y, x = places[k] >> _ROW, places[k] & _COLUMN
        t, x, y = np.uint32(drawing.ids[y, x]), np.float32(x), np.float32(y)
        out[k] = tooth_pixel(mouth, UPPER_TEETH, True, drawing.table, t, x, y)


@loop
def _draw_lower(mouth, drawing, places, out):
    for k in range(len(out)):
        y, x = places[k] >> _ROW, places[k] & _COLUMN
        t, x, y = np.uint32(drawing.ids[y, x]), np.float32(x), np.float32(y)
        out[k] = tooth_pixel(mouth, LOWER_TEETH, False, drawing.table, t, x, y)


@loop
def _draw_tongue(mouth, drawing, places, out):
    for k in range(len(out)):
        y, x = places[k] >> _ROW, places[k] & _COLUMN
        t, x, y = np.uint32(drawing.ids[y, x]), np.float32(x), np.float32(y)
        out[k] = tongue_pixel(mouth, drawing.table, t, x, y)


@loop
def _draw_walls(mouth, drawing, places, out):
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
            _draw_upper(mouth, drawing, some, out)
        elif kind == LOWER:
            _draw_lower(mouth, drawing, some, out)
        elif kind == TONGUE:
            _draw_tongue(mouth, drawing, some, out)
        else:
            _draw_walls(mouth, drawing, some, out)
        start = end
    for k in range(start):
        drawing.quarters[places[k] >> _ROW, places[k] & _COLUMN] = painted[k]


@loop
def find_spans(places: Uint32Array, spans: Int32Array) -> None:
    """Write which pixels of each row show the mouth's inside.

    :param places: (N,) of the quarters that show it.
    :param spans: (h, 2) out: the first, and the one behind the last.
    """
    spans[:, 0], spans[:, 1] = 1 << 15, 0
    for k in range(len(places)):
        y, x = places[k] >> np.uint32(17), np.int32((places[k] & _COLUMN) >> np.uint32(1))
        spans[y, 0], spans[y, 1] = min(spans[y, 0], x), max(spans[y, 1], x + 1)
    for y in range(len(spans)):
        spans[y, 0] = min(spans[y, 0], spans[y, 1])


@loop
def _weigh_lips(mouth, table, ids, y, upper, lower, first, weight, whole):
    for k in range(len(whole)):
        x = np.float32(first + k) * np.float32(2) + _HALF
        seen = lip_weight(mouth, table, triangle_or_any(ids[2 * k]), x, y)
        least = min(upper[2 * k], upper[2 * k + 1], min(lower[2 * k], lower[2 * k + 1]))
        weight[k] = seen if least >= 0 else _ZERO
        whole[k] = _ONE if least >= 0 else _ZERO


@loop
def _weigh_beside(mouth, drawing, y, first, end):
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
def _weigh_skin(mouth, table, ids, x, y, weights):
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
def _lip_quarters(mouth, table, ids, x, y, out):
    for k in range(len(out)):
        t = triangle_or_any(ids[k])
        out[k] = lip_pixel(mouth, table, t, np.float32(x + k), y)


@loop
def _lip_pixels(mouth, table, upper, lower, first, y, out):
    for k in range(len(out)):
        x = np.float32(first + k) * np.float32(2)
        one = lip_pixel(mouth, table, triangle_or_any(upper[2 * k]), x, y)
        t = triangle_or_any(lower[2 * k + 1])
        out[k] = middle_of(one, lip_pixel(mouth, table, t, x + _ONE, y + _ONE))


@loop
def _lips_beside(mouth, drawing, y, first, end):
    """Colour pixels of a row that show skin alone."""
    upper = drawing.ids[2 * y, 2 * first : 2 * end]
    lower, out = drawing.ids[2 * y + 1, 2 * first : 2 * end], drawing.pixels[y, first:end]
    _lip_pixels(mouth, drawing.table, upper, lower, first, np.float32(2 * y), out)


@loop
def draw_lips(mouth: Mouth, drawing: Drawing, spans: Int32Array) -> None:
    """Colour the lips, in quarters beside the mouth's inside; `spans` as from `find_spans`."""
    for y in range(len(drawing.opacity)):
        left, right = span_of_row(drawing.opacity[y])
        first = min(max(np.int64(spans[y, 0]), left), right)
        end = min(max(np.int64(spans[y, 1]), first), right)
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
def _seam_row(seam, line, out):
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
def draw_mouth_pixels(
    mouth: Mouth,
    drawing: Drawing,
    outline: Float32Array,
    reach: np.float32,
    box: Float32Array,
) -> bool:
    """Colour a mouth; return whether there is anything to draw.

    :param outline: `reach` and `box`, as in `find_inside`.
    """
    places, state = drawing.lists[:2], drawing.lists[2].view(np.int32)
    counts = np.empty(KINDS, np.int64)
    find_inside(mouth, drawing, outline, reach, box, places, state, counts)
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
