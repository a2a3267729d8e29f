"""Warping by the depth proxy: where hair, ears, neck and shoulders of a turned head come from."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from talkingface.renderer.arrays import Float32Array
from talkingface.renderer.compiler import njit
from talkingface.renderer.face.pyramid_fill import fill_outside
from talkingface.renderer.geometry.depth_proxy import STEP
from talkingface.renderer.geometry.frame import FRAME
from talkingface.renderer.geometry.projection import HeadTurn
from talkingface.renderer.geometry.surface import smoothstep
from talkingface.renderer.opencv import cv
from talkingface.renderer.pixels.layers import MARGIN

Borders = tuple[bool, bool, bool, bool]  # left, top, right, bottom

THINNING = 2  # every second node of the proxy draws the flow
CELLS = 128  # of the flow along a side
CELL = FRAME // CELLS  # pixels
EMPTY = np.float32(-1e9)  # depth of cells that the proxy does not reach
SMOOTHING = 0.8  # cells: standard deviation by which the flow is smoothed; by eye
# The fixed-point iteration that inverts the proxy's motion: its steps are this share of what is
# missing, so it converges where the proxy stretches by less than twice the inverse of it.
INVERSION_STEP, INVERSION_ROUNDS = 0.42, 10
SAMPLING_STEPS = 32  # positions in a cell at which the flow is sampled, as OpenCV does
PINNED = (10.0, 80.0)  # pixels from a pinned border over which motion sets in; by eye


def rear_flow(
    proxy: Float32Array, head: HeadTurn, torso: Float32Array, turned: Float32Array
) -> Float32Array:
    """Where in the photo the person's pixels come from, (CELLS, CELLS, 2), at the cells' centres.

    :param proxy: (6, N, N) of `build_depth_proxy`.
    :param torso: (2, 3) map of the shoulders.
    :param turned: (2,) how far the viewer's left, right side turned towards the viewer, 0..1.
    """
    nodes = _moved_nodes(proxy, head, torso, turned)
    moved, depth = np.zeros((CELLS, CELLS, 2), np.float32), np.empty((CELLS, CELLS), np.float32)
    _draw(nodes, moved, depth)
    empty = depth == EMPTY
    if empty.any():
        moved = fill_outside(moved, (~empty).astype(np.float32))
    flow: Float32Array = cv.GaussianBlur(moved, (0, 0), SMOOTHING)
    flow += identity_flow()
    return flow


@lru_cache(maxsize=1)
def identity_flow() -> Float32Array:
    """The flow (CELLS, CELLS, 2) in which nothing moves: pixels at the cells' centres."""
    along = np.arange(CELLS, dtype=np.float32) * CELL + (CELL - 1) / 2
    here: Float32Array = np.stack(np.meshgrid(along, along), -1)
    here.flags.writeable = False
    return here


@njit(cache=True, fastmath=True, error_model="numpy")
def _moved_nodes(
    proxy: Float32Array, head: HeadTurn, torso: Float32Array, turned: Float32Array
) -> Float32Array:
    """Position and depth of the thinned nodes in the frame, (M, M, 3) in cells and pixels."""
    turn, flat, start, target = head
    side = (proxy.shape[1] + THINNING - 1) // THINNING
    one, zero = np.float32(1), np.float32(0)
    cell, centre = np.float32(1 / CELL), np.float32((CELL - 1) / 2)
    out = np.empty((side, side, 3), np.float32)
    for i in range(side):
        v = np.float32(i * THINNING * STEP - MARGIN)
        for j in range(side):
            u = np.float32(j * THINNING * STEP - MARGIN)
            row, column = i * THINNING, j * THINNING
            near, far, aside = proxy[0, row, column], proxy[1, row, column], proxy[4, row, column]
            hull, weight = proxy[2, row, column], proxy[3, row, column]
            nearness = turned[0] * max(-aside, zero) + turned[1] * max(aside, zero)
            z = far + nearness * (near - far)
            x, y = u - start[0], v - start[1]
            for k in range(2):
                plane = (turn[k, 0] + hull * (flat[k, 0] - turn[k, 0])) * x
                plane += (turn[k, 1] + hull * (flat[k, 1] - turn[k, 1])) * y
                moved = plane + turn[k, 2] * z + target[k]
                body = torso[k, 0] * u + torso[k, 1] * v + torso[k, 2]
                out[i, j, k] = (weight * moved + (one - weight) * body - centre) * cell
            out[i, j, 2] = weight * (turn[2, 0] * x + turn[2, 1] * y + turn[2, 2] * z)
    return out


