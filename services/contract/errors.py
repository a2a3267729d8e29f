"""Errors of all services: the table of reasons, the exception, and its form on the wire.

On the wire an error is a `google.rpc.Status` with `ErrorInfo` (domain "talkingface.v1", reason
from `ErrorReason`), and where they apply `BadRequest` and `RetryInfo` (AIP-193). Details are sent
in HTTP/2 trailers, which proxies truncate at a few KiB, so texts are kept short.
"""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from dataclasses import dataclass, field

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

DOMAIN = "talkingface.v1"

_MAX_TEXT = 400  # characters of a message, a metadata value or a violation
_MAX_VIOLATIONS = 8  # field violations in one error


@dataclass(frozen=True)
class _Reason:
    code: grpc.StatusCode
    retry_delay: float | None = None  # mean seconds; None: do not retry unchanged


_INVALID = _Reason(grpc.StatusCode.INVALID_ARGUMENT)

# Reason (a name of `ErrorReason` without prefix) -> status code, and when to retry the same call.
TABLE: Mapping[str, _Reason] = {
    "UNSPECIFIED": _Reason(grpc.StatusCode.UNKNOWN),
    "MESSAGE_ORDER": _INVALID,
    "FIELD_INVALID": _INVALID,
    "IMAGE_BROKEN": _INVALID,
    "IMAGE_FORMAT": _INVALID,
    "IMAGE_TOO_LARGE": _INVALID,
    "NO_FACE": _INVALID,
    "SEVERAL_FACES": _INVALID,
    "FACE_TOO_SMALL": _INVALID,
    "FACE_TURNED": _INVALID,
    "TOO_DARK": _INVALID,
    "PORTRAIT_NOT_FOUND": _Reason(grpc.StatusCode.NOT_FOUND),
    "AUDIO_BROKEN": _INVALID,
    "AUDIO_NOT_FINITE": _INVALID,
    "AUDIO_TOO_SHORT": _INVALID,
    "AUDIO_TOO_LONG": _INVALID,
    "NO_CAPACITY": _Reason(grpc.StatusCode.RESOURCE_EXHAUSTED, retry_delay=1.0),
    "IDLE_TIMEOUT": _Reason(grpc.StatusCode.DEADLINE_EXCEEDED),
    "STAGE_UNAVAILABLE": _Reason(grpc.StatusCode.UNAVAILABLE, retry_delay=0.5),
    "DRAINING": _Reason(grpc.StatusCode.UNAVAILABLE, retry_delay=0.1),
    "INTERNAL": _Reason(grpc.StatusCode.INTERNAL),
    "MESSAGE_TOO_LARGE": _Reason(grpc.StatusCode.RESOURCE_EXHAUSTED),
    "CHECKPOINT_MISMATCH": _Reason(grpc.StatusCode.FAILED_PRECONDITION),
    "QUOTA_EXCEEDED": _Reason(grpc.StatusCode.RESOURCE_EXHAUSTED, retry_delay=2.0),
    "SESSION_TIMEOUT": _Reason(grpc.StatusCode.DEADLINE_EXCEEDED),
    "SESSION_EXPIRED": _Reason(grpc.StatusCode.FAILED_PRECONDITION),
}


