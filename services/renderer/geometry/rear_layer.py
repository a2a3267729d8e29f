"""The layer behind the face: hair, neck and shoulders, completed where the face hides them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from talkingface.renderer.arrays import Float32Array, Int64Array, Uint8Image
from talkingface.renderer.face.pyramid_fill import fill_outside
from talkingface.renderer.geometry.surface import smoothstep
from talkingface.renderer.opencv import cv
from talkingface.renderer.pixels.layers import SOLID

# All by eye. Reaches are in pixels of the frame, colours in levels 0..255.
# Colours.
SURE = 0.97  # opacity of the person's certain pixels
MIN_OPACITY, TRUST, TRUST_FADE = 0.25, 0.15, 0.35  # from which the photo's own are computed
FACE_OUTLINE = 0.98  # opacity below which the person's outline goes with the face
WHOLE = 240  # opacity, 0..255, of pixels whose colours fill the hole
# Chin and neck.
CHIN = 0.045  # of the face's width: how far below the fitted chin its edge is looked for
CHIN_EDGE, CHIN_SKIN, CHIN_REST = 8, 4, 6  # levels of an edge; rows to the skin; rows beyond it
CHIN_NEIGHBOURS = 10  # columns to each side that have to agree
SHADES = (0.35, 1.15)  # of the face's colour that a neck may have
STRANGE = (0.22, 0.1)  # distance from these shades, over the colour, over which it is skin
CHIN_SHADE, CHIN_SHADE_REACH = 0.18, 36  # of the light that the chin keeps from the neck; rows
NECK_HALF, NECK_FADE = 0.9, 0.2  # of the face's half width that is neck; over how much it ends
NECK_OPACITY, NECK_OPACITY_FADE = 0.3, 0.4  # of the outline beside the neck, made harder
NECK_ROWS = (2, 8)  # rows below the jaw whose colour the neck has
NECK_SPREAD = (0.2, 0.08)  # their variation, over the skin's brightness, over which they are skin
RUN = 6  # pixels over which a filled neck runs over into the photo's
RUN_LIKENESS = (100, 40)  # difference over which it does
GRAIN, GRAIN_ROWS = 6.0, (40, 12)  # levels by which mirrored grain may change a fill; rows
# Rims of skin beside the jaw.
SKIN_REACH, SKIN_LIKENESS = 19, 0.7  # columns; distance from skin over that from the surroundings
SLIVER, SLIVER_REACH = 11, 45  # width of thin remains; how far from the jaw
EARS = 0.3  # of the face's height, above which ears may lie


def person_colours(frame: Uint8Image, matte: Float32Array, background: Uint8Image) -> Float32Array:
    """The person's own colours where hair and edge are half transparent, (H, W, 3) 0..255.

    Solves frame = matte * person + (1 - matte) * background; where next to nothing of the person
    is seen, the colours continue from within.
    """
    photo, behind = frame.astype(np.float32), background.astype(np.float32)
    opacity = matte[..., None]
    person = (photo - (1 - opacity) * behind) / np.maximum(opacity, MIN_OPACITY)
    person = np.clip(person, 0, 255)
    small = cv.resize(photo, None, fx=0.5, fy=0.5, interpolation=cv.INTER_AREA)
    solid = cv.resize(
        (matte > SURE).astype(np.float32), small.shape[1::-1], interpolation=cv.INTER_AREA
    )
    inner = cv.resize(fill_outside(small, solid), frame.shape[1::-1], interpolation=cv.INTER_LINEAR)
    trust = np.clip((matte - TRUST) / TRUST_FADE, 0, 1)[..., None]
    colours: Float32Array = person * trust + inner * (1 - trust)
    return colours


def build_rear(
    frame: Uint8Image,
    matte: Float32Array,
    background: Uint8Image,
    face: Float32Array,
    skull: Float32Array,
) -> tuple[Uint8Image, Uint8Image]:
    """Build hair, neck and shoulders as RGBA: as they are, and without jaw and cheeks.

    :param face: (H, W) 1 where the face hides what is behind it and may uncover it.
    :param skull: (H, W) 1 where neck and skull are, seen or not.
    :raises ValueError: the face lies outside the frame.
    """
    photo = np.dstack([person_colours(frame, matte, background), 255 * matte])
    hole = cv.dilate(face, np.ones((5, 5), np.uint8))
    # The person's outline goes with the face that makes it.
    outline = cv.dilate(face, np.ones((13, 13), np.uint8)) * (matte < FACE_OUTLINE)
    hole = np.maximum(hole, outline)
    hole = np.maximum(hole, _skin_beside(photo[..., :3], face, hole))
    hole = np.maximum(hole, _chin_beyond(frame, hole))
    if hole.max() <= 0.5:
        raise ValueError("the face lies outside the frame")
    filled = _fill_hole(photo, hole)
    _add_neck(filled, photo, hole, skull)
    soft = np.maximum(cv.GaussianBlur(hole, (0, 0), 1.0), _run_over(photo, filled, hole))
    filled -= photo
    filled *= soft[..., None]
    filled += photo
    filled[..., 3] = _without_slivers(filled, face)
    rear, without_face = _as_bytes(photo), _as_bytes(filled)
    invented = (rear != without_face).any(-1)
    without_face[invented, 3] = np.minimum(without_face[invented, 3], SOLID)
    return rear, without_face


def _as_bytes(values: Float32Array) -> Uint8Image:
    return np.clip(values + 0.5, 0, 255).astype(np.uint8)


def _fill_hole(photo: Float32Array, hole: Float32Array) -> Float32Array:
    """The person's colours and opacity (H, W, 4) continued over a hole (H, W)."""
    half = cv.resize(photo, None, fx=0.5, fy=0.5, interpolation=cv.INTER_AREA)
    shown = cv.resize(1 - hole, half.shape[1::-1], interpolation=cv.INTER_AREA) > 0.999
    # Colours come from the person alone, the opacity from everything around.
    person = shown & (half[..., 3] > WHOLE)
    colours = fill_outside(half[..., :3], person.astype(np.float32))
    opacity = fill_outside(half[..., 3:], shown.astype(np.float32))
    filled = np.concatenate([colours, opacity], 2)
    return np.asarray(cv.resize(filled, photo.shape[1::-1], interpolation=cv.INTER_LINEAR))


