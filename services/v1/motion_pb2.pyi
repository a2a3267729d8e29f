from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class MotionFrame(_message.Message):
    __slots__ = ("index", "coefficients", "rotation", "translation", "distance_ratio", "tongue_tip", "tongue_back")
    INDEX_FIELD_NUMBER: _ClassVar[int]
    COEFFICIENTS_FIELD_NUMBER: _ClassVar[int]
    ROTATION_FIELD_NUMBER: _ClassVar[int]
    TRANSLATION_FIELD_NUMBER: _ClassVar[int]
    DISTANCE_RATIO_FIELD_NUMBER: _ClassVar[int]
    TONGUE_TIP_FIELD_NUMBER: _ClassVar[int]
    TONGUE_BACK_FIELD_NUMBER: _ClassVar[int]
    index: int
    coefficients: _containers.RepeatedScalarFieldContainer[float]
    rotation: HeadRotation
    translation: HeadTranslation
    distance_ratio: float
    tongue_tip: float
    tongue_back: float
    def __init__(self, index: _Optional[int] = ..., coefficients: _Optional[_Iterable[float]] = ..., rotation: _Optional[_Union[HeadRotation, _Mapping]] = ..., translation: _Optional[_Union[HeadTranslation, _Mapping]] = ..., distance_ratio: _Optional[float] = ..., tongue_tip: _Optional[float] = ..., tongue_back: _Optional[float] = ...) -> None: ...

class HeadRotation(_message.Message):
    __slots__ = ("pitch", "yaw", "roll")
    PITCH_FIELD_NUMBER: _ClassVar[int]
    YAW_FIELD_NUMBER: _ClassVar[int]
    ROLL_FIELD_NUMBER: _ClassVar[int]
    pitch: float
    yaw: float
    roll: float
    def __init__(self, pitch: _Optional[float] = ..., yaw: _Optional[float] = ..., roll: _Optional[float] = ...) -> None: ...

class HeadTranslation(_message.Message):
    __slots__ = ("x", "y")
    X_FIELD_NUMBER: _ClassVar[int]
    Y_FIELD_NUMBER: _ClassVar[int]
    x: float
    y: float
    def __init__(self, x: _Optional[float] = ..., y: _Optional[float] = ...) -> None: ...
