"""Parts of the face mesh in a region of the frame at twice its resolution."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from talkingface.renderer.arrays import Float32Array, Int32Array, Int64Array
from talkingface.renderer.compiler import njit
from talkingface.renderer.face.model import FaceModel
from talkingface.renderer.geometry.canvas import Canvas
from talkingface.renderer.geometry.frame import bounding_box
from talkingface.renderer.pixels.drawing import Drawing, place_vertices
from talkingface.renderer.pixels.triangles import table_width


@dataclass(frozen=True)
class Region:
    """A box of the frame, pixels."""

    left: int
    top: int
    right: int
    bottom: int

    @classmethod
    def around(cls, points: Float32Array, margin: float, side: int) -> Region:
        """The box of points (N, 2+) with a margin in pixels, in a frame of `side` pixels."""
        return cls(*bounding_box(points, margin, side))

    @property
    def size(self) -> tuple[int, int]:
        """Rows and columns at twice the resolution."""
        return 2 * (self.bottom - self.top), 2 * (self.right - self.left)

    def local(self, points: Float32Array) -> Float32Array:
        """Points (N, 2) of the frame in pixels of the region."""
        corner = np.array([self.left - 0.25, self.top - 0.25], np.float32)
        local: Float32Array = (points - corner) * np.float32(2)
        return local


class Part(NamedTuple):
    """Some triangles of the face mesh and their vertices."""

    vertices: Int64Array  # (N,) of the face mesh
    triangles: Int32Array  # (T, 3) into `vertices`


def part_of(triangles: Int32Array) -> Part:
    """The part of the face mesh with these triangles (T, 3)."""
    index, corners = np.unique(triangles, return_inverse=True)
    return Part(index.astype(np.int64), corners.reshape(-1, 3).astype(np.int32))


def begin_drawing(
    canvas: Canvas,
    region: Region,
    part: Part,
    points: Float32Array,
    values: Float32Array,
    triangles: Int32Array | None = None,
) -> Drawing:
    """Find which of a part's triangles each pixel of a region shows.

    :param points: (V, 3) of the whole mesh, in pixels of the frame.
    :param values: (A, N) attributes of the part's vertices.
    :param triangles: (T, 3) some of the part's; None: all.
    :return: the drawing; only `ids` and `table` are written, for the triangles that are seen.
    """
    rows, columns = region.size
    table = canvas.table(len(part.triangles), table_width(len(values)))
    drawing = canvas.drawing(rows, columns, table)
    local = np.empty((len(part.vertices), 3), np.float32)
    place_vertices(points, part.vertices, region.left, region.top, local)
    chosen = canvas.resident(part.triangles) if triangles is None else canvas.upload(triangles)
    canvas.kernels.draw_triangles(
        canvas.upload(local),
        canvas.upload(values),
        chosen,
        True,
        drawing.table,
        drawing.ids,
        drawing.weights,
    )
    return drawing


def landmarks_of(values: Float32Array, indices: Sequence[int]) -> Float32Array:
    """Some of the skin's landmarks (N, C) of any vertex values (V, C)."""
    model = FaceModel.load()
    out = np.empty((len(indices), values.shape[1]), np.float32)
    _interpolate(values, np.asarray(indices), model.landmark_corners, model.landmark_weights, out)
    return out


@njit(cache=True)
def _interpolate(
    values: Float32Array,
    indices: Int64Array,
    corners: Int32Array,
    weights: Float32Array,
    out: Float32Array,
) -> None:
    """Write the landmarks of `indices` (N,); `corners` and `weights` as in `FaceModel`."""
    for n in range(len(indices)):
        i = indices[n]
        for k in range(values.shape[1]):
            total = np.float32(0)
            for c in range(3):
                total += weights[i, c] * values[corners[i, c], k]
            out[n, k] = total
