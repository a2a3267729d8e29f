from google.protobuf import empty_pb2 as _empty_pb2
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class AudioEncoding(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    AUDIO_ENCODING_UNSPECIFIED: _ClassVar[AudioEncoding]
    AUDIO_ENCODING_PCM_S16LE: _ClassVar[AudioEncoding]
    AUDIO_ENCODING_PCM_F32LE: _ClassVar[AudioEncoding]
    AUDIO_ENCODING_FILE: _ClassVar[AudioEncoding]

class OutputKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    OUTPUT_KIND_UNSPECIFIED: _ClassVar[OutputKind]
    OUTPUT_KIND_FMP4: _ClassVar[OutputKind]
    OUTPUT_KIND_H264: _ClassVar[OutputKind]
    OUTPUT_KIND_JPEG: _ClassVar[OutputKind]
    OUTPUT_KIND_PNG: _ClassVar[OutputKind]
    OUTPUT_KIND_MOTION: _ClassVar[OutputKind]

class VideoCodec(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    VIDEO_CODEC_UNSPECIFIED: _ClassVar[VideoCodec]
    VIDEO_CODEC_H264: _ClassVar[VideoCodec]
    VIDEO_CODEC_JPEG: _ClassVar[VideoCodec]
    VIDEO_CODEC_PNG: _ClassVar[VideoCodec]

class Framing(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    FRAMING_UNSPECIFIED: _ClassVar[Framing]
    FRAMING_CROP: _ClassVar[Framing]
    FRAMING_PHOTO: _ClassVar[Framing]
AUDIO_ENCODING_UNSPECIFIED: AudioEncoding
AUDIO_ENCODING_PCM_S16LE: AudioEncoding
AUDIO_ENCODING_PCM_F32LE: AudioEncoding
AUDIO_ENCODING_FILE: AudioEncoding
OUTPUT_KIND_UNSPECIFIED: OutputKind
OUTPUT_KIND_FMP4: OutputKind
OUTPUT_KIND_H264: OutputKind
OUTPUT_KIND_JPEG: OutputKind
OUTPUT_KIND_PNG: OutputKind
OUTPUT_KIND_MOTION: OutputKind
VIDEO_CODEC_UNSPECIFIED: VideoCodec
VIDEO_CODEC_H264: VideoCodec
VIDEO_CODEC_JPEG: VideoCodec
VIDEO_CODEC_PNG: VideoCodec
FRAMING_UNSPECIFIED: Framing
FRAMING_CROP: Framing
FRAMING_PHOTO: Framing

class AudioFormat(_message.Message):
    __slots__ = ("encoding", "sample_rate", "channels")
    ENCODING_FIELD_NUMBER: _ClassVar[int]
    SAMPLE_RATE_FIELD_NUMBER: _ClassVar[int]
    CHANNELS_FIELD_NUMBER: _ClassVar[int]
    encoding: AudioEncoding
    sample_rate: int
    channels: int
    def __init__(self, encoding: _Optional[_Union[AudioEncoding, str]] = ..., sample_rate: _Optional[int] = ..., channels: _Optional[int] = ...) -> None: ...

class Background(_message.Message):
    __slots__ = ("photo", "colour", "image", "transparent")
    class Colour(_message.Message):
        __slots__ = ("red", "green", "blue")
        RED_FIELD_NUMBER: _ClassVar[int]
        GREEN_FIELD_NUMBER: _ClassVar[int]
        BLUE_FIELD_NUMBER: _ClassVar[int]
        red: int
        green: int
        blue: int
        def __init__(self, red: _Optional[int] = ..., green: _Optional[int] = ..., blue: _Optional[int] = ...) -> None: ...
    PHOTO_FIELD_NUMBER: _ClassVar[int]
    COLOUR_FIELD_NUMBER: _ClassVar[int]
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    TRANSPARENT_FIELD_NUMBER: _ClassVar[int]
    photo: _empty_pb2.Empty
    colour: Background.Colour
    image: bytes
    transparent: _empty_pb2.Empty
    def __init__(self, photo: _Optional[_Union[_empty_pb2.Empty, _Mapping]] = ..., colour: _Optional[_Union[Background.Colour, _Mapping]] = ..., image: _Optional[bytes] = ..., transparent: _Optional[_Union[_empty_pb2.Empty, _Mapping]] = ...) -> None: ...

class VideoFormat(_message.Message):
    __slots__ = ("width", "height", "frame_rate")
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    FRAME_RATE_FIELD_NUMBER: _ClassVar[int]
    width: int
    height: int
    frame_rate: int
    def __init__(self, width: _Optional[int] = ..., height: _Optional[int] = ..., frame_rate: _Optional[int] = ...) -> None: ...

class EncodedFrame(_message.Message):
    __slots__ = ("index", "data", "keyframe", "load")
    INDEX_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    KEYFRAME_FIELD_NUMBER: _ClassVar[int]
    LOAD_FIELD_NUMBER: _ClassVar[int]
    index: int
    data: bytes
    keyframe: bool
    load: float
    def __init__(self, index: _Optional[int] = ..., data: _Optional[bytes] = ..., keyframe: _Optional[bool] = ..., load: _Optional[float] = ...) -> None: ...
