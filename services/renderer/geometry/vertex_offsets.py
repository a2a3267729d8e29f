"""Fields on the mesh of one portrait: how lids and lips close, where skin takes its colour from."""

from __future__ import annotations

import numpy as np

from talkingface.renderer.arrays import BoolArray, Float32Array
from talkingface.renderer.face.camera import Camera
from talkingface.renderer.face.fitting import LIP_PAIRS
from talkingface.renderer.face.model import FaceModel
from talkingface.renderer.geometry.frame import FLIP, FRAME
from talkingface.renderer.geometry.portrait import BLINKS
from talkingface.renderer.geometry.rasterizer import rasterize
from talkingface.renderer.geometry.surface import mean_landmarks, smoothstep_of
from talkingface.renderer.geometry.topology import INNER_LOWER, INNER_UPPER, SKIN, topology
from talkingface.renderer.opencv import cv

FOLD_STILL = 0.65  # how much less the fold above a closing lid moves than the lid
UPPER_LIDS = ((161, 160, 159, 158, 157), (388, 387, 386, 385, 384))
LOWER_LIDS = ((163, 144, 145, 153, 154), (390, 373, 374, 380, 381))


def shut_lids(vertices: Float32Array) -> Float32Array:
    """What moves the photographed lids to shut ones, (2, V, 3)."""
    model = FaceModel.load()
    marks = mean_landmarks(vertices)
    out = np.zeros((2, len(vertices), 3), np.float32)
    for k in range(2):
        blink = model.expressions[BLINKS[k]]
        moved = mean_landmarks(blink)[list(UPPER_LIDS[k])]
        upper, lower = marks[list(UPPER_LIDS[k])], marks[list(LOWER_LIDS[k])]
        needed = (lower[:, 1] - upper[:, 1]) / np.minimum(moved[:, 1], -1e-3)
        order = np.argsort(upper[:, 0])
        share = np.interp(vertices[:, 0], upper[order, 0], np.clip(needed[order], 0.2, 3.0))
        out[k] = blink * (1.02 * share[:, None])
    return out


def shut_lips(base: Float32Array) -> Float32Array:
    """What the lips of the neutral mesh lack to just touch, (V, 3)."""
    shape = topology()
    marks = mean_landmarks(base)
    upper, lower = marks[[a for a, _ in LIP_PAIRS]], marks[[b for _, b in LIP_PAIRS]]
    gap = upper[:, 1] - lower[:, 1]
    across = (upper[:, 0] + lower[:, 0]) / 2
    order = np.argsort(across)
    corner = marks[[78, 308], 0]
    xs = np.concatenate([[corner[0]], across[order], [corner[1]]])
    half = 0.5 * np.interp(base[:, 0], xs, np.concatenate([[0], gap[order], [0]]))
    out = np.zeros_like(base)
    out[:, 1] = np.where(shape.lower_lip, half, -half) * shape.lip
    return out


def lip_shift(source: Float32Array, landmarks: Float32Array, camera: Camera) -> Float32Array:
    """Change of the photo coordinates at the lips' edges, (V, 2).

    The photo of closed lips does not show their inner sides. Where a parting lip turns out such a
    side, it takes its colour from just outside the seam, not from the other lip beyond it.
    """
    shape, model = topology(), FaceModel.load()
    along = landmarks[308, :2] - landmarks[78, :2]
    width = float(np.linalg.norm(along))
    along = along / width
    up = np.array([along[1], -along[0]], np.float32)
    place = source[:, :2] - landmarks[78, :2]
    position, height = place @ along, place @ up
    gap = float(np.linalg.norm(landmarks[14, :2] - landmarks[13, :2]) / camera.scale[0])
    # Beside an open mouth it stays clear of teeth and darkness, where landmarks err most.
    margin = (0.008 + 0.008 * smoothstep_of((0.01, 0.04), gap)) * float(camera.scale[0])

    def rim(indices: tuple[int, ...]) -> Float32Array:
        at = landmarks[list(indices), :2] - landmarks[78, :2]
        return np.interp(position, at @ along, at @ up)

    raise_ = np.maximum(rim(INNER_UPPER) + margin - height, 0)
    lower = np.minimum(rim(INNER_LOWER) - margin - height, 0)
    moved = np.where(shape.lower_lip, lower, raise_)
    limit = 0.06 * float(camera.scale[0])
    lips = (shape.lip > 0.25) & (model.part == SKIN)
    moved = np.clip(moved, -limit, limit) * lips
    # Inner sides at the corners would otherwise show the cheek beyond.
    inward = np.clip(position, 2 * margin, width - 2 * margin) - position
    inward = np.where(lips & hidden_vertices(source), inward, 0)
    return (moved[:, None] * up + inward[:, None] * along).astype(np.float32)


def hidden_vertices(source: Float32Array) -> BoolArray:
    """Which vertices lie behind others in the photo, (V,)."""
    depth = np.full((FRAME, FRAME), -np.inf, np.float32)
    ids, weights = np.full((FRAME, FRAME), -1, np.int32), np.zeros((FRAME, FRAME, 2), np.float32)
    rasterize(np.ascontiguousarray(source), FaceModel.load().triangles, False, ids, weights, depth)
    x, y = source[:, :2].round().astype(int).clip(0, FRAME - 1).T
    return source[:, 2] < depth[y, x] - 1.5


def lid_shift(shut: Float32Array, camera: Camera) -> Float32Array:
    """Change of the photo coordinates, (2, V, 2), that keeps the photo in place on closing lids.

    The lid's own skin is drawn; the fold above it hardly stretches, nor do the frames of glasses.

    :param shut: (2, V, 3) what moves the photographed lids to shut ones.
    """
    moved = shut @ camera.rotation[0, :2].T * FLIP
    return (FOLD_STILL * moved * camera.scale[0]).astype(np.float32)


def outside_person(source: Float32Array, matte: Float32Array, inset: int) -> Float32Array:
    """What brings the sides of face and jaw back inside the person's outline, (V, 2) pixels.

    Landmarks stop short of the outline; where the mesh bulges over it, the face would carry a seam
    of background along.
    """
    shape = topology()
    person = cv.erode((matte > 0.5).astype(np.uint8), np.ones((inset, inset), np.uint8))
    person[-1] = 1  # never empty
    _, labels = cv.distanceTransformWithLabels(
        1 - person, cv.DIST_L2, 5, labelType=cv.DIST_LABEL_PIXEL
    )
    places = np.zeros((labels.max() + 1, 2), np.float32)
    ys, xs = np.nonzero(person)
    places[labels[ys, xs]] = np.stack([xs, ys], 1)
    x, y = source[:, :2].round().astype(int).clip(0, FRAME - 1).T
    moved = places[labels[y, x]] - np.stack([x, y], 1)
    limit = 0.08 * float(np.ptp(source[shape.front > 0.5, 0]))
    side = (shape.front * shape.hard_edge > 0.02) & (person[y, x] == 0)
    moved = np.where((side & (np.linalg.norm(moved, axis=1) < limit))[:, None], moved, 0)
    return moved.astype(np.float32)