@njit(cache=True, fastmath=True, error_model="numpy")
def _draw(nodes: Float32Array, moved: Float32Array, depth: Float32Array) -> None:
    """Draw the grid of nodes: what the pixels of the photo were moved by, nearer ones in front.

    :param nodes: (M, M, 3) of `_moved_nodes`.
    :param moved: (CELLS, CELLS, 2) out; from the cells' centres to pixels of the photo.
    :param depth: (CELLS, CELLS) out; `EMPTY` where nothing is drawn, there `moved` stays.
    """
    depth[:] = EMPTY
    pitch, first, last = np.float32(THINNING * STEP), np.float32(0), np.float32(CELLS - 1)
    for i in range(nodes.shape[0] - 1):
        for j in range(nodes.shape[1] - 1):
            a, b = _node(nodes, i, j), _node(nodes, i, j + 1)
            c, d = _node(nodes, i + 1, j), _node(nodes, i + 1, j + 1)
            if max(max(a[0], b[0]), max(c[0], d[0])) < first:
                continue
            if max(max(a[1], b[1]), max(c[1], d[1])) < first:
                continue
            if min(min(a[0], b[0]), min(c[0], d[0])) > last:
                continue
            if min(min(a[1], b[1]), min(c[1], d[1])) > last:
                continue
            u = np.float32(j) * pitch - np.float32(MARGIN)
            v = np.float32(i) * pitch - np.float32(MARGIN)
            _draw_triangle(a, b, c, (u, v, pitch), moved, depth)
            _draw_triangle(d, c, b, (u + pitch, v + pitch, -pitch), moved, depth)


@njit(cache=True, fastmath=True, error_model="numpy")
def _node(nodes: Float32Array, row: int, column: int) -> tuple[float, float, float]:
    """Position and depth of a node."""
    return nodes[row, column, 0], nodes[row, column, 1], nodes[row, column, 2]


@njit(cache=True, fastmath=True, error_model="numpy")
def _draw_triangle(
    a: tuple[float, float, float],
    b: tuple[float, float, float],
    c: tuple[float, float, float],
    photo: tuple[np.float32, np.float32, np.float32],
    moved: Float32Array,
    depth: Float32Array,
) -> None:
    """Draw half a mesh of the grid; `moved` and `depth` as in `_draw`.

    :param a: position and depth of the corner at the right angle; `b` is its neighbour in the row,
        `c` the one in the column.
    :param photo: pixel of `a` in the photo, and how far it is to `b` and `c`.
    """
    edge, one = np.float32(-1e-6), np.float32(1)
    cell, centre = np.float32(CELL), np.float32((CELL - 1) / 2)
    (ax, ay, az), (bx, by, bz), (cx, cy, cz) = a, b, c
    left = max(int(np.ceil(min(ax, bx, cx))), 0)
    right = min(int(np.floor(max(ax, bx, cx))), CELLS - 1)
    top = max(int(np.ceil(min(ay, by, cy))), 0)
    bottom = min(int(np.floor(max(ay, by, cy))), CELLS - 1)
    area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
    if area == 0 or left > right or top > bottom:
        return
    u, v, pitch = photo
    # The weights are linear: a step to the right or down adds the same everywhere.
    right_b, right_c = (cy - ay) / area, (ay - by) / area
    down_b, down_c = (ax - cx) / area, (bx - ax) / area
    for y in range(top, bottom + 1):
        below = np.float32(y) - ay
        for x in range(left, right + 1):
            aside = np.float32(x) - ax
            wb, wc = aside * right_b + below * down_b, aside * right_c + below * down_c
            if min(min(wb, wc), one - wb - wc) < edge:
                continue
            z = az + wb * (bz - az) + wc * (cz - az)
            # Unsigned, for indices that may be negative cost a check each.
            row, column = np.uint32(y), np.uint32(x)
            if z > depth[row, column]:
                depth[row, column] = z
                moved[row, column, 0] = u + pitch * wb - (np.float32(x) * cell + centre)
                moved[row, column, 1] = v + pitch * wc - (np.float32(y) * cell + centre)


