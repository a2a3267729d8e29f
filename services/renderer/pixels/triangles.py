"""Triangles of a mesh as linear functions of the pixel, and which of them each pixel shows."""

from __future__ import annotations

import numpy as np

from talkingface.renderer.arrays import Float32Array, Index, Int32Array, Real
from talkingface.renderer.pixels.targets import device, loop

NONE = -1  # instead of a triangle's index, where a pixel shows none
_EDGE = np.float32(-1e-5)  # barycentric weight down to which a pixel still counts as inside
_FLAT = np.float32(1e-12)  # square pixels of a triangle that is seen from its edge

# Columns of a triangle's row: its first corner; then, for the weight of each further corner, the
# steps to the right and down; then the depth and each attribute at the first corner, and its steps.
_X, _Y, _B, _C, _Z = 0, 1, 2, 4, 6
FIRST_ATTRIBUTE = 9
_COLUMNS = 3  # of an attribute


def table_width(attributes: int) -> int:
    """Columns of a row for so many attributes."""
    return FIRST_ATTRIBUTE + _COLUMNS * attributes


@device
def write_plane(
    row: Float32Array, at: int, values: Float32Array, a: Index, b: Index, c: Index
) -> None:
    """Write an attribute's value at the first corner and its steps; `values` are the vertices'."""
    first = values[a]
    along_b, along_c = values[b] - first, values[c] - first
    row[at] = first
    row[at + 1] = row[_B] * along_b + row[_C] * along_c
    row[at + 2] = row[_B + 1] * along_b + row[_C + 1] * along_c


@device
def write_corner(
    row: Float32Array, points: Float32Array, a: Index, b: Index, c: Index, cull: bool
) -> bool:
    """Write a triangle's corner, weights and depth; return whether it is to be drawn.

    :param points: (V, 3) x right, y down, in pixels, and z towards the viewer.
    :param cull: leave out triangles that face away from the viewer.
    """
    ax, ay = points[a, 0], points[a, 1]
    bx, by, cx, cy = points[b, 0] - ax, points[b, 1] - ay, points[c, 0] - ax, points[c, 1] - ay
    area = bx * cy - by * cx
    if (cull and area > 0) or abs(area) < _FLAT:
        return False
    scale = np.float32(1) / area
    row[_X], row[_Y] = ax, ay
    row[_B], row[_B + 1] = cy * scale, -cx * scale
    row[_C], row[_C + 1] = -by * scale, bx * scale
    depth = points[a, 2]
    along_b, along_c = points[b, 2] - depth, points[c, 2] - depth
    row[_Z] = depth
    row[_Z + 1] = row[_B] * along_b + row[_C] * along_c
    row[_Z + 2] = row[_B + 1] * along_b + row[_C + 1] * along_c
    return True


@device
def value_at(row: Float32Array, at: int, x: Real, y: Real) -> Real:
    """A triangle's depth or attribute at a pixel."""
    return row[at] + row[at + 1] * (x - row[_X]) + row[at + 2] * (y - row[_Y])


@device
def depth_at(row: Float32Array, x: Real, y: Real) -> Real:
    """A triangle's depth at a pixel."""
    return value_at(row, _Z, x, y)


@device
def _edge_of(along: Real, down: Real, start: Real) -> tuple[Real, Real, Real, Real]:
    """Where a corner's weight is positive in a row, counted from the triangle's first corner.

    The weight is start + along * x + down * y. It is positive from left + slope * y on, or up to
    right + slope * y; the other limit is infinite.

    :return: left, right, slope to the left limit, slope to the right limit.
    """
    zero, far = np.float32(0), np.float32(1e9)
    if along == zero:
        # A horizontal edge: the rows of the triangle's box keep to it.
        return -far, far, zero, zero
    inverse = np.float32(1) / along
    limit, slope = (_EDGE - start) * inverse, -down * inverse
    if along > zero:
        return limit, far, slope, zero
    return -far, limit, zero, slope


@device
def edges_of(row: Float32Array) -> tuple[Real, ...]:
    """The limits of a triangle's rows by its three edges, four numbers each, see `_edge_of`."""
    zero, one = np.float32(0), np.float32(1)
    a = _edge_of(row[_B], row[_B + 1], zero)
    b = _edge_of(row[_C], row[_C + 1], zero)
    c = _edge_of(-row[_B] - row[_C], -row[_B + 1] - row[_C + 1], one)
    return a[0], a[1], a[2], a[3], b[0], b[1], b[2], b[3], c[0], c[1], c[2], c[3]


@device
def ceiling(x: Real) -> Index:
    """The next whole number; of float32 without a detour by float64, also on a GPU."""
    whole = np.int32(x)
    return whole + np.int32(x > np.float32(whole))


