"""Where everything of a frame lies, before anything of it is drawn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from talkingface.renderer.arrays import BoolArray, Float32Array, Int64Array
from talkingface.renderer.compiler import njit
from talkingface.renderer.face.camera import Camera
from talkingface.renderer.geometry.expression import PosedFace, lid_closing, posed_face
from talkingface.renderer.geometry.portrait import PreparedPortrait
from talkingface.renderer.geometry.projection import (
    HeadTurn,
    head_turn,
    project_vertices,
    torso_map,
)
from talkingface.renderer.geometry.rear_flow import rear_flow, sample_flow, skin_uv
from talkingface.renderer.geometry.surface import smoothstep_of, vertex_normals
from talkingface.renderer.geometry.tongue import AT_REST, Tongue, raise_tongue
from talkingface.renderer.geometry.topology import SOLID_FRONT, topology

# All by eye.
SIDE_TURN = (0.0, 8.0)  # degrees of yaw over which a side begins to count as turned to the viewer
INWARD_AT, CLEARED_AT = 2.0, 4.0  # pixels of the jaw's motion at which they apply in full
FACING = (0.05, 0.35)  # cosine towards the camera over which soft edges of the face come in


@dataclass(frozen=True)
class FramePlan:
    """A posed portrait, vertex by vertex. Pixels are those of the portrait's frame, (512, 512)."""

    coefficients: Float32Array  # (52,), absolute
    camera: Camera
    face: PosedFace
    normals: Float32Array  # (V, 3) in the head
    closing: Float32Array  # (2,) how far each lid has shut beyond the photo's
    points: Float32Array  # (V, 3) pixels and depth in the frame
    uv: Float32Array  # (V, 2) pixels in the photo
    texture_uv: Float32Array  # (V, 2) pixels in the photo that colour the vertices of the face
    opacity: Float32Array  # (V,) of the front layer
    rear_flow: Float32Array  # (128, 128, 2) where hair, ears and neck come from, see `rear_flow`
    cleared: float  # 0..1, how much of the rear layer without jaw and cheeks is seen
    turned: Float32Array  # (2,) how much each side that the photo shows has turned to the viewer
    occluded_weight: Float32Array | None  # (V,) of the side that the photo hides; None: not seen
    travel: float  # pixels that the front of the face has moved, at most


@dataclass(frozen=True)
class _Sides:
    """How the sides of the head have turned."""

    turned: Float32Array  # (2,) of those that the photo shows: viewer's left, right
    revealed: float  # how far a side has turned up that the photo hides


def plan_frame(
    portrait: PreparedPortrait,
    coefficients: Float32Array,
    camera: Camera,
    tongue: Tongue = AT_REST,
) -> FramePlan:
    """Pose a portrait.

    :param coefficients: (52,), absolute.
    :param camera: in the portrait's frame.
    :param tongue: how far it is raised where the lips have moved from the photo's.
    """
    shape, photo = topology(), portrait.fit.camera
    closing = lid_closing(portrait, coefficients)
    face = posed_face(portrait, coefficients, closing)
    raise_tongue(face.vertices, tongue, face.lip_change)
    normals = vertex_normals(face.vertices)
    torso, head = torso_map(photo, camera), head_turn(photo, camera)
    points = project_vertices(portrait, face.vertices, camera, torso)
    travel, parted = _largest_moves(points, portrait.uv, shape.front, shape.rim)
    sides = _sides(portrait, camera)
    flow = rear_flow(portrait.depth_proxy, head, torso, sides.turned)
    uv = _moved_uv(
        portrait.uv, portrait.lip_uv_shift, face.lip_change, portrait.lid_uv_shift, closing
    )
    texture_uv = uv + min(parted / INWARD_AT, 1.0) * portrait.inward_uv_shift
    weight = _side_weight(sides.turned, portrait.side_weight)
    _add_proxy_shift(portrait, camera, (torso, head), flow, weight, texture_uv)
    cleared = min(parted / CLEARED_AT, 1.0)
    shown = _Shown(portrait.edge_visible, weight, sides.revealed, cleared)
    return FramePlan(
        coefficients=coefficients,
        camera=camera,
        face=face,
        normals=normals,
        closing=closing,
        points=points,
        uv=uv,
        texture_uv=texture_uv,
        opacity=_opacity(shape.front, shape.hard_edge, normals, camera.rotation[0, 2], shown),
        rear_flow=flow,
        cleared=cleared,
        turned=sides.turned,
        occluded_weight=(
            sides.revealed * portrait.occluded_side.weight if sides.revealed > 0 else None
        ),
        travel=travel,
    )


@njit(cache=True, fastmath=True, error_model="numpy")
def _largest_moves(
    points: Float32Array, uv: Float32Array, front: Float32Array, rim: BoolArray
) -> tuple[float, float]:
    """Pixels that the front of the face has moved at most, and where jaw and cheeks end.

    :param points: (V, 2+) in the frame, and `uv` (V, 2) in the photo.
    """
    zero = np.float32(0)
    travel, parted = zero, zero
    for v in range(len(points)):
        moved = max(abs(points[v, 0] - uv[v, 0]), abs(points[v, 1] - uv[v, 1]))
        travel = max(travel, moved if front[v] > np.float32(SOLID_FRONT) else zero)
        # Only where jaw and cheeks end does it matter what lies behind them.
        parted = max(parted, moved if rim[v] else zero)
    return float(travel), float(parted)


def _sides(portrait: PreparedPortrait, camera: Camera) -> _Sides:
    """Compare the yaw of a frame with the photo's."""
    yaw = float(camera.angles[0, 1] - portrait.fit.camera.angles[0, 1])
    left, right = smoothstep_of(SIDE_TURN, yaw), smoothstep_of(SIDE_TURN, -yaw)
    # A side that the photo hides is not stretched: it has a texture of its own.
    hidden_left, hidden_right = portrait.occluded_side.occluded.tolist()
    turned = np.array([left * (1 - hidden_left), right * (1 - hidden_right)], np.float32)
    return _Sides(turned, left * hidden_left + right * hidden_right)


