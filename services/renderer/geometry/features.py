"""Eyes and mouth, drawn into the holes of the face at twice the frame's resolution."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from talkingface.renderer.face_model import FaceModel
from talkingface.renderer.fit import Camera
from talkingface.renderer.geometry.eyes import RINGS, draw_eye, draw_lid
from talkingface.renderer.geometry.image import SKIN, affine, box, carry, cv, raster
from talkingface.renderer.geometry.mouth import (
    LOWER_TEETH,
    UPPER,
    UPPER_TEETH,
    paint_inside,
    tooth_coordinates,
)
from talkingface.renderer.geometry.portrait import Portrait
from talkingface.renderer.geometry.pose import gaze_shift, plane_map
from talkingface.renderer.geometry.surface import (
    INNER_LOWER,
    INNER_UPPER,
    anatomy,
    mean_landmarks,
    smoothstep,
)

Array = NDArray[np.float32]
Image = NDArray[np.uint8]
Indices = NDArray[np.int32]

TURNED_SHADE = 0.2  # by which the lips' inner sides are darker when they turn out
DARKNESS = np.array([0.62, 0.76, 0.76], np.float32)  # of teeth behind closing lips, reddish
LIP_MARGIN = 0.012  # face widths around the inner lips where the inside may show
LID_SHARE = 0.85  # of smooth skin over the stretched fold on a shut lid


def place_eye(
    portrait: Portrait,
    image: Image,
    mask: Image,
    points: Array,
    source: Array,
    coefficients: Array,
    camera: Camera,
    eye: int,
    closing: float,
    draw_always: bool,
) -> None:
    """Draw one eye and its lids into the frame, in place."""
    shape = anatomy()
    ring = mean_landmarks(points)[list(RINGS[eye])][:, :2]
    left, top, right, bottom = box(ring, 6 if closing == 0 else 0.12 * float(camera.scale[0]))
    width, height = right - left, bottom - top
    local = (points[:, :2] - np.array([left, top])) * 2 + 0.5
    local = np.concatenate([local, points[:, 2:]], 1).astype(np.float32)
    triangles = shape.eyes[eye]
    ids, weights = raster(local, triangles, 2 * height, 2 * width)
    within = np.zeros((2 * height, 2 * width), np.uint8)
    outline = np.round((ring - np.array([left, top])) * 2 + 0.5).astype(np.int32)
    cv.fillPoly(within, [cv.convexHull(outline)], 1)
    within = cv.dilate(within, np.ones((5, 5), np.uint8))
    hole = (ids < 0) & (within > 0)
    if not hole.any():
        opening = np.zeros((height, width), np.float32)
    else:
        opening = cv.resize(hole.astype(np.float32), (width, height), interpolation=cv.INTER_AREA)
    flow = carry(source, triangles, ids, weights)
    skin = cv.remap(portrait.frame, flow, None, cv.INTER_CUBIC).astype(np.float32)
    ys, xs = np.mgrid[: 2 * height, : 2 * width].astype(np.float32)
    pixels = np.stack([xs / 2 - 0.25 + left, ys / 2 - 0.25 + top], -1)
    back = cv.invertAffineTransform(
        plane_map(portrait.fit.camera, camera, float(portrait.eye_depth[eye]))
    )
    shift, moved = gaze_shift(portrait, coefficients, eye)
    where = affine(back, pixels).astype(np.float32)
    colours, invented = draw_eye(portrait.eyes[eye], where, shift, 1.0 if draw_always else moved)
    if closing > 0:
        plate, share = draw_lid(portrait.eyes[eye], where)
        share = (LID_SHARE * closing * share * (ids >= 0))[..., None]
        skin += share * (plate - skin)
    drawn = np.where(hole[..., None], colours, skin)
    if closing > 0:
        line = _lash_line(outline, hole.shape, float(camera.scale[0]) * 2)
        new_skin = np.maximum(line, share[..., 0])
        opening = np.maximum(
            opening, cv.resize(new_skin, (width, height), interpolation=cv.INTER_AREA) > 0.02
        ).astype(np.float32)
        drawn += (0.85 * min(2.5 * closing, 1) * line)[..., None] * (portrait.lash - drawn)
    small = cv.resize(drawn, (width, height), interpolation=cv.INTER_AREA)
    # Only the eye and the lids' very edge are taken from here; skin around is already in place.
    take = cv.dilate(opening, np.ones((3, 3), np.uint8))[..., None]
    take = (
        take
        * (cv.resize((hole | (ids >= 0)).astype(np.float32), (width, height)) > 0.99)[..., None]
    )
    place = image[top:bottom, left:right]
    place[:] = np.clip(place * (1 - take) + small * take + 0.5, 0, 255).astype(np.uint8)
    new = cv.resize(
        (invented * hole).astype(np.float32), (width, height), interpolation=cv.INTER_AREA
    )
    mask[top:bottom, left:right, 0] = np.maximum(
        mask[top:bottom, left:right, 0], (255 * np.clip(new, 0, 1)).astype(np.uint8)
    )


def _lash_line(ring: Indices, size: tuple[int, int], face: float) -> Array:
    """Opacity (H, W) of the lashes on an upper lid; `face` = face width in these pixels."""
    upper = ring[10:]  # without the inner corner, where no lashes grow
    line = np.zeros(size, np.uint8)
    thick = max(round(0.013 * face), 1)
    cv.polylines(line, [upper * 8], False, 255, thick, cv.LINE_AA, shift=3)
    return cv.GaussianBlur(line, (0, 0), 0.005 * face).astype(np.float32) / 255


def place_mouth(
    portrait: Portrait,
    image: Image,
    mask: Image,
    points: Array,
    source: Array,
    vertices: Array,
    normals: Array,
    lip_change: float,
    draw_always: bool,
) -> None:
    """Draw the mouth's inside with the lips over it into the frame, in place."""
    shape = anatomy()
    left, top, right, bottom = box(points[shape.lip > 0.3], 5)
    width, height = right - left, bottom - top
    local = (points[:, :2] - np.array([left, top])) * 2 + 0.5
    local = np.concatenate([local, points[:, 2:]], 1).astype(np.float32)
    ids, weights = raster(local, _mouth_triangles(), 2 * height, 2 * width)
    part = np.where(ids >= 0, _mouth_parts()[ids], 255).astype(np.uint8)
    # Insides show between the lips; anywhere else they would shine through.
    between = np.zeros(part.shape, np.uint8)
    inner = mean_landmarks(local)[list(INNER_UPPER + INNER_LOWER[::-1])][:, :2]
    cv.fillPoly(between, [np.round(inner).astype(np.int32)], 1)
    reach = max(round(LIP_MARGIN * 2 * float(portrait.fit.camera.scale[0])), 2)
    between = cv.dilate(between, cv.getStructuringElement(cv.MORPH_ELLIPSE, (2 * reach + 1,) * 2))
    part[(between == 0) & (part != SKIN)] = 255
    hole = (part != SKIN) & (part != 255)
    if not hole.any() and lip_change == 0:
        return
    lips = float(np.median(vertices[shape.lip > 0.8, 2]))
    depth = lips - vertices[:, 2] - 0.05
    values = np.concatenate(
        [
            source,
            _teeth(),
            depth[:, None],
            normals[:, 1:2],
            portrait.shade[:, None],
            shape.lip[:, None],
        ],
        1,
    ).astype(np.float32)
    carried = carry(values, _mouth_triangles(), ids, weights)
    reach = max(int(0.05 * portrait.fit.camera.scale[0]) * 2 + 1, 3)
    open_share = cv.blur(hole.astype(np.float32), (reach, reach))
    openness = smoothstep(0.15, 0.95, open_share)
    flow = np.ascontiguousarray(carried[..., :2])
    photo = cv.remap(portrait.frame, flow, None, cv.INTER_CUBIC).astype(np.float32)
    photo *= 1 - TURNED_SHADE * lip_change * (carried[..., 6] * ~hole)[..., None]
    drawn = photo.copy()
    paint = portrait.paint
    paint_inside(
        part, np.ascontiguousarray(carried[..., 2:6]), openness, paint.tooth, paint.gum,
        paint.tongue, paint.cavity, np.stack([UPPER_TEETH, LOWER_TEETH]), drawn,
    )  # fmt: skip
    known = cv.remap(portrait.inside, flow, None, cv.INTER_LINEAR) * hole
    # Upper teeth move with the head; where they cover what moves with the jaw, they would go along.
    known *= 1 - lip_change * (part != UPPER)
    # Lips that close put the photo's teeth in the dark.
    photo *= 1 - (lip_change * known * (1 - openness))[..., None] * DARKNESS
    if draw_always:
        known = np.zeros_like(known)
    drawn = np.where(
        hole[..., None], drawn * (1 - known[..., None]) + photo * known[..., None], photo
    )
    small = cv.resize(drawn, (width, height), interpolation=cv.INTER_AREA)
    # Bent lips fold over: they, too, are drawn smoothly.
    drawn_here = np.maximum(hole, lip_change * smoothstep(0.3, 0.5, carried[..., 7]))
    opening = cv.resize(drawn_here, (width, height), interpolation=cv.INTER_AREA)
    solid = cv.resize(
        (part != 255).astype(np.float32), (width, height), interpolation=cv.INTER_AREA
    )
    take = (cv.dilate(opening, np.ones((3, 3), np.uint8)) * (solid > 0.99))[..., None]
    place = image[top:bottom, left:right]
    place[:] = np.clip(place * (1 - take) + small * take + 0.5, 0, 255).astype(np.uint8)
    new = cv.resize(
        (hole * (1 - known)).astype(np.float32), (width, height), interpolation=cv.INTER_AREA
    )
    mask[top:bottom, left:right, 0] = np.maximum(
        mask[top:bottom, left:right, 0], (255 * np.clip(new, 0, 1)).astype(np.uint8)
    )


@lru_cache(maxsize=1)
def _mouth_parts() -> NDArray[np.uint8]:
    """Part of each of `_mouth_triangles()`."""
    return FaceModel.load().part[_mouth_triangles()].max(1)


@lru_cache(maxsize=1)
def _mouth_triangles() -> Indices:
    """Triangles around and inside the mouth, and the nose, which may hang over it."""
    model, shape = FaceModel.load(), anatomy()
    centre = model.mean[model.triangles].mean(1)
    nose = (np.abs(centre[:, 0]) < 0.2) & (centre[:, 1] >= -0.08) & (centre[:, 1] < 0.1)
    nose &= (shape.triangle_part == SKIN) & (centre[:, 2] > 0.5)
    return np.concatenate([shape.mouth, model.triangles[nose]])


@lru_cache(maxsize=1)
def _teeth() -> Array:
    return tooth_coordinates(FaceModel.load())
