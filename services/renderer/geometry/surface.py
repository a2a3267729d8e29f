"""What the geometry needs to know of the mesh's anatomy, and smooth fields on its surface."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numba import njit

from talkingface.contract.motion import ARKIT_INDEX
from talkingface.renderer.arrays import BoolArray, Float32Array, Int32Array, Int64Array, Uint8Image
from talkingface.renderer.face.fitting import OUTLINE
from talkingface.renderer.face.model import PARTS, FaceModel
from talkingface.renderer.opencv import cv

# The lips' inner edges from the subject's right corner to the left.
INNER_UPPER = (78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308)
INNER_LOWER = (78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308)
EYE_LEVEL, NOSE_LEVEL = 0.24, -0.05  # heights on the mean face, in face widths
SMOOTHNESS = 0.03
STIFFNESS = 0.004


@dataclass(frozen=True)
class Anatomy:
    """Fixed properties of the mesh, all by vertex or triangle."""

    front: Float32Array  # (V,) 1 on the face that hides what is behind it, fading to 0 towards the skull
    hard: Float32Array  # (V,) 1 on cheek and jaw, whose edge is a real edge; 0 on the forehead
    rim: BoolArray  # (V,) where cheeks and jaw end
    lower_lip: BoolArray  # (V,) moves with the jaw
    lip: Float32Array  # (V,) 1 near the mouth's line, 0 elsewhere
    triangle_part: Uint8Image  # (T,) index into PARTS
    head: Int32Array  # triangles that make up the front layer, insides included
    head_index: Int64Array  # ... and where these stand among all triangles
    head_vertices: Int64Array  # ... and the vertices they use
    behind: Int32Array  # triangles of skull, ears and neck, which the face layer hides
    whole: Int32Array  # all triangles but ears, eyes, teeth and tongue
    mouth: Int32Array  # triangles around and inside the mouth
    eyes: tuple[Int32Array, Int32Array]  # skin triangles around the subject's right and left eye
    neighbours: Int32Array  # CSR of the skin's and the cavities' edges
    starts: Int32Array
    mirror: Int64Array  # (V,) each vertex's partner on the other side


@lru_cache(maxsize=1)
def anatomy() -> Anatomy:
    model = FaceModel.load()
    mean, triangles, part = model.mean, model.triangles, model.part
    outline = mean_landmarks(mean)[list(OUTLINE), :2]
    distance = np.array(
        [cv.pointPolygonTest(outline[:, None], (float(x), float(y)), True) for x, y in mean[:, :2]],
        np.float32,
    )
    hard = smoothstep(EYE_LEVEL, NOSE_LEVEL, mean[:, 1])
    # Below the eyes the layer runs around the jaw to the ears, above it ends inside the hair line.
    inside = (
        smoothstep(-0.05, 0.03, distance) * (1 - hard) + smoothstep(-0.08, -0.03, distance) * hard
    )
    # What lies under the jaw belongs to the neck.
    under = smoothstep(-0.6, -0.85, vertex_normals(mean)[:, 1]) * smoothstep(
        -0.35, -0.42, mean[:, 1]
    )
    reach = smoothstep(0.05, 0.15, mean[:, 2]) * hard + smoothstep(0.0, 0.2, mean[:, 2]) * (
        1 - hard
    )
    front = inside * reach * (1 - under) * smoothstep(0.75, 0.95, model.head_weight)
    beside = (np.abs(mean[:, 0]) > 0.49) & (np.abs(mean[:, 1] - 0.1) < 0.3) & (mean[:, 2] < 0.25)
    front[beside] = 0.0
    inner = part != PARTS.index("skin")
    outer = np.abs(mean[:, 0]) > 1.2 * (mean[:, 2] - 0.2)  # 50 degrees aside about the head's axis
    front[inner] = 1.0
    jaw = model.expressions[ARKIT_INDEX["jawOpen"], :, 1]
    mouth_line = mean_landmarks(mean)[[13, 78, 308]]
    across = np.abs(mean[:, 0]) / abs(float(mouth_line[1, 0]))
    lip = np.exp(-(((mean[:, 1] - mouth_line[0, 1]) / 0.05) ** 2)) * smoothstep(1.15, 0.85, across)
    lip *= smoothstep(0.5, 0.65, mean[:, 2])
    corner_part = part[triangles]
    triangle_part = corner_part.max(1).astype(np.uint8)
    solid = np.isin(triangle_part, [PARTS.index(p) for p in ("skin", "cavity")])
    centre = mean[triangles].mean(1)
    near_mouth = (np.abs(centre[:, 0]) < 0.32) & (centre[:, 1] < -0.08) & (centre[:, 1] > -0.5)
    skin = triangle_part == PARTS.index("skin")
    nostril = (centre[:, 1] > -0.15) & (triangle_part == PARTS.index("cavity"))
    inside_mouth = ~nostril & ~np.isin(
        triangle_part, [PARTS.index(p) for p in ("skin", "eye_left", "eye_right")]
    )
    mouth = (near_mouth & (centre[:, 2] > 0.5) & skin) | (inside_mouth & (centre[:, 1] < -0.08))
    eyes = []
    for sign in (-1.0, 1.0):
        near = np.hypot(centre[:, 0] - sign * 0.215, centre[:, 1] - EYE_LEVEL) < 0.24
        eyes.append(triangles[near & skin & (centre[:, 2] > 0.4)])
    edges = np.concatenate([triangles[solid][:, pair] for pair in ((0, 1), (1, 2), (2, 0))])
    edges = np.unique(np.sort(edges, 1), axis=0)
    both = np.concatenate([edges, edges[:, ::-1]])
    both = both[np.argsort(both[:, 0], kind="stable")]
    starts = np.searchsorted(both[:, 0], np.arange(len(mean) + 1)).astype(np.int32)
    # Ears differ too much from head to head: in the rear plate they move with the skull.
    ear = (beside[triangles]).any(1) & (centre[:, 2] > -0.3)
    eyeball = np.isin(triangle_part, [PARTS.index(p) for p in ("eye_left", "eye_right")])
    # Insides count as face only where eyes and lips open; elsewhere they would shine through.
    opens = skin | ((centre[:, 2] > 0.6) & (centre[:, 1] > -0.38))
    head = (front[triangles] > 0.01).any(1) & (centre[:, 2] > 0.0) & opens
    return Anatomy(
        front=front.astype(np.float32),
        hard=hard.astype(np.float32),
        rim=(front * hard > 0.3) & (outer | (mean[:, 1] < -0.4)) & ~inner,
        lower_lip=jaw < -0.1,
        lip=lip.astype(np.float32),
        triangle_part=triangle_part,
        head=triangles[head],
        head_index=np.nonzero(head)[0],
        head_vertices=np.unique(triangles[head]),
        whole=triangles[solid & ~eyeball & ~ear],
        behind=triangles[solid & ((front * hard)[triangles] < 0.5).all(1)],
        mouth=triangles[mouth],
        eyes=(eyes[0], eyes[1]),
        neighbours=both[:, 1].astype(np.int32),
        starts=starts,
        mirror=_partners(mean),
    )


def _partners(mean: Float32Array) -> Int64Array:
    """The vertex closest to each vertex's mirror image, (V,)."""
    mirrored = mean * np.array([-1, 1, 1], np.float32)
    size = (mean**2).sum(1)
    out = [(size - 2 * part @ mean.T).argmin(1) for part in np.array_split(mirrored, 10)]
    return np.concatenate(out)


