"""Warping by the depth proxy: where hair, ears, neck and shoulders of a turned head come from."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numba import njit

from talkingface.renderer.arrays import BoolArray, Float32Array, Int32Array
from talkingface.renderer.face.camera import Camera
from talkingface.renderer.face.pyramid_fill import fill_outside
from talkingface.renderer.geometry.depth_proxy import NODES, STEP
from talkingface.renderer.geometry.frame import FLIP_3D, FRAME
from talkingface.renderer.geometry.rasterizer import interpolate_attributes, rasterize_mesh
from talkingface.renderer.geometry.surface import smoothstep
from talkingface.renderer.opencv import cv
from talkingface.renderer.pixels.layers import MARGIN

Borders = tuple[bool, bool, bool, bool]  # left, top, right, bottom

THINNING = 2  # every second node of the proxy draws the flow
CELLS = 128  # of the flow along a side
CELL = FRAME // CELLS  # pixels
# The fixed-point iteration that inverts the proxy's motion: its steps are this share of what is
# missing, so it converges where the proxy stretches by less than twice the inverse of it.
INVERSION_STEP, INVERSION_ROUNDS = 0.42, 10
PINNED = (10.0, 80.0)  # pixels from a pinned border over which motion sets in; by eye


class HeadTurn(NamedTuple):
    """How the head went from the photo to a frame, in image axes (x right, y down)."""

    turn: Float32Array  # (3, 3) rotation times the change of scale
    in_plane: Float32Array  # (2, 2) its part within the image plane alone
    start: Float32Array  # (2,) pixel of the head's turning point in the photo
    target: Float32Array  # (2,) ... and in the frame


def head_turn(photo: Camera, camera: Camera) -> HeadTurn:
    """Compare the camera of a frame with the photo's."""
    mirror = np.diag(FLIP_3D).astype(np.float32)
    zoom = float(camera.scale[0] / photo.scale[0])
    turn = (mirror @ camera.rotation[0] @ photo.rotation[0].T @ mirror * zoom).astype(np.float32)
    in_plane = (_in_plane(turn[:2, :2]) * zoom).astype(np.float32)
    return HeadTurn(turn, in_plane, photo.translation[0], camera.translation[0])


def _in_plane(linear: Float32Array) -> Float32Array:
    """The rotation (2, 2) that comes closest to a linear map (2, 2)."""
    (a, b), (c, d) = linear
    turn = np.array([[a + d, b - c], [c - b, a + d]], np.float32)
    return turn / float(np.hypot(a + d, b - c))


def rear_flow(
    proxy: Float32Array, head: HeadTurn, torso: Float32Array, turned: Float32Array
) -> Float32Array:
    """Where in the photo the person's pixels come from, (CELLS, CELLS, 2), at the cells' centres.

    :param proxy: (6, N, N) of `build_depth_proxy`.
    :param torso: (2, 3) map of the shoulders.
    :param turned: (2,) how far the viewer's left, right side turned towards the viewer, 0..1.
    """
    nodes, triangles = _grid()
    points = np.empty((len(nodes), 3), np.float32)
    thin = np.ascontiguousarray(proxy[:, ::THINNING, ::THINNING])
    left, right = float(turned[0]), float(turned[1])
    _move(thin.reshape(len(thin), -1), nodes, head, torso, (left, right), points)
    points[:, :2] = (points[:, :2] - (CELL - 1) / 2) / CELL
    ids, weights = rasterize_mesh(points, triangles, CELLS, CELLS, False)
    drawn = interpolate_attributes(nodes, triangles, ids, weights)
    empty = ids < 0
    here = identity_flow()
    moved = drawn - here
    if empty.any():
        moved[empty] = 0
        moved = fill_outside(moved, (~empty).astype(np.float32))
    flow: Float32Array = (here + cv.GaussianBlur(moved, (0, 0), 0.8)).astype(np.float32)
    return flow


@lru_cache(maxsize=1)
def identity_flow() -> Float32Array:
    """The flow (CELLS, CELLS, 2) in which nothing moves: pixels at the cells' centres."""
    along = np.arange(CELLS, dtype=np.float32) * CELL + (CELL - 1) / 2
    here: Float32Array = np.stack(np.meshgrid(along, along), -1)
    here.flags.writeable = False
    return here


@lru_cache(maxsize=1)
def _grid() -> tuple[Float32Array, Int32Array]:
    """Pixels (P, 2) of the nodes that draw the flow, and triangles between them."""
    along = np.arange(0, NODES, THINNING, dtype=np.float32) * STEP - MARGIN
    xs, ys = np.meshgrid(along, along)
    index = np.arange(xs.size, dtype=np.int32).reshape(xs.shape)
    a, b, c, d = index[:-1, :-1], index[:-1, 1:], index[1:, :-1], index[1:, 1:]
    triangles = np.concatenate(
        [np.stack([a, c, b], -1).reshape(-1, 3), np.stack([b, c, d], -1).reshape(-1, 3)]
    )
    return np.stack([xs.ravel(), ys.ravel()], 1), triangles


