"""The person as a relief: hair, ears, neck and shoulders as a surface that turns without tearing.

Every node of a grid over the photo has a depth: the fitted head's where the photo looks straight at
it, and from there sloping evenly down to the person's outline, hair included. Turned away, the side
of the head is thus stretched by a limited factor everywhere, instead of without limit at the
outline, and face, temple and hair move as one.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numba import njit

from talkingface.renderer.arrays import BoolArray, Float32Array, Int32Array
from talkingface.renderer.face.camera import Camera
from talkingface.renderer.face.model import FaceModel
from talkingface.renderer.face.pyramid_fill import fill_outside
from talkingface.renderer.geometry.diffusion import smooth
from talkingface.renderer.geometry.frame import FRAME
from talkingface.renderer.geometry.rasterizer import interpolate_attributes, rasterize_mesh
from talkingface.renderer.geometry.rear_layer import MARGIN
from talkingface.renderer.geometry.surface import smoothstep, vertex_normals
from talkingface.renderer.geometry.topology import SKIN, topology
from talkingface.renderer.opencv import cv

STEP = 8  # pixels between the relief's nodes
NODES = (FRAME + 2 * MARGIN) // STEP + 1
THINNED = 2  # of which every second draws the field of motion
FIELD = 128  # cells of the field of motion along a side
CELL = FRAME // FIELD
FACING = 0.64  # cosine towards the camera down to which the head's own depth is taken
LIMB = 0.3  # the same below which a head's point counts as its outline
NEAR_SLOPE, FAR_SLOPE = 3.0, 2.0  # depth a pixel aside: of a side turned to the viewer, and away
# Share of its narrowing by turning that an outline is spared, for the head is deeper than wide.
HULL = 0.8
SIDES = (0.12, 0.3)  # face widths from the middle over which a side becomes left or right
AXIS_DEPTH = 0.2  # face widths: the head's upright axis before the turning point
TURNED = (26.0, 38.0)  # degrees from the camera over which colours come by the relief
SLANT = (0.86, 0.70)  # cosines towards the camera over which they do
SHOULDERS = (-1.35, -0.55)  # heights between which hair goes over to the shoulders' motion


def build_relief(source: Float32Array, camera: Camera, matte: Float32Array) -> Float32Array:
    """The relief (6, NODES, NODES) of a portrait. For each node of the grid:

    0: depth in pixels before the turning point, where the side turns towards the viewer
    1: the same where it turns away: without the cheeks, which have an edge of their own there
    2: 1 at the outline, where new hair comes forward as old goes back
    3: 1 = goes with the head, 0 = with the shoulders
    4: -1 left, 1 right of the head's middle
    5: depth of the face's skin alone, where neck and hair count as beyond its outline

    :param source: (V, 3) mesh as photographed, pixels and depth; matte (512, 512).
    """
    model, shape = FaceModel.load(), topology()
    scale = float(camera.scale[0])
    normals = vertex_normals(source * np.array([1, -1, 1], np.float32))
    local = source.copy()
    local[:, :2] = (local[:, :2] + MARGIN) / STEP
    ids, weights = rasterize_mesh(local, shape.head, NODES, NODES)
    values = np.stack(
        [
            source[:, 2],
            normals[:, 2],
            model.head_weight,
            shape.front * shape.hard_edge,
            model.mean[:, 1],
        ],
        1,
    )
    carried = interpolate_attributes(values, shape.head, ids, weights)
    covered = ids >= 0
    depth, facing, follow, edged = (carried[..., k] for k in range(4))

    wide = cv.copyMakeBorder(matte, *(MARGIN,) * 4, cv.BORDER_REPLICATE)
    wide = cv.copyMakeBorder(wide, 0, STEP, 0, STEP, cv.BORDER_REPLICATE)
    person = cv.resize(wide, (NODES, NODES), interpolation=cv.INTER_AREA)
    outside = person < 0.3

    limb = (np.abs(normals[:, 2]) < LIMB) & (model.head_weight > 0.9) & (model.part == SKIN)
    limb &= (shape.front < 0.5) | (shape.hard_edge < 0.5) | (np.abs(normals[:, 0]) > 0.7)
    outline_depth = _spread(local[limb, :2], source[limb, 2], scale)

    xs, ys = np.meshgrid(*[np.arange(NODES, dtype=np.float32) * STEP - MARGIN] * 2)
    roll = np.deg2rad(camera.angles[0, 2])
    dx, dy = xs - camera.translation[0, 0], ys - camera.translation[0, 1]
    height = (np.sin(roll) * dx - np.cos(roll) * dy) / scale
    across = (np.cos(roll) * dx + np.sin(roll) * dy) / scale
    side = np.sign(across) * smoothstep(*SIDES, np.abs(across))

    outer_skin = np.where(ids >= 0, _skin_triangles()[ids], False)
    inner = outer_skin & (facing > FACING) & ~outside
    lower = smoothstep(-0.12, -0.28, carried[..., 4])
    near = _membrane(
        [depth, 0 * depth], [outline_depth, 1 + 0 * depth], inner & (edged * lower < 0.5), outside
    )
    far = _membrane([depth], [outline_depth], inner & (edged < 0.5), outside)
    near[0] = _limited(near[0], outline_depth, outside, NEAR_SLOPE * STEP)
    far[0] = _limited(far[0], outline_depth, outside, FAR_SLOPE * STEP)

    neck = covered & (carried[..., 4] < -0.2) & (edged < 0.5)
    skin = _membrane([depth], [outline_depth], inner & ~neck, outside | neck)[0]
    skin = _limited(skin, outline_depth, outside | neck, NEAR_SLOPE * STEP)
    base = smoothstep(*SHOULDERS, height)
    rest = np.where(covered, follow - base, 0)[..., None].astype(np.float32)
    known = (covered & (edged < 0.5)).astype(np.float32)
    filled = fill_outside(rest, known)[..., 0]
    away = cv.distanceTransform((~covered).astype(np.uint8), cv.DIST_L2, 3)
    weight = np.clip(base + filled * np.exp(-away * STEP / (0.35 * scale)), 0, 1)
    out = np.stack([near[0], far[0], HULL * near[1], weight, side, skin])
    return np.stack([cv.GaussianBlur(v.astype(np.float32), (0, 0), 0.8) for v in out])


@lru_cache(maxsize=1)
def _skin_triangles() -> BoolArray:
    """Which of the whole head's triangles are skin, not the inside of mouth or nostrils."""
    return (FaceModel.load().part[topology().head] == SKIN).all(1)