def vertex_normals(vertices: Float32Array) -> Float32Array:
    """Unit normals (V, 3), outwards."""
    out = np.zeros_like(vertices)
    _sum_normals(vertices, FaceModel.load().triangles, out)
    return out / (np.linalg.norm(out, axis=1, keepdims=True) + 1e-12)


@njit(cache=True, fastmath=True)
def _sum_normals(vertices: Float32Array, triangles: Int32Array, out: Float32Array) -> None:
    for t in range(len(triangles)):
        a, b, c = vertices[triangles[t, 0]], vertices[triangles[t, 1]], vertices[triangles[t, 2]]
        ux, uy, uz = b[0] - a[0], b[1] - a[1], b[2] - a[2]
        vx, vy, vz = c[0] - a[0], c[1] - a[1], c[2] - a[2]
        x, y, z = uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx
        for k in range(3):
            out[triangles[t, k], 0] += x
            out[triangles[t, k], 1] += y
            out[triangles[t, k], 2] += z


def mean_landmarks(vertices: Float32Array) -> Float32Array:
    """Skin landmarks (468, ...) of any vertex values (V, ...)."""
    model = FaceModel.load()
    return np.einsum("lk,lk...->l...", model.landmark_weights, vertices[model.landmark_corners])


def smoothstep(low: float, high: float, x: Float32Array) -> Float32Array:
    """Hermite step from 0 at `low` to 1 at `high`; `low` may be the larger."""
    t = np.clip((x - low) / (high - low), 0, 1)
    return (t * t * (3 - 2 * t)).astype(np.float32)


