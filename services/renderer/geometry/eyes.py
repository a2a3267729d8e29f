"""Eyes as a layer of their own: sclera behind, iris gliding over it, both under the lids."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit

from talkingface.renderer.arrays import BoolArray, Float32Array, Int64Array, Uint8Image
from talkingface.renderer.face.pyramid_fill import fill_outside
from talkingface.renderer.geometry.surface import smoothstep, smoothstep_of
from talkingface.renderer.opencv import cv

RINGS = (
    (33, 7, 163, 144, 145, 153, 154, 155, 133, 173, 157, 158, 159, 160, 161, 246),
    (263, 249, 390, 373, 374, 380, 381, 382, 362, 398, 384, 385, 386, 387, 388, 466),
)  # subject's right eye, left eye: corner, lower lid, corner, upper lid
IRIS = (468, 473)
BROWS = (
    (70, 63, 105, 66, 107, 55, 65, 52, 53, 46),
    (300, 293, 334, 296, 336, 285, 295, 282, 283, 276),
)


LUMA = np.array([0.299, 0.587, 0.114], np.float32)
CHEEKS = ((50, 205, 101), (280, 425, 330))
# Dark glasses: brightness over the cheeks' of the white and around the eye, from seen to unseen.
DARK_WHITE, DARK_AROUND = (0.5, 0.35), (0.32, 0.24)
SHADOW, SHADOW_REACH = 0.34, 0.012  # of the upper lid on the eyeball: depth, face widths
SCLERA_EVEN = 0.6  # how far the sclera's colours under lids and iris are all one
LASH_SHADE = 0.25  # how much darker the iris is at its rim
LID_DETAIL = 12.0  # largest difference in brightness that is skin and no spot
CHEEK = 0.2  # face widths below the eye, where skin like the lid's is seen


@dataclass(frozen=True)
class EyeTexture:
    """One eye without lids, in a box of the portrait's frame; colours float RGB 0..255."""

    origin: Float32Array  # (2,) frame pixel of the box's upper left pixel
    rest: Float32Array  # (H, W, 3) as photographed, completed under the lids
    ball: Float32Array  # (H, W, 4) sclera without the upper lid's shadow; 1 where the photo shows the eye
    iris: Float32Array  # (H, W, 4) completed disc, likewise; its opacity
    white: Float32Array  # (3,) the sclera's bright colour
    lid: (
        Float32Array  # (H, W, 4) the shut lid's skin in the eye's place; 1 over the eye, fading out
    )
    visible: float  # 0 behind dark glasses, else 1


@njit(cache=True)
def lid_shade(ring: Float32Array, face: float, wanted: BoolArray, out: Float32Array) -> None:
    """Light on an eyeball under its lids, 0..1.

    :param ring: (16, 2) the lids' edge as in `RINGS`, in pixels.
    :param face: the face's width in pixels; wanted (H, W): elsewhere `out` (H, W) stays.
    """
    sign = 1.0 if ring[8, 0] > ring[0, 0] else -1.0
    ax, ay = sign * (ring[8, 0] - ring[0, 0]), sign * (ring[8, 1] - ring[0, 1])
    length = np.sqrt(ax * ax + ay * ay) + 1e-6
    ax, ay = ax / length, ay / length
    along, rise = np.empty(17), np.empty(17)
    for i in range(17):
        x, y = ring[i % 16, 0] - ring[0, 0], ring[i % 16, 1] - ring[0, 1]
        along[i], rise[i] = x * ax + y * ay, x * ay - y * ax
    for row in range(out.shape[0]):
        for column in range(out.shape[1]):
            if not wanted[row, column]:
                continue
            x, y = column - ring[0, 0], row - ring[0, 1]
            u, v = x * ax + y * ay, x * ay - y * ax
            edge = np.zeros(2)  # upper, lower rim's height here
            for lower in range(2):
                first, last = (0, 8) if lower == 1 else (8, 16)
                for i in range(first, last):
                    a, b = along[i], along[i + 1]
                    if min(a, b) <= u <= max(a, b):
                        t = (u - a) / (b - a) if b != a else 0.0
                        edge[lower] = rise[i] + t * (rise[i + 1] - rise[i])
                        break
            above = max(edge[0] - v, 0.0) / (SHADOW_REACH * face)
            below = max(v - edge[1], 0.0) / (0.5 * SHADOW_REACH * face)
            across = 2 * u / (sign * length) - 1
            light = (1 - SHADOW * np.exp(-above)) * (1 - 0.15 * np.exp(-below))
            out[row, column] = light * (1 - 0.2 * min(abs(across), 1.2) ** 4)


