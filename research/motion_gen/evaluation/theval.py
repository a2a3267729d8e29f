"""The five landmark metrics of THEval (CVPR 2026), by the definitions of its published code.

THEval measures frames of 256 pixels, and three of its metrics are in or depend on pixels. Here
every face is scaled to `FACE_PIXELS` first, so that near and far faces count alike. The
leaderboard's head pose network is not used: angles are those of a rigid fit, so head motion must be
compared with real clips measured in the same way, not with the leaderboard.

Lip dynamics: mean over all pairs of lip landmarks of the standard deviation of their distance.
Brow dynamics: mean absolute change a frame of the distance from brow to eye, over the eyes'
distance. Silent lips: median absolute deviation from the mean of the inner opening over the eyes'
distance, in silences of at least `SILENCE_SECONDS`. Lip sync: mean absolute difference of opening
and loudness, each stretched to 0..1, while someone speaks. Head motion: square root of (mean
deviation of the angles times mean variance of their steps, plus mean variance of the position).
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from talkingface.contract.arrays import Float32Array
from talkingface.contract.rates import MOTION_FPS
from talkingface_research.motion_gen.evaluation.curves import Curve
from talkingface_research.motion_gen.evaluation.features import CHEEKS, head

FACE_PIXELS = 140.0  # distance of the cheeks
SILENCE_SECONDS = 0.3
LOUDNESS_SECONDS = 0.05
LEAST_SPEECH = 0.1  # share of frames: with less there is no lip sync

LIPS = [
    0, 13, 14, 17, 37, 39, 40, 61, 78, 80, 81, 82, 84, 87, 88, 91, 95, 146, 178, 181, 185, 191,
    267, 269, 270, 291, 308, 310, 311, 312, 314, 317, 318, 321, 324, 375, 402, 405, 409, 415,
]  # fmt: skip
INNER_UPPER = [191, 80, 81, 82, 13, 312, 311, 310]
INNER_LOWER = [95, 88, 178, 87, 14, 317, 402, 318]
OUTER_EYE_CORNERS = (33, 263)
EYE_CORNERS = ([33, 133], [362, 263])
BROW_RINGS = (
    [46, 52, 53, 55, 63, 65, 66, 70, 105, 107],
    [276, 282, 283, 285, 293, 295, 296, 300, 334, 336],
)
EYE_RINGS = (
    [7, 33, 133, 144, 145, 153, 154, 155, 157, 158, 159, 160, 161, 163, 173, 246],
    [249, 263, 362, 373, 374, 380, 381, 382, 384, 385, 386, 387, 388, 390, 398, 466],
)

# Mean of the leaderboard's real videos; head motion by its own pose network.
BOARD_REAL = {
    "lip dynamics": 1.716603,
    "brow dynamics": 0.006777,
    "silent lips": 0.0263,
    "lip sync": 0.2528,
    "head motion": 18.46757,
}


def scaled(landmarks: Float32Array) -> Curve:
    """(T, 478, 2) in pixels of a frame in which the clip's median face is `FACE_PIXELS` wide."""
    points = np.asarray(landmarks, float)[:, :, :2]
    width = np.linalg.norm(points[:, CHEEKS[0]] - points[:, CHEEKS[1]], axis=1)
    return np.asarray(points * (FACE_PIXELS / np.median(width)))


def lip_dynamics(points: Curve) -> float:
    """Pixels; of `scaled` points."""
    lips = points[:, LIPS]
    first, second = np.triu_indices(len(LIPS), 1)
    return float(np.linalg.norm(lips[:, first] - lips[:, second], axis=2).std(axis=0).mean())


def brow_dynamics(points: Curve) -> float:
    """Eye distances a frame."""
    eyes = [points[:, ring].mean(axis=1) for ring in EYE_RINGS]
    brows = [points[:, ring].mean(axis=1) for ring in BROW_RINGS]
    scale = np.linalg.norm(eyes[0] - eyes[1], axis=1)
    gaps = [np.linalg.norm(b - e, axis=1) / scale for b, e in zip(brows, eyes, strict=True)]
    return float(np.mean([np.abs(np.diff(gap)).mean() for gap in gaps]))


