"""Meshes drawn into new images, for the preparation of portraits."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from talkingface.renderer.arrays import Float32Array, Int32Array
from talkingface.renderer.face.model import FaceModel
from talkingface.renderer.pixels.triangles import attributes_at, draw_triangles, table_width


class MeshImage(NamedTuple):
    """What the pixels of an image show of a mesh."""

    ids: Int32Array  # (H, W) triangles, -1 where there is none
    depth: Float32Array  # (H, W), -inf where there is none
    values: Float32Array  # (H, W, C) of the vertices, interpolated; 0 where there is none


def draw_mesh(
    points: Float32Array,
    triangles: Int32Array,
    size: tuple[int, int],
    values: Float32Array | None = None,
    cull: bool = True,
) -> MeshImage:
    """Draw triangles, nearer ones in front; arguments as in `draw_triangles`.

    :param size: height and width of the image.
    :param values: (V, C) of the vertices; None: no values are interpolated.
    """
    columns = np.zeros((0, len(points)), np.float32) if values is None else values.T
    columns = np.ascontiguousarray(columns, np.float32)
    table = np.zeros((len(triangles), table_width(len(columns))), np.float32)
    ids, depth = np.empty(size, np.int32), np.empty(size, np.float32)
    corners = np.ascontiguousarray(points, np.float32)
    draw_triangles(corners, columns, np.ascontiguousarray(triangles), cull, table, ids, depth)
    planes = np.empty((len(columns), *size), np.float32)
    attributes_at(ids, table, planes)
    return MeshImage(ids, depth, np.ascontiguousarray(planes.transpose(1, 2, 0)))


def triangle_areas(points: Float32Array) -> Float32Array:
    """Signed areas (T,) of the mesh's triangles in the frame, positive when facing the viewer."""
    a, b, c = (points[FaceModel.load().triangles[:, k], :2] for k in range(3))
    u, v = b - a, c - a
    areas: Float32Array = (u[:, 1] * v[:, 0] - u[:, 0] * v[:, 1]).astype(np.float32)
    return areas
