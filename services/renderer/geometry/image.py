"""Pixels and meshes: looking up, resizing, blurring, rasterising, with OpenCV's stubs kept out."""

from __future__ import annotations

import numpy as np
from numba import njit

from talkingface.renderer.arrays import Float32Array, Int32Array
from talkingface.renderer.face.model import PARTS, FaceModel
from talkingface.renderer.geometry.rasterizer import interpolate, rasterize
from talkingface.renderer.geometry.surface import smoothstep

FRAME = 512
FLIP = np.array([1, -1], np.float32)
SKIN = PARTS.index("skin")


def affine(matrix: Float32Array, points: Float32Array) -> Float32Array:
    return points @ matrix[:, :2].T + matrix[:, 2]


def raster(
    points: Float32Array, triangles: Int32Array, height: int, width: int, cull: bool = True
) -> tuple[Int32Array, Float32Array]:
    """Triangle ids (H, W), -1 where none, and weights (H, W, 2)."""
    ids = np.full((height, width), -1, np.int32)
    weights = np.zeros((height, width, 2), np.float32)
    depth = np.full((height, width), -np.inf, np.float32)
    rasterize(np.ascontiguousarray(points, np.float32), triangles, cull, ids, weights, depth)
    return ids, weights


def carry(
    values: Float32Array, triangles: Int32Array, ids: Int32Array, weights: Float32Array
) -> Float32Array:
    """Vertex values (V,) or (V, C) at the covered pixels, 0 elsewhere."""
    flat = values.reshape(len(values), -1).astype(np.float32)
    out = np.zeros((*ids.shape, flat.shape[1]), np.float32)
    interpolate(np.ascontiguousarray(flat), triangles, ids, weights, out)
    return out[..., 0] if values.ndim == 1 else out


def triangle_areas(points: Float32Array) -> Float32Array:
    """Signed areas (T,) of the mesh's triangles in the picture, positive when facing the viewer."""
    a, b, c = (points[FaceModel.load().triangles[:, k], :2] for k in range(3))
    u, v = b - a, c - a
    return (u[:, 1] * v[:, 0] - u[:, 0] * v[:, 1]).astype(np.float32)


def box(points: Float32Array, margin: float) -> tuple[int, int, int, int]:
    """left, top, right, bottom of points (N, 2+) with a margin, inside the frame."""
    limits = _bounds(points)
    low = np.clip(np.floor(limits[:2] - margin), 0, FRAME - 1).astype(int)
    high = np.clip(np.ceil(limits[2:] + margin) + 1, 1, FRAME).astype(int)
    high = np.maximum(high, low + 1)
    return int(low[0]), int(low[1]), int(high[0]), int(high[1])


@njit(cache=True)
def _bounds(points: Float32Array) -> Float32Array:
    out = np.array([np.inf, np.inf, -np.inf, -np.inf], np.float32)
    for n in range(len(points)):
        x, y = points[n, 0], points[n, 1]
        out[0], out[1] = min(out[0], x), min(out[1], y)
        out[2], out[3] = max(out[2], x), max(out[3], y)
    return out


def ramp(limits: tuple[float, float], value: float) -> float:
    return float(smoothstep(*limits, np.array([value], np.float32))[0])
