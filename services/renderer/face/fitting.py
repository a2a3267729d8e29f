"""Fit the 3D head to landmarks: one portrait, or a whole video of one person at once.

The camera is weak perspective: a head point X lands at scale * (R X) + translation, y down. All
landmark distances count in face widths, so that a picture's size does not matter. Expressions are
solved by bounded least squares on the landmarks and, with more weight, on the gaps between facing
lip points; lids and gaze are measured directly, because a lid's closure and an iris's place are
better known than any mesh says.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from talkingface.contract.motion import (
    ARKIT_DIM,
    ARKIT_INDEX,
    ARKIT_NAMES,
    GAZE_PITCH_RANGE,
    GAZE_YAW_RANGE,
    gaze_to_arkit,
)
from talkingface.renderer.arrays import Float32Array, Int64Array
from talkingface.renderer.face.camera import Camera, FaceFit, Track
from talkingface.renderer.face.model import LANDMARKS, FaceModel
from talkingface.renderer.face.solver import bounded_least_squares, gauss_newton

# Facing pairs of upper and lower inner lip, and the two mouth corners.
LIP_PAIRS = (
    (13, 14), (82, 87), (312, 317), (81, 178), (311, 402), (80, 88), (310, 318), (191, 95),
    (415, 324),
)  # fmt: skip
LIP_CORNERS = (78, 308)
LIPS = (
    61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291, 409, 270, 269, 267, 0, 37, 39, 40, 185,
    78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308, 415, 310, 311, 312, 13, 82, 81, 80, 191,
)  # fmt: skip
# Upper and lower lid points that face each other: subject's right eye, then left.
LID_PAIRS = (
    ((160, 144), (159, 145), (158, 153)),
    ((387, 373), (386, 374), (385, 380)),
)
EYE_CORNERS = ((33, 133), (362, 263))
IRISES = (468, 473)
# The face's outline slides over the cheek when the head turns, so it says little.
OUTLINE = (
    10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377, 152,
    148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109,
)  # fmt: skip
# Measured, not solved for, or invisible to landmarks.
DIRECT = tuple(n for n in ARKIT_NAMES if n.startswith(("eyeLook", "eyeBlink", "tongueOut")))
NOISE = 0.02  # face widths: what a landmark and the model together are worth
COEFFICIENT_SPREAD = 0.35
SPARSITY = 0.6  # linear cost of a coefficient: what can be left out is left out
GAZE_SHUT = 0.45  # with lids closer than this share of open, the iris tells nothing
# Mouth corners of 83 portraits at rest, from between the lips outwards and up, in face widths.
REST_CORNER, REST_CORNER_SPREAD = np.array([0.146, -0.002]), np.array([0.013, 0.010])
SMILE_EVIDENCE = (0.1, 0.3)  # fitted smile from nobody's to somebody's
# Iris landmarks of people who look into the camera lie this much low (293 synthetic portraits).
GAZE_PITCH_BIAS = -2.3


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

    def rows(self, values: Float32Array) -> Float32Array:
        """Values of the landmarks (..., 478, k) to values of the rows (..., N, k)."""
        first, second = self.pairs.T
        return np.concatenate([values, values[..., first, :] - values[..., second, :]], -2)


@lru_cache(maxsize=1)
def _problem() -> _Problem:
    model = FaceModel.load()
    weight = np.ones(LANDMARKS, np.float32)
    weight[list(OUTLINE)] = 0.3
    weight[list(LIPS)] = 2.0
    weight[468:] = 0.0
    rigid = weight.copy()
    movable = model.landmark_expressions.copy()
    movable[[ARKIT_INDEX[n] for n in DIRECT]] = 0
    rigid /= 1 + 400 * np.linalg.norm(movable, axis=2).max(0) ** 2
    pairs = [(a, b, 25.0) for a, b in LIP_PAIRS] + [(*LIP_CORNERS, 8.0)]
    pairs += [(a, b, 3.0) for eye in LID_PAIRS for a, b in eye]
    ends = np.array([p[:2] for p in pairs])
    weight = np.concatenate([weight, np.array([p[2] for p in pairs], np.float32)])
    # Neighbouring landmarks err together: they count as some sixty independent ones.
    weight *= 60 / LANDMARKS / NOISE**2
    solved = np.array([i for i, n in enumerate(ARKIT_NAMES) if n not in DIRECT])

    def by_axis(offsets: Float32Array) -> Float32Array:
        first, second = ends.T
        rows = np.concatenate([offsets, offsets[:, first] - offsets[:, second]], 1)
        return np.ascontiguousarray(rows.transpose(2, 1, 0))

    basis, identity = by_axis(model.landmark_expressions[solved]), by_axis(model.landmark_identity)
    spread = np.full(len(solved), COEFFICIENT_SPREAD, np.float32)
    names = [ARKIT_NAMES[i] for i in solved]
    rare = ("cheekPuff", "jawForward", "jawLeft", "jawRight", "noseSneerLeft", "noseSneerRight")
    for name in rare:
        spread[names.index(name)] = 0.12

    def gram(b: Float32Array) -> Float32Array:
        return np.einsum("inc,n,jnd->ijcd", b, weight, b, optimize=True).astype(np.float32)

    return _Problem(
        ends, weight, rigid, solved, basis, gram(basis), identity, gram(identity), spread
    )


def estimate_camera(
    points: Float32Array, shape: Float32Array, start: Camera | None = None
) -> Camera:
    """Pose of T frames by Gauss-Newton on the landmarks.

    :param points: (T, 478, 2) pixels.
    :param shape: (T or 1, 478, 3) unposed head landmarks.
    """
    weight = _problem().rigid
    weight = weight / weight.sum()
    frames = len(points)
    shape = np.ascontiguousarray(np.broadcast_to(shape, (frames, LANDMARKS, 3)), np.float32)
    steps = 3
    if start is None:
        steps = 12
        middle = np.einsum("tnd,n->td", points, weight)
        flat = points - middle[:, None]
        flat = flat * np.array([1, -1], np.float32)
        centred = shape - np.einsum("tnd,n->td", shape, weight)[:, None]
        size = np.sqrt(
            np.einsum("tnd,n->t", flat**2, weight)
            / np.einsum("tnd,n->t", centred[..., :2] ** 2, weight)
        )
        roll = np.arctan2(
            np.einsum(
                "tn,n->t", centred[..., 1] * flat[..., 0] - centred[..., 0] * flat[..., 1], weight
            ),
            np.einsum("tnd,tnd,n->t", centred[..., :2], flat, weight),
        )
        upright = np.zeros((frames, 3, 3), np.float32)
        upright[:, 0, 0] = upright[:, 1, 1] = np.cos(roll)
        upright[:, 0, 1], upright[:, 1, 0] = np.sin(roll), -np.sin(roll)
        upright[:, 2, 2] = 1
        start = Camera(upright, size, middle)
    rotation = start.rotation.astype(np.float64)
    scale = start.scale.astype(np.float64)
    translation = start.translation.astype(np.float64)
    used = np.nonzero(weight > 0.1 * weight.max())[0]
    gauss_newton(points, shape, used, weight, steps, rotation, scale, translation)
    return Camera(
        rotation.astype(np.float32), scale.astype(np.float32), translation.astype(np.float32)
    )


def _solve_expressions(
    points: Float32Array, person: Float32Array, camera: Camera, fixed: Float32Array
) -> Float32Array:
    """Coefficients of T frames, (T, 52); `fixed` (T, 52) holds the measured ones.

    :param points: (T, 478, 2) pixels.
    :param person: (478, 3) landmarks of the person without expression.
    """
    problem, model = _problem(), FaceModel.load()
    known = person + (fixed @ model.landmark_expressions.reshape(ARKIT_DIM, -1)).reshape(
        -1, LANDMARKS, 3
    )
    gap = (points - camera.project(known)[..., :2]) / camera.scale[:, None, None]
    gap = problem.rows(gap) * problem.weight[:, None]
    planar = camera.rotation[:, :2] * np.array([[1], [-1]], np.float32)  # image axes, y down
    back = np.einsum("tij,tni->jtn", planar, gap, optimize=True)
    right = sum(back[k] @ problem.basis[k] for k in range(3))
    mix = np.einsum("tij,tik->tjk", planar, planar)
    size = len(problem.solved)
    grams = mix.reshape(-1, 9) @ problem.gram.reshape(9, -1)
    out = np.zeros((len(points), size), np.float32)
    names = [ARKIT_NAMES[i] for i in problem.solved]
    bounded_least_squares(
        grams.reshape(-1, size, size).astype(np.float32),
        right.astype(np.float32),
        (1 / problem.spread**2).astype(np.float32),
        SPARSITY / COEFFICIENT_SPREAD,
        names.index("jawOpen"),
        names.index("mouthClose"),
        out,
    )
    coefficients = fixed.copy()
    coefficients[:, problem.solved] = out
    return coefficients


def _solve_identity(
    points: Float32Array, coefficients: Float32Array, camera: Camera
) -> Float32Array:
    """Identity (K,) that explains all frames best, with its normal prior."""
    problem, model = _problem(), FaceModel.load()
    shape = model.landmarks(np.zeros(len(model.identity), np.float32), coefficients)
    gap = (points - camera.project(shape)[..., :2]) / camera.scale[:, None, None]
    weight = problem.weight.copy()
    weight[LANDMARKS : LANDMARKS + len(LIP_PAIRS)] = 0  # lips that stand open are no trait
    gap = problem.rows(gap) * weight[:, None]
    planar = camera.rotation[:, :2] * np.array([[1], [-1]], np.float32)
    back = np.einsum("tij,tni->jn", planar, gap, optimize=True) / len(points)
    right = sum(problem.identity_basis[k].T @ back[k] for k in range(3))
    mix = np.einsum("tij,tik->jk", planar, planar) / len(points)
    gram = np.einsum("jk,jkcd->cd", mix, problem.identity_gram)
    return np.linalg.solve(gram + np.eye(len(right)), right).astype(np.float32)


def lid_apertures(points: Float32Array, camera: Camera) -> Float32Array:
    """Height of the lid openings in face widths, (T, 2): subject's right eye, left."""
    heights = [
        np.mean([np.linalg.norm(points[:, a] - points[:, b], axis=1) for a, b in eye], 0)
        for eye in LID_PAIRS
    ]
    # A pitched head shows its eyes foreshortened.
    tilt = np.clip(camera.rotation[:, 1, 1], 0.5, 1.0)
    return (np.stack(heights, 1) / (camera.scale * tilt)[:, None]).astype(np.float32)