def _add_neck(
    filled: Float32Array, photo: Float32Array, hole: Float32Array, skull: Float32Array
) -> None:
    """Add neck and skull behind the face, in place: solid, but no wider than right below the jaw.

    It has the colour of the neck there, except at the sides, where hair hangs down.
    """
    colour, seen, like = _below(photo, hole)
    columns = np.nonzero(hole.max(0) > 0.5)[0]
    middle, half_width = columns.mean(), max(np.ptp(columns) / 2, 1)
    aside = np.abs(np.arange(len(seen)) - middle) / half_width
    central = np.clip((NECK_HALF - aside) / NECK_FADE, 0, 1)
    weight = (np.maximum(central, like) * seen).astype(np.float32)[:, None]
    # The chin shades it.
    depth = _lower_end(hole) - np.arange(len(hole), dtype=np.float32)[:, None]
    shade = 1 - CHIN_SHADE * smoothstep(0, CHIN_SHADE_REACH, depth)
    filled[..., :3] += weight * (colour * shade[..., None] - filled[..., :3])
    filled[..., :3] += (seen * like)[:, None] * _mirrored_grain(photo[..., :3], hole)
    opacity = np.clip((filled[..., 3] / 255 - NECK_OPACITY) / NECK_OPACITY_FADE, 0, 1)
    filled[..., 3] = 255 * np.maximum(opacity, skull * seen)


def _without_slivers(rear: Float32Array, face: Float32Array) -> Float32Array:
    """The opacity (H, W) of RGBA without thin remains of the jaw's outline below the ears.

    Only thin parts with the face's colour are removed: the edge of a collar stays.
    """
    around = cv.dilate(face, np.ones((SLIVER_REACH, SLIVER_REACH), np.uint8))
    around[: _row_below_ears(face)] = 0
    disc = cv.getStructuringElement(cv.MORPH_ELLIPSE, (SLIVER, SLIVER))
    opacity = np.ascontiguousarray(rear[..., 3])
    thin = opacity - np.minimum(cv.morphologyEx(opacity, cv.MORPH_OPEN, disc), opacity)
    inside = around > 0.5
    alike = np.zeros_like(opacity)
    alike[inside] = _like_skin(rear[inside, :3], np.median(rear[face > 0.5, :3], 0))
    alike = cv.GaussianBlur(cv.dilate(alike, np.ones((5, 5), np.uint8)), (0, 0), 1.5)
    remains: Float32Array = thin * alike
    return opacity - remains