def silences(speaking: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Frames of the pauses in speech that are at least `SILENCE_SECONDS` long."""
    out = np.zeros(len(speaking), bool)
    edges = np.flatnonzero(np.diff(np.concatenate([[True], speaking, [True]]).astype(int)))
    for first, last in edges.reshape(-1, 2):
        if last - first >= SILENCE_SECONDS * MOTION_FPS:
            out[first:last] = True
    return out


def silent_lips(points: Curve, speaking: NDArray[np.bool_]) -> float:
    """Eye distances; not a number without two frames of silence."""
    eyes = np.linalg.norm(points[:, OUTER_EYE_CORNERS[0]] - points[:, OUTER_EYE_CORNERS[1]], axis=1)
    gap = np.abs(points[:, INNER_UPPER, 1] - points[:, INNER_LOWER, 1]).mean(axis=1) / eyes
    gap = gap[silences(speaking)]
    return float(np.median(np.abs(gap - gap.mean()))) if len(gap) > 1 else math.nan


def lip_sync(points: Curve, energy: Curve, speaking: NDArray[np.bool_]) -> float:
    """0 = opening and loudness rise and fall together."""
    if speaking.mean() < LEAST_SPEECH or speaking.sum() < 2:
        return math.nan
    eyes = [points[:, pair, 0].mean(axis=1) for pair in EYE_CORNERS]
    lips = [points[:, line, 1].mean(axis=1) for line in (INNER_UPPER, INNER_LOWER)]
    opening = np.abs(lips[0] - lips[1]) / np.abs(eyes[0] - eyes[1])
    return float(np.abs(_stretched(opening[speaking]) - _stretched(energy[speaking])).mean())


def head_motion(points: Curve, angles: Curve) -> float:
    """Of `scaled` points and angles (T, 3) in degrees."""
    middle = (points[:, :468].min(axis=1) + points[:, :468].max(axis=1)) / 2
    steps = np.diff(angles, axis=0).var(axis=0).mean()
    return float(np.sqrt(angles.std(axis=0).mean() * steps + middle.var(axis=0).mean()))


def energy_at_frames(audio: Float32Array, rate: int, frames: int) -> Curve:
    """Root mean square of audio in windows of `LOUDNESS_SECONDS`, interpolated at each frame."""
    hop = int(rate * LOUDNESS_SECONDS)
    padded = np.pad(np.asarray(audio, float), hop // 2)  # windows are centred on their time
    count = max(1, len(padded) // hop)
    padded = np.pad(padded, (0, max(0, count * hop - len(padded))))
    power = (padded[: count * hop].reshape(count, hop) ** 2).mean(axis=1)
    times = np.arange(frames) / MOTION_FPS
    return np.interp(times, np.arange(count) * hop / rate, np.sqrt(power))


def metrics(
    landmarks: Float32Array, energy: Curve, speaking: NDArray[np.bool_]
) -> dict[str, float]:
    """All five of a clip, by their names in `BOARD_REAL`; audio on the video clock.

    :param energy: `energy_at_frames`
    :param speaking: (T,) whether someone speaks in the frame
    """
    points = scaled(landmarks)
    return {
        "lip dynamics": lip_dynamics(points),
        "brow dynamics": brow_dynamics(points),
        "silent lips": silent_lips(points, speaking),
        "lip sync": lip_sync(points, energy, speaking),
        "head motion": head_motion(points, head(landmarks).angles),
    }


def mean(clips: list[dict[str, float]]) -> dict[str, float]:
    """Means over clips; a clip without a value does not count."""
    return {
        name: float(np.mean(values)) if values else math.nan
        for name in BOARD_REAL
        for values in [[clip[name] for clip in clips if math.isfinite(clip[name])]]
    }


def score(found: Mapping[str, float], real: Mapping[str, float]) -> dict[str, float]:
    """How near to the real values: 1 = equal, 1 - |found - real| / real."""
    return {name: 1 - abs(found[name] - value) / value for name, value in real.items()}


def _stretched(values: Curve) -> Curve:
    return np.asarray((values - values.min()) / (values.max() - values.min() + 1e-8))