def _gaze(
    points: Float32Array, person: Float32Array, camera: Camera, open_share: Float32Array
) -> Float32Array:
    """Gaze (T, 2) pitch, yaw in degrees, both eyes as one; bridged where the lids are shut."""
    model = FaceModel.load()
    inverse = np.linalg.inv(camera.rotation[:, :2, :2] * np.array([[1], [-1]], np.float32))
    reach = model.eye_radius * np.sin(np.deg2rad([GAZE_YAW_RANGE, GAZE_PITCH_RANGE]))
    eyes = []
    for corners, iris in zip(EYE_CORNERS, IRISES, strict=True):
        seen = (points[:, iris] - points[:, list(corners)].mean(1)) / camera.scale[:, None]
        rest = person[iris] - person[list(corners)].mean(0)
        planar = camera.rotation[:, :2] * np.array([[1], [-1]], np.float32)
        gap = seen - planar @ rest
        eyes.append(np.einsum("tij,tj->ti", inverse, gap) / reach)
    share = np.mean(eyes, 0)
    gaze = share[:, ::-1] * np.array([GAZE_PITCH_RANGE, GAZE_YAW_RANGE])
    gaze[:, 0] -= GAZE_PITCH_BIAS
    shut = open_share.min(1) < GAZE_SHUT
    if shut.any() and not shut.all():
        times = np.arange(len(gaze))
        for k in range(2):
            gaze[shut, k] = np.interp(times[shut], times[~shut], gaze[~shut, k])
    limit = np.array([GAZE_PITCH_RANGE, GAZE_YAW_RANGE])
    return np.clip(gaze, -limit, limit).astype(np.float32)


