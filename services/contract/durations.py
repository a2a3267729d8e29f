"""Conversion of seconds to protobuf durations."""

from __future__ import annotations

from google.protobuf import duration_pb2


def duration(seconds: float) -> duration_pb2.Duration:
    """Convert seconds to a Duration, rounded to the microsecond."""
    message = duration_pb2.Duration()
    message.FromMicroseconds(round(seconds * 1e6))
    return message