def _row_below_ears(face: Float32Array) -> int:
    """Row of a face (H, W) below its ears."""
    rows = np.nonzero(face.max(1) > 0.5)[0]
    return int(rows.min() + EARS * np.ptp(rows)) if len(rows) else 0


def _skin_beside(colours: Float32Array, face: Float32Array, hole: Float32Array) -> Float32Array:
    """Where a rim of skin beside the jaw was left, for the face's edge is not known to the pixel.

    Below the ears only.
    """
    near = cv.dilate(face, np.ones((3, SKIN_REACH), np.uint8))
    small = cv.resize(colours, None, fx=0.25, fy=0.25, interpolation=cv.INTER_AREA)

    def continued_from(mask: Float32Array) -> Float32Array:
        weight = cv.resize(mask, small.shape[1::-1], interpolation=cv.INTER_AREA)
        filled = fill_outside(small, (weight > 0.99).astype(np.float32))
        large: Float32Array = cv.resize(filled, colours.shape[1::-1], interpolation=cv.INTER_LINEAR)
        return large

    skin = continued_from(cv.erode(face, np.ones((7, 7), np.uint8)))
    around = continued_from(1 - near)
    from_skin, from_around = np.abs(colours - skin).sum(-1), np.abs(colours - around).sum(-1)
    ring = (near > 0.5) & (hole < 0.5) & (from_skin < SKIN_LIKENESS * from_around)
    ring[: _row_below_ears(face)] = False
    rim: Float32Array = cv.dilate(ring.astype(np.float32), np.ones((3, 3), np.uint8))
    return rim


def _run_over(photo: Float32Array, filled: Float32Array, hole: Float32Array) -> Float32Array:
    """Weight (H, W) of a fill that runs on below the hole, where the photo is like it."""
    reach = np.ones((2 * RUN + 1, 1), np.uint8)
    below = cv.dilate(hole, reach, anchor=(0, 2 * RUN))
    below = cv.GaussianBlur(below, (0, 0), RUN / 2.5)
    apart = np.abs(photo[..., :3] - filled[..., :3]).max(-1)
    weight: Float32Array = below * smoothstep(*RUN_LIKENESS, cv.blur(apart, (11, 11)))
    return weight


def _lower_end(hole: Float32Array) -> Int64Array:
    """The last row of the hole in each column, (W,); the last row of all where there is none."""
    rows: Int64Array = len(hole) - 1 - np.argmax(hole[::-1] > 0.5, 0)
    return rows


def _chin_beyond(frame: Uint8Image, hole: Float32Array) -> Float32Array:
    """Where the chin goes on below the hole, (H, W), for the fit may be short of its edge.

    The strongest edge in the next few pixels, if it is one, and its neighbours agree.
    """
    height, width = hole.shape
    columns = np.nonzero(hole.max(0) > 0.5)[0]
    out = np.zeros_like(hole)
    if len(columns) == 0:
        return out
    reach = max(round(CHIN * np.ptp(columns)), 2)
    grey = cv.GaussianBlur(cv.cvtColor(frame, cv.COLOR_RGB2GRAY).astype(np.float32), (0, 0), 1.5)
    last = _lower_end(hole)
    rows = np.clip(last + np.arange(reach + 2)[:, None], 0, height - 1)
    steps = np.abs(grey[rows[2:], np.arange(width)] - grey[rows[:-2], np.arange(width)])
    found = np.where(steps.max(0) > CHIN_EDGE, steps.argmax(0) + 1, 0)
    # Below a chin lies skin; a collar's edge is not the chin's.
    row = np.minimum(last + found + CHIN_SKIN, height - 1)
    below = frame[row, np.arange(width)].astype(np.float32)
    likeness = _like_skin(below, np.median(frame[hole > 0.5], 0))
    found = np.where(likeness > 0.5, found, 0)[columns]
    agreed = _agreed(found)
    for column, beyond in zip(columns, agreed.round().astype(int), strict=True):
        if beyond > 0:
            out[last[column] : last[column] + beyond + CHIN_REST, column] = 1
    return out