@dataclass(eq=False)
class ServiceError(Exception):
    """An error that is reported to a client.

    `reason` is a key of `TABLE`; `field_violations` maps the path of a field to its problem;
    `retry_delay` (seconds) overrides the table's.
    """

    reason: str
    message: str
    metadata: Mapping[str, str] = field(default_factory=dict)
    field_violations: Mapping[str, str] = field(default_factory=dict)
    retry_delay: float | None = None

    def __post_init__(self) -> None:
        super().__init__(f"{self.reason}: {self.message}")
        if self.retry_delay is None:
            delay = TABLE[self.reason].retry_delay
            # Randomised, so that clients that were refused together do not retry together.
            self.retry_delay = delay and delay * random.uniform(0.5, 1.5)

    __str__ = Exception.__str__

    @property
    def code(self) -> grpc.StatusCode:
        """gRPC status code of the reason."""
        return TABLE[self.reason].code

    @property
    def retryable(self) -> bool:
        """Whether the same call may succeed later."""
        return self.retry_delay is not None

    def to_status(self) -> grpc.Status:
        """Return the status with details, for `context.abort_with_status`."""
        details: list[any_pb2.Any] = []

        def attach(message: Message) -> None:
            packed = any_pb2.Any()
            packed.Pack(message)
            details.append(packed)

        metadata = {key: value[:_MAX_TEXT] for key, value in self.metadata.items()}
        attach(error_details_pb2.ErrorInfo(reason=self.reason, domain=DOMAIN, metadata=metadata))
        if self.field_violations:
            violations = list(self.field_violations.items())[:_MAX_VIOLATIONS]
            attach(
                error_details_pb2.BadRequest(
                    field_violations=[
                        error_details_pb2.BadRequest.FieldViolation(
                            field=path, description=text[:_MAX_TEXT]
                        )
                        for path, text in violations
                    ]
                )
            )
        if self.retry_delay is not None:
            delay = duration_pb2.Duration()
            delay.FromMilliseconds(round(self.retry_delay * 1000))
            attach(error_details_pb2.RetryInfo(retry_delay=delay))
        status = status_pb2.Status(
            code=self.code.value[0], message=self.message[:_MAX_TEXT], details=details
        )
        return rpc_status.to_status(status)

    @classmethod
    def from_rpc(cls, error: grpc.aio.AioRpcError) -> ServiceError:
        """Convert an error that another service of the mesh, or gRPC itself, has raised."""
        status = _status_of(error)
        if status is None:
            reason = _REASON_OF_CODE.get(error.code(), "INTERNAL")
            return cls(reason, error.details() or error.code().name)
        reason, metadata, violations, delay = "INTERNAL", {}, {}, None
        for detail in status.details:
            info = error_details_pb2.ErrorInfo()
            bad = error_details_pb2.BadRequest()
            retry = error_details_pb2.RetryInfo()
            if detail.Unpack(info) and info.domain == DOMAIN and info.reason in TABLE:
                reason, metadata = info.reason, dict(info.metadata)
            elif detail.Unpack(bad):
                violations = {v.field: v.description for v in bad.field_violations}
            elif detail.Unpack(retry):
                delay = retry.retry_delay.ToMilliseconds() / 1000
        return cls(reason, status.message, metadata, violations, delay)

    def to_text(self) -> str:
        """Return one line of JSON, by which a model in Triton reports the error."""
        return _TEXT_MARK + json.dumps(
            {
                "reason": self.reason,
                "message": self.message,
                "metadata": dict(self.metadata),
                "field_violations": dict(self.field_violations),
            }
        )

    @classmethod
    def from_text(cls, text: str) -> ServiceError | None:
        """Return the error that `to_text` put into the text of a Triton error, or None."""
        _, mark, tail = text.partition(_TEXT_MARK)
        if not mark:
            return None
        fields, _ = json.JSONDecoder().raw_decode(tail)
        return cls(**fields)


def invalid_field(path: str, problem: str) -> ServiceError:
    """Create a FIELD_INVALID error about one field.

    :param path: of the field, with the names of the proto
    :param problem: what is wrong with it
    """
    return ServiceError("FIELD_INVALID", f"{path}: {problem}", field_violations={path: problem})


_TEXT_MARK = "talkingface-error "

# Reasons of errors without details, which gRPC itself raised.
_REASON_OF_CODE = {
    grpc.StatusCode.UNAVAILABLE: "STAGE_UNAVAILABLE",
    grpc.StatusCode.RESOURCE_EXHAUSTED: "MESSAGE_TOO_LARGE",
    grpc.StatusCode.DEADLINE_EXCEEDED: "STAGE_UNAVAILABLE",
}


_DETAILS = "grpc-status-details-bin"


def has_details(error: grpc.aio.AioRpcError) -> bool:
    """Return whether a service raised an error, which has details then, and not gRPC itself."""
    return any(key == _DETAILS for key, _ in error.trailing_metadata() or ())


def _status_of(error: grpc.aio.AioRpcError) -> status_pb2.Status | None:
    for key, value in error.trailing_metadata() or ():
        if key == _DETAILS and isinstance(value, bytes):
            return status_pb2.Status.FromString(value)
    return None
