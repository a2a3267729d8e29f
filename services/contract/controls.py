"""The controls of a session: ranges, defaults, and changes over time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from google.protobuf.duration_pb2 import Duration

from talkingface.contract.arrays import Float32Array
from talkingface.contract.errors import ServiceError, invalid_field
from talkingface.contract.rates import MOTION_FPS
from talkingface.v1 import controls_pb2

SEED_LIMIT = 2**63  # seeds are below it

EMOTIONS = ("neutral", "happiness", "sadness", "anger", "fear", "disgust", "surprise")

# Ranges of the controls, both ends included, as in protos/talkingface/v1/controls.proto, which
# states the units.
CONTROL_RANGES: Mapping[str, tuple[float, float]] = {
    "gaze_direction.pitch": (-20, 20),
    "gaze_direction.yaw": (-25, 25),
    "distance_ratio": (0.7, 1.6),
    "head_pose.pitch": (-20, 20),
    "head_pose.yaw": (-20, 20),
    "head_pose.roll": (-20, 20),
    "head_motion_scale": (0, 2),
    "emotion.happiness": (0, 1),
    "emotion.sadness": (0, 1),
    "emotion.anger": (0, 1),
    "emotion.fear": (0, 1),
    "emotion.disgust": (0, 1),
    "emotion.surprise": (0, 1),
    "emotion.strength": (0, 1),
    "blink_rate": (0, 60),
    "mouth_scale": (0, 1.5),
    "audio_guidance": (0, 3),
    "expressivity": (0, 2),
}


def _within(value: float, low: float, high: float) -> bool:
    """Return whether a 32-bit float lies between bounds rounded to 32 bits; False for NaN."""
    return bool(np.float32(low) <= value <= np.float32(high))


def check_controls(controls: controls_pb2.Controls, path: str) -> None:
    """Check every control that is present against its range.

    :param path: path of `controls` within its message, such as "config.controls".
    :raises ServiceError: FIELD_INVALID naming every control that is out of range.
    """
    violations = {}
    for name, (low, high) in CONTROL_RANGES.items():
        *parents, leaf = name.split(".")
        message: Any = controls
        for parent in parents:
            if not message.HasField(parent):
                break
            message = getattr(message, parent)
        else:
            descriptor = message.DESCRIPTOR.fields_by_name[leaf]
            if descriptor.has_presence and not message.HasField(leaf):
                continue
            value = getattr(message, leaf)
            if not _within(value, low, high):
                violations[f"{path}.{name}"] = f"{value:g} is outside [{low:g}, {high:g}]"
    if violations:
        text = "; ".join(f"{field}: {problem}" for field, problem in violations.items())
        raise ServiceError("FIELD_INVALID", text, field_violations=violations)


class ControlError(ValueError):
    """A control is out of its range; `field` is its name."""

    def __init__(self, field_name: str, message: str) -> None:
        super().__init__(f"{field_name}: {message}")
        self.field = field_name


# Names in the proto of fields of `Controls` that differ, or whose range a field shares.
_RANGE_OF = {
    "gaze_pitch": "gaze_direction.pitch",
    "gaze_yaw": "gaze_direction.yaw",
    "head_distance": "distance_ratio",
    "pose_pitch": "head_pose.pitch",
    "pose_yaw": "head_pose.yaw",
    "pose_roll": "head_pose.roll",
    "emotion.neutral": "emotion.happiness",  # all emotions have the same range
    "emotion_strength": "emotion.strength",
    "behaviour_guidance": "audio_guidance",
    "emotion_guidance": "audio_guidance",
}


def _check(field_name: str, value: float) -> None:
    low, high = CONTROL_RANGES[_RANGE_OF.get(field_name, field_name)]
    if not _within(value, low, high):
        raise ControlError(field_name, f"{value} is outside {low:g}..{high:g}")


@dataclass(frozen=True)
class Controls:
    """The controls of one motion frame. Raises `ControlError` for a value out of range.

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
    | expressivity | factor on the expression of face and head beside speech, 0 = none | 1 |
    | audio_guidance | classifier-free guidance: extra weight of the audio | 0 |
    | behaviour_guidance | likewise of planned blinks and gaze | 0 |
    | emotion_guidance | likewise of the emotion | 0.5 |
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
            _check(f"emotion.{name}", weight)
        _check("emotion_strength", self.emotion_strength)
        if self.blink_rate is not None:
            _check("blink_rate", self.blink_rate)
        _check("mouth_scale", self.mouth_scale)
        _check("expressivity", self.expressivity)
        for name in ("audio_guidance", "behaviour_guidance", "emotion_guidance"):
            _check(name, getattr(self, name))

    def emotion_vector(self) -> Float32Array:
        """Return the weights times strength, (7,), in the order of `EMOTIONS`; the sum is <= 1."""
        weights = np.array([self.emotion.get(name, 0.0) for name in EMOTIONS], np.float32)
        return weights * np.float32(self.emotion_strength / max(1.0, float(weights.sum())))


