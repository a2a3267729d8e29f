"""The controls of a running performance: ranges, and how a change eases in."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np

from talkingface.contract.motion import MOTION_FPS, Array

EMOTIONS = ("neutral", "happiness", "sadness", "anger", "fear", "disgust", "surprise")

# Inclusive ranges; the unit is in the name or in `Controls`.
RANGES: Mapping[str, tuple[float, float]] = MappingProxyType(
    {
        "gaze_pitch": (-20.0, 20.0),
        "gaze_yaw": (-30.0, 30.0),
        "head_distance": (0.5, 2.0),
        "pose_pitch": (-25.0, 25.0),
        "pose_yaw": (-35.0, 35.0),
        "pose_roll": (-25.0, 25.0),
        "head_motion_scale": (0.0, 3.0),
        "emotion_weight": (0.0, 1.0),
        "emotion_strength": (0.0, 1.0),
        "blink_rate": (0.0, 60.0),
        "mouth_scale": (0.0, 2.0),
        "expressivity": (0.0, 2.0),
        "guidance": (0.0, 4.0),
    }
)

# Critically damped spring: 1 - (1 + wt) exp(-wt) = 0.983 of the way after 0.6 s.
EASE_RATE = 10.0


class ControlError(ValueError):
    """A control out of its range. `field` names it."""

    def __init__(self, field_name: str, message: str) -> None:
        super().__init__(f"{field_name}: {message}")
        self.field = field_name


def _check(field_name: str, value: float, range_name: str | None = None) -> None:
    low, high = RANGES[range_name or field_name]
    if not (math.isfinite(value) and low <= value <= high):
        raise ControlError(field_name, f"{value} is outside {low:g}..{high:g}")


@dataclass(frozen=True)
class Controls:
    """What the caller asks of the performance. Raises `ControlError` when out of range.

    | field | meaning | default |
    |---|---|---|
    | gaze | pitch, yaw in degrees in the camera's frame; None = natural gaze | None |
    | head_distance | ratio, 1 = as photographed, 2 = twice as far | 1 |
    | pose_offset | head pitch, yaw, roll in degrees added to the motion | 0, 0, 0 |
    | head_motion_scale | factor on the natural head motion | 1 |
    | emotion | weight 0..1 by name (`EMOTIONS`), mixed; empty = neutral | {} |
    | emotion_strength | 0..1, factor on all weights | 1 |
    | blink_rate | blinks a minute; None = natural, 0 = none | None |
    | mouth_scale | factor on the mouth's articulation | 1 |
    | expressivity | factor on what face and head express beside speech, 0 = nothing | 1 |
    | audio_guidance | classifier-free guidance: extra weight of the voice | 0 |
    | behaviour_guidance | of blink and gaze targets | 0 |
    | emotion_guidance | of the emotion | 0.5 |
    """

    gaze: tuple[float, float] | None = None
    head_distance: float = 1.0
    pose_offset: tuple[float, float, float] = (0.0, 0.0, 0.0)
    head_motion_scale: float = 1.0
    emotion: Mapping[str, float] = field(default_factory=dict)
    emotion_strength: float = 1.0
    blink_rate: float | None = None
    mouth_scale: float = 1.0
    expressivity: float = 1.0
    audio_guidance: float = 0.0
    behaviour_guidance: float = 0.0
    emotion_guidance: float = 0.5

    def __post_init__(self) -> None:
        if self.gaze is not None:
            _check("gaze_pitch", self.gaze[0])
            _check("gaze_yaw", self.gaze[1])
        _check("head_distance", self.head_distance)
        for axis, value in zip(("pitch", "yaw", "roll"), self.pose_offset, strict=True):
            _check(f"pose_{axis}", value)
        _check("head_motion_scale", self.head_motion_scale)
        for name, weight in self.emotion.items():
            if name not in EMOTIONS:
                raise ControlError("emotion", f"{name!r} is none of {', '.join(EMOTIONS)}")
            _check(f"emotion.{name}", weight, "emotion_weight")
        _check("emotion_strength", self.emotion_strength)
        if self.blink_rate is not None:
            _check("blink_rate", self.blink_rate)
        _check("mouth_scale", self.mouth_scale)
        _check("expressivity", self.expressivity)
        for name in ("audio_guidance", "behaviour_guidance", "emotion_guidance"):
            _check(name, getattr(self, name), "guidance")

    def emotion_vector(self) -> Array:
        """(7,) weights in the order of `EMOTIONS`, times strength; their sum is at most 1."""
        weights = np.array([self.emotion.get(name, 0.0) for name in EMOTIONS], np.float32)
        return weights * np.float32(self.emotion_strength / max(1.0, float(weights.sum())))


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
