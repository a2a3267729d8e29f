"""Eyes and lids, drawn into the holes of the face."""

from __future__ import annotations

import numpy as np
from numba import njit

from talkingface.contract.motion import ARKIT_NAMES
from talkingface.renderer.arrays import BoolArray, Float32Array, Uint8Image
from talkingface.renderer.geometry.expression import gaze_shift
from talkingface.renderer.geometry.eyes import (
    LUMA,
    RINGS,
    EyePixels,
    EyeTexture,
    LidPixels,
    lid_shade,
    paint_eye,
    paint_lid,
    sample_texture,
)
from talkingface.renderer.geometry.frame import FLIP
from talkingface.renderer.geometry.frame_plan import FramePlan
from talkingface.renderer.geometry.photo_sampling import sample_photo
from talkingface.renderer.geometry.portrait import BLINKS, PreparedPortrait
from talkingface.renderer.geometry.projection import plane_map
from talkingface.renderer.geometry.rasterizer import interpolate_attributes, rasterize_mesh
from talkingface.renderer.geometry.supersampling import DrawnPixels, Region, landmarks_of, merge
from talkingface.renderer.geometry.surface import smoothstep_of
from talkingface.renderer.geometry.topology import topology
from talkingface.renderer.opencv import cv

# Coefficients that move the lids of each eye: subject's right, left.
LID_COLUMNS = tuple(
    [
        i
        for i, name in enumerate(ARKIT_NAMES)
        if name.startswith(("eye", "cheekSquint")) and name.endswith(side)
    ]
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


def draw_eye(
    portrait: PreparedPortrait,
    plan: FramePlan,
    image: Uint8Image,
    mask: Uint8Image,
    eye: int,
    draw_always: bool,
) -> None:
    """Draw one eye and its lids into the frame, in place.

    :param eye: 0 = the subject's right, 1 = the left.
    :param draw_always: draw it even where the photo's own could be used.
    """
    closing = _closing(portrait, plan, eye, draw_always)
    region, ring = _region(portrait, plan, eye, closing)
    unit = 2 * float(plan.camera.scale[0])
    triangles = topology().eyes[eye]
    ids, weights = rasterize_mesh(region.local(plan.points), triangles, *region.size)
    rim = region.local(ring)
    lids = ids >= 0
    hole = _hole(rim, lids)
    if closing == 0 and not hole.any():
        return
    flow = interpolate_attributes(plan.uv, triangles, ids, weights)
    drawn = sample_photo(portrait, flow).astype(np.float32)
    to_photo = _to_photo(portrait, plan, eye, region)
    texture = portrait.eyes[eye]
    ball = sample_texture(texture, texture.ball, to_photo, region.size)
    weight = hole.astype(np.float32)
    pixels = DrawnPixels(drawn, weight, hole | lids, np.zeros_like(weight))
    if hole.any():
        moved, changed, shift = _changes(portrait, plan, eye, draw_always)
        gone = to_photo.copy()
        gone[:, 2] -= shift
        iris = sample_texture(texture, texture.iris, gone, region.size)
        rest = sample_texture(texture, texture.rest, to_photo, region.size)
        shade = np.empty(region.size, np.float32)
        lid_shade(rim, unit, hole, shade)
        paint_eye(EyePixels(hole, rest, ball, iris, shade), moved, changed, drawn, pixels.invented)
    if closing > 0:
        lid = sample_texture(texture, texture.lid, to_photo, region.size)
        lashes = min(LASHES_BY * closing, 1) * _lash_line(rim, region.size, unit)
        closed = LidPixels(lids, lid, ball, lashes, _lash_colour(portrait, texture))
        gone_rim = smoothstep_of(RIM_GONE, closing)
        paint_lid(closed, gone_rim, drawn, weight, pixels.invented)
    merge(image, mask, region.left, region.top, pixels)


def _closing(portrait: PreparedPortrait, plan: FramePlan, eye: int, draw_always: bool) -> float:
    """How far an eye's lid has shut beyond the photo's, 0..1."""
    if draw_always and float(portrait.fit.coefficients[BLINKS[eye]]) > SHUT:
        return 1.0
    closing: float = plan.closing[eye]
    return closing


def _region(
    portrait: PreparedPortrait, plan: FramePlan, eye: int, closing: float
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
    return Region.around(np.concatenate([ring, ring - reach]), margin), ring


def _hole(rim: Float32Array, lids: BoolArray) -> BoolArray:
    """The pixels (H, W) between the lids, whose edge is `rim` (16, 2)."""
    within = np.zeros(lids.shape, np.uint8)
    cv.fillPoly(within, [cv.convexHull(np.round(rim).astype(np.int32))], 1)
    within = cv.dilate(within, np.ones((5, 5), np.uint8))
    hole: BoolArray = ~lids & (within > 0)
    return hole


def _to_photo(
    portrait: PreparedPortrait, plan: FramePlan, eye: int, region: Region
) -> Float32Array:
    """Where the plane of an eye lies in the photo: (2, 3), pixel of the region to pixel of it."""
    depth = float(portrait.eye_depth[eye])
    back: Float32Array = cv.invertAffineTransform(
        plane_map(portrait.fit.camera, plan.camera, depth)
    )
    # The region's pixels have half the size of the frame's.
    back[:, 2] += back[:, :2] @ np.array([region.left - 0.25, region.top - 0.25])
    back[:, :2] /= 2
    return back


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
    skin = texture.lid[..., :3].reshape(-1, 3).mean(0) @ LUMA
    lash = portrait.lash_colour
    darkness = min(LASH_DARK * skin / max(float(lash @ LUMA), 1.0), 1.0)
    colour: Float32Array = (lash * darkness).astype(np.float32)
    return colour


def _lash_line(ring: Float32Array, size: tuple[int, int], face: float) -> Float32Array:
    """Opacity (H, W) of the lashes on a shut lid.

    :param ring: (16, 2) the lids' edge as in `RINGS`, pixels.
    :param face: the face's width in pixels.
    """
    upper = ring[[*range(10, 16), 0]]  # without the inner corner, where no lashes grow
    steps, outer = np.linspace(0, len(upper) - 1, LASH_STEPS), np.linspace(0, 1, LASH_STEPS)
    x = np.interp(steps, np.arange(len(upper)), upper[:, 0])
    y = np.interp(steps, np.arange(len(upper)), upper[:, 1])
    # Thickest in the outer half, thin towards both corners.
    thick = LASH_LINE * face * np.sin(np.pi * (0.9 * outer + 0.04)) ** 0.7
    opaque = np.ones(LASH_STEPS - 1)
    line = np.stack([x[:-1], y[:-1], x[1:], y[1:], thick[:-1], opaque], 1)
    # Lashes hang down, further out the longer and the more outwards.
    away = np.sign(ring[0, 0] - ring[8, 0])
    hang = face * LASH * outer
    thin, faint = np.full(LASH_STEPS, 0.5), np.full(LASH_STEPS, 0.6)
    tips = np.stack([x, y, x + hang * 0.9 * away * outer, y + hang, thin, faint], 1)
    strokes = np.concatenate([line, tips[3:]]).astype(np.float32)
    out = np.zeros(size, np.float32)
    _draw_strokes(strokes, max(LASH_SOFT * face, LASH_SOFT_PIXELS), out)
    # The lid's soft shadow below the line.
    line[:, [1, 3]] += LID_SHADOW * face
    line[:, 5] = LID_SHADOW_OPACITY
    _draw_strokes(line.astype(np.float32), LID_SHADOW_SOFT * face, out)
    return out


@njit(cache=True)
def _draw_strokes(strokes: Float32Array, soft: float, out: Float32Array) -> None:
    """Draw lines with soft edges, in place.

    :param strokes: (N, 6) from x, y to x, y, thickness in pixels, opacity.
    :param soft: pixels over which the edges fade.
    """
    height, width = out.shape
    for n in range(len(strokes)):
        ax, ay, bx, by, thick, opacity = strokes[n]
        reach = thick / 2 + soft
        dx, dy = bx - ax, by - ay
        length = max(dx * dx + dy * dy, np.float32(1e-6))
        for row in range(
            max(int(min(ay, by) - reach), 0), min(int(max(ay, by) + reach) + 2, height)
        ):
            first, last = max(int(min(ax, bx) - reach), 0), min(int(max(ax, bx) + reach) + 2, width)
            for column in range(first, last):
                t = ((column - ax) * dx + (row - ay) * dy) / length
                t = min(max(t, 0.0), 1.0)
                u, v = column - ax - t * dx, row - ay - t * dy
                edge = (reach - np.sqrt(u * u + v * v)) / (2 * min(soft, reach))
                weight = min(max(edge, 0.0), 1.0)
                weight = opacity * weight * weight * (3 - 2 * weight)
                out[row, column] = max(out[row, column], weight)
