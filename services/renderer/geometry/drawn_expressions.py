"""The expressions as they are drawn: the face model's, changed, and as sparse offsets."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np

from talkingface.contract.motion import ARKIT_INDEX
from talkingface.renderer.arrays import BoolArray, Float32Array, Int64Array
from talkingface.renderer.face.model import PARTS, FaceModel
from talkingface.renderer.geometry.diffusion import smooth
from talkingface.renderer.geometry.surface import mean_landmarks
from talkingface.renderer.geometry.topology import INNER_LOWER, INNER_UPPER, topology

# Some of the face model's expressions hardly show, and some have sharp points. They are changed as
# follows, by eye.
GAINS = {  # on the motion along x, y and z
    "mouthFrown": (1.3, 1.4, 1.0),
    "mouthPucker": (1.0, 1.3, 0.8),
    "browInnerUp": (1.4, 1.4, 1.4),
    "noseSneer": (1.5, 1.5, 1.5),
}
SOFTENED = ("browOuterUpLeft", "browOuterUpRight")
SOFTENED_ROUNDS, SOFTENED_PEAK = 60, 0.85  # of smoothing; of the model's largest motion after it
FUNNEL, JAW = ARKIT_INDEX["mouthFunnel"], ARKIT_INDEX["jawOpen"]
FUNNEL_PEAK = 0.85  # of what the model moves the middle of the lips
JAW_ROUNDNESS = 0.7  # power of the parabola that the lips of an open jaw follow
PUCKER, PURSED = ARKIT_INDEX["mouthPucker"], 0.2  # of the mouth's width, more than in the model
PURSED_ASIDE, PURSED_HEIGHT = 0.24, 0.13  # face widths about the mouth that it takes along
LIP_REACH = 0.08  # face widths around the mouth's line that its rounding takes along
LIP_DEPTH, MOUTH_DEPTH = 0.5, 0.4  # z of the face model: only vertices in front of it move

STILL_VERTEX = 1e-7  # face widths, less than 1e-4 pixels, below which an offset is left out


class SparseOffsets(NamedTuple):
    """Offsets of the mesh for each of N expressions, of the vertices alone that it moves.

    They are kept in runs of vertices that follow one another.
    """

    starts: Int64Array  # (N + 1,) where the runs of each expression begin
    first: Int64Array  # (R,) three times the index of a run's first vertex
    ends: Int64Array  # (R,) where the offsets of a run end, and those of the next begin
    offsets: Float32Array  # (3 E,) x, y, z of one vertex after the other, face widths


def _sparse(offsets: Float32Array) -> SparseOffsets:
    """Leave out the vertices that an expression does not move, of (N, V, 3)."""
    moved = np.abs(offsets).max(2) > STILL_VERTEX
    expression, vertex = np.nonzero(moved)
    begins = (np.diff(vertex, prepend=-2) != 1) | (np.diff(expression, prepend=-1) != 0)
    runs = np.flatnonzero(begins)
    starts = np.searchsorted(expression[runs], np.arange(len(offsets) + 1))
    ends = np.append(runs[1:], len(vertex))
    return SparseOffsets(starts, 3 * vertex[runs], 3 * ends, offsets[moved].ravel())


@lru_cache(maxsize=1)
def model_offsets() -> SparseOffsets:
    """The face model's expressions."""
    return _sparse(FaceModel.load().expressions)


@lru_cache(maxsize=1)
def drawn_changes() -> SparseOffsets:
    """By how much the expressions that are drawn differ from the face model's."""
    return _sparse(drawn_expressions() - FaceModel.load().expressions)


def drawn_expressions() -> Float32Array:
    """The expressions (52, V, 3) as they are drawn beyond a portrait's own."""
    out = FaceModel.load().expressions.copy()
    for name, gain in GAINS.items():
        for side in ("", "Left", "Right"):
            if name + side in ARKIT_INDEX:
                out[ARKIT_INDEX[name + side]] *= np.array(gain, np.float32)
    for name in SOFTENED:
        k = ARKIT_INDEX[name]
        soft = smooth(out[k], SOFTENED_ROUNDS)
        peak = np.abs(out[k][:, 1]).max() / np.abs(soft[:, 1]).max()
        out[k] = soft * peak * SOFTENED_PEAK
    out[FUNNEL, :, 1] += _rounding(FUNNEL, FUNNEL_PEAK, 1.0)
    out[JAW, :, 1] += _rounding(JAW, 1.0, JAW_ROUNDNESS)
    out[PUCKER, :, 0] -= _pursing()
    return out


def _pursing() -> Float32Array:
    """How far the mouth narrows beyond the face model's pucker, (V,) along x."""
    model = FaceModel.load()
    across, height = model.mean[:, 0], model.mean[:, 1] - float(model.landmark_mean[13, 1])
    near = np.exp(-((across / PURSED_ASIDE) ** 4) - (height / PURSED_HEIGHT) ** 2)
    near = near * (model.mean[:, 2] > MOUTH_DEPTH)
    near *= _moves_with_lips()
    pursing: Float32Array = PURSED * near * across
    return pursing


def _moves_with_lips() -> BoolArray:
    """Which vertices (V,) are neither teeth nor tongue."""
    rigid = [PARTS.index(name) for name in ("teeth_upper", "teeth_lower", "tongue")]
    return ~np.isin(FaceModel.load().part, rigid)


def _rounding(coefficient: int, peak: float, power: float) -> Float32Array:
    """Heights (V,) that make the opening of the lips round, which in the face model has points.

    There next to nothing but the middle of the lips moves; here the lips follow (1 - x^2)^power
    from corner to corner.

    :param peak: share of the model's motion that the middle of the lips keeps.
    """
    model = FaceModel.load()
    marks = mean_landmarks(model.mean)
    moved = mean_landmarks(model.expressions[coefficient])[:, 1]
    across = np.abs(model.mean[:, 0])
    line = np.zeros(len(across), np.float32)
    change = np.zeros((2, len(across)), np.float32)
    for row, lip in enumerate((INNER_UPPER, INNER_LOWER)):
        half = list(lip[5:])  # from the middle to the subject's left corner
        x, y, height = marks[half, 0], moved[half], marks[half, 1]
        bow = (1 - np.minimum(x / x[-1], 1) ** 2) ** power
        wanted = y[-1] + (peak * y[0] - y[-1]) * bow
        change[row] = np.interp(across, x, wanted - y, right=0)
        line += 0.5 * np.interp(across, x, height).astype(np.float32)
    near = np.exp(-(((model.mean[:, 1] - line) / LIP_REACH) ** 2)) * (model.mean[:, 2] > LIP_DEPTH)
    near *= _moves_with_lips()
    rounding = near * np.where(topology().lower_lip, change[1], change[0])
    heights: Float32Array = rounding.astype(np.float32)
    return heights
