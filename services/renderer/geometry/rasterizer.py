"""A small z-buffered triangle rasteriser: which triangle is seen at each pixel, and where in it."""

from __future__ import annotations

import numpy as np
from numba import njit

from talkingface.renderer.arrays import Float32Array, Int32Array
from talkingface.renderer.face.model import FaceModel


def rasterize_mesh(
    points: Float32Array, triangles: Int32Array, height: int, width: int, cull: bool = True
) -> tuple[Int32Array, Float32Array]:
    """Draw triangles into new buffers; arguments as in `rasterize`.

    :return: triangle ids (H, W), -1 where there is none, and weights (H, W, 2).
    """
    ids = np.full((height, width), -1, np.int32)
    weights = np.zeros((height, width, 2), np.float32)
    depth = np.full((height, width), -np.inf, np.float32)
    rasterize(np.ascontiguousarray(points, np.float32), triangles, cull, ids, weights, depth)
    return ids, weights


def interpolate_attributes(
    values: Float32Array, triangles: Int32Array, ids: Int32Array, weights: Float32Array
) -> Float32Array:
    """Vertex values (V,) or (V, C) at the pixels that are covered, 0 elsewhere."""
    flat = values.reshape(len(values), -1).astype(np.float32)
    out = np.zeros((*ids.shape, flat.shape[1]), np.float32)
    interpolate(np.ascontiguousarray(flat), triangles, ids, weights, out)
    return out[..., 0] if values.ndim == 1 else out


def triangle_areas(points: Float32Array) -> Float32Array:
    """Signed areas (T,) of the mesh's triangles in the frame, positive when facing the viewer."""
    a, b, c = (points[FaceModel.load().triangles[:, k], :2] for k in range(3))
    u, v = b - a, c - a
    areas: Float32Array = (u[:, 1] * v[:, 0] - u[:, 0] * v[:, 1]).astype(np.float32)
    return areas


@njit(cache=True, fastmath=True)
def rasterize(
    points: Float32Array,
    triangles: Int32Array,
    cull: bool,
    triangle_id: Int32Array,
    weights: Float32Array,
    depth: Float32Array,
) -> None:
    """Draw triangles into existing buffers, nearer ones in front.

    :param points: (V, 3) x right, y down, in pixels (a pixel's centre is at integer coordinates),
        and z towards the viewer.
    :param triangles: (T, 3) vertex indices, anticlockwise as seen from outside with y up.
    :param cull: leave out triangles that face away from the viewer.
    :param triangle_id: (H, W) in and out; a triangle's index where it wins.
    :param weights: (H, W, 2) out; barycentric weights of the triangle's first two corners.
    :param depth: (H, W) in and out; the larger wins. Start with -inf.
    """
    height, width = triangle_id.shape
    edge = np.float32(-1e-6)
    one = np.float32(1.0)
    for t in range(triangles.shape[0]):
        a, b, c = triangles[t, 0], triangles[t, 1], triangles[t, 2]
        ax, ay, bx, by = points[a, 0], points[a, 1], points[b, 0], points[b, 1]
        cx, cy = points[c, 0], points[c, 1]
        area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
        if area == 0.0 or (cull and area > 0.0):
            continue
        left = max(int(np.ceil(min(ax, bx, cx))), 0)
        right = min(int(np.floor(max(ax, bx, cx))), width - 1)
        top = max(int(np.ceil(min(ay, by, cy))), 0)
        bottom = min(int(np.floor(max(ay, by, cy))), height - 1)
        if left > right or top > bottom:
            continue
        scale = one / area
        # The weights are linear: a step to the right adds the same everywhere.
        right_a, right_b = (by - cy) * scale, (cy - ay) * scale
        az, bz, cz = points[a, 2], points[b, 2], points[c, 2]
        for y in range(top, bottom + 1):
            row_a = ((bx - left) * (cy - y) - (by - y) * (cx - left)) * scale
            row_b = ((cx - left) * (ay - y) - (cy - y) * (ax - left)) * scale
            for x in range(left, right + 1):
                along = np.float32(x - left)
                wa = row_a + right_a * along
                wb = row_b + right_b * along
                wc = one - wa - wb
                if wa < edge or wb < edge or wc < edge:
                    continue
                z = wa * az + wb * bz + wc * cz
                if z > depth[y, x]:
                    depth[y, x] = z
                    triangle_id[y, x] = t
                    weights[y, x, 0] = wa
                    weights[y, x, 1] = wb


@njit(cache=True, fastmath=True)
def interpolate(
    values: Float32Array,
    triangles: Int32Array,
    triangle_id: Int32Array,
    weights: Float32Array,
    out: Float32Array,
) -> None:
    """Write vertex values (V, C) at the pixels that `rasterize` covered; the others stay."""
    height, width, channels = out.shape
    for y in range(height):
        for x in range(width):
            t = triangle_id[y, x]
            if t < 0:
                continue
            a, b, c = triangles[t, 0], triangles[t, 1], triangles[t, 2]
            wa, wb = weights[y, x, 0], weights[y, x, 1]
            wc = 1.0 - wa - wb
            for k in range(channels):
                out[y, x, k] = wa * values[a, k] + wb * values[b, k] + wc * values[c, k]
