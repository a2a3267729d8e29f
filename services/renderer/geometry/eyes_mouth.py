"""Eyes and mouth, drawn into the holes of the face at twice the frame's resolution."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numba import njit

from talkingface.contract.motion import ARKIT_NAMES
from talkingface.renderer.arrays import BoolArray, Float32Array, Int32Array, Int64Array, Uint8Image
from talkingface.renderer.face.camera import Camera
from talkingface.renderer.face.model import FaceModel
from talkingface.renderer.geometry.eyes import (
    LUMA,
    RINGS,
    lid_shade,
    look_up,
    paint_eye,
    paint_lid,
)
from talkingface.renderer.geometry.frame import FLIP, bounding_box
from talkingface.renderer.geometry.mouth import (
    LOWER_TEETH,
    REDDISH,
    UPPER,
    UPPER_TEETH,
    light_between,
    openings,
    paint_inside,
    tooth_coordinates,
)
from talkingface.renderer.geometry.portrait import BLINKS, PreparedPortrait
from talkingface.renderer.geometry.pose import gaze_shift, plane_map
from talkingface.renderer.geometry.rasterizer import interpolate_attributes, rasterize_mesh
from talkingface.renderer.geometry.surface import smoothstep_of
from talkingface.renderer.geometry.topology import INNER_LOWER, INNER_UPPER, SKIN, topology
from talkingface.renderer.opencv import cv

LID_NAMES = tuple(
    [
        i
        for i, name in enumerate(ARKIT_NAMES)
        if name.startswith(("eye", "cheekSquint")) and name.endswith(side)
    ]
    for side in ("Right", "Left")
)
TURNED_SHADE = 0.2  # by which the lips' inner sides are darker when they turn out
SEAM = np.array([0.35, 0.5, 0.5], np.float32)  # of the line between lips that the photo parts
SEAM_WIDTH = 0.012  # face widths
SLIT = 0.016  # face widths of an opening that is a line rather than a mouth
LINE = (0.42, 0.34, 0.34)  # its colour over the lips' own
LIP_MARGIN = 0.012  # face widths around the inner lips where the inside may show
LASH_LINE = 0.0135  # face widths
LASH_DARK = 0.2  # of the skin's brightness: the lash line's at most
LASH = 0.02  # face widths: the longest lashes as seen on a shut lid
SHUT = 0.7  # blink from which on a photo's eyes count as shut


def place_eye(
    portrait: PreparedPortrait,
    image: Uint8Image,
    mask: Uint8Image,
    points: Float32Array,
    source: Float32Array,
    coefficients: Float32Array,
    camera: Camera,
    eye: int,
    closing: float,
    draw_always: bool,
) -> None:
    """Draw one eye and its lids into the frame, in place."""
    shape = topology()
    if draw_always and float(portrait.fit.coefficients[BLINKS[eye]]) > SHUT:
        closing = 1.0
    ring = _marks(points[:, :2], RINGS[eye])
    reach = np.zeros_like(ring)
    if closing > 0:
        # What is drawn begins above where the open lid would be.
        down = _marks(portrait.shut[eye], RINGS[eye]) @ camera.rotation[0, :2].T * FLIP
        reach = closing * camera.scale[0] * down
    margin = 6 if closing == 0 else 0.06 * float(camera.scale[0])
    left, top, right, bottom = bounding_box(np.concatenate([ring, ring - reach]), margin)
    width, height = right - left, bottom - top
    unit = 2 * float(camera.scale[0])
    local = (points[:, :2] - np.array([left, top])) * 2 + 0.5
    local = np.concatenate([local, points[:, 2:]], 1).astype(np.float32)
    triangles = shape.eyes[eye]
    ids, weights = rasterize_mesh(local, triangles, 2 * height, 2 * width)
    within = np.zeros((2 * height, 2 * width), np.uint8)
    rim = ((ring - np.array([left, top])) * 2 + 0.5).astype(np.float32)
    cv.fillPoly(within, [cv.convexHull(np.round(rim).astype(np.int32))], 1)
    within = cv.dilate(within, np.ones((5, 5), np.uint8))
    hole = (ids < 0) & (within > 0)
    if closing == 0 and not hole.any():
        return
    flow = interpolate_attributes(source, triangles, ids, weights)
    drawn = cv.remap(portrait.frame, flow, None, cv.INTER_CUBIC).astype(np.float32)
    back = cv.invertAffineTransform(
        plane_map(portrait.fit.camera, camera, float(portrait.eye_depth[eye]))
    )
    # ... of pixels of half the size, in this box.
    back[:, 2] += back[:, :2] @ np.array([left - 0.25, top - 0.25])
    back[:, :2] /= 2
    texture, size = portrait.eyes[eye], hole.shape
    ball = look_up(texture, texture.ball, back, size)
    share = hole.astype(np.float32)
    new = np.zeros_like(share)
    if hole.any():
        shade = np.empty(size, np.float32)
        lid_shade(rim, unit, hole, shade)
        shift, moved = gaze_shift(portrait, coefficients, eye)
        moved = 1.0 if draw_always else moved
        gone = back.copy()
        gone[:, 2] -= shift
        iris = look_up(texture, texture.iris, gone, size)
        rest = look_up(texture, texture.rest, back, size)
        changed = max(moved, _lids_changed(portrait, coefficients, eye))
        paint_eye(hole, rest, ball, iris, shade, moved, changed, drawn, new)
    if closing > 0:
        lashes = min(2.5 * closing, 1) * _lash_line(rim, size, unit)
        # Dark against any skin, as what lies in the fold between two lids is.
        skin = texture.lid[..., :3].reshape(-1, 3).mean(0) @ LUMA
        lash = portrait.lash * min(LASH_DARK * skin / max(float(portrait.lash @ LUMA), 1.0), 1.0)
        lid = look_up(texture, texture.lid, back, size)
        # Beside the eye the old rim with its lashes goes as the lid comes down.
        begun = smoothstep_of((0.0, 0.3), closing)
        paint_lid(ids >= 0, lid, ball, begun, lashes, lash.astype(np.float32), drawn, share, new)
    merge(image, mask, left, top, drawn, share, hole | (ids >= 0), new)


def _lids_changed(portrait: PreparedPortrait, coefficients: Float32Array, eye: int) -> float:
    """Whether an eye's lids left their place in the photo, 0..1."""
    names = LID_NAMES[eye]
    change = np.abs(coefficients[names] - portrait.fit.coefficients[names]).max()
    return min(float(change) / 0.05, 1.0)


