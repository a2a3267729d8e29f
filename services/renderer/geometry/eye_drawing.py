"""Eyes and lids, drawn into the holes of the face."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from talkingface.contract.motion import ARKIT_NAMES
from talkingface.renderer.arrays import Float32Array
from talkingface.renderer.geometry.canvas import Canvas
from talkingface.renderer.geometry.expression import gaze_shift
from talkingface.renderer.geometry.eyes import LUMA, RINGS, EyeTexture, rims_of
from talkingface.renderer.geometry.frame import FLIP
from talkingface.renderer.geometry.frame_plan import FramePlan
from talkingface.renderer.geometry.portrait import BLINKS, PreparedPortrait
from talkingface.renderer.geometry.projection import plane_map
from talkingface.renderer.geometry.supersampling import (
    Part,
    Region,
    begin_drawing,
    landmarks_of,
    part_of,
)
from talkingface.renderer.geometry.surface import smoothstep_of
from talkingface.renderer.geometry.topology import topology
from talkingface.renderer.opencv import cv
from talkingface.renderer.pixels.eyes import Eye, Lashes, Rims, write_hull

# Coefficients that move the lids of each eye: subject's right, left.
LID_COLUMNS = tuple(
    np.array(
        [
            i
            for i, name in enumerate(ARKIT_NAMES)
            if name.startswith(("eye", "cheekSquint")) and name.endswith(side)
        ]
    )
    for side in ("Right", "Left")
)
# All by eye.
OPEN_MARGIN, CLOSING_MARGIN = 6, 0.06  # around an open eye, pixels; a closing one, face widths
LIDS_CHANGED = 0.05  # of a lid's coefficient at which the eye counts as changed
SHUT = 0.7  # blink from which on a photo's eyes count as shut
LASHES_BY = 2.5  # the lash line's opacity for each unit of closing, up to 1
RIM_GONE = (0.0, 0.3)  # closing over which the photo's old rim and its lashes go
LASH_LINE = 0.0135  # face widths: its thickness
LASH_DARK = 0.2  # of the skin's brightness: the lash line's at most
LASH = 0.02  # face widths: the longest lashes as seen on a shut lid
LASH_SOFT, LASH_SOFT_PIXELS = 0.005, 0.7  # face widths, pixels at least: softness of its edge
LID_SHADOW, LID_SHADOW_SOFT, LID_SHADOW_OPACITY = 0.006, 0.016, 0.3  # below the line, face widths
LASH_STEPS = 13  # points along the lash line
HULL_MARGIN = np.float32(2)  # pixels around the lids' edge where no skin is a hole between them


def draw_eye(
    portrait: PreparedPortrait, plan: FramePlan, canvas: Canvas, eye: int, draw_always: bool
) -> None:
    """Draw one eye and its lids into the frame on a canvas.

    :param eye: 0 = the subject's right, 1 = the left.
    :param draw_always: draw it even where the photo's own could be used.
    """
    closing = _closing(portrait, plan, eye, draw_always)
    region, ring = _region(portrait, plan, eye, closing, canvas.side)
    part = _eye_part(eye)
    uv = np.ascontiguousarray(plan.uv[part.vertices].T)
    drawing = begin_drawing(canvas, region, part, plan.points, uv)
    rim = region.local(ring)
    unit = 2 * float(plan.camera.scale[0])
    scene = _scene(portrait, plan, canvas, eye, region, rim, closing, draw_always)
    lashes = _lashes(rim, unit, min(LASHES_BY * closing, 1)) if closing > 0 else _NO_LASHES
    strokes, soft, shadow, shadow_soft = lashes
    lashes = Lashes(canvas.upload(strokes), soft, canvas.upload(shadow), shadow_soft)
    canvas.kernels.draw_eye(
        scene, lashes, drawing, region.left, region.top, canvas.image, canvas.mask
    )


@lru_cache(maxsize=2)
def _eye_part(eye: int) -> Part:
    return part_of(topology().eyes[eye])


def _scene(
    portrait: PreparedPortrait,
    plan: FramePlan,
    canvas: Canvas,
    eye: int,
    region: Region,
    rim: Float32Array,
    closing: float,
    draw_always: bool,
) -> Eye:
    """What the pixels of an eye are made of, as the canvas's kernels take it.

    :param rim: (16, 2) its lids' edge in the region.
    """
    upload, resident = canvas.upload, canvas.resident
    texture = portrait.eyes[eye]
    moved, changed, shift = _changes(portrait, plan, eye, draw_always)
    to_texture = _to_photo(portrait, plan, eye, region)
    to_texture[:, 2] -= texture.origin
    corners = cv.convexHull(rim)[:, 0]
    hull = np.empty((len(corners) + 4, 3), np.float32)
    write_hull(corners, HULL_MARGIN, hull)
    heights, start, along, *rest = rims_of(rim, 2 * float(plan.camera.scale[0]))
    return Eye(
        resident(portrait.layers.photo),
        resident(texture.rest),
        resident(texture.ball),
        resident(texture.iris),
        resident(texture.lid),
        np.float32(texture.brightest),
        upload(to_texture),
        upload(shift),
        Rims(upload(heights), upload(start), upload(along), *rest),
        upload(hull),
        np.float32(moved),
        np.float32(changed),
        np.float32(smoothstep_of(RIM_GONE, closing)) if closing > 0 else np.float32(0),
        upload(_lash_colour(portrait, texture)),
    )


def _closing(portrait: PreparedPortrait, plan: FramePlan, eye: int, draw_always: bool) -> float:
    """How far an eye's lid has shut beyond the photo's, 0..1."""
    if draw_always and float(portrait.fit.coefficients[BLINKS[eye]]) > SHUT:
        return 1.0
    closing: float = plan.closing[eye]
    return closing


def _region(
    portrait: PreparedPortrait, plan: FramePlan, eye: int, closing: float, side: int
) -> tuple[Region, Float32Array]:
    """The region of an eye, and its lids' edge (16, 2) in pixels of the frame."""
    ring = landmarks_of(plan.points[:, :2], RINGS[eye])
    reach = np.zeros_like(ring)
    scale = plan.camera.scale[0]
    if closing > 0:
        # What is drawn begins above where the open lid would be.
        down = landmarks_of(portrait.lid_closure[eye], RINGS[eye])
        reach = closing * scale * (down @ plan.camera.rotation[0, :2].T * FLIP)
    margin = OPEN_MARGIN if closing == 0 else CLOSING_MARGIN * float(scale)
    return Region.around(np.concatenate([ring, ring - reach]), margin, side), ring


