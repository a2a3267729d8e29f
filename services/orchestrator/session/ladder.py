"""Decides at which level the frames of a live session are rendered, before any of them is late.

It is fed with the load of each frame that the renderer has rendered: the share of the time for a
frame that rendering took (`EncodedFrame.load`). With a load of less than 1 a renderer keeps up; its
delay grows with the load, and at 1 its queue begins to grow. So the load rises before a frame is
late. It does not rise where the client or the network stalls, which delay frames as well but which
no level would help.

A step down follows on the sum of what loads exceed the limit by (the CUSUM test for a change): a
small excess leads to it after half a second, a large one after three frames, and two slow frames
never do. A step up follows only after loads from which the level above can be expected to hold, for
some seconds without a break. That time is twice as long after each step up that did not last.
"""

from __future__ import annotations

from talkingface.contract.video import RenderLevel
from talkingface.v1.talking_face_pb2 import Event

# Limits of the load, by calculation. At 25 frames per second and with two frames in work, a frame
# has 80 ms: at 0.7 it takes 56 ms, 20 ms more than on the machine of the README's figures, where
# audio takes 280 ms to the lips (p95). The bar is 300 ms.
DOWN_LOAD = 0.7
UP_LOAD = 0.5  # expected at the level above
MAX_LOAD = 1.2  # of one frame: anything above counts as this
TOLERANCE = 1.0  # sum of what loads exceed `DOWN_LOAD` by, at which the level is lowered

# Work of a frame at the level above, relative to this one; by design, as half the resolution is a
# quarter of the pixels but not of the work.
_WORK_ABOVE = {RenderLevel.HALF_RESOLUTION: 2.0, RenderLevel.HALF_RATE: 2.0}

# Seconds, by eye.
SETTLE_SECONDS = 0.4  # after a start: the first frames load the portrait and catch up
MIN_WAIT, MAX_WAIT = 5.0, 80.0  # before a step up
_SMOOTHING = 0.1  # weight of a frame in the mean load that a step up is judged by


class Ladder:
    """The level of one session. Times are in seconds, of any clock that does not stop."""

    def __init__(self, level: RenderLevel = RenderLevel.FULL, spread: float = 1.0) -> None:
        """
        :param level: level to start with.
        :param spread: factor on the waiting time before a step up, at least 1. It should differ
            between sessions, so that those of one renderer do not all step up at once.
        """
        self.level = level
        self._spread = spread
        self._wait = MIN_WAIT
        self._stepped_up: float | None = None  # time of the last step up
        self._ignored_until: float | None = None  # None: to be set with the next frame
        self._excess = 0.0
        self._mean: float | None = None  # load
        self._headroom_since: float | None = None

    def settle(self) -> None:
        """Ignore the next frames: the renderer starts, or another one takes over."""
        self._ignored_until = None

    def observe(self, load: float, now: float) -> Event.LevelReason | None:
        """Process the load of a frame that was rendered at this level.

        :param load: as in `EncodedFrame`, above 0.
        :param now: time at which the frame arrived.
        :return: reason for which the level has changed; None if it has not.
        """
        if self._ignored_until is None:
            self._ignored_until = now + SETTLE_SECONDS
        if now < self._ignored_until:
            return None
        if self.level is RenderLevel.HALF_RATE:
            load /= 2  # every other frame is rendered
        load = min(load, MAX_LOAD)
        self._excess = max(0.0, self._excess + load - DOWN_LOAD)
        self._mean = load if self._mean is None else self._mean + _SMOOTHING * (load - self._mean)
        if self._excess > TOLERANCE and self.level < RenderLevel.HALF_RATE:
            self._step_down(now)
            return Event.LEVEL_REASON_OVERLOAD
        if self._has_headroom(self._mean, now):
            self._step_to(RenderLevel(self.level - 1))
            self._stepped_up = now
            return Event.LEVEL_REASON_HEADROOM
        return None

    def _has_headroom(self, mean: float, now: float) -> bool:
        """Whether there was room for the level above for as long as it must be waited for."""
        if self.level is RenderLevel.FULL or mean * _WORK_ABOVE[self.level] > UP_LOAD:
            self._headroom_since = None
            return False
        if self._headroom_since is None:
            self._headroom_since = now
        return now - self._headroom_since >= self._wait * self._spread

    def _step_down(self, now: float) -> None:
        if self._stepped_up is not None:
            # Where the level held for less than twice the wait, the wait is doubled. So a machine
            # that cannot hold a level is asked more and more rarely.
            failed = now - self._stepped_up < 2 * self._wait * self._spread
            self._wait = min(2 * self._wait, MAX_WAIT) if failed else MIN_WAIT
            self._stepped_up = None
        self._step_to(RenderLevel(self.level + 1))

    def _step_to(self, level: RenderLevel) -> None:
        self.level = level
        self._excess = 0.0
        self._mean = self._headroom_since = None
