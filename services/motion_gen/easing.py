"""How a change of the controls eases in."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from talkingface.contract.controls import EMOTIONS, Controls
from talkingface.contract.motion import Array
from talkingface.contract.rates import MOTION_FPS

# Critically damped spring: 1 - (1 + wt) exp(-wt) = 0.983 of the way after 0.6 s.
EASE_RATE = 10.0


def spring(
    place: np.ndarray, speed: np.ndarray, target: np.ndarray, rate: float | np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Place and speed one frame on, drawn to `target` by a critically damped spring (exact).

    :param rate: 1 / s; one, or as many as there are places
    """
    dt = 1.0 / MOTION_FPS
    decay = np.exp(-rate * dt)
    away = place - target
    push = (speed + rate * away) * dt
    return target + (away + push) * decay, (speed - rate * push) * decay


# Columns of the eased track.
_DISTANCE, _POSE, _HEAD_SCALE, _MOUTH_SCALE, _EXPRESSIVITY = 0, slice(1, 4), 4, 5, 6
_EMOTION = slice(7, 7 + len(EMOTIONS))


@dataclass(frozen=True)
class EasedControls:
    """Controls frame by frame: all of shape (T, ...), float32."""

    distance: Array
    pose_offset: Array
    head_scale: Array
    mouth_scale: Array
    expressivity: Array
    emotion: Array


class ControlEasing:
    """Moves the continuous controls towards their targets without a jump in value or speed."""

    def __init__(self, controls: Controls) -> None:
        self.value = self._target(controls)
        self.speed = np.zeros_like(self.value)

    @staticmethod
    def _target(controls: Controls) -> np.ndarray:
        return np.concatenate(
            [
                [math.log(controls.head_distance)],
                controls.pose_offset,
                [controls.head_motion_scale, controls.mouth_scale, controls.expressivity],
                controls.emotion_vector(),
            ]
        ).astype(np.float64)

    def step(self, controls: list[Controls]) -> EasedControls:
        """One frame for each entry of `controls`, the targets in force at that frame."""
        track = []
        for entry in controls:
            self.value, self.speed = spring(self.value, self.speed, self._target(entry), EASE_RATE)
            track.append(self.value)
        rows = np.array(track, np.float32)
        return EasedControls(
            distance=np.exp(rows[:, _DISTANCE]),
            pose_offset=rows[:, _POSE],
            head_scale=np.maximum(rows[:, _HEAD_SCALE], 0),
            mouth_scale=np.maximum(rows[:, _MOUTH_SCALE], 0),
            expressivity=np.maximum(rows[:, _EXPRESSIVITY], 0),
            emotion=np.clip(rows[:, _EMOTION], 0, 1),
        )