def _lids(apertures: Float32Array, opened: Float32Array, gaze: Float32Array) -> Float32Array:
    """Blink coefficients (T, 52, only blinks) from lid heights and the open eye's height (2,)."""
    model = FaceModel.load()
    out = np.zeros((len(apertures), ARKIT_DIM), np.float32)
    down = np.clip(-gaze[:, 0] / GAZE_PITCH_RANGE, 0, 1)
    for k, side in enumerate(("Right", "Left")):
        # Looking down lowers the lid by itself; that is no blink.
        look = model.landmark_expressions[ARKIT_INDEX[f"eyeLookDown{side}"], :, 1]
        lowered = np.mean([look[b] - look[a] for a, b in LID_PAIRS[k]])
        expected = np.maximum(opened[k] - lowered * down, 0.4 * opened[k])
        out[:, ARKIT_INDEX[f"eyeBlink{side}"]] = np.clip(1 - apertures[:, k] / expected, 0, 1)
    return out


def _fit(
    points: Float32Array, identity: Float32Array | None, opened: Float32Array | None, rounds: int
) -> tuple[Float32Array, Float32Array, Camera]:
    """Common part of `fit` and `track`: identity, coefficients, camera."""
    model = FaceModel.load()
    size = len(model.identity)
    coefficients = np.zeros((len(points), ARKIT_DIM), np.float32)
    current = np.zeros(size, np.float32) if identity is None else identity
    camera: Camera | None = None
    for _ in range(rounds):
        shape = model.landmarks(current, coefficients)
        camera = estimate_camera(points, shape, camera)
        person = model.landmarks(current, np.zeros(ARKIT_DIM, np.float32))
        apertures = lid_apertures(points, camera)
        own = np.array(
            [np.mean([np.linalg.norm(person[a] - person[b]) for a, b in eye]) for eye in LID_PAIRS]
        )
        reference = own if opened is None else opened
        share = apertures / reference
        gaze = _gaze(points, person, camera, share)
        fixed = gaze_to_arkit(gaze[:, 0], gaze[:, 1]) + _lids(apertures, reference, gaze)
        coefficients = _solve_expressions(points, person, camera, fixed)
        if identity is None:
            current = _solve_identity(points, coefficients, camera)
    assert camera is not None
    return current, coefficients, camera