def _spread(places: Float32Array, values: Float32Array, scale: float) -> Float32Array:
    """Values (N,) at grid places (N, 2) spread smoothly over the whole grid."""
    total = np.zeros((NODES, NODES), np.float32)
    count = np.zeros((NODES, NODES), np.float32)
    x, y = places.round().astype(int).clip(0, NODES - 1).T
    np.add.at(total, (y, x), values)
    np.add.at(count, (y, x), 1)
    sigma = 0.12 * scale / STEP
    total, count = (cv.GaussianBlur(v, (0, 0), sigma) for v in (total, count))
    known = np.clip(count / 0.02, 0, 1)
    return fill_outside((total / np.maximum(count, 1e-6))[..., None], known)[..., 0]


def _membrane(
    inner_values: list[Float32Array],
    outer_values: list[Float32Array],
    inner: BoolArray,
    outer: BoolArray,
) -> Float32Array:
    """Known at `inner` and `outer` nodes, in between as a soap film, (C, N, N)."""
    start = np.stack(
        [np.where(inner, i, o) for i, o in zip(inner_values, outer_values, strict=True)], -1
    ).astype(np.float32)
    fixed = inner | outer
    film = np.ascontiguousarray(fill_outside(start, fixed.astype(np.float32)))
    _relax(film, fixed, 150)
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
                    film[y, x, k] += 1.6 * (total / 4 - film[y, x, k])


def _limited(
    depth: Float32Array, outline: Float32Array, outside: BoolArray, slope: float
) -> Float32Array:
    """Lowered where it rises by more than `slope` a node from the outline inwards."""
    out = np.where(outside, np.minimum(depth, outline), depth).astype(np.float32)
    _envelope(out, slope)
    return out


@njit(cache=True, fastmath=True)
def _envelope(values: Float32Array, slope: float) -> None:
    """The largest function below `values` that nowhere rises by more than `slope`, in place."""
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


@lru_cache(maxsize=1)
def _grid() -> tuple[Float32Array, Int32Array]:
    """Pixels of the nodes that draw the field, (N * N, 2), and triangles."""
    along = np.arange(0, NODES, THINNED, dtype=np.float32) * STEP - MARGIN
    xs, ys = np.meshgrid(along, along)
    index = np.arange(xs.size, dtype=np.int32).reshape(xs.shape)
    a, b, c, d = index[:-1, :-1], index[:-1, 1:], index[1:, :-1], index[1:, 1:]
    triangles = np.concatenate(
        [np.stack([a, c, b], -1).reshape(-1, 3), np.stack([b, c, d], -1).reshape(-1, 3)]
    )
    return np.stack([xs.ravel(), ys.ravel()], 1), triangles


