"""Lips from landmarks: displacements in the head's frame, their components, their size.

A tracked face is turned into the frame of the head by a rigid fit of points that speech hardly
moves (eyes, bridge and sides of the nose). A *displacement* is the position of forty lip points and
five of chin and cheeks there, relative to the clip's own rest; a speaker's displacements have a few
principal components. Coefficients that reproduce a displacement are a linear, bounded least-squares
problem of the face model (`jacobian`). Compared with a general fit of the whole face this keeps the
mouth's width (0.94 instead of 0.5 of the tracked one), its corners and its upper lip.

The size of lip movements depends on the speaker. `transport` is the linear map that takes the
covariance of one population of displacements to that of another with the least change (the optimal
transport between normal distributions; Dowson and Landau 1982, Olkin and Pukelsheim 1982).

Displacements are weighted: depth, which a camera hardly sees, counts a quarter.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from talkingface.contract.arrays import Float32Array
from talkingface.contract.motion import ARKIT_DIM
from talkingface.motion_gen.mouth_shapes import LIP_SHAPES, SHAPE_LIMITS
from talkingface.renderer.face.model import FaceModel
from talkingface_research.motion_gen.evaluation.features import in_head

Floats = NDArray[np.float64]

# Of the 478 landmarks: outer ring of the lips, inner ring, chin and cheeks.
POINTS = (
    61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291, 185, 40, 39, 37, 0, 267, 269, 270, 409,
    78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308, 191, 80, 81, 82, 13, 312, 311, 310, 415,
    152, 176, 400, 50, 280,
)  # fmt: skip
DEPTH_WEIGHT = 0.25
# Weights of the height of points that the fit would neglect otherwise: corners of the mouth, chin,
# middle of the upper lip.
HEIGHTS = {61: 2.0, 291: 2.0, 78: 2.0, 308: 2.0, 152: 2.0, 0: 2.5, 37: 2.5, 267: 2.5, 13: 2.0}
FIT_RIDGE = 0.01  # face widths that a coefficient of 1 costs in the exact fit
REST_SHARE = 15.0  # % of a clip's frames, those with the least opening, whose mean is its rest
STEP = 0.5  # of a coefficient, for the finite differences of the face model
UPPER_LIP, LOWER_LIP = POINTS.index(13), POINTS.index(14)
DIMENSIONS = 3 * len(POINTS)
WEIGHT: Floats = np.tile([1.0, 1.0, DEPTH_WEIGHT], len(POINTS))


def head_frame(landmarks: Float32Array) -> Floats:
    """Lip points in the head's frame.

    :param landmarks: (T, 478, 3) as `track` gives them: pixels, y down, z away from the camera
    :return: (T, 45, 3) face widths, x to the viewer's right, y up, z to the viewer
    """
    return np.asarray(in_head(landmarks, POINTS) * [1.0, -1.0, -1.0])


def displacements(landmarks: Float32Array) -> Float32Array:
    """Weighted displacements of a clip's lips from its own rest: (T, 478, 3) to (T, 135)
    float32."""
    points = head_frame(landmarks)
    opening = np.linalg.norm(points[:, UPPER_LIP] - points[:, LOWER_LIP], axis=1)
    rest = points[opening <= np.percentile(opening, REST_SHARE)].mean(0)
    result: Float32Array = ((points - rest).reshape(len(points), -1) * WEIGHT).astype(np.float32)
    return result


def jacobian() -> Floats:
    """Weighted displacement that each lip shape (`lip_network.LIP_SHAPES`) adds: (135, shapes)."""
    model = FaceModel.load()
    nobody = np.zeros(len(model.identity), np.float32)

    def lips(coefficients: Float32Array) -> Floats:
        points = model.landmarks(nobody, coefficients).astype(float)
        # Image axes, as a tracked face has them.
        result: Floats = head_frame((points * [1.0, -1.0, -1.0])[None])[0].reshape(-1)
        return result

    neutral = lips(np.zeros(ARKIT_DIM, np.float32))
    columns = [(lips(np.float32(STEP) * shape) - neutral) / STEP for shape in LIP_SHAPES]
    result: Floats = np.stack(columns, 1) * WEIGHT[:, None]
    return result


def fit_weight() -> Floats:
    """(135,) weight of each coordinate's error in the fit, in addition to `WEIGHT`."""
    out = np.ones((len(POINTS), 3))
    for point, weight in HEIGHTS.items():
        out[POINTS.index(point), 1] = weight
    return out.reshape(-1)