def _lash_line(ring: Float32Array, size: tuple[int, ...], face: float) -> Float32Array:
    """Opacity (H, W) of the lashes on an upper lid (16, 2); `face` = face width in these pixels."""
    upper = ring[[*range(10, 16), 0]]  # without the inner corner, where no lashes grow
    steps, outer = np.linspace(0, len(upper) - 1, 13), np.linspace(0, 1, 13)
    x = np.interp(steps, np.arange(len(upper)), upper[:, 0])
    y = np.interp(steps, np.arange(len(upper)), upper[:, 1])
    # Thickest in the outer half, thin towards both corners.
    thick = LASH_LINE * face * np.sin(np.pi * (0.9 * outer + 0.04)) ** 0.7
    line = np.stack([x[:-1], y[:-1], x[1:], y[1:], thick[:-1], np.ones(12)], 1)
    # Lashes hang down, further out the longer and the more outwards.
    away = np.sign(ring[0, 0] - ring[8, 0])
    hang = face * LASH * outer
    tips = [x, y, x + hang * 0.9 * away * outer, y + hang, np.full(13, 0.5), np.full(13, 0.6)]
    strokes = np.concatenate([line, np.stack(tips, 1)[3:]]).astype(np.float32)
    out = np.zeros(size, np.float32)
    _draw_strokes(strokes, max(0.005 * face, 0.7), out)
    # The lid's soft shadow below the line.
    line[:, [1, 3]] += 0.006 * face
    line[:, 5] = 0.3
    _draw_strokes(line.astype(np.float32), 0.016 * face, out)
    return out


