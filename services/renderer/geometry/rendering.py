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

from talkingface.renderer.arrays import Float32Array, Int16Array, Uint8Image
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
from talkingface.renderer.geometry.depth_proxy import still_field
from talkingface.renderer.geometry.eyes_mouth import place_eye, place_mouth
from talkingface.renderer.geometry.frame import FRAME
from talkingface.renderer.geometry.frame_plan import plan_frame
from talkingface.renderer.geometry.portrait import PreparedPortrait
from talkingface.renderer.geometry.pose import (
    gaze_shift,
    target_pose,
)
from talkingface.renderer.geometry.surface import smoothstep
from talkingface.renderer.opencv import cv


@dataclass(frozen=True)
class WarpedFrame:
    """One frame as geometry alone makes it."""

    image: Uint8Image  # (512, 512, 3) RGB
    mask: Uint8Image  # (512, 512, 2), as in `Crop`
    crops: tuple[Crop, Crop, Crop]
    # Only when traced: where in the portrait's frame each pixel comes from, (512, 512, 2), and how
    # much of it is that pixel, (512, 512), 0..255; 0 where drawn, filled or continued.
    flow: Float32Array | None = None
    carried: Uint8Image | None = None


def render(
    portrait: PreparedPortrait,
    motion: Float32Array,
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
    coefficients: Float32Array,
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
    plan = plan_frame(portrait, coefficients, camera)
    relief = pin_field(plan.relief, borders) if any(borders) else plan.relief
    image, mask, flow, place, solid = compose(
        portrait,
        plan.points,
        plan.texture_uv,
        plan.opacity,
        relief,
        plan.cleared,
        plan.turned,
        plan.occluded,
    )
    for eye in range(2):
        place_eye(
            portrait,
            image,
            mask,
            plan.points,
            plan.source,
            coefficients,
            camera,
            eye,
            plan.closing[eye],
            draw_always,
        )
    place_mouth(
        portrait,
        image,
        mask,
        plan.points,
        plan.source,
        plan.vertices,
        plan.normals,
        plan.lip_change,
        draw_always,
    )
    if plan.travel < 0.02 and gaze_shift(portrait, coefficients, 0)[1] == 0 and not draw_always:
        image = portrait.frame.copy()
        relief = still_field()
        solid = np.zeros_like(solid)
        mask[:] = 0
    if any(borders):
        _pin(image, portrait.frame, borders)
    controls = crop_controls(coefficients, plan.opened, camera)
    crops = [
        Crop(
            matrix,
            cv.warpAffine(image, matrix, (size, size), flags=cv.INTER_AREA),
            cv.warpAffine(mask, matrix, (size, size), flags=cv.INTER_AREA),
            control,
        )
        for (matrix, size), control in zip(crop_matrices(plan.points), controls, strict=True)
    ]
    cut = (crops[0], crops[1], crops[2])
    if not traced:
        return WarpedFrame(image, mask, cut)
    field = enlarge(relief)
    field[place][solid] = flow[solid]
    return WarpedFrame(image, mask, cut, field, _carried(portrait.frame, image, field))


def _pin(image: Uint8Image, photo: Uint8Image, borders: Borders) -> None:
    """Let a frame run over into the photo at some borders, in place."""
    away = border_distance(FRAME, borders)
    rim = away < PINNED[0]
    share = smoothstep(2.0, PINNED[0], away[rim])[:, None]
    image[rim] = (photo[rim] + share * (image[rim].astype(np.float32) - photo[rim]) + 0.5).astype(
        np.uint8
    )


def _carried(photo: Uint8Image, image: Uint8Image, flow: Float32Array) -> Uint8Image:
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
def _largest(apart: Int16Array, flow: Float32Array, out: Uint8Image) -> None:
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
