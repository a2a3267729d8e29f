"""Decides how the frames of a live session are rendered: at which level, or not at all.

The ladder acts on the load of the renderer, before frames are late. Where the renderer is behind
all the same, because it fails, is overloaded at the lowest level, or because the client does not
read, its frames are dropped.
"""

from __future__ import annotations

import math
import random
import time
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from talkingface.contract.durations import duration
from talkingface.contract.video import RenderLevel
from talkingface.orchestrator.session.ladder import Ladder
from talkingface.v1 import talking_face_pb2 as talking_face

# Motion that the renderer may be sent ahead of its frames; more would only be rendered later.
_MAX_PENDING_SECONDS = 0.32
_REPORT_SECONDS = 1.0  # between two events about dropped frames
_MAX_SPREAD = 1.5  # of the waiting time before a step up


class _PendingMotion(NamedTuple):
    """A chunk of motion that is being rendered."""

    until: float  # end, in seconds of the session
    seconds: float
    level: RenderLevel


class Degradation:
    """The level of a session, and the motion that its renderer works on."""

    def __init__(
        self,
        clock: Callable[[], float] = time.perf_counter,
        begin: float = 0.0,
        level: int = RenderLevel.FULL,
    ) -> None:
        """
        :param clock: returns the time in seconds.
        :param begin: time of the session before which no frames are rendered, in seconds.
        :param level: level to start with, as in `RenderRequest`.
        """
        self._clock = clock
        self._ladder = Ladder(
            RenderLevel(min(level, RenderLevel.HALF_RATE)), random.uniform(1.0, _MAX_SPREAD)
        )
        self._pending: deque[_PendingMotion] = deque()
        self._until = begin  # end of all motion so far
        self._unreported = 0  # dropped frames
        self._reported_at = -_REPORT_SECONDS

    @property
    def level(self) -> RenderLevel:
        """Level at which the next motion is rendered."""
        return self._ladder.level

    def settle(self) -> None:
        """Note that another renderer has taken over: its first frames say nothing."""
        self._ladder.settle()

    def level_for(self, until: float) -> RenderLevel | None:
        """Return the level for the next motion; None to drop it because it would be late.

        It is late if the renderer has not caught up with the motion that it was sent.

        :param until: end of the motion, in seconds of the session.
        """
        length, self._until = until - self._until, until
        if sum(motion.seconds for motion in self._pending) > _MAX_PENDING_SECONDS - 1e-6:
            return None
        self._pending.append(_PendingMotion(until, length, self.level))
        return self.level

    def on_frame(self, until: float, load: float, dropped: int) -> list[talking_face.Event]:
        """Return the events that a frame causes.

        :param until: end of the frame, in seconds of the session; infinite for the end of the
            session.
        :param load: as in `EncodedFrame`.
        :param dropped: number of frames dropped before it.
        """
        rendered_at = self._pending[0].level if self._pending else self.level
        while self._pending and self._pending[0].until <= until + 1e-6:
            self._pending.popleft()
        events = []
        if load:
            reason = self._ladder.observe(load, rendered_at, self._clock())
            if reason is not None:
                events.append(
                    talking_face.Event(
                        kind=talking_face.Event.KIND_LEVEL_CHANGED,
                        time=duration(self._until),
                        level=self.level,
                        level_reason=reason,
                    )
                )
        self._unreported += dropped
        due = self._clock() - self._reported_at >= _REPORT_SECONDS
        if self._unreported and due and math.isfinite(until):
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
