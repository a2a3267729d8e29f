"""The least-squares problems of a fit: pose, expressions and identity from landmarks.

The camera is weak perspective: a head point X lands at scale * (R X) + translation, y down. All
landmark distances count in face widths, so that the size of a photo does not matter. Expressions
are solved by bounded least squares on the landmarks and, with more weight, on the gaps between
facing lip points.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from talkingface.contract.motion import ARKIT_DIM, ARKIT_INDEX, ARKIT_NAMES
from talkingface.renderer.arrays import Float32Array, Int64Array
from talkingface.renderer.face.camera import Camera
from talkingface.renderer.face.landmarks import LID_PAIRS, LIP_CORNERS, LIP_PAIRS, LIPS, OUTLINE
from talkingface.renderer.face.model import LANDMARKS, SKIN_LANDMARKS, FaceModel
from talkingface.renderer.face.solver import Poses, bounded_least_squares, gauss_newton

# Measured, not solved for, or invisible to landmarks.
DIRECT = tuple(n for n in ARKIT_NAMES if n.startswith(("eyeLook", "eyeBlink", "tongueOut")))
RARE = ("cheekPuff", "jawForward", "jawLeft", "jawRight", "noseSneerLeft", "noseSneerRight")

# By eye, unless said otherwise.
NOISE = 0.02  # face widths: standard deviation of the residuals of landmarks
COEFFICIENT_SPREAD, RARE_SPREAD = 0.35, 0.12  # standard deviation of coefficients; of rare ones
SPARSITY = 0.6  # L1 penalty on a coefficient, in units of its standard deviation
OUTLINE_WEIGHT = 0.3  # of a landmark; the outline slides over the cheek when the head turns
LIPS_WEIGHT = 2.0
LIP_GAP_WEIGHT, MOUTH_WIDTH_WEIGHT, LID_GAP_WEIGHT = 25.0, 8.0, 3.0  # of differences of landmarks
INDEPENDENT = 60  # landmarks for which all count, for neighbouring ones err together
MOVABLE = 400  # loss of a landmark's weight for the pose with the square of its motion
FIRST_STEPS, FURTHER_STEPS = 12, 3  # of Gauss-Newton without and with a pose to start from
POSE_WEIGHT = 0.1  # of the largest, above which a landmark counts for the pose
IMAGE_AXES = np.array([[1], [-1]], np.float32)  # y down


@dataclass(frozen=True)
class _Problem:
    """What every fit shares. Its N rows are the 478 landmarks, then differences of landmarks."""

    pairs: Int64Array  # (P, 2): rows after the 478 landmarks are differences of these
    weight: Float32Array  # (N,)
    rigid: Float32Array  # (478,) weight of a landmark for the pose
    solved: Int64Array  # columns of ARKIT_NAMES that are solved for
    basis: Float32Array  # (3, N, C) expressions of the solved columns, by axis
    gram: Float32Array  # (3, 3, C, C) weighted products of the basis
    identity_basis: Float32Array  # (3, N, K)
    identity_gram: Float32Array  # (3, 3, K, K)
    spread: Float32Array  # (C,) expected size of the coefficients

    @property
    def names(self) -> list[str]:
        """Names of the coefficients that are solved for."""
        return [ARKIT_NAMES[i] for i in self.solved]

    def rows(self, values: Float32Array) -> Float32Array:
        """Values of the landmarks (..., 478, k) to values of the rows (..., N, k)."""
        first, second = self.pairs.T
        return np.concatenate([values, values[..., first, :] - values[..., second, :]], -2)


@lru_cache(maxsize=1)
def _problem() -> _Problem:
    model = FaceModel.load()
    weight = np.ones(LANDMARKS, np.float32)
    weight[list(OUTLINE)] = OUTLINE_WEIGHT
    weight[list(LIPS)] = LIPS_WEIGHT
    weight[SKIN_LANDMARKS:] = 0.0
    movable = model.landmark_expressions.copy()
    movable[[ARKIT_INDEX[n] for n in DIRECT]] = 0
    rigid = weight / (1 + MOVABLE * np.linalg.norm(movable, axis=2).max(0) ** 2)
    gaps = [(a, b, LIP_GAP_WEIGHT) for a, b in LIP_PAIRS] + [(*LIP_CORNERS, MOUTH_WIDTH_WEIGHT)]
    gaps += [(a, b, LID_GAP_WEIGHT) for eye in LID_PAIRS for a, b in eye]
    pairs = np.array([gap[:2] for gap in gaps])
    weight = np.concatenate([weight, np.array([gap[2] for gap in gaps], np.float32)])
    weight *= INDEPENDENT / LANDMARKS / NOISE**2
    solved = np.array([i for i, n in enumerate(ARKIT_NAMES) if n not in DIRECT])
    basis = _by_axis(model.landmark_expressions[solved], pairs)
    identity = _by_axis(model.landmark_identity, pairs)
    rare = np.isin(solved, [ARKIT_INDEX[n] for n in RARE])
    return _Problem(
        pairs=pairs,
        weight=weight,
        rigid=rigid,
        solved=solved,
        basis=basis,
        gram=_gram(basis, weight),
        identity_basis=identity,
        identity_gram=_gram(identity, weight),
        spread=np.where(rare, RARE_SPREAD, COEFFICIENT_SPREAD).astype(np.float32),
    )


def _by_axis(offsets: Float32Array, pairs: Int64Array) -> Float32Array:
    """Offsets (M, 478, 3) of the landmarks as a basis (3, N, M) of the rows."""
    first, second = pairs.T
    rows = np.concatenate([offsets, offsets[:, first] - offsets[:, second]], 1)
    return np.ascontiguousarray(rows.transpose(2, 1, 0))


def _gram(basis: Float32Array, weight: Float32Array) -> Float32Array:
    """Weighted products (3, 3, C, C) of a basis (3, N, C)."""
    gram = np.einsum("inc,n,jnd->ijcd", basis, weight, basis, optimize=True)
    products: Float32Array = gram.astype(np.float32)
    return products


def estimate_camera(
    points: Float32Array, shape: Float32Array, start: Camera | None = None
) -> Camera:
    """Estimate the pose of T frames by Gauss-Newton on the landmarks.

    :param points: (T, 478, 2) pixels.
    :param shape: (T or 1, 478, 3) unposed head landmarks.
    :param start: where to begin; None: upright towards the camera.
    """
    weight = _problem().rigid
    weight = weight / weight.sum()
    shape = np.ascontiguousarray(np.broadcast_to(shape, (len(points), LANDMARKS, 3)), np.float32)
    steps = FURTHER_STEPS
    if start is None:
        start, steps = _upright_camera(points, shape, weight), FIRST_STEPS
    poses = Poses(
        start.rotation.astype(np.float64),
        start.scale.astype(np.float64),
        start.translation.astype(np.float64),
    )
    used = np.nonzero(weight > POSE_WEIGHT * weight.max())[0]
    gauss_newton(points, shape, used, weight, steps, poses)
    return Camera(*(values.astype(np.float32) for values in poses))


def _upright_camera(points: Float32Array, shape: Float32Array, weight: Float32Array) -> Camera:
    """The pose of T frames without pitch and yaw; arguments as for `estimate_camera`.

    :param weight: (478,) of the landmarks.
    """
    middle = np.einsum("tnd,n->td", points, weight)
    flat = points - middle[:, None]
    flat = flat * np.array([1, -1], np.float32)
    centred = shape - np.einsum("tnd,n->td", shape, weight)[:, None]
    size = np.sqrt(
        np.einsum("tnd,n->t", flat**2, weight)
        / np.einsum("tnd,n->t", centred[..., :2] ** 2, weight)
    )
    cross = centred[..., 1] * flat[..., 0] - centred[..., 0] * flat[..., 1]
    roll = np.arctan2(
        np.einsum("tn,n->t", cross, weight),
        np.einsum("tnd,tnd,n->t", centred[..., :2], flat, weight),
    )
    upright = np.zeros((len(points), 3, 3), np.float32)
    upright[:, 0, 0] = upright[:, 1, 1] = np.cos(roll)
    upright[:, 0, 1], upright[:, 1, 0] = np.sin(roll), -np.sin(roll)
    upright[:, 2, 2] = 1
    return Camera(upright, size, middle)


def solve_expressions(
    points: Float32Array, person: Float32Array, camera: Camera, fixed: Float32Array
) -> Float32Array:
    """Solve for the coefficients of T frames, (T, 52).

    :param points: (T, 478, 2) pixels.
    :param person: (478, 3) landmarks of the person without expression.
    :param fixed: (T, 52) the coefficients that are measured, not solved for.
    """
    problem, model = _problem(), FaceModel.load()
    known = person + (fixed @ model.landmark_expressions.reshape(ARKIT_DIM, -1)).reshape(
        -1, LANDMARKS, 3
    )
    residuals = (points - camera.project(known)[..., :2]) / camera.scale[:, None, None]
    residuals = problem.rows(residuals) * problem.weight[:, None]
    planar = camera.rotation[:, :2] * IMAGE_AXES
    back = np.einsum("tij,tni->jtn", planar, residuals, optimize=True)
    right = sum(back[k] @ problem.basis[k] for k in range(3))
    mix = np.einsum("tij,tik->tjk", planar, planar)
    size = len(problem.solved)
    grams = mix.reshape(-1, 9) @ problem.gram.reshape(9, -1)
    out = np.zeros((len(points), size), np.float32)
    bounded_least_squares(
        grams.reshape(-1, size, size).astype(np.float32),
        right.astype(np.float32),
        (1 / problem.spread**2).astype(np.float32),
        SPARSITY / COEFFICIENT_SPREAD,
        problem.names.index("jawOpen"),
        problem.names.index("mouthClose"),
        out,
    )
    coefficients = fixed.copy()
    coefficients[:, problem.solved] = out
    return coefficients


def solve_identity(
    points: Float32Array, coefficients: Float32Array, camera: Camera
) -> Float32Array:
    """Solve for the identity (K,) that explains all frames best, with its normal prior.

    :param points: (T, 478, 2) pixels.
    :param coefficients: (T, 52).
    """
    problem, model = _problem(), FaceModel.load()
    shape = model.landmarks(np.zeros(len(model.identity), np.float32), coefficients)
    residuals = (points - camera.project(shape)[..., :2]) / camera.scale[:, None, None]
    weight = problem.weight.copy()
    weight[LANDMARKS : LANDMARKS + len(LIP_PAIRS)] = 0  # lips that stand open are no trait
    residuals = problem.rows(residuals) * weight[:, None]
    planar = camera.rotation[:, :2] * IMAGE_AXES
    back = np.einsum("tij,tni->jn", planar, residuals, optimize=True) / len(points)
    right = sum(problem.identity_basis[k].T @ back[k] for k in range(3))
    mix = np.einsum("tij,tik->jk", planar, planar) / len(points)
    gram = np.einsum("jk,jkcd->cd", mix, problem.identity_gram)
    identity: Float32Array = np.linalg.solve(gram + np.eye(len(right)), right).astype(np.float32)
    return identity