@njit(cache=True)
def _draw_strokes(strokes: Float32Array, soft: float, out: Float32Array) -> None:
    """Lines with soft edges, in place: strokes (N, 6) from x, y to x, y, thickness, opacity."""
    height, width = out.shape
    for n in range(len(strokes)):
        ax, ay, bx, by, thick, opacity = strokes[n]
        reach = thick / 2 + soft
        dx, dy = bx - ax, by - ay
        length = max(dx * dx + dy * dy, np.float32(1e-6))
        for row in range(
            max(int(min(ay, by) - reach), 0), min(int(max(ay, by) + reach) + 2, height)
        ):
            first, last = max(int(min(ax, bx) - reach), 0), min(int(max(ax, bx) + reach) + 2, width)
            for column in range(first, last):
                t = ((column - ax) * dx + (row - ay) * dy) / length
                t = min(max(t, 0.0), 1.0)
                u, v = column - ax - t * dx, row - ay - t * dy
                edge = (reach - np.sqrt(u * u + v * v)) / (2 * min(soft, reach))
                share = min(max(edge, 0.0), 1.0)
                share = opacity * share * share * (3 - 2 * share)
                out[row, column] = max(out[row, column], share)


def place_mouth(
    portrait: PreparedPortrait,
    image: Uint8Image,
    mask: Uint8Image,
    points: Float32Array,
    source: Float32Array,
    vertices: Float32Array,
    normals: Float32Array,
    lip_change: float,
    draw_always: bool,
) -> None:
    """Draw the mouth's inside with the lips over it into the frame, in place."""
    shape = topology()
    left, top, right, bottom = bounding_box(points[shape.lip > 0.3], 5)
    width, height = right - left, bottom - top
    unit = 2 * float(portrait.fit.camera.scale[0])
    local = (points[:, :2] - np.array([left, top])) * 2 + 0.5
    local = np.concatenate([local, points[:, 2:]], 1).astype(np.float32)
    ids, weights = rasterize_mesh(local, _mouth_triangles(), 2 * height, 2 * width)
    part = np.where(ids >= 0, _mouth_parts()[ids], 255).astype(np.uint8)
    # Insides show between the lips; anywhere else they would shine through.
    between = np.zeros(part.shape, np.uint8)
    marks = _marks(local[:, :2], [*INNER_UPPER, *INNER_LOWER[::-1]])
    inner = np.round(marks).astype(np.int32)
    cv.fillPoly(between, [inner], 1)
    cv.polylines(between, [inner], True, 1, max(round(2 * LIP_MARGIN * unit), 4))
    part[(between == 0) & (part != SKIN)] = 255
    hole = (part != SKIN) & (part != 255)
    if not hole.any() and lip_change == 0:
        return
    upper, lower = _lip_middle(vertices)
    height = (vertices[:, 1] - lower[1]) / max(float(upper[1] - lower[1]), 1e-3)
    depth = lower[2] + np.clip(height, 0, 1) * (upper[2] - lower[2]) - vertices[:, 2] - 0.05
    values = np.concatenate(
        [source, _teeth(), depth[:, None], normals, portrait.shade[:, None], shape.lip[:, None]], 1
    ).astype(np.float32)
    carried = interpolate_attributes(values, _mouth_triangles(), ids, weights)
    flow = np.ascontiguousarray(carried[..., :2])
    photo = cv.remap(portrait.frame, flow, None, cv.INTER_CUBIC)
    drawn, lit = np.empty(photo.shape, np.float32), np.zeros(part.shape, np.float32)
    opened = np.empty((3, part.shape[1]), np.float32)
    openings(part, unit, opened)
    paint = portrait.paint
    paint_inside(
        part, carried[..., 2:8], opened, unit, np.stack([UPPER_TEETH, LOWER_TEETH]),
        np.stack([paint.tooth, paint.gum, paint.tongue, paint.cavity]), lit, drawn,
    )  # fmt: skip
    known = cv.remap(portrait.inside, flow, None, cv.INTER_LINEAR)
    photographed = _lip_gap(portrait.photographed)
    share, new = np.empty_like(lit), np.empty_like(lit)
    _compose_mouth(
        part, photo, known, carried[..., 8:10], lit / light_between(photographed),
        opened[2], draw_always, lip_change, float(paint.tooth @ LUMA), drawn, share, new,
    )  # fmt: skip
    seam = smoothstep_of((0.01, 0.04), photographed) * smoothstep_of(
        (0.02, 0.0), _lip_gap(vertices)
    )
    if seam > 0:
        half = len(INNER_UPPER)
        line = (marks[:half] + marks[: half - 1 : -1]) / 2
        drawn *= 1 - (seam * SEAM) * _soft_line(line, part.shape, SEAM_WIDTH * unit)[..., None]
    merge(image, mask, left, top, drawn, share, part != 255, new)


