"""Decides which frames of a live session to drop, and reports utterances that were shown."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable

from talkingface.contract.durations import duration
from talkingface.orchestrator.session.live_playout import PlaybackFinished
from talkingface.v1 import talking_face_pb2 as talking_face

# Motion that the renderer may be sent ahead of its frames; more would only be rendered later.
_MAX_PENDING_SECONDS = 0.32
_REPORT_SECONDS = 1.0  # between two events about dropped frames


class FrameDropper:
    """Drops frames where the renderer is late, and pairs utterances with the frames shown."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter, begin: float = 0.0) -> None:
        """
        :param clock: returns the time in seconds.
        :param begin: time of the session before which no frames are rendered, in seconds.
        """
        self._clock = clock
        # Motion that is being rendered: end and length of each chunk, in seconds.
        self._pending: deque[tuple[float, float]] = deque()
        self._until = begin  # end of all motion so far
        self._played: deque[PlaybackFinished] = deque()  # not shown to their end yet
        self._unreported = 0  # dropped frames
        self._reported_at = -_REPORT_SECONDS

    def should_drop(self, until: float) -> bool:
        """Whether the next motion should not be rendered because its frames would be late.

        They are late if the renderer has not caught up with the motion that it was sent.

        :param until: end of the motion, in seconds of the session.
        """
        length, self._until = until - self._until, until
        if sum(seconds for _, seconds in self._pending) > _MAX_PENDING_SECONDS - 1e-6:
            return True
        self._pending.append((until, length))
        return False

    def on_playback(self, played: list[PlaybackFinished]) -> None:
        """Note utterances that have been played out to the stages."""
        self._played.extend(played)

    def on_frame(self, until: float, dropped: int) -> list[talking_face.Event]:
        """Return the events that a frame causes.

        :param until: end of the frame, in seconds of the session.
        :param dropped: number of frames dropped before it.
        """
        while self._pending and self._pending[0][0] <= until + 1e-6:
            self._pending.popleft()
        events = []
        while self._played and self._played[0].end <= until:
            events.append(playback_event(self._played.popleft()))
        self._unreported += dropped
        if (
            self._unreported
            and math.isfinite(until)
            and self._clock() - self._reported_at >= _REPORT_SECONDS
        ):
            self._reported_at = self._clock()
            events.append(
                talking_face.Event(
                    kind=talking_face.Event.KIND_FRAMES_DROPPED,
                    time=duration(until),
                    frames=self._unreported,
                )
            )
            self._unreported = 0
        return events

    def interrupt(
        self, interrupted: list[PlaybackFinished], silent: float
    ) -> list[talking_face.Event]:
        """Return the events of an interruption, oldest utterance first.

        :param interrupted: utterances that had not been played out to their end.
        :param silent: time of the session from which the output is silent, in seconds.
        """
        utterances = (*self._played, *interrupted)
        events = [playback_event(_cut_at(silent, played)) for played in utterances]
        self._played.clear()
        return events


def _cut_at(silent: float, played: PlaybackFinished) -> PlaybackFinished:
    """Return how much of an utterance was played where the output is silent from a time on."""
    if played.end <= silent:
        return played
    seconds = max(played.seconds - (played.end - silent), 0.0)
    return PlaybackFinished(played.utterance_id, silent, seconds, True)


def playback_event(played: PlaybackFinished) -> talking_face.Event:
    """Return the event that reports how much of an utterance was played."""
    return talking_face.Event(
        kind=talking_face.Event.KIND_PLAYBACK_FINISHED,
        time=duration(played.end),
        utterance_id=played.utterance_id,
        played=duration(played.seconds),
        interrupted=played.interrupted,
    )
