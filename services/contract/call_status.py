"""The true status of a streaming call, for clients.

When a server ends a stream while the client is writing, grpc.aio may report "Internal error from
Core" in place of the status that the server has sent (https://github.com/grpc/grpc/issues/36066,
open in 1.85): the failed write overwrites the status, which comes just before or just after. The
status is kept here as it first arrives. For it to arrive at all, all messages before it must be
read: read in one task while another writes; what then is still unread is dropped here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import grpc

from talkingface.contract.errors import ServiceError, has_details

# Codes that gRPC itself gives when the other side, or the way to it, is gone.
_GONE = (grpc.StatusCode.CANCELLED, grpc.StatusCode.UNKNOWN, grpc.StatusCode.UNAVAILABLE)
_GRACE = 2.0  # seconds within which a status follows the failed write


class CallStatus:
    """Watches one call from its opening on.

    status = CallStatus(call)
    try:
        ...  # read, while another task writes
    except grpc.aio.AioRpcError as error:
        raise await status.error(error) from error
    """

    def __init__(self, call: Any) -> None:
        self._call = call
        self._first: grpc.aio.AioRpcError | None = None
        call.add_done_callback(self._note)

    async def error(self, error: grpc.aio.AioRpcError) -> ServiceError:
        """What the server has told of an error that reading or writing has raised."""
        if not _is_overwritten(error):
            return ServiceError.from_rpc(error)
        if self._first is not None and not _is_overwritten(self._first):
            return ServiceError.from_rpc(self._first)
        try:
            async with asyncio.timeout(_GRACE):
                # The public `read` does nothing any more once the call counts as done.
                while await self._call._read() is not grpc.aio.EOF:
                    pass
                while _is_overwritten(late := self._status()):  # noqa: ASYNC110
                    await asyncio.sleep(0.005)
        except TimeoutError:
            # The stream has broken and no status has come: the server is gone.
            return ServiceError("STAGE_UNAVAILABLE", "the stream has broken off")
        return ServiceError.from_rpc(late)

    def _note(self, _: grpc.aio.Call) -> None:
        self._first = self._status()

    def _status(self) -> grpc.aio.AioRpcError:
        """The status as it is now; the call must be done."""
        call = self._call
        return grpc.aio.AioRpcError(
            _result(call.code()),
            grpc.aio.Metadata(),
            _result(call.trailing_metadata()),
            _result(call.details()),
        )


def is_connection_lost(error: grpc.aio.AioRpcError) -> bool:
    """Whether gRPC itself made an error because the other side, or the way to it, is gone.

    False for an error of one of our services, whatever its code: that carries details.
    """
    return error.code() in _GONE and not has_details(error)


def _is_overwritten(error: grpc.aio.AioRpcError) -> bool:
    return error.code() is grpc.StatusCode.INTERNAL and "from Core" in (error.details() or "")


def _result(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """The result of a coroutine that has nothing to wait for."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return stop.value
    coroutine.close()
    raise RuntimeError("the call is not done")