@njit(cache=True, fastmath=True)
def _laplace(
    values: Float32Array, neighbours: Int32Array, starts: Int32Array, out: Float32Array
) -> None:
    for v in range(len(values)):
        first, last = starts[v], starts[v + 1]
        for k in range(values.shape[1]):
            total = 0.0
            for e in range(first, last):
                total += values[v, k] - values[neighbours[e], k]
            out[v, k] = total / max(last - first, 1)


def smooth(values: Float32Array, rounds: int) -> Float32Array:
    """Average vertex values (V, C) with their neighbours' along the surface."""
    shape = anatomy()
    scratch = np.zeros_like(values)
    for _ in range(rounds):
        _laplace(values, shape.neighbours, shape.starts, scratch)
        values = values - 0.5 * scratch
    return values


@njit(cache=True, fastmath=True)
def _apply(
    values: Float32Array,
    corners: Int32Array,
    weights: Float32Array,
    neighbours: Int32Array,
    starts: Int32Array,
    smooth: float,
    stiff: float,
    scratch: Float32Array,
    out: Float32Array,
) -> None:
    """Normal operator of the extension: data + smooth * Laplacian^2 + stiff * Laplacian."""
    _laplace(values, neighbours, starts, scratch)
    _laplace(scratch, neighbours, starts, out)
    for v in range(len(values)):
        for k in range(values.shape[1]):
            out[v, k] = smooth * out[v, k] + stiff * scratch[v, k] + 1e-5 * values[v, k]
    for n in range(len(corners)):
        for k in range(values.shape[1]):
            here = 0.0
            for i in range(3):
                here += weights[n, i] * values[corners[n, i], k]
            for i in range(3):
                out[corners[n, i], k] += weights[n, i] * here


def extend(offsets: Float32Array) -> Float32Array:
    """Spread offsets given at the skin landmarks (468, C) over the surface, (V, C).

    Biharmonic with a little stiffness, along the mesh: what happens to the upper lip does not reach
    the lower one through the air. Conjugate gradients; the operator is not quite symmetric (degrees
    differ), which these few well-placed landmarks forgive.
    """
    model, shape = FaceModel.load(), anatomy()
    corners, weights = model.landmark_corners, model.landmark_weights
    size, channels = len(model.mean), offsets.shape[1]
    right = np.zeros((size, channels), np.float32)
    for i in range(3):
        np.add.at(right, corners[:, i], weights[:, i : i + 1] * offsets)
    values = np.zeros_like(right)
    scratch, product = np.zeros_like(right), np.zeros_like(right)
    residual = right.copy()
    direction = residual.copy()
    energy = (residual**2).sum(0)
    start = energy.copy()
    for _ in range(400):
        _apply(
            direction, corners, weights, shape.neighbours, shape.starts, SMOOTHNESS, STIFFNESS,
            scratch, product,
        )  # fmt: skip
        step = energy / np.maximum((direction * product).sum(0), 1e-20)
        values += step * direction
        residual -= step * product
        fresh = (residual**2).sum(0)
        if (fresh < 1e-6 * start).all():
            break
        direction = residual + fresh / np.maximum(energy, 1e-20) * direction
        energy = fresh
    # Loose parts go along with the surface around them.
    for name, anchors in (
        ("eye_right", (33, 133, 159, 145)),
        ("eye_left", (263, 362, 386, 374)),
        ("teeth_upper", (0, 2, 37, 267)),
        ("teeth_lower", (17, 18, 84, 314)),
        ("tongue", (17, 18, 84, 314)),
    ):
        values[model.part_vertices(name)] = offsets[list(anchors)].mean(0)
    return values
