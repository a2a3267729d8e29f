"""Fixed regions and adjacency of the face mesh."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from talkingface.contract.motion import ARKIT_INDEX
from talkingface.renderer.arrays import BoolArray, Float32Array, Int32Array, Int64Array, Uint8Array
from talkingface.renderer.face.landmarks import OUTLINE
from talkingface.renderer.face.model import PARTS, FaceModel
from talkingface.renderer.geometry.surface import mean_landmarks, smoothstep, vertex_normals
from talkingface.renderer.opencv import cv

# The lips' inner edges from the subject's right corner to the left.
INNER_UPPER = (78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308)
INNER_LOWER = (78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308)

SKIN, CAVITY = PARTS.index("skin"), PARTS.index("cavity")
EYEBALLS = [PARTS.index(name) for name in ("eye_left", "eye_right")]

# Regions of the mean head, all by eye. Positions are those of the face model in face widths: x to
# the viewer's right, y up, z towards the viewer. A pair is a smooth step from 0 at its first number
# to 1 at its second.
EYE_LEVEL, NOSE_LEVEL = 0.24, -0.05  # y between which the forehead's soft edge becomes a hard one
FOREHEAD_INSIDE = (-0.05, 0.03)  # distance inside the outline; above the eyes the layer ends within
JAW_INSIDE = (-0.08, -0.03)  # ... the hair line, below them it runs around the jaw to the ears
FOREHEAD_DEPTH = (0.0, 0.2)  # z from which the forehead belongs to the front layer
JAW_DEPTH = (0.05, 0.15)  # z from which cheek and jaw do
UNDER_JAW_NORMAL = (-0.6, -0.85)  # y of the normal of skin that looks down, as the neck's does ...
UNDER_JAW_HEIGHT = (-0.35, -0.42)  # ... at this y: what lies under the jaw belongs to the neck
HEAD_NOT_NECK = (0.75, 0.95)  # `FaceModel.head_weight`
EAR_ASIDE, EAR_HEIGHT, EAR_REACH = 0.49, 0.1, 0.3  # |x| at least, y of the middle, y up and down
EAR_FRONT, EAR_BACK = 0.25, -0.3  # z between which what lies beside the head is an ear
FRONT_ANGLE, HEAD_AXIS = 1.2, 0.2  # |x| / (z - axis): beyond it, at 50 degrees, the front ends
RIM_FRONT, CHIN_HEIGHT = (
    0.3,
    -0.4,
)  # opacity of the front layer at its rim; y of the chin's underside
LOWER_LIP_DROP = -0.1  # y by which jawOpen moves the lower lip at least
LIP_REACH = 0.05  # y about the mouth's line at which a lip's weight has fallen to 1/e
LIP_CORNER = (1.15, 0.85)  # x over that of the mouth's corner
LIP_DEPTH = (0.5, 0.65)  # z of the lips, in front of the mouth's walls
MOUTH_ASIDE, MOUTH_TOP, MOUTH_BOTTOM = (
    0.32,
    -0.08,
    -0.5,
)  # |x| and y of what is drawn with the mouth
MOUTH_DEPTH = 0.5  # z of the skin drawn with the mouth
NOSTRIL_HEIGHT = -0.15  # y above which a cavity is a nostril
EYE_ASIDE, EYE_RADIUS, EYE_DEPTH = 0.215, 0.24, 0.4  # |x| of its middle, reach, z of an eye's skin
OPENING_DEPTH, OPENING_HEIGHT = 0.6, -0.38  # z and y of insides that open lips or lids show
FACE_OPACITY = 0.01  # of the front layer: triangles below it are left out
SOLID_FRONT = 0.5  # ... and above it they hide what lies behind


@dataclass(frozen=True)
class FaceTopology:
    """Fixed properties of the mesh with V vertices and T triangles."""

    front: Float32Array  # (V,) 1 on the face that hides what is behind it, 0 towards the skull
    hard_edge: Float32Array  # (V,) 1 on cheek and jaw, whose edge is an outline; 0 on the forehead
    soft_edge: Float32Array  # (V,) 1 where the front layer fades out, on forehead and temples
    rim: BoolArray  # (V,) where cheeks and jaw end
    lower_lip: BoolArray  # (V,) moves with the jaw
    lip: Float32Array  # (V,) 1 near the mouth's line, 0 elsewhere
    triangle_part: Uint8Array  # (T,) index into PARTS
    face: Int32Array  # (F, 3) triangles of the front layer, insides included
    face_index: Int64Array  # (F,) where they stand among all triangles
    face_vertices: Int64Array  # indices of the vertices that they use
    rear: Int32Array  # (R, 3) triangles of skull, ears and neck, which the front layer hides
    head: Int32Array  # (H, 3) all triangles but ears, eyes, teeth and tongue
    mouth: Int32Array  # (M, 3) triangles around and inside the mouth
    eyes: tuple[Int32Array, Int32Array]  # skin triangles around the subject's right and left eye
    neighbours: Int32Array  # neighbours of all vertices of skin and cavities, one after the other
    neighbour_starts: Int32Array  # (V + 1,) where those of each vertex begin
    mirror: Int64Array  # (V,) each vertex's partner on the other side


@lru_cache(maxsize=1)
def topology() -> FaceTopology:
    """Derive the regions from the face model, once a process."""
    model = FaceModel.load()
    mean, triangles = model.mean, model.triangles
    hard_edge = smoothstep(EYE_LEVEL, NOSE_LEVEL, mean[:, 1])
    ears = (np.abs(mean[:, 0]) > EAR_ASIDE) & (np.abs(mean[:, 1] - EAR_HEIGHT) < EAR_REACH)
    ears &= mean[:, 2] < EAR_FRONT
    front = _front(model, hard_edge, ears)
    centre = mean[triangles].mean(1)
    triangle_part = model.part[triangles].max(1).astype(np.uint8)
    skin = triangle_part == SKIN
    solid = skin | (triangle_part == CAVITY)
    # Ears differ too much from head to head: in the rear layer they move with the skull.
    ear = (ears[triangles]).any(1) & (centre[:, 2] > EAR_BACK)
    # Insides count as face only where eyes and lips open; elsewhere they would shine through.
    opening = skin | ((centre[:, 2] > OPENING_DEPTH) & (centre[:, 1] > OPENING_HEIGHT))
    face = (front[triangles] > FACE_OPACITY).any(1) & (centre[:, 2] > 0.0) & opening
    neighbours, starts = _adjacency(triangles[solid], len(mean))
    return FaceTopology(
        front=front.astype(np.float32),
        hard_edge=hard_edge.astype(np.float32),
        soft_edge=((1 - hard_edge) * (1 - front)).astype(np.float32),
        rim=_rim(model, front * hard_edge),
        lower_lip=model.expressions[ARKIT_INDEX["jawOpen"], :, 1] < LOWER_LIP_DROP,
        lip=_lip(mean),
        triangle_part=triangle_part,
        face=triangles[face],
        face_index=np.nonzero(face)[0],
        face_vertices=np.unique(triangles[face]),
        rear=triangles[solid & ((front * hard_edge)[triangles] < SOLID_FRONT).all(1)],
        head=triangles[solid & ~np.isin(triangle_part, EYEBALLS) & ~ear],
        mouth=triangles[_mouth(centre, triangle_part)],
        eyes=(triangles[skin & _eye(centre, -1.0)], triangles[skin & _eye(centre, 1.0)]),
        neighbours=neighbours,
        neighbour_starts=starts,
        mirror=_partners(mean),
    )


def _front(model: FaceModel, hard_edge: Float32Array, ears: BoolArray) -> Float32Array:
    """Opacity (V,) of the front layer."""
    mean, soft_edge = model.mean, 1 - hard_edge
    outline = mean_landmarks(mean)[list(OUTLINE), :2]
    distance = np.array(
        [cv.pointPolygonTest(outline[:, None], (float(x), float(y)), True) for x, y in mean[:, :2]],
        np.float32,
    )
    inside = smoothstep(*FOREHEAD_INSIDE, distance) * soft_edge
    inside += smoothstep(*JAW_INSIDE, distance) * hard_edge
    under = smoothstep(*UNDER_JAW_NORMAL, vertex_normals(mean)[:, 1])
    under *= smoothstep(*UNDER_JAW_HEIGHT, mean[:, 1])
    reach = smoothstep(*JAW_DEPTH, mean[:, 2]) * hard_edge
    reach += smoothstep(*FOREHEAD_DEPTH, mean[:, 2]) * soft_edge
    front: Float32Array = (
        inside * reach * (1 - under) * smoothstep(*HEAD_NOT_NECK, model.head_weight)
    )
    front[ears] = 0.0
    front[model.part != SKIN] = 1.0
    return front


def _rim(model: FaceModel, opacity: Float32Array) -> BoolArray:
    """Where cheeks and jaw end, (V,)."""
    mean = model.mean
    aside = np.abs(mean[:, 0]) > FRONT_ANGLE * (mean[:, 2] - HEAD_AXIS)
    ends = aside | (mean[:, 1] < CHIN_HEIGHT)
    rim: BoolArray = (opacity > RIM_FRONT) & ends & (model.part == SKIN)
    return rim


def _lip(mean: Float32Array) -> Float32Array:
    """Weight (V,) of the lips: 1 near the mouth's line."""
    middle, corner, _ = mean_landmarks(mean)[[13, 78, 308]]
    across = np.abs(mean[:, 0]) / abs(float(corner[0]))
    near = np.exp(-(((mean[:, 1] - middle[1]) / LIP_REACH) ** 2)) * smoothstep(*LIP_CORNER, across)
    near *= smoothstep(*LIP_DEPTH, mean[:, 2])
    lip: Float32Array = near.astype(np.float32)
    return lip