def fitted(moved: Float32Array, sweeps: int = 40) -> Floats:
    """Lip shapes (N, shapes) within their limits that reproduce displacements (N, 135) best.

    Exact bounded least squares by coordinate descent, which `lip_network.MouthFit` approximates.
    """
    moves = jacobian() * fit_weight()[:, None]
    gram = moves.T @ moves + FIT_RIDGE**2 * np.eye(moves.shape[1])
    right = (moved * fit_weight()) @ moves
    out = np.zeros_like(right)
    for _ in range(sweeps):
        for i, limit in enumerate(SHAPE_LIMITS.values()):
            step = (right[:, i] - out @ gram[:, i]) / gram[i, i]
            out[:, i] = np.clip(out[:, i] + step, 0.0, limit)
    return out


def measures(moved: Float32Array) -> dict[str, Floats]:
    """Visible measures of displacements (N, 135): each (N,) face widths from rest."""
    points = (np.asarray(moved, float) / WEIGHT).reshape(-1, len(POINTS), 3)

    def height(*names: int) -> Floats:
        return np.asarray(points[:, [POINTS.index(n) for n in names], 1].mean(1))

    left, right = POINTS.index(291), POINTS.index(61)
    return {
        "opening": height(13) - height(14),
        "width": points[:, left, 0] - points[:, right, 0],
        "corners": height(61, 291) - height(0, 17),
        "upper lip": height(0),
        "lower lip": height(17),
        "chin": height(152),
    }


@dataclass(frozen=True)
class Population:
    """Mean and covariance of the lips of one or several speakers, in K components."""

    mean: Floats  # (K,) face widths
    covariance: Floats  # (K, K)

    @property
    def deviation(self) -> Floats:
        """(K,) standard deviations."""
        return np.sqrt(np.diag(self.covariance))


def population(components: Float32Array) -> Population:
    """The population of samples (N, K)."""
    return Population(components.mean(0, dtype=float), np.cov(components.T.astype(float)))


def principal(moved: Float32Array, count: int) -> Floats:
    """The `count` largest components of displacements (N, 135): (count, 135), orthonormal."""
    centred = moved.astype(float) - moved.mean(0, dtype=float)
    _, vectors = np.linalg.eigh(centred.T @ centred)
    return np.asarray(vectors[:, ::-1][:, :count].T)


def lively(statistics: Path, basis: Floats) -> Population:
    """Lively speakers' lips in a basis (K, 135).

    :param statistics: `.npz` with `points`, `real_natural_mean` (135,), `real_natural_basis`
        (n, 135) and `real_natural_std` (n,) of displacements, from real recordings of people
        who talk freely
    """
    with np.load(statistics) as stored:
        if tuple(stored["points"]) != POINTS:
            raise ValueError(f"{statistics} is about other landmarks")
        mean = stored["real_natural_mean"] * WEIGHT
        own = stored["real_natural_basis"] * stored["real_natural_std"][:, None]
    turned = own.astype(float) @ basis.T
    return Population(mean @ basis.T, turned.T @ turned)


def root(matrix: Floats) -> Floats:
    """The symmetric square root of a positive definite matrix."""
    values, vectors = np.linalg.eigh(matrix)
    return np.asarray((vectors * np.sqrt(values.clip(1e-12))) @ vectors.T)


def transport(own: Floats, wanted: Floats) -> Floats:
    """The symmetric map (K, K) that takes covariance `own` to `wanted`; rows are multiplied by it
    from the left: `components @ transport(own, wanted)`."""
    half = root(own)
    inverse = np.linalg.inv(half)
    return np.asarray(inverse @ root(half @ wanted @ half) @ inverse)
