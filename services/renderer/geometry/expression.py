"""Coefficients as movements of a portrait's mesh: expressions, lids, lips, tongue, gaze."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numba import njit

from talkingface.contract.motion import ARKIT_INDEX, GAZE_PITCH_RANGE, GAZE_YAW_RANGE
from talkingface.renderer.arrays import BoolArray, Float32Array, Int64Array
from talkingface.renderer.face.landmarks import LIP_PAIRS
from talkingface.renderer.face.model import GAZE_COLUMNS, PARTS, FaceModel
from talkingface.renderer.geometry.diffusion import smooth
from talkingface.renderer.geometry.portrait import BLINKS, GAZES, PreparedPortrait
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

TONGUE_DOWN = 0.12  # face widths of the lips' opening at which the tongue lies low
TONGUE_HEIGHT, TONGUE_TIP = 0.7, 0.05  # what is left of its height; face widths lower at its tip
LIPS_APART = 0.005  # face widths between the photo's lips below which they are shut
LIPS_CHANGED = 0.02  # face widths of change in their opening at which the lips count as moved

LOOK_DOWN = np.array([ARKIT_INDEX["eyeLookDownRight"], ARKIT_INDEX["eyeLookDownLeft"]])
LOOKS_DOWN = np.isin(GAZES, LOOK_DOWN)
LID_POWER = 0.85  # of a blink: small closings are half lost between lashes and fold; by eye
LID_SINKING = 0.4  # of the lids' opening that they cover at the lowest gaze; by eye
IRIS_LEVER = 0.92  # of the eye's radius: the iris lies a little behind the cornea
GAZE_CHANGED = 1.5  # pixels of the portrait at which an iris counts as moved

STILL_VERTEX = 1e-7  # face widths, less than 1e-4 pixels, below which an offset is left out
STILL_WEIGHT = 1e-6  # weight of an expression below which it is left out


class PosedFace(NamedTuple):
    """A portrait's mesh with an expression."""

    vertices: Float32Array  # (V, 3) unposed, face widths
    lip_opening: float  # face widths
    lip_change: float  # how far the lips have moved from the photo's, 0..1


class SparseOffsets(NamedTuple):
    """Offsets of the mesh for each of N expressions, of the vertices alone that it moves.

    They are kept in runs of vertices that follow one another.
    """

    starts: Int64Array  # (N + 1,) where the runs of each expression begin
    first: Int64Array  # (R,) three times the index of a run's first vertex
    ends: Int64Array  # (R,) where the offsets of a run end, and those of the next begin
    offsets: Float32Array  # (3 E,) x, y, z of one vertex after the other, face widths


def without_blinks(coefficients: Float32Array) -> Float32Array:
    """A copy of coefficients (52,) with open lids."""
    out = coefficients.copy()
    out[BLINKS] = 0
    return out


def expression_offsets(coefficients: Float32Array) -> Float32Array:
    """Sum of the face model's expressions (V, 3); it leaves the eyeballs where they are."""
    active = np.nonzero(coefficients)[0]
    offsets: Float32Array = np.tensordot(
        coefficients[active], FaceModel.load().expressions[active], 1
    )
    return offsets


def posed_face(
    portrait: PreparedPortrait, coefficients: Float32Array, closing: Float32Array
) -> PosedFace:
    """Move a portrait's mesh by absolute coefficients (52,).

    :param closing: (2,) of `lid_closing`.
    """
    own = portrait.fit.coefficients
    weights, further = _expression_weights(own, coefficients, _visibility(portrait))
    vertices = portrait.neutral.copy()
    flat = vertices.reshape(-1)
    _add_sparse(flat, weights, _model_offsets())
    _add_sparse(flat, further, _drawn_changes())
    _add(flat, closing, portrait.lid_closure.reshape(2, -1))
    before, now = _lip_parting(own), _lip_parting(coefficients)
    if before > LIPS_APART:
        closed = np.array([min(max(1 - now / before, 0.0), 1.0)], np.float32)
        _add(flat, closed, portrait.lip_closure.reshape(1, -1))
    lip_change = min(abs(now - before) / LIPS_CHANGED, 1.0)
    _lower_tongue(vertices, _tongue(), max(now, 0.0), lip_change)
    return PosedFace(vertices, max(now, 0.0), lip_change)


@njit(cache=True, fastmath=True, error_model="numpy")
def _expression_weights(
    own: Float32Array, coefficients: Float32Array, visible: float
) -> tuple[Float32Array, Float32Array]:
    """Weights (52,) of the face model's expressions, and of what is drawn beyond them, (52,).

    :param own: (52,) coefficients of the photo.
    :param visible: 0 where dark glasses hide the eyes, else 1.
    """
    zero = np.float32(0)
    weights, further = np.empty_like(own), np.empty_like(own)
    for n in range(len(own)):
        weights[n] = coefficients[n]
        further[n] = max(coefficients[n] - own[n], zero)
    for n in BLINKS:
        weights[n] = zero
    # Lids follow the gaze by its change; the photo shows them where its own gaze put them.
    for i in range(len(GAZES)):
        change = coefficients[GAZES[i]] - own[GAZES[i]]
        weights[GAZES[i]] = visible * (min(change, zero) if LOOKS_DOWN[i] else change)
    return weights, further


def _lip_parting(coefficients: Float32Array) -> float:
    """Face widths by which an expression parts the lips in the middle; negative: presses them."""
    return float((coefficients * _lip_partings()).sum())