def _mouth(centre: Float32Array, part: Uint8Array) -> BoolArray:
    """Which triangles (T,) with these centres (T, 3) lie around and inside the mouth."""
    near = (np.abs(centre[:, 0]) < MOUTH_ASIDE) & (centre[:, 1] < MOUTH_TOP)
    near &= (centre[:, 1] > MOUTH_BOTTOM) & (centre[:, 2] > MOUTH_DEPTH)
    nostril = (centre[:, 1] > NOSTRIL_HEIGHT) & (part == CAVITY)
    inside = ~nostril & ~np.isin(part, [SKIN, *EYEBALLS]) & (centre[:, 1] < MOUTH_TOP)
    mouth: BoolArray = (near & (part == SKIN)) | inside
    return mouth


def _eye(centre: Float32Array, sign: float) -> BoolArray:
    """Which triangles (T,) lie around an eye; `sign`: -1 the subject's right, 1 the left."""
    away = np.hypot(centre[:, 0] - sign * EYE_ASIDE, centre[:, 1] - EYE_LEVEL)
    near: BoolArray = (away < EYE_RADIUS) & (centre[:, 2] > EYE_DEPTH)
    return near


def _adjacency(triangles: Int32Array, vertices: int) -> tuple[Int32Array, Int32Array]:
    """Neighbours of all vertices in compressed rows: indices (E,), and starts (V + 1,)."""
    edges = np.concatenate([triangles[:, pair] for pair in ((0, 1), (1, 2), (2, 0))])
    edges = np.unique(np.sort(edges, 1), axis=0)
    both = np.concatenate([edges, edges[:, ::-1]])
    both = both[np.argsort(both[:, 0], kind="stable")]
    starts = np.searchsorted(both[:, 0], np.arange(vertices + 1)).astype(np.int32)
    return both[:, 1].astype(np.int32), starts


def _partners(mean: Float32Array) -> Int64Array:
    """The vertex closest to each vertex's mirror image, (V,)."""
    mirrored = mean * np.array([-1, 1, 1], np.float32)
    size = (mean**2).sum(1)
    # In ten parts, for the table of all distances would take a gigabyte.
    out = [(size - 2 * part @ mean.T).argmin(1) for part in np.array_split(mirrored, 10)]
    return np.concatenate(out)
