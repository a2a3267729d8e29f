"""Coefficients as movements of a portrait's mesh: expressions, lids, lips, tongue, gaze."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from talkingface.contract.motion import ARKIT_INDEX, GAZE_PITCH_RANGE, GAZE_YAW_RANGE
from talkingface.renderer.arrays import Float32Array, Int64Array
from talkingface.renderer.compiler import njit
from talkingface.renderer.face.landmarks import LIP_PAIRS
from talkingface.renderer.face.model import GAZE_COLUMNS, FaceModel
from talkingface.renderer.geometry.drawn_expressions import (
    SparseOffsets,
    drawn_changes,
    model_offsets,
)
from talkingface.renderer.geometry.portrait import BLINKS, GAZES, PreparedPortrait

TONGUE_DOWN = 0.12  # face widths of the lips' opening at which the tongue lies low
TONGUE_HEIGHT, TONGUE_TIP = 0.7, 0.05  # what is left of its height; face widths lower at its tip
LIPS_APART = 0.005  # face widths between the photo's lips below which they are shut
LIPS_CHANGED = 0.02  # face widths of change in their opening at which the lips count as moved

LOOK_DOWN = np.array([ARKIT_INDEX["eyeLookDownRight"], ARKIT_INDEX["eyeLookDownLeft"]])
LOOKS_DOWN = np.isin(GAZES, LOOK_DOWN)
LID_POWER = 1.1  # of a blink: the lid covers as much of the eye as is requested; by eye
LID_SINKING = 0.355  # of the lids' opening that they cover at the lowest gaze; by eye
IRIS_LEVER = 0.92  # of the eye's radius: the iris lies a little behind the cornea
GAZE_CHANGED = 1.5  # pixels of the portrait at which an iris counts as moved
STILL_WEIGHT = 1e-6  # weight of an expression below which it is left out


class PosedFace(NamedTuple):
    """A portrait's mesh with an expression."""

    vertices: Float32Array  # (V, 3) unposed, face widths
    lip_opening: float  # face widths
    lip_change: float  # how far the lips have moved from the photo's, 0..1


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
    # The face model's expressions up to the portrait's own, beyond it those that are drawn.
    _add_sparse(flat, weights, model_offsets())
    _add_sparse(flat, further, drawn_changes())
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
    """Weights (52,) of the face model's expressions, and how far they exceed the photo's, (52,).

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
