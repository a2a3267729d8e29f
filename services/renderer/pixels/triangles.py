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
def _limit(low: Real, high: Real, start: Real, step: Real) -> tuple[Real, Real]:
    """Narrow low <= x <= high to where start + step * x is not below `_EDGE`."""
    if step > 0:
        low = max(low, (_EDGE - start) / step)
    elif step < 0:
        high = min(high, (_EDGE - start) / step)
    elif start < _EDGE:
        high = low - np.float32(1)
    return low, high


@device
def _ceiling(x: Real) -> Index:
    """The next whole number; of float32 without a detour by float64, also on a GPU."""
    whole = np.int32(x)
    return whole + np.int32(x > np.float32(whole))


@device
def _floor(x: Real) -> Index:
    """The whole number before."""
    whole = np.int32(x)
    return whole - np.int32(x < np.float32(whole))


@device
def span_of(row: Float32Array, y: Real, low: Real, high: Real) -> tuple[Index, Index]:
    """First and last pixel of a triangle in the row `y` of the image, within `low` and `high`."""
    down = y - row[_Y]
    b, c = row[_B + 1] * down, row[_C + 1] * down
    across, further = low - row[_X], high - row[_X]
    across, further = _limit(across, further, b, row[_B])
    across, further = _limit(across, further, c, row[_C])
    across, further = _limit(across, further, np.float32(1) - b - c, -row[_B] - row[_C])
    return _ceiling(across + row[_X]), _floor(further + row[_X])


@device
def rows_of(points: Float32Array, a: Index, b: Index, c: Index, height: int) -> tuple[Index, Index]:
    """First and last row of an image of so many that a triangle may touch."""
    ay, by, cy = points[a, 1], points[b, 1], points[c, 1]
    first = max(_ceiling(min(ay, by, cy)), np.int32(0))
    last = min(_floor(max(ay, by, cy)), np.int32(height - 1))
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
        for y in range(top, bottom + 1):
            first, last = span_of(row, np.float32(y), left, right)
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
