"""Offsets by vertex of one portrait: how lids and lips close, where skin takes its colour from."""

from __future__ import annotations

import numpy as np

from talkingface.renderer.arrays import BoolArray, Float32Array, Uint8Image
from talkingface.renderer.face.camera import Camera
from talkingface.renderer.face.landmarks import LIP_CORNERS, LIP_PAIRS, LOWER_LIP, UPPER_LIP
from talkingface.renderer.face.model import FaceModel
from talkingface.renderer.geometry.eyes import LUMA
from talkingface.renderer.geometry.frame import FLIP, FRAME
from talkingface.renderer.geometry.portrait import BLINKS
from talkingface.renderer.geometry.rasterizer import draw_mesh
from talkingface.renderer.geometry.surface import mean_landmarks, smoothstep_of
from talkingface.renderer.geometry.topology import INNER_LOWER, INNER_UPPER, SKIN, topology
from talkingface.renderer.opencv import cv

# Landmarks of the lids' edges: subject's right eye, left.
UPPER_LIDS = ((161, 160, 159, 158, 157), (388, 387, 386, 385, 384))
LOWER_LIDS = ((163, 144, 145, 153, 154), (390, 373, 374, 380, 381))
# The lips' outer edges, point by point beside `INNER_UPPER` and `INNER_LOWER`.
OUTER_UPPER = (61, 185, 40, 39, 37, 0, 267, 269, 270, 409, 291)
OUTER_LOWER = (61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291)

# All by eye.
LID_GAIN_RANGE = (0.2, 3.0)  # of the face model's blink that closes a photographed eye
LIDS_OVERLAP = 1.15  # of that gain: landmarks of the lids lie a little inside of their edges
FOLD_STILL = 0.65  # how much less the fold above a closing lid moves than the lid
LIPS = 0.25  # weight of the lips from which a vertex belongs to them
LIP_MARGIN, OPEN_MARGIN = 0.008, 0.008  # face widths beyond the seam; more beside an open mouth ...
OPEN_LIPS = (0.01, 0.04)  # ... whose lips stand this many face widths apart
LIP_LIMIT = 0.06  # face widths of shift at most
LIP_COLUMNS, LIP_SAMPLES = 41, 21  # cuts across a lip, and samples of each
LIP_THINNEST = 0.025  # face widths of a cut at least; at the corners the landmarks of a lip meet
LIP_LEVEL = (0.35, 0.8)  # of a lip's thickness, where it has its ordinary brightness
LIP_CONTRAST = 0.25  # of that brightness by which teeth and the corners' darkness differ from it
LIP_MOST = 0.5  # of a lip's thickness that may be taken for something else
LIP_EASE = 2.5  # margins beyond the seam over which a shifted lip joins the photo's again
OCCLUDED_BY = 1.5  # pixels of depth behind what is seen
OUTLINE_LIMIT = 0.08  # of the face's width in the frame, that its edge is shifted at most
OUTLINE_WEIGHT = 0.02  # of the face's hard edge from which it is shifted


def lid_closure(vertices: Float32Array, camera: Camera) -> Float32Array:
    """Offsets (2, V, 3) that move the photographed lids to shut ones, as the camera sees them.

    Upper and lower lids differ in depth, so that those of a face seen from below would stay apart
    if they met in the head's own heights.

    :param vertices: (V, 3) as photographed, unposed.
    """
    model = FaceModel.load()
    marks = mean_landmarks(vertices)
    up = camera.rotation[0, 1]
    out = np.zeros((2, len(vertices), 3), np.float32)
    for k in range(2):
        blink = model.expressions[BLINKS[k]]
        moved = mean_landmarks(blink)[list(UPPER_LIDS[k])] @ up
        upper, lower = marks[list(UPPER_LIDS[k])], marks[list(LOWER_LIDS[k])]
        needed = ((lower - upper) @ up) / np.minimum(moved, -1e-3)
        order = np.argsort(upper[:, 0])
        gain = np.clip(needed[order], *LID_GAIN_RANGE)
        gain = np.interp(vertices[:, 0], upper[order, 0], gain)
        out[k] = blink * (LIDS_OVERLAP * gain[:, None])
    return out