def _to_photo(
    portrait: PreparedPortrait, plan: FramePlan, eye: int, region: Region
) -> Float32Array:
    """Where the plane of an eye lies in the photo: (2, 3), pixel of the region to pixel of it."""
    depth = float(portrait.eye_depth[eye])
    (a, b, right), (c, d, down) = plane_map(portrait.fit.camera, plan.camera, depth).tolist()
    whole = a * d - b * c
    a, b, c, d = d / whole, -b / whole, -c / whole, a / whole
    # The region's pixels have half the size of the frame's.
    x, y = region.left - 0.25 - right, region.top - 0.25 - down
    back = [[a / 2, b / 2, a * x + b * y], [c / 2, d / 2, c * x + d * y]]
    return np.array(back, np.float32)


def _changes(
    portrait: PreparedPortrait, plan: FramePlan, eye: int, draw_always: bool
) -> tuple[float, float, Float32Array]:
    """What has changed in an eye.

    :return: whether the iris has moved, whether anything has, 0..1 each, and by how many pixels of
        the portrait the iris has moved, (2,).
    """
    shift, moved = gaze_shift(portrait, plan.coefficients, eye)
    moved = 1.0 if draw_always else moved
    columns = LID_COLUMNS[eye]
    change = np.abs(plan.coefficients[columns] - portrait.fit.coefficients[columns]).max()
    return moved, max(moved, min(float(change) / LIDS_CHANGED, 1.0)), shift


def _lash_colour(portrait: PreparedPortrait, texture: EyeTexture) -> Float32Array:
    """RGB (3,) of the lash line, which is dark against any skin."""
    lash = portrait.lash_colour
    darkness = min(LASH_DARK * texture.lid_brightness / max(float(lash @ LUMA), 1.0), 1.0)
    return lash * np.float32(darkness)


def _lashes(ring: Float32Array, face: float, opacity: float) -> Lashes:
    """The lashes of a closing lid.

    :param ring: (16, 2) the lids' edge as in `RINGS`, pixels.
    :param face: the face's width in pixels.
    :param opacity: of the lash line.
    """
    points = _LASH_POINTS @ ring
    # Thickest in the outer half, thin towards both corners.
    strokes = np.empty((2 * LASH_STEPS - 4, 6), np.float32)
    along, tips = strokes[: LASH_STEPS - 1], strokes[LASH_STEPS - 1 :]
    along[:, :2], along[:, 2:4] = points[:-1], points[1:]
    along[:, 4], along[:, 5] = LASH_LINE * face * _LASH_THICKNESS, opacity
    # Lashes hang down, further out the longer and the more outwards.
    away = 1.0 if ring[0, 0] > ring[8, 0] else -1.0
    hang = face * LASH * _LASH_OUTER
    tips[:, :2] = tips[:, 2:4] = points[3:]
    tips[:, 2] += (0.9 * away) * hang * _LASH_OUTER
    tips[:, 3] += hang
    tips[:, 4], tips[:, 5] = 0.5, 0.6 * opacity
    shadow = along.copy()
    shadow[:, [1, 3]] += LID_SHADOW * face
    shadow[:, 5] = LID_SHADOW_OPACITY * opacity
    soft = max(LASH_SOFT * face, LASH_SOFT_PIXELS)
    return Lashes(strokes, np.float32(soft), shadow, np.float32(LID_SHADOW_SOFT * face))


def _lash_points() -> Float32Array:
    """Weights (LASH_STEPS, 16) of the lids' edge for points along the lash line."""
    upper = np.eye(16, dtype=np.float32)[[*range(10, 16), 0]]  # no lashes at the inner corner
    steps = np.linspace(0, len(upper) - 1, LASH_STEPS)
    points = [np.interp(steps, np.arange(len(upper)), weights) for weights in upper.T]
    return np.stack(points, 1).astype(np.float32)


_LASH_POINTS = _lash_points()
_LASH_OUTER = np.linspace(0, 1, LASH_STEPS, dtype=np.float32)[3:]  # 1 at the outer corner
_LASH_THICKNESS = np.sin(np.pi * (0.9 * np.linspace(0, 1, LASH_STEPS)[:-1] + 0.04)) ** 0.7
_NO_STROKES = np.empty((0, 6), np.float32)
_NO_LASHES = Lashes(_NO_STROKES, np.float32(1), _NO_STROKES, np.float32(1))
