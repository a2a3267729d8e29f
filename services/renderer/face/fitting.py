"""Fit the 3D head to landmarks: one portrait, or a whole clip of one person at once."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from talkingface.contract.motion import ARKIT_DIM, ARKIT_INDEX, gaze_to_arkit
from talkingface.renderer.arrays import Float32Array, Float64Array
from talkingface.renderer.face.camera import Camera, FaceFit, Track
from talkingface.renderer.face.eye_measurement import (
    lid_apertures,
    measure_blinks,
    measure_gaze,
    neutral_apertures,
)
from talkingface.renderer.face.landmark_problem import (
    estimate_camera,
    solve_expressions,
    solve_identity,
)
from talkingface.renderer.face.landmarks import LIP_CORNERS, LOWER_LIP, UPPER_LIP
from talkingface.renderer.face.model import LANDMARKS, FaceModel

# Mouth corners of 83 portraits at rest, from between the lips outwards and up, in face widths.
REST_CORNER, REST_CORNER_SPREAD = np.array([0.146, -0.002]), np.array([0.013, 0.010])
SMILE_EVIDENCE = (0.1, 0.3)  # fitted smile from nobody's to somebody's; by eye
SMILE_ROUNDS = 20  # of coordinate descent over two coefficients
ROUNDS, FRAME_ROUNDS = 10, 4  # alternations between pose, expression and identity; without identity
OPEN_PERCENTILE = 75  # of a person's lid openings that counts as open eyes
CHUNK = 512  # frames solved at once, to bound memory


class _Solution(NamedTuple):
    """A head in T frames."""

    identity: Float32Array  # (K,)
    coefficients: Float32Array  # (T, 52)
    camera: Camera


def fit(landmarks: Float32Array) -> FaceFit:
    """Fit one portrait.

    :param landmarks: (478, 2 or more) pixels; only x and y are used.
    :raises ValueError: if the shape is wrong or a value is not finite.
    """
    points = _checked(landmarks[None])
    solution = _solve(points, None, None, ROUNDS)
    error = float(_error(points, solution)[0])
    coefficients, camera = solution.coefficients, solution.camera
    coefficients[0] = _whole_smile(points, solution)
    identity = solve_identity(points, coefficients, camera)
    return FaceFit(identity, coefficients[0], camera, error)


def estimate_person(landmarks: Float32Array, frames: int = 96) -> tuple[Float32Array, Float32Array]:
    """Estimate identity (K,) and open lids' heights (2,), face widths, of one person.

    :param landmarks: (T, 478, 2 or more) pixels.
    :param frames: how many of the T are used, spread evenly.
    """
    points = _checked(landmarks)
    points = points[np.linspace(0, len(points) - 1, min(frames, len(points))).round().astype(int)]
    solution = _solve(points, None, None, ROUNDS)
    apertures = lid_apertures(points, solution.camera)
    opened: Float32Array = np.percentile(apertures, OPEN_PERCENTILE, 0).astype(np.float32)
    return solution.identity, opened


def track(
    landmarks: Float32Array,
    identity: Float32Array | None = None,
    open_lids: Float32Array | None = None,
) -> Track:
    """Follow one person's head through a clip.

    :param landmarks: (T, 478, 2 or more) pixels.
    :param identity: (K,), else estimated from the frames by `estimate_person`.
    :param open_lids: (2,) heights of the person's open eyes in face widths, likewise.
    :raises ValueError: if the shape is wrong or a value is not finite.
    """
    points = _checked(landmarks)
    if identity is None or open_lids is None:
        estimated, opened = estimate_person(points)
        identity = estimated if identity is None else identity
        open_lids = opened if open_lids is None else open_lids
    chunks = [points[first : first + CHUNK] for first in range(0, len(points), CHUNK)]
    parts = [_solve(chunk, identity, open_lids, FRAME_ROUNDS) for chunk in chunks]
    errors = [_error(chunk, part) for chunk, part in zip(chunks, parts, strict=True)]
    camera = Camera(
        np.concatenate([part.camera.rotation for part in parts]),
        np.concatenate([part.camera.scale for part in parts]),
        np.concatenate([part.camera.translation for part in parts]),
    )
    coefficients = np.concatenate([part.coefficients for part in parts])
    return Track(identity, coefficients, camera, np.concatenate(errors))


def _solve(
    points: Float32Array,
    identity: Float32Array | None,
    opened: Float32Array | None,
    rounds: int,
) -> _Solution:
    """Alternate between pose, expression and, if it is unknown, identity.

    :param points: (T, 478, 2) pixels.
    :param opened: (2,) heights of the open eyes, face widths; None: those of the neutral mesh.
    """
    model = FaceModel.load()
    coefficients = np.zeros((len(points), ARKIT_DIM), np.float32)
    current = np.zeros(len(model.identity), np.float32) if identity is None else identity
    camera: Camera | None = None
    for _ in range(rounds):
        shape = model.landmarks(current, coefficients)
        camera = estimate_camera(points, shape, camera)
        person = model.landmarks(current, np.zeros(ARKIT_DIM, np.float32))
        apertures = lid_apertures(points, camera)
        reference = neutral_apertures(person) if opened is None else opened
        gaze = measure_gaze(points, person, camera, apertures / reference)
        blinks = measure_blinks(apertures, reference, gaze)
        fixed = gaze_to_arkit(gaze[:, 0], gaze[:, 1]) + blinks
        coefficients = solve_expressions(points, person, camera, fixed)
        if identity is None:
            current = solve_identity(points, coefficients, camera)
    assert camera is not None
    return _Solution(current, coefficients, camera)


def _error(points: Float32Array, solution: _Solution) -> Float32Array:
    """Mean landmark distance of each frame in face widths, (T,)."""
    shape = FaceModel.load().landmarks(solution.identity, solution.coefficients)
    distance = np.linalg.norm(solution.camera.project(shape)[..., :2] - points, axis=2)
    error: Float32Array = (distance.mean(1) / solution.camera.scale).astype(np.float32)
    return error


def _whole_smile(points: Float32Array, solution: _Solution) -> Float32Array:
    """Coefficients (52,) of one photo with the part of its smile that was attributed to identity.

    One photo cannot distinguish high and wide mouth corners that a person always has from those of
    a smile, so the priors divide them between both. The part attributed to identity would stay in
    every frame: where a smile is evident, it grows until the corners without it lie where they do
    in faces at rest.

    :param points: (1, 478, 2) pixels.
    """
    model, camera = FaceModel.load(), solution.camera
    own = solution.coefficients[0]
    shape = model.landmarks(solution.identity, solution.coefficients[:1])
    residuals = (points - camera.project(shape)[..., :2])[0] / camera.scale[0] * np.array([1, -1])
    rest = shape[0] + residuals @ camera.rotation[0, :2]
    rest = rest - np.tensordot(own, model.landmark_expressions, 1)
    out = own.copy()
    for corner, side, sign in zip(LIP_CORNERS, ("Right", "Left"), (-1, 1), strict=True):
        used = [ARKIT_INDEX[f"mouth{name}{side}"] for name in ("Smile", "Stretch")]
        low, high = SMILE_EVIDENCE
        evident = min(max((own[used[0]] - low) / (high - low), 0.0), 1.0)
        effects = _corner_offset(model.landmark_expressions[used], corner, sign)
        excess = _corner_offset(rest, corner, sign) - REST_CORNER / REST_CORNER_SPREAD
        out[used] = own[used] + evident * _explained(excess, effects, own[used])
    smile: Float32Array = out
    return smile


def _corner_offset(marks: Float32Array, corner: int, sign: int) -> Float32Array:
    """A mouth corner from between the lips, outwards and up (..., 2), in its spreads at rest.

    :param marks: (..., 478, 3).
    :param sign: -1 for the subject's right corner, 1 for the left.
    """
    middle = (marks[..., UPPER_LIP, :2] + marks[..., LOWER_LIP, :2]) / 2
    offset: Float32Array = (marks[..., corner, :2] - middle) * [sign, 1] / REST_CORNER_SPREAD
    return offset


def _explained(
    excess: Float32Array, effects: Float32Array, coefficients: Float32Array
) -> Float64Array:
    """Changes (2,) of two coefficients in [0, 1] that explain a corner's excess (2,), with a prior.

    :param effects: (2 coefficients, 2 axes).
    """
    change = np.zeros(2)
    for _ in range(SMILE_ROUNDS):
        for k in range(2):
            left = excess - change[1 - k] * effects[1 - k]
            step = left @ effects[k] / (effects[k] @ effects[k] + 1.0)
            change[k] = np.clip(step, -coefficients[k], 1 - coefficients[k])
    return change


def _checked(landmarks: Float32Array) -> Float32Array:
    """Landmarks as (T, 478, 2) float32.

    :raises ValueError: another shape, no frame, or values that are not finite.
    """
    if landmarks.ndim != 3 or landmarks.shape[1] != LANDMARKS or landmarks.shape[2] < 2:
        raise ValueError(f"landmarks must be (T, {LANDMARKS}, 2), not {landmarks.shape}")
    points = np.ascontiguousarray(landmarks[..., :2], np.float32)
    if not len(points) or not np.isfinite(points).all():
        raise ValueError("landmarks must be finite and not empty")
    return points
