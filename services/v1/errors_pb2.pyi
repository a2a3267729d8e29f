from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from typing import ClassVar as _ClassVar

DESCRIPTOR: _descriptor.FileDescriptor

class ErrorReason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ERROR_REASON_UNSPECIFIED: _ClassVar[ErrorReason]
    ERROR_REASON_MESSAGE_ORDER: _ClassVar[ErrorReason]
    ERROR_REASON_FIELD_INVALID: _ClassVar[ErrorReason]
    ERROR_REASON_IMAGE_BROKEN: _ClassVar[ErrorReason]
    ERROR_REASON_IMAGE_FORMAT: _ClassVar[ErrorReason]
    ERROR_REASON_IMAGE_TOO_LARGE: _ClassVar[ErrorReason]
    ERROR_REASON_NO_FACE: _ClassVar[ErrorReason]
    ERROR_REASON_SEVERAL_FACES: _ClassVar[ErrorReason]
    ERROR_REASON_FACE_TOO_SMALL: _ClassVar[ErrorReason]
    ERROR_REASON_FACE_TURNED: _ClassVar[ErrorReason]
    ERROR_REASON_TOO_DARK: _ClassVar[ErrorReason]
    ERROR_REASON_PORTRAIT_NOT_FOUND: _ClassVar[ErrorReason]
    ERROR_REASON_AUDIO_BROKEN: _ClassVar[ErrorReason]
    ERROR_REASON_AUDIO_NOT_FINITE: _ClassVar[ErrorReason]
    ERROR_REASON_AUDIO_TOO_SHORT: _ClassVar[ErrorReason]
    ERROR_REASON_AUDIO_TOO_LONG: _ClassVar[ErrorReason]
    ERROR_REASON_NO_CAPACITY: _ClassVar[ErrorReason]
    ERROR_REASON_IDLE_TIMEOUT: _ClassVar[ErrorReason]
    ERROR_REASON_STAGE_UNAVAILABLE: _ClassVar[ErrorReason]
    ERROR_REASON_DRAINING: _ClassVar[ErrorReason]
    ERROR_REASON_INTERNAL: _ClassVar[ErrorReason]
    ERROR_REASON_MESSAGE_TOO_LARGE: _ClassVar[ErrorReason]
    ERROR_REASON_CHECKPOINT_MISMATCH: _ClassVar[ErrorReason]
    ERROR_REASON_QUOTA_EXCEEDED: _ClassVar[ErrorReason]
    ERROR_REASON_SESSION_TIMEOUT: _ClassVar[ErrorReason]
    ERROR_REASON_SESSION_EXPIRED: _ClassVar[ErrorReason]
ERROR_REASON_UNSPECIFIED: ErrorReason
ERROR_REASON_MESSAGE_ORDER: ErrorReason
ERROR_REASON_FIELD_INVALID: ErrorReason
ERROR_REASON_IMAGE_BROKEN: ErrorReason
ERROR_REASON_IMAGE_FORMAT: ErrorReason
ERROR_REASON_IMAGE_TOO_LARGE: ErrorReason
ERROR_REASON_NO_FACE: ErrorReason
ERROR_REASON_SEVERAL_FACES: ErrorReason
ERROR_REASON_FACE_TOO_SMALL: ErrorReason
ERROR_REASON_FACE_TURNED: ErrorReason
ERROR_REASON_TOO_DARK: ErrorReason
ERROR_REASON_PORTRAIT_NOT_FOUND: ErrorReason
ERROR_REASON_AUDIO_BROKEN: ErrorReason
ERROR_REASON_AUDIO_NOT_FINITE: ErrorReason
ERROR_REASON_AUDIO_TOO_SHORT: ErrorReason
ERROR_REASON_AUDIO_TOO_LONG: ErrorReason
ERROR_REASON_NO_CAPACITY: ErrorReason
ERROR_REASON_IDLE_TIMEOUT: ErrorReason
ERROR_REASON_STAGE_UNAVAILABLE: ErrorReason
ERROR_REASON_DRAINING: ErrorReason
ERROR_REASON_INTERNAL: ErrorReason
ERROR_REASON_MESSAGE_TOO_LARGE: ErrorReason
ERROR_REASON_CHECKPOINT_MISMATCH: ErrorReason
ERROR_REASON_QUOTA_EXCEEDED: ErrorReason
ERROR_REASON_SESSION_TIMEOUT: ErrorReason
ERROR_REASON_SESSION_EXPIRED: ErrorReason
