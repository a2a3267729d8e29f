from google.protobuf import empty_pb2 as _empty_pb2
from talkingface.v1 import stage_pb2 as _stage_pb2
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ExtractRequest(_message.Message):
    __slots__ = ("config", "audio", "end")
    CONFIG_FIELD_NUMBER: _ClassVar[int]
    AUDIO_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    config: ExtractConfig
    audio: bytes
    end: _empty_pb2.Empty
    def __init__(self, config: _Optional[_Union[ExtractConfig, _Mapping]] = ..., audio: _Optional[bytes] = ..., end: _Optional[_Union[_empty_pb2.Empty, _Mapping]] = ...) -> None: ...

class ExtractConfig(_message.Message):
    __slots__ = ("session_id", "checkpoints", "resume", "start_frame")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    CHECKPOINTS_FIELD_NUMBER: _ClassVar[int]
    RESUME_FIELD_NUMBER: _ClassVar[int]
    START_FRAME_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    checkpoints: bool
    resume: _stage_pb2.Checkpoint
    start_frame: int
    def __init__(self, session_id: _Optional[str] = ..., checkpoints: _Optional[bool] = ..., resume: _Optional[_Union[_stage_pb2.Checkpoint, _Mapping]] = ..., start_frame: _Optional[int] = ...) -> None: ...

class ExtractResponse(_message.Message):
    __slots__ = ("started", "features", "checkpoint")
    STARTED_FIELD_NUMBER: _ClassVar[int]
    FEATURES_FIELD_NUMBER: _ClassVar[int]
    CHECKPOINT_FIELD_NUMBER: _ClassVar[int]
    started: _stage_pb2.StageInfo
    features: AudioFeatures
    checkpoint: _stage_pb2.Checkpoint
    def __init__(self, started: _Optional[_Union[_stage_pb2.StageInfo, _Mapping]] = ..., features: _Optional[_Union[AudioFeatures, _Mapping]] = ..., checkpoint: _Optional[_Union[_stage_pb2.Checkpoint, _Mapping]] = ...) -> None: ...

class AudioFeatures(_message.Message):
    __slots__ = ("first_row", "rows", "embedding", "prosody")
    FIRST_ROW_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    EMBEDDING_FIELD_NUMBER: _ClassVar[int]
    PROSODY_FIELD_NUMBER: _ClassVar[int]
    first_row: int
    rows: int
    embedding: bytes
    prosody: bytes
    def __init__(self, first_row: _Optional[int] = ..., rows: _Optional[int] = ..., embedding: _Optional[bytes] = ..., prosody: _Optional[bytes] = ...) -> None: ...
