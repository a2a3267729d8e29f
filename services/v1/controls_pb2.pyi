import datetime

from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import empty_pb2 as _empty_pb2
from talkingface.v1 import motion_pb2 as _motion_pb2
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Controls(_message.Message):
    __slots__ = ("gaze_direction", "natural_gaze", "distance_ratio", "head_pose", "head_motion_scale", "emotion", "blink_rate", "mouth_scale", "audio_guidance", "expressivity")
    GAZE_DIRECTION_FIELD_NUMBER: _ClassVar[int]
    NATURAL_GAZE_FIELD_NUMBER: _ClassVar[int]
    DISTANCE_RATIO_FIELD_NUMBER: _ClassVar[int]
    HEAD_POSE_FIELD_NUMBER: _ClassVar[int]
    HEAD_MOTION_SCALE_FIELD_NUMBER: _ClassVar[int]
    EMOTION_FIELD_NUMBER: _ClassVar[int]
    BLINK_RATE_FIELD_NUMBER: _ClassVar[int]
    MOUTH_SCALE_FIELD_NUMBER: _ClassVar[int]
    AUDIO_GUIDANCE_FIELD_NUMBER: _ClassVar[int]
    EXPRESSIVITY_FIELD_NUMBER: _ClassVar[int]
    gaze_direction: Gaze
    natural_gaze: _empty_pb2.Empty
    distance_ratio: float
    head_pose: _motion_pb2.HeadRotation
    head_motion_scale: float
    emotion: Emotion
    blink_rate: float
    mouth_scale: float
    audio_guidance: float
    expressivity: float
    def __init__(self, gaze_direction: _Optional[_Union[Gaze, _Mapping]] = ..., natural_gaze: _Optional[_Union[_empty_pb2.Empty, _Mapping]] = ..., distance_ratio: _Optional[float] = ..., head_pose: _Optional[_Union[_motion_pb2.HeadRotation, _Mapping]] = ..., head_motion_scale: _Optional[float] = ..., emotion: _Optional[_Union[Emotion, _Mapping]] = ..., blink_rate: _Optional[float] = ..., mouth_scale: _Optional[float] = ..., audio_guidance: _Optional[float] = ..., expressivity: _Optional[float] = ...) -> None: ...

class Gaze(_message.Message):
    __slots__ = ("pitch", "yaw")
    PITCH_FIELD_NUMBER: _ClassVar[int]
    YAW_FIELD_NUMBER: _ClassVar[int]
    pitch: float
    yaw: float
    def __init__(self, pitch: _Optional[float] = ..., yaw: _Optional[float] = ...) -> None: ...

class Emotion(_message.Message):
    __slots__ = ("happiness", "sadness", "anger", "fear", "disgust", "surprise", "strength")
    HAPPINESS_FIELD_NUMBER: _ClassVar[int]
    SADNESS_FIELD_NUMBER: _ClassVar[int]
    ANGER_FIELD_NUMBER: _ClassVar[int]
    FEAR_FIELD_NUMBER: _ClassVar[int]
    DISGUST_FIELD_NUMBER: _ClassVar[int]
    SURPRISE_FIELD_NUMBER: _ClassVar[int]
    STRENGTH_FIELD_NUMBER: _ClassVar[int]
    happiness: float
    sadness: float
    anger: float
    fear: float
    disgust: float
    surprise: float
    strength: float
    def __init__(self, happiness: _Optional[float] = ..., sadness: _Optional[float] = ..., anger: _Optional[float] = ..., fear: _Optional[float] = ..., disgust: _Optional[float] = ..., surprise: _Optional[float] = ..., strength: _Optional[float] = ...) -> None: ...

class ControlUpdate(_message.Message):
    __slots__ = ("time", "controls")
    TIME_FIELD_NUMBER: _ClassVar[int]
    CONTROLS_FIELD_NUMBER: _ClassVar[int]
    time: _duration_pb2.Duration
    controls: Controls
    def __init__(self, time: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., controls: _Optional[_Union[Controls, _Mapping]] = ...) -> None: ...
