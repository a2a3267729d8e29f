"""The rear layer continued beyond the frame."""

from __future__ import annotations

import numpy as np

from talkingface.renderer.arrays import Float32Array, Uint8Image, runs
from talkingface.renderer.face.pyramid_fill import fill_outside
from talkingface.renderer.geometry.surface import smoothstep
from talkingface.renderer.opencv import cv
from talkingface.renderer.pixels.layers import MARGIN, SOLID

# By eye.
SMOOTH_FROM = (4, 56)  # pixels beyond the frame over which mirrored colours become smooth
CUT = 12  # rows used to extrapolate the outline above the frame
STEP_FADE = 24.0  # pixels beyond the frame over which a step at its edge fades to 1/e
STEP_ALONG = 5  # pixels along the edge over which it is averaged


def extend(rear: Uint8Image, surroundings: Uint8Image | None) -> Uint8Image:
    """Continue RGBA (H, W, 4) beyond the frame, for heads that move off or away from it.

    :param surroundings: (H + 2 MARGIN, W + 2 MARGIN, 4), the person beyond the frame as far as the
        photo shows it or it was completed; None: `extrapolate`.
    """
    if surroundings is None:
        return extrapolate(rear)
    height, width = rear.shape[:2]
    inner = np.s_[MARGIN : MARGIN + height, MARGIN : MARGIN + width]
    # What the layer has changed at the frame's edge, as under a chin, goes on a little beyond it.
    step = rear.astype(np.float32) - surroundings[inner]
    step = cv.blur(step, (STEP_ALONG, STEP_ALONG), borderType=cv.BORDER_REPLICATE)
    step = cv.copyMakeBorder(step, *(MARGIN,) * 4, cv.BORDER_REPLICATE)
    inside = np.zeros(surroundings.shape[:2], np.uint8)
    inside[inner] = 1
    away = cv.distanceTransform(1 - inside, cv.DIST_C, 3)
    out = surroundings + step * np.exp(-away / STEP_FADE)[..., None]
    out[..., 3] = np.minimum(out[..., 3], SOLID)
    extended: Uint8Image = np.clip(out + 0.5, 0, 255).astype(np.uint8)
    extended[inner] = rear
    return extended


def extrapolate(rear: Uint8Image) -> Uint8Image:
    """Continue RGBA (H, W, 4) beyond the frame by itself.

    Colours are mirrored right at the edge and soon become smooth, so that no mirrored button shows.
    The outline goes straight on, but hair that the upper edge has cut is closed by a low dome.
    """
    height, width = rear.shape[:2]
    around = (MARGIN,) * 4
    out: Uint8Image = cv.copyMakeBorder(rear, *around, cv.BORDER_REFLECT_101)
    outline = cv.copyMakeBorder(rear[..., 3], *around, cv.BORDER_REPLICATE)
    inside = cv.copyMakeBorder(np.ones((height, width), np.uint8), *around, cv.BORDER_CONSTANT)
    half = cv.resize(out[..., :3], None, fx=0.5, fy=0.5, interpolation=cv.INTER_AREA)
    seen = cv.resize(inside, half.shape[1::-1], interpolation=cv.INTER_AREA).astype(np.float32)
    smooth = fill_outside(half.astype(np.float32), seen)
    smooth = cv.resize(smooth, out.shape[1::-1], interpolation=cv.INTER_LINEAR)
    away = cv.distanceTransform(1 - inside, cv.DIST_C, 3)
    weight = smoothstep(*SMOOTH_FROM, away)
    for k in range(3):
        out[..., k] = out[..., k] * (1 - weight) + smooth[..., k] * weight + 0.5
    up = np.arange(MARGIN, 0, -1, dtype=np.float32)[:, None]
    dome = _dome(outline[MARGIN:])
    outline[:MARGIN] = (outline[:MARGIN] * np.clip(dome - up + 1, 0, 1)).astype(np.uint8)
    out[..., 3] = np.where(inside > 0, outline, np.minimum(outline, SOLID))
    return out


def _dome(opacity: Uint8Image) -> Float32Array:
    """How far (W,) an outline that the upper edge cuts goes on above it, closed by parabolas.

    How fast the outline narrows towards its first row determines how soon it closes: the square of
    a parabola's width grows linearly from its top.

    :param opacity: (H, W).
    """
    below = min(CUT, len(opacity) - 1)
    touching, lower = opacity[0] > 127, opacity[below] > 127
    out = np.zeros(len(touching), np.float32)
    for first, last in runs(touching):
        middle = (first + last) // 2
        wide = next((b - a for a, b in runs(lower) if a <= middle < b), last - first)
        radius = (last - first) / 2
        grown = (wide / 2) ** 2 - radius**2
        height = below * radius**2 / max(grown, 1e-3)
        across = (np.arange(first, last) + 0.5 - first - radius) / radius
        height = min(height, 0.5 * radius, MARGIN - 8)
        out[first:last] = height * np.sqrt(np.maximum(1 - across**2, 0))
    return out
