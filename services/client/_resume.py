"""A session that outlives its server: `TalkingFace.animate` with `resumable=True`.

Requests are kept until the server's resume tokens no longer need them. When the server is lost or
shuts down, another call is opened with the last token at whichever server responds under the same
target, and the kept requests are sent again. Responses that arrive twice are dropped, so that the
caller sees one session.
"""

from __future__ import annotations

import asyncio
import enum
import random
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable

from talkingface.client._call import AnimateCall, is_server_lost
from talkingface.client._endpoint import Endpoint
from talkingface.client._inbox import Inbox, sample_count
from talkingface.client._messages import Message
from talkingface.client._outbox import Outbox
from talkingface.contract.errors import ServiceError
from talkingface.contract.rates import MOTION_FPS, SAMPLE_RATE
from talkingface.v1.talking_face_pb2 import (
    AnimateConfig,
    AnimateRequest,
    AnimateResponse,
    Event,
    Resume,
    StreamPosition,
)

# Seconds, by eye.
PATIENCE_SECONDS = 60.0  # within which another server must take over
_OPEN_SECONDS = 10.0  # for one attempt
_MIN_PAUSE, _MAX_PAUSE = 0.05, 1.0  # between attempts; each is twice as long as the one before


class _State(enum.Enum):
    """State of a session's connection."""

    CONNECTED = enum.auto()  # the call delivers responses
    MOVING = enum.auto()  # the call still delivers, while another one is being opened
    LOST = enum.auto()  # nothing is delivered until another call is open


class _ResponseReader:
    """Reads the responses of a session over as many calls as it takes.

    CONNECTED becomes MOVING when the server drains, and CONNECTED again when another call is open
    or none could be opened. Both become LOST when the server is lost, and CONNECTED again when
    another call is open.
    """

    def __init__(
        self,
        call: AnimateCall,
        outbox: Outbox,
        inbox: Inbox,
        reconnect: Callable[[ServiceError | None], Awaitable[AnimateCall]],
    ) -> None:
        """
        :param call: the first call, which is open
        :param outbox: requests of the session
        :param inbox: state of the caller's side
        :param reconnect: opens another call, see `ResumableSession._reconnect`
        """
        self._state = _State.CONNECTED
        self.call = call
        self._outbox = outbox
        self._inbox = inbox
        self._reconnect = reconnect
        self._reading: asyncio.Task[AnimateResponse | None] | None = None
        self._opening: asyncio.Task[AnimateCall] | None = None  # while MOVING

    def move(self) -> None:
        """Open another call while the current one still delivers, because its server drains."""
        if self._state is _State.CONNECTED:
            self._state = _State.MOVING
            self._opening = asyncio.create_task(self._open(None))

    async def read(self) -> AnimateResponse | None:
        """Return the next response, or None after the last.

        :raises ServiceError: the server refuses, or the session could not continue elsewhere
        """
        while True:
            self._outbox.raise_failure()
            self._reading = self._reading or asyncio.create_task(self.call.read())
            waiting: list[asyncio.Task[AnimateResponse | None] | asyncio.Task[AnimateCall]]
            waiting = [self._reading]
            if self._opening is not None:
                waiting.append(self._opening)
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            if self._opening is not None and self._opening.done():
                await self._finish_move(self._opening)
                continue
            try:
                response = await self._reading
            except ServiceError as error:
                self._outbox.raise_failure()
                if not is_server_lost(error) or self._inbox.token is None:
                    raise
                await self._replace(error)
                continue
            except asyncio.CancelledError:
                self._outbox.raise_failure()
                raise
            self._reading = None
            return response

    async def _open(self, error: ServiceError | None) -> AnimateCall:
        return await self._reconnect(error)

    async def _finish_move(self, opening: asyncio.Task[AnimateCall]) -> None:
        """Switch to the call that has been opened; if none could be, the old one may finish."""
        self._opening = None
        self._outbox.pin(None)
        self._state = _State.CONNECTED
        if opening.exception() is not None:
            return
        if self._reading is not None:
            self._reading.cancel()
            self._reading = None
        await self.call.close()
        self.call = opening.result()
        self._inbox.interrupt()

    async def _replace(self, error: ServiceError) -> None:
        """Replace a call whose server is lost."""
        self._state = _State.LOST
        self._inbox.interrupt()
        await self.call.close()
        opening, self._opening, self._reading = self._opening, None, None
        try:
            self.call = await (opening or self._open(error))
        except ServiceError as refusal:
            # What was opened while the server still served was asked of its own build alone.
            if opening is None or refusal.reason != "CHECKPOINT_MISMATCH":
                raise
            self.call = await self._open(error)
        self._outbox.pin(None)
        self._state = _State.CONNECTED

    async def close(self) -> None:
        """End all calls."""
        if self._reading is not None:
            self._reading.cancel()
        opening = self._opening
        if opening is not None and not opening.cancel() and opening.exception() is None:
            await opening.result().close()
        await self.call.close()


