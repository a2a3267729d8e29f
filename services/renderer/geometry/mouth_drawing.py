"""The mouth's inside with the lips over it, drawn into the hole of the face."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np

from talkingface.renderer.arrays import Float32Array, Int32Array, Int64Array
from talkingface.renderer.face.model import PARTS, FaceModel
from talkingface.renderer.geometry.canvas import Canvas
from talkingface.renderer.geometry.eyes import LUMA
from talkingface.renderer.geometry.frame_plan import FramePlan
from talkingface.renderer.geometry.mouth import mouth_coordinates
from talkingface.renderer.geometry.portrait import PreparedPortrait
from talkingface.renderer.geometry.supersampling import (
    Part,
    Region,
    begin_drawing,
    landmarks_of,
    part_of,
)
from talkingface.renderer.geometry.surface import smoothstep_of
from talkingface.renderer.geometry.topology import INNER_LOWER, INNER_UPPER, SKIN, topology
from talkingface.renderer.pixels.mouth import (
    ATTRIBUTES,
    KIND_OF_PART,
    OUTSIDE,
    WALL,
    Lips,
    Mouth,
    Palette,
    light_between,
)
from talkingface.renderer.pixels.mouth_finding import choose_triangles, write_vertices

# All by eye.
SEAM = np.array([0.35, 0.5, 0.5], np.float32)  # darkness of the line between lips, RGB
SEAM_WIDTH, SEAM_SOFT, SEAM_OPACITY = 0.02, 0.01, 0.97  # face widths: width, softness; opacity
SEAM_PHOTO = (0.01, 0.04)  # face widths between the photo's lips over which a seam has to be drawn
SEAM_NOW = (0.035, 0.012)  # ... between the lips now, over which the line turns into an opening
LIP_MARGIN = 0.012  # face widths around the inner lips where the inside may show
LIP_MARGIN_PIXELS = 2  # of the region, at least
REGION_LIP, REGION_MARGIN = 0.3, 5  # weight of a lip that is drawn; pixels around these
LIPS_LEAN = 0.05  # face widths by which the plane of the lips lies before their inner edges
NOSE_ASIDE, NOSE_BOTTOM, NOSE_TOP, NOSE_DEPTH = 0.2, -0.08, 0.1, 0.5  # x, y, z of the mean head


class _Mesh(NamedTuple):
    """The triangles around and inside the mouth."""

    part: Part
    kinds: Int32Array  # (T,) what they are drawn as, see `Mouth.kinds`
    lips: Int64Array  # vertices of the face mesh that the region is around
    constant: Float32Array  # (3, N) along the arch, above the edge, weight of the lips


def draw_mouth(
    portrait: PreparedPortrait, plan: FramePlan, canvas: Canvas, draw_always: bool
) -> None:
    """Draw the mouth's inside with the lips over it into the frame on a canvas.

    :param draw_always: do not use what the photo shows between the lips.
    """
    mesh = _mouth_mesh()
    region = Region.around(plan.points[mesh.lips], REGION_MARGIN, canvas.side)
    lips = landmarks_of(plan.points[:, :2], _INNER_LIPS)
    reach = max(LIP_MARGIN * 2 * float(portrait.fit.camera.scale[0]), LIP_MARGIN_PIXELS)
    triangles, kinds, box = _seen_triangles(plan, lips, reach / 2)
    values = _attributes(portrait, plan)
    drawing = begin_drawing(canvas, region, mesh.part, plan.points, values, triangles)
    seam = _seam_shown(portrait, plan)
    outline, unit = region.local(lips), 2 * float(portrait.fit.camera.scale[0])
    edges = Lips(
        canvas.upload(outline),
        np.float32(reach),
        canvas.upload(region.local(box.reshape(2, 2)).ravel()),
        canvas.upload(_seam_strokes(outline, unit / 2) if seam > 0 else _NO_STROKES),
        np.float32(SEAM_SOFT * unit / 2),
    )
    scene = _scene(portrait, plan, canvas, region, kinds, seam, draw_always)
    canvas.kernels.draw_mouth(
        scene, drawing, edges, region.left, region.top, canvas.image, canvas.mask
    )


def _seen_triangles(
    plan: FramePlan, lips: Float32Array, reach: float
) -> tuple[Int32Array, Int32Array, Float32Array]:
    """The triangles to draw, without those of the inside that the lips hide.

    :param lips: (22, 2) pixels of the frame around their opening, and `reach`, pixels around it
        where the inside may show.
    :return: triangles (T, 3), their kinds (T,), and the box (4,) around those of the inside.
    """
    mesh = _mouth_mesh()
    triangles, kinds = np.empty_like(mesh.part.triangles), np.empty_like(mesh.kinds)
    box = np.concatenate([lips.min(0) - np.float32(reach), lips.max(0) + np.float32(reach)])
    count = choose_triangles(
        plan.points, mesh.part.vertices, mesh.part.triangles, mesh.kinds, box, triangles, kinds
    )
    return triangles[:count], kinds[:count], box


def _scene(
    portrait: PreparedPortrait,
    plan: FramePlan,
    canvas: Canvas,
    region: Region,
    kinds: Int32Array,
    seam: float,
    draw_always: bool,
) -> Mouth:
    """What the pixels of a mouth are made of, as the canvas's kernels take it.

    :param kinds: (T,) as in `Mouth`.
    :param seam: of `_seam_shown`.
    """
    opening_then = np.float32(_lip_gap(portrait.photographed))
    return Mouth(
        canvas.resident(portrait.layers.photo),
        canvas.resident(portrait.mouth_mask),
        Palette(*(canvas.resident(colour) for colour in portrait.mouth_colours)),
        canvas.upload(kinds),
        canvas.openings(region.size[1]),
        np.float32(2 * portrait.fit.camera.scale[0]),
        np.float32(portrait.mouth_colours.tooth @ LUMA),
        np.float32(light_between(opening_then)),
        np.float32(plan.face.lip_change),
        np.float32(not draw_always),
        canvas.upload(SEAM * np.float32(seam)),
    )


def _seam_shown(portrait: PreparedPortrait, plan: FramePlan) -> float:
    """How much of a line between the lips has to be drawn, 0..1.

    The photo shows one only where its own lips are shut. Lips that hardly part need it as well: an
    opening of less than a pixel would be drawn as crumbs of what lies behind it.
    """
    photographed = float(np.float32(_lip_gap(portrait.photographed)))
    shown = max(smoothstep_of(SEAM_PHOTO, photographed), plan.face.lip_change)
    return shown * smoothstep_of(SEAM_NOW, _lip_gap(plan.face.vertices))


def _attributes(portrait: PreparedPortrait, plan: FramePlan) -> Float32Array:
    """What the mouth's pixels need of its vertices, (ATTRIBUTES, N)."""
    mesh, vertices = _mouth_mesh(), plan.face.vertices
    index = mesh.part.vertices
    upper, lower = _lip_middle(vertices)
    out = np.empty((ATTRIBUTES, len(index)), np.float32)
    lips = np.array([*lower[1:], *(upper - lower)[1:], LIPS_LEAN], np.float32)
    write_vertices(
        index, plan.uv, mesh.constant, portrait.inner_lip, vertices, plan.normals, lips, out
    )
    return out