def _error(
    points: Float32Array, identity: Float32Array, coefficients: Float32Array, camera: Camera
) -> Float32Array:
    """Mean landmark distance of each frame in face widths, (T,)."""
    shape = FaceModel.load().landmarks(identity, coefficients)
    gap = np.linalg.norm(camera.project(shape)[..., :2] - points, axis=2)
    return (gap.mean(1) / camera.scale).astype(np.float32)


def fit(landmarks: Float32Array) -> FaceFit:
    """Fit one portrait.

    :param landmarks: (478, 2 or more) pixels; only x and y are used.
    :raises ValueError: if the shape is wrong or a value is not finite.
    """
    points = _checked(landmarks[None])
    identity, coefficients, camera = _fit(points, None, None, 10)
    error = float(_error(points, identity, coefficients, camera)[0])
    coefficients[0] = _whole_smile(points, identity, coefficients, camera)
    identity = _solve_identity(points, coefficients, camera)
    return FaceFit(identity, coefficients[0], camera, error)


def _whole_smile(
    points: Float32Array, identity: Float32Array, coefficients: Float32Array, camera: Camera
) -> Float32Array:
    """Coefficients (52,) of one picture with the part of its smile that was taken for a trait.

    One picture cannot tell high and wide mouth corners that a person always has from those of a
    smile, and the priors share them out. Whoever evidently smiles would keep the trait's part for
    ever: here the smile grows until the corners without it lie where they do in faces at rest.
    """
    model, own = FaceModel.load(), coefficients[0]
    shape = model.landmarks(identity, coefficients[:1])
    gap = (points - camera.project(shape)[..., :2])[0] / camera.scale[0] * np.array([1, -1])
    rest = (
        shape[0] + gap @ camera.rotation[0, :2] - np.tensordot(own, model.landmark_expressions, 1)
    )
    out = own.copy()
    for corner, side, sign in zip(LIP_CORNERS, ("Right", "Left"), (-1, 1), strict=True):
        used = [ARKIT_INDEX[f"mouth{name}{side}"] for name in ("Smile", "Stretch")]
        low, high = SMILE_EVIDENCE
        evident = min(max((own[used[0]] - low) / (high - low), 0.0), 1.0)

        def place(marks: Float32Array, corner: int = corner, sign: int = sign) -> Float32Array:
            middle = (marks[..., 13, :2] + marks[..., 14, :2]) / 2
            return (marks[..., corner, :2] - middle) * [sign, 1] / REST_CORNER_SPREAD

        ways = place(model.landmark_expressions[used])  # (2 coefficients, 2 axes)
        excess = place(rest) - REST_CORNER / REST_CORNER_SPREAD
        change = np.zeros(2)
        for _ in range(20):
            for k in range(2):
                left = excess - change[1 - k] * ways[1 - k]
                step = left @ ways[k] / (ways[k] @ ways[k] + 1.0)
                change[k] = np.clip(step, -own[used[k]], 1 - own[used[k]])
        out[used] = own[used] + evident * change
    return out


