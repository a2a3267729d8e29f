"""Values smoothed and extended along the surface of the face mesh."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from talkingface.renderer.arrays import Float32Array, Int32Array
from talkingface.renderer.compiler import njit
from talkingface.renderer.face.model import FaceModel
from talkingface.renderer.geometry.topology import topology

# Weights of the extension's terms beside the data's, by eye: larger values follow the landmarks
# less closely.
SMOOTHNESS = 0.03  # of the squared Laplacian
STIFFNESS = 0.004  # of the Laplacian
DECAY = 1e-5  # of the values themselves, which keeps loose parts of the mesh from drifting
MAX_ITERATIONS = 400
TOLERANCE = 1e-6  # of the residual's energy at the start
# Landmarks whose mean a loose part follows.
ANCHORS = (
    ("eye_right", (33, 133, 159, 145)),
    ("eye_left", (263, 362, 386, 374)),
    ("teeth_upper", (0, 2, 37, 267)),
    ("teeth_lower", (17, 18, 84, 314)),
    ("tongue", (17, 18, 84, 314)),
)


class _Operator(NamedTuple):
    """What the extension's normal operator needs of the mesh."""

    corners: Int32Array  # (468, 3) vertices around each landmark
    weights: Float32Array  # (468, 3) and their weights
    neighbours: Int32Array
    neighbour_starts: Int32Array


def smooth(values: Float32Array, rounds: int) -> Float32Array:
    """Average vertex values (V, C) with their neighbours' along the surface."""
    shape = topology()
    laplacian = np.zeros_like(values)
    for _ in range(rounds):
        _laplace(values, shape.neighbours, shape.neighbour_starts, laplacian)
        values = values - 0.5 * laplacian
    return values


def extend(offsets: Float32Array) -> Float32Array:
    """Spread offsets at the skin's landmarks (468, C) over the surface, (V, C).

    Biharmonic with a little stiffness, along the mesh: what happens to the upper lip does not reach
    the lower one through the air.
    """
    model, shape = FaceModel.load(), topology()
    operator = _Operator(
        model.landmark_corners, model.landmark_weights, shape.neighbours, shape.neighbour_starts
    )
    right = np.zeros((len(model.mean), offsets.shape[1]), np.float32)
    for i in range(3):
        np.add.at(right, operator.corners[:, i], operator.weights[:, i : i + 1] * offsets)
    values = _conjugate_gradients(operator, right)
    for name, anchors in ANCHORS:
        values[model.part_vertices(name)] = offsets[list(anchors)].mean(0)
    return values


def _conjugate_gradients(operator: _Operator, right: Float32Array) -> Float32Array:
    """Solve the extension's normal equations for each channel of `right` (V, C).

    The operator is not quite symmetric, for vertices differ in their number of neighbours; with
    these few well-placed landmarks the iteration converges nevertheless.
    """
    values = np.zeros_like(right)
    scratch, product = np.zeros_like(right), np.zeros_like(right)
    residual = right.copy()
    direction = residual.copy()
    energy = (residual**2).sum(0)
    start = energy.copy()
    for _ in range(MAX_ITERATIONS):
        _apply(operator, direction, SMOOTHNESS, STIFFNESS, scratch, product)
        step = energy / np.maximum((direction * product).sum(0), 1e-20)
        values += step * direction
        residual -= step * product
        fresh = (residual**2).sum(0)
        if (fresh < TOLERANCE * start).all():
            break
        direction = residual + fresh / np.maximum(energy, 1e-20) * direction
        energy = fresh
    return values


@njit(cache=True, fastmath=True)
def _laplace(
    values: Float32Array, neighbours: Int32Array, starts: Int32Array, out: Float32Array
) -> None:
    """Write the mean difference of each vertex from its neighbours, (V, C)."""
    for v in range(len(values)):
        first, last = starts[v], starts[v + 1]
        for k in range(values.shape[1]):
            total = 0.0
            for e in range(first, last):
                total += values[v, k] - values[neighbours[e], k]
            out[v, k] = total / max(last - first, 1)


@njit(cache=True, fastmath=True)
def _apply(
    operator: _Operator,
    values: Float32Array,
    smoothness: float,
    stiffness: float,
    scratch: Float32Array,
    out: Float32Array,
) -> None:
    """Apply the normal operator: data + smoothness * Laplacian^2 + stiffness * Laplacian."""
    corners, weights = operator.corners, operator.weights
    _laplace(values, operator.neighbours, operator.neighbour_starts, scratch)
    _laplace(scratch, operator.neighbours, operator.neighbour_starts, out)
    for v in range(len(values)):
        for k in range(values.shape[1]):
            out[v, k] = smoothness * out[v, k] + stiffness * scratch[v, k] + DECAY * values[v, k]
    for n in range(len(corners)):
        for k in range(values.shape[1]):
            here = 0.0
            for i in range(3):
                here += weights[n, i] * values[corners[n, i], k]
            for i in range(3):
                out[corners[n, i], k] += weights[n, i] * here
