"""Compositing of background, rear layer and front layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numba import njit

from talkingface.renderer.arrays import (
    BoolArray,
    Float32Array,
    Int32Array,
    Int64Array,
    Uint8Image,
)
from talkingface.renderer.geometry.frame import FRAME, bounding_box
from talkingface.renderer.geometry.frame_plan import FramePlan
from talkingface.renderer.geometry.photo_sampling import sample, sample_photo
from talkingface.renderer.geometry.portrait import PreparedPortrait
from talkingface.renderer.geometry.rasterizer import interpolate_attributes, rasterize_mesh
from talkingface.renderer.geometry.rear_clearing import clear_rear
from talkingface.renderer.geometry.rear_flow import upsample_flow
from talkingface.renderer.geometry.rear_layer import MARGIN, SOLID
from talkingface.renderer.geometry.topology import topology
from talkingface.renderer.opencv import cv

# All by eye.
FLOW_REACH = 4  # pixels by which the face's flow goes on beyond its edge
STRAND_REACH = 6.0  # pixels of motion at which the photo's own background has faded out
STRETCH = (1.8, 2.2)  # growth of a triangle's area that begins to count as stretch; over how much
MIN_AREA = 1e-3  # square pixels of a triangle in the photo


@dataclass(frozen=True)
class Layers:
    """The composed frame, before eyes and mouth are drawn."""

    image: Uint8Image  # (512, 512, 3) RGB
    mask: Uint8Image  # (512, 512, 2), as in `Crop`
    face_flow: Float32Array  # (h, w, 2) pixels in the photo that the face comes from
    face_box: tuple[slice, slice]  # rows and columns of the frame that `face_flow` covers
    solid: BoolArray  # (h, w) where the face is opaque


class _Face(NamedTuple):
    """The front layer at the pixels of its box."""

    colour: Uint8Image  # (h, w, 3)
    opacity: Float32Array  # (h, w)
    ids: Int32Array  # (h, w) triangles, -1 where there is none
    stretch: Float32Array  # (F,) of the triangles, 0..1


def compose(portrait: PreparedPortrait, plan: FramePlan, flow: Float32Array) -> Layers:
    """Compose background, rear layer and face.

    :param flow: (128, 128, 2) where in the photo the rear layer's pixels come from.
    """
    image = _compose_rear(portrait, plan, flow)
    mask = np.zeros((FRAME, FRAME, 2), np.uint8)
    shape = topology()
    left, top, right, bottom = bounding_box(plan.points[shape.face_vertices], 4)
    local = plan.points - np.array([left, top, 0], np.float32)
    ids, weights = rasterize_mesh(local, shape.face, bottom - top, right - left)
    face_flow = interpolate_attributes(plan.texture_uv, shape.face, ids, weights)
    shown = interpolate_attributes(plan.opacity, shape.face, ids, weights)
    _dilate_flow(face_flow, ids)
    opacity = cv.GaussianBlur(cv.dilate(shown, np.ones((3, 3), np.uint8)), (0, 0), 1.0)
    colour = sample_photo(portrait, face_flow)
    if plan.occluded_weight is not None:
        _add_occluded_side(portrait, plan.occluded_weight, ids, weights, colour)
    stretch = np.empty(len(shape.face), np.float32)
    _triangle_stretch(plan.points, shape.face, shape.face_index, portrait.triangle_area, stretch)
    _blend_face(image, mask, left, top, _Face(colour, opacity, ids, stretch))
    box = (slice(top, bottom), slice(left, right))
    return Layers(image, mask, face_flow, box, opacity > 0.5)


def _compose_rear(portrait: PreparedPortrait, plan: FramePlan, flow: Float32Array) -> Uint8Image:
    """Rear layer over background, (512, 512, 3)."""
    rear_layer = clear_rear(portrait, plan.cleared, plan.turned)
    # The maps are scaled while they are small, so that what is 512 pixels wide is touched once.
    beyond, double = upsample_flow(flow + MARGIN), upsample_flow(flow * 2)
    rear = cv.remap(rear_layer, beyond, None, cv.INTER_LINEAR, borderMode=cv.BORDER_REPLICATE)
    image = sample(portrait.frame_2x, double)
    _blend_rear(portrait.background, portrait.near_background, rear, beyond, image)
    return image


def _add_occluded_side(
    portrait: PreparedPortrait,
    weight: Float32Array,
    ids: Int32Array,
    weights: Float32Array,
    colour: Uint8Image,
) -> None:
    """Blend the texture of the side that the photo hides into the face's colours, in place.

    :param weight: (V,) of that texture.
    :param ids: (h, w) and `weights` (h, w, 2): the rasterised face.
    """
    triangles = topology().face
    uv = interpolate_attributes(portrait.occluded_side.uv, triangles, ids, weights)
    shown = interpolate_attributes(weight, triangles, ids, weights)
    _dilate_flow(uv, ids)
    other = sample(portrait.occluded_side.texture, uv)
    soft = cv.blur(cv.dilate(shown, np.ones((3, 3), np.uint8)), (3, 3))
    _mix(colour, other, soft)


@njit(cache=True, fastmath=True)
def _blend_face(image: Uint8Image, mask: Uint8Image, left: int, top: int, face: _Face) -> None:
    """Lay the face over the frame in place; its stretch goes to the mask's second channel."""
    colour, opacity, ids, stretch = face
    for y in range(opacity.shape[0]):
        for x in range(opacity.shape[1]):
            a = opacity[y, x]
            if a <= 0.0:
                continue
            for k in range(3):
                below = np.float32(image[top + y, left + x, k])
                image[top + y, left + x, k] = np.uint8(below + a * (colour[y, x, k] - below) + 0.5)
            if ids[y, x] >= 0:
                mask[top + y, left + x, 1] = np.uint8(255.0 * a * stretch[ids[y, x]])