def estimate_person(landmarks: Float32Array, frames: int = 96) -> tuple[Float32Array, Float32Array]:
    """Identity (K,) and open lids' heights (2,) of the one person in T frames (T, 478, 2+)."""
    points = _checked(landmarks)
    points = points[np.linspace(0, len(points) - 1, min(frames, len(points))).round().astype(int)]
    identity, _, camera = _fit(points, None, None, 10)
    return identity, np.percentile(lid_apertures(points, camera), 75, 0).astype(np.float32)


def track(
    landmarks: Float32Array,
    identity: Float32Array | None = None,
    open_lids: Float32Array | None = None,
) -> Track:
    """Follow one person's head through a video.

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
    parts = []
    for first in range(0, len(points), 512):
        chunk = points[first : first + 512]
        _, coefficients, camera = _fit(chunk, identity, open_lids, 4)
        parts.append((coefficients, camera, _error(chunk, identity, coefficients, camera)))
    camera = Camera(
        *(
            np.concatenate([getattr(p[1], name) for p in parts])
            for name in ("rotation", "scale", "translation")
        )
    )
    return Track(
        identity,
        np.concatenate([p[0] for p in parts]),
        camera,
        np.concatenate([p[2] for p in parts]),
    )


def _checked(landmarks: Float32Array) -> Float32Array:
    """Landmarks as (T, 478, 2) float32, or ValueError."""
    if landmarks.ndim != 3 or landmarks.shape[1] != LANDMARKS or landmarks.shape[2] < 2:
        raise ValueError(f"landmarks must be (T, {LANDMARKS}, 2), not {landmarks.shape}")
    points = np.ascontiguousarray(landmarks[..., :2], np.float32)
    if not len(points) or not np.isfinite(points).all():
        raise ValueError("landmarks must be finite and not empty")
    return points
