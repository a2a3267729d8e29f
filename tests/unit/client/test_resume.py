"""The two sides of a resumable session: what is kept to be sent again, and what is delivered."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, TypeVar, cast

import pytest

from talkingface.client import (
    Controls,
    ControlUpdate,
    Event,
    Media,
    Message,
    Motion,
    MotionFrame,
)
from talkingface.client._inbox import Inbox
from talkingface.client._outbox import Outbox
from talkingface.client._resume import _ResponseReader
from talkingface.contract.errors import ServiceError
from talkingface.v1.talking_face_pb2 import (
    AnimateRequest,
    AnimateResponse,
    ResumeToken,
    StreamPosition,
)

T = TypeVar("T")


class Call:
    """Collects what is sent."""

    def __init__(self) -> None:
        self.sent: list[AnimateRequest] = []
        self.is_done = self.is_cancelled = False

    async def write(self, request: AnimateRequest) -> None:
        self.sent.append(request)

    async def done_writing(self) -> None:
        self.is_done = True

    def cancel(self) -> None:
        self.is_cancelled = True


async def requests(count: int) -> AsyncIterator[AnimateRequest]:
    for i in range(count):
        yield AnimateRequest(audio=bytes([i] * 4))


def media(first_frame: int, frames: int, audio: bytes = b"", messages: int = 0) -> AnimateResponse:
    position = StreamPosition(messages=messages)
    content = Media(
        first_frame=first_frame, frame_count=frames, data=b"x", audio=audio, position=position
    )
    return AnimateResponse(media=content)


def only(kind: type[T], messages: list[Message]) -> T:
    (message,) = messages
    assert isinstance(message, kind)
    return message


async def test_another_server_gets_the_rest_and_the_end() -> None:
    outbox = Outbox(requests(4))
    first, second = Call(), Call()
    await outbox.send(first, 0, 0)
    await outbox.send(second, 2, 3)
    assert [request.audio for request in first.sent[:4]] == [bytes([i] * 4) for i in range(4)]
    assert [request.audio for request in second.sent[:2]] == [b"\2", b"\3\3\3\3"]
    for call in (first, second):
        assert call.sent[-1].HasField("end_of_audio")
        assert call.is_done and not call.is_cancelled


async def test_pinned_requests_are_kept() -> None:
    outbox = Outbox(requests(4))
    await outbox.send(Call(), 0, 0)
    outbox.pin(1)
    outbox.discard_before(3)
    again = Call()
    await outbox.send(again, 1, 0)
    assert len(again.sent) == 4
    outbox.pin(None)
    outbox.discard_before(3)
    rest = Call()
    await outbox.send(rest, 3, 0)
    assert [request.audio for request in rest.sent] == [b"\3\3\3\3", b""]


async def test_control_updates_between_token_and_position_are_found() -> None:
    async def source() -> AsyncIterator[AnimateRequest]:
        for i in range(6):
            if i % 2:
                update = ControlUpdate(controls=Controls(mouth_scale=i / 10))
                yield AnimateRequest(control=update)
            else:
                yield AnimateRequest(audio=b"\0\0")

    outbox = Outbox(source())
    await outbox.send(Call(), 0, 0)
    outbox.discard_before(2)
    scales = [update.controls.mouth_scale for update in outbox.control_updates(0, 5)]
    assert scales == pytest.approx([0.3])


async def test_a_failing_source_ends_the_call_and_is_raised() -> None:
    async def source() -> AsyncIterator[AnimateRequest]:
        yield AnimateRequest(audio=b"\0\0")
        raise RuntimeError("no microphone")

    outbox, call = Outbox(source()), Call()
    outbox.raise_failure()
    await outbox.send(call, 0, 0)
    assert call.is_cancelled and not call.is_done
    with pytest.raises(RuntimeError, match="no microphone"):
        outbox.raise_failure()


def test_frames_and_audio_are_delivered_once() -> None:
    inbox = Inbox()
    message = only(Media, inbox.receive(media(0, 2, bytes(range(8))), next_sample=0))
    assert message.audio == bytes(range(8))
    message = only(Media, inbox.receive(media(1, 1, bytes(range(4, 12))), next_sample=2))
    assert (message.frame_count, message.data) == (0, b"")
    assert message.audio == bytes(range(8, 12)), "the new samples alone"
    assert inbox.receive(media(1, 1, bytes(4)), next_sample=4) == []
    assert (inbox.next_frame, inbox.frames) == (2, 2)


def test_motion_is_delivered_once() -> None:
    def motion(*indices: int) -> AnimateResponse:
        frames = [MotionFrame(index=index) for index in indices]
        return AnimateResponse(motion=Motion(frames=frames))

    inbox = Inbox()
    inbox.receive(motion(0, 1, 2), 0)
    assert inbox.receive(motion(1, 2), 0) == []
    message = only(Motion, inbox.receive(motion(2, 3, 4), 0))
    assert [frame.index for frame in message.frames] == [3, 4]
    assert inbox.frames == 5


def test_an_interruption_is_announced_before_the_next_frame() -> None:
    inbox = Inbox()
    inbox.receive(media(0, 5), 0)
    inbox.interrupt()
    assert inbox.receive(media(3, 2), 0) == []
    *first, second = inbox.receive(media(5, 1), 0)
    recovered, message = only(Event, first), only(Media, [second])
    assert (recovered.kind, recovered.stage) == (Event.KIND_RECOVERED, "orchestrator")
    assert recovered.time.ToMicroseconds() == 6 * 40_000
    assert message.first_frame == 5
    assert len(inbox.receive(media(6, 1), 0)) == 1


def test_speech_events_are_delivered_once() -> None:
    def event(kind: Event.Kind, seconds: int) -> AnimateResponse:
        message = Event(kind=kind)
        message.time.FromSeconds(seconds)
        return AnimateResponse(event=message)

    inbox = Inbox()
    started, ended = Event.KIND_SPEECH_STARTED, Event.KIND_SPEECH_ENDED
    events = [(started, 1), (ended, 2), (started, 1), (ended, 2), (started, 3)]
    new = [bool(inbox.receive(event(kind, seconds), 0)) for kind, seconds in events]
    assert new == [True, True, False, False, True]
    assert all(inbox.receive(event(Event.KIND_FRAMES_DROPPED, 1), 0) for _ in range(2))


def test_requests_are_needed_from_the_token_or_the_position_on() -> None:
    inbox = Inbox()
    inbox.receive(media(0, 1, messages=7), 0)
    assert inbox.first_needed == 0, "without a token no other server can continue"
    token = ResumeToken(token=b"t", messages=5)
    assert inbox.receive(AnimateResponse(resume_token=token), 0) == []
    assert inbox.first_needed == 5
    token.messages, token.position.messages = 9, 8
    inbox.receive(AnimateResponse(resume_token=token), 0)
    assert inbox.first_needed == 8


class LostCall:
    """A call whose server is lost when it is read from, unless it has an answer."""

    def __init__(self, answer: AnimateResponse | None = None) -> None:
        self.answer = answer
        self.lost = asyncio.Event()

    async def read(self) -> AnimateResponse | None:
        if self.answer is not None:
            return self.answer
        await self.lost.wait()
        raise ServiceError("DRAINING", "gone")

    async def close(self) -> None:
        pass


async def test_a_server_lost_during_a_move_is_replaced_by_any_build() -> None:
    """The move asks for the server's own build; when that server is lost, another one will do."""
    first, second = LostCall(), LostCall(media(0, 1))
    asked: list[ServiceError | None] = []

    async def reconnect(error: ServiceError | None) -> Any:
        asked.append(error)
        if error is None:
            first.lost.set()
            await asyncio.sleep(0.01)
            raise ServiceError("CHECKPOINT_MISMATCH", "another build")
        return second

    inbox = Inbox()
    inbox.token = ResumeToken()
    reader = _ResponseReader(cast("Any", first), Outbox(requests(1)), inbox, reconnect)
    reader.move()
    assert await reader.read() == second.answer
    assert [error is None for error in asked] == [True, False]
    await reader.close()
