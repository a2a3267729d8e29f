"""What a client receives of a live session: bytes and the moments at which they came.

Nothing is decoded while a mesh is measured; a recording is looked at when all is over.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass, field
from typing import NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from talkingface.client import (
    PACING_LIVE,
    Event,
    Media,
    Message,
    OutputKind,
    Started,
    Summary,
    TalkingFace,
    TalkingFaceError,
    pcm,
)
from talkingface.client import SessionInput as Sent
from talkingface.contract.rates import SAMPLE_RATE
from talkingface_research.bench.conversation import Conversation, Diary

Array = NDArray[np.float64]
_FREED_SECONDS = 1.0  # after a session has been left, before the next is opened


class Piece(NamedTuple):
    """One `Media` as it came."""

    arrival: float  # `time.perf_counter`
    number: int  # of its picture; -1 where it holds sound alone
    data: bytes
    sound: bytes  # 16-bit samples at 16 kHz


@dataclass(frozen=True)
class Pictures:
    """How the pictures are asked for."""

    output: OutputKind
    size: int
    frame_rate: int

    def session(
        self, face: TalkingFace, portrait: str | bytes, audio: AsyncIterator[Sent]
    ) -> AsyncGenerator[Message, None]:
        """Open a live session."""
        messages = face.animate(
            portrait=portrait,
            audio=audio,
            audio_format=pcm(SAMPLE_RATE),
            output=self.output,
            size=self.size,
            frame_rate=self.frame_rate,
            pacing=PACING_LIVE,
        )
        return cast(AsyncGenerator[Message, None], messages)


@dataclass
class Recording:
    """One session, as it was received."""

    frame_rate: int
    diary: Diary
    opened: float = 0.0  # when the call began
    pieces: list[Piece] = field(default_factory=list)
    events: list[tuple[float, Event]] = field(default_factory=list)
    summary: Summary | None = None
    error: TalkingFaceError | None = None

    @property
    def shown(self) -> list[Piece]:
        """The pieces with pictures."""
        return [piece for piece in self.pieces if piece.number >= 0]

    @property
    def arrivals(self) -> Array:
        """(n,) when pictures came, seconds since the call began."""
        return np.array([piece.arrival - self.opened for piece in self.shown])

    @property
    def indices(self) -> NDArray[np.int64]:
        """(n,) numbers of the pictures."""
        return np.array([piece.number for piece in self.shown], np.int64)

    @property
    def presented(self) -> Array:
        """(n,) presentation times in seconds."""
        return self.indices / self.frame_rate

    @property
    def told_late(self) -> int:
        """Pictures left out that the server has told of in events."""
        return sum(
            event.frames for _, event in self.events if event.kind == Event.KIND_FRAMES_DROPPED
        )


async def record(
    face: TalkingFace, portrait: str, pictures: Pictures, talk: Conversation, recording: Recording
) -> None:
    """Run a session to its end; an error of the server ends it and is kept."""
    recording.opened = time.perf_counter()
    try:
        async for message in pictures.session(face, portrait, talk.play()):
            now = time.perf_counter()
            match message:
                case Media():
                    index = message.first_frame if message.frame_count else -1
                    recording.pieces.append(Piece(now, index, message.data, message.audio))
                case Event():
                    recording.events.append((now, message))
                case Summary():
                    recording.summary = message
    except TalkingFaceError as error:
        recording.error = error


async def _nothing() -> AsyncIterator[Sent]:
    await asyncio.Event().wait()
    yield b""


async def opening(face: TalkingFace, portrait: str | bytes, pictures: Pictures) -> float:
    """Seconds from opening a session to its first picture; it is left then.

    :raises TalkingFaceError: it was refused.
    """
    begin = time.perf_counter()
    messages = pictures.session(face, portrait, _nothing())
    took = float("nan")
    async for message in messages:
        if isinstance(message, Media) and message.frame_count:
            took = time.perf_counter() - begin
            break
    await messages.aclose()
    await asyncio.sleep(_FREED_SECONDS)
    return took


class Refusal(NamedTuple):
    """How an opening beyond the slots went."""

    at: float  # `time.perf_counter`
    seconds: float  # from the call to the answer
    reason: str  # "" where it was admitted


async def try_to_open(face: TalkingFace, portrait: str, pictures: Pictures) -> Refusal:
    """Open a session that there should be no slot for; where there is one, leave it at once."""
    begin, reason = time.perf_counter(), ""
    messages = pictures.session(face, portrait, _nothing())
    try:
        async for message in messages:
            assert isinstance(message, Started)
            break
    except TalkingFaceError as error:
        reason = error.reason
    seconds = time.perf_counter() - begin
    await messages.aclose()
    return Refusal(begin, seconds, reason)
