"""Eyes: sclera behind, iris gliding over it, both under the lids; and lids that close."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from talkingface.renderer.arrays import (
    Float32Array,
    Index,
    Pixel,
    Real,
    Uint32Array,
)
from talkingface.renderer.pixels.drawing import (
    middle_of,
    photo_pixel,
    triangle_or_any,
)
from talkingface.renderer.pixels.packed import bilinear
from talkingface.renderer.pixels.shading import colour_of, decay, packed_pixel, share_of
from talkingface.renderer.pixels.targets import device, loop
from talkingface.renderer.pixels.triangles import NONE, ceiling, floor

# Light on the eyeball, by eye.
SHADOW, SHADOW_REACH = np.float32(0.34), np.float32(0.012)  # of the upper lid: depth, face widths
# Of the lower lid: depth, reach over the upper one's.
LOWER_SHADOW, LOWER_REACH = np.float32(0.15), np.float32(0.5)
# Towards the corners: depth; half eye widths at which it is full.
CORNER_SHADOW, CORNER_END = np.float32(0.2), np.float32(1.2)
DRAWN_FROM = np.float32(0.02)  # opacity from which a lid or its lashes count as drawn

RIM_STEPS = 128  # along an eye, at which the height of its rims is known
_UNINVENTED = np.uint32(0x00FFFFFF)  # of a packed pixel: its colour, all of it the photo's
_ZERO, _HALF, _ONE, _TWO = np.float32(0), np.float32(0.5), np.float32(1), np.float32(2)


class Rims(NamedTuple):
    """The lids' edges along an eye."""

    heights: Float32Array  # (2, RIM_STEPS) upper, lower rim over the corners' line, pixels
    start: Float32Array  # (2,) a corner of the eye
    along: Float32Array  # (2,) from it to the right, of length 1
    width: np.float32  # pixels to the other corner; negative if that is to the left
    first: np.float32  # pixels along the line at which the steps begin
    step: np.float32  # pixels
    face: np.float32  # the face's width in pixels


class Eye(NamedTuple):
    """What the pixels of an eye are made of."""

    photo: Uint32Array  # (1024, 1024) packed, the portrait's frame at twice its size
    # (H, W) packed parts of its texture, see `EyeTexture`.
    rest: Uint32Array
    ball: Uint32Array
    iris: Uint32Array
    lid: Uint32Array
    brightest: np.float32  # brightness of sclera and iris that are 255
    to_texture: Float32Array  # (2, 3) pixel of the region to pixel of the texture
    shift: Float32Array  # (2,) pixels of the texture that the iris has moved
    rims: Rims
    hull: Float32Array  # (N, 3) lines a * x + b * y <= c around the hole between the lids
    moved: np.float32  # 0 = the eye as photographed, 1 = sclera and iris drawn apart
    changed: np.float32  # how far what the photo does not show counts as invented, 0..1
    gone_rim: np.float32  # how far the old rim and its lashes have gone, 0..1
    lash: Float32Array  # (3,) colour of the lash line


class Lashes(NamedTuple):
    """The lashes of a closing lid, (N, 6) each, see `stroke_opacity`."""

    strokes: Float32Array
    soft: np.float32  # pixels
    shadow: Float32Array  # of the lid below the lash line
    shadow_soft: np.float32


@device
def light_under_lids(rims: Rims, x: Real, y: Real) -> Real:
    """Light on an eyeball under its lids at a pixel, 0..1."""
    x, y = x - rims.start[0], y - rims.start[1]
    u = x * rims.along[0] + y * rims.along[1]
    v = x * rims.along[1] - y * rims.along[0]
    at = min(max((u - rims.first) / rims.step, _ZERO), np.float32(RIM_STEPS - 1.001))
    i = np.uint32(at)
    part = at - np.float32(i)
    upper = rims.heights[0, i] + part * (rims.heights[0, i + np.uint32(1)] - rims.heights[0, i])
    lower = rims.heights[1, i] + part * (rims.heights[1, i + np.uint32(1)] - rims.heights[1, i])
    reach = SHADOW_REACH * rims.face
    light = _ONE - SHADOW * decay(max(upper - v, _ZERO) / reach)
    light *= _ONE - LOWER_SHADOW * decay(max(v - lower, _ZERO) / (LOWER_REACH * reach))
    across = min(abs(_TWO * u / rims.width - _ONE), CORNER_END)
    return light * (_ONE - CORNER_SHADOW * across * across * across * across)