@njit(cache=True, fastmath=True)
def _move(
    relief: Float32Array, nodes: Float32Array, turn: Float32Array, flat: Float32Array, start: Float32Array, target: Float32Array,
    torso: Float32Array, left: float, right: float, out: Float32Array,
) -> None:  # fmt: skip
    """Nodes (N, 3) in a new frame: pixels and depth.

    :param turn: (3, 3) rotation in image axes times the change of scale; flat (2, 2): its part in
        the picture's plane alone.
    :param left, right: 1 where that side turns towards the viewer.
    """
    one, zero = np.float32(1), np.float32(0)
    for n in range(len(nodes)):
        aside = relief[4, n]
        nearness = left * max(-aside, zero) + right * max(aside, zero)
        z = relief[1, n] + nearness * (relief[0, n] - relief[1, n])
        hull, weight = relief[2, n], relief[3, n]
        x, y = nodes[n, 0] - start[0], nodes[n, 1] - start[1]
        for k in range(2):
            plane = (turn[k, 0] + hull * (flat[k, 0] - turn[k, 0])) * x
            plane += (turn[k, 1] + hull * (flat[k, 1] - turn[k, 1])) * y
            head = plane + turn[k, 2] * z + target[k]
            body = torso[k, 0] * nodes[n, 0] + torso[k, 1] * nodes[n, 1] + torso[k, 2]
            out[n, k] = weight * head + (one - weight) * body
        out[n, 2] = weight * (turn[2, 0] * x + turn[2, 1] * y + turn[2, 2] * z)


def _in_plane(linear: Float32Array) -> Float32Array:
    """The rotation (2, 2) within the picture's plane that comes closest to `linear`, zoom kept."""
    (a, b), (c, d) = linear
    turn = np.array([[a + d, b - c], [c - b, a + d]], np.float32)
    return turn / float(np.hypot(a + d, b - c))


def _turning(start: Camera, camera: Camera) -> tuple[Float32Array, Float32Array]:
    """From the photo to a frame, in image axes: (3, 3), and its part in the plane alone (2, 2)."""
    mirror = np.diag([1.0, -1.0, 1.0]).astype(np.float32)
    zoom = float(camera.scale[0] / start.scale[0])
    turn = (mirror @ camera.rotation[0] @ start.rotation[0].T @ mirror * zoom).astype(np.float32)
    return turn, (_in_plane(turn[:2, :2]) * zoom).astype(np.float32)


def relief_field(
    relief: Float32Array,
    start: Camera,
    camera: Camera,
    torso: Float32Array,
    left: float,
    right: float,
) -> Float32Array:
    """Where the person's pixels come from, (FIELD, FIELD, 2), at the cells' centres.

    :param left, right: how far that side of the head (the viewer's) turns towards the viewer, 0..1.
    """
    nodes, triangles = _grid()
    turn, flat = _turning(start, camera)
    points = np.empty((len(nodes), 3), np.float32)
    thin = np.ascontiguousarray(relief[:, ::THINNED, ::THINNED])
    _move(
        thin.reshape(len(thin), -1), nodes, turn, flat, start.translation[0],
        camera.translation[0], torso, left, right, points,
    )  # fmt: skip
    points[:, :2] = (points[:, :2] - (CELL - 1) / 2) / CELL
    ids, weights = rasterize_mesh(points, triangles, FIELD, FIELD, False)
    field = interpolate_attributes(nodes, triangles, ids, weights)
    empty = ids < 0
    here = still_field()
    moved = field - here
    if empty.any():
        moved[empty] = 0
        moved = fill_outside(moved, (~empty).astype(np.float32))
    return (here + cv.GaussianBlur(moved, (0, 0), 0.8)).astype(np.float32)


@lru_cache(maxsize=1)
def still_field() -> Float32Array:
    """The field (FIELD, FIELD, 2) in which nothing moves: pixels at the cells' centres."""
    along = np.arange(FIELD, dtype=np.float32) * CELL + (CELL - 1) / 2
    here = np.stack(np.meshgrid(along, along), -1)
    here.flags.writeable = False
    return here


def side_shares(vertices: Float32Array, camera: Camera) -> Float32Array:
    """How little the photo shows of the vertices on the head's sides, (2, V): left, right, 0..1.

    By the angle about the head's upright axis, from the camera's direction, which leaves out nose
    and lips, and by how the skin there looks towards the camera; the viewer's sides.
    """
    shape = topology()
    facing = np.rad2deg(np.arctan2(camera.rotation[0, 2, 0], camera.rotation[0, 2, 2]))
    angle = np.rad2deg(np.arctan2(vertices[:, 0], vertices[:, 2] - AXIS_DEPTH)) - facing
    angle = (angle + 180) % 360 - 180
    towards = (vertex_normals(vertices) @ camera.rotation[0].T)[:, 2:]
    # Beyond the outline all counts as turned, whatever ears and folds there do.
    slant = smoothstep(*SLANT, smooth(towards, 10)[:, 0]) * (1 - shape.lip)
    return np.stack(
        [
            smoothstep(*TURNED, sign * angle) * np.maximum(slant, smoothstep(50, 65, sign * angle))
            for sign in (-1.0, 1.0)
        ]
    )


