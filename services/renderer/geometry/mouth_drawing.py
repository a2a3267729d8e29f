"""The mouth's inside with the lips over it, drawn into the hole of the face."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numba import njit

from talkingface.renderer.arrays import Float32Array, Int32Array, Uint8Array, Uint8Image
from talkingface.renderer.face.model import FaceModel
from talkingface.renderer.geometry.eyes import LUMA
from talkingface.renderer.geometry.frame_plan import FramePlan
from talkingface.renderer.geometry.mouth import (
    LOWER_TEETH,
    NOTHING,
    REDDENING,
    UPPER,
    UPPER_TEETH,
    MouthColours,
    MouthPixels,
    Palette,
    light_between,
    mouth_coordinates,
    openings,
    paint_inside,
)
from talkingface.renderer.geometry.photo_sampling import sample_photo
from talkingface.renderer.geometry.portrait import PreparedPortrait
from talkingface.renderer.geometry.rasterizer import interpolate_attributes, rasterize_mesh
from talkingface.renderer.geometry.supersampling import DrawnPixels, Region, landmarks_of, merge
from talkingface.renderer.geometry.surface import smoothstep_of
from talkingface.renderer.geometry.topology import INNER_LOWER, INNER_UPPER, SKIN, topology
from talkingface.renderer.opencv import cv

# All by eye.
TURNED_SHADE = 0.2  # by which the lips' inner sides are darker when they turn out
SEAM = np.array([0.35, 0.5, 0.5], np.float32)  # darkness of the line between lips, RGB
SEAM_WIDTH = 0.012  # face widths
SEAM_PHOTO = (0.01, 0.04)  # face widths between the photo's lips over which a seam has to be drawn
SEAM_NOW = (0.02, 0.0)  # ... between the lips now
SLIT = 0.016  # face widths of an opening that is a line rather than a mouth
SLIT_COLOUR = (0.42, 0.34, 0.34)  # over the lips' own, RGB
LIP_MARGIN = 0.012  # face widths around the inner lips where the inside may show
LIPS_LEAN = 0.05  # face widths by which the plane of the lips lies before their inner edges
LIP_SKIN = 0.6  # weight of a lip from which its colour counts as the lips'
LIP_SMOOTH, LIP_FADE = 0.3, 0.2  # weight of a lip from which it is drawn smoothly; over how much
TOOTH_DARK, TOOTH_FADE = 0.4, 0.15  # brightness over a tooth's below which the photo shows none
NOSE_ASIDE, NOSE_BOTTOM, NOSE_TOP, NOSE_DEPTH = 0.2, -0.08, 0.1, 0.5  # x, y, z of the mean head


class _Photo(NamedTuple):
    """What the photo shows at the pixels of the region."""

    colour: Uint8Image  # (H, W, 3)
    inside: Float32Array  # (H, W) 1 where it is the mouth's inside
    lips: Float32Array  # (H, W, 2): the lips' inner sides, and how near the lips' line
    light: Float32Array  # (H, W) that gets into the mouth now, over that in the photo
    tooth: float  # brightness of teeth, 0..255


def draw_mouth(
    portrait: PreparedPortrait,
    plan: FramePlan,
    image: Uint8Image,
    mask: Uint8Image,
    draw_always: bool,
) -> None:
    """Draw the mouth's inside with the lips over it into the frame, in place.

    :param draw_always: do not use what the photo shows between the lips.
    """
    lip_change = plan.face.lip_change
    region = Region.around(plan.points[topology().lip > 0.3], 5)
    unit = 2 * float(portrait.fit.camera.scale[0])
    local = region.local(plan.points)
    ids, weights = rasterize_mesh(local, _mouth_triangles(), *region.size)
    inner_lips = landmarks_of(local[:, :2], [*INNER_UPPER, *INNER_LOWER[::-1]])
    part = _parts(ids, inner_lips, unit)
    hole = (part != SKIN) & (part != NOTHING)
    if not hole.any() and lip_change == 0:
        return
    values = interpolate_attributes(_attributes(portrait, plan), _mouth_triangles(), ids, weights)
    flow = np.ascontiguousarray(values[..., :2])
    seen = sample_photo(portrait, flow)
    drawn, light = np.empty(seen.shape, np.float32), np.zeros(part.shape, np.float32)
    opening = np.empty((3, part.shape[1]), np.float32)
    openings(part, unit, opening)
    mouth = MouthPixels(part, values[..., 2:8], opening, unit, UPPER_TEETH, LOWER_TEETH)
    paint_inside(mouth, _palette(portrait.mouth_colours), light, drawn)
    opening_then = _lip_gap(portrait.photographed)
    photo = _Photo(
        seen,
        cv.remap(portrait.mouth_mask, flow, None, cv.INTER_LINEAR),
        values[..., 8:10],
        light / light_between(opening_then),
        float(portrait.mouth_colours.tooth @ LUMA),
    )
    pixels = DrawnPixels(drawn, np.empty_like(light), part != NOTHING, np.empty_like(light))
    _add_photo(part, photo, opening[2], lip_change, draw_always, pixels)
    seam = smoothstep_of(SEAM_PHOTO, opening_then)
    seam *= smoothstep_of(SEAM_NOW, _lip_gap(plan.face.vertices))
    if seam > 0:
        half = len(INNER_UPPER)
        line = (inner_lips[:half] + inner_lips[: half - 1 : -1]) / 2
        drawn *= 1 - (seam * SEAM) * _soft_line(line, part.shape, SEAM_WIDTH * unit)[..., None]
    merge(image, mask, region.left, region.top, pixels)


def _palette(colours: MouthColours) -> Palette:
    return Palette(colours.tooth, colours.gum, colours.tongue, colours.cavity)


def _parts(ids: Int32Array, inner_lips: Float32Array, unit: float) -> Uint8Image:
    """The part that each pixel (H, W) shows, or NOTHING.

    Insides show between the lips; anywhere else they would shine through.

    :param inner_lips: (22, 2) pixels around the opening.
    :param unit: pixels a face width.
    """
    part: Uint8Image = np.where(ids >= 0, _mouth_parts()[ids], NOTHING).astype(np.uint8)
    between = np.zeros(part.shape, np.uint8)
    outline = np.round(inner_lips).astype(np.int32)
    cv.fillPoly(between, [outline], 1)
    cv.polylines(between, [outline], True, 1, max(round(2 * LIP_MARGIN * unit), 4))
    part[(between == 0) & (part != SKIN)] = NOTHING
    return part


def _attributes(portrait: PreparedPortrait, plan: FramePlan) -> Float32Array:
    """What the mouth's pixels need of the vertices, (V, 10).

    Texture coordinates (2), coordinates of the mouth's inside (6, see `MouthPixels`), weights of
    the lips' inner sides and of the lips.
    """
    vertices = plan.face.vertices
    upper, lower = _lip_middle(vertices)
    height = (vertices[:, 1] - lower[1]) / max(float(upper[1] - lower[1]), 1e-3)
    plane = lower[2] + np.clip(height, 0, 1) * (upper[2] - lower[2])
    depth = plane - vertices[:, 2] - LIPS_LEAN
    columns = [
        plan.uv,
        _mouth_coordinates(),
        depth[:, None],
        plan.normals,
        portrait.inner_lip[:, None],
        topology().lip[:, None],
    ]
    attributes: Float32Array = np.concatenate(columns, 1).astype(np.float32)
    return attributes


@njit(cache=True)
def _sum_lips(part: Uint8Image, photo: _Photo) -> tuple[Float32Array, float]:
    """Sum of the lips' colours (3,), and of how many pixels."""
    lip, count = np.zeros(3, np.float32), 1e-3
    for y in range(0, part.shape[0], 2):
        for x in range(0, part.shape[1], 2):
            if part[y, x] == SKIN and photo.lips[y, x, 1] > LIP_SKIN:
                count += 1
                for k in range(3):
                    lip[k] += photo.colour[y, x, k]
    return lip, count


