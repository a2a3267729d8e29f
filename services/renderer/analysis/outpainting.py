"""What lies beyond a tightly cut photo: person and background, continued by their own patches."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from talkingface.renderer.analysis import completion, matting
from talkingface.renderer.analysis.outline import Known, continue_outline, known_rectangle
from talkingface.renderer.arrays import BoolArray, Float32Array, Int64Array, Uint8Image
from talkingface.renderer.face.pyramid_fill import fill_outside
from talkingface.renderer.opencv import cv
from talkingface.renderer.pixels.layers import MARGIN

# By eye. Reaches are in pixels of the frame, colours in levels 0..255.
_OWN = 0.95  # opacity from which a pixel shows nothing but the person
_MOSTLY = 0.6  # opacity from which a pixel lends the person its colours
# Pixels over which a border's step is averaged along it, and fades outwards; levels from which it
# is no step of light, but one from skin to hair, and stays. Light first, then detail.
_STEPS = ((6.0, 18.0, 30.0), (1.2, 4.0, 120.0))
_AXIS = (10, 152)  # landmarks of the forehead's upper end and the chin
# Landmarks around brows, eyes, nose and mouth, and how far from them skin may be repeated.
_FEATURES = (70, 63, 105, 66, 107, 336, 296, 334, 293, 300, 33, 263, 61, 291, 17, 84, 314)
_AROUND = 15
_HAIRLINE = 1.15  # height of the hairline, at most, over that of the face, both above its middle
_NEARNESS = 25000.0  # see `completion.complete`
_LEAST = 400  # pixels that have to show the person, hair or the background to be continued


class CompletedPhoto(NamedTuple):
    """A portrait's frame and what surrounds it, completed beyond the photo."""

    frame: Uint8Image  # (512, 512, 3) RGB
    matte: Float32Array  # (512, 512) opacity of the person, 0..1
    background: Uint8Image  # (512, 512, 3) RGB, the person removed
    # (704, 704, 4) the person alone, RGB and opacity 0..255, `MARGIN` pixels beyond the frame.
    surroundings: Uint8Image


def complete_photo(
    canvas: Uint8Image, known: BoolArray, matte: Float32Array, face: Float32Array
) -> CompletedPhoto:
    """Complete a photo where a frame and its margin reach beyond it.

    Where the photo is known, the frame is the photo.

    :param canvas: (704, 704, 3) the frame and `MARGIN` pixels around it; any colours beyond the
        photo.
    :param known: (704, 704) where it is the photo.
    :param matte: (704, 704) opacity of the person, of which only what is `known` counts.
    :param face: (N, 2) landmarks, in pixels of the canvas.
    """
    rectangle = known_rectangle(known)
    matte = continue_outline(matte, rectangle, float(face[_AXIS, 0].mean()))
    person = _person(canvas, known, matte, face)
    background = _background(canvas, known, matte)
    opacity = matte[..., None]
    mixed = person * opacity + background * (1 - opacity)
    shown = np.where(known[..., None], canvas, mixed).astype(np.float32)
    composed = _as_bytes(_without_steps(shown, rectangle))
    inner = (slice(MARGIN, -MARGIN),) * 2
    frame = np.ascontiguousarray(composed[inner])
    matte_of_frame = np.ascontiguousarray(matte[inner])
    # Strands of hair inside the photo keep their colours without the background's.
    share = opacity * known[..., None]
    person = np.where(opacity > _OWN, composed, person * (1 - share) + composed * share)
    return CompletedPhoto(
        frame,
        matte_of_frame,
        matting.inpaint_background(frame, matte_of_frame, np.zeros_like(matte_of_frame)),
        _as_bytes(np.dstack([person, 255 * matte])),
    )


def _as_bytes(image: Float32Array) -> Uint8Image:
    return np.clip(image + 0.5, 0, 255).astype(np.uint8)