@njit(cache=True, fastmath=True, error_model="numpy")
def skin_uv(
    proxy: Float32Array, head: HeadTurn, points: Float32Array, uv: Float32Array
) -> Float32Array:
    """Photo pixels (N, 2) from which turned skin takes its colours.

    Inverts the motion of the skin's proxy by fixed-point steps: what is missing is turned back
    within the image plane.

    :param proxy: (6, N, N) of `build_depth_proxy`.
    :param points: (N, 2+) pixels of the vertices in the frame.
    :param uv: (N, 2) pixels of the vertices in the photo.
    """
    turn, flat, start, target = head
    zero, one, most = np.float32(0), np.float32(1), np.float32(proxy.shape[1] - 1.001)
    xx, xy, yx, yy = flat[0, 0], flat[0, 1], flat[1, 0], flat[1, 1]
    step = np.float32(INVERSION_STEP) / (xx * xx + yx * yx)
    out = uv.copy()
    # Round by round, not vertex by vertex: the processor then works on several vertices at a time.
    for _ in range(INVERSION_ROUNDS):
        for n in range(len(points)):
            x, y = out[n, 0], out[n, 1]
            across = min(max((x + np.float32(MARGIN)) * np.float32(1 / STEP), zero), most)
            down = min(max((y + np.float32(MARGIN)) * np.float32(1 / STEP), zero), most)
            i, j = int(down), int(across)
            u, v = across - np.float32(j), down - np.float32(i)
            wa, wb, wc, wd = (one - u) * (one - v), u * (one - v), (one - u) * v, u * v
            z = wa * proxy[5, i, j] + wb * proxy[5, i, j + 1]
            z += wc * proxy[5, i + 1, j] + wd * proxy[5, i + 1, j + 1]
            hull = wa * proxy[2, i, j] + wb * proxy[2, i, j + 1]
            hull += wc * proxy[2, i + 1, j] + wd * proxy[2, i + 1, j + 1]
            px, py = x - start[0], y - start[1]
            missing_x = points[n, 0] - target[0] - turn[0, 2] * z
            missing_x -= (turn[0, 0] + hull * (xx - turn[0, 0])) * px
            missing_x -= (turn[0, 1] + hull * (xy - turn[0, 1])) * py
            missing_y = points[n, 1] - target[1] - turn[1, 2] * z
            missing_y -= (turn[1, 0] + hull * (yx - turn[1, 0])) * px
            missing_y -= (turn[1, 1] + hull * (yy - turn[1, 1])) * py
            out[n, 0] = x + step * (xx * missing_x + yx * missing_y)
            out[n, 1] = y + step * (xy * missing_x + yy * missing_y)
    return out


@njit(cache=True, fastmath=True, error_model="numpy")
def sample_flow(flow: Float32Array, points: Float32Array) -> Float32Array:
    """Values (N, 2) of a flow (CELLS, CELLS, 2) at pixels (N, 2+) of the frame, bilinear."""
    out = np.empty((len(points), 2), np.float32)
    one, centre, most = np.float32(1), np.float32((CELL - 1) / 2), np.float32(CELLS - 1)
    steps = np.float32(SAMPLING_STEPS / CELL)
    for n in range(len(points)):
        x = np.rint((points[n, 0] - centre) * steps) / np.float32(SAMPLING_STEPS)
        y = np.rint((points[n, 1] - centre) * steps) / np.float32(SAMPLING_STEPS)
        x, y = min(max(x, np.float32(0)), most), min(max(y, np.float32(0)), most)
        j, i = min(int(x), CELLS - 2), min(int(y), CELLS - 2)
        u, v = x - np.float32(j), y - np.float32(i)
        for k in range(2):
            above = flow[i, j, k] * (one - u) + flow[i, j + 1, k] * u
            below = flow[i + 1, j, k] * (one - u) + flow[i + 1, j + 1, k] * u
            out[n, k] = above * (one - v) + below * v
    return out


def upsample_flow(flow: Float32Array) -> Float32Array:
    """A flow (128, 128, 2) for every pixel of the frame, (512, 512, 2)."""
    out = np.asarray(cv.resize(flow, (FRAME, FRAME), interpolation=cv.INTER_LINEAR))
    # Half a cell at the rim lies beyond the outermost centres: there the flow goes on evenly.
    half = CELL // 2
    ahead = np.arange(half, 0, -1, dtype=np.float32)[:, None, None]
    for rim in (out, out[::-1], out.swapaxes(0, 1), out.swapaxes(0, 1)[::-1]):
        rim[:half] = rim[half] - ahead * (rim[half + 1] - rim[half])
    return out


def border_distance(size: int, borders: Borders) -> Float32Array:
    """Pixels of the frame from each cell (size, size) to the nearest of some borders."""
    step = FRAME / size
    along = (np.arange(size) + 0.5) * step
    far = np.full(size, np.inf)
    left, top, right, bottom = borders
    across = np.minimum(along if left else far, along[::-1] if right else far)
    down = np.minimum(along if top else far, along[::-1] if bottom else far)
    return np.minimum(across[None], down[:, None]).astype(np.float32)


def pin_flow(flow: Float32Array, borders: Borders) -> Float32Array:
    """A flow (128, 128, 2) that comes to rest at some borders."""
    free = smoothstep(*PINNED, border_distance(len(flow), borders))[..., None]
    return identity_flow() + free * (flow - identity_flow())
