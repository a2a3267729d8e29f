"""Which pixels of a region show the inside of the mouth, sorted by what they show of it."""

from __future__ import annotations

import numpy as np

from talkingface.renderer.arrays import (
    Float32Array,
    Index,
    Int32Array,
    Int64Array,
    Real,
    Uint32Array,
)
from talkingface.renderer.pixels.drawing import (
    NOTHING,
    Drawing,
    skin_weight,
)
from talkingface.renderer.pixels.mouth import (
    KINDS,
    OPENING_REACH,
    OUTSIDE,
    Mouth,
    beside_edge,
)
from talkingface.renderer.pixels.targets import device, loop
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
def _mark_row(ids: Int32Array, weights: Float32Array) -> None:
    for k in range(len(ids)):
        weights[k] = skin_weight(ids[k])


@loop
def _edge_row(edge: Float32Array, reach: Real, places: Uint32Array, state: Int32Array) -> None:
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
        left: Index = max(np.int64(box[0]), 0)
        right: Index = min(np.int64(box[2]) + 1, width)
        for x in range(left, right):
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


@device
def opening_height(opening: Float32Array, x: int, unit: Real) -> Real:
    """How high a mouth is open around a column, face widths.

    :param opening: (3, W) of `Mouth`; first and last rows are known.
    """
    width = opening.shape[1]
    reach = int(OPENING_REACH * unit) + 1
    whole, total = np.float32(reach + 1), _ZERO
    for d in range(max(-reach, -x), min(reach + 1, width - x)):
        if opening[1, x + d] >= 0:
            w = _ONE - np.float32(abs(d)) / whole
            total += w * (opening[1, x + d] - opening[0, x + d] + _ONE)
    return total / (whole * unit)


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
    for x in range(width):
        out[2, x] = opening_height(out, x, unit)


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
