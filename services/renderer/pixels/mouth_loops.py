"""The mouth drawn on the CPU: its pixels sorted by what they show, then each kind by itself."""

from __future__ import annotations

import numpy as np

from talkingface.renderer.arrays import Float32Array, Int32Array, Int64Array, Uint32Array
from talkingface.renderer.pixels.drawing import NOTHING, Drawing, attribute, span_of_row
from talkingface.renderer.pixels.mouth import (
    KINDS,
    LIP,
    LIP_DRAWN,
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
    seam_pixel,
    tongue_pixel,
    tooth_pixel,
    wall_pixel,
)
from talkingface.renderer.pixels.shading import smooth
from talkingface.renderer.pixels.targets import loop
from talkingface.renderer.pixels.triangles import NONE

_ZERO, _ONE = np.float32(0), np.float32(1)
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
def _weight_row(mouth, ids, table, y, weight):
    for k in range(len(ids)):
        t = np.uint32(max(ids[k], np.int32(0)))
        lip = smooth(LIP_DRAWN[0], LIP_DRAWN[1], attribute(table, t, LIP, np.float32(k), y))
        skin = ids[k] != NONE and mouth.kinds[t] == OUTSIDE
        weight[k] = mouth.lip_change * lip if skin else NOTHING


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
    places: Uint32Array,
    state: Int32Array,
    counts: Int64Array,
) -> None:
    """Find the pixels that show the mouth's inside, and write the drawing's weights.

    :param outline: (N, 2) of the lips' opening. Insides show in it or near it; anywhere else they
        would shine through.
    :param reach: pixels from the outline that are still near it.
    :param places: (2, P) out: row and column of the pixels, sorted by kind.
    :param state: (P,) scratch.
    :param counts: (KINDS,) out: how many pixels of each kind.
    """
    found = 0
    for y in range(drawing.ids.shape[0]):
        ids, weight = drawing.ids[y], drawing.weight[y]
        _weight_row(mouth, ids, drawing.table, np.float32(y), weight)
        for x in range(len(ids)):
            if weight[x] < 0 and ids[x] != NONE:
                places[0, found] = np.uint32((y << 16) | x)
                state[found] = 0
                found += 1
    edge = np.empty(4, np.float32)
    for n in range(len(outline)):
        edge[:2], edge[2:] = outline[n], outline[(n + 1) % len(outline)]
        _edge_row(edge, reach, places[0, :found], state[:found])
    counts[:] = 0
    for k in range(found):
        y, x = places[0, k] >> _ROW, places[0, k] & _COLUMN
        if state[k]:
            state[k] = mouth.kinds[drawing.ids[y, x]]
            drawing.weight[y, x] = _ONE
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
def _lip_row(mouth, ids, table, x, y, out):
    for k in range(len(out)):
        t = np.uint32(max(ids[k], np.int32(0)))
        out[k] = lip_pixel(mouth, table, t, np.float32(x + k), y)


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
        drawing.colour[places[k] >> _ROW, places[k] & _COLUMN] = painted[k]


@loop
def draw_lips(mouth: Mouth, drawing: Drawing) -> None:
    """Colour the lips, and whatever lies between the pixels of a row that are seen."""
    for y in range(drawing.ids.shape[0]):
        first, end = span_of_row(drawing.opacity[y // 2])
        first, end = 2 * first, 2 * end
        ids, out = drawing.ids[y, first:end], drawing.colour[y, first:end]
        _lip_row(mouth, ids, drawing.table, first, np.float32(y), out)


@loop
def _seam_row(seam, line, out):
    for k in range(len(out)):
        out[k] = seam_pixel(out[k], seam, line[k])


@loop
def draw_seam(mouth: Mouth, drawing: Drawing) -> None:
    """Darken the line between the lips, which is in the drawing."""
    for y in range(drawing.ids.shape[0]):
        first, end = span_of_row(drawing.opacity[y // 2])
        line, out = drawing.line[y, 2 * first : 2 * end], drawing.colour[y, 2 * first : 2 * end]
        _seam_row(mouth.seam, line, out)
