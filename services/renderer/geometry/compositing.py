"""Compositing of background, rear layer and front layer."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from talkingface.renderer.arrays import BoolArray, Float32Array, Int32Array, Int64Array
from talkingface.renderer.compiler import njit
from talkingface.renderer.geometry.canvas import Canvas
from talkingface.renderer.geometry.frame import bounding_box
from talkingface.renderer.geometry.frame_plan import FramePlan
from talkingface.renderer.geometry.portrait import PreparedPortrait
from talkingface.renderer.geometry.rear_clearing import clearing
from talkingface.renderer.geometry.topology import topology
from talkingface.renderer.pixels.face import FacePixels
from talkingface.renderer.pixels.layers import TILE, TILE_ROWS
from talkingface.renderer.pixels.triangles import table_width

# All by eye.
STRETCH = (1.8, 2.2)  # growth of a triangle's area that begins to count as stretch; over how much
MIN_AREA = 1e-3  # square pixels of a triangle in the photo

# Planes of the canvas: scratch, triangles, opacity of the face's two layers, up to 6 attributes.
SCRATCH, IDS, OPACITY, OTHER_OPACITY, ATTRIBUTES = 0, 1, 2, 3, 4


@dataclass(frozen=True)
class Face:
    """The front layer, before eyes and mouth are drawn; valid until the next frame."""

    flow: tuple[Float32Array, Float32Array]  # (h, w) pixels in the photo, x and y
    box: tuple[slice, slice]  # rows and columns of the frame that it covers
    solid: BoolArray | None  # (h, w) where it is opaque; None if not traced


def compose(
    portrait: PreparedPortrait,
    plan: FramePlan,
    flow: Float32Array,
    canvas: Canvas,
    traced: bool = False,
) -> Face:
    """Compose background, rear layer and face on a canvas.

    :param flow: (128, 128, 2) where in the photo the rear layer's pixels come from.
    :param traced: whether the result is to know where the face is opaque.
    """
    left, top, right, bottom = _box(plan.points, canvas.side)
    height, width = bottom - top, right - left
    box = (slice(top, bottom), slice(left, right))
    values = [*plan.texture_uv.T, plan.opacity]
    if plan.occluded_weight is not None:
        values += [*portrait.occluded_side.uv.T, plan.occluded_weight]
    drawn, ids = _draw(plan, np.array(values, np.float32), (left, top), (height, width), canvas)
    face = _with_soft_edge(drawn[:3], ids, canvas)
    solid = face.opacity > 0.5 if traced else None
    canvas.clear()
    part = canvas.hidden[top // TILE_ROWS : bottom // TILE_ROWS, left // TILE : right // TILE]
    canvas.kernels.find_hidden(face.opacity, TILE_ROWS, TILE, part)
    sources = canvas.sources(
        portrait.layers, clearing(portrait.fit.camera, plan.cleared, plan.turned)
    )
    planes = canvas.upload(flow.transpose(2, 0, 1))
    row = canvas.plane(SCRATCH, 2, canvas.side)
    canvas.kernels.compose_rear(sources, planes, canvas.hidden, row, canvas.image)

    stretch = np.empty(len(topology().face), np.float32)
    shape = topology()
    _triangle_stretch(plan.points, shape.face, shape.face_index, portrait.triangle_area, stretch)
    canvas.kernels.write_stretch(face, canvas.upload(stretch), left, top, canvas.mask)
    photo, target = sources.photo, (left, top, canvas.image)
    if plan.occluded_weight is not None:
        other = _with_soft_edge(drawn[3:], ids, canvas, OTHER_OPACITY)
        canvas.kernels.share_opacity(face.opacity, other.opacity)
        canvas.kernels.blend_face(photo, face, *target)
        canvas.kernels.blend_texture(
            canvas.resident(portrait.occluded_side.texture), other, *target
        )
    else:
        canvas.kernels.blend_face(photo, face, *target)
    return Face((face.u, face.v), box, solid)


def _box(points: Float32Array, side: int) -> tuple[int, int, int, int]:
    """left, top, right, bottom of the front layer of a posed mesh (V, 3), in whole tiles."""
    left, top, right, bottom = bounding_box(points[topology().face_vertices], 4, side)
    return (
        left // TILE * TILE,
        top // TILE_ROWS * TILE_ROWS,
        -(-right // TILE) * TILE,
        -(-bottom // TILE_ROWS) * TILE_ROWS,
    )


def _draw(
    plan: FramePlan,
    values: Float32Array,
    corner: tuple[int, int],
    size: tuple[int, int],
    canvas: Canvas,
) -> tuple[Float32Array, Int32Array]:
    """Draw the front layer into its box.

    :param values: (A, V) attributes of the vertices.
    :param corner: left, top and `size`, height, width, of the box.
    :return: the attributes (A, h, w), and the triangles (h, w) of the pixels.
    """
    triangles = topology().face
    local = plan.points - np.array([*corner, 0], np.float32)
    table = canvas.table(len(triangles), table_width(len(values)))
    ids = canvas.plane(IDS, *size).view(np.int32)
    depth = canvas.plane(SCRATCH, *size)
    corners = canvas.resident(triangles)
    canvas.kernels.draw_triangles(
        canvas.upload(local), canvas.upload(values), corners, True, table, ids, depth
    )
    drawn = canvas.planes(ATTRIBUTES, len(values), *size)
    canvas.kernels.attributes_at(ids, table, drawn)
    return drawn, ids


def _with_soft_edge(
    drawn: Float32Array, ids: Int32Array, canvas: Canvas, plane: int = OPACITY
) -> FacePixels:
    """A layer with a soft edge.

    :param drawn: (3, h, w) where it takes its colours from, x and y, and how far it is seen.
    """
    height, width = ids.shape
    opacity = canvas.plane(plane, height, width)
    canvas.kernels.soften(drawn[2], canvas.plane(SCRATCH, height, width), opacity)
    layer = FacePixels(drawn[0], drawn[1], opacity, ids)
    canvas.kernels.continue_flow(layer)
    return layer


@njit(cache=True, fastmath=True, error_model="numpy")
def _triangle_stretch(
    points: Float32Array,
    triangles: Int32Array,
    index: Int64Array,
    area: Float32Array,
    out: Float32Array,
) -> None:
    """Write how far each front triangle is stretched, 0..1; 1 if the photo does not show it.

    :param area: (T,) of all the mesh's triangles in the photo.
    :param index: (F,) where `triangles` (F, 3) are among them.
    """
    for t in range(len(triangles)):
        before = area[index[t]]
        if before <= 0:
            out[t] = 1
            continue
        a, b, c = triangles[t, 0], triangles[t, 1], triangles[t, 2]
        now = (points[b, 1] - points[a, 1]) * (points[c, 0] - points[a, 0])
        now -= (points[b, 0] - points[a, 0]) * (points[c, 1] - points[a, 1])
        grown = now / max(before, np.float32(MIN_AREA))
        grown = (grown - np.float32(STRETCH[0])) / np.float32(STRETCH[1])
        grown = min(max(grown, np.float32(0)), np.float32(1))
        out[t] = grown * grown * (np.float32(3) - np.float32(2) * grown)
