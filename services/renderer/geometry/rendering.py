"""A portrait moved by geometry alone: fit once, then one dense warp a frame.

Three layers, back to front: the background plate; the rear plate (hair, ears, neck, shoulders),
turned as a relief (`relief`); the face, rasterised as a mesh whose every vertex knows where in the
photo it came from, so that nose and jaw hide what is behind them. A side that a turned portrait
hides comes from a picture of its own (`hidden_side`). Eyes and mouth are drawn into the holes of
the mesh at twice the resolution. Where nothing moved, the frame is the photo.

Motion coefficients are absolute for the lips (0 = closed, at rest). Of the portrait's own
expression brows, cheeks and nose keep `KEPT_UPPER`, the mouth's shape at most `KEPT_MOUTH`. Lids
and gaze count from the portrait: eyeBlink 0 is the eye as photographed, 1 is shut; eyeLook 0 is the
portrait's own gaze.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from talkingface.renderer.face.camera import Camera
from talkingface.renderer.geometry.compositing import (
    PINNED,
    Borders,
    border_distance,
    compose,
    enlarge,
    pin_field,
)
from talkingface.renderer.geometry.crops import Crop, crop_controls, crop_matrices
from talkingface.renderer.geometry.eyes_mouth import place_eye, place_mouth
from talkingface.renderer.geometry.image import FRAME, cv, ramp
from talkingface.renderer.geometry.portrait import PreparedPortrait
from talkingface.renderer.geometry.pose import (
    gaze_shift,
    lid_closing,
    placed,
    posed_vertices,
    target_pose,
    torso_map,
)
from talkingface.renderer.geometry.relief import look_up, relief_field, skin_places, still_field
from talkingface.renderer.geometry.surface import anatomy, smoothstep, vertex_normals

Array = NDArray[np.float32]
Image = NDArray[np.uint8]

SIDE_TURN = (0.0, 8.0)  # degrees of yaw over which a side begins to count as turned to the viewer


@dataclass(frozen=True)
class WarpedFrame:
    """One frame as geometry alone makes it."""

    image: Image  # (512, 512, 3) RGB
    mask: Image  # (512, 512, 2), as in `Crop`
    crops: tuple[Crop, Crop, Crop]
    # Only when traced: where in the portrait's frame each pixel comes from, (512, 512, 2), and how
    # much of it is that pixel, (512, 512), 0..255; 0 where drawn, filled or continued.
    flow: Array | None = None
    carried: Image | None = None


def render(
    portrait: PreparedPortrait,
    motion: Array,
    *,
    pinned: Borders | bool = False,
    traced: bool = False,
) -> WarpedFrame:
    """One frame for one motion frame (58,).

    :param pinned: borders at which the frame stays the photo bit for bit, so that it can be pasted
        back: left, top, right, bottom; True for all.
    :param traced: also tell where the pixels come from.
    :raises ValueError: if motion has the wrong shape or is not finite.
    """
    coefficients, camera = target_pose(portrait, motion)
    return render_pose(portrait, coefficients, camera, pinned=pinned, traced=traced)


def render_pose(
    portrait: PreparedPortrait,
    coefficients: Array,
    camera: Camera,
    draw_always: bool = False,
    pinned: Borders | bool = False,
    traced: bool = False,
) -> WarpedFrame:
    """One frame for absolute coefficients (52,) and a camera in the portrait's frame.

    :param draw_always: draw mouth and eyes even where the photo's own could be used; for training
        on a portrait and itself.
    :param pinned: and `traced`, as in `render`.
    """
    borders: Borders = pinned if isinstance(pinned, tuple) else (pinned,) * 4
    shape = anatomy()
    start = portrait.fit.camera
    vertices, opened, lip_change = posed_vertices(portrait, coefficients)
    normals = vertex_normals(vertices)
    closing = lid_closing(portrait, coefficients)
    torso = torso_map(start, camera)
    points = placed(portrait, vertices, camera, torso)
    source = portrait.source + lip_change * portrait.lip_shift
    source += np.tensordot(closing, portrait.lid_shift, 1)
    travel = float(np.abs(points[:, :2] - portrait.source)[shape.front > 0.5].max())
    # Only where jaw and cheeks end does it matter what lies behind them.
    parted = float(np.abs(points[:, :2] - portrait.source)[shape.rim].max())
    yaw = float(camera.angles[0, 1] - start.angles[0, 1])
    turned = np.array([ramp(SIDE_TURN, yaw), ramp(SIDE_TURN, -yaw)], np.float32)
    # A side that the photo hides does not come by stretching, but from its own picture.
    revealed = float(turned @ portrait.other_side.hidden)
    turned *= 1 - portrait.other_side.hidden
    # Hair and neck turn with the head; what the face does is not theirs.
    still = placed(portrait, portrait.photographed, camera, torso)
    coarse = relief_field(portrait.relief, start, camera, torso, float(turned[0]), float(turned[1]))
    # What the photo shows badly takes its colours from where the relief says.
    share = turned @ portrait.sides
    told = skin_places(portrait.relief, start, camera, still, portrait.source, share > 0)
    soft = (1 - shape.hard) * (1 - shape.front)
    told += soft[:, None] * (look_up(coarse, still) - told)
    worn_source = source + min(parted / 2.0, 1.0) * portrait.inward
    worn_source += np.maximum(share, soft)[:, None] * (told - portrait.source)
    # Above the cheeks the layer has no edge of its own: it ends before it turns away. What the
    # photo did not show of the jaw's edge is left out, unless it now has colours from elsewhere.
    cleared = min(parted / 4.0, 1.0)
    turning = smoothstep(0.05, 0.35, normals @ camera.rotation[0, 2])
    opacity = shape.front * (shape.hard + (1 - shape.hard) * turning)
    opacity *= 1 - cleared * (1 - np.maximum(portrait.edge_seen, np.maximum(share, revealed)))
    hidden = revealed * portrait.other_side.share if revealed > 0 else None
    if any(borders):
        coarse = pin_field(coarse, borders)
    image, mask, flow, place, solid = compose(
        portrait, points, worn_source, opacity, coarse, cleared, turned, hidden
    )
    for eye in range(2):
        place_eye(
            portrait,
            image,
            mask,
            points,
            source,
            coefficients,
            camera,
            eye,
            closing[eye],
            draw_always,
        )
    place_mouth(portrait, image, mask, points, source, vertices, normals, lip_change, draw_always)
    if travel < 0.02 and gaze_shift(portrait, coefficients, 0)[1] == 0 and not draw_always:
        image = portrait.frame.copy()
        coarse = still_field()
        solid = np.zeros_like(solid)
        mask[:] = 0
    if any(borders):
        _pin(image, portrait.frame, borders)
    controls = crop_controls(coefficients, opened, camera)
    crops = [
        Crop(
            matrix,
            cv.warpAffine(image, matrix, (size, size), flags=cv.INTER_AREA),
            cv.warpAffine(mask, matrix, (size, size), flags=cv.INTER_AREA),
            control,
        )
        for (matrix, size), control in zip(crop_matrices(points), controls, strict=True)
    ]
    cut = (crops[0], crops[1], crops[2])
    if not traced:
        return WarpedFrame(image, mask, cut)
    field = enlarge(coarse)
    field[place][solid] = flow[solid]
    return WarpedFrame(image, mask, cut, field, _carried(portrait.frame, image, field))


def _pin(image: Image, photo: Image, borders: Borders) -> None:
    """Let a frame run over into the photo at some borders, in place."""
    away = border_distance(FRAME, borders)
    rim = away < PINNED[0]
    share = smoothstep(2.0, PINNED[0], away[rim])[:, None]
    image[rim] = (photo[rim] + share * (image[rim].astype(np.float32) - photo[rim]) + 0.5).astype(
        np.uint8
    )


def _carried(photo: Image, image: Image, flow: Array) -> Image:
    """How much of a frame is the photo's pixels along a flow, (512, 512), by looking.

    Not pixel by pixel, for interpolation changes single ones, but with their neighbours.
    """
    told = cv.remap(photo, flow, None, cv.INTER_LINEAR, borderMode=cv.BORDER_REFLECT_101)
    apart = cv.blur(cv.subtract(image, told, dtype=cv.CV_16S), (3, 3))
    largest = np.empty((FRAME, FRAME), np.uint8)
    _largest(apart, flow, largest)
    largest = cv.blur(cv.dilate(largest, np.ones((3, 3), np.uint8)), (5, 5))
    levels = 255 * smoothstep(18, 6, np.arange(256, dtype=np.float32)) + 0.5
    return np.asarray(cv.LUT(largest, levels.astype(np.uint8)), np.uint8)


@njit(cache=True)
def _largest(apart: NDArray[np.int16], flow: Array, out: Image) -> None:
    """Largest of the colours' differences (H, W, 3), 255 where the flow leaves the photo."""
    height, width = out.shape
    for y in range(height):
        for x in range(width):
            u, v = flow[y, x, 0], flow[y, x, 1]
            if u < -0.5 or v < -0.5 or u > width - 0.5 or v > height - 0.5:
                out[y, x] = 255
                continue
            most = max(abs(apart[y, x, 0]), abs(apart[y, x, 1]), abs(apart[y, x, 2]))
            out[y, x] = min(most, 255)
