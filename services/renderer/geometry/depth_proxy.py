"""A depth proxy of the person: hair, ears, neck and shoulders as a surface that turns unbroken.

Every node of a grid over the photo has a depth: the fitted head's where the photo looks straight at
it, and from there sloping evenly down to the person's outline, hair included. Turned away, the side
of the head is thus stretched by a limited factor everywhere, instead of without limit at the
outline, and face, temple and hair move as one. `rear_flow` warps the photo by it.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np

from talkingface.renderer.arrays import BoolArray, Float32Array
from talkingface.renderer.compiler import njit
from talkingface.renderer.face.camera import Camera
from talkingface.renderer.face.model import FaceModel
from talkingface.renderer.face.pyramid_fill import fill_outside
from talkingface.renderer.geometry.diffusion import smooth
from talkingface.renderer.geometry.frame import FLIP_3D, FRAME
from talkingface.renderer.geometry.rasterizer import draw_mesh
from talkingface.renderer.geometry.surface import smoothstep, vertex_normals
from talkingface.renderer.geometry.topology import SKIN, topology
from talkingface.renderer.opencv import cv
from talkingface.renderer.pixels.layers import MARGIN

STEP = 8  # pixels between the nodes of the grid
NODES = (FRAME + 2 * MARGIN) // STEP + 1  # along a side

# All by eye. Cosines are those of a normal towards the camera; heights and widths are counted from
# the head's turning point, in face widths.
FACING = 0.64  # cosine down to which the head's own depth is used
OUTLINE_COSINE = 0.3  # ... below which a point of the head counts as its outline
OUTLINE_ASIDE = 0.7  # x of a normal from which the face's hard edge is part of the outline, too
PERSON = 0.3  # opacity below which a node lies outside the person
NEAR_SLOPE, FAR_SLOPE = 3.0, 2.0  # depth a pixel: of a side turned to the viewer, and away
CHEEK_HEIGHTS = (-0.12, -0.28)  # y of the mean head over which cheeks get an edge of their own
NECK_HEIGHT = -0.2  # y of the mean head below which what is no face is neck
# Share of its narrowing by turning that an outline is spared, for the head is deeper than wide.
HULL = 0.8
SIDES = (0.12, 0.3)  # widths over which a side becomes left or right
SHOULDERS = (-1.35, -0.55)  # heights between which hair goes over to the shoulders' motion
HAIR_REACH = 0.35  # face widths beside the head at which its motion has fallen to 1/e
SPREADING = 0.12  # face widths: standard deviation by which the outline's depth is spread
RELAXATIONS, OVER_RELAXATION = 150, 1.6  # rounds and factor that solve the membrane

AXIS_DEPTH = 0.2  # face widths: the head's upright axis before the turning point
SIDE_ANGLE = (26.0, 38.0)  # degrees from the camera over which colours come by the proxy
SIDE_COSINE = (0.86, 0.70)  # ... and cosines over which they do
BEYOND_OUTLINE = (50.0, 65.0)  # degrees beyond which all counts as turned, also ears and folds
RIM_ANGLE = (0.6, 0.9)  # radians about the axis over which the cheeks' backs begin
RIM_HEIGHT = (-0.38, -0.44)  # y of the mean head over which the jaw's underside begins
RIM_COSINE = (0.12, -0.08)  # over which a rim becomes invisible


class _Grid(NamedTuple):
    """The face mesh at the nodes of the grid, each (N, N), and what is outside the person."""

    covered: BoolArray
    depth: Float32Array  # pixels before the turning point
    facing: Float32Array  # cosine towards the camera
    head_weight: Float32Array
    edge: Float32Array  # 1 where the face has a hard edge
    height: Float32Array  # y of the mean head
    outer_skin: BoolArray  # not the inside of mouth or nostrils
    outside: BoolArray


def build_depth_proxy(source: Float32Array, camera: Camera, matte: Float32Array) -> Float32Array:
    """Build the depth proxy (6, N, N) of a portrait. For each node of the grid:

    0: depth in pixels before the turning point, where the side turns towards the viewer
    1: the same where it turns away: without the cheeks, which have an edge of their own there
    2: 1 at the outline, where new hair comes forward as old goes back
    3: 1 = goes with the head, 0 = with the shoulders
    4: -1 left, 1 right of the head's middle
    5: depth of the face's skin alone, where neck and hair count as beyond its outline

    :param source: (V, 3) mesh as photographed, pixels and depth.
    :param matte: (512, 512) opacity of the person.
    """
    grid = _sample_mesh(source, matte)
    scale = float(camera.scale[0])
    outline_depth = _outline_depth(source, scale)
    outside = grid.outside
    inner = grid.outer_skin & (grid.facing > FACING) & ~outside
    cheeks = smoothstep(*CHEEK_HEIGHTS, grid.height)
    near = _membrane(
        [grid.depth, 0 * grid.depth],
        [outline_depth, 1 + 0 * grid.depth],
        inner & (grid.edge * cheeks < 0.5),
        outside,
    )
    far = _membrane([grid.depth], [outline_depth], inner & (grid.edge < 0.5), outside)
    near[0] = _limited(near[0], outline_depth, outside, NEAR_SLOPE * STEP)
    far[0] = _limited(far[0], outline_depth, outside, FAR_SLOPE * STEP)
    neck = grid.covered & (grid.height < NECK_HEIGHT) & (grid.edge < 0.5)
    skin = _membrane([grid.depth], [outline_depth], inner & ~neck, outside | neck)[0]
    skin = _limited(skin, outline_depth, outside | neck, NEAR_SLOPE * STEP)
    height, side = _head_coordinates(camera)
    weight = _head_weight(grid, height, scale)
    out = np.stack([near[0], far[0], HULL * near[1], weight, side, skin])
    return np.stack([cv.GaussianBlur(v.astype(np.float32), (0, 0), 0.8) for v in out])


def _sample_mesh(source: Float32Array, matte: Float32Array) -> _Grid:
    """Draw mesh (V, 3) and matte (512, 512) on the grid."""
    model, shape = FaceModel.load(), topology()
    normals = vertex_normals(source * FLIP_3D)
    local = source.copy()
    local[:, :2] = (local[:, :2] + MARGIN) / STEP
    edge = shape.front * shape.hard_edge
    columns = [source[:, 2], normals[:, 2], model.head_weight, edge, model.mean[:, 1]]
    ids, _, values = draw_mesh(local, shape.head, (NODES, NODES), np.stack(columns, 1))
    depth, facing, head_weight, edge, height = (values[..., k] for k in range(5))
    wide = cv.copyMakeBorder(matte, *(MARGIN,) * 4, cv.BORDER_REPLICATE)
    wide = cv.copyMakeBorder(wide, 0, STEP, 0, STEP, cv.BORDER_REPLICATE)
    person: Float32Array = cv.resize(wide, (NODES, NODES), interpolation=cv.INTER_AREA)
    outer_skin = np.where(ids >= 0, _skin_triangles()[ids], False)
    return _Grid(ids >= 0, depth, facing, head_weight, edge, height, outer_skin, person < PERSON)


@lru_cache(maxsize=1)
def _skin_triangles() -> BoolArray:
    """Which of the whole head's triangles are skin, not the inside of mouth or nostrils."""
    skin: BoolArray = (FaceModel.load().part[topology().head] == SKIN).all(1)
    return skin


