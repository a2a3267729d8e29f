from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class GetStatusRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetStatusResponse(_message.Message):
    __slots__ = ("info", "slots_total", "slots_in_use", "serving", "draining")
    INFO_FIELD_NUMBER: _ClassVar[int]
    SLOTS_TOTAL_FIELD_NUMBER: _ClassVar[int]
    SLOTS_IN_USE_FIELD_NUMBER: _ClassVar[int]
    SERVING_FIELD_NUMBER: _ClassVar[int]
    DRAINING_FIELD_NUMBER: _ClassVar[int]
    info: StageInfo
    slots_total: int
    slots_in_use: int
    serving: bool
    draining: bool
    def __init__(self, info: _Optional[_Union[StageInfo, _Mapping]] = ..., slots_total: _Optional[int] = ..., slots_in_use: _Optional[int] = ..., serving: _Optional[bool] = ..., draining: _Optional[bool] = ...) -> None: ...

class MeasureCapacityRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class MeasureCapacityResponse(_message.Message):
    __slots__ = ("streams",)
    STREAMS_FIELD_NUMBER: _ClassVar[int]
    streams: float
    def __init__(self, streams: _Optional[float] = ...) -> None: ...

class StageInfo(_message.Message):
    __slots__ = ("stage", "version", "model", "look_ahead_ms", "replica")
    STAGE_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    LOOK_AHEAD_MS_FIELD_NUMBER: _ClassVar[int]
    REPLICA_FIELD_NUMBER: _ClassVar[int]
    stage: str
    version: str
    model: str
    look_ahead_ms: int
    replica: str
    def __init__(self, stage: _Optional[str] = ..., version: _Optional[str] = ..., model: _Optional[str] = ..., look_ahead_ms: _Optional[int] = ..., replica: _Optional[str] = ...) -> None: ...

class Checkpoint(_message.Message):
    __slots__ = ("messages", "version", "model", "state")
    MESSAGES_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    messages: int
    version: str
    model: str
    state: bytes
    def __init__(self, messages: _Optional[int] = ..., version: _Optional[str] = ..., model: _Optional[str] = ..., state: _Optional[bytes] = ...) -> None: ...
