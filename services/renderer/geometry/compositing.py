"""Background, rear plate and face, laid over one another."""

from __future__ import annotations

import numpy as np
from numba import njit

from talkingface.renderer.arrays import (
    BoolArray,
    Float32Array,
    Int32Array,
    Int64Array,
    Uint8Image,
    Uint32Array,
)
from talkingface.renderer.geometry.depth_proxy import CELL, still_field
from talkingface.renderer.geometry.frame import FRAME, bounding_box
from talkingface.renderer.geometry.portrait import PreparedPortrait
from talkingface.renderer.geometry.rasterizer import interpolate_attributes, rasterize_mesh
from talkingface.renderer.geometry.rear_layer import MARGIN, SOLID
from talkingface.renderer.geometry.surface import smoothstep
from talkingface.renderer.geometry.topology import topology
from talkingface.renderer.opencv import cv

Borders = tuple[bool, bool, bool, bool]  # left, top, right, bottom
# The cheek that a turned side keeps in the rear plate: heights over which, face widths from the
# middle from which, and over how many.
CHEEK = (np.float32(-0.22), np.float32(-0.08), np.float32(0.1), np.float32(0.1))
SKIRT = 4  # pixels by which the face's flow goes on beyond its edge
PINNED = (10.0, 80.0)  # pixels from a pinned border over which motion sets in


@njit(cache=True, fastmath=True)
def _blend_face(
    image: Uint8Image,
    mask: Uint8Image,
    left: int,
    top: int,
    colour: Uint8Image,
    opacity: Float32Array,
    ids: Int32Array,
    worn: Float32Array,
) -> None:
    """Lay the face over the frame in place; `worn` (T,) goes to the mask's second channel.

    :param colour: (h, w, 3), opacity (h, w), ids (h, w) indices into `worn` or -1.
    """
    for y in range(opacity.shape[0]):
        for x in range(opacity.shape[1]):
            a = opacity[y, x]
            if a <= 0.0:
                continue
            for k in range(3):
                below = np.float32(image[top + y, left + x, k])
                image[top + y, left + x, k] = np.uint8(below + a * (colour[y, x, k] - below) + 0.5)
            if ids[y, x] >= 0:
                mask[top + y, left + x, 1] = np.uint8(255.0 * a * worn[ids[y, x]])


@njit(cache=True, fastmath=True)
def _blend_rear(
    background: Uint8Image, near: Uint8Image, rear: Uint8Image, field: Float32Array, out: Uint8Image
) -> None:
    """Rear plate (RGBA) over background; where little moves, the background is the photo's own.

    `background` is invented around the person, to be clear of strands of hair that the matte
    misses; `near` keeps the photo there, strands and all, and serves where these hardly move.

    :param field: (H, W, 2) where in the rear plate the pixels come from.
    :param out: (H, W, 3) in and out; comes with what the photo has there, and keeps it where the
        plate is nothing but photo.
    """
    one, reach, half = np.float32(1), np.float32(6), np.float32(0.5)
    for y in range(out.shape[0]):
        for x in range(out.shape[1]):
            opacity = rear[y, x, 3]
            if opacity == 255:
                continue
            if opacity >= SOLID:
                for k in range(3):
                    out[y, x, k] = rear[y, x, k]
                continue
            dx = field[y, x, 0] - np.float32(x + MARGIN)
            dy = field[y, x, 1] - np.float32(y + MARGIN)
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


def border_distance(size: int, borders: Borders) -> Float32Array:
    """Pixels of the frame from each cell (size, size) to the nearest of some borders."""
    step = FRAME / size
    along = (np.arange(size) + 0.5) * step
    far = np.full(size, np.inf)
    left, top, right, bottom = borders
    across = np.minimum(along if left else far, along[::-1] if right else far)
    down = np.minimum(along if top else far, along[::-1] if bottom else far)
    return np.minimum(across[None], down[:, None]).astype(np.float32)


def pin_field(field: Float32Array, borders: Borders) -> Float32Array:
    """A field of motion that comes to rest at some borders."""
    free = smoothstep(*PINNED, border_distance(len(field), borders))[..., None]
    return still_field() + free * (field - still_field())


