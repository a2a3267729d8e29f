"""What a client receives of a live session: bytes and their times of arrival.

Nothing is decoded while the mesh is measured; recordings are analysed afterwards.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass, field
from typing import NamedTuple

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
from talkingface_research.bench.conversation import Conversation, SessionTrace

Array = NDArray[np.float64]
_RELEASE_SECONDS = 1.0  # from closing a session to opening the next, so that its slot is free


class ReceivedChunk(NamedTuple):
    """One `Media` message."""

    arrival: float  # `time.perf_counter`
    number: int  # of its frame; -1 where it holds audio alone
    data: bytes
    audio: bytes  # 16-bit samples at 16 kHz


@dataclass(frozen=True)
class VideoRequest:
    """The output that sessions ask for."""

    output: OutputKind
    size: int
    frame_rate: int

    def session(
        self, face: TalkingFace, portrait: str | bytes, audio: AsyncIterator[Sent]
    ) -> AsyncGenerator[Message, None]:
        """Open a live session."""
        return face.animate(
            portrait=portrait,
            audio=audio,
            audio_format=pcm(SAMPLE_RATE),
            output=self.output,
            size=self.size,
            frame_rate=self.frame_rate,
            pacing=PACING_LIVE,
        )


@dataclass
class Recording:
    """One session as received."""

    frame_rate: int
    trace: SessionTrace
    opened: float = 0.0  # when the call began
    chunks: list[ReceivedChunk] = field(default_factory=list)
    events: list[tuple[float, Event]] = field(default_factory=list)
    summary: Summary | None = None
    error: TalkingFaceError | None = None

    @property
    def with_frames(self) -> list[ReceivedChunk]:
        """The chunks that hold a frame."""
        return [chunk for chunk in self.chunks if chunk.number >= 0]

    @property
    def arrivals(self) -> Array:
        """(n,) arrival times of the frames, seconds since the call began."""
        return np.array([chunk.arrival - self.opened for chunk in self.with_frames])

    @property
    def indices(self) -> NDArray[np.int64]:
        """(n,) numbers of the frames."""
        return np.array([chunk.number for chunk in self.with_frames], np.int64)

    @property
    def presented(self) -> Array:
        """(n,) presentation times in seconds."""
        return self.indices / self.frame_rate

    @property
    def reported_drops(self) -> int:
        """Dropped frames that the server has reported in events."""
        return sum(
            event.frames for _, event in self.events if event.kind == Event.KIND_FRAMES_DROPPED
        )

    @property
    def duration(self) -> float:
        """Seconds up to the end of the last frame."""
        return (int(self.indices[-1]) + 1) / self.frame_rate if len(self.indices) else 0.0

    @property
    def level_changes(self) -> list[tuple[float, int]]:
        """Session time of each change of the level, and the level from then on."""
        return [
            (event.time.ToNanoseconds() / 1e9, event.level)
            for _, event in self.events
            if event.kind == Event.KIND_LEVEL_CHANGED
        ]


async def record(
    face: TalkingFace, portrait: str, video: VideoRequest, talk: Conversation, recording: Recording
) -> None:
    """Run a session to its end; an error of the server ends it and is kept in the recording."""
    recording.opened = time.perf_counter()
    try:
        async for message in video.session(face, portrait, talk.play()):
            now = time.perf_counter()
            match message:
                case Media():
                    index = message.first_frame if message.frame_count else -1
                    recording.chunks.append(ReceivedChunk(now, index, message.data, message.audio))
                case Event():
                    recording.events.append((now, message))
                case Summary():
                    recording.summary = message
    except TalkingFaceError as error:
        recording.error = error


async def _nothing() -> AsyncIterator[Sent]:
    await asyncio.Event().wait()
    yield b""


async def time_to_first_frame(
    face: TalkingFace, portrait: str | bytes, video: VideoRequest
) -> float:
    """Open a session, close it after its first frame, and return the seconds between.

    :raises TalkingFaceError: it was refused
    """
    begin = time.perf_counter()
    messages = video.session(face, portrait, _nothing())
    took = float("nan")
    async for message in messages:
        if isinstance(message, Media) and message.frame_count:
            took = time.perf_counter() - begin
            break
    await messages.aclose()
    await asyncio.sleep(_RELEASE_SECONDS)
    return took


class Refusal(NamedTuple):
    """The answer to opening a session beyond the slots."""

    at: float  # `time.perf_counter` of the call
    seconds: float  # from the call to the answer
    reason: str  # "" where it was admitted


async def try_to_open(face: TalkingFace, portrait: str, video: VideoRequest) -> Refusal:
    """Open a session for which there should be no slot; where there is one, close it at once."""
    begin, reason = time.perf_counter(), ""
    messages = video.session(face, portrait, _nothing())
    try:
        async for message in messages:
            assert isinstance(message, Started)
            break
    except TalkingFaceError as error:
        reason = error.reason
    seconds = time.perf_counter() - begin
    await messages.aclose()
    return Refusal(begin, seconds, reason)
