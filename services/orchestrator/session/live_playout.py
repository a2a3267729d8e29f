"""Plays the client's audio in real time and fills gaps with silence.

    playout = PlayoutBuffer(audio_format)
    playout.push(data)
    playout.end_of_utterance("greeting")
    data, finished = playout.pop_due()  # audio to send to the stages now, and what ended in it

The stages receive one continuous stream in real time, so that idling and speaking are the same to
them. The playout runs a little ahead of the clock, by about the time that the stages take: a frame
is then ready when it is due, and the first one at once.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from talkingface.contract.errors import ServiceError, invalid_field
from talkingface.orchestrator.media.decoding import PCM_DTYPES, sample_bytes
from talkingface.orchestrator.session.jitter_buffer import JitterBuffer
from talkingface.orchestrator.session.playback_position import PlaybackTracker
from talkingface.v1 import media_pb2 as media
from talkingface.v1 import talking_face_pb2 as talking_face

AHEAD_SECONDS = 0.24  # of the clock; about the time that the stages take
MAX_QUEUED_SECONDS = 60.0
TICK_SECONDS = 0.02
MAX_ID = 64  # characters of an utterance's identifier
MAX_WAIT_SECONDS = 0.8  # that audio waits for its frames
# Time that the stages take from their checkpoints to the frame at which a session is resumed.
_CATCH_UP_SECONDS = 0.3
_MAX_READ_SECONDS = 1.0  # of audio at a time
_GRACE_SECONDS = 0.001  # by which a tick is late, so that none is early


@dataclass(frozen=True)
class PlaybackFinished:
    """An utterance that has been played to its end, or was interrupted."""

    utterance_id: str
    end: float  # time of its end, in seconds of the session
    seconds: float  # how much of it was played
    interrupted: bool


class _UtteranceEnd(NamedTuple):
    byte: int  # of all bytes that the client has sent
    utterance_id: str
    message: int  # number of the client's message that marks it; -1 if there is none


class PlayoutBuffer:
    """Queues the audio of one session. Silence is zero bytes in any of the encodings."""

    def __init__(
        self,
        audio: media.AudioFormat,
        clock: Callable[[], float] = time.perf_counter,
        position: talking_face.StreamPosition | None = None,
        first_sample: int = 0,
        resume_at: float = 0.0,
    ) -> None:
        """
        :param audio: a checked format.
        :param clock: returns the time in seconds.
        :param position: position of the first audio that the client sends; None if `position_at`
            is not needed.
        :param first_sample: index of the first sample to be played.
        :param resume_at: time of the session before which silence is played, in seconds.
        :raises ServiceError: FIELD_INVALID for a file, which cannot be played in real time.
        """
        if audio.encoding not in PCM_DTYPES:
            raise invalid_field("config.audio.encoding", "must be raw PCM for PACING_LIVE")
        self._rate = audio.sample_rate
        self._sample_bytes = sample_bytes(audio)
        self._clock = clock
        self._tracker: PlaybackTracker | None = None
        self._begin: float | None = None  # time of the clock at the beginning of the session
        self._queue = bytearray()
        self._jitter = JitterBuffer(clock)
        self._pushed = self._popped = 0  # bytes of the client's audio
        self._utterance_ends: deque[_UtteranceEnd] = deque()
        self._utterance_begin = 0  # byte at which the current utterance begins
        self._samples = first_sample  # played, silence included
        self._resume_at = round(resume_at * self._rate)  # samples
        if position is not None:
            self._utterance_begin = -position.utterance_bytes
            self._tracker = PlaybackTracker(position, self._sample_bytes)
        self._ended = False

    @property
    def finished(self) -> bool:
        """Whether the client has ended its audio and all of it is played."""
        waiting = len(self._queue) >= self._sample_bytes or self._samples < self._resume_at
        return self._ended and not waiting

    def push(self, data: bytes, message: int = 0) -> None:
        """Queue the client's next bytes, split at any byte.

        :param message: number of the client's message.
        :raises ServiceError: AUDIO_TOO_LONG if they are too far ahead of the clock.
        """
        queued = (len(self._queue) + len(data)) / self._sample_bytes / self._rate
        if queued > MAX_QUEUED_SECONDS:
            raise ServiceError(
                "AUDIO_TOO_LONG",
                f"{queued:.1f} s of audio are queued, at most {MAX_QUEUED_SECONDS:g} s ahead of "
                "the clock are accepted",
            )
        self._queue += data
        self._pushed += len(data)
        self._jitter.on_packet()
        if self._tracker is not None:
            self._tracker.audio(message, len(data))

    def end_of_utterance(self, utterance_id: str, message: int = 0) -> None:
        """Mark the audio since the last mark as an utterance.

        :param message: number of the client's message.
        :raises ServiceError: FIELD_INVALID if the identifier is too long.
        """
        if len(utterance_id) > MAX_ID:
            raise invalid_field("end_of_utterance.id", f"more than {MAX_ID} characters")
        self._utterance_ends.append(_UtteranceEnd(self._pushed, utterance_id, message))
        if self._popped == self._pushed:
            self._jitter.on_pause()

    def end(self) -> None:
        """Note that no more audio follows."""
        self._close_utterance()
        self._ended = True

    def interrupt(self, message: int = 0) -> list[PlaybackFinished]:
        """Drop the audio that is not played yet.

        :param message: number of the client's message.
        :return: the utterances that this ends.
        """
        self._close_utterance()
        interrupted = []
        now = self._samples / self._rate
        for end in self._utterance_ends:
            played = max(self._popped - self._utterance_begin, 0) / self._sample_bytes / self._rate
            interrupted.append(PlaybackFinished(end.utterance_id, now, played, True))
            self._utterance_begin = end.byte
        self._utterance_ends.clear()
        self._queue.clear()
        self._jitter.on_pause()
        self._popped = self._pushed
        if self._tracker is not None:
            self._tracker.interrupted(self._popped, message)
        return interrupted

    def pop_due(self) -> tuple[bytes, list[PlaybackFinished]]:
        """Remove and return the audio that is due now, and the utterances that end in it."""
        count = self._due_samples()
        before_resume = min(count, max(self._resume_at - self._samples, 0))
        if before_resume:  # the audio of this time is before what the client sends again
            self._samples += before_resume
            return bytes(before_resume * self._sample_bytes), []
        queued = len(self._queue) // self._sample_bytes
        complete = self._ended or bool(self._utterance_ends)
        ready = self._jitter.ready(queued / self._rate, complete)
        speech = min(count, queued) if ready else 0  # samples
        data = bytes(self._queue[: speech * self._sample_bytes])
        if self._tracker is not None:
            self._tracker.scheduled(self._samples, self._popped, len(data))
        del self._queue[: len(data)]
        self._popped += len(data)
        finished = self._pop_finished(self._samples + speech)
        self._jitter.on_read(speech < count, complete)
        if self._ended:
            count = speech  # no silence follows the last audio
        self._samples += count
        return data + bytes((count - speech) * self._sample_bytes), finished

    def seconds_to_tick(self) -> float:
        """Return the seconds until `pop_due` should be called again.

        It should be called at multiples of the tick on the session's clock, so that the chunks of
        the stages, which are multiples of it, are complete at once.
        """
        since = self._clock() - (self._begin or self._clock()) - _GRACE_SECONDS
        return (math.floor(since / TICK_SECONDS + 1e-6) + 1) * TICK_SECONDS - since

    def position_at(self, seconds: float) -> talking_face.StreamPosition | None:
        """Return how much of the client's messages was played at a time; it never decreases.

        :param seconds: time of the session.
        :return: None if the buffer was created without a position.
        """
        return None if self._tracker is None else self._tracker.at(round(seconds * self._rate))

    def _due_samples(self) -> int:
        """Return the number of samples due now; the first call starts the session's clock."""
        now = self._clock()
        if self._begin is None:
            self._begin = now - self._resume_at / self._rate
            if self._resume_at:
                self._begin += _CATCH_UP_SECONDS
        until = int((now - self._begin + AHEAD_SECONDS) * self._rate + 1e-6)
        return min(max(until - self._samples, 0), int(_MAX_READ_SECONDS * self._rate))

    def _pop_finished(self, samples: int) -> list[PlaybackFinished]:
        """Return the utterances that have been played to their end.

        :param samples: samples of the session that are played, without silence that follows.
        """
        finished = []
        while (
            self._utterance_ends
            and self._utterance_ends[0].byte - self._popped < self._sample_bytes
        ):
            end = self._utterance_ends.popleft()
            behind = max(self._popped - end.byte, 0) // self._sample_bytes
            finished.append(
                PlaybackFinished(
                    end.utterance_id,
                    (samples - behind) / self._rate,
                    (end.byte - self._utterance_begin) / self._sample_bytes / self._rate,
                    False,
                )
            )
            if self._tracker is not None:
                self._tracker.utterance_ended(samples - behind, end.byte, end.message)
            self._utterance_begin = end.byte
        return finished

    def _close_utterance(self) -> None:
        """Close trailing unmarked audio as an utterance without an identifier."""
        last = self._utterance_ends[-1].byte if self._utterance_ends else self._utterance_begin
        if self._pushed > last:
            self._utterance_ends.append(_UtteranceEnd(self._pushed, "", -1))