@njit(cache=True)
def _compose_mouth(
    part: Uint8Image,
    photo: Uint8Image,
    known: Float32Array,
    lips: Float32Array,
    light: Float32Array,
    opened: Float32Array,
    draw_always: bool,
    lip_change: float,
    tooth: float,
    drawn: Float32Array,
    share: Float32Array,
    new: Float32Array,
) -> None:
    """Lay the photo's lips, and what it shows between them, over the painted inside, in place.

    :param photo: (H, W, 3), known (H, W): the photo, and where it shows the mouth's inside.
    :param lips: (H, W, 2): the lips' inner sides, and how near the lips' line.
    :param light: (H, W) that gets into the mouth, over that in the photo.
    :param opened: (W,) height of the opening, face widths.
    :param draw_always: do not use the photo; lip_change: how far the lips left their place in it.
    :param tooth: brightness of teeth.
    :param drawn: (H, W, 3) in: the painted inside, out: all; share, new: as in `merge`.
    """
    lip, count = np.zeros(3, np.float32), 1e-3
    for y in range(0, part.shape[0], 2):
        for x in range(0, part.shape[1], 2):
            if part[y, x] == SKIN and lips[y, x, 1] > 0.6:
                count += 1
                for k in range(3):
                    lip[k] += photo[y, x, k]
    for y in range(part.shape[0]):
        for x in range(part.shape[1]):
            p = part[y, x]
            if p == SKIN or p == 255:
                turned = lip_change * lips[y, x, 0]
                for k in range(3):
                    drawn[y, x, k] = photo[y, x, k] * (1 - TURNED_SHADE * turned)
                # Bent lips fold over: they, too, are drawn smoothly.
                t = min(max((lips[y, x, 1] - 0.3) / 0.2, 0.0), 1.0)
                share[y, x] = lip_change * t * t * (3 - 2 * t)
                new[y, x] = turned
                continue
            keep = 0.0
            if not draw_always:
                # Lips that do not move show the photo.
                keep = 1 - lip_change * (1 - known[y, x])
                # Upper teeth move with the head; where they cover what moves with the jaw, that
                # would go along, and what is dark there are not teeth.
                if p == UPPER:
                    luma = 0.299 * photo[y, x, 0] + 0.587 * photo[y, x, 1] + 0.114 * photo[y, x, 2]
                    t = min(max((luma / tooth - 0.4) / 0.15, 0.0), 1.0)
                    keep *= 1 - lip_change * (1 - t * t * (3 - 2 * t))
                else:
                    keep *= 1 - lip_change
            # What hardly parts is a line of the lips' own colour.
            t = min(opened[x] / SLIT, 1.0)
            t = t * t * (3 - 2 * t)
            for k in range(3):
                slit = LINE[k] * lip[k] / count
                drawn[y, x, k] = slit + t * (drawn[y, x, k] - slit)
            # Lips that close put the photo's teeth in the dark.
            darker = 1 - lip_change * keep * (1 - min(light[y, x], 1.0))
            for k in range(3):
                seen = photo[y, x, k] * darker ** (1 + REDDISH[k])
                drawn[y, x, k] += keep * (seen - drawn[y, x, k])
            share[y, x], new[y, x] = 1.0, 1 - keep


def _marks(points: Float32Array, indices: Sequence[int]) -> Float32Array:
    """Some of the skin's landmarks (N, C) of any vertex values (V, C)."""
    model = FaceModel.load()
    corners, weights = model.landmark_corners, model.landmark_weights
    out = np.empty((len(indices), points.shape[1]), np.float32)
    _weigh(points, np.asarray(indices), corners, weights, out)
    return out


