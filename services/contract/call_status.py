"""The status that the server of a streaming call has sent, for clients.

When a server ends a stream while the client is writing, grpc.aio may report "Internal error from
Core" instead of the server's status (https://github.com/grpc/grpc/issues/36066, open in 1.85): the
failed write overwrites the status, which arrives just before or just after. This module keeps the
first status that arrives. It can arrive only after all messages before it have been read: read in
one task while another one writes; messages that are still unread at an error are dropped here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import grpc

from talkingface.contract.errors import ServiceError, has_details

# Codes that gRPC itself reports when the peer, or the connection to it, is lost.
_CONNECTION_LOST = (grpc.StatusCode.CANCELLED, grpc.StatusCode.UNKNOWN, grpc.StatusCode.UNAVAILABLE)
# Seconds to wait for the status after a failed write, and between two looks; by eye.
_STATUS_SECONDS = 2.0
_POLL_SECONDS = 0.005


T = TypeVar("T")


class CallStatus:
    """Keeps the first status of one call; create it together with the call.

    status = CallStatus(call)
    try:
        ...  # read, while another task writes
    except grpc.aio.AioRpcError as error:
        raise await status.error(error) from error
    """

    def __init__(self, call: grpc.aio.StreamStreamCall[Any, Any]) -> None:
        self._call = call
        self._first: grpc.aio.AioRpcError | None = None
        call.add_done_callback(self._note)

    async def error(self, error: grpc.aio.AioRpcError) -> ServiceError:
        """Return the error that the server has sent.

        :param error: that reading or writing has raised
        """
        if not _is_overwritten(error):
            return ServiceError.from_rpc(error)
        if self._first is not None and not _is_overwritten(self._first):
            return ServiceError.from_rpc(self._first)
        try:
            async with asyncio.timeout(_STATUS_SECONDS):
                # The public `read` returns at once when the call is done, messages or not.
                read = self._call._read  # type: ignore[attr-defined]
                while await read() is not grpc.aio.EOF:
                    pass
                while _is_overwritten(late := self._status()):  # noqa: ASYNC110
                    await asyncio.sleep(_POLL_SECONDS)
        except TimeoutError:
            # The stream has failed and no status has arrived: the server is lost.
            return ServiceError("STAGE_UNAVAILABLE", "the stream broke without a status")
        return ServiceError.from_rpc(late)

    def _note(self, _: grpc.aio.Call) -> None:
        self._first = self._status()

    def _status(self) -> grpc.aio.AioRpcError:
        """Return the current status of a call that is done."""
        call = self._call
        return grpc.aio.AioRpcError(
            _result(call.code()),
            grpc.aio.Metadata(),
            _result(call.trailing_metadata()),
            _result(call.details()),
        )


def is_connection_lost(error: grpc.aio.AioRpcError) -> bool:
    """Return whether gRPC itself raised an error because it lost the peer or the connection.

    False for an error that one of our services raised, whatever its code: those carry details.
    """
    return error.code() in _CONNECTION_LOST and not has_details(error)


def _is_overwritten(error: grpc.aio.AioRpcError) -> bool:
    return error.code() is grpc.StatusCode.INTERNAL and "from Core" in (error.details() or "")


def _result(coroutine: Coroutine[Any, Any, T]) -> T:
    """Return the result of a coroutine that does not need to wait."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        result: T = stop.value
        return result
    coroutine.close()
    raise RuntimeError("the call is not done")
