"""The requests of a resumable session, kept until no server can need them again."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from typing import Protocol

from talkingface.client._call import CALL_ENDED
from talkingface.v1.controls_pb2 import ControlUpdate
from talkingface.v1.talking_face_pb2 import AnimateRequest


class RequestWriter(Protocol):
    """The part of an `AnimateCall` that sends."""

    async def write(self, request: AnimateRequest) -> None: ...
    async def done_writing(self) -> None: ...
    def cancel(self) -> None: ...


class Outbox:
    """Numbers the requests of a source, and sends them from any number on."""

    def __init__(self, requests: AsyncIterator[AnimateRequest]) -> None:
        """
        :param requests: everything to be sent after the configuration
        """
        self._requests = requests
        self._kept: deque[AnimateRequest] = deque()
        self._first = 0  # number of the first request kept
        self._complete = False  # the source has ended
        self._pull: asyncio.Future[AnimateRequest | None] | None = None
        self._pinned: int | None = None
        self._failure: BaseException | None = None  # raised by the source

    def raise_failure(self) -> None:
        """Raise the exception that the source has raised, if there is one."""
        if self._failure is not None:
            raise self._failure from None

    def pin(self, number: int | None) -> None:
        """Keep the requests from a number on, whatever is discarded; None ends this."""
        self._pinned = number

    def discard_before(self, number: int) -> None:
        """Discard the requests before a number."""
        if self._pinned is not None:
            number = min(number, self._pinned)
        while self._first < number and self._kept:
            self._kept.popleft()
            self._first += 1

    def control_updates(self, first: int, end: int) -> list[ControlUpdate]:
        """Return the control updates among the kept requests `first` to `end` - 1."""
        requests = (self._kept[i - self._first] for i in range(max(first, self._first), end))
        return [request.control for request in requests if request.HasField("control")]

    async def send(self, call: RequestWriter, number: int, offset: int) -> None:
        """Send the requests from a number on, until the last or until the call ends.

        :param call: the open call
        :param number: number of the first request
        :param offset: bytes of its audio to leave out
        """
        try:
            while (request := await self._get(number)) is not None:
                if offset:
                    request, offset = AnimateRequest(audio=request.audio[offset:]), 0
                await call.write(request)
                number += 1
            await call.done_writing()
        except CALL_ENDED:
            return
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            self._failure = error
            call.cancel()

    async def _get(self, number: int) -> AnimateRequest | None:
        """Return a request by its number, or None after the last."""
        while number >= self._first + len(self._kept):
            if self._complete:
                return None
            if self._pull is None:
                self._pull = asyncio.ensure_future(anext(self._requests, None))
            await asyncio.wait([self._pull])
            # The senders of two calls may wait for the same request; one of them takes it.
            if self._pull is None or not self._pull.done():
                continue
            pull, self._pull = self._pull, None
            request = pull.result()
            if request is None:
                self._complete = True
                request = AnimateRequest(end_of_audio={})
            self._kept.append(request)
        return self._kept[number - self._first]

    def close(self) -> None:
        """Stop waiting for the source."""
        if self._pull is not None:
            self._pull.cancel()
