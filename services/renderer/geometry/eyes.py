"""Eyes as a layer of their own: sclera behind, iris gliding over it, both under the lids."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numba import njit

from talkingface.renderer.arrays import BoolArray, Float32Array
from talkingface.renderer.opencv import cv

RINGS = (
    (33, 7, 163, 144, 145, 153, 154, 155, 133, 173, 157, 158, 159, 160, 161, 246),
    (263, 249, 390, 373, 374, 380, 381, 382, 362, 398, 384, 385, 386, 387, 388, 466),
)  # subject's right eye, left eye: corner, lower lid, corner, upper lid
IRIS = (468, 473)  # its centre; the four points around it follow
BROWS = (
    (70, 63, 105, 66, 107, 55, 65, 52, 53, 46),
    (300, 293, 334, 296, 336, 285, 295, 282, 283, 276),
)
LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601

# Light on the eyeball, by eye.
SHADOW, SHADOW_REACH = 0.34, 0.012  # of the upper lid: depth, face widths
LOWER_SHADOW, LOWER_REACH = 0.15, 0.5  # of the lower lid: depth, reach over the upper one's
CORNER_SHADOW, CORNER_END = 0.2, 1.2  # towards the corners; half eye widths at which it is full
DRAWN_FROM = 0.02  # opacity from which a lid or its lashes count as drawn


@dataclass(frozen=True)
class EyeTexture:
    """One eye without lids, in a box of the portrait's frame; colours float RGB 0..255."""

    origin: Float32Array  # (2,) frame pixel of the box's upper left pixel
    rest: Float32Array  # (H, W, 3) as photographed, completed under the lids
    ball: Float32Array  # (H, W, 4) sclera without the upper lid's shadow; 1 where the photo has it
    iris: Float32Array  # (H, W, 4) completed disc, likewise; its opacity
    white: Float32Array  # (3,) the sclera's bright colour
    lid: Float32Array  # (H, W, 4) the shut lid's skin in the eye's place; 1 over the eye, fading
    visible: float  # 0 behind dark glasses, else 1


class EyePixels(NamedTuple):
    """What is drawn between the lids, (H, W)."""

    hole: BoolArray  # (H, W) the pixels to draw
    rest: Float32Array  # (H, W, 3), ball (H, W, 4) and iris (H, W, 4): parts of the texture
    ball: Float32Array
    iris: Float32Array
    shade: Float32Array  # (H, W) light under the lids, from `lid_shade`


class LidPixels(NamedTuple):
    """What is drawn of a closing lid, (H, W)."""

    skin: BoolArray  # (H, W) where the lids are
    lid: Float32Array  # (H, W, 4) and ball (H, W, 4): parts of the texture
    ball: Float32Array
    lashes: Float32Array  # (H, W) opacity of the lash line
    lash: Float32Array  # (3,) its colour


@njit(cache=True)
def lid_shade(ring: Float32Array, face: float, wanted: BoolArray, out: Float32Array) -> None:
    """Write the light on an eyeball under its lids, 0..1.

    :param ring: (16, 2) the lids' edge as in `RINGS`, in pixels.
    :param face: the face's width in pixels.
    :param wanted: (H, W) where to write; elsewhere `out` (H, W) stays.
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
            below = max(v - edge[1], 0.0) / (LOWER_REACH * SHADOW_REACH * face)
            across = 2 * u / (sign * length) - 1
            light = (1 - SHADOW * np.exp(-above)) * (1 - LOWER_SHADOW * np.exp(-below))
            out[row, column] = light * (1 - CORNER_SHADOW * min(abs(across), CORNER_END) ** 4)


def sample_texture(
    texture: EyeTexture, part: Float32Array, to_photo: Float32Array, size: tuple[int, int]
) -> Float32Array:
    """A part of an eye's texture, (H, W, ...), for drawing.

    :param to_photo: (2, 3) pixel of the result to pixel of the portrait's frame.
    :param size: (H, W).
    """
    matrix = to_photo.astype(np.float64)
    matrix[:, 2] -= texture.origin
    flags = cv.INTER_LINEAR | cv.WARP_INVERSE_MAP
    sampled: Float32Array = cv.warpAffine(
        part, matrix, size[::-1], flags=flags, borderMode=cv.BORDER_REPLICATE
    )
    return sampled


@njit(cache=True)
def paint_eye(
    eye: EyePixels, moved: float, changed: float, drawn: Float32Array, invented: Float32Array
) -> None:
    """Colour the pixels between the lids, in place.

    :param moved: 0 = the eye as photographed, 1 = sclera and iris drawn apart.
    :param changed: how far what the photo does not show counts as invented, 0..1.
    :param drawn: (H, W, 3) colours.
    :param invented: (H, W) how much of them the photo does not show.
    """
    hole, rest, ball, iris, shade = eye
    for y in range(hole.shape[0]):
        for x in range(hole.shape[1]):
            if not hole[y, x]:
                continue
            apart = max(np.float32(1) - ball[y, x, 3], np.float32(moved))
            disc = iris[y, x, 3]
            for k in range(3):
                colour = ball[y, x, k] + disc * (iris[y, x, k] - ball[y, x, k])
                colour *= shade[y, x]
                drawn[y, x, k] = colour + (np.float32(1) - apart) * (rest[y, x, k] - colour)
            invented[y, x] = apart * np.float32(changed)


@njit(cache=True)
def paint_lid(
    closed: LidPixels,
    gone_rim: float,
    drawn: Float32Array,
    weight: Float32Array,
    invented: Float32Array,
) -> None:
    """Lay a closing lid and its lashes over an eye, in place.

    :param gone_rim: how far the old rim and its lashes have gone, 0..1.
    :param drawn: and `invented`, as in `paint_eye`.
    :param weight: (H, W) 1 where something is drawn.
    """
    skin, lid, ball, lashes, lash = closed
    for y in range(skin.shape[0]):
        for x in range(skin.shape[1]):
            over = np.float32(0)
            if skin[y, x]:
                over = max(lid[y, x, 3] * np.float32(gone_rim), ball[y, x, 3])
            line = lashes[y, x]
            if over <= 0 and line <= 0:
                continue
            for k in range(3):
                colour = drawn[y, x, k] + over * (lid[y, x, k] - drawn[y, x, k])
                drawn[y, x, k] = colour + line * (lash[k] - colour)
            covered = max(over, line)
            if covered > DRAWN_FROM:
                weight[y, x] = 1
            invented[y, x] = max(invented[y, x], covered)
