import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from talkingface.v1 import controls_pb2 as _controls_pb2
from talkingface.v1 import motion_pb2 as _motion_pb2
from talkingface.v1 import stage_pb2 as _stage_pb2
from talkingface.v1 import talking_face_pb2 as _talking_face_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class SessionState(_message.Message):
    __slots__ = ("version", "issued", "session_id", "config", "audio_features", "motion_gen", "renderer", "controls", "messages", "frames", "position", "speaking", "vad_run_rows", "controls_in_effect", "later_controls", "last_motion", "render_level")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    ISSUED_FIELD_NUMBER: _ClassVar[int]
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    CONFIG_FIELD_NUMBER: _ClassVar[int]
    AUDIO_FEATURES_FIELD_NUMBER: _ClassVar[int]
    MOTION_GEN_FIELD_NUMBER: _ClassVar[int]
    RENDERER_FIELD_NUMBER: _ClassVar[int]
    CONTROLS_FIELD_NUMBER: _ClassVar[int]
    MESSAGES_FIELD_NUMBER: _ClassVar[int]
    FRAMES_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    SPEAKING_FIELD_NUMBER: _ClassVar[int]
    VAD_RUN_ROWS_FIELD_NUMBER: _ClassVar[int]
    CONTROLS_IN_EFFECT_FIELD_NUMBER: _ClassVar[int]
    LATER_CONTROLS_FIELD_NUMBER: _ClassVar[int]
    LAST_MOTION_FIELD_NUMBER: _ClassVar[int]
    RENDER_LEVEL_FIELD_NUMBER: _ClassVar[int]
    version: str
    issued: _timestamp_pb2.Timestamp
    session_id: str
    config: _talking_face_pb2.AnimateConfig
    audio_features: StageState
    motion_gen: StageState
    renderer: StageState
    controls: _containers.RepeatedCompositeFieldContainer[_controls_pb2.ControlUpdate]
    messages: int
    frames: int
    position: _talking_face_pb2.StreamPosition
    speaking: bool
    vad_run_rows: int
    controls_in_effect: _controls_pb2.Controls
    later_controls: _containers.RepeatedCompositeFieldContainer[_controls_pb2.ControlUpdate]
    last_motion: _motion_pb2.MotionFrame
    render_level: int
    def __init__(self, version: _Optional[str] = ..., issued: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., session_id: _Optional[str] = ..., config: _Optional[_Union[_talking_face_pb2.AnimateConfig, _Mapping]] = ..., audio_features: _Optional[_Union[StageState, _Mapping]] = ..., motion_gen: _Optional[_Union[StageState, _Mapping]] = ..., renderer: _Optional[_Union[StageState, _Mapping]] = ..., controls: _Optional[_Iterable[_Union[_controls_pb2.ControlUpdate, _Mapping]]] = ..., messages: _Optional[int] = ..., frames: _Optional[int] = ..., position: _Optional[_Union[_talking_face_pb2.StreamPosition, _Mapping]] = ..., speaking: _Optional[bool] = ..., vad_run_rows: _Optional[int] = ..., controls_in_effect: _Optional[_Union[_controls_pb2.Controls, _Mapping]] = ..., later_controls: _Optional[_Iterable[_Union[_controls_pb2.ControlUpdate, _Mapping]]] = ..., last_motion: _Optional[_Union[_motion_pb2.MotionFrame, _Mapping]] = ..., render_level: _Optional[int] = ...) -> None: ...

class StageState(_message.Message):
    __slots__ = ("checkpoint", "consumed", "produced")
    CHECKPOINT_FIELD_NUMBER: _ClassVar[int]
    CONSUMED_FIELD_NUMBER: _ClassVar[int]
    PRODUCED_FIELD_NUMBER: _ClassVar[int]
    checkpoint: _stage_pb2.Checkpoint
    consumed: int
    produced: int
    def __init__(self, checkpoint: _Optional[_Union[_stage_pb2.Checkpoint, _Mapping]] = ..., consumed: _Optional[int] = ..., produced: _Optional[int] = ...) -> None: ...
