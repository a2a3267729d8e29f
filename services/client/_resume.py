"""The client's side of a session that outlives its server: what `TalkingFace.animate` does for
`resumable=True`.

What was sent since the last token is held; when the server is lost, or leaves, another call is
opened with the token, at whichever server answers under the target, and given what is held. What
comes for the second time is left out, so that the caller sees one session.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from typing import Any

import grpc

from talkingface.contract.call_status import CallStatus, is_connection_lost
from talkingface.contract.channel import CLIENT_OPTIONS
from talkingface.contract.errors import ServiceError
from talkingface.contract.rates import MOTION_FPS, SAMPLE_RATE
from talkingface.v1.talking_face_pb2 import (
    AnimateConfig,
    AnimateRequest,
    AnimateResponse,
    Event,
    Resume,
    ResumeToken,
    StreamPosition,
)
from talkingface.v1.talking_face_pb2_grpc import TalkingFaceServiceStub

PATIENCE_SECONDS = 60.0
_OPEN_SECONDS = 10.0
_PAUSES = 0.05, 1.0  # between attempts: the first, the longest
# A connection of its own: one that several channels share might still lead to the server that left.
_FRESH = (("grpc.use_local_subchannel_pool", 1),)
_SENDING_ENDED = (grpc.aio.AioRpcError, asyncio.InvalidStateError)


def lost(error: ServiceError) -> bool:
    """Whether an error says that the server, or the way to it, is gone, and not more."""
    if error.reason == "DRAINING":
        return True
    return error.reason == "STAGE_UNAVAILABLE" and "stage" not in error.metadata


class _Call:
    """One call of Animate, on a connection of its own."""

    def __init__(self, target: str) -> None:
        self._channel = grpc.aio.insecure_channel(target, options=(*CLIENT_OPTIONS, *_FRESH))
        self.stream = TalkingFaceServiceStub(self._channel).Animate()
        self.status = CallStatus(self.stream)
        self.sender: asyncio.Task[None] | None = None
        self.sample = 0  # number of the next sample of sound that comes beside pictures

    async def open(self, config: AnimateConfig) -> AnimateResponse:
        """Send the configuration; the first answer.

        :raises ServiceError: what the server refuses with.
        """
        reading = asyncio.ensure_future(self.read())
        try:
            with contextlib.suppress(*_SENDING_ENDED):  # the read tells why
                await self.stream.write(AnimateRequest(config=config))
            answer = await reading
        finally:
            reading.cancel()
        if answer is None:
            raise ServiceError("INTERNAL", "the server has closed the stream without a word")
        return answer

    async def read(self) -> AnimateResponse | None:
        """The next answer, or None after the last.

        :raises ServiceError: what the server has told.
        """
        try:
            answer = await self.stream.read()
        except grpc.aio.AioRpcError as error:
            told = await self.status.error(error)
            if is_connection_lost(error) and not told.metadata:
                told = ServiceError("STAGE_UNAVAILABLE", "the connection to the server is lost")
            raise told from None
        return None if answer is grpc.aio.EOF else answer

    async def close(self) -> None:
        if self.sender is not None:
            self.sender.cancel()
        self.stream.cancel()
        await self._channel.close()


class ResumableSession:
    """One session, over as many calls as it takes."""

    def __init__(
        self,
        target: str,
        config: AnimateConfig,
        requests: AsyncIterator[AnimateRequest],
        upload: Callable[[], Awaitable[None]] | None,
        patience: float = PATIENCE_SECONDS,
    ) -> None:
        """
        :param requests: all that is to be sent after the configuration.
        :param upload: gives a server the portrait that it lacks.
        :param patience: seconds within which the session must go on elsewhere.
        """
        self._target = target
        self._config = config
        self._requests = requests
        self._upload = upload
        self._patience = patience
        self._held: deque[AnimateRequest] = deque()
        self._first = 0  # number of the first that is held
        self._all = False  # nothing follows what is held
        self._pulling: asyncio.Future[AnimateRequest | None] | None = None
        self._failure: BaseException | None = None  # of the source
        self._token: ResumeToken | None = None
        self._position = StreamPosition()
        self._floor: int | None = None  # first message that a call being opened may be sent
        self._frame_rate = MOTION_FPS
        self._next_frame = self._frames = 0
        self._heard = 0  # samples of the sound beside the pictures
        self._told = -1  # microseconds of the last event of the voice
        self._broken: float | None = None  # when the server was lost

    async def messages(self) -> AsyncGenerator[Any, None]:
        """What the servers say, as if they were one.

        :raises ServiceError: what a server refuses with, or STAGE_UNAVAILABLE where none could be
            found in time.
        """
        call = _Call(self._target)
        moving: asyncio.Task[_Call] | None = None
        reading: asyncio.Task[AnimateResponse | None] | None = None
        try:
            started = (await call.open(self._config)).started
            self._frame_rate = started.config.frame_rate or MOTION_FPS
            yield started
            self._start_sending(call, 0)
            while True:
                self._check_source()
                reading = reading or asyncio.create_task(call.read())
                await asyncio.wait(
                    [reading, *([moving] if moving else [])], return_when=asyncio.FIRST_COMPLETED
                )
                if moving is not None and moving.done():
                    moved, moving, self._floor = moving, None, None
                    if moved.exception() is not None:
                        continue  # nobody else takes it: this server may finish it
                    reading.cancel()
                    await call.close()
                    call, reading, self._broken = moved.result(), None, time.perf_counter()
                    continue
                try:
                    answer = await reading
                except ServiceError as error:
                    self._check_source()
                    if not lost(error) or self._token is None:
                        raise
                    self._broken = time.perf_counter()
                    await call.close()
                    call = await (moving or self._go_on(error))
                    moving = reading = self._floor = None
                    continue
                except asyncio.CancelledError:
                    self._check_source()
                    raise
                reading = None
                if answer is None:
                    return
                for message in self._take(answer, call):
                    yield message
                if _is_draining(answer) and moving is None:
                    moving = asyncio.create_task(self._go_on(None))
        finally:
            if reading is not None:
                reading.cancel()
            if moving is not None and not moving.cancel() and moving.exception() is None:
                await moving.result().close()
            if self._pulling is not None:
                self._pulling.cancel()
            await call.close()

    def _check_source(self) -> None:
        """Raise what the source of messages has raised, which ended the call."""
        if self._failure is not None:
            raise self._failure from None

    # --- what comes

    def _take(self, answer: AnimateResponse, call: _Call) -> list[Any]:
        """Take note of an answer; what of it the caller has not seen."""
        name = answer.WhichOneof("payload")
        if name == "resume_token":
            self._token = answer.resume_token
            if self._token.HasField("position"):
                self._position = self._token.position
            self._forget()
            return []
        message = getattr(answer, name)
        if name == "event":
            return [message] if self._is_new(message) else []
        if name == "media" and not self._take_media(message, call):
            return []
        if name == "motion":
            new = [frame for frame in message.frames if frame.index >= self._next_frame]
            if not new:
                return []
            if len(new) < len(message.frames):
                del message.frames[: len(message.frames) - len(new)]
            self._next_frame = new[-1].index + 1
            self._frames += len(new)
            self._see(message)
        if name in ("media", "motion") and self._broken is not None:
            stall, self._broken = time.perf_counter() - self._broken, None
            return [self._recovered(stall), message]
        return [message]

    def _take_media(self, media: Any, call: _Call) -> bool:
        """Whether something in a piece of media is new; what came before is cut off."""
        known = self._heard - call.sample
        call.sample += len(media.audio) // 2
        self._heard = max(self._heard, call.sample)
        if known > 0:
            media.audio = media.audio[2 * known :]
        if media.frame_count and media.first_frame < self._next_frame:
            media.frame_count, media.data = 0, b""
        elif media.frame_count:
            self._next_frame = media.first_frame + media.frame_count
            self._frames += media.frame_count
            self._see(media)
        return bool(media.frame_count or media.audio)

    def _see(self, message: Any) -> None:
        """Frames have come: what was played until their end need not be sent again."""
        if message.HasField("position"):
            self._position = message.position
            self._forget()

    def _is_new(self, event: Event) -> bool:
        if event.kind not in (Event.KIND_SPEECH_STARTED, Event.KIND_SPEECH_ENDED):
            return True
        time_us = event.time.ToMicroseconds()
        is_new, self._told = time_us > self._told, max(time_us, self._told)
        return is_new

    def _recovered(self, stall: float) -> Event:
        event = Event(kind=Event.KIND_RECOVERED, stage="orchestrator")
        event.time.FromMicroseconds(self._next_frame * 1_000_000 // self._frame_rate)
        event.stall.FromMicroseconds(round(stall * 1e6))
        return event

    # --- what is sent

    def _forget(self) -> None:
        """Let go of what lies before the position and in the token."""
        if self._token is None:
            return
        first = min(self._position.messages, self._token.messages)
        if self._floor is not None:
            first = min(first, self._floor)
        while self._first < first and self._held:
            self._held.popleft()
            self._first += 1

    def _start_sending(self, call: _Call, number: int, offset: int = 0) -> None:
        call.sender = asyncio.create_task(self._send(call, number, offset))

    async def _send(self, call: _Call, number: int, offset: int) -> None:
        """Send from a message on, of which `offset` bytes are left out."""
        try:
            while (request := await self._request(number)) is not None:
                if offset:
                    request, offset = AnimateRequest(audio=request.audio[offset:]), 0
                await call.stream.write(request)
                number += 1
            await call.stream.done_writing()
        except _SENDING_ENDED:
            return  # the call has ended: its reader knows why
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            self._failure = error
            call.stream.cancel()

    async def _request(self, number: int) -> AnimateRequest | None:
        """A message by its number, or None after the last."""
        while number >= self._first + len(self._held):
            if self._all:
                return None
            if self._pulling is None:
                self._pulling = asyncio.ensure_future(anext(self._requests, None))
            await asyncio.wait([self._pulling])
            if self._pulling is None or not self._pulling.done():
                continue
            pulled, self._pulling = self._pulling, None
            request = pulled.result()
            if request is None:
                self._all = True
                request = AnimateRequest(end_of_audio={})
            self._held.append(request)
        return self._held[number - self._first]

    # --- elsewhere

    async def _go_on(self, error: ServiceError | None) -> _Call:
        """Another call that has the session.

        :param error: that ended the last one; None while it lives.
        :raises ServiceError: the session cannot go on.
        """
        until = time.perf_counter() + self._patience
        pause, last = _PAUSES[0], error
        while True:
            try:
                return await self._resume()
            except ServiceError as again:
                if again.reason == "PORTRAIT_NOT_FOUND" and self._upload is not None:
                    upload, self._upload = self._upload, None
                    await upload()
                    continue
                if not lost(again) and again.reason not in ("NO_CAPACITY", "STAGE_UNAVAILABLE"):
                    raise
                last = again
            except TimeoutError:
                pass  # as good as no answer
            if time.perf_counter() + pause > until:
                text = f"the session is lost: no server has taken it up in {self._patience:g} s"
                raise ServiceError(
                    "STAGE_UNAVAILABLE", f"{text} ({last.message if last else 'no answer'})"
                )
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))
            pause = min(2 * pause, _PAUSES[1])

    async def _resume(self) -> _Call:
        assert self._token is not None
        token, position = self._token, StreamPosition()
        position.CopyFrom(self._position)
        between = (
            self._held[number - self._first].control
            for number in range(max(token.messages, self._first), position.messages)
            if self._held[number - self._first].HasField("control")
        )
        resume = Resume(
            token=token.token, next_frame=self._next_frame, position=position, frames=self._frames
        )
        resume.controls.extend(between)
        self._floor = position.messages
        call = _Call(self._target)
        call.sample = self._next_frame * SAMPLE_RATE // self._frame_rate
        try:
            async with asyncio.timeout(_OPEN_SECONDS):
                await call.open(AnimateConfig(resume=resume))
        except BaseException:
            await call.close()
            raise
        self._start_sending(call, position.messages, position.bytes)
        return call


def _is_draining(answer: AnimateResponse) -> bool:
    return answer.WhichOneof("payload") == "event" and answer.event.kind == Event.KIND_DRAINING