@njit(cache=True, fastmath=True)
def _clear(
    plate: Uint8Image,
    cleared: Uint8Image,
    whole: Uint32Array,
    whole_cleared: Uint32Array,
    box: Int32Array,
    share: float,
    near: Float32Array,
    across: Float32Array,
    up: Float32Array,
) -> None:
    """Take jaw and cheeks out of the rear plate in place, save on a side that turns to the viewer.

    :param whole, whole_cleared: (H, W) the plates' pixels as one number each.
    :param box: (4,) left, top, right, bottom of where the two plates differ.
    :param near: (2,) how far the viewer's left, right side does so.
    :param across, up: (3,) affine functions of the plate's pixels: face widths from the head's
        middle to the right, and upwards.
    """
    zero, one = np.float32(0), np.float32(1)
    for y in range(box[1], box[3]):
        for x in range(box[0], box[2]):
            if whole[y, x] == whole_cleared[y, x]:
                continue
            a = np.float32(share)
            aside = across[0] * x + across[1] * y + across[2]
            kept = near[0] if aside < 0 else near[1]
            if kept > 0:
                height = up[0] * x + up[1] * y + up[2]
                kept *= min(max((height - CHEEK[0]) / (CHEEK[1] - CHEEK[0]), zero), one)
                kept *= min(max((abs(aside) - CHEEK[2]) / CHEEK[3], zero), one)
                a *= one - kept
            part = int(a * np.float32(256) + np.float32(0.5))
            if part == 0:
                continue
            for k in range(4):
                here = int(plate[y, x, k])
                plate[y, x, k] = here + ((part * (int(cleared[y, x, k]) - here) + 128) >> 8)
            plate[y, x, 3] = min(plate[y, x, 3], SOLID)  # no longer the photo itself


def rear_plate_now(portrait: PreparedPortrait, cleared: float, near: Float32Array) -> Uint8Image:
    """The rear plate with jaw and cheeks taken out where they move away, (704, 704, 4)."""
    plate = portrait.rear.copy()
    if cleared > 0:
        camera = portrait.fit.camera
        scale, roll = float(camera.scale[0]), np.deg2rad(float(camera.angles[0, 2]))
        pivot = camera.translation[0] + MARGIN
        across = np.array([np.cos(roll), np.sin(roll)]) / scale
        up = np.array([np.sin(roll), -np.cos(roll)]) / scale
        _clear(
            plate, portrait.rear_cleared, plate.view(np.uint32)[..., 0],
            portrait.rear_cleared.view(np.uint32)[..., 0], portrait.cleared_box, cleared, near,
            np.append(across, -across @ pivot).astype(np.float32),
            np.append(up, -up @ pivot).astype(np.float32),
        )  # fmt: skip
    return plate


def compose(
    portrait: PreparedPortrait,
    points: Float32Array,
    source: Float32Array,
    front: Float32Array,
    field: Float32Array,
    cleared: float,
    near: Float32Array,
    hidden: Float32Array | None,
) -> tuple[Uint8Image, Uint8Image, Float32Array, tuple[slice, slice], BoolArray]:
    """Background, rear plate and face: (512, 512, 3), and the mask (512, 512, 2).

    :param points: (V, 3) the mesh in the frame; source (V, 2) where in the photo its colours are.
    :param front: (V,) opacity of the face.
    :param field: (FIELD, FIELD, 2) where in the photo the rear plate's pixels come from.
    :param cleared: how far the rear plate has lost jaw and cheeks, 0..1.
    :param near: (2,) how far the viewer's left and right side turned towards the viewer, 0..1.
    :param hidden: (V,) share of the colours from the portrait's hidden side, if any.
    :return: also the face's flow (h, w, 2), its place in the frame and where it is opaque (h, w).
    """
    shape = topology()
    plate = rear_plate_now(portrait, cleared, near)
    # Maps are made where they are small: what is 512 pixels wide is touched once.
    beyond, double = enlarge(field + MARGIN), enlarge(field * 2)
    rear = cv.remap(plate, beyond, None, cv.INTER_LINEAR, borderMode=cv.BORDER_REPLICATE)
    image = _look_up(portrait.fine, double)
    _blend_rear(portrait.background, portrait.near_background, rear, beyond, image)
    mask = np.zeros((FRAME, FRAME, 2), np.uint8)

    facing = shape.face
    left, top, right, bottom = bounding_box(points[shape.face_vertices], 4)
    local = points - np.array([left, top, 0], np.float32)
    ids, weights = rasterize_mesh(local, facing, bottom - top, right - left)
    carried = interpolate_attributes(np.column_stack([source, front]), facing, ids, weights)
    flow, shown = np.ascontiguousarray(carried[..., :2]), carried[..., 2]
    _skirt(flow, ids)
    opacity = cv.GaussianBlur(cv.dilate(shown, np.ones((3, 3), np.uint8)), (0, 0), 1.0)
    colour = _look_up(portrait.fine, flow * np.float32(2))
    if hidden is not None:
        values = np.concatenate([portrait.other_side.places, hidden[:, None]], 1)
        other = interpolate_attributes(values, facing, ids, weights)
        places = np.ascontiguousarray(other[..., :2])
        _skirt(places, ids)
        lit = _look_up(portrait.other_side.picture, places)
        share = cv.blur(cv.dilate(other[..., 2], np.ones((3, 3), np.uint8)), (3, 3))
        _mix(colour, lit, share)
    worn = np.empty(len(facing), np.float32)
    _measure_wear(points, facing, shape.face_index, portrait.area, worn)
    _blend_face(image, mask, left, top, colour, opacity, ids, worn)
    place = (slice(top, bottom), slice(left, right))
    return image, mask, flow, place, opacity > 0.5


