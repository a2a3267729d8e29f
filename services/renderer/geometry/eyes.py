"""Eyes as a layer of their own: sclera behind, iris gliding over it, both under the lids."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from talkingface.renderer.geometry.image import cv
from talkingface.renderer.geometry.plates import fill_outside
from talkingface.renderer.geometry.surface import smoothstep

Array = NDArray[np.float32]
Image = NDArray[np.uint8]

RINGS = (
    (33, 7, 163, 144, 145, 153, 154, 155, 133, 173, 157, 158, 159, 160, 161, 246),
    (263, 249, 390, 373, 374, 380, 381, 382, 362, 398, 384, 385, 386, 387, 388, 466),
)  # subject's right eye, left eye: corner, lower lid, corner, upper lid
IRIS = (468, 473)
BROWS = (
    (70, 63, 105, 66, 107, 55, 65, 52, 53, 46),
    (300, 293, 334, 296, 336, 285, 295, 282, 283, 276),
)


@dataclass(frozen=True)
class EyeTexture:
    """One eye without lids, in a box of the portrait's frame; colours float RGB 0..255."""

    origin: Array  # (2,) frame pixel of the box's upper left pixel
    rest: Array  # (H, W, 3) as photographed, completed under the lids
    sclera: Array  # (H, W, 3) without iris
    iris: Array  # (H, W, 3) completed disc
    disc: Array  # (H, W) opacity of the iris
    inside: Array  # (H, W) 1 where the photo shows the eye
    white: Array  # (3,) the sclera's bright colour
    lid: Array  # (H, W, 3) smooth skin in the eye's place
    lid_share: Array  # (H, W) 1 over the eye, fading out around it


def eye_texture(frame: Image, landmarks: Array, eye: int, face: float) -> EyeTexture:
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

    luma = box @ np.array([0.299, 0.587, 0.114], np.float32)
    free = trusted & (distance > radius * 1.12 + 0.7)
    if free.sum() >= 8:
        # Corners and lash shadows are darker than the white itself.
        level = np.percentile(luma[free], 40)
        good = free & (luma >= level)
        white = box[free & (luma >= np.percentile(luma[free], 75))].mean(0)
    else:
        good = (
            trusted & (luma >= np.percentile(luma[trusted], 85)) if trusted.any() else inside > 0.5
        )
        white = box[good].mean(0) if good.any() else box.mean((0, 1))
    sclera = fill_outside(box, good.astype(np.float32))
    sclera = cv.GaussianBlur(sclera, (0, 0), 1.0)
    outside_iris = free.astype(np.float32)[..., None]
    sclera = box * outside_iris + sclera * (1 - outside_iris)

    seen = trusted & (distance < radius)
    profile = _radial_profile(box, distance, seen, radius)
    index = np.clip(distance / radius * (len(profile) - 1), 0, len(profile) - 1)
    lower = np.floor(index).astype(int)
    upper = np.minimum(lower + 1, len(profile) - 1)
    share = (index - lower)[..., None]
    round_iris = profile[lower] * (1 - share) + profile[upper] * share
    keep = cv.GaussianBlur(seen.astype(np.float32), (0, 0), 0.8) * seen
    iris = box * keep[..., None] + round_iris * (1 - keep[..., None])
    whole = sclera * (1 - disc[..., None]) + iris * disc[..., None]
    rest = box * inside[..., None] + whole * (1 - inside[..., None])
    lid, lid_share = _lid_skin(box, luma, inside, landmarks[list(BROWS[eye]), :2] - low, face)
    return EyeTexture(
        low.astype(np.float32),
        rest,
        sclera,
        iris,
        disc,
        inside,
        white.astype(np.float32),
        lid,
        lid_share,
    )


def _lid_skin(
    box: Array, luma: Array, inside: Array, brow: Array, face: float
) -> tuple[Array, Array]:
    """Skin continued over the eye from around it, leaving out lashes, brow and deep shadow."""

    def grown(mask: Array, reach: float) -> Array:
        size = 2 * max(round(reach * face), 1) + 1
        return cv.dilate(mask, cv.getStructuringElement(cv.MORPH_ELLIPSE, (size, size)))

    hole = grown(inside, 0.025) > 0.1
    ring = (
        (grown(inside, 0.09) > 0.1)
        & ~hole
        & ~(grown(polygon_mask(brow, inside.shape[:2]), 0.015) > 0.1)
    )
    if not ring.any():
        return box, np.zeros_like(luma)
    ring &= luma >= np.percentile(luma[ring], 35)
    lid = fill_outside(box, ring.astype(np.float32))
    lid = cv.GaussianBlur(lid, (0, 0), 0.02 * face)
    share = cv.GaussianBlur((grown(inside, 0.02) > 0.5).astype(np.float32), (0, 0), 0.01 * face)
    return lid, share


def polygon_mask(ring: Array, shape: tuple[int, ...]) -> Array:
    """Soft-edged mask (H, W) of a polygon (N, 2) of pixels."""
    mask = np.zeros((shape[0] * 4, shape[1] * 4), np.uint8)
    cv.fillPoly(mask, [np.round((ring + 0.5) * 4 - 0.5).astype(np.int32)], 255)
    return cv.resize(mask, shape[::-1], interpolation=cv.INTER_AREA).astype(np.float32) / 255


def _radial_profile(
    box: Array, distance: Array, seen: NDArray[np.bool_], radius: float, bins: int = 10
) -> Array:
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


def draw_eye(texture: EyeTexture, where: Array, shift: Array, moved: float) -> tuple[Array, Array]:
    """Look up an eye's colours.

    :param where: (H, W, 2) frame pixels of the portrait that the eye's pixels come from.
    :param shift: (2,) how far the iris moved, in the same pixels.
    :param moved: 0 = the eye as photographed, 1 = sclera and iris drawn apart.
    :return: colours (H, W, 3) and how much of each pixel is invented (H, W).
    """
    at = where - texture.origin

    def look(image: Array, place: Array) -> Array:
        return cv.remap(
            image, place[..., 0], place[..., 1], cv.INTER_LINEAR, borderMode=cv.BORDER_REPLICATE
        )

    rest = look(texture.rest, at)
    invented = 1 - look(texture.inside, at)
    if moved <= 0:
        return rest, invented
    glided = np.ascontiguousarray(at - shift.astype(np.float32))
    disc = look(texture.disc, glided)[..., None]
    drawn = look(texture.sclera, at) * (1 - disc) + look(texture.iris, glided) * disc
    return rest * (1 - moved) + drawn * moved, np.maximum(invented, moved)


def draw_lid(texture: EyeTexture, where: Array) -> tuple[Array, Array]:
    """Smooth skin (H, W, 3) for a shut lid and its share (H, W); `where` as in `draw_eye`."""
    at = where - texture.origin
    x, y = np.ascontiguousarray(at[..., 0]), np.ascontiguousarray(at[..., 1])
    skin = cv.remap(texture.lid, x, y, cv.INTER_LINEAR, borderMode=cv.BORDER_REPLICATE)
    share = cv.remap(texture.lid_share, x, y, cv.INTER_LINEAR, borderMode=cv.BORDER_CONSTANT)
    return skin, share
