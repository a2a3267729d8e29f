"""Which pictures of a live session are worth making, and what of its sound has been seen."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable

from talkingface.contract.durations import duration
from talkingface.orchestrator.session.live_playout import PlaybackFinished
from talkingface.v1 import talking_face_pb2 as talking_face

# Motion that the renderer may have at a time; more would only come later.
_MAX_UNDER_WAY_SECONDS = 0.32
_TELL_SECONDS = 1.0  # between two events about pictures left out


class FrameDropper:
    """Which pictures are worth making, and what of the sound has been seen."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter, begin: float = 0.0) -> None:
        """
        :param begin: seconds of the session until which no pictures are made.
        """
        self._clock = clock
        # Motion whose pictures are being made: ends and lengths of its pieces, in seconds.
        self._under_way: deque[tuple[float, float]] = deque()
        self._until = begin  # of all motion
        self._played: deque[PlaybackFinished] = deque()  # fed, and not yet seen
        self._untold = 0
        self._told = -_TELL_SECONDS

    def leave_out(self, until: float) -> bool:
        """Whether pictures of the next motion, up to `until` seconds, would come too late.

        They would where the renderer has not caught up with what it was sent.
        """
        piece, self._until = until - self._until, until
        if sum(seconds for _, seconds in self._under_way) > _MAX_UNDER_WAY_SECONDS - 1e-6:
            return True
        self._under_way.append((until, piece))
        return False

    def play(self, played: list[PlaybackFinished]) -> None:
        """Take note of utterances that the feed has come to the end of."""
        self._played.extend(played)

    def see(self, until: float, left_out: int) -> list[talking_face.Event]:
        """A picture has come; the events that this makes.

        :param until: its end, seconds of the session.
        :param left_out: pictures that were left out before it.
        """
        while self._under_way and self._under_way[0][0] <= until + 1e-6:
            self._under_way.popleft()
        events = []
        while self._played and self._played[0].end <= until:
            events.append(utterance_event(self._played.popleft()))
        self._untold += left_out
        if self._untold and math.isfinite(until) and self._clock() - self._told >= _TELL_SECONDS:
            self._told = self._clock()
            events.append(
                talking_face.Event(
                    kind=talking_face.Event.KIND_FRAMES_DROPPED,
                    time=duration(until),
                    frames=self._untold,
                )
            )
            self._untold = 0
        return events

    def interrupt(self, cut: list[PlaybackFinished], silent: float) -> list[talking_face.Event]:
        """The events of an interruption; what was fed before it comes first.

        :param silent: seconds of the session from which nothing of it is heard.
        """
        events = [utterance_event(_until(silent, played)) for played in (*self._played, *cut)]
        self._played.clear()
        return events


def _until(silent: float, played: PlaybackFinished) -> PlaybackFinished:
    """What was played of an utterance that was interrupted."""
    if played.end <= silent:
        return played
    seconds = max(played.seconds - (played.end - silent), 0.0)
    return PlaybackFinished(played.utterance_id, silent, seconds, True)


def utterance_event(played: PlaybackFinished) -> talking_face.Event:
    """What the client is told of an utterance."""
    return talking_face.Event(
        kind=talking_face.Event.KIND_PLAYBACK_FINISHED,
        time=duration(played.end),
        utterance_id=played.utterance_id,
        played=duration(played.seconds),
        interrupted=played.interrupted,
    )