@device
def eye_pixel(eye: Eye, x: Real, y: Real) -> Pixel:
    """What is drawn between the lids, and how much of it is invented, packed."""
    map_u, map_v = eye.to_texture[0], eye.to_texture[1]
    u, v = map_u[0] * x + map_u[1] * y + map_u[2], map_v[0] * x + map_v[1] * y + map_v[2]
    ball, rest = bilinear(eye.ball, u, v), bilinear(eye.rest, u, v)
    iris = bilinear(eye.iris, u - eye.shift[0], v - eye.shift[1])
    light = light_under_lids(eye.rims, x, y) * eye.brightest * np.float32(1 / 255)
    apart = max(_ONE - share_of(ball), eye.moved)
    disc = share_of(iris)
    ball_r, ball_g, ball_b = colour_of(ball)
    iris_r, iris_g, iris_b = colour_of(iris)
    rest_r, rest_g, rest_b = colour_of(rest)
    red = (ball_r + disc * (iris_r - ball_r)) * light
    green = (ball_g + disc * (iris_g - ball_g)) * light
    blue = (ball_b + disc * (iris_b - ball_b)) * light
    same = _ONE - apart
    return packed_pixel(
        red + same * (rest_r - red),
        green + same * (rest_g - green),
        blue + same * (rest_b - blue),
        apart * eye.changed,
    )


@device
def lid_opacity(eye: Eye, skin: Real, x: Real, y: Real) -> tuple[Pixel, Real]:
    """A closing lid's colour, packed, and its opacity at a pixel.

    :param skin: share of the pixel that shows skin around the eye, 0..1: there is no lid beyond.
    """
    map_u, map_v = eye.to_texture[0], eye.to_texture[1]
    u, v = map_u[0] * x + map_u[1] * y + map_u[2], map_v[0] * x + map_v[1] * y + map_v[2]
    lid = bilinear(eye.lid, u, v)
    over = max(share_of(lid) * eye.gone_rim, share_of(bilinear(eye.ball, u, v)))
    return lid, over * skin


@device
def skin_share(upper: Index, lower: Index) -> Real:
    """How much of a pixel shows skin, from its upper left and lower right quarter, 0..1."""
    return np.float32(0.5) * (np.float32(upper != NONE) + np.float32(lower != NONE))


@device
def lid_pixel(below: Pixel, lid: Pixel, over: Real, line: Real, lash: Float32Array) -> Pixel:
    """A closing lid and its lashes over a packed pixel."""
    below_r, below_g, below_b = colour_of(below)
    lid_r, lid_g, lid_b = colour_of(lid)
    red = below_r + over * (lid_r - below_r)
    green = below_g + over * (lid_g - below_g)
    blue = below_b + over * (lid_b - below_b)
    return packed_pixel(
        red + line * (lash[0] - red),
        green + line * (lash[1] - green),
        blue + line * (lash[2] - blue),
        max(share_of(below), over, line),
    )


@device
def hull_span(hull: Float32Array, y: Real, width: int) -> tuple[Index, Index]:
    """First pixel of a row within a hull (N, 3), and the one behind the last."""
    low, high = _ZERO, np.float32(width - 1)
    for n in range(len(hull)):
        a, c = hull[n, 0], hull[n, 2] - hull[n, 1] * y
        if a > np.float32(1e-6):
            high = min(high, c / a)
        elif a < np.float32(-1e-6):
            low = max(low, c / a)
        elif c < 0:
            high = np.float32(-1)
    first = ceiling(low)
    return first, max(floor(high) + 1, first)


