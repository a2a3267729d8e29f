"""Values on the face mesh: normals, landmarks, smooth steps."""

from __future__ import annotations

import numpy as np

from talkingface.renderer.arrays import Float32Array, Uint32Array
from talkingface.renderer.compiler import njit
from talkingface.renderer.face.model import FaceModel


def smoothstep(low: float, high: float, x: Float32Array) -> Float32Array:
    """Hermite step from 0 at `low` to 1 at `high`; `low` may be the larger."""
    t = np.clip((x - low) / (high - low), 0, 1)
    return (t * t * (3 - 2 * t)).astype(np.float32)


def smoothstep_of(limits: tuple[float, float], value: float) -> float:
    """`smoothstep` of a single number."""
    t = min(max((value - limits[0]) / (limits[1] - limits[0]), 0.0), 1.0)
    return t * t * (3 - 2 * t)


def mean_landmarks(vertices: Float32Array) -> Float32Array:
    """Interpolate any vertex values (V, ...) at the skin's landmarks, (468, ...)."""
    model = FaceModel.load()
    marks: Float32Array = np.einsum(
        "lk,lk...->l...", model.landmark_weights, vertices[model.landmark_corners]
    )
    return marks


def vertex_normals(vertices: Float32Array) -> Float32Array:
    """Unit normals (V, 3) of the mesh, outwards."""
    normals = np.zeros_like(vertices)
    # Unsigned, for indices that may be negative cost a check each.
    _sum_normals(vertices, FaceModel.load().triangles.view(np.uint32), normals)
    _normalise(normals)
    return normals


@njit(cache=True, fastmath=True, error_model="numpy")
def _sum_normals(vertices: Float32Array, triangles: Uint32Array, out: Float32Array) -> None:
    """Add the normals of the triangles, as long as twice their areas, to their vertices."""
    for t in range(len(triangles)):
        a, b, c = triangles[t, 0], triangles[t, 1], triangles[t, 2]
        ax, ay, az = vertices[a, 0], vertices[a, 1], vertices[a, 2]
        ux, uy, uz = vertices[b, 0] - ax, vertices[b, 1] - ay, vertices[b, 2] - az
        vx, vy, vz = vertices[c, 0] - ax, vertices[c, 1] - ay, vertices[c, 2] - az
        x, y, z = uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx
        for v in (a, b, c):
            out[v, 0] += x
            out[v, 1] += y
            out[v, 2] += z


@njit(cache=True, fastmath=True, error_model="numpy")
def _normalise(vectors: Float32Array) -> None:
    """Give vectors (N, 3) the length 1, in place; those without a length stay."""
    for n in range(len(vectors)):
        x, y, z = vectors[n, 0], vectors[n, 1], vectors[n, 2]
        scale = np.float32(1) / (np.sqrt(x * x + y * y + z * z) + np.float32(1e-12))
        for k in range(3):
            vectors[n, k] *= scale
