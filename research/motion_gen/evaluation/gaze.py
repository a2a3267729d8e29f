"""Where the eyes look, in the camera's frame: saccades, dwell, aversion."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from talkingface.contract.arrays import Float32Array
from talkingface.contract.motion import ARKIT_DIM, PITCH, arkit_to_gaze
from talkingface.contract.rates import MOTION_FPS
from talkingface_research.motion_gen.evaluation.curves import Curve

MOVING = 1.2  # degrees a frame: 30 degrees/s, the usual velocity threshold
SMALLEST = 2.0  # degrees
AVERTED, BACK = 5.0, 3.0  # degrees from the median direction, at which aversion begins and ends
SHORTEST = 0.2  # seconds: less is a blink or noise


@dataclass(frozen=True)
class Saccades:
    """Gaze shifts of one stream."""

    size: Curve  # (n,) degrees
    dwell: Curve  # (n - 1,) seconds of rest between them


def in_camera(motion: Float32Array) -> Curve:
    """Pitch and yaw of the gaze in degrees: (T, 2); (0, 0) looks into the camera."""
    eyes = np.stack(arkit_to_gaze(motion[:, :ARKIT_DIM]), axis=1)
    return np.asarray(eyes + motion[:, PITCH : PITCH + 2], float)


def saccades(track: Curve) -> Saccades:
    """Runs of frames in which the gaze (T, 2) moves fast."""
    moving = np.linalg.norm(np.diff(track, axis=0), axis=1) > MOVING
    edges = np.flatnonzero(np.diff(np.concatenate([[0], moving.astype(int), [0]])))
    first, last = edges[::2], edges[1::2]
    size = np.linalg.norm(track[last] - track[first], axis=1)
    large = size >= SMALLEST
    first, last = first[large], last[large]
    return Saccades(size[large], (first[1:] - last[:-1]) / MOTION_FPS)


def averted(track: Curve) -> tuple[float, Curve]:
    """Share of time in which the gaze (T, 2) is averted from its median direction, and the lengths
    of these times in seconds."""
    distance = np.linalg.norm(track - np.median(track, axis=0), axis=1)
    # Averted from passing the outer limit until back within the inner one.
    away = np.zeros(len(track), bool)
    for i, degrees in enumerate(distance):
        away[i] = degrees > (BACK if i and away[i - 1] else AVERTED)
    edges = np.flatnonzero(np.diff(np.concatenate([[0], away.astype(int), [0]])))
    lengths = (edges[1::2] - edges[::2]) / MOTION_FPS
    lengths = lengths[lengths >= SHORTEST]
    return float(lengths.sum() * MOTION_FPS / len(track)), lengths