def _outline_depth(source: Float32Array, scale: float) -> Float32Array:
    """Depth (N, N) of the head's outline, spread from where the mesh (V, 3) has it."""
    model, shape = FaceModel.load(), topology()
    normals = vertex_normals(source * FLIP_3D)
    outline = (np.abs(normals[:, 2]) < OUTLINE_COSINE) & (model.head_weight > 0.9)
    outline &= model.part == SKIN
    soft = (shape.front < 0.5) | (shape.hard_edge < 0.5)
    outline &= soft | (np.abs(normals[:, 0]) > OUTLINE_ASIDE)
    nodes = (source[outline, :2] + MARGIN) / STEP
    return _spread(nodes, source[outline, 2], scale)


def _spread(nodes: Float32Array, values: Float32Array, scale: float) -> Float32Array:
    """Values (P,) at places (P, 2) of the grid spread smoothly over all of it, (N, N)."""
    total = np.zeros((NODES, NODES), np.float32)
    count = np.zeros((NODES, NODES), np.float32)
    x, y = nodes.round().astype(int).clip(0, NODES - 1).T
    np.add.at(total, (y, x), values)
    np.add.at(count, (y, x), 1)
    sigma = SPREADING * scale / STEP
    total, count = (cv.GaussianBlur(v, (0, 0), sigma) for v in (total, count))
    known = np.clip(count / 0.02, 0, 1)
    return fill_outside((total / np.maximum(count, 1e-6))[..., None], known)[..., 0]


def _head_coordinates(camera: Camera) -> tuple[Float32Array, Float32Array]:
    """Height of the nodes in face widths, and -1 left to 1 right of the middle, (N, N) each."""
    scale = float(camera.scale[0])
    xs, ys = np.meshgrid(*[np.arange(NODES, dtype=np.float32) * STEP - MARGIN] * 2)
    roll = np.deg2rad(camera.angles[0, 2])
    dx, dy = xs - camera.translation[0, 0], ys - camera.translation[0, 1]
    height = (np.sin(roll) * dx - np.cos(roll) * dy) / scale
    across = (np.cos(roll) * dx + np.sin(roll) * dy) / scale
    return height, np.sign(across) * smoothstep(*SIDES, np.abs(across))


def _head_weight(grid: _Grid, height: Float32Array, scale: float) -> Float32Array:
    """How far each node goes with the head, not with the shoulders, (N, N)."""
    by_height = smoothstep(*SHOULDERS, height)
    rest = np.where(grid.covered, grid.head_weight - by_height, 0)[..., None].astype(np.float32)
    known = (grid.covered & (grid.edge < 0.5)).astype(np.float32)
    filled = fill_outside(rest, known)[..., 0]
    away = cv.distanceTransform((~grid.covered).astype(np.uint8), cv.DIST_L2, 3)
    weight: Float32Array = np.clip(
        by_height + filled * np.exp(-away * STEP / (HAIR_REACH * scale)), 0, 1
    )
    return weight


