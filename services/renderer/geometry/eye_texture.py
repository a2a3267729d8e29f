"""An eye of the photo separated into sclera, iris and the skin of its lid."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from talkingface.renderer.arrays import BoolArray, Float32Array, Int64Array, Uint8Image, Uint32Array
from talkingface.renderer.face.pyramid_fill import fill_outside
from talkingface.renderer.geometry.eyes import BROWS, IRIS, LUMA, RINGS, EyeTexture, lid_shade
from talkingface.renderer.geometry.surface import smoothstep, smoothstep_of
from talkingface.renderer.opencv import cv
from talkingface.renderer.pixels.packed import pack

CHEEKS = ((50, 205, 101), (280, 425, 330))  # landmarks: subject's right, left

# All by eye. Brightness is luma, 0..255; reaches are in face widths unless said otherwise.
BOX_MARGIN = 0.5  # eye widths around the lids
# Dark glasses: brightness over the cheeks' of the white and around the eye, from seen to unseen.
DARK_WHITE, DARK_AROUND = (0.5, 0.35), (0.32, 0.24)
BLUE, BLUE_WHITE = (0.15, 0.35), (0.9, 0.6)  # blue over red of the largest; brightness as above
IRIS_MARGIN = 1.04  # radius of the iris over that of its landmarks
IRIS_SOFTNESS = 1.0  # pixels to both sides
SCLERA_FROM, SCLERA_FROM_PIXELS = 1.12, 0.7  # radii and pixels from its centre where the iris ends
SCLERA_PIXELS = 8  # of the white at least, to know its colour
SCLERA_BRIGHT, SCLERA_EVEN_FROM, SCLERA_SHUT = 75, 15, 85  # percentiles: bright, ordinary, if shut
SCLERA_TOLERANCE = 0.3  # of its brightness by which the white may differ, else it is none
SCLERA_BRIGHTEST = 1.1  # of the bright white, which its ordinary colour may have
SCLERA_EVEN = 0.6  # how far the sclera's colours under lids and iris are all one
IRIS_BINS, IRIS_UNKNOWN = 10, 40  # rings of its mean colours; level where nothing is seen of it
LASH_SHADE, LASH_SHADE_FROM = 0.25, (0.75, 1.0)  # darkness of the iris at its rim; radii
LID_HOLE, LID_RING, LID_BROW = 0.032, 0.09, 0.015  # about eye and brow: what is not, or is, skin
LID_DARK = 15  # percentile of brightness below which skin beside an eye is shadow
LID_BLUR, LID_DETAIL_BLUR = 0.014, 0.01
LID_DETAIL = 12.0  # largest difference in brightness that is skin and no spot
CHEEK = 0.2  # below the eye, where skin like the lid's is seen
LID_EDGE, LID_EDGE_OPEN = 0.03, 0.35  # of lid around an eye; more for each of its mean opening
CREASE, CREASE_ABOVE, CREASE_WIDTH = 0.09, 0.026, 0.009  # depth; above the rim; its reach
CREASE_INNER, CREASE_OUTER = (0.0, 0.25), (1.05, 0.8)  # eye widths over which it comes and ends
BULGE, BULGE_MIDDLE, BULGE_SPREAD = 0.06, 0.5, 0.25  # light; place from crease (0) to rim (1)
UNDERSHADE, UNDERSHADE_FROM = 0.10, (0.7, 1.0)  # darkness at the rim; place from crease to rim


@dataclass(frozen=True)
class _Eye:
    """The box (H, W) of an eye in the frame, and what is known about it; pixels of the box."""

    box: Float32Array  # (H, W, 3) the photo
    low: Int64Array  # (2,) frame pixel of its upper left pixel
    ring: Float32Array  # (16, 2) the lids' edge
    inside: Float32Array  # (H, W) 1 between the lids
    trusted: BoolArray  # (H, W) well between the lids
    centre: Float32Array  # (2,) of the iris
    radius: float  # of the iris
    distance: Float32Array  # (H, W) from its centre
    face: float  # the face's width


def eye_texture(frame: Uint8Image, landmarks: Float32Array, eye: int, face: float) -> EyeTexture:
    """Separate an eye into layers.

    :param frame: (512, 512, 3) RGB.
    :param landmarks: (478, 2+) in its pixels.
    :param eye: 0 = the subject's right, 1 = the left.
    :param face: the face's width in pixels.
    """
    found = _locate(frame, landmarks, eye, face)
    box, inside, distance, radius = found.box, found.inside, found.distance, found.radius
    disc = smoothstep(radius + IRIS_SOFTNESS, radius - IRIS_SOFTNESS, distance)
    shade = lid_shade(found.ring.astype(np.float32), face, box.shape[:2])
    lit = box / shade[..., None]
    sclera, white = _sclera(found, lit)
    iris = _iris(found, lit)
    whole = (sclera * (1 - disc[..., None]) + iris * disc[..., None]) * shade[..., None]
    rest = box * inside[..., None] + whole * (1 - inside[..., None])
    lid, lid_weight = _lid_skin(frame, found, landmarks[list(BROWS[eye]), :2] - found.low)
    lid *= _lid_form(found.ring, box.shape[:2], face)[..., None]
    cheeks = landmarks[np.array(CHEEKS), :2].round().astype(int).clip(0, len(frame) - 1)
    skin = float(np.median(frame[cheeks[..., 1], cheeks[..., 0]] @ LUMA, 1).max())
    brightest = max(float(sclera.max()), float(iris.max()), 255.0)
    return EyeTexture(
        origin=found.low.astype(np.float32),
        rest=_packed(rest, np.ones_like(inside)),
        ball=_packed(sclera * (255 / brightest), inside),
        iris=_packed(iris * (255 / brightest), disc),
        brightest=brightest,
        white=white,
        lid=_packed(lid, lid_weight),
        lid_brightness=float(lid.reshape(-1, 3).mean(0) @ LUMA),
        visible=_visibility(white, box @ LUMA, skin, inside),
    )


def _packed(colour: Float32Array, share: Float32Array) -> Uint32Array:
    """Pack colours (H, W, 3), 0..255, and a fourth channel (H, W), 0..1."""
    image = np.dstack([colour, 255 * share]) + 0.5
    return pack(np.clip(image, 0, 255).astype(np.uint8))


def _locate(frame: Uint8Image, landmarks: Float32Array, eye: int, face: float) -> _Eye:
    """Cut an eye out of the frame; arguments as for `eye_texture`."""
    ring = landmarks[list(RINGS[eye]), :2]
    width = float(np.linalg.norm(ring[8] - ring[0]))
    low = np.floor(ring.min(0) - BOX_MARGIN * width).astype(int)
    high = np.ceil(ring.max(0) + BOX_MARGIN * width).astype(int)
    low, high = np.maximum(low, 0), np.minimum(high, np.array(frame.shape[1::-1]))
    box = frame[low[1] : high[1], low[0] : high[0]].astype(np.float32)
    inside = polygon_mask(ring - low, box.shape[:2])
    trusted = cv.erode((inside > 0.5).astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    centre = landmarks[IRIS[eye], :2] - low
    around = landmarks[IRIS[eye] + 1 : IRIS[eye] + 5, :2] - low
    radius = float(np.linalg.norm(around - centre, axis=1).mean()) * IRIS_MARGIN
    ys, xs = np.mgrid[: box.shape[0], : box.shape[1]].astype(np.float32)
    distance = np.hypot(xs - centre[0], ys - centre[1])
    return _Eye(box, low, ring - low, inside, trusted, centre, radius, distance, face)


def _visibility(
    white: Float32Array, luma: Float32Array, skin: float, inside: Float32Array
) -> float:
    """Whether an eye is to be seen, 0..1: not where it and all around it are dark, or it is blue.

    :param white: (3,) colour of the white.
    :param luma: (H, W) brightness around the eye.
    :param skin: brightness of the cheeks.
    :param inside: (H, W) 1 between the lids.
    """
    near = cv.dilate(inside, np.ones((15, 15))) - cv.dilate(inside, np.ones((5, 5))) > 0.5
    around = float(np.median(luma[near])) if near.any() else skin
    level = float(white @ LUMA) / max(skin, 1.0)
    dark = smoothstep_of(DARK_WHITE, level) * smoothstep_of(DARK_AROUND, around / max(skin, 1.0))
    blue = float(white[2] - white[0]) / max(float(white.max()), 1.0)
    return (1 - dark) * (1 - smoothstep_of(BLUE, blue) * smoothstep_of(BLUE_WHITE, level))


def _sclera(eye: _Eye, lit: Float32Array) -> tuple[Float32Array, Float32Array]:
    """The white of an eye continued under iris and lids, (H, W, 3), and its bright colour (3,).

    :param lit: (H, W, 3) the photo without the lids' shadow.
    """
    luma = lit @ LUMA
    beside = eye.distance > eye.radius * SCLERA_FROM + SCLERA_FROM_PIXELS
    free = eye.trusted & beside
    if free.sum() >= SCLERA_PIXELS:
        white = eye.box[free & (luma >= np.percentile(luma[free], SCLERA_BRIGHT))].mean(0)
        even = lit[free & (luma >= np.percentile(luma[free], SCLERA_EVEN_FROM))].mean(0)
        good = free & (np.abs(luma - even @ LUMA) < SCLERA_TOLERANCE * (even @ LUMA))
    else:
        # The eye is hardly open: what little is bright around has to serve.
        around = lit[eye.trusted] if eye.trusted.any() else lit.reshape(-1, 3)
        level = around @ LUMA
        white = around[level >= np.percentile(level, SCLERA_SHUT)].mean(0)
        even, good = white, np.zeros_like(free)
    even = even * min(SCLERA_BRIGHTEST * float(white @ LUMA) / max(float(even @ LUMA), 1.0), 1.0)
    sclera = np.broadcast_to(even, eye.box.shape).astype(np.float32)
    if good.any():
        spread = cv.GaussianBlur(fill_outside(lit, good.astype(np.float32)), (0, 0), 1.5)
        sclera = SCLERA_EVEN * sclera + (1 - SCLERA_EVEN) * spread
    keep = cv.GaussianBlur(free.astype(np.float32), (0, 0), 1.0) * free
    return sclera + keep[..., None] * (lit - sclera), white.astype(np.float32)


def _iris(eye: _Eye, lit: Float32Array) -> Float32Array:
    """The iris as a whole disc, (H, W, 3): as seen, else mirrored from below, else its mean by
    radius."""
    distance, radius = eye.distance, eye.radius
    seen = eye.trusted & (distance < radius)
    profile = _radial_profile(lit, distance, seen, radius)
    index = np.clip(distance / radius * (len(profile) - 1), 0, len(profile) - 1)
    lower = np.floor(index).astype(int)
    upper = np.minimum(lower + 1, len(profile) - 1)
    weight = (index - lower)[..., None]
    iris = profile[lower] * (1 - weight) + profile[upper] * weight
    iris *= 1 - LASH_SHADE * smoothstep(*LASH_SHADE_FROM, distance / radius)[..., None]
    height, width = distance.shape
    xs = np.broadcast_to(np.arange(width, dtype=np.float32), distance.shape)
    ys = 2 * eye.centre[1] - np.arange(height, dtype=np.float32)[:, None]
    ys = np.broadcast_to(ys, xs.shape)
    below = np.ascontiguousarray(xs), np.ascontiguousarray(ys, np.float32)
    mirrored = cv.remap(lit, *below, cv.INTER_LINEAR, borderMode=cv.BORDER_REPLICATE)
    there = cv.remap(seen.astype(np.uint8), *below, cv.INTER_NEAREST) > 0
    iris += _soft(there & (distance < radius)) * (mirrored - iris)
    disc: Float32Array = (iris + _soft(seen) * (lit - iris)).astype(np.float32)
    return disc


def _soft(mask: BoolArray) -> Float32Array:
    """A mask (H, W) with an edge that fades inwards, (H, W, 1)."""
    soft: Float32Array = cv.GaussianBlur(mask.astype(np.float32), (0, 0), 1.0) * mask
    return soft[..., None]


def _radial_profile(
    colours: Float32Array, distance: Float32Array, seen: BoolArray, radius: float
) -> Float32Array:
    """Median colour of the iris by distance from its centre, (IRIS_BINS, 3).

    The median leaves out the light's reflection.
    """
    index = np.minimum((distance / radius * IRIS_BINS).astype(int), IRIS_BINS - 1)
    profile = np.zeros((IRIS_BINS, 3), np.float32)
    filled = np.zeros(IRIS_BINS, bool)
    for b in range(IRIS_BINS):
        here = seen & (index == b)
        if here.any():
            profile[b] = np.median(colours[here], 0)
            filled[b] = True
    if not filled.any():
        return np.full((IRIS_BINS, 3), IRIS_UNKNOWN, np.float32)
    known = np.nonzero(filled)[0]
    for k in range(3):
        profile[:, k] = np.interp(np.arange(IRIS_BINS), known, profile[known, k])
    return profile


def _lid_skin(
    frame: Uint8Image, eye: _Eye, brow: Float32Array
) -> tuple[Float32Array, Float32Array]:
    """A lid's skin and its weight, (H, W, 3) and (H, W).

    Colours continued over the eye from around it, leaving out lashes, brow and deep shadow, with
    the fine detail of the cheek below.

    :param brow: (10, 2) its outline in pixels of the box.
    """
    box, low, inside, face = eye.box, eye.low, eye.inside, eye.face
    luma = box @ LUMA
    hole = _grown(inside, LID_HOLE * face) > 0.1
    brow_mask = polygon_mask(brow, inside.shape[:2])
    ring = (_grown(inside, LID_RING * face) > 0.1) & ~hole
    ring &= ~(_grown(brow_mask, LID_BROW * face) > 0.1)
    if not ring.any():
        return box.copy(), np.zeros_like(luma)
    ring &= luma >= np.percentile(luma[ring], LID_DARK)
    lid = fill_outside(box, ring.astype(np.float32))
    lid = cv.GaussianBlur(lid, (0, 0), LID_BLUR * face)
    rows = np.clip(np.arange(len(box)) + low[1] + round(CHEEK * face), 0, len(frame) - 1)
    cheek = frame[rows, low[0] : low[0] + box.shape[1]].astype(np.float32)
    detail = (cheek - cv.GaussianBlur(cheek, (0, 0), LID_DETAIL_BLUR * face)) @ LUMA
    lid += np.clip(detail, -LID_DETAIL, LID_DETAIL)[..., None]
    # The wider an eye stands open, the further up its lashes reach.
    opened = float(inside.sum()) / max(float(np.ptp(np.nonzero(inside.max(0))[0])), 1.0) / face
    over = (_grown(inside, (LID_EDGE + LID_EDGE_OPEN * opened) * face) > 0.5).astype(np.float32)
    weight = cv.GaussianBlur(over, (0, 0), LID_BLUR * face)
    return np.maximum(lid, 0), weight


def _grown(mask: Float32Array, reach: float) -> Float32Array:
    """A mask (H, W) dilated by a disc of a radius in pixels."""
    size = 2 * max(round(reach), 1) + 1
    disc = cv.getStructuringElement(cv.MORPH_ELLIPSE, (size, size))
    grown: Float32Array = cv.dilate(mask, disc)
    return grown


def _lid_form(ring: Float32Array, shape: tuple[int, ...], face: float) -> Float32Array:
    """Shading (H, W) of a shut lid over the eyeball: a crease, a bulge, the shadow at the rim.

    :param ring: (16, 2) the lids' edge.
    """
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
        heights: Float32Array = np.interp(across, (edge @ along)[order], (edge @ up)[order])
        return heights

    top, bottom = rim(upper) + CREASE_ABOVE * face, rim(lower)
    place = (top - height) / np.maximum(top - bottom, 1e-3)  # 0 at the crease, 1 at the rim
    crease = CREASE * np.exp(-(((top - height) / (CREASE_WIDTH * face)) ** 2))
    ends = smoothstep(*CREASE_INNER, across / length) * smoothstep(*CREASE_OUTER, across / length)
    crease *= ends
    bulge = BULGE * np.exp(-(((place - BULGE_MIDDLE) / BULGE_SPREAD) ** 2))
    under = UNDERSHADE * smoothstep(*UNDERSHADE_FROM, place)
    form: Float32Array = (1 - crease + bulge - under).astype(np.float32)
    return form


def polygon_mask(ring: Float32Array, shape: tuple[int, ...]) -> Float32Array:
    """Soft-edged mask (H, W) of a polygon (N, 2) of pixels."""
    mask = np.zeros((shape[0] * 4, shape[1] * 4), np.uint8)
    cv.fillPoly(mask, [np.round((ring + 0.5) * 4 - 0.5).astype(np.int32)], 255)
    small = cv.resize(mask, shape[::-1], interpolation=cv.INTER_AREA)
    soft: Float32Array = small.astype(np.float32) / 255
    return soft