def eye_texture(frame: Uint8Image, landmarks: Float32Array, eye: int, face: float) -> EyeTexture:
    """Take an eye (0 = subject's right) apart.

    :param frame: (512, 512, 3); landmarks (478, 2+) in its pixels; face: the face's width in them.
    """
    ring = landmarks[list(RINGS[eye]), :2]
    width = float(np.linalg.norm(ring[8] - ring[0]))
    low = np.floor(ring.min(0) - 0.5 * width).astype(int)
    high = np.ceil(ring.max(0) + 0.5 * width).astype(int)
    low, high = np.maximum(low, 0), np.minimum(high, np.array(frame.shape[1::-1]))
    box = frame[low[1] : high[1], low[0] : high[0]].astype(np.float32)
    height, span = box.shape[:2]
    inside = polygon_mask(ring - low, (height, span))
    trusted = cv.erode((inside > 0.5).astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    centre = landmarks[IRIS[eye], :2] - low
    around = landmarks[IRIS[eye] + 1 : IRIS[eye] + 5, :2] - low
    radius = float(np.linalg.norm(around - centre, axis=1).mean()) * 1.04
    ys, xs = np.mgrid[:height, :span].astype(np.float32)
    distance = np.hypot(xs - centre[0], ys - centre[1])
    disc = smoothstep(radius + 1.0, radius - 1.0, distance)
    shade = np.empty((height, span), np.float32)
    lid_shade((ring - low).astype(np.float32), face, np.ones(shade.shape, bool), shade)
    lit = box / shade[..., None]

    sclera, white = _sclera(box, lit, trusted, distance > radius * 1.12 + 0.7)
    seen = trusted & (distance < radius)
    iris = _iris(lit, centre, distance, seen, radius)
    whole = (sclera * (1 - disc[..., None]) + iris * disc[..., None]) * shade[..., None]
    rest = box * inside[..., None] + whole * (1 - inside[..., None])
    lid, lid_share = _lid_skin(frame, low, box, inside, landmarks[list(BROWS[eye]), :2] - low, face)
    lid *= _lid_form(ring - low, (height, span), face)[..., None]
    cheeks = landmarks[np.array(CHEEKS), :2].round().astype(int).clip(0, len(frame) - 1)
    skin = float(np.median(frame[cheeks[..., 1], cheeks[..., 0]] @ LUMA, 1).max())
    visible = _visible(white, box @ LUMA, skin, inside)
    return EyeTexture(
        origin=low.astype(np.float32),
        rest=rest,
        ball=np.dstack([sclera, inside]),
        iris=np.dstack([iris, disc]),
        white=white,
        lid=np.dstack([lid, lid_share]),
        visible=visible,
    )


def _visible(white: Float32Array, luma: Float32Array, skin: float, inside: Float32Array) -> float:
    """Whether an eye is to be seen, 0..1: not where it and all around it are dark, or it is blue.

    :param white: (3,) colour of the white; luma (H, W): brightness of the picture.
    :param skin: brightness of the cheeks.
    """
    near = cv.dilate(inside, np.ones((15, 15))) - cv.dilate(inside, np.ones((5, 5))) > 0.5
    around = float(np.median(luma[near])) if near.any() else skin
    level = float(white @ LUMA) / max(skin, 1.0)
    dark = smoothstep_of(DARK_WHITE, level) * smoothstep_of(DARK_AROUND, around / max(skin, 1.0))
    blue = float(white[2] - white[0]) / max(float(white.max()), 1.0)
    return (1 - dark) * (1 - smoothstep_of((0.15, 0.35), blue) * smoothstep_of((0.9, 0.6), level))


def _sclera(
    box: Float32Array, lit: Float32Array, trusted: BoolArray, beside: BoolArray
) -> tuple[Float32Array, Float32Array]:
    """The white of an eye continued under iris and lids, and its bright colour (3,).

    :param lit: the picture without the lids' shadow; beside: outside the iris.
    """
    luma = lit @ LUMA
    free = trusted & beside
    if free.sum() >= 8:
        white = box[free & (luma >= np.percentile(luma[free], 75))].mean(0)
        even = lit[free & (luma >= np.percentile(luma[free], 35))].mean(0)
        good = free & (np.abs(luma - even @ LUMA) < 0.3 * (even @ LUMA))
    else:
        # Hardly open: what little is bright around has to serve.
        around = lit[trusted] if trusted.any() else lit.reshape(-1, 3)
        level = around @ LUMA
        white = around[level >= np.percentile(level, 85)].mean(0)
        even, good = white, np.zeros_like(free)
    even = even * min(1.1 * float(white @ LUMA) / max(float(even @ LUMA), 1.0), 1.0)
    sclera = np.broadcast_to(even, box.shape).astype(np.float32)
    if good.any():
        spread = cv.GaussianBlur(fill_outside(lit, good.astype(np.float32)), (0, 0), 1.5)
        sclera = SCLERA_EVEN * sclera + (1 - SCLERA_EVEN) * spread
    keep = cv.GaussianBlur(free.astype(np.float32), (0, 0), 1.0) * free
    return sclera + keep[..., None] * (lit - sclera), white.astype(np.float32)


def _iris(
    lit: Float32Array, centre: Float32Array, distance: Float32Array, seen: BoolArray, radius: float
) -> Float32Array:
    """The iris as a whole disc: as seen, else mirrored from below, else its mean by radius."""
    profile = _radial_profile(lit, distance, seen, radius)
    index = np.clip(distance / radius * (len(profile) - 1), 0, len(profile) - 1)
    lower = np.floor(index).astype(int)
    upper = np.minimum(lower + 1, len(profile) - 1)
    share = (index - lower)[..., None]
    iris = profile[lower] * (1 - share) + profile[upper] * share
    iris *= 1 - LASH_SHADE * smoothstep(0.75, 1.0, distance / radius)[..., None]

    def known(mask: BoolArray) -> Float32Array:
        return (cv.GaussianBlur(mask.astype(np.float32), (0, 0), 1.0) * mask)[..., None]

    height, width = distance.shape
    xs = np.broadcast_to(np.arange(width, dtype=np.float32), distance.shape)
    ys = np.broadcast_to(2 * centre[1] - np.arange(height, dtype=np.float32)[:, None], xs.shape)
    places = np.ascontiguousarray(xs), np.ascontiguousarray(ys, np.float32)
    mirrored = cv.remap(lit, *places, cv.INTER_LINEAR, borderMode=cv.BORDER_REPLICATE)
    there = cv.remap(seen.astype(np.uint8), *places, cv.INTER_NEAREST) > 0
    iris += known(there & (distance < radius)) * (mirrored - iris)
    return (iris + known(seen) * (lit - iris)).astype(np.float32)


def _lid_skin(
    frame: Uint8Image,
    low: Int64Array,
    box: Float32Array,
    inside: Float32Array,
    brow: Float32Array,
    face: float,
) -> tuple[Float32Array, Float32Array]:
    """A lid's skin and its share, (H, W, 3) and (H, W).

    Colours continued over the eye from around it, leaving out lashes, brow and deep shadow, with
    the fine detail of the cheek below.
    """

    def grown(mask: Float32Array, reach: float) -> Float32Array:
        size = 2 * max(round(reach * face), 1) + 1
        return cv.dilate(mask, cv.getStructuringElement(cv.MORPH_ELLIPSE, (size, size)))

    luma = box @ LUMA
    hole = grown(inside, 0.032) > 0.1
    ring = (
        (grown(inside, 0.09) > 0.1)
        & ~hole
        & ~(grown(polygon_mask(brow, inside.shape[:2]), 0.015) > 0.1)
    )
    if not ring.any():
        return box.copy(), np.zeros_like(luma)
    ring &= luma >= np.percentile(luma[ring], 15)
    lid = fill_outside(box, ring.astype(np.float32))
    lid = cv.GaussianBlur(lid, (0, 0), 0.014 * face)
    rows = np.clip(np.arange(len(box)) + low[1] + round(CHEEK * face), 0, len(frame) - 1)
    cheek = frame[rows, low[0] : low[0] + box.shape[1]].astype(np.float32)
    detail = (cheek - cv.GaussianBlur(cheek, (0, 0), 0.01 * face)) @ LUMA
    lid += np.clip(detail, -LID_DETAIL, LID_DETAIL)[..., None]
    # The wider an eye stands open, the further up its lashes reach.
    opened = float(inside.sum()) / max(float(np.ptp(np.nonzero(inside.max(0))[0])), 1.0) / face
    over = (grown(inside, 0.012 + 0.35 * opened) > 0.5).astype(np.float32)
    share = cv.GaussianBlur(over, (0, 0), 0.014 * face)
    return np.maximum(lid, 0), share


def _lid_form(ring: Float32Array, shape: tuple[int, int], face: float) -> Float32Array:
    """Shading (H, W) of a shut lid over the eyeball: a crease, a bulge, the shadow at the rim."""
    along = (ring[8] - ring[0]) * (1 if ring[8, 0] > ring[0, 0] else -1)
    length = float(np.linalg.norm(along))
    along = along / length
    up = np.array([along[1], -along[0]])
    start = ring[0] if ring[8, 0] > ring[0, 0] else ring[8]
    upper, lower = (ring[[*range(8, 16), 0]] - start), (ring[:9] - start)
    ys, xs = np.mgrid[: shape[0], : shape[1]]
    x, y = xs - start[0], ys - start[1]
    across, height = x * along[0] + y * along[1], x * up[0] + y * up[1]

    def rim(edge: Float32Array) -> Float32Array:
        order = np.argsort(edge @ along)
        return np.interp(across, (edge @ along)[order], (edge @ up)[order])

    top, bottom = rim(upper) + 0.026 * face, rim(lower)
    place = (top - height) / np.maximum(top - bottom, 1e-3)  # 0 at the crease, 1 at the rim
    crease = 0.09 * np.exp(-(((top - height) / (0.009 * face)) ** 2))
    crease *= smoothstep(0.0, 0.25, across / length) * smoothstep(1.05, 0.8, across / length)
    bulge = 0.06 * np.exp(-(((place - 0.5) / 0.25) ** 2))
    under = 0.10 * smoothstep(0.7, 1.0, place)
    return (1 - crease + bulge - under).astype(np.float32)


def polygon_mask(ring: Float32Array, shape: tuple[int, ...]) -> Float32Array:
    """Soft-edged mask (H, W) of a polygon (N, 2) of pixels."""
    mask = np.zeros((shape[0] * 4, shape[1] * 4), np.uint8)
    cv.fillPoly(mask, [np.round((ring + 0.5) * 4 - 0.5).astype(np.int32)], 255)
    return cv.resize(mask, shape[::-1], interpolation=cv.INTER_AREA).astype(np.float32) / 255


def _radial_profile(
    box: Float32Array, distance: Float32Array, seen: BoolArray, radius: float, bins: int = 10
) -> Float32Array:
    """Mean colour of the iris by distance from its centre, (bins, 3)."""
    index = np.minimum((distance / radius * bins).astype(int), bins - 1)
    profile = np.zeros((bins, 3), np.float32)
    filled = np.zeros(bins, bool)
    for b in range(bins):
        here = seen & (index == b)
        if here.any():
            profile[b] = np.median(box[here], 0)  # the median leaves out the light's reflection
            filled[b] = True
    if not filled.any():
        return np.full((bins, 3), 40, np.float32)
    known = np.nonzero(filled)[0]
    for k in range(3):
        profile[:, k] = np.interp(np.arange(bins), known, profile[known, k])
    return profile


def look_up(
    texture: EyeTexture, image: Float32Array, back: Float32Array, size: tuple[int, int]
) -> Float32Array:
    """A part of an eye's texture, (H, W, ...), for drawing.

    :param back: (2, 3) pixel of the answer -> frame pixel of the portrait; size: (H, W).
    """
    matrix = back.astype(np.float64)
    matrix[:, 2] -= texture.origin
    flags = cv.INTER_LINEAR | cv.WARP_INVERSE_MAP
    return cv.warpAffine(image, matrix, size[::-1], flags=flags, borderMode=cv.BORDER_REPLICATE)


@njit(cache=True)
def paint_eye(
    hole: BoolArray,
    rest: Float32Array,
    ball: Float32Array,
    iris: Float32Array,
    shade: Float32Array,
    moved: float,
    changed: float,
    drawn: Float32Array,
    new: Float32Array,
) -> None:
    """Colour the pixels between the lids, in place.

    :param hole: (H, W) these pixels; rest, ball, iris: parts of the texture there.
    :param shade: (H, W) light under the lids, from `lid_shade`.
    :param moved: 0 = the eye as photographed, 1 = sclera and iris drawn apart.
    :param changed: how far what the photo does not show counts as invented.
    :param drawn: (H, W, 3) and new (H, W): colours and how much of them is invented.
    """
    for y in range(hole.shape[0]):
        for x in range(hole.shape[1]):
            if not hole[y, x]:
                continue
            invented = max(np.float32(1) - ball[y, x, 3], np.float32(moved))
            disc = iris[y, x, 3]
            for k in range(3):
                colour = ball[y, x, k] + disc * (iris[y, x, k] - ball[y, x, k])
                colour *= shade[y, x]
                drawn[y, x, k] = colour + (np.float32(1) - invented) * (rest[y, x, k] - colour)
            new[y, x] = invented * np.float32(changed)


@njit(cache=True)
def paint_lid(
    skin: BoolArray,
    lid: Float32Array,
    ball: Float32Array,
    begun: float,
    lashes: Float32Array,
    lash: Float32Array,
    drawn: Float32Array,
    share: Float32Array,
    new: Float32Array,
) -> None:
    """Lay a closing lid and its lashes over an eye, in place.

    :param skin: (H, W) where the lids are; lid, ball: parts of the texture there.
    :param begun: how far the old rim and its lashes have gone, 0..1.
    :param lashes: (H, W) opacity of the lash line of colour `lash` (3,).
    :param share: (H, W) 1 where something is drawn; drawn, new: as in `paint_eye`.
    """
    for y in range(skin.shape[0]):
        for x in range(skin.shape[1]):
            over = np.float32(0)
            if skin[y, x]:
                over = max(lid[y, x, 3] * np.float32(begun), ball[y, x, 3])
            line = lashes[y, x]
            if over <= 0 and line <= 0:
                continue
            for k in range(3):
                colour = drawn[y, x, k] + over * (lid[y, x, k] - drawn[y, x, k])
                drawn[y, x, k] = colour + line * (lash[k] - colour)
            covered = max(over, line)
            if covered > 0.02:
                share[y, x] = 1
            new[y, x] = max(new[y, x], covered)