def _membrane(
    inner_values: list[Float32Array],
    outer_values: list[Float32Array],
    inner: BoolArray,
    outer: BoolArray,
) -> Float32Array:
    """Span a membrane between known values, (C, N, N): the solution of Laplace's equation.

    :param inner: (N, N) where the C arrays `inner_values` (N, N) hold.
    :param outer: (N, N) where `outer_values` hold.
    """
    start = np.stack(
        [np.where(inner, i, o) for i, o in zip(inner_values, outer_values, strict=True)], -1
    ).astype(np.float32)
    fixed = inner | outer
    film = np.ascontiguousarray(fill_outside(start, fixed.astype(np.float32)))
    _relax(film, fixed, RELAXATIONS)
    return np.moveaxis(film, -1, 0)


@njit(cache=True, fastmath=True)
def _relax(film: Float32Array, fixed: BoolArray, rounds: int) -> None:
    """Gauss-Seidel with over-relaxation, in place."""
    height, width, channels = film.shape
    for _ in range(rounds):
        for y in range(height):
            for x in range(width):
                if fixed[y, x]:
                    continue
                for k in range(channels):
                    total = film[max(y - 1, 0), x, k] + film[min(y + 1, height - 1), x, k]
                    total += film[y, max(x - 1, 0), k] + film[y, min(x + 1, width - 1), k]
                    film[y, x, k] += OVER_RELAXATION * (total / 4 - film[y, x, k])


def _limited(
    depth: Float32Array, outline: Float32Array, outside: BoolArray, slope: float
) -> Float32Array:
    """Lower a depth (N, N) where it rises by more than `slope` a node from the outline inwards."""
    out = np.where(outside, np.minimum(depth, outline), depth).astype(np.float32)
    _limit_slope(out, slope)
    return out


@njit(cache=True, fastmath=True)
def _limit_slope(values: Float32Array, slope: float) -> None:
    """Lower values (H, W) to the largest function below them that nowhere rises faster, in place.

    :param slope: rise between neighbours, 1.414 times as much along a diagonal.
    """
    height, width = values.shape
    for _ in range(3):
        for y in range(height):
            for x in range(width):
                v = values[y, x]
                if x > 0:
                    v = min(v, values[y, x - 1] + slope)
                if y > 0:
                    v = min(v, values[y - 1, x] + slope)
                    if x > 0:
                        v = min(v, values[y - 1, x - 1] + slope * 1.414)
                    if x < width - 1:
                        v = min(v, values[y - 1, x + 1] + slope * 1.414)
                values[y, x] = v
        for y in range(height - 1, -1, -1):
            for x in range(width - 1, -1, -1):
                v = values[y, x]
                if x < width - 1:
                    v = min(v, values[y, x + 1] + slope)
                if y < height - 1:
                    v = min(v, values[y + 1, x] + slope)
                    if x < width - 1:
                        v = min(v, values[y + 1, x + 1] + slope * 1.414)
                    if x > 0:
                        v = min(v, values[y + 1, x - 1] + slope * 1.414)
                values[y, x] = v


def side_weights(vertices: Float32Array, camera: Camera) -> Float32Array:
    """How little the photo shows of the vertices on the head's sides, (2, V), 0..1.

    By the angle about the head's upright axis, from the camera's direction, which leaves out nose
    and lips, and by how the skin there looks towards the camera. The sides are the viewer's left
    and right.

    :param vertices: (V, 3) as photographed, unposed.
    """
    shape = topology()
    facing = np.rad2deg(np.arctan2(camera.rotation[0, 2, 0], camera.rotation[0, 2, 2]))
    angle = np.rad2deg(np.arctan2(vertices[:, 0], vertices[:, 2] - AXIS_DEPTH)) - facing
    angle = (angle + 180) % 360 - 180
    towards = (vertex_normals(vertices) @ camera.rotation[0].T)[:, 2:]
    slant = smoothstep(*SIDE_COSINE, smooth(towards, 10)[:, 0]) * (1 - shape.lip)
    return np.stack(
        [
            smoothstep(*SIDE_ANGLE, sign * angle)
            * np.maximum(slant, smoothstep(*BEYOND_OUTLINE, sign * angle))
            for sign in (-1.0, 1.0)
        ]
    )


def edge_visibility(source: Float32Array) -> Float32Array:
    """0 where the jaw's underside and the cheeks' backs look away in the photo, else 1, (V,).

    :param source: (V, 3) mesh as photographed, pixels and depth.
    """
    model = FaceModel.load()
    facing = vertex_normals(source * FLIP_3D)[:, 2]
    angle = np.arctan2(np.abs(model.mean[:, 0]), model.mean[:, 2] - AXIS_DEPTH)
    rim = smoothstep(*RIM_ANGLE, angle)
    rim = np.maximum(rim, smoothstep(*RIM_HEIGHT, model.mean[:, 1])) * (model.part == SKIN)
    visible: Float32Array = (1 - rim * smoothstep(*RIM_COSINE, facing)).astype(np.float32)
    return visible