@njit(cache=True, fastmath=True)
def _blend_rear(
    background: Uint8Image, near: Uint8Image, rear: Uint8Image, flow: Float32Array, out: Uint8Image
) -> None:
    """Lay the rear layer (RGBA) over the background, which is the photo's own where little moves.

    `background` is invented around the person, to be clear of strands of hair that the matte
    misses; `near` keeps the photo there, strands and all, and serves where these hardly move.

    :param flow: (H, W, 2) where in the rear layer the pixels come from.
    :param out: (H, W, 3) in and out; comes with what the photo has there, and keeps it where the
        rear layer is nothing but photo.
    """
    one, reach, half = np.float32(1), np.float32(STRAND_REACH), np.float32(0.5)
    for y in range(out.shape[0]):
        for x in range(out.shape[1]):
            opacity = rear[y, x, 3]
            if opacity == 255:
                continue
            if opacity >= SOLID:
                for k in range(3):
                    out[y, x, k] = rear[y, x, k]
                continue
            dx = flow[y, x, 0] - np.float32(x + MARGIN)
            dy = flow[y, x, 1] - np.float32(y + MARGIN)
            away = dx * dx + dy * dy
            if away >= reach * reach:
                if opacity == 0:
                    for k in range(3):
                        out[y, x, k] = background[y, x, k]
                    continue
                keep = np.float32(0)
            else:
                keep = one - np.sqrt(away) / reach
            a = np.float32(opacity) / np.float32(255)
            for k in range(3):
                below = np.float32(background[y, x, k])
                below += keep * (np.float32(near[y, x, k]) - below)
                out[y, x, k] = np.uint8(below + a * (np.float32(rear[y, x, k]) - below) + half)


# Compiled on import: not every portrait has a hidden side, and no stream must wait for it.
@njit("void(u1[:,:,::1], u1[:,:,::1], f4[:,::1])", cache=True, fastmath=True)
def _mix(image: Uint8Image, other: Uint8Image, weight: Float32Array) -> None:
    """Blend another image into an image by `weight` (H, W), in place."""
    for y in range(weight.shape[0]):
        for x in range(weight.shape[1]):
            a = weight[y, x]
            if a > 0:
                for k in range(3):
                    here = np.float32(image[y, x, k])
                    change = a * (np.float32(other[y, x, k]) - here)
                    image[y, x, k] = np.uint8(here + change + np.float32(0.5))


@njit(cache=True, fastmath=True)
def _triangle_stretch(
    points: Float32Array,
    triangles: Int32Array,
    index: Int64Array,
    area: Float32Array,
    out: Float32Array,
) -> None:
    """Write how far each front triangle is stretched, 0..1; 1 if the photo does not show it.

    :param area: (T,) of all the mesh's triangles in the photo.
    :param index: (F,) where `triangles` (F, 3) are among them.
    """
    for t in range(len(triangles)):
        before = area[index[t]]
        if before <= 0:
            out[t] = 1
            continue
        a, b, c = triangles[t, 0], triangles[t, 1], triangles[t, 2]
        now = (points[b, 1] - points[a, 1]) * (points[c, 0] - points[a, 0])
        now -= (points[b, 0] - points[a, 0]) * (points[c, 1] - points[a, 1])
        grown = now / max(before, np.float32(MIN_AREA))
        grown = (grown - np.float32(STRETCH[0])) / np.float32(STRETCH[1])
        grown = min(max(grown, np.float32(0)), np.float32(1))
        out[t] = grown * grown * (np.float32(3) - np.float32(2) * grown)


@njit(cache=True, fastmath=True)
def _dilate_flow(flow: Float32Array, ids: Int32Array) -> None:
    """Extrapolate a flow (H, W, 2) a few pixels beyond its edge, in place, for soft edges.

    The displacement is what is extrapolated, from the nearest covered pixel of the row or column.
    """
    height, width = ids.shape
    first, last = np.full(height, width), np.full(height, -1)
    for y in range(height):
        for x in range(width):
            if ids[y, x] >= 0:
                first[y] = min(first[y], x)
                last[y] = x
    for y in range(height):
        above, below = max(y - FLOW_REACH, 0), min(y + FLOW_REACH + 1, height)
        left = max(first[above:below].min() - FLOW_REACH, 0)
        right = min(last[above:below].max() + FLOW_REACH + 1, width)
        for x in range(left, right):
            if ids[y, x] >= 0:
                continue
            best = FLOW_REACH + 1
            for d in range(-FLOW_REACH, FLOW_REACH + 1):
                if abs(d) < best and 0 <= x + d < width and ids[y, x + d] >= 0:
                    best = abs(d)
                    flow[y, x, 0] = flow[y, x + d, 0] - d
                    flow[y, x, 1] = flow[y, x + d, 1]
                if abs(d) < best and 0 <= y + d < height and ids[y + d, x] >= 0:
                    best = abs(d)
                    flow[y, x, 0] = flow[y + d, x, 0]
                    flow[y, x, 1] = flow[y + d, x, 1] - d
