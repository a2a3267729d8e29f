"""Where everything of a frame lies, before anything of it is drawn."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from talkingface.renderer.arrays import Float32Array
from talkingface.renderer.face.camera import Camera
from talkingface.renderer.geometry.depth_proxy import look_up, relief_field, skin_places
from talkingface.renderer.geometry.portrait import PreparedPortrait
from talkingface.renderer.geometry.pose import lid_closing, placed, posed_vertices, torso_map
from talkingface.renderer.geometry.surface import smoothstep, smoothstep_of, vertex_normals
from talkingface.renderer.geometry.topology import topology

SIDE_TURN = (0.0, 8.0)  # degrees of yaw over which a side begins to count as turned to the viewer


@dataclass(frozen=True)
class FramePlan:
    """A posed portrait, vertex by vertex. Pixels are those of the portrait's frame, (512, 512)."""

    vertices: Float32Array  # (V, 3) in the head, face widths
    normals: Float32Array  # (V, 3)
    opened: float  # the lips' opening, face widths
    lip_change: float  # how far the lips have moved from the photo's
    closing: Float32Array  # (2,) how far each lid has shut beyond the photo's
    points: Float32Array  # (V, 3) pixels and depth in the frame
    source: Float32Array  # (V, 2) pixels in the photo
    texture_uv: Float32Array  # (V, 2) pixels in the photo from which a vertex takes its colours
    opacity: Float32Array  # (V,) of the face's layer
    relief: Float32Array  # field of motion of hair, ears and neck, as `relief_field` makes it
    cleared: float  # 0..1, how much of the rear plate without jaw and cheeks is seen
    turned: Float32Array  # (2,) how much each side that the photo shows has turned to the viewer
    occluded: (
        Float32Array | None
    )  # (V,) weights of the side that the photo hides; None: it stays hidden
    travel: float  # pixels that the front of the face has moved, at most


def plan_frame(portrait: PreparedPortrait, coefficients: Float32Array, camera: Camera) -> FramePlan:
    """Pose a portrait.

    :param coefficients: (52,), absolute.
    :param camera: in the portrait's frame.
    """
    shape = topology()
    start = portrait.fit.camera
    vertices, opened, lip_change = posed_vertices(portrait, coefficients)
    normals = vertex_normals(vertices)
    closing = lid_closing(portrait, coefficients)
    torso = torso_map(start, camera)
    points = placed(portrait, vertices, camera, torso)
    source = portrait.source + lip_change * portrait.lip_shift
    source += np.tensordot(closing, portrait.lid_shift, 1)
    moved = np.abs(points[:, :2] - portrait.source)
    # Only where jaw and cheeks end does it matter what lies behind them.
    parted = float(moved[shape.rim].max())
    yaw = float(camera.angles[0, 1] - start.angles[0, 1])
    turned = np.array([smoothstep_of(SIDE_TURN, yaw), smoothstep_of(SIDE_TURN, -yaw)], np.float32)
    # A side that the photo hides does not come by stretching, but from its own picture.
    revealed = float(turned @ portrait.other_side.hidden)
    turned *= 1 - portrait.other_side.hidden
    # Hair and neck follow the head's pose, not its expression.
    still = placed(portrait, portrait.photographed, camera, torso)
    relief = relief_field(portrait.relief, start, camera, torso, float(turned[0]), float(turned[1]))
    # Skin that the photo shows at a grazing angle takes its colours from where the relief says.
    side_weight = turned @ portrait.sides
    relief_uv = skin_places(portrait.relief, start, camera, still, portrait.source, side_weight > 0)
    soft = (1 - shape.hard_edge) * (1 - shape.front)
    relief_uv += soft[:, None] * (look_up(relief, still) - relief_uv)
    texture_uv = source + min(parted / 2.0, 1.0) * portrait.inward
    texture_uv += np.maximum(side_weight, soft)[:, None] * (relief_uv - portrait.source)
    # Above the cheeks the layer has no edge of its own: it ends before it turns away. What the
    # photo did not show of the jaw's edge is left out, unless it now has colours from elsewhere.
    cleared = min(parted / 4.0, 1.0)
    facing = smoothstep(0.05, 0.35, normals @ camera.rotation[0, 2])
    opacity = shape.front * (shape.hard_edge + (1 - shape.hard_edge) * facing)
    opacity *= 1 - cleared * (1 - np.maximum(portrait.edge_seen, np.maximum(side_weight, revealed)))
    return FramePlan(
        vertices=vertices,
        normals=normals,
        opened=opened,
        lip_change=lip_change,
        closing=closing,
        points=points,
        source=source,
        texture_uv=texture_uv,
        opacity=opacity,
        relief=relief,
        cleared=cleared,
        turned=turned,
        occluded=revealed * portrait.other_side.share if revealed > 0 else None,
        travel=float(moved[shape.front > 0.5].max()),
    )
