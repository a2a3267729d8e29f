"""The exceptions that the client raises."""

from __future__ import annotations

import grpc

from talkingface.contract.errors import ServiceError
from talkingface.v1.talking_face_pb2 import PACING_LIVE as PACING_LIVE
from talkingface.v1.talking_face_pb2 import PACING_OFFLINE as PACING_OFFLINE


class TalkingFaceError(Exception):
    """A call has failed. `reason` is a name of `ErrorReason` without its prefix."""

    def __init__(self, error: ServiceError) -> None:
        super().__init__(f"{error.reason}: {error.message}")
        self.reason = error.reason
        self.message = error.message
        self.code = error.code
        self.metadata = dict(error.metadata)
        self.field_violations = dict(error.field_violations)
        self.retry_delay = error.retry_delay  # seconds; None: do not retry unchanged


class InvalidInput(TalkingFaceError):
    """The portrait, the audio, a control or the order of messages is bad; `reason` says which."""


class NotFound(TalkingFaceError):
    """No portrait under this handle: upload it and call again."""


class NoCapacity(TalkingFaceError):
    """Every slot is taken: try again after `retry_delay`."""


class Unavailable(TalkingFaceError):
    """The server, or a stage behind it, cannot be reached or is leaving."""


_CLASSES = {
    grpc.StatusCode.INVALID_ARGUMENT: InvalidInput,
    grpc.StatusCode.NOT_FOUND: NotFound,
    grpc.StatusCode.RESOURCE_EXHAUSTED: NoCapacity,
    grpc.StatusCode.UNAVAILABLE: Unavailable,
}


def client_error(told: ServiceError) -> TalkingFaceError:
    if told.reason == "MESSAGE_TOO_LARGE":
        return InvalidInput(told)
    return _CLASSES.get(told.code, TalkingFaceError)(told)