def lip_closure(neutral: Float32Array) -> Float32Array:
    """Offsets (V, 3) by which the lips of the neutral mesh (V, 3) just touch."""
    shape = topology()
    marks = mean_landmarks(neutral)
    upper, lower = marks[[a for a, _ in LIP_PAIRS]], marks[[b for _, b in LIP_PAIRS]]
    gap = upper[:, 1] - lower[:, 1]
    across = (upper[:, 0] + lower[:, 0]) / 2
    order = np.argsort(across)
    corner = marks[list(LIP_CORNERS), 0]
    xs = np.concatenate([[corner[0]], across[order], [corner[1]]])
    half = 0.5 * np.interp(neutral[:, 0], xs, np.concatenate([[0], gap[order], [0]]))
    out = np.zeros_like(neutral)
    out[:, 1] = np.where(shape.lower_lip, half, -half) * shape.lip
    return out


def lip_uv_shift(
    frame: Uint8Image, source: Float32Array, landmarks: Float32Array, camera: Camera
) -> Float32Array:
    """Change of the texture coordinates at the lips' edges, (V, 2).

    The photo of closed lips does not show their inner sides. Where a parting lip turns out such a
    side, it takes its colour from just outside the seam, not from the other lip beyond it. Lips
    that close over an open mouth must not take teeth or the dark of its corners along.

    :param frame: (512, 512, 3) RGB.
    :param source: (V, 3) mesh as photographed, pixels and depth.
    :param landmarks: (478, 2+) pixels.
    """
    shape, model = topology(), FaceModel.load()
    right, left = (landmarks[corner, :2] for corner in LIP_CORNERS)
    scale = float(camera.scale[0])
    along = left - right
    width = float(np.linalg.norm(along))
    along = along / width
    up = np.array([along[1], -along[0]], np.float32)
    offset = source[:, :2] - right
    position, height = offset @ along, offset @ up
    opening = landmarks[LOWER_LIP, :2] - landmarks[UPPER_LIP, :2]
    gap = float(np.linalg.norm(opening) / camera.scale[0])
    # Beside an open mouth it stays clear of teeth and darkness, where landmarks err most.
    opened = smoothstep_of(OPEN_LIPS, gap)
    margin = (LIP_MARGIN + OPEN_MARGIN * opened) * scale

    def outwards(inner: tuple[int, ...], outer: tuple[int, ...], sign: float) -> Float32Array:
        """Shift (V,) away from the other lip."""
        rim, border = landmarks[list(inner), :2], landmarks[list(outer), :2]
        edge, clear = _clear_of_mouth(frame, rim, border, sign * up, scale)
        places = (edge - right) @ along
        least = np.interp(position, places, margin + opened * np.maximum(clear - margin, 0))
        beyond = sign * (height - np.interp(position, places, (edge - right) @ up))
        eased = least * np.clip(1 - beyond / (LIP_EASE * least), 0, 1)
        shift: Float32Array = sign * np.where(beyond < 0, least - beyond, eased)
        return shift

    moved = np.where(
        shape.lower_lip,
        outwards(INNER_LOWER, OUTER_LOWER, -1.0),
        outwards(INNER_UPPER, OUTER_UPPER, 1.0),
    )
    limit = LIP_LIMIT * scale
    lips = (shape.lip > LIPS) & (model.part == SKIN)
    moved = np.clip(moved, -limit, limit) * lips
    # Inner sides at the corners would otherwise show the cheek beyond.
    inward = np.clip(position, 2 * margin, width - 2 * margin) - position
    inward = np.where(lips & occluded_vertices(source), inward, 0)
    shift: Float32Array = (moved[:, None] * up + inward[:, None] * along).astype(np.float32)
    return shift


