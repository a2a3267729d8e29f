"""Reads and writes the messages of a gRPC stream within the time that its client may take."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any, TypeVar

import grpc

from talkingface.contract.errors import ServiceError

T = TypeVar("T")


async def within(operation: Awaitable[T], seconds: float | None, problem: str) -> T:
    """Await an operation that waits for the client.

    :param seconds: time that it may take; None: any.
    :param problem: what the client failed to do, as in "sent nothing".
    :raises ServiceError: IDLE_TIMEOUT.
    """
    try:
        async with asyncio.timeout(seconds):
            return await operation
    except TimeoutError:
        raise ServiceError("IDLE_TIMEOUT", f"the client {problem} for {seconds:g} s") from None


async def read(context: grpc.aio.ServicerContext[T, Any], seconds: float | None) -> T | None:
    """Return the client's next message, or None after its last.

    :raises ServiceError: IDLE_TIMEOUT.
    """
    message = await within(context.read(), seconds, "sent nothing")
    return None if message is grpc.aio.EOF else message


async def write(
    context: grpc.aio.ServicerContext[Any, T], message: T, seconds: float | None
) -> None:
    """Send a message to the client.

    :raises ServiceError: IDLE_TIMEOUT if the client does not read.
    """
    await within(context.write(message), seconds, "read nothing")
