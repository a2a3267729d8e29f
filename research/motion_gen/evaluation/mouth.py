"""Measures of a mouth from coefficients and from landmarks, both in face widths."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from talkingface.contract.arrays import Float32Array
from talkingface.contract.motion import ARKIT_DIM
from talkingface.renderer.face.model import FaceModel
from talkingface_research.motion_gen.evaluation.curves import Curve

UPPER_LIP, LOWER_LIP = 13, 14  # inner edges, middle
CORNERS = (78, 308)  # inner
CHEEKS = (234, 454)

CLOSED_BELOW = 0.008  # face widths, about 1 mm
# Measured openings of a closed mouth reach this on small or blurred faces, as in the natural
# recordings.
NEARLY_CLOSED_BELOW = 0.016
# At rest the upper teeth end some 2 mm below the line of the lips: to touch them the lower lip need
# not come all the way up.
TEETH_WITHIN = 0.016


@lru_cache(maxsize=1)
def _maps() -> Float32Array:
    """(52, 3): opening, width and fall of the lower lip that a coefficient adds."""
    shapes = FaceModel.load().landmark_expressions
    opening = shapes[:, UPPER_LIP, 1] - shapes[:, LOWER_LIP, 1]
    width = shapes[:, CORNERS[1], 0] - shapes[:, CORNERS[0], 0]
    result: Float32Array = np.stack([opening, width, -shapes[:, LOWER_LIP, 1]], axis=1).astype(
        np.float32
    )
    return result


def opening(motion: Float32Array) -> Curve:
    """Gap of the inner lips of motion frames or coefficients (T, >= 52), about the neutral face."""
    return np.asarray(motion[:, :ARKIT_DIM] @ _maps()[:, 0], float)


def width(motion: Float32Array) -> Curve:
    """Distance of the inner corners, about the neutral face: (T,)."""
    return np.asarray(motion[:, :ARKIT_DIM] @ _maps()[:, 1], float)


def lip_below_teeth(motion: Float32Array) -> Curve:
    """How far the lower lip's inner edge is below the edge of the upper teeth: (T,).

    The teeth stand still in the head, and on the neutral face the two are level (the mean face's
    incisors end at -0.254, its lower lip at -0.255).
    """
    return np.asarray(motion[:, :ARKIT_DIM] @ _maps()[:, 2], float)


def measured(landmarks: Float32Array) -> tuple[Curve, Curve]:
    """Opening and width of the inner lips of landmarks (T, 478, 3) in pixels: (T,) each."""
    face = np.linalg.norm(landmarks[:, CHEEKS[0]] - landmarks[:, CHEEKS[1]], axis=1)
    gap = landmarks[:, UPPER_LIP, :2] - landmarks[:, LOWER_LIP, :2]
    corners = landmarks[:, CORNERS[0], :2] - landmarks[:, CORNERS[1], :2]
    return (
        np.asarray(np.linalg.norm(gap, axis=1) / face, float),
        np.asarray(np.linalg.norm(corners, axis=1) / face, float),
    )
