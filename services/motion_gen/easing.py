"""Smooth transitions between values of the controls."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from talkingface.contract.arrays import Float32Array, Float64Array
from talkingface.contract.controls import EMOTIONS, Controls
from talkingface.motion_gen.windows import FRAME_SECONDS

# 1 / s of a critically damped spring, by eye: after 0.6 s it has covered
# 1 - (1 + 6) exp(-6) = 0.983 of the way.
EASE_RATE = 10.0


def spring(
    position: Float64Array,
    velocity: Float64Array,
    target: Float64Array,
    rate: float | Float64Array,
) -> tuple[Float64Array, Float64Array]:
    """Advance a critically damped spring by one frame, by its exact solution.

    :param position: of any shape
    :param velocity: units of `position` per second, of the same shape
    :param target: where the spring rests, of the same shape
    :param rate: 1 / s; one, or one for each element
    :return: position and velocity one frame later
    """
    decay = np.exp(-rate * FRAME_SECONDS)
    offset = position - target
    change = (velocity + rate * offset) * FRAME_SECONDS
    return target + (offset + change) * decay, (velocity - rate * change) * decay


# Columns of the eased vector.
_DISTANCE, _POSE, _HEAD_SCALE, _MOUTH_SCALE, _EXPRESSIVITY = 0, slice(1, 4), 4, 5, 6
_EMOTION = slice(7, 7 + len(EMOTIONS))


@dataclass(frozen=True)
class EasedControls:
    """Continuous controls of T frames."""

    distance: Float32Array  # (T,) ratio
    pose_offset: Float32Array  # (T, 3) pitch, yaw, roll in degrees
    head_scale: Float32Array  # (T,) factor on head motion
    mouth_scale: Float32Array  # (T,) factor on articulation
    expressivity: Float32Array  # (T,) factor on expression
    emotion: Float32Array  # (T, 7) weights times strength


class ControlEasing:
    """Moves the continuous controls to their targets without a jump in value or velocity."""

    def __init__(self, controls: Controls) -> None:
        self._controls = controls  # of the frame before
        self.value = self._goal = self._target(controls)
        self.velocity = np.zeros_like(self.value)

    @staticmethod
    def _target(controls: Controls) -> Float64Array:
        parts: list[ArrayLike] = [
            [math.log(controls.head_distance)],
            controls.pose_offset,
            [controls.head_motion_scale, controls.mouth_scale, controls.expressivity],
            controls.emotion_vector(),
        ]
        return np.concatenate(parts).astype(np.float64)

    def step(self, controls: Sequence[Controls]) -> EasedControls:
        """Advance by one frame for each entry.

        :param controls: the targets of each frame
        """
        values = []
        for entry in controls:
            if entry is not self._controls:
                self._controls, self._goal = entry, self._target(entry)
            self.value, self.velocity = spring(self.value, self.velocity, self._goal, EASE_RATE)
            values.append(self.value)
        rows = np.array(values, np.float32)
        return EasedControls(
            distance=np.exp(rows[:, _DISTANCE]),
            pose_offset=rows[:, _POSE],
            head_scale=np.maximum(rows[:, _HEAD_SCALE], 0),
            mouth_scale=np.maximum(rows[:, _MOUTH_SCALE], 0),
            expressivity=np.maximum(rows[:, _EXPRESSIVITY], 0),
            emotion=rows[:, _EMOTION].clip(0, 1),
        )