@loop
def sample_rims(ring: Float32Array, rims: Rims) -> None:
    """Write the heights of the rims.

    :param ring: (16, 2) the lids' edge as in `RINGS`, in pixels: the corner at `rims.start`, lower
        rim, other corner, upper rim.
    """
    along, rise = np.empty(17, np.float32), np.empty(17, np.float32)
    for i in range(17):
        x, y = ring[i % 16, 0] - rims.start[0], ring[i % 16, 1] - rims.start[1]
        along[i] = x * rims.along[0] + y * rims.along[1]
        rise[i] = x * rims.along[1] - y * rims.along[0]
    for n in range(RIM_STEPS):
        u = rims.first + np.float32(n) * rims.step
        for lower in range(2):
            first = 0 if lower == 1 else 8
            rims.heights[lower, n] = _ZERO
            for i in range(first, first + 8):
                if min(along[i], along[i + 1]) <= u <= max(along[i], along[i + 1]):
                    wide = along[i + 1] - along[i]
                    t = (u - along[i]) / wide if wide != 0 else _ZERO
                    rims.heights[lower, n] = rise[i] + t * (rise[i + 1] - rise[i])
                    break


@loop
def write_hull(corners: Float32Array, margin: np.float32, out: Float32Array) -> None:
    """Write the lines around a convex hull that is grown by a square.

    :param corners: (N, 2) of the hull, in order.
    :param margin: half the square's side, pixels.
    :param out: (N + 4, 3), see `Eye.hull`.
    """
    count = len(corners)
    x, y = np.mean(corners[:, 0]), np.mean(corners[:, 1])
    for n in range(count):
        ax, ay = corners[n, 0], corners[n, 1]
        bx, by = corners[(n + 1) % count, 0], corners[(n + 1) % count, 1]
        a, b = by - ay, ax - bx
        if a * (x - ax) + b * (y - ay) > 0:
            a, b = -a, -b
        out[n, 0], out[n, 1], out[n, 2] = a, b, a * ax + b * ay + margin * (abs(a) + abs(b))
    for k in range(2):
        for n in range(2):
            sign = np.float32(1 - 2 * n)
            row = out[count + 2 * k + n]
            row[0], row[1], row[2] = _ZERO, _ZERO, margin + np.max(sign * corners[:, k])
            row[k] = sign


@loop
def write_light(rims: Rims, out: Float32Array) -> None:
    """Write the light on an eyeball under its lids (H, W), 0..1."""
    for y in range(out.shape[0]):
        for x in range(out.shape[1]):
            out[y, x] = light_under_lids(rims, np.float32(x), np.float32(y))


@device
def quarter_pixel(eye: Eye, table: Float32Array, id: Index, x: Real, y: Real) -> Pixel:
    """A quarter of a pixel of an eye with open lids, packed."""
    skin = photo_pixel(eye.photo, table, triangle_or_any(id), x, y) & _UNINVENTED
    hole = eye_pixel(eye, x, y)
    return hole if id == NONE else skin


@device
def hole_weight(id: Index) -> Real:
    """The weight of a quarter within the hull of the lids' edges: 1 in the hole between them."""
    return _ONE if id == NONE else _ZERO


@device
def covers(over: Real, line: Real, weight: Real) -> Real:
    """The weight of a pixel or quarter after a lid and lashes have been laid over it."""
    return _ONE if max(over, line) > DRAWN_FROM and weight >= 0 else weight


@device
def skin_pixel(
    eye: Eye, table: Float32Array, upper: Index, lower: Index, x: Real, y: Real
) -> Pixel:
    """A pixel of skin around an eye, packed, from its upper left and lower right quarter.

    :param upper: and `lower`, their triangles; `x`, `y` are the first one's position.
    """
    one = photo_pixel(eye.photo, table, triangle_or_any(upper), x, y)
    other = photo_pixel(eye.photo, table, triangle_or_any(lower), x + _ONE, y + _ONE)
    return middle_of(one, other) & _UNINVENTED