def _agreed(found: Int64Array) -> Float32Array:
    """The median of what neighbouring columns (N,) found, smoothed."""
    padded = np.pad(found, CHIN_NEIGHBOURS, mode="edge")
    around = np.lib.stride_tricks.sliding_window_view(padded, 2 * CHIN_NEIGHBOURS + 1)
    agreed: Float32Array = np.median(around, 1)[None].astype(np.float32)
    smoothed: Float32Array = cv.GaussianBlur(agreed, (0, 0), 5)[0]
    return smoothed


def _mirrored_grain(colours: Float32Array, hole: Float32Array) -> Float32Array:
    """The neck's grain, mirrored at the jaw into the hole above it, (H, W, 3)."""
    height, width = hole.shape
    last = _lower_end(hole).astype(np.float32)
    last = cv.GaussianBlur(last[None], (0, 0), 4)[0]
    ys = np.arange(height, dtype=np.float32)[:, None]
    depth = last + 3 - ys  # rows above the edge
    fine = colours - cv.GaussianBlur(colours, (0, 0), 4)
    xs = np.broadcast_to(np.arange(width, dtype=np.float32), hole.shape)
    found = cv.remap(fine, xs, last + 3 + depth, cv.INTER_LINEAR, borderMode=cv.BORDER_REFLECT_101)
    weight = smoothstep(*GRAIN_ROWS, np.abs(depth)) * (depth > 0) * hole
    grain: Float32Array = np.clip(found, -GRAIN, GRAIN) * weight[..., None]
    return grain


class _Below(NamedTuple):
    """What is seen just below the hole in each column, (W,)."""

    colour: Float32Array  # (W, 3)
    person: Float32Array  # opacity
    skin: Float32Array  # how much it is like skin


def _below(photo: Float32Array, hole: Float32Array) -> _Below:
    """Look just below the hole. Collars and beards lend the neck no colour.

    :param photo: (H, W, 4) RGB and opacity, 0..255.
    """
    height, width = hole.shape
    covered = hole > 0.5
    rows = np.clip(_lower_end(hole) + np.arange(*NECK_ROWS)[:, None], 0, height - 1)
    below = photo[rows, np.arange(width)]
    opacity = below[..., 3:] / 255 * covered.any(0)[:, None]
    seen = opacity.mean(0)[:, 0]
    colour = (below[..., :3] * opacity).mean(0) / np.maximum(seen, 1e-3)[:, None]
    skin = np.median(photo[..., :3][covered], 0)
    like = _like_skin(colour, skin)
    spread = below[..., :3].std(0).mean(-1) / max(float(skin.mean()), 1)
    like *= smoothstep(*NECK_SPREAD, spread)  # a collar's edge is no skin, either
    colour = _smooth_columns(colour, seen * np.maximum(like, 1e-6))
    return _Below(colour, cv.blur(seen[None].astype(np.float32), (5, 1))[0], like)


def _smooth_columns(colour: Float32Array, weight: Float32Array) -> Float32Array:
    """Average the colours (W, 3) of neighbouring columns by their weights (W,).

    A crease or strand is not to become a stripe.
    """
    total = cv.GaussianBlur(weight[None], (0, 0), 6)[0]
    mean = cv.GaussianBlur((colour * weight[:, None])[None], (0, 0), 6)[0]
    mean /= np.maximum(total, 1e-9)[:, None]
    known = np.nonzero(total > min(0.1, 0.5 * float(total.max())))[0]
    if len(known):
        mean = np.stack([np.interp(np.arange(len(mean)), known, c[known]) for c in mean.T], 1)
    smoothed: Float32Array = cv.GaussianBlur(mean[None].astype(np.float32), (0, 0), 4)[0]
    return smoothed


def _like_skin(colours: Float32Array, skin: Float32Array) -> Float32Array:
    """How much colours (N, 3) are some shade of a face's colour (3,), (N,) 0..1."""
    shade = np.clip(colours @ skin / max(float(skin @ skin), 1), *SHADES)[:, None]
    strange = np.linalg.norm(colours - shade * skin, axis=1) / max(float(np.linalg.norm(skin)), 1)
    return smoothstep(*STRANGE, strange)
