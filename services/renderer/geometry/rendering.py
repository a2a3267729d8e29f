"""A portrait moved by geometry alone: fit once, then one dense warp a frame.

Three layers, back to front: the background; the rear layer (hair, ears, neck, shoulders), warped by
a depth proxy (`rear_flow`); the front layer, the face rasterised as a mesh whose every vertex has
texture coordinates in the photo, so that nose and jaw hide what is behind them. A side that a
turned portrait hides comes from a texture of its own (`occluded_side`). Eyes and mouth are drawn
into the holes of the mesh at twice the resolution. Where nothing moved, the frame is the photo.

Motion coefficients are absolute for the lips (0 = closed, at rest). Of the portrait's own
expression brows, cheeks and nose keep `pose.OWN_UPPER_FACE`, the mouth's shape at most
`pose.OWN_MOUTH`. Lids and gaze count from the portrait: eyeBlink 0 is the eye as photographed, 1 is
shut; eyeLook 0 is the portrait's own gaze.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from talkingface.renderer.arrays import Float32Array, Int16Array, Uint8Image, Uint32Array
from talkingface.renderer.compiler import njit
from talkingface.renderer.face.camera import Camera
from talkingface.renderer.geometry.canvas import Canvas
from talkingface.renderer.geometry.compositing import Face, compose
from talkingface.renderer.geometry.crops import Crop, cut_crops
from talkingface.renderer.geometry.expression import gaze_shift
from talkingface.renderer.geometry.eye_drawing import draw_eye
from talkingface.renderer.geometry.frame import FRAME
from talkingface.renderer.geometry.frame_plan import FramePlan, plan_frame
from talkingface.renderer.geometry.mouth_drawing import draw_mouth
from talkingface.renderer.geometry.portrait import PreparedPortrait
from talkingface.renderer.geometry.pose import target_pose
from talkingface.renderer.geometry.rear_flow import (
    PINNED,
    Borders,
    border_distance,
    identity_flow,
    pin_flow,
    upsample_flow,
)
from talkingface.renderer.geometry.reduction import reduced_plan
from talkingface.renderer.geometry.surface import smoothstep
from talkingface.renderer.geometry.tongue import AT_REST, Tongue
from talkingface.renderer.opencv import cv
from talkingface.renderer.pixels.packed import channels, unpack

STILL = 0.02  # pixels of motion below which a frame is the photo
PHOTO_RIM = 2.0  # pixels at a pinned border that are the photo's own, bit for bit
SAME, OTHER = 6, 18  # levels between a frame and the warped photo that count as the same; as other


@dataclass(frozen=True)
class WarpedFrame:
    """One frame as geometry alone makes it; of a canvas, valid until its next frame."""

    pixels: Uint32Array  # (512, 512) packed
    mask: Uint8Image  # (512, 512, 2), as in `Crop`
    crops: tuple[Crop, Crop, Crop]
    canvas: Canvas  # that it has been drawn on
    # Only when traced: where in the portrait's frame each pixel comes from, (512, 512, 2), and how
    # much of it is that pixel, (512, 512), 0..255; 0 where drawn, filled or extrapolated.
    flow: Float32Array | None = None
    flow_weight: Uint8Image | None = None

    @property
    def image(self) -> Uint8Image:
        """RGB (512, 512, 3), a copy."""
        return unpack(self.pixels)


def render(
    portrait: PreparedPortrait,
    motion: Float32Array,
    *,
    pinned: Borders | bool = False,
    traced: bool = False,
    canvas: Canvas | None = None,
) -> WarpedFrame:
    """Render one frame for one motion frame (60,).

    :param pinned: borders at which the frame stays the photo bit for bit, so that it can be pasted
        back: left, top, right, bottom; True for all.
    :param traced: also return where the pixels come from. Frames that are traced or pinned need a
        canvas of the CPU.
    :param canvas: memory of an earlier frame, which is overwritten; None allocates it.
    :raises ValueError: if motion has the wrong shape or is not finite.
    """
    coefficients, camera, tongue = target_pose(portrait, motion)
    return render_pose(
        portrait,
        coefficients,
        camera,
        tongue=tongue,
        pinned=pinned,
        traced=traced,
        canvas=canvas,
    )


def render_pose(
    portrait: PreparedPortrait,
    coefficients: Float32Array,
    camera: Camera,
    draw_always: bool = False,
    pinned: Borders | bool = False,
    traced: bool = False,
    canvas: Canvas | None = None,
    tongue: Tongue = AT_REST,
) -> WarpedFrame:
    """Render one frame for absolute coefficients (52,) and a camera in the portrait's frame.

    :param draw_always: draw mouth and eyes even where the photo's own could be used; for training
        on a portrait and itself.
    :param pinned: as in `render`, and so are `traced` and `canvas`.
    :param tongue: as in `plan_frame`.
    """
    canvas = canvas or Canvas()
    borders = _borders(pinned)
    plan = plan_frame(portrait, coefficients, camera, tongue)
    flow = pin_flow(plan.rear_flow, borders) if any(borders) else plan.rear_flow
    face, still = _draw(portrait, replace(plan, rear_flow=flow), canvas, draw_always, traced)
    if any(borders):
        pin(canvas.image, portrait.frame, borders)
    crops = cut_crops(canvas, plan, portrait.crops)
    if not traced:
        return WarpedFrame(canvas.image, canvas.mask, crops, canvas)
    dense = _trace(identity_flow() if still else flow, None if still else face)
    weight = _flow_weight(portrait.frame, unpack(canvas.image), dense)
    return WarpedFrame(canvas.image, canvas.mask, crops, canvas, dense, weight)


def render_reduced(
    portrait: PreparedPortrait,
    half: PreparedPortrait,
    motion: Float32Array,
    canvas: Canvas,
    pinned: Borders | bool = False,
) -> WarpedFrame:
    """Render the frame of `render` with half as many pixels along a side.

    :param half: of `reduced_portrait`.
    :param canvas: of `HALF` pixels a side.
    :param pinned: as in `render`; the pixels themselves are not pinned.
    """
    borders = _borders(pinned)
    plan = plan_frame(portrait, *target_pose(portrait, motion))
    if any(borders):
        plan = replace(plan, rear_flow=pin_flow(plan.rear_flow, borders))
    plan = reduced_plan(plan)
    _draw(half, plan, canvas)
    crops = cut_crops(canvas, plan, portrait.crops)
    return WarpedFrame(canvas.image, canvas.mask, crops, canvas)


def _borders(pinned: Borders | bool) -> Borders:
    return pinned if isinstance(pinned, tuple) else (pinned,) * 4


def _draw(
    portrait: PreparedPortrait,
    plan: FramePlan,
    canvas: Canvas,
    draw_always: bool = False,
    traced: bool = False,
) -> tuple[Face, bool]:
    """Draw a planned frame; return its front layer, and whether it is the photo."""
    face = compose(portrait, plan, plan.rear_flow, canvas, traced)
    for eye in range(2):
        draw_eye(portrait, plan, canvas, eye, draw_always)
    draw_mouth(portrait, plan, canvas, draw_always)
    # The photo has no opacity: a transparent frame is always composed.
    photo = not draw_always and not portrait.layers.transparent
    still = photo and _is_still(portrait, plan)
    if still:
        canvas.show(portrait.frame)
    return face, still


def _trace(flow: Float32Array, face: Face | None) -> Float32Array:
    """Where in the photo each pixel of the frame comes from, (512, 512, 2)."""
    dense = upsample_flow(flow)
    if face is not None:
        assert face.solid is not None
        dense[face.box][face.solid] = np.stack(face.flow, -1)[face.solid]
    return dense


def _is_still(portrait: PreparedPortrait, plan: FramePlan) -> bool:
    """Whether nothing has moved, so that the frame is the photo."""
    return plan.travel < STILL and gaze_shift(portrait, plan.coefficients, 0)[1] == 0


def pin(image: Uint32Array, photo: Uint8Image, borders: Borders) -> None:
    """Fade a packed frame into the photo (512, 512, 3) at some borders, in place."""
    away = border_distance(FRAME, borders)
    rim = away < PINNED[0]
    weight = smoothstep(PHOTO_RIM, PINNED[0], away[rim])[:, None]
    colours = channels(image)[..., :3]
    faded = photo[rim] + weight * (colours[rim].astype(np.float32) - photo[rim]) + 0.5
    colours[rim] = faded.astype(np.uint8)


def _flow_weight(photo: Uint8Image, image: Uint8Image, flow: Float32Array) -> Uint8Image:
    """How much of a frame is the photo's pixels along a flow, (512, 512), by comparison.

    Not pixel by pixel, for interpolation changes single ones, but with their neighbours.
    """
    warped = cv.remap(photo, flow, None, cv.INTER_LINEAR, borderMode=cv.BORDER_REFLECT_101)
    difference = cv.blur(cv.subtract(image, warped, dtype=cv.CV_16S), (3, 3))
    largest = np.empty((FRAME, FRAME), np.uint8)
    _largest_difference(difference, flow, largest)
    largest = cv.blur(cv.dilate(largest, np.ones((3, 3), np.uint8)), (5, 5))
    levels = 255 * smoothstep(OTHER, SAME, np.arange(256, dtype=np.float32)) + 0.5
    return np.asarray(cv.LUT(largest, levels.astype(np.uint8)), np.uint8)


@njit(cache=True)
def _largest_difference(difference: Int16Array, flow: Float32Array, out: Uint8Image) -> None:
    """Write the largest of three colours' differences, 255 where the flow leaves the photo."""
    height, width = out.shape
    for y in range(height):
        for x in range(width):
            u, v = flow[y, x, 0], flow[y, x, 1]
            if u < -0.5 or v < -0.5 or u > width - 0.5 or v > height - 0.5:
                out[y, x] = 255
                continue
            most = max(abs(difference[y, x, 0]), abs(difference[y, x, 1]), abs(difference[y, x, 2]))
            out[y, x] = min(most, 255)