class ResumableSession:
    """One session, over as many calls as it takes."""

    def __init__(
        self,
        endpoint: Endpoint,
        config: AnimateConfig,
        requests: AsyncIterator[AnimateRequest],
        upload: Callable[[], Awaitable[None]] | None,
        patience: float = PATIENCE_SECONDS,
    ) -> None:
        """
        :param config: configuration of the session
        :param requests: everything to be sent after the configuration, without the end
        :param upload: uploads the portrait to a server that does not have it
        :param patience: seconds within which another server must take over
        """
        self._endpoint = endpoint
        self._config = config
        self._upload = upload
        self._patience = patience
        self._outbox = Outbox(requests)
        self._inbox = Inbox()

    async def messages(self) -> AsyncGenerator[Message, None]:
        """Yield the messages of the servers as those of one session.

        :raises ServiceError: the server refuses, or STAGE_UNAVAILABLE if no other one could take
            over in time
        """
        call = AnimateCall(self._endpoint)
        reader = _ResponseReader(call, self._outbox, self._inbox, self._reconnect)
        try:
            started = (await call.open(self._config)).started
            self._inbox.frame_rate = started.config.frame_rate or MOTION_FPS
            yield started
            call.start_sending(self._outbox.send(call, 0, 0))
            while (response := await reader.read()) is not None:
                for message in self._receive(response, reader.call):
                    yield message
                if _is_draining(response) and self._inbox.token is not None:
                    reader.move()
        finally:
            self._outbox.close()
            await reader.close()

    def _receive(self, response: AnimateResponse, call: AnimateCall) -> list[Message]:
        """Return the new messages in a response, and discard requests that it makes needless."""
        first_sample = call.next_sample
        if response.HasField("media"):
            call.next_sample += sample_count(response.media)
        messages = self._inbox.receive(response, first_sample)
        self._outbox.discard_before(self._inbox.first_needed)
        return messages

    async def _reconnect(self, error: ServiceError | None) -> AnimateCall:
        """Open another call that continues the session.

        :param error: the error that ended the last call; None if it still delivers
        :raises ServiceError: the session cannot continue
        """
        deadline = time.perf_counter() + self._patience
        pause, last = _MIN_PAUSE, error
        while True:
            try:
                return await self._resume(same_build=error is None)
            except ServiceError as refusal:
                if refusal.reason == "PORTRAIT_NOT_FOUND" and self._upload is not None:
                    upload, self._upload = self._upload, None
                    await upload()
                    continue
                if not is_server_lost(refusal) and refusal.reason not in (
                    "NO_CAPACITY",
                    "STAGE_UNAVAILABLE",
                ):
                    raise
                last = refusal
            except TimeoutError:
                pass  # no response: try again
            if time.perf_counter() + pause > deadline:
                text = f"the session is lost: no server has taken over in {self._patience:g} s"
                raise ServiceError(
                    "STAGE_UNAVAILABLE", f"{text} ({last.message if last else 'no response'})"
                )
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))
            pause = min(2 * pause, _MAX_PAUSE)

    async def _resume(self, *, same_build: bool) -> AnimateCall:
        """Make one attempt to continue the session at a server.

        :param same_build: whether a server of another build, which cannot read the session's state,
            must refuse

        :raises ServiceError: the server refuses
        :raises TimeoutError: it did not respond in time
        """
        inbox = self._inbox
        assert inbox.token is not None
        position = StreamPosition()
        position.CopyFrom(inbox.position)
        resume = Resume(
            token=inbox.token.token,
            next_frame=inbox.next_frame,
            position=position,
            frames=inbox.frames,
            same_build=same_build,
        )
        resume.controls.extend(
            self._outbox.control_updates(inbox.token.messages, position.messages)
        )
        self._outbox.pin(position.messages)
        call = AnimateCall(self._endpoint)
        call.next_sample = inbox.next_frame * SAMPLE_RATE // inbox.frame_rate
        try:
            async with asyncio.timeout(_OPEN_SECONDS):
                await call.open(AnimateConfig(resume=resume))
        except BaseException:
            await call.close()
            raise
        call.start_sending(self._outbox.send(call, position.messages, position.bytes))
        return call


def _is_draining(response: AnimateResponse) -> bool:
    return response.HasField("event") and response.event.kind == Event.KIND_DRAINING
