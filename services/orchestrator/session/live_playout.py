"""A live session's sound: what the client sends, laid on the clock, with silence between.

    feed = PlayoutBuffer(audio_format)
    feed.push(data); feed.end_of_utterance("greeting"); feed.interrupt()
    data, played = feed.due()       # what is to be sent to the stages now, and what ended in it

All that follows sees one unbroken sound that arrives at its own pace, so that idling and speaking
are one and the same. The feed runs a little ahead of the clock, by about what the stages take: a
picture then comes when its time has come, and the first one at once.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from talkingface.contract.errors import ServiceError, invalid_field
from talkingface.orchestrator.media.decoding import PCM_DTYPES, sample_bytes
from talkingface.orchestrator.session.jitter_buffer import JitterBuffer
from talkingface.orchestrator.session.playback_position import PlaybackTracker
from talkingface.v1 import media_pb2 as media
from talkingface.v1 import talking_face_pb2 as talking_face

AHEAD_SECONDS = 0.24
MAX_QUEUED_SECONDS = 60.0
TICK_SECONDS = 0.02
MAX_ID = 64
MAX_WAIT_SECONDS = 0.8  # that sound waits for its pictures
_CATCH_UP_SECONDS = 0.3  # what the stages take to come from their checkpoints to where it goes on
_MAX_PIECE_SECONDS = 1.0
_GRACE_SECONDS = 0.001  # that a tick comes late, so that none comes early


@dataclass(frozen=True)
class PlaybackFinished:
    """An utterance that has been fed to its end, or was interrupted."""

    utterance_id: str
    end: float  # seconds of the session
    seconds: float  # how much of it was fed
    interrupted: bool


class PlayoutBuffer:
    """The sound of one session. Silence is zero bytes in any of the encodings."""

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
        :param position: of the first sound that the client sends; None: `played` is not asked for.
        :param first_sample: number of the first sample to be fed ...
        :param resume_at: ... and seconds of the session until which it is silence.
        :raises ServiceError: FIELD_INVALID for a file, whose pace is not known.
        """
        if audio.encoding not in PCM_DTYPES:
            raise invalid_field("config.audio.encoding", "must be raw PCM for PACING_LIVE")
        self._rate = audio.sample_rate
        self._sample_bytes = sample_bytes(audio)
        self._clock = clock
        self._progress: PlaybackTracker | None = None
        self._begin: float | None = None
        self._queue = bytearray()
        self._jitter = JitterBuffer(clock)
        self._pushed = self._taken = 0  # bytes of the client's
        # Where in these an utterance ends, its name, and the number of the message that said so.
        self._marks: deque[tuple[int, str, int]] = deque()
        self._utterance = 0  # ... and where the present one began
        self._samples = first_sample  # fed, silence included
        self._resume_at = round(resume_at * self._rate)
        if position is not None:
            self._utterance = -position.utterance_bytes
            self._progress = PlaybackTracker(position, self._sample_bytes)
        self._ended = False

    @property
    def finished(self) -> bool:
        """The client has ended, and all that it sent is fed."""
        waiting = len(self._queue) >= self._sample_bytes or self._samples < self._resume_at
        return self._ended and not waiting

    def push(self, data: bytes, number: int = 0) -> None:
        """Take the client's next bytes, cut anywhere, from message `number`.

        :raises ServiceError: AUDIO_TOO_LONG: too far ahead of the clock.
        """
        queued = (len(self._queue) + len(data)) / self._sample_bytes / self._rate
        if queued > MAX_QUEUED_SECONDS:
            raise ServiceError(
                "AUDIO_TOO_LONG",
                f"{queued:.1f} s of audio are waiting, at most {MAX_QUEUED_SECONDS:g} s ahead of "
                "the clock are taken",
            )
        self._queue += data
        self._pushed += len(data)
        self._jitter.pushed()
        if self._progress is not None:
            self._progress.audio(number, len(data))

    def end_of_utterance(self, utterance_id: str, number: int = 0) -> None:
        """What was pushed since the last mark is an utterance; message `number` says so.

        :raises ServiceError: FIELD_INVALID for a long name.
        """
        if len(utterance_id) > MAX_ID:
            raise invalid_field("end_of_utterance.id", f"more than {MAX_ID} characters")
        self._marks.append((self._pushed, utterance_id, number))
        if self._taken == self._pushed:
            self._jitter.paused()

    def end(self) -> None:
        """No more sound comes."""
        self._mark_rest()
        self._ended = True

    def interrupt(self, number: int = 0) -> list[PlaybackFinished]:
        """Drop what is not fed yet, as message `number` says; the utterances that this ends."""
        self._mark_rest()
        cut = []
        for end, utterance_id, _ in self._marks:
            seconds = max(self._taken - self._utterance, 0) / self._sample_bytes / self._rate
            cut.append(PlaybackFinished(utterance_id, self._samples / self._rate, seconds, True))
            self._utterance = end
        self._marks.clear()
        self._queue.clear()
        self._jitter.paused()
        self._taken = self._pushed
        if self._progress is not None:
            self._progress.interrupted(self._taken, number)
        return cut

    def due(self) -> tuple[bytes, list[PlaybackFinished]]:
        """The bytes whose time has come, and the utterances that end in them."""
        now = self._clock()
        if self._begin is None:
            self._begin = now - self._resume_at / self._rate
            if self._resume_at:
                self._begin += _CATCH_UP_SECONDS
        until = int((now - self._begin + AHEAD_SECONDS) * self._rate + 1e-6)
        count = min(max(until - self._samples, 0), int(_MAX_PIECE_SECONDS * self._rate))
        silent = min(count, max(self._resume_at - self._samples, 0))
        if silent:  # what was heard here lies before what the client sends again
            self._samples += silent
            return bytes(silent * self._sample_bytes), []
        queued = len(self._queue) // self._sample_bytes
        whole = self._ended or bool(self._marks)
        spoken = min(count, queued) if self._jitter.lets(queued / self._rate, whole) else 0
        data = bytes(self._queue[: spoken * self._sample_bytes])
        if self._progress is not None:
            self._progress.scheduled(self._samples, self._taken, len(data))
        del self._queue[: len(data)]
        self._taken += len(data)
        ended = []
        while self._marks and self._marks[0][0] - self._taken < self._sample_bytes:
            end, utterance_id, number = self._marks.popleft()
            behind = max(self._taken - end, 0) // self._sample_bytes
            ended.append(
                PlaybackFinished(
                    utterance_id,
                    (self._samples + spoken - behind) / self._rate,
                    (end - self._utterance) / self._sample_bytes / self._rate,
                    False,
                )
            )
            if self._progress is not None:
                self._progress.utterance_ended(self._samples + spoken - behind, end, number)
            self._utterance = end
        self._jitter.fed(spoken < count, whole)
        if self._ended:
            count = spoken  # nothing follows the last word but the end
        self._samples += count
        return data + bytes((count - spoken) * self._sample_bytes), ended

    @property
    def pause(self) -> float:
        """Seconds until `due` should be asked again: at multiples of the tick on the session's
        clock, so that blocks of the stages, which are multiples of it, are complete at once."""
        since = self._clock() - (self._begin or self._clock()) - _GRACE_SECONDS
        return (math.floor(since / TICK_SECONDS + 1e-6) + 1) * TICK_SECONDS - since

    def played(self, seconds: float) -> talking_face.StreamPosition | None:
        """What of the client's messages lies before a moment of the session; it never falls."""
        return None if self._progress is None else self._progress.at(round(seconds * self._rate))

    def _mark_rest(self) -> None:
        """What no mark was told for is an utterance, too."""
        if self._pushed > (self._marks[-1][0] if self._marks else self._utterance):
            self._marks.append((self._pushed, "", -1))