def _person(
    canvas: Uint8Image, known: BoolArray, matte: Float32Array, face: Float32Array
) -> Float32Array:
    """The person's colours, (S, S, 3), wherever the matte is not empty."""
    # Eyes, nose and mouth must not appear a second time.
    features = _hull(face[_FEATURES, :], known.shape)
    features |= cv.dilate(features.astype(np.uint8), np.ones((_AROUND, _AROUND), np.uint8)) > 0
    own = known & _eroded(matte > _MOSTLY, 3)
    wanted = ~known & (cv.dilate(matte, np.ones((5, 5), np.uint8)) > 0)
    # Skin goes on up to where the hairline is at most, and above it what grows beside the face.
    raised = face.copy()
    middle = (face[:, 1].min() + face[:, 1].max()) / 2
    raised[:, 1] += (_HAIRLINE - 1) * np.minimum(face[:, 1] - middle, 0)
    upper = np.arange(len(known))[:, None] < middle
    hair = own & upper & ~_hull(face, known.shape)
    above = wanted & upper & ~_hull(raised, known.shape)
    if hair.sum() < _LEAST:
        above[:] = False
    below = wanted & ~above
    kinds = np.where(own, np.where(features, 3, 0), np.where(below, 1, 2))
    colours = _continued(canvas, kinds)
    if not above.any():
        return colours
    kinds = np.where(hair, 0, np.where(own | below, 3, np.where(above, 1, 2)))
    return _continued(_as_bytes(colours), kinds)


def _hull(points: Float32Array, shape: tuple[int, ...]) -> BoolArray:
    """Where an image of some shape shows the convex hull of points (N, 2)."""
    out = np.zeros(shape, np.uint8)
    cv.fillConvexPoly(out, cv.convexHull(points.round().astype(np.int32)), (1,))
    return out > 0


def _background(canvas: Uint8Image, known: BoolArray, matte: Float32Array) -> Float32Array:
    """The background's colours, (S, S, 3), wherever the matte is not full."""
    own = known & _eroded(matte < 1 - _MOSTLY, 7)
    wanted = ~known & (cv.erode(matte, np.ones((5, 5), np.uint8)) < 1)
    return _continued(canvas, np.where(own, 0, np.where(wanted, 1, 2)))


def _eroded(flags: BoolArray, size: int) -> BoolArray:
    kernel = np.ones((size, size), np.uint8)
    eroded: BoolArray = cv.erode(flags.astype(np.uint8), kernel, borderValue=1) > 0
    return eroded


def _continued(canvas: Uint8Image, hole: Int64Array) -> Float32Array:
    """Colours (S, S, 3), by patches from nearby.

    :param hole: (S, S) as in `completion.complete`.
    """
    own = (hole == 0) | (hole == 3)
    colours = canvas.astype(np.float32)
    if own.sum() < _LEAST:
        return colours
    guess = fill_outside(colours, own.astype(np.float32))
    kinds = hole.astype(np.uint8)
    patched, _ = completion.complete(canvas, guess, kinds, len(canvas) // 2, _NEARNESS)
    return np.where((hole == 1)[..., None], patched, guess).astype(np.float32)


def _without_steps(image: Float32Array, known: Known) -> Float32Array:
    """Even out steps of light or colour at the border of what is known, beyond it.

    :param image: (S, S, 3); inside the rectangle it stays as it is.
    """
    out = image.copy()
    height, width = image.shape[:2]
    top, bottom = known.rows.start, height - known.rows.stop
    left, right = known.columns.start, width - known.columns.stop
    # Sides first, then above and below over the whole width.
    rows = out[known.rows].swapaxes(0, 1)
    for beyond, part in ((left, rows), (right, rows[::-1]), (top, out), (bottom, out[::-1])):
        if beyond:
            _even_out(part, beyond)
    return out


def _even_out(rows: Float32Array, beyond: int) -> None:
    """Even out the step at a border, in place.

    :param rows: (N, W, 3), of which the first `beyond` lie outside.
    """
    away = np.arange(beyond, 0, -1, dtype=np.float32)
    for along, fade, most in _STEPS:
        step = (rows[beyond] - rows[beyond - 1])[None]
        step = cv.GaussianBlur(step, (0, 0), sigmaX=along, sigmaY=1e-3)
        step /= 1 + (np.abs(step).max(-1, keepdims=True) / most) ** 4
        rows[:beyond] += np.exp((1 - away) / fade)[:, None, None] * step