def _seam_strokes(outline: Float32Array, unit: float) -> Float32Array:
    """The strokes (N, 6) of the line between the lips, as wide as these stand apart, and wider.

    :param outline: (22, 2) around their opening, in pixels of the region.
    :param unit: pixels of the frame a face width.
    """
    half = len(INNER_UPPER)
    line = (outline[:half] + outline[: half - 1 : -1]) / 4 - 0.25
    strokes = np.empty((half - 1, 6), np.float32)
    strokes[:, :2], strokes[:, 2:4] = line[:-1], line[1:]
    gap = np.maximum(outline[: half - 1 : -1, 1] - outline[:half, 1], 0) / 2
    strokes[:, 4] = SEAM_WIDTH * unit + (gap[:-1] + gap[1:]) / 2
    strokes[:, 5] = SEAM_OPACITY
    return strokes


def _lip_middle(vertices: Float32Array) -> Float32Array:
    """The middle of the lips' inner edges, upper and lower (2, 3)."""
    return landmarks_of(vertices, [13, 14])


def _lip_gap(vertices: Float32Array) -> float:
    """Height of the lips' opening in the middle, face widths."""
    upper, lower = _lip_middle(vertices)
    return float(upper[1] - lower[1])


@lru_cache(maxsize=1)
def _mouth_mesh() -> _Mesh:
    model = FaceModel.load()
    triangles = _mouth_triangles()
    kinds = np.full(len(PARTS), WALL, np.int32)
    kinds[SKIN] = OUTSIDE
    for name, kind in KIND_OF_PART.items():
        kinds[PARTS.index(name)] = kind
    part = part_of(triangles)
    constant = np.concatenate([mouth_coordinates(model).T, topology().lip[None]])[:, part.vertices]
    lips = np.flatnonzero(topology().lip > REGION_LIP)
    of_triangles = kinds[model.part[triangles].max(1)]
    return _Mesh(part, of_triangles, lips, np.ascontiguousarray(constant))


@lru_cache(maxsize=1)
def _mouth_triangles() -> Int32Array:
    """Triangles around and inside the mouth, and the nose, which may hang over it."""
    model, shape = FaceModel.load(), topology()
    centre = model.mean[model.triangles].mean(1)
    nose = (np.abs(centre[:, 0]) < NOSE_ASIDE) & (centre[:, 2] > NOSE_DEPTH)
    nose &= (centre[:, 1] >= NOSE_BOTTOM) & (centre[:, 1] < NOSE_TOP)
    nose &= shape.triangle_part == SKIN
    return np.concatenate([shape.mouth, model.triangles[nose]])


_NO_STROKES = np.empty((0, 6), np.float32)
_INNER_LIPS = (*INNER_UPPER, *INNER_LOWER[::-1])  # around their opening