def finely(photo: Uint8Image) -> Uint8Image:
    """A photo at twice its size, every second pixel its own; see `_look_up`."""
    double = np.array([[0.5, 0, 0], [0, 0.5, 0]], np.float32)
    size = (2 * photo.shape[1], 2 * photo.shape[0])
    flags = cv.INTER_CUBIC | cv.WARP_INVERSE_MAP
    return cv.warpAffine(photo, double, size, flags=flags, borderMode=cv.BORDER_REFLECT_101)


def _look_up(image: Uint8Image, places: Float32Array) -> Uint8Image:
    """An image's colours at places (H, W, 2).

    From the photo at twice its size this is nearly as sharp as cubic interpolation, and several
    times as fast.
    """
    return cv.remap(image, places, None, cv.INTER_LINEAR, borderMode=cv.BORDER_REFLECT_101)


def enlarge(field: Float32Array) -> Float32Array:
    """A field (FIELD, FIELD, 2) for every pixel of the frame, (512, 512, 2)."""
    out = np.asarray(cv.resize(field, (FRAME, FRAME), interpolation=cv.INTER_LINEAR))
    # Half a cell at the rim lies beyond the outermost centres: there the field goes on evenly.
    half = CELL // 2
    ahead = np.arange(half, 0, -1, dtype=np.float32)[:, None, None]
    for rim in (out, out[::-1], out.swapaxes(0, 1), out.swapaxes(0, 1)[::-1]):
        rim[:half] = rim[half] - ahead * (rim[half + 1] - rim[half])
    return out


# Compiled at once, for not every portrait has a hidden side, and a stream must not wait for it.
@njit("void(u1[:,:,::1], u1[:,:,::1], f4[:,::1])", cache=True, fastmath=True)
def _mix(image: Uint8Image, other: Uint8Image, share: Float32Array) -> None:
    """Change an image into another one where `share` (H, W) is 1, in place."""
    for y in range(share.shape[0]):
        for x in range(share.shape[1]):
            a = share[y, x]
            if a > 0:
                for k in range(3):
                    here = np.float32(image[y, x, k])
                    change = a * (np.float32(other[y, x, k]) - here)
                    image[y, x, k] = np.uint8(here + change + np.float32(0.5))


@njit(cache=True, fastmath=True)
def _measure_wear(
    points: Float32Array,
    triangles: Int32Array,
    index: Int64Array,
    area: Float32Array,
    out: Float32Array,
) -> None:
    """How little the photo knows of each front triangle, 0..1: stretched, or hidden there.

    :param area: (T,) of all the mesh's triangles in the photo; index: where `triangles` are in it.
    """
    for t in range(len(triangles)):
        before = area[index[t]]
        if before <= 0:
            out[t] = 1
            continue
        a, b, c = triangles[t, 0], triangles[t, 1], triangles[t, 2]
        now = (points[b, 1] - points[a, 1]) * (points[c, 0] - points[a, 0])
        now -= (points[b, 0] - points[a, 0]) * (points[c, 1] - points[a, 1])
        grown = (now / max(before, np.float32(1e-3)) - np.float32(1.8)) / np.float32(2.2)
        grown = min(max(grown, np.float32(0)), np.float32(1))
        out[t] = grown * grown * (np.float32(3) - np.float32(2) * grown)


@njit(cache=True, fastmath=True)
def _skirt(flow: Float32Array, ids: Int32Array) -> None:
    """Continue a flow (H, W, 2) a few pixels beyond its edge in place, so that edges can be soft.

    The displacement is what continues, taken from the nearest covered pixel of the row or column.
    """
    height, width = ids.shape
    first, last = np.full(height, width), np.full(height, -1)
    for y in range(height):
        for x in range(width):
            if ids[y, x] >= 0:
                first[y] = min(first[y], x)
                last[y] = x
    for y in range(height):
        above, below = max(y - SKIRT, 0), min(y + SKIRT + 1, height)
        left = max(first[above:below].min() - SKIRT, 0)
        right = min(last[above:below].max() + SKIRT + 1, width)
        for x in range(left, right):
            if ids[y, x] >= 0:
                continue
            best = SKIRT + 1
            for d in range(-SKIRT, SKIRT + 1):
                if abs(d) < best and 0 <= x + d < width and ids[y, x + d] >= 0:
                    best = abs(d)
                    flow[y, x, 0] = flow[y, x + d, 0] - d
                    flow[y, x, 1] = flow[y, x + d, 1]
                if abs(d) < best and 0 <= y + d < height and ids[y + d, x] >= 0:
                    best = abs(d)
                    flow[y, x, 0] = flow[y + d, x, 0]
                    flow[y, x, 1] = flow[y + d, x, 1] - d
