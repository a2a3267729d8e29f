"""The exceptions that the client raises."""

from __future__ import annotations

import grpc

from talkingface.contract.errors import ServiceError


class TalkingFaceError(Exception):
    """A call has failed.

    Attributes:

    - `reason`: name of an `ErrorReason` (errors.proto) without its prefix, such as "NO_FACE"
    - `message`: description in English
    - `code`: gRPC status code
    - `metadata`: details by name, depending on the reason
    - `field_violations`: problem by path of the field, for `reason` "FIELD_INVALID"
    - `retry_delay`: seconds after which the same call may succeed; None: do not retry it unchanged
    """

    def __init__(self, error: ServiceError) -> None:
        super().__init__(f"{error.reason}: {error.message}")
        self.reason = error.reason
        self.message = error.message
        self.code = error.code
        self.metadata = dict(error.metadata)
        self.field_violations = dict(error.field_violations)
        self.retry_delay = error.retry_delay


class InvalidInput(TalkingFaceError):
    """The portrait, the audio, a control or the order of messages is invalid; see `reason`."""


class NotFound(TalkingFaceError):
    """There is no portrait with this handle; upload it and call again."""


class NoCapacity(TalkingFaceError):
    """All slots, or all slots for this caller, are in use; retry after `retry_delay` seconds."""


class Unavailable(TalkingFaceError):
    """The server or one of its stages cannot be reached, or is shutting down; retry later."""


_CLASSES = {
    grpc.StatusCode.INVALID_ARGUMENT: InvalidInput,
    grpc.StatusCode.NOT_FOUND: NotFound,
    grpc.StatusCode.RESOURCE_EXHAUSTED: NoCapacity,
    grpc.StatusCode.UNAVAILABLE: Unavailable,
}


def client_error(error: ServiceError) -> TalkingFaceError:
    """Convert an error of the server to the exception that the client raises."""
    if error.reason == "MESSAGE_TOO_LARGE":
        return InvalidInput(error)
    return _CLASSES.get(error.code, TalkingFaceError)(error)