@njit(cache=True)
def _weigh(
    points: Float32Array,
    indices: Int64Array,
    corners: Int32Array,
    weights: Float32Array,
    out: Float32Array,
) -> None:
    for n in range(len(indices)):
        i = indices[n]
        for k in range(points.shape[1]):
            total = np.float32(0)
            for c in range(3):
                total += weights[i, c] * points[corners[i, c], k]
            out[n, k] = total


def _lip_middle(vertices: Float32Array) -> Float32Array:
    """The middle of the lips' inner edges, upper and lower (2, 3)."""
    return _marks(vertices, [13, 14])


def _lip_gap(vertices: Float32Array) -> float:
    """Height of the lips' opening in face widths, in the middle."""
    upper, lower = _lip_middle(vertices)
    return float(upper[1] - lower[1])


def _soft_line(line: Float32Array, size: tuple[int, ...], thick: float) -> Float32Array:
    """Opacity (H, W) of a line (N, 2) of a thickness in pixels."""
    out = np.zeros(size, np.uint8)
    at = [np.round(line * 8).astype(np.int32)]
    cv.polylines(out, at, False, 255, max(round(thick), 1), cv.LINE_AA, shift=3)
    return cv.GaussianBlur(out, (0, 0), max(0.4 * thick, 0.5)).astype(np.float32) / 255


@njit(cache=True)
def merge(
    image: Uint8Image,
    mask: Uint8Image,
    left: int,
    top: int,
    drawn: Float32Array,
    share: Float32Array,
    solid: BoolArray,
    new: Float32Array,
) -> None:
    """Lay what is drawn at twice the resolution into the frame and its mask, in place.

    :param drawn: (2h, 2w, 3); share (2h, 2w) how much of it is to be seen; solid (2h, 2w) where it
        is something at all; new (2h, 2w) how much of it is invented, for the mask.
    """
    height, width = share.shape[0] // 2, share.shape[1] // 2
    small = np.empty((height, width), np.float32)
    for y in range(height):
        for x in range(width):
            total = share[2 * y, 2 * x] + share[2 * y, 2 * x + 1]
            total += share[2 * y + 1, 2 * x] + share[2 * y + 1, 2 * x + 1]
            small[y, x] = 0.25 * total
    for y in range(height):
        for x in range(width):
            take = np.float32(0.0)
            for v in range(max(y - 1, 0), min(y + 2, height)):
                for u in range(max(x - 1, 0), min(x + 2, width)):
                    take = max(take, small[v, u])
            if take == 0.0:
                continue
            whole, fresh = True, np.float32(0.0)
            for v in range(2 * y, 2 * y + 2):
                for u in range(2 * x, 2 * x + 2):
                    whole = whole and solid[v, u]
                    fresh += new[v, u]
            if whole:
                for k in range(3):
                    colour = drawn[2 * y, 2 * x, k] + drawn[2 * y, 2 * x + 1, k]
                    colour += drawn[2 * y + 1, 2 * x, k] + drawn[2 * y + 1, 2 * x + 1, k]
                    below = np.float32(image[top + y, left + x, k])
                    value = below + take * (np.float32(0.25) * colour - below)
                    image[top + y, left + x, k] = np.uint8(min(max(value + 0.5, 0.0), 255.0))
            value = min(np.float32(0.25) * fresh, np.float32(1.0)) * 255
            mask[top + y, left + x, 0] = max(mask[top + y, left + x, 0], np.uint8(value))


@lru_cache(maxsize=1)
def _mouth_parts() -> Uint8Image:
    """Part of each of `_mouth_triangles()`."""
    return FaceModel.load().part[_mouth_triangles()].max(1)


@lru_cache(maxsize=1)
def _mouth_triangles() -> Int32Array:
    """Triangles around and inside the mouth, and the nose, which may hang over it."""
    model, shape = FaceModel.load(), topology()
    centre = model.mean[model.triangles].mean(1)
    nose = (np.abs(centre[:, 0]) < 0.2) & (centre[:, 1] >= -0.08) & (centre[:, 1] < 0.1)
    nose &= (shape.triangle_part == SKIN) & (centre[:, 2] > 0.5)
    return np.concatenate([shape.mouth, model.triangles[nose]])


@lru_cache(maxsize=1)
def _teeth() -> Float32Array:
    return tooth_coordinates(FaceModel.load())