@device
def floor(x: Real) -> Index:
    """The whole number before."""
    whole = np.int32(x)
    return whole - np.int32(x < np.float32(whole))


@device
def span_of(
    row: Float32Array, edges: tuple[Real, ...], y: Real, low: Real, high: Real
) -> tuple[Index, Index]:
    """First and last pixel of a triangle in the row `y` of the image, within `low` and `high`."""
    down = y - row[_Y]
    left = max(edges[0] + edges[2] * down, edges[4] + edges[6] * down, edges[8] + edges[10] * down)
    right = min(edges[1] + edges[3] * down, edges[5] + edges[7] * down, edges[9] + edges[11] * down)
    return ceiling(max(left + row[_X], low)), floor(min(right + row[_X], high))


@device
def rows_of(points: Float32Array, a: Index, b: Index, c: Index, height: int) -> tuple[Index, Index]:
    """First and last row of an image of so many that a triangle may touch."""
    ay, by, cy = points[a, 1], points[b, 1], points[c, 1]
    first = max(ceiling(min(ay, by, cy)), np.int32(0))
    last = min(floor(max(ay, by, cy)), np.int32(height - 1))
    return first, last


@device
def columns_of(points: Float32Array, a: Index, b: Index, c: Index, width: int) -> tuple[Real, Real]:
    """Leftmost and rightmost pixel of an image that a triangle may touch, as real numbers."""
    ax, bx, cx = points[a, 0], points[b, 0], points[c, 0]
    return max(min(ax, bx, cx), np.float32(0)), min(max(ax, bx, cx), np.float32(width - 1))


@device
def write_row(
    row: Float32Array,
    points: Float32Array,
    values: Float32Array,
    a: Index,
    b: Index,
    c: Index,
    cull: bool,
) -> bool:
    """Write a triangle's row; return whether it is to be drawn.

    :param points: and `cull`, as in `write_corner`.
    :param values: (A, V) attributes of the vertices.
    """
    drawn = write_corner(row, points, a, b, c, cull)
    if drawn:
        for k in range(len(values)):
            write_plane(row, FIRST_ATTRIBUTE + _COLUMNS * k, values[k], a, b, c)
    return drawn


@loop
def draw_triangles(
    points: Float32Array,
    values: Float32Array,
    triangles: Int32Array,
    cull: bool,
    table: Float32Array,
    ids: Int32Array,
    depth: Float32Array,
) -> None:
    """Find the nearest triangle at each pixel.

    :param points: (V, 3) x right, y down, in pixels (a pixel's centre is at integer coordinates),
        and z towards the viewer.
    :param values: (A, V) attributes of the vertices.
    :param triangles: (T, 3) vertex indices, anticlockwise as seen from outside with y up.
    :param cull: leave out triangles that face away from the viewer.
    :param table: (T, `table_width(A)`) out; the rows of the triangles drawn.
    :param ids: (H, W) out; a triangle's index, or NONE.
    :param depth: (H, W) out; its depth where there is one.
    """
    height, width = ids.shape
    for y in range(height):
        for x in range(width):
            ids[y, x] = NONE
            depth[y, x] = -np.inf
    for t in range(len(triangles)):
        a, b, c = triangles[t, 0], triangles[t, 1], triangles[t, 2]
        top, bottom = rows_of(points, a, b, c, height)
        left, right = columns_of(points, a, b, c, width)
        row = table[t]
        if top > bottom or left > right or not write_row(row, points, values, a, b, c, cull):
            continue
        edges = edges_of(row)
        for y in range(top, bottom + 1):
            first, last = span_of(row, edges, np.float32(y), left, right)
            z = depth_at(row, np.float32(first), np.float32(y))
            for x in range(first, last + 1):
                if z > depth[y, x]:
                    depth[y, x] = z
                    ids[y, x] = t
                z += row[_Z + 1]


@device
def write_attributes(t: Index, table: Float32Array, x: Index, y: Index, out: Float32Array) -> None:
    """Write a triangle's attributes at a pixel of planes (A, H, W), 0 if it shows none."""
    for k in range(len(out)):
        value = np.float32(0)
        if t != NONE:
            at = FIRST_ATTRIBUTE + _COLUMNS * k
            value = value_at(table[t], at, np.float32(x), np.float32(y))
        out[k, y, x] = value


@loop
def attributes_at(ids: Int32Array, table: Float32Array, out: Float32Array) -> None:
    """Write the attributes (A, H, W) of the pixels that show a triangle, 0 elsewhere."""
    for y in range(ids.shape[0]):
        for x in range(ids.shape[1]):
            write_attributes(ids[y, x], table, x, y, out)
