"""What the caller of a resumable session has received, so that nothing is delivered twice."""

from __future__ import annotations

import time

from talkingface.client._messages import Message, payload
from talkingface.contract.rates import MOTION_FPS
from talkingface.v1.talking_face_pb2 import (
    AnimateResponse,
    Event,
    Media,
    Motion,
    ResumeToken,
    StreamPosition,
)


class Inbox:
    """Filters the responses of several calls into the messages of one session."""

    def __init__(self) -> None:
        self.token: ResumeToken | None = None  # the last one
        self.position = StreamPosition()  # from which the requests must be sent to another server
        self.next_frame = 0  # index of the next frame
        self.frames = 0  # number of frames received
        self.frame_rate = MOTION_FPS  # frames a second
        self._samples = 0  # audio samples received with frames
        self._last_speech_us = -1  # time of the last speech event, microseconds
        self._interrupted_at: float | None = None  # by `time.perf_counter`

    @property
    def first_needed(self) -> int:
        """Number of the first request that another server may need."""
        return min(self.position.messages, self.token.messages) if self.token is not None else 0

    def interrupt(self) -> None:
        """Record that the server is lost; the next frame is announced by an Event."""
        self._interrupted_at = time.perf_counter()

    def receive(self, response: AnimateResponse, next_sample: int) -> list[Message]:
        """Process a response and return what is new in it.

        :param next_sample: index of the first audio sample of the response
        """
        if response.HasField("resume_token"):
            self.token = response.resume_token
            if self.token.HasField("position"):
                self.position = self.token.position
            return []
        message = payload(response)
        match message:
            case Event():
                return [message] if self._is_new(message) else []
            case Media():
                if not self._receive_media(message, next_sample):
                    return []
            case Motion():
                if not self._receive_motion(message):
                    return []
            case _:
                return [message]
        if self._interrupted_at is None:
            return [message]
        stall, self._interrupted_at = time.perf_counter() - self._interrupted_at, None
        return [self._recovered(stall), message]

    def _receive_media(self, media: Media, next_sample: int) -> bool:
        """Remove known audio and frames from media, and return whether anything is left."""
        known = self._samples - next_sample
        self._samples = max(self._samples, next_sample + sample_count(media))
        if known > 0:
            media.audio = media.audio[2 * known :]
        if media.frame_count and media.first_frame < self.next_frame:
            media.frame_count, media.data = 0, b""
        elif media.frame_count:
            self.next_frame = media.first_frame + media.frame_count
            self.frames += media.frame_count
            self._update_position(media)
        return bool(media.frame_count or media.audio)

    def _receive_motion(self, motion: Motion) -> bool:
        """Remove known frames from motion, and return whether any are left."""
        new = [frame for frame in motion.frames if frame.index >= self.next_frame]
        if not new:
            return False
        if len(new) < len(motion.frames):
            del motion.frames[: len(motion.frames) - len(new)]
        self.next_frame = new[-1].index + 1
        self.frames += len(new)
        self._update_position(motion)
        return True

    def _update_position(self, message: Media | Motion) -> None:
        """Note that audio that was played before the end of these frames is not needed again."""
        if message.HasField("position"):
            self.position = message.position

    def _is_new(self, event: Event) -> bool:
        """Return whether the event is not a repeated one; only speech events are repeated."""
        if event.kind not in (Event.KIND_SPEECH_STARTED, Event.KIND_SPEECH_ENDED):
            return True
        time_us = event.time.ToMicroseconds()
        is_new, self._last_speech_us = (
            time_us > self._last_speech_us,
            max(time_us, self._last_speech_us),
        )
        return is_new

    def _recovered(self, stall: float) -> Event:
        """Create the event that reports an interruption.

        :param stall: seconds without frames
        """
        event = Event(kind=Event.KIND_RECOVERED, stage="orchestrator")
        event.time.FromMicroseconds(self.next_frame * 1_000_000 // self.frame_rate)
        event.stall.FromMicroseconds(round(stall * 1e6))
        return event


def sample_count(media: Media) -> int:
    """Return the number of 16-bit audio samples in media."""
    return len(media.audio) // 2
