import datetime

from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import empty_pb2 as _empty_pb2
from talkingface.v1 import controls_pb2 as _controls_pb2
from talkingface.v1 import media_pb2 as _media_pb2
from talkingface.v1 import motion_pb2 as _motion_pb2
from talkingface.v1 import renderer_pb2 as _renderer_pb2
from talkingface.v1 import stage_pb2 as _stage_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Pacing(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PACING_UNSPECIFIED: _ClassVar[Pacing]
    PACING_OFFLINE: _ClassVar[Pacing]
    PACING_LIVE: _ClassVar[Pacing]
PACING_UNSPECIFIED: Pacing
PACING_OFFLINE: Pacing
PACING_LIVE: Pacing

class UploadPortraitRequest(_message.Message):
    __slots__ = ("data",)
    DATA_FIELD_NUMBER: _ClassVar[int]
    data: bytes
    def __init__(self, data: _Optional[bytes] = ...) -> None: ...

class UploadPortraitResponse(_message.Message):
    __slots__ = ("portrait",)
    PORTRAIT_FIELD_NUMBER: _ClassVar[int]
    portrait: _renderer_pb2.Portrait
    def __init__(self, portrait: _Optional[_Union[_renderer_pb2.Portrait, _Mapping]] = ...) -> None: ...

class AnimateRequest(_message.Message):
    __slots__ = ("config", "audio", "control", "end_of_audio", "end_of_utterance", "interrupt")
    CONFIG_FIELD_NUMBER: _ClassVar[int]
    AUDIO_FIELD_NUMBER: _ClassVar[int]
    CONTROL_FIELD_NUMBER: _ClassVar[int]
    END_OF_AUDIO_FIELD_NUMBER: _ClassVar[int]
    END_OF_UTTERANCE_FIELD_NUMBER: _ClassVar[int]
    INTERRUPT_FIELD_NUMBER: _ClassVar[int]
    config: AnimateConfig
    audio: bytes
    control: _controls_pb2.ControlUpdate
    end_of_audio: _empty_pb2.Empty
    end_of_utterance: EndOfUtterance
    interrupt: _empty_pb2.Empty
    def __init__(self, config: _Optional[_Union[AnimateConfig, _Mapping]] = ..., audio: _Optional[bytes] = ..., control: _Optional[_Union[_controls_pb2.ControlUpdate, _Mapping]] = ..., end_of_audio: _Optional[_Union[_empty_pb2.Empty, _Mapping]] = ..., end_of_utterance: _Optional[_Union[EndOfUtterance, _Mapping]] = ..., interrupt: _Optional[_Union[_empty_pb2.Empty, _Mapping]] = ...) -> None: ...

class EndOfUtterance(_message.Message):
    __slots__ = ("id",)
    ID_FIELD_NUMBER: _ClassVar[int]
    id: str
    def __init__(self, id: _Optional[str] = ...) -> None: ...

class AnimateConfig(_message.Message):
    __slots__ = ("portrait_handle", "portrait_image", "audio", "output", "quality", "seed", "controls", "size", "frame_rate", "framing", "pacing", "resumable", "resume", "background")
    PORTRAIT_HANDLE_FIELD_NUMBER: _ClassVar[int]
    PORTRAIT_IMAGE_FIELD_NUMBER: _ClassVar[int]
    AUDIO_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_FIELD_NUMBER: _ClassVar[int]
    QUALITY_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    CONTROLS_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    FRAME_RATE_FIELD_NUMBER: _ClassVar[int]
    FRAMING_FIELD_NUMBER: _ClassVar[int]
    PACING_FIELD_NUMBER: _ClassVar[int]
    RESUMABLE_FIELD_NUMBER: _ClassVar[int]
    RESUME_FIELD_NUMBER: _ClassVar[int]
    BACKGROUND_FIELD_NUMBER: _ClassVar[int]
    portrait_handle: str
    portrait_image: bytes
    audio: _media_pb2.AudioFormat
    output: _media_pb2.OutputKind
    quality: int
    seed: int
    controls: _controls_pb2.Controls
    size: int
    frame_rate: int
    framing: _media_pb2.Framing
    pacing: Pacing
    resumable: bool
    resume: Resume
    background: _media_pb2.Background
    def __init__(self, portrait_handle: _Optional[str] = ..., portrait_image: _Optional[bytes] = ..., audio: _Optional[_Union[_media_pb2.AudioFormat, _Mapping]] = ..., output: _Optional[_Union[_media_pb2.OutputKind, str]] = ..., quality: _Optional[int] = ..., seed: _Optional[int] = ..., controls: _Optional[_Union[_controls_pb2.Controls, _Mapping]] = ..., size: _Optional[int] = ..., frame_rate: _Optional[int] = ..., framing: _Optional[_Union[_media_pb2.Framing, str]] = ..., pacing: _Optional[_Union[Pacing, str]] = ..., resumable: _Optional[bool] = ..., resume: _Optional[_Union[Resume, _Mapping]] = ..., background: _Optional[_Union[_media_pb2.Background, _Mapping]] = ...) -> None: ...

class StreamPosition(_message.Message):
    __slots__ = ("messages", "bytes", "utterance_bytes")
    MESSAGES_FIELD_NUMBER: _ClassVar[int]
    BYTES_FIELD_NUMBER: _ClassVar[int]
    UTTERANCE_BYTES_FIELD_NUMBER: _ClassVar[int]
    messages: int
    bytes: int
    utterance_bytes: int
    def __init__(self, messages: _Optional[int] = ..., bytes: _Optional[int] = ..., utterance_bytes: _Optional[int] = ...) -> None: ...

class ResumeToken(_message.Message):
    __slots__ = ("token", "position", "messages")
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    MESSAGES_FIELD_NUMBER: _ClassVar[int]
    token: bytes
    position: StreamPosition
    messages: int
    def __init__(self, token: _Optional[bytes] = ..., position: _Optional[_Union[StreamPosition, _Mapping]] = ..., messages: _Optional[int] = ...) -> None: ...

class Resume(_message.Message):
    __slots__ = ("token", "next_frame", "position", "controls", "frames", "same_build")
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    NEXT_FRAME_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    CONTROLS_FIELD_NUMBER: _ClassVar[int]
    FRAMES_FIELD_NUMBER: _ClassVar[int]
    SAME_BUILD_FIELD_NUMBER: _ClassVar[int]
    token: bytes
    next_frame: int
    position: StreamPosition
    controls: _containers.RepeatedCompositeFieldContainer[_controls_pb2.ControlUpdate]
    frames: int
    same_build: bool
    def __init__(self, token: _Optional[bytes] = ..., next_frame: _Optional[int] = ..., position: _Optional[_Union[StreamPosition, _Mapping]] = ..., controls: _Optional[_Iterable[_Union[_controls_pb2.ControlUpdate, _Mapping]]] = ..., frames: _Optional[int] = ..., same_build: _Optional[bool] = ...) -> None: ...

class AnimateResponse(_message.Message):
    __slots__ = ("started", "media", "motion", "event", "summary", "resume_token")
    STARTED_FIELD_NUMBER: _ClassVar[int]
    MEDIA_FIELD_NUMBER: _ClassVar[int]
    MOTION_FIELD_NUMBER: _ClassVar[int]
    EVENT_FIELD_NUMBER: _ClassVar[int]
    SUMMARY_FIELD_NUMBER: _ClassVar[int]
    RESUME_TOKEN_FIELD_NUMBER: _ClassVar[int]
    started: Started
    media: Media
    motion: Motion
    event: Event
    summary: Summary
    resume_token: ResumeToken
    def __init__(self, started: _Optional[_Union[Started, _Mapping]] = ..., media: _Optional[_Union[Media, _Mapping]] = ..., motion: _Optional[_Union[Motion, _Mapping]] = ..., event: _Optional[_Union[Event, _Mapping]] = ..., summary: _Optional[_Union[Summary, _Mapping]] = ..., resume_token: _Optional[_Union[ResumeToken, _Mapping]] = ...) -> None: ...

class Started(_message.Message):
    __slots__ = ("session_id", "version", "stages", "config", "portrait", "video")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    STAGES_FIELD_NUMBER: _ClassVar[int]
    CONFIG_FIELD_NUMBER: _ClassVar[int]
    PORTRAIT_FIELD_NUMBER: _ClassVar[int]
    VIDEO_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    version: str
    stages: _containers.RepeatedCompositeFieldContainer[_stage_pb2.StageInfo]
    config: AnimateConfig
    portrait: _renderer_pb2.Portrait
    video: _media_pb2.VideoFormat
    def __init__(self, session_id: _Optional[str] = ..., version: _Optional[str] = ..., stages: _Optional[_Iterable[_Union[_stage_pb2.StageInfo, _Mapping]]] = ..., config: _Optional[_Union[AnimateConfig, _Mapping]] = ..., portrait: _Optional[_Union[_renderer_pb2.Portrait, _Mapping]] = ..., video: _Optional[_Union[_media_pb2.VideoFormat, _Mapping]] = ...) -> None: ...

class Media(_message.Message):
    __slots__ = ("first_frame", "frame_count", "presentation_time", "data", "keyframe", "audio", "position")
    FIRST_FRAME_FIELD_NUMBER: _ClassVar[int]
    FRAME_COUNT_FIELD_NUMBER: _ClassVar[int]
    PRESENTATION_TIME_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    KEYFRAME_FIELD_NUMBER: _ClassVar[int]
    AUDIO_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    first_frame: int
    frame_count: int
    presentation_time: _duration_pb2.Duration
    data: bytes
    keyframe: bool
    audio: bytes
    position: StreamPosition
    def __init__(self, first_frame: _Optional[int] = ..., frame_count: _Optional[int] = ..., presentation_time: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., data: _Optional[bytes] = ..., keyframe: _Optional[bool] = ..., audio: _Optional[bytes] = ..., position: _Optional[_Union[StreamPosition, _Mapping]] = ...) -> None: ...

class Motion(_message.Message):
    __slots__ = ("frames", "position")
    FRAMES_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    frames: _containers.RepeatedCompositeFieldContainer[_motion_pb2.MotionFrame]
    position: StreamPosition
    def __init__(self, frames: _Optional[_Iterable[_Union[_motion_pb2.MotionFrame, _Mapping]]] = ..., position: _Optional[_Union[StreamPosition, _Mapping]] = ...) -> None: ...

class Event(_message.Message):
    __slots__ = ("kind", "time", "deadline", "stage", "stall", "utterance_id", "played", "interrupted", "frames", "restarted", "level", "level_reason")
    class Kind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        KIND_UNSPECIFIED: _ClassVar[Event.Kind]
        KIND_SPEECH_STARTED: _ClassVar[Event.Kind]
        KIND_SPEECH_ENDED: _ClassVar[Event.Kind]
        KIND_DRAINING: _ClassVar[Event.Kind]
        KIND_RECOVERED: _ClassVar[Event.Kind]
        KIND_PLAYBACK_FINISHED: _ClassVar[Event.Kind]
        KIND_FRAMES_DROPPED: _ClassVar[Event.Kind]
        KIND_LEVEL_CHANGED: _ClassVar[Event.Kind]
    KIND_UNSPECIFIED: Event.Kind
    KIND_SPEECH_STARTED: Event.Kind
    KIND_SPEECH_ENDED: Event.Kind
    KIND_DRAINING: Event.Kind
    KIND_RECOVERED: Event.Kind
    KIND_PLAYBACK_FINISHED: Event.Kind
    KIND_FRAMES_DROPPED: Event.Kind
    KIND_LEVEL_CHANGED: Event.Kind
    class LevelReason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        LEVEL_REASON_UNSPECIFIED: _ClassVar[Event.LevelReason]
        LEVEL_REASON_OVERLOAD: _ClassVar[Event.LevelReason]
        LEVEL_REASON_HEADROOM: _ClassVar[Event.LevelReason]
    LEVEL_REASON_UNSPECIFIED: Event.LevelReason
    LEVEL_REASON_OVERLOAD: Event.LevelReason
    LEVEL_REASON_HEADROOM: Event.LevelReason
    KIND_FIELD_NUMBER: _ClassVar[int]
    TIME_FIELD_NUMBER: _ClassVar[int]
    DEADLINE_FIELD_NUMBER: _ClassVar[int]
    STAGE_FIELD_NUMBER: _ClassVar[int]
    STALL_FIELD_NUMBER: _ClassVar[int]
    UTTERANCE_ID_FIELD_NUMBER: _ClassVar[int]
    PLAYED_FIELD_NUMBER: _ClassVar[int]
    INTERRUPTED_FIELD_NUMBER: _ClassVar[int]
    FRAMES_FIELD_NUMBER: _ClassVar[int]
    RESTARTED_FIELD_NUMBER: _ClassVar[int]
    LEVEL_FIELD_NUMBER: _ClassVar[int]
    LEVEL_REASON_FIELD_NUMBER: _ClassVar[int]
    kind: Event.Kind
    time: _duration_pb2.Duration
    deadline: _duration_pb2.Duration
    stage: str
    stall: _duration_pb2.Duration
    utterance_id: str
    played: _duration_pb2.Duration
    interrupted: bool
    frames: int
    restarted: bool
    level: int
    level_reason: Event.LevelReason
    def __init__(self, kind: _Optional[_Union[Event.Kind, str]] = ..., time: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., deadline: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., stage: _Optional[str] = ..., stall: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., utterance_id: _Optional[str] = ..., played: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., interrupted: _Optional[bool] = ..., frames: _Optional[int] = ..., restarted: _Optional[bool] = ..., level: _Optional[int] = ..., level_reason: _Optional[_Union[Event.LevelReason, str]] = ...) -> None: ...

class Summary(_message.Message):
    __slots__ = ("frames", "audio_duration", "first_frame_delay", "elapsed", "dropped_frames")
    FRAMES_FIELD_NUMBER: _ClassVar[int]
    AUDIO_DURATION_FIELD_NUMBER: _ClassVar[int]
    FIRST_FRAME_DELAY_FIELD_NUMBER: _ClassVar[int]
    ELAPSED_FIELD_NUMBER: _ClassVar[int]
    DROPPED_FRAMES_FIELD_NUMBER: _ClassVar[int]
    frames: int
    audio_duration: _duration_pb2.Duration
    first_frame_delay: _duration_pb2.Duration
    elapsed: _duration_pb2.Duration
    dropped_frames: int
    def __init__(self, frames: _Optional[int] = ..., audio_duration: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., first_frame_delay: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., elapsed: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., dropped_frames: _Optional[int] = ...) -> None: ...

class GetCapabilitiesRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetCapabilitiesResponse(_message.Message):
    __slots__ = ("version", "stages", "frame_size", "frame_rate", "outputs", "audio_encodings", "limits", "default_controls", "framings")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    STAGES_FIELD_NUMBER: _ClassVar[int]
    FRAME_SIZE_FIELD_NUMBER: _ClassVar[int]
    FRAME_RATE_FIELD_NUMBER: _ClassVar[int]
    OUTPUTS_FIELD_NUMBER: _ClassVar[int]
    AUDIO_ENCODINGS_FIELD_NUMBER: _ClassVar[int]
    LIMITS_FIELD_NUMBER: _ClassVar[int]
    DEFAULT_CONTROLS_FIELD_NUMBER: _ClassVar[int]
    FRAMINGS_FIELD_NUMBER: _ClassVar[int]
    version: str
    stages: _containers.RepeatedCompositeFieldContainer[_stage_pb2.StageInfo]
    frame_size: int
    frame_rate: int
    outputs: _containers.RepeatedScalarFieldContainer[_media_pb2.OutputKind]
    audio_encodings: _containers.RepeatedScalarFieldContainer[_media_pb2.AudioEncoding]
    limits: Limits
    default_controls: _controls_pb2.Controls
    framings: _containers.RepeatedScalarFieldContainer[_media_pb2.Framing]
    def __init__(self, version: _Optional[str] = ..., stages: _Optional[_Iterable[_Union[_stage_pb2.StageInfo, _Mapping]]] = ..., frame_size: _Optional[int] = ..., frame_rate: _Optional[int] = ..., outputs: _Optional[_Iterable[_Union[_media_pb2.OutputKind, str]]] = ..., audio_encodings: _Optional[_Iterable[_Union[_media_pb2.AudioEncoding, str]]] = ..., limits: _Optional[_Union[Limits, _Mapping]] = ..., default_controls: _Optional[_Union[_controls_pb2.Controls, _Mapping]] = ..., framings: _Optional[_Iterable[_Union[_media_pb2.Framing, str]]] = ...) -> None: ...

class Limits(_message.Message):
    __slots__ = ("max_message_bytes", "max_portrait_bytes", "max_portrait_pixels", "min_face_pixels", "min_audio", "max_audio", "max_sessions", "idle_timeout", "min_frame_size", "max_frame_size", "min_frame_rate", "max_frame_rate", "max_photo_side", "session_time", "live_idle_timeout", "max_sessions_per_caller", "resume_window")
    MAX_MESSAGE_BYTES_FIELD_NUMBER: _ClassVar[int]
    MAX_PORTRAIT_BYTES_FIELD_NUMBER: _ClassVar[int]
    MAX_PORTRAIT_PIXELS_FIELD_NUMBER: _ClassVar[int]
    MIN_FACE_PIXELS_FIELD_NUMBER: _ClassVar[int]
    MIN_AUDIO_FIELD_NUMBER: _ClassVar[int]
    MAX_AUDIO_FIELD_NUMBER: _ClassVar[int]
    MAX_SESSIONS_FIELD_NUMBER: _ClassVar[int]
    IDLE_TIMEOUT_FIELD_NUMBER: _ClassVar[int]
    MIN_FRAME_SIZE_FIELD_NUMBER: _ClassVar[int]
    MAX_FRAME_SIZE_FIELD_NUMBER: _ClassVar[int]
    MIN_FRAME_RATE_FIELD_NUMBER: _ClassVar[int]
    MAX_FRAME_RATE_FIELD_NUMBER: _ClassVar[int]
    MAX_PHOTO_SIDE_FIELD_NUMBER: _ClassVar[int]
    SESSION_TIME_FIELD_NUMBER: _ClassVar[int]
    LIVE_IDLE_TIMEOUT_FIELD_NUMBER: _ClassVar[int]
    MAX_SESSIONS_PER_CALLER_FIELD_NUMBER: _ClassVar[int]
    RESUME_WINDOW_FIELD_NUMBER: _ClassVar[int]
    max_message_bytes: int
    max_portrait_bytes: int
    max_portrait_pixels: int
    min_face_pixels: int
    min_audio: _duration_pb2.Duration
    max_audio: _duration_pb2.Duration
    max_sessions: int
    idle_timeout: _duration_pb2.Duration
    min_frame_size: int
    max_frame_size: int
    min_frame_rate: int
    max_frame_rate: int
    max_photo_side: int
    session_time: _duration_pb2.Duration
    live_idle_timeout: _duration_pb2.Duration
    max_sessions_per_caller: int
    resume_window: _duration_pb2.Duration
    def __init__(self, max_message_bytes: _Optional[int] = ..., max_portrait_bytes: _Optional[int] = ..., max_portrait_pixels: _Optional[int] = ..., min_face_pixels: _Optional[int] = ..., min_audio: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., max_audio: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., max_sessions: _Optional[int] = ..., idle_timeout: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., min_frame_size: _Optional[int] = ..., max_frame_size: _Optional[int] = ..., min_frame_rate: _Optional[int] = ..., max_frame_rate: _Optional[int] = ..., max_photo_side: _Optional[int] = ..., session_time: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., live_idle_timeout: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., max_sessions_per_caller: _Optional[int] = ..., resume_window: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class SelfTestRequest(_message.Message):
    __slots__ = ("portrait_handle", "size", "frame_rate", "framing")
    PORTRAIT_HANDLE_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    FRAME_RATE_FIELD_NUMBER: _ClassVar[int]
    FRAMING_FIELD_NUMBER: _ClassVar[int]
    portrait_handle: str
    size: int
    frame_rate: int
    framing: _media_pb2.Framing
    def __init__(self, portrait_handle: _Optional[str] = ..., size: _Optional[int] = ..., frame_rate: _Optional[int] = ..., framing: _Optional[_Union[_media_pb2.Framing, str]] = ...) -> None: ...

class SelfTestResponse(_message.Message):
    __slots__ = ("timings", "total")
    TIMINGS_FIELD_NUMBER: _ClassVar[int]
    TOTAL_FIELD_NUMBER: _ClassVar[int]
    timings: _containers.RepeatedCompositeFieldContainer[StageTiming]
    total: _duration_pb2.Duration
    def __init__(self, timings: _Optional[_Iterable[_Union[StageTiming, _Mapping]]] = ..., total: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class StageTiming(_message.Message):
    __slots__ = ("stage", "first_result", "total", "results")
    STAGE_FIELD_NUMBER: _ClassVar[int]
    FIRST_RESULT_FIELD_NUMBER: _ClassVar[int]
    TOTAL_FIELD_NUMBER: _ClassVar[int]
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    stage: _stage_pb2.StageInfo
    first_result: _duration_pb2.Duration
    total: _duration_pb2.Duration
    results: int
    def __init__(self, stage: _Optional[_Union[_stage_pb2.StageInfo, _Mapping]] = ..., first_result: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., total: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., results: _Optional[int] = ...) -> None: ...