@njit(cache=True, fastmath=True)
def _move(
    proxy: Float32Array,
    nodes: Float32Array,
    head: HeadTurn,
    torso: Float32Array,
    turned: tuple[float, float],
    out: Float32Array,
) -> None:
    """Write pixels and depth (P, 3) of the nodes in the frame.

    :param proxy: (6, P) at the nodes.
    :param nodes: (P, 2) pixels in the photo.
    """
    turn, flat, start, target = head
    left, right = turned
    one, zero = np.float32(1), np.float32(0)
    for n in range(len(nodes)):
        aside = proxy[4, n]
        nearness = left * max(-aside, zero) + right * max(aside, zero)
        z = proxy[1, n] + nearness * (proxy[0, n] - proxy[1, n])
        hull, weight = proxy[2, n], proxy[3, n]
        x, y = nodes[n, 0] - start[0], nodes[n, 1] - start[1]
        for k in range(2):
            plane = (turn[k, 0] + hull * (flat[k, 0] - turn[k, 0])) * x
            plane += (turn[k, 1] + hull * (flat[k, 1] - turn[k, 1])) * y
            moved = plane + turn[k, 2] * z + target[k]
            body = torso[k, 0] * nodes[n, 0] + torso[k, 1] * nodes[n, 1] + torso[k, 2]
            out[n, k] = weight * moved + (one - weight) * body
        out[n, 2] = weight * (turn[2, 0] * x + turn[2, 1] * y + turn[2, 2] * z)


def skin_uv(
    proxy: Float32Array, head: HeadTurn, points: Float32Array, uv: Float32Array, wanted: BoolArray
) -> Float32Array:
    """Photo pixels (V, 2) from which turned skin takes its colours.

    :param proxy: (6, N, N) of `build_depth_proxy`.
    :param points: (V, 2+) pixels of the vertices in the frame.
    :param uv: (V, 2) pixels of the vertices in the photo; they stay where not `wanted` (V,).
    """
    out = uv.copy()
    _invert(proxy, head, points, wanted, out)
    return out


@njit(cache=True, fastmath=True)
def _invert(
    proxy: Float32Array, head: HeadTurn, points: Float32Array, wanted: BoolArray, uv: Float32Array
) -> None:
    """Find the photo's pixels (V, 2) that the skin's proxy brings to `points`, in place.

    By fixed-point steps: what is missing is turned back within the image plane.
    """
    turn, flat, start, target = head
    one, most = np.float32(1), np.float32(proxy.shape[1] - 1.001)
    zoom = flat[0, 0] * flat[0, 0] + flat[1, 0] * flat[1, 0]
    step = np.float32(INVERSION_STEP) / zoom
    change = flat - turn[:2, :2]
    for n in range(len(points)):
        if not wanted[n]:
            continue
        x, y = uv[n, 0], uv[n, 1]
        for _ in range(INVERSION_ROUNDS):
            across = min(max((x + np.float32(MARGIN)) / np.float32(STEP), np.float32(0)), most)
            down = min(max((y + np.float32(MARGIN)) / np.float32(STEP), np.float32(0)), most)
            i, j = int(down), int(across)
            u, v = across - np.float32(j), down - np.float32(i)
            wa, wb, wc, wd = (one - u) * (one - v), u * (one - v), (one - u) * v, u * v
            z = wa * proxy[5, i, j] + wb * proxy[5, i, j + 1]
            z += wc * proxy[5, i + 1, j] + wd * proxy[5, i + 1, j + 1]
            hull = wa * proxy[2, i, j] + wb * proxy[2, i, j + 1]
            hull += wc * proxy[2, i + 1, j] + wd * proxy[2, i + 1, j + 1]
            px, py = x - start[0], y - start[1]
            missing_x = points[n, 0] - target[0] - turn[0, 2] * z
            missing_x -= (turn[0, 0] + hull * change[0, 0]) * px
            missing_x -= (turn[0, 1] + hull * change[0, 1]) * py
            missing_y = points[n, 1] - target[1] - turn[1, 2] * z
            missing_y -= (turn[1, 0] + hull * change[1, 0]) * px
            missing_y -= (turn[1, 1] + hull * change[1, 1]) * py
            x += step * (flat[0, 0] * missing_x + flat[1, 0] * missing_y)
            y += step * (flat[0, 1] * missing_x + flat[1, 1] * missing_y)
        uv[n, 0], uv[n, 1] = x, y


def sample_flow(flow: Float32Array, points: Float32Array) -> Float32Array:
    """Values (P, 2) of a flow (CELLS, CELLS, 2) at pixels (P, 2+) of the frame."""
    at = ((points[:, :2] - (CELL - 1) / 2) / CELL).astype(np.float32)
    found: Float32Array = cv.remap(
        flow, at[:, None], None, cv.INTER_LINEAR, borderMode=cv.BORDER_REPLICATE
    )
    return found[:, 0]


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
