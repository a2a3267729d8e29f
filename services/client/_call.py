"""One call of Animate with its own connection, as resumable sessions use it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine

import grpc

from talkingface.client._endpoint import Endpoint
from talkingface.contract.call_status import CallStatus, is_connection_lost
from talkingface.contract.errors import ServiceError
from talkingface.v1.talking_face_pb2 import AnimateConfig, AnimateRequest, AnimateResponse
from talkingface.v1.talking_face_pb2_grpc import TalkingFaceServiceStub

AnimateStream = grpc.aio.StreamStreamCall[AnimateRequest, AnimateResponse]

# gRPC shares connections between channels with the same target; a shared one might still lead to
# the server that is shutting down.
_OWN_CONNECTION = (("grpc.use_local_subchannel_pool", 1),)

# Raised by a write to a call that has ended; its reader gets the reason.
CALL_ENDED = (grpc.aio.AioRpcError, asyncio.InvalidStateError)


def is_server_lost(error: ServiceError) -> bool:
    """Return whether an error means that the server, or the connection to it, is lost.

    False where a stage behind the server is unavailable.
    """
    if error.reason == "DRAINING":
        return True
    return error.reason == "STAGE_UNAVAILABLE" and "stage" not in error.metadata


class AnimateCall:
    """One call of Animate."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._channel = endpoint.channel(_OWN_CONNECTION)
        self._stream: AnimateStream = TalkingFaceServiceStub(self._channel).Animate()
        self._status = CallStatus(self._stream)
        self._sender: asyncio.Task[None] | None = None
        self.next_sample = 0  # index of the next audio sample that the server sends with frames

    async def open(self, config: AnimateConfig) -> AnimateResponse:
        """Send the configuration and return the first response.

        :raises ServiceError: the server refuses the session
        """
        reading = asyncio.ensure_future(self.read())
        try:
            with contextlib.suppress(*CALL_ENDED):
                await self._stream.write(AnimateRequest(config=config))
            response = await reading
        finally:
            reading.cancel()
        if response is None:
            raise ServiceError("INTERNAL", "the server has closed the stream without a response")
        return response

    async def read(self) -> AnimateResponse | None:
        """Return the next response, or None after the last.

        :raises ServiceError: the error that the server has sent, or STAGE_UNAVAILABLE for a lost
            connection
        """
        try:
            response = await self._stream.read()
        except grpc.aio.AioRpcError as rpc_error:
            error = await self._status.error(rpc_error)
            if is_connection_lost(rpc_error) and not error.metadata:
                error = ServiceError("STAGE_UNAVAILABLE", "the connection to the server is lost")
            raise error from None
        return response if isinstance(response, AnimateResponse) else None

    async def write(self, request: AnimateRequest) -> None:
        """Send a request; raises one of `CALL_ENDED` if the call has ended."""
        await self._stream.write(request)

    async def done_writing(self) -> None:
        """Declare that no more requests follow; raises like `write`."""
        await self._stream.done_writing()

    def start_sending(self, sender: Coroutine[None, None, None]) -> None:
        """Run the coroutine that sends the requests, until the call is closed."""
        self._sender = asyncio.create_task(sender)

    def cancel(self) -> None:
        """Cancel the call, which ends `read`."""
        self._stream.cancel()

    async def close(self) -> None:
        """End the call and its connection."""
        if self._sender is not None:
            self._sender.cancel()
        self._stream.cancel()
        await self._channel.close()