@njit(cache=True)
def _add_photo(
    part: Uint8Image,
    photo: _Photo,
    opening: Float32Array,
    lip_change: float,
    draw_always: bool,
    drawn: DrawnPixels,
) -> None:
    """Lay the photo's lips, and what it shows between them, over the painted inside, in place.

    :param part: (H, W) index into PARTS or NOTHING.
    :param opening: (W,) height of the opening, face widths.
    :param lip_change: how far the lips left their place in the photo, 0..1.
    :param draw_always: do not use what the photo shows between the lips.
    :param drawn: its colours are in: the painted inside, out: all; the rest is written.
    """
    seen, inside, lips, light, tooth = photo
    colours, weight, _, invented = drawn
    lip, count = _sum_lips(part, photo)
    for y in range(part.shape[0]):
        for x in range(part.shape[1]):
            p = part[y, x]
            if p in (SKIN, NOTHING):
                turned = lip_change * lips[y, x, 0]
                for k in range(3):
                    colours[y, x, k] = seen[y, x, k] * (1 - TURNED_SHADE * turned)
                # Bent lips fold over: they, too, are drawn smoothly.
                t = min(max((lips[y, x, 1] - LIP_SMOOTH) / LIP_FADE, 0.0), 1.0)
                weight[y, x] = lip_change * t * t * (3 - 2 * t)
                invented[y, x] = turned
                continue
            keep = 0.0
            if not draw_always:
                # Lips that do not move show the photo.
                keep = 1 - lip_change * (1 - inside[y, x])
                # Upper teeth move with the head, the rest of the mouth with the jaw. What the
                # photo shows dark where upper teeth are now is no tooth, and must not move so.
                if p == UPPER:
                    luma = 0.299 * seen[y, x, 0] + 0.587 * seen[y, x, 1] + 0.114 * seen[y, x, 2]
                    t = min(max((luma / tooth - TOOTH_DARK) / TOOTH_FADE, 0.0), 1.0)
                    keep *= 1 - lip_change * (1 - t * t * (3 - 2 * t))
                else:
                    keep *= 1 - lip_change
            # Lips that hardly part show a line of their own colour.
            t = min(opening[x] / SLIT, 1.0)
            t = t * t * (3 - 2 * t)
            for k in range(3):
                slit = SLIT_COLOUR[k] * lip[k] / count
                colours[y, x, k] = slit + t * (colours[y, x, k] - slit)
            # Lips that close put the photo's teeth in the dark.
            darker = 1 - lip_change * keep * (1 - min(light[y, x], 1.0))
            for k in range(3):
                value = seen[y, x, k] * darker ** (1 + REDDENING[k])
                colours[y, x, k] += keep * (value - colours[y, x, k])
            weight[y, x], invented[y, x] = 1.0, 1 - keep