def _clear_of_mouth(
    frame: Uint8Image, inner: Float32Array, outer: Float32Array, up: Float32Array, scale: float
) -> tuple[Float32Array, Float32Array]:
    """How far beyond the landmarks of its inner edge the photo shows a lip.

    :param inner: (N, 2) landmarks of that edge and `outer` (N, 2) of the other, pixels.
    :param up: (2,) away from the mouth.
    :param scale: pixels a face width.
    :return: points (LIP_COLUMNS, 2) of the inner edge, and pixels (LIP_COLUMNS,) from there.
    """
    columns = np.linspace(0, len(inner) - 1, LIP_COLUMNS)
    index = np.arange(len(inner))
    edge, border = (
        np.stack([np.interp(columns, index, line[:, k]) for k in range(2)], 1)
        for line in (inner, outer)
    )
    thickness = np.maximum((border - edge) @ up, LIP_THINNEST * scale)[:, None]
    share = np.linspace(0, 1, LIP_SAMPLES)
    at = (edge[:, None] + (share * thickness)[..., None] * up).astype(np.float32)
    seen = cv.remap(frame, at[..., 0], at[..., 1], cv.INTER_LINEAR, borderMode=cv.BORDER_REPLICATE)
    luma = seen.astype(np.float32) @ LUMA
    level = np.median(luma[:, (share >= LIP_LEVEL[0]) & (share <= LIP_LEVEL[1])], 1)
    # The lip itself changes its brightness from one corner to the other, but slowly.
    around = np.lib.stride_tricks.sliding_window_view(np.pad(level, 3, mode="edge"), 7)
    lip = np.abs(luma / np.maximum(np.median(around, 1), 1)[:, None] - 1) < LIP_CONTRAST
    lip[:, share >= LIP_MOST] = True
    clear = share[(lip[:, :-1] & lip[:, 1:]).argmax(1)] * thickness[:, 0]
    widest = np.lib.stride_tricks.sliding_window_view(np.pad(clear, 1, mode="edge"), 3).max(1)
    return edge, widest.astype(np.float32)


def occluded_vertices(source: Float32Array) -> BoolArray:
    """Which vertices lie behind others in the photo, (V,).

    :param source: (V, 3) mesh as photographed, pixels and depth.
    """
    depth = draw_mesh(source, FaceModel.load().triangles, (FRAME, FRAME), cull=False).depth
    x, y = source[:, :2].round().astype(int).clip(0, FRAME - 1).T
    occluded: BoolArray = source[:, 2] < depth[y, x] - OCCLUDED_BY
    return occluded


def lid_uv_shift(closure: Float32Array, camera: Camera) -> Float32Array:
    """Change of the texture coordinates, (2, V, 2), that keeps the photo in place on closing lids.

    The lid's own skin is drawn; the fold above it hardly stretches, nor do the frames of glasses.

    :param closure: (2, V, 3) of `lid_closure`.
    """
    moved = closure @ camera.rotation[0, :2].T * FLIP
    shift: Float32Array = (FOLD_STILL * moved * camera.scale[0]).astype(np.float32)
    return shift


def outside_person(source: Float32Array, matte: Float32Array, inset: int) -> Float32Array:
    """What brings the sides of face and jaw back inside the person's outline, (V, 2) pixels.

    Landmarks stop short of the outline; where the mesh bulges over it, the face would take a seam
    of background along.

    :param source: (V, 3) mesh as photographed, pixels and depth.
    :param matte: (512, 512) opacity of the person.
    :param inset: side of the square, in pixels, by which the person is eroded first.
    """
    shape = topology()
    person = cv.erode((matte > 0.5).astype(np.uint8), np.ones((inset, inset), np.uint8))
    person[-1] = 1  # never empty
    _, labels = cv.distanceTransformWithLabels(
        1 - person, cv.DIST_L2, 5, labelType=cv.DIST_LABEL_PIXEL
    )
    nearest = np.zeros((labels.max() + 1, 2), np.float32)  # pixel of the person by label
    ys, xs = np.nonzero(person)
    nearest[labels[ys, xs]] = np.stack([xs, ys], 1)
    x, y = source[:, :2].round().astype(int).clip(0, FRAME - 1).T
    moved = nearest[labels[y, x]] - np.stack([x, y], 1)
    limit = OUTLINE_LIMIT * float(np.ptp(source[shape.front > 0.5, 0]))
    side = (shape.front * shape.hard_edge > OUTLINE_WEIGHT) & (person[y, x] == 0)
    moved = np.where((side & (np.linalg.norm(moved, axis=1) < limit))[:, None], moved, 0)
    return moved.astype(np.float32)