_MAX_SECONDS = 24 * 3600  # no session is longer


def frame_of(time: Duration, path: str) -> int:
    """Return the index of the first motion frame that is shown at `time` or later.

    :param path: path of `time` within its message
    :raises ServiceError: FIELD_INVALID for a time before the session or beyond a day.
    """
    nanoseconds = time.seconds * 10**9 + time.nanos
    if not 0 <= nanoseconds <= _MAX_SECONDS * 10**9:
        raise invalid_field(path, f"{nanoseconds / 1e9:g} s is outside [0, {_MAX_SECONDS}]")
    return -(-nanoseconds * MOTION_FPS // 10**9)


def overlay(
    controls: controls_pb2.Controls, update: controls_pb2.Controls
) -> controls_pb2.Controls:
    """Return `controls` with the fields of `update`; messages are replaced as a whole."""
    result = controls_pb2.Controls()
    result.CopyFrom(controls)
    for changed, _ in update.ListFields():
        result.ClearField(changed.name)
    result.MergeFrom(update)
    return result


def changes_of(message: controls_pb2.Controls) -> dict[str, Any]:
    """Return the fields of `Controls` that a checked message sets.

    The fields that the message leaves absent are missing; an emotion is replaced as a whole.
    """
    changes: dict[str, Any] = {}
    match message.WhichOneof("gaze"):
        case "gaze_direction":
            changes["gaze"] = (message.gaze_direction.pitch, message.gaze_direction.yaw)
        case "natural_gaze":
            changes["gaze"] = None
    if message.HasField("head_pose"):
        pose = message.head_pose
        changes["pose_offset"] = (pose.pitch, pose.yaw, pose.roll)
    if message.HasField("emotion"):
        emotion = message.emotion
        names = (name for name in EMOTIONS if name != "neutral")
        changes["emotion"] = {name: getattr(emotion, name) for name in names}
        changes["emotion_strength"] = emotion.strength if emotion.HasField("strength") else 1.0
    if message.HasField("distance_ratio"):
        changes["head_distance"] = message.distance_ratio
    if message.HasField("head_motion_scale"):
        changes["head_motion_scale"] = message.head_motion_scale
    if message.HasField("blink_rate"):
        changes["blink_rate"] = message.blink_rate
    if message.HasField("mouth_scale"):
        changes["mouth_scale"] = message.mouth_scale
    if message.HasField("audio_guidance"):
        changes["audio_guidance"] = message.audio_guidance
    if message.HasField("expressivity"):
        changes["expressivity"] = message.expressivity
    return changes


class ControlTrack:
    """The controls of every frame of a stream, from updates that arrive in any order."""

    def __init__(self, initial: Controls) -> None:
        self._current = initial
        self._later: dict[int, dict[str, Any]] = {}

    def update(self, frame: int, changes: Mapping[str, Any]) -> None:
        """Add changes that take effect at a frame; of two at the same frame the newer one wins.

        :param frame: index of the first frame with the changes; `at` must not have been called for
            a later frame.
        :param changes: values of fields of `Controls`.
        """
        self._later[frame] = {**self._later.get(frame, {}), **changes}

    def at(self, frame: int) -> Controls:
        """Return the controls of a frame; successive calls must not go back."""
        for begin in sorted(begin for begin in self._later if begin <= frame):
            self._current = replace(self._current, **self._later.pop(begin))
        return self._current

    def state(self) -> dict[str, Any]:
        """Return the whole state in types that JSON can represent."""
        return {"current": vars(self._current), "later": list(self._later.items())}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Continue from what `state` returned.

        :raises KeyError, TypeError or ValueError: the state is damaged.
        """
        self._current = Controls(**_with_tuples(state["current"]))
        self._later = {int(frame): _with_tuples(changes) for frame, changes in state["later"]}


def _with_tuples(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Convert lists back to tuples, which JSON does not have."""
    return {
        name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()
    }
