from google.protobuf import empty_pb2 as _empty_pb2
from talkingface.v1 import audio_features_pb2 as _audio_features_pb2
from talkingface.v1 import controls_pb2 as _controls_pb2
from talkingface.v1 import motion_pb2 as _motion_pb2
from talkingface.v1 import stage_pb2 as _stage_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class GenerateRequest(_message.Message):
    __slots__ = ("config", "features", "control", "end")
    CONFIG_FIELD_NUMBER: _ClassVar[int]
    FEATURES_FIELD_NUMBER: _ClassVar[int]
    CONTROL_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    config: GenerateConfig
    features: _audio_features_pb2.AudioFeatures
    control: _controls_pb2.ControlUpdate
    end: _empty_pb2.Empty
    def __init__(self, config: _Optional[_Union[GenerateConfig, _Mapping]] = ..., features: _Optional[_Union[_audio_features_pb2.AudioFeatures, _Mapping]] = ..., control: _Optional[_Union[_controls_pb2.ControlUpdate, _Mapping]] = ..., end: _Optional[_Union[_empty_pb2.Empty, _Mapping]] = ...) -> None: ...

class GenerateConfig(_message.Message):
    __slots__ = ("session_id", "seed", "controls", "checkpoints", "resume", "start_frame")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    CONTROLS_FIELD_NUMBER: _ClassVar[int]
    CHECKPOINTS_FIELD_NUMBER: _ClassVar[int]
    RESUME_FIELD_NUMBER: _ClassVar[int]
    START_FRAME_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    seed: int
    controls: _controls_pb2.Controls
    checkpoints: bool
    resume: _stage_pb2.Checkpoint
    start_frame: int
    def __init__(self, session_id: _Optional[str] = ..., seed: _Optional[int] = ..., controls: _Optional[_Union[_controls_pb2.Controls, _Mapping]] = ..., checkpoints: _Optional[bool] = ..., resume: _Optional[_Union[_stage_pb2.Checkpoint, _Mapping]] = ..., start_frame: _Optional[int] = ...) -> None: ...

class GenerateResponse(_message.Message):
    __slots__ = ("started", "motion", "checkpoint")
    STARTED_FIELD_NUMBER: _ClassVar[int]
    MOTION_FIELD_NUMBER: _ClassVar[int]
    CHECKPOINT_FIELD_NUMBER: _ClassVar[int]
    started: _stage_pb2.StageInfo
    motion: MotionChunk
    checkpoint: _stage_pb2.Checkpoint
    def __init__(self, started: _Optional[_Union[_stage_pb2.StageInfo, _Mapping]] = ..., motion: _Optional[_Union[MotionChunk, _Mapping]] = ..., checkpoint: _Optional[_Union[_stage_pb2.Checkpoint, _Mapping]] = ...) -> None: ...

class MotionChunk(_message.Message):
    __slots__ = ("frames",)
    FRAMES_FIELD_NUMBER: _ClassVar[int]
    frames: _containers.RepeatedCompositeFieldContainer[_motion_pb2.MotionFrame]
    def __init__(self, frames: _Optional[_Iterable[_Union[_motion_pb2.MotionFrame, _Mapping]]] = ...) -> None: ...
