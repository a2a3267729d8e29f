"""Parts of a photo by its landmarks and matte: skin, hair, head, background, shoulders."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from talkingface.renderer.face.landmarks import LIPS, OUTLINE
from talkingface.renderer.geometry.eyes import BROWS, RINGS

Array = NDArray[np.float32]
Mask = NDArray[np.bool_]
cv: Any = cv2  # OpenCV's stubs have no element types

CHEEKS, FOREHEAD, CHIN = (234, 454), 10, 152


@dataclass(frozen=True)
class Regions:
    """Masks (H, W) of the photo; lengths in face widths."""

    face: Mask  # within the face's outline
    skin: Mask  # of the face, clear of eyes, brows, lips and outline
    hair: Mask  # what else of the head is above the mouth: hair, ears, hats
    head: Mask  # all of the person above the chin
    background: Mask  # clear of the person
    shoulders: Mask  # well below the chin, clear of the background


def hull(points: Array, size: tuple[int, ...]) -> NDArray[np.uint8]:
    """The convex hull of points (N, 2), 1 inside, 0 outside."""
    mask = np.zeros(size[:2], np.uint8)
    cv.fillConvexPoly(mask, cv.convexHull(points.round().astype(np.int32)), 1)
    return mask


def grown(mask: NDArray[np.uint8], reach: float) -> NDArray[np.uint8]:
    """A mask grown, or shrunk where `reach` is negative, by so many pixels."""
    size = 2 * max(round(abs(reach)), 1) + 1
    kernel = cv.getStructuringElement(cv.MORPH_ELLIPSE, (size, size))
    change = cv.dilate if reach > 0 else cv.erode
    return np.asarray(change(mask, kernel), np.uint8)


def regions(landmarks: Array, matte: Array) -> Regions:
    """Regions of a photo.

    :param landmarks: (478, 2+) pixels; matte (H, W) opacity of the person
    """
    marks = landmarks[:, :2]
    size = matte.shape
    width = float(np.linalg.norm(marks[CHEEKS[0]] - marks[CHEEKS[1]]))
    down = marks[CHIN] - marks[FOREHEAD]
    down = down / np.linalg.norm(down)
    ys, xs = np.mgrid[: size[0], : size[1]].astype(np.float32)
    below = (np.stack([xs, ys], -1) - marks[CHIN]) @ down / width
    face = hull(marks[list(OUTLINE)], size)
    features = np.zeros(size, np.uint8)
    for part in (*RINGS, *BROWS, LIPS):
        features |= hull(marks[list(part)], size)
    person = (matte > 0.5).astype(np.uint8)
    level = (marks[list(LIPS)].mean(0) - marks[CHIN]) @ down / width
    skin = grown(face, -0.04 * width) & (grown(features, 0.03 * width) == 0)
    hair = grown(person, -0.02 * width) & (grown(face, 0.05 * width) == 0) & (below < level)
    return Regions(
        face=face > 0,
        skin=(skin & person) > 0,
        hair=hair > 0,
        head=(person > 0) & (below < 0),
        background=grown((matte > 0.02).astype(np.uint8), 4) == 0,
        shoulders=(grown(person, -4) > 0) & (below > 0.3),
    )