def _lip_middle(vertices: Float32Array) -> Float32Array:
    """The middle of the lips' inner edges, upper and lower (2, 3)."""
    return landmarks_of(vertices, [13, 14])


def _lip_gap(vertices: Float32Array) -> float:
    """Height of the lips' opening in the middle, face widths."""
    upper, lower = _lip_middle(vertices)
    return float(upper[1] - lower[1])


def _soft_line(line: Float32Array, size: tuple[int, ...], thickness: float) -> Float32Array:
    """Opacity (H, W) of a line (N, 2) of a thickness in pixels."""
    out = np.zeros(size, np.uint8)
    at = [np.round(line * 8).astype(np.int32)]
    cv.polylines(out, at, False, 255, max(round(thickness), 1), cv.LINE_AA, shift=3)
    soft = cv.GaussianBlur(out, (0, 0), max(0.4 * thickness, 0.5))
    opacity: Float32Array = soft.astype(np.float32) / 255
    return opacity


@lru_cache(maxsize=1)
def _mouth_parts() -> Uint8Array:
    """Part of each of `_mouth_triangles()`."""
    parts: Uint8Array = FaceModel.load().part[_mouth_triangles()].max(1)
    return parts


@lru_cache(maxsize=1)
def _mouth_triangles() -> Int32Array:
    """Triangles around and inside the mouth, and the nose, which may hang over it."""
    model, shape = FaceModel.load(), topology()
    centre = model.mean[model.triangles].mean(1)
    nose = (np.abs(centre[:, 0]) < NOSE_ASIDE) & (centre[:, 2] > NOSE_DEPTH)
    nose &= (centre[:, 1] >= NOSE_BOTTOM) & (centre[:, 1] < NOSE_TOP)
    nose &= shape.triangle_part == SKIN
    return np.concatenate([shape.mouth, model.triangles[nose]])


@lru_cache(maxsize=1)
def _mouth_coordinates() -> Float32Array:
    return mouth_coordinates(FaceModel.load())
