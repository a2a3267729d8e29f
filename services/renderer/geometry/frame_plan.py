"""Where everything of a frame lies, before anything of it is drawn."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from talkingface.renderer.arrays import Float32Array
from talkingface.renderer.face.camera import Camera
from talkingface.renderer.geometry.expression import PosedFace, lid_closing, posed_face
from talkingface.renderer.geometry.portrait import PreparedPortrait
from talkingface.renderer.geometry.projection import project_vertices, torso_map
from talkingface.renderer.geometry.rear_flow import head_turn, rear_flow, sample_flow, skin_uv
from talkingface.renderer.geometry.surface import smoothstep, smoothstep_of, vertex_normals
from talkingface.renderer.geometry.topology import topology

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
    texture_uv: Float32Array  # (V, 2) pixels in the photo from which a vertex takes its colours
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
    weight: Float32Array  # (V,) how much a vertex's colours come by way of the depth proxy
    revealed: float  # how far a side has turned up that the photo hides


def plan_frame(portrait: PreparedPortrait, coefficients: Float32Array, camera: Camera) -> FramePlan:
    """Pose a portrait.

    :param coefficients: (52,), absolute.
    :param camera: in the portrait's frame.
    """
    shape = topology()
    face = posed_face(portrait, coefficients)
    normals = vertex_normals(face.vertices)
    closing = lid_closing(portrait, coefficients)
    torso = torso_map(portrait.fit.camera, camera)
    points = project_vertices(portrait, face.vertices, camera, torso)
    uv = portrait.uv + face.lip_change * portrait.lip_uv_shift
    for eye in np.flatnonzero(closing):
        uv += closing[eye] * portrait.lid_uv_shift[eye]
    moved = np.abs(points[:, :2] - portrait.uv)
    # Only where jaw and cheeks end does it matter what lies behind them.
    parted = float(moved[shape.rim].max())
    sides = _sides(portrait, camera)
    flow, uv_shift = _textures(portrait, camera, torso, sides)
    inward = min(parted / INWARD_AT, 1.0) * portrait.inward_uv_shift
    cleared = min(parted / CLEARED_AT, 1.0)
    hidden = portrait.occluded_side
    return FramePlan(
        coefficients=coefficients,
        camera=camera,
        face=face,
        normals=normals,
        closing=closing,
        points=points,
        uv=uv,
        texture_uv=uv + inward + uv_shift,
        opacity=_opacity(portrait, normals @ camera.rotation[0, 2], cleared, sides),
        rear_flow=flow,
        cleared=cleared,
        turned=sides.turned,
        occluded_weight=sides.revealed * hidden.weight if sides.revealed > 0 else None,
        travel=float(moved[shape.front > 0.5].max()),
    )


def _sides(portrait: PreparedPortrait, camera: Camera) -> _Sides:
    """Compare the yaw of a frame with the photo's."""
    yaw = float(camera.angles[0, 1] - portrait.fit.camera.angles[0, 1])
    turned = np.array([smoothstep_of(SIDE_TURN, yaw), smoothstep_of(SIDE_TURN, -yaw)], np.float32)
    # A side that the photo hides is not stretched: it has a texture of its own.
    revealed = float(turned @ portrait.occluded_side.occluded)
    turned *= 1 - portrait.occluded_side.occluded
    return _Sides(turned, turned @ portrait.side_weight, revealed)


def _textures(
    portrait: PreparedPortrait,
    camera: Camera,
    torso: Float32Array,
    sides: _Sides,
) -> tuple[Float32Array, Float32Array]:
    """The rear layer's flow, and the change (V, 2) of the texture coordinates.

    Skin that the photo shows at a grazing angle takes its colours from where the depth proxy shows
    it, and so does the soft edge of the face, which thus runs over into the rear layer.
    """
    shape = topology()
    # Hair and neck follow the head's pose, not its expression.
    still = project_vertices(portrait, portrait.photographed, camera, torso)
    head = head_turn(portrait.fit.camera, camera)
    flow = rear_flow(portrait.depth_proxy, head, torso, sides.turned)
    proxy_uv = skin_uv(portrait.depth_proxy, head, still, portrait.uv, sides.weight > 0)
    soft = (1 - shape.hard_edge) * (1 - shape.front)
    proxy_uv += soft[:, None] * (sample_flow(flow, still) - proxy_uv)
    return flow, np.maximum(sides.weight, soft)[:, None] * (proxy_uv - portrait.uv)


def _opacity(
    portrait: PreparedPortrait, facing: Float32Array, cleared: float, sides: _Sides
) -> Float32Array:
    """Opacity (V,) of the front layer.

    Above the cheeks the layer has no edge of its own: it ends before it turns away. What the photo
    did not show of the jaw's edge is left out, unless it now has colours from elsewhere.

    :param facing: (V,) cosines towards the camera.
    """
    shape = topology()
    opacity = shape.front * (shape.hard_edge + (1 - shape.hard_edge) * smoothstep(*FACING, facing))
    shown = np.maximum(portrait.edge_visible, np.maximum(sides.weight, sides.revealed))
    opacity *= 1 - cleared * (1 - shown)
    return opacity
