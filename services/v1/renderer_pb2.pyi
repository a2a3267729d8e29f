from google.protobuf import empty_pb2 as _empty_pb2
from talkingface.v1 import media_pb2 as _media_pb2
from talkingface.v1 import motion_gen_pb2 as _motion_gen_pb2
from talkingface.v1 import stage_pb2 as _stage_pb2
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class PreparePortraitRequest(_message.Message):
    __slots__ = ("data",)
    DATA_FIELD_NUMBER: _ClassVar[int]
    data: bytes
    def __init__(self, data: _Optional[bytes] = ...) -> None: ...

class PreparePortraitResponse(_message.Message):
    __slots__ = ("portrait",)
    PORTRAIT_FIELD_NUMBER: _ClassVar[int]
    portrait: Portrait
    def __init__(self, portrait: _Optional[_Union[Portrait, _Mapping]] = ...) -> None: ...

class Portrait(_message.Message):
    __slots__ = ("handle", "width", "height", "face", "yaw", "completed_share")
    HANDLE_FIELD_NUMBER: _ClassVar[int]
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    FACE_FIELD_NUMBER: _ClassVar[int]
    YAW_FIELD_NUMBER: _ClassVar[int]
    COMPLETED_SHARE_FIELD_NUMBER: _ClassVar[int]
    handle: str
    width: int
    height: int
    face: Box
    yaw: float
    completed_share: float
    def __init__(self, handle: _Optional[str] = ..., width: _Optional[int] = ..., height: _Optional[int] = ..., face: _Optional[_Union[Box, _Mapping]] = ..., yaw: _Optional[float] = ..., completed_share: _Optional[float] = ...) -> None: ...

class Box(_message.Message):
    __slots__ = ("left", "top", "width", "height")
    LEFT_FIELD_NUMBER: _ClassVar[int]
    TOP_FIELD_NUMBER: _ClassVar[int]
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    left: float
    top: float
    width: float
    height: float
    def __init__(self, left: _Optional[float] = ..., top: _Optional[float] = ..., width: _Optional[float] = ..., height: _Optional[float] = ...) -> None: ...

class RenderRequest(_message.Message):
    __slots__ = ("config", "motion", "end", "dropped_motion", "level")
    CONFIG_FIELD_NUMBER: _ClassVar[int]
    MOTION_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    DROPPED_MOTION_FIELD_NUMBER: _ClassVar[int]
    LEVEL_FIELD_NUMBER: _ClassVar[int]
    config: RenderConfig
    motion: _motion_gen_pb2.MotionChunk
    end: _empty_pb2.Empty
    dropped_motion: _motion_gen_pb2.MotionChunk
    level: int
    def __init__(self, config: _Optional[_Union[RenderConfig, _Mapping]] = ..., motion: _Optional[_Union[_motion_gen_pb2.MotionChunk, _Mapping]] = ..., end: _Optional[_Union[_empty_pb2.Empty, _Mapping]] = ..., dropped_motion: _Optional[_Union[_motion_gen_pb2.MotionChunk, _Mapping]] = ..., level: _Optional[int] = ...) -> None: ...

class RenderConfig(_message.Message):
    __slots__ = ("session_id", "portrait_handle", "codec", "quality", "keyframe_interval", "size", "frame_rate", "framing", "checkpoints", "resume", "first_frame", "start_frame", "background")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    PORTRAIT_HANDLE_FIELD_NUMBER: _ClassVar[int]
    CODEC_FIELD_NUMBER: _ClassVar[int]
    QUALITY_FIELD_NUMBER: _ClassVar[int]
    KEYFRAME_INTERVAL_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    FRAME_RATE_FIELD_NUMBER: _ClassVar[int]
    FRAMING_FIELD_NUMBER: _ClassVar[int]
    CHECKPOINTS_FIELD_NUMBER: _ClassVar[int]
    RESUME_FIELD_NUMBER: _ClassVar[int]
    FIRST_FRAME_FIELD_NUMBER: _ClassVar[int]
    START_FRAME_FIELD_NUMBER: _ClassVar[int]
    BACKGROUND_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    portrait_handle: str
    codec: _media_pb2.VideoCodec
    quality: int
    keyframe_interval: int
    size: int
    frame_rate: int
    framing: _media_pb2.Framing
    checkpoints: bool
    resume: _stage_pb2.Checkpoint
    first_frame: int
    start_frame: int
    background: _media_pb2.Background
    def __init__(self, session_id: _Optional[str] = ..., portrait_handle: _Optional[str] = ..., codec: _Optional[_Union[_media_pb2.VideoCodec, str]] = ..., quality: _Optional[int] = ..., keyframe_interval: _Optional[int] = ..., size: _Optional[int] = ..., frame_rate: _Optional[int] = ..., framing: _Optional[_Union[_media_pb2.Framing, str]] = ..., checkpoints: _Optional[bool] = ..., resume: _Optional[_Union[_stage_pb2.Checkpoint, _Mapping]] = ..., first_frame: _Optional[int] = ..., start_frame: _Optional[int] = ..., background: _Optional[_Union[_media_pb2.Background, _Mapping]] = ...) -> None: ...

class RenderResponse(_message.Message):
    __slots__ = ("started", "frame", "checkpoint")
    STARTED_FIELD_NUMBER: _ClassVar[int]
    FRAME_FIELD_NUMBER: _ClassVar[int]
    CHECKPOINT_FIELD_NUMBER: _ClassVar[int]
    started: _stage_pb2.StageInfo
    frame: _media_pb2.EncodedFrame
    checkpoint: _stage_pb2.Checkpoint
    def __init__(self, started: _Optional[_Union[_stage_pb2.StageInfo, _Mapping]] = ..., frame: _Optional[_Union[_media_pb2.EncodedFrame, _Mapping]] = ..., checkpoint: _Optional[_Union[_stage_pb2.Checkpoint, _Mapping]] = ...) -> None: ...