@lru_cache(maxsize=1)
def _lip_partings() -> Float32Array:
    """Face widths by which each expression parts the lips in the middle, (52,)."""
    upper, lower = LIP_PAIRS[0]
    heights = FaceModel.load().landmark_expressions[:, :, 1]
    return heights[:, upper] - heights[:, lower]


@njit(cache=True, fastmath=True, error_model="numpy")
def _add(vertices: Float32Array, weights: Float32Array, offsets: Float32Array) -> None:
    """Add offsets (N, 3 V) by their weights (N,) to vertices (3 V,), in place."""
    for n in range(len(weights)):
        if abs(weights[n]) > STILL_WEIGHT:
            for i in range(len(vertices)):
                vertices[i] += weights[n] * offsets[n, i]


@njit(cache=True, fastmath=True, error_model="numpy")
def _add_sparse(vertices: Float32Array, weights: Float32Array, expressions: SparseOffsets) -> None:
    """Add the offsets of expressions by their weights (N,) to vertices (3 V,), in place."""
    starts, first, ends, offsets = expressions
    for n in range(len(weights)):
        weight = weights[n]
        if abs(weight) <= STILL_WEIGHT:
            continue
        for run in range(starts[n], starts[n + 1]):
            start = ends[run - 1] if run > 0 else 0
            moves = offsets[start : ends[run]]
            moved = vertices[first[run] : first[run] + len(moves)]
            for i in range(len(moves)):
                moved[i] += weight * moves[i]


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
def _model_offsets() -> SparseOffsets:
    """The face model's expressions."""
    return _sparse(FaceModel.load().expressions)


@lru_cache(maxsize=1)
def _drawn_changes() -> SparseOffsets:
    """By how much the expressions that are drawn differ from the face model's."""
    return _sparse(drawn_expressions() - FaceModel.load().expressions)


@lru_cache(maxsize=1)
def _tongue() -> Int64Array:
    """The tongue's vertices."""
    return FaceModel.load().part_vertices("tongue")


@njit(cache=True, fastmath=True, error_model="numpy")
def _lower_tongue(
    vertices: Float32Array, tongue: Int64Array, opening: float, lip_change: float
) -> None:
    """Lay the tongue down behind the lower teeth as the mouth opens, in place.

    In the face model it keeps its full height and would fill the open mouth.

    :param vertices: (V, 3).
    :param tongue: those of the tongue.
    """
    weight = min(opening / TONGUE_DOWN, 1.0)
    weight = lip_change * weight * weight * (3 - 2 * weight)
    low, back, tip = vertices[tongue[0], 1], vertices[tongue[0], 2], vertices[tongue[0], 2]
    for v in tongue:
        low = min(low, vertices[v, 1])
        back, tip = min(back, vertices[v, 2]), max(tip, vertices[v, 2])
    for v in tongue:
        front = (vertices[v, 2] - back) / (tip - back)
        height = vertices[v, 1]
        flat = low + TONGUE_HEIGHT * (height - low) - TONGUE_TIP * front * front
        vertices[v, 1] = height + weight * (flat - height)


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


def _visibility(portrait: PreparedPortrait) -> float:
    """0 where dark glasses hide both eyes, which must then not be moved, else 1."""
    return max(eye.visible for eye in portrait.eyes)


def lid_closing(portrait: PreparedPortrait, coefficients: Float32Array) -> Float32Array:
    """How far the upper lids went from the photo to shut, (2,): right, left eye; 0..1.

    They follow a gaze that sinks: looking down they cover the eye as a blink does.
    """
    return _lid_closing(portrait.fit.coefficients, coefficients, _visibility(portrait))


@njit(cache=True, fastmath=True, error_model="numpy")
def _lid_closing(own: Float32Array, coefficients: Float32Array, visible: float) -> Float32Array:
    """As `lid_closing`; `own` and `visible` as in `_expression_weights`."""
    closing = np.empty(2, np.float32)
    for eye in range(2):
        lid, down = BLINKS[eye], LOOK_DOWN[eye]
        blink = (coefficients[lid] - own[lid]) / max(1 - own[lid], 1e-3)
        blink = min(max(blink, 0.0), 1.0) ** LID_POWER
        sunk = max(coefficients[down] - own[down], 0.0)
        closing[eye] = visible * (blink + (1 - blink) * LID_SINKING * sunk)
    return closing


def gaze_shift(
    portrait: PreparedPortrait, coefficients: Float32Array, eye: int
) -> tuple[Float32Array, float]:
    """How far an iris moved in the portrait's pixels (2,), and whether it did, 0..1."""
    photo, own = portrait.fit.camera, portrait.fit.coefficients
    (x, y), (own_x, own_y) = _gaze_direction(coefficients, eye), _gaze_direction(own, eye)
    lever = FaceModel.load().eye_radius * IRIS_LEVER * float(photo.scale[0])
    lever *= _visibility(portrait)
    (xx, xy, _), (yx, yy, _), _ = photo.rotation[0].tolist()
    right = lever * (xx * (x - own_x) + xy * (y - own_y))
    up = lever * (yx * (x - own_x) + yy * (y - own_y))
    return np.array([right, -up], np.float32), min(math.hypot(right, up) / GAZE_CHANGED, 1.0)


def _gaze_direction(coefficients: Float32Array, eye: int) -> tuple[float, float]:
    """x and y of an eye's gaze in the head."""
    up, down, right, left = coefficients[GAZE_COLUMNS[eye]].tolist()
    pitch, yaw = (
        math.radians(GAZE_PITCH_RANGE) * (up - down),
        math.radians(GAZE_YAW_RANGE) * (right - left),
    )
    return math.sin(yaw) * math.cos(pitch), math.sin(pitch)