def edge_seen(source: Float32Array) -> Float32Array:
    """0 where the jaw's underside and the cheeks' backs look away in the photo, else 1, (V,)."""
    model = FaceModel.load()
    facing = vertex_normals(source * np.array([1, -1, 1], np.float32))[:, 2]
    angle = np.arctan2(np.abs(model.mean[:, 0]), model.mean[:, 2] - AXIS_DEPTH)
    rim = smoothstep(0.6, 0.9, angle)
    rim = np.maximum(rim, smoothstep(-0.38, -0.44, model.mean[:, 1])) * (model.part == SKIN)
    return (1 - rim * smoothstep(0.12, -0.08, facing)).astype(np.float32)


@njit(cache=True, fastmath=True)
def _invert(
    relief: Float32Array, turn: Float32Array, flat: Float32Array, start: Float32Array, target: Float32Array, points: Float32Array,
    places: Float32Array, wanted: BoolArray,
) -> None:  # fmt: skip
    """Find the photo's pixels (V, 2) that the skin's relief brings to `points`, in place.

    By steps that are a share of what is missing, turned back within the picture's plane: they
    converge where the relief stretches by less than twice the inverse of that share.
    """
    one, most = np.float32(1), np.float32(relief.shape[1] - 1.001)
    zoom = flat[0, 0] * flat[0, 0] + flat[1, 0] * flat[1, 0]
    share = np.float32(0.42) / zoom
    change = flat - turn[:2, :2]
    for n in range(len(points)):
        if not wanted[n]:
            continue
        x, y = places[n, 0], places[n, 1]
        for _ in range(10):
            across = min(max((x + np.float32(MARGIN)) / np.float32(STEP), np.float32(0)), most)
            down = min(max((y + np.float32(MARGIN)) / np.float32(STEP), np.float32(0)), most)
            i, j = int(down), int(across)
            u, v = across - np.float32(j), down - np.float32(i)
            wa, wb, wc, wd = (one - u) * (one - v), u * (one - v), (one - u) * v, u * v
            z = wa * relief[5, i, j] + wb * relief[5, i, j + 1]
            z += wc * relief[5, i + 1, j] + wd * relief[5, i + 1, j + 1]
            hull = wa * relief[2, i, j] + wb * relief[2, i, j + 1]
            hull += wc * relief[2, i + 1, j] + wd * relief[2, i + 1, j + 1]
            px, py = x - start[0], y - start[1]
            lack_x = points[n, 0] - target[0] - turn[0, 2] * z
            lack_x -= (turn[0, 0] + hull * change[0, 0]) * px
            lack_x -= (turn[0, 1] + hull * change[0, 1]) * py
            lack_y = points[n, 1] - target[1] - turn[1, 2] * z
            lack_y -= (turn[1, 0] + hull * change[1, 0]) * px
            lack_y -= (turn[1, 1] + hull * change[1, 1]) * py
            x += share * (flat[0, 0] * lack_x + flat[1, 0] * lack_y)
            y += share * (flat[0, 1] * lack_x + flat[1, 1] * lack_y)
        places[n, 0], places[n, 1] = x, y


def skin_places(
    relief: Float32Array, start: Camera, camera: Camera, points: Float32Array, places: Float32Array,
    wanted: BoolArray,
) -> Float32Array:  # fmt: skip
    """Photo pixels (V, 2) from which turned skin at `points` (V, 2+) takes its colours.

    :param places: (V, 2) where the vertices are in the photo; stays where not `wanted` (V,).
    """
    turn, flat = _turning(start, camera)
    out = places.copy()
    _invert(relief, turn, flat, start.translation[0], camera.translation[0], points, out, wanted)
    return out


def look_up(field: Float32Array, points: Float32Array) -> Float32Array:
    """A field's values (N, 2) at pixels (N, 2+) of the frame."""
    at = ((points[:, :2] - (CELL - 1) / 2) / CELL).astype(np.float32)
    found = cv.remap(field, at[:, None], None, cv.INTER_LINEAR, borderMode=cv.BORDER_REPLICATE)
    return found[:, 0]