@njit(cache=True, fastmath=True, error_model="numpy")
def _side_weight(turned: Float32Array, side_weight: Float32Array) -> Float32Array:
    """How much a vertex's colours come by way of the depth proxy, (V,), because its side turned."""
    out = np.empty(side_weight.shape[1], np.float32)
    for v in range(len(out)):
        out[v] = turned[0] * side_weight[0, v] + turned[1] * side_weight[1, v]
    return out


@njit(cache=True, fastmath=True, error_model="numpy")
def _moved_uv(
    uv: Float32Array,
    lip_shift: Float32Array,
    lip_change: float,
    lid_shift: Float32Array,
    closing: Float32Array,
) -> Float32Array:
    """Texture coordinates (V, 2) with parted lips and closing lids; see `PreparedPortrait`."""
    out, lip = np.empty_like(uv), np.float32(lip_change)
    flat, start, lips = out.reshape(-1), uv.reshape(-1), lip_shift.reshape(-1)
    right, left = lid_shift[0].reshape(-1), lid_shift[1].reshape(-1)
    for i in range(len(flat)):
        flat[i] = start[i] + lip * lips[i] + closing[0] * right[i] + closing[1] * left[i]
    return out


def _add_proxy_shift(
    portrait: PreparedPortrait,
    camera: Camera,
    motion: tuple[Float32Array, HeadTurn],
    flow: Float32Array,
    weight: Float32Array,
    texture_uv: Float32Array,
) -> None:
    """Shift the texture coordinates (V, 2) of turned skin and soft edges, in place.

    Skin that the photo shows at a grazing angle takes its colours from where the depth proxy shows
    it, and so does the soft edge of the face, which thus runs over into the rear layer.

    :param motion: of shoulders and head.
    :param weight: (V,) of `_side_weight`.
    """
    shape, (torso, head) = topology(), motion
    chosen = _shifted_vertices(weight, shape.soft_edge, shape.face_vertices)
    # Hair and neck follow the head's pose, not its expression.
    still = project_vertices(portrait, portrait.photographed, camera, torso, chosen)
    skin = skin_uv(portrait.depth_proxy, head, still, portrait.uv.take(chosen, 0))
    rear = sample_flow(flow, still)
    _shift_by_proxy(chosen, skin, rear, weight, shape.soft_edge, portrait.uv, texture_uv)


@njit(cache=True, fastmath=True, error_model="numpy")
def _shifted_vertices(
    weight: Float32Array, soft_edge: Float32Array, face: Int64Array
) -> Int64Array:
    """Those of the face's vertices (N,) whose colours come by way of the depth proxy."""
    out, count = np.empty_like(face), 0
    for v in face:
        if weight[v] > 0 or soft_edge[v] > 0:
            out[count] = v
            count += 1
    return out[:count]


@njit(cache=True, fastmath=True, error_model="numpy")
def _shift_by_proxy(
    chosen: Int64Array,
    skin: Float32Array,
    rear: Float32Array,
    weight: Float32Array,
    soft_edge: Float32Array,
    uv: Float32Array,
    texture_uv: Float32Array,
) -> None:
    """Shift the texture coordinates (V, 2) of chosen vertices (N,), in place.

    :param skin: (N, 2) of `skin_uv`, and `rear` (N, 2) of the rear layer's flow: pixels in the
        photo, as is `uv` (V, 2).
    :param weight: (V,) of `_side_weight`.
    """
    for n in range(len(chosen)):
        v = chosen[n]
        soft, share = soft_edge[v], max(weight[v], soft_edge[v])
        for k in range(2):
            shift = skin[n, k] - uv[v, k] if weight[v] > 0 else np.float32(0)
            shift += soft * (rear[n, k] - uv[v, k] - shift)
            texture_uv[v, k] += share * shift


class _Shown(NamedTuple):
    """What is seen of the jaw's edge."""

    edge_visible: Float32Array  # (V,) in the photo
    weight: Float32Array  # (V,) of `_side_weight`
    revealed: float  # as in `_Sides`
    cleared: float  # as in `FramePlan`


@njit(cache=True, fastmath=True, error_model="numpy")
def _opacity(
    front: Float32Array,
    hard_edge: Float32Array,
    normals: Float32Array,
    towards: Float32Array,
    shown: _Shown,
) -> Float32Array:
    """Opacity (V,) of the front layer.

    Above the cheeks the layer has no edge of its own: it ends before it turns away. What the photo
    did not show of the jaw's edge is left out, unless it now has colours from elsewhere.

    :param front: and `hard_edge` as in `FaceTopology`.
    :param towards: (3,) the camera's direction in the head.
    """
    zero, one, two, three = np.float32(0), np.float32(1), np.float32(2), np.float32(3)
    low, steepness = np.float32(FACING[0]), np.float32(1 / (FACING[1] - FACING[0]))
    revealed, cleared = np.float32(shown.revealed), np.float32(shown.cleared)
    x, y, z = towards[0], towards[1], towards[2]
    out = np.empty_like(front)
    for v in range(len(front)):
        facing = normals[v, 0] * x + normals[v, 1] * y + normals[v, 2] * z
        t = min(max((facing - low) * steepness, zero), one)
        opacity = front[v] * (hard_edge[v] + (one - hard_edge[v]) * t * t * (three - two * t))
        known = max(shown.edge_visible[v], max(shown.weight[v], revealed))
        out[v] = opacity * (one - cleared * (one - known))
    return out
