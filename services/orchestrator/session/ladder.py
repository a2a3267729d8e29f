"""Decides at which level the frames of a live session are rendered, before any of them is late.

It is fed with the load of each frame that the renderer has rendered: the share of the time for a
frame that rendering took (`EncodedFrame.load`). With a load of less than 1 a renderer keeps up; its
delay grows with the load, and at 1 its queue begins to grow. So the load rises before a frame is
late. It does not rise where the client or the network stalls, which delay frames as well but which
no level would help.

A step down follows on the sum of what loads exceed the limit by (the CUSUM test for a change): a
small excess leads to it after half a second, a large one after three frames, and two slow frames
never do. Frames that were sent at the level before count by what they would have taken at this one,
so that a second step need not wait for them. A step up follows only after loads from which the
level above can be expected to hold, for some seconds without a break. That time is twice as long
after each step up that did not last.
"""

from __future__ import annotations

from talkingface.contract.video import RenderLevel
from talkingface.v1.talking_face_pb2 import Event

# Limits of the load, by calculation. At 25 frames per second and with two frames in work, a frame
# has 80 ms: at 0.7 it takes 56 ms, 20 ms more than on the machine of the README's figures, where
# audio takes 242 ms to the lips (p95). The bar is 300 ms.
DOWN_LOAD = 0.7
UP_LOAD = 0.5  # expected at the level above
MAX_LOAD = 1.2  # of one frame: anything above counts as this
TOLERANCE = 1.0  # sum of what loads exceed `DOWN_LOAD` by, at which the level is lowered

# Work of a rendered frame. At half the resolution geometry takes 0.58 of the time, but a level that
# is only just held costs two changes, so less is expected and a step up waits for more headroom.
# The frames that are rendered, of all.
_WORK = {RenderLevel.FULL: 1.0, RenderLevel.HALF_RESOLUTION: 0.5, RenderLevel.HALF_RATE: 0.5}
_RENDERED = {RenderLevel.FULL: 1.0, RenderLevel.HALF_RESOLUTION: 1.0, RenderLevel.HALF_RATE: 0.5}

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
        self._mean: float | None = None  # load expected at the level above
        self._headroom_since: float | None = None

    def settle(self) -> None:
        """Ignore the next frames: the renderer starts, or another one takes over."""
        self._ignored_until = None

    def observe(
        self, load: float, rendered_at: RenderLevel, now: float
    ) -> Event.LevelReason | None:
        """Process the load of a frame.

        :param load: as in `EncodedFrame`, above 0.
        :param rendered_at: level at which the frame was rendered.
        :param now: time at which the frame arrived.
        :return: reason for which the level has changed; None if it has not.
        """
        if self._ignored_until is None:
            self._ignored_until = now + SETTLE_SECONDS
        if now < self._ignored_until:
            return None
        expected = min(_expected_load(load, rendered_at, self.level), MAX_LOAD)
        self._excess = max(0.0, self._excess + expected - DOWN_LOAD)
        if self._excess > TOLERANCE and self.level < RenderLevel.HALF_RATE:
            self._step_down(now)
            return Event.LEVEL_REASON_OVERLOAD
        if rendered_at is self.level and self._has_headroom(load, now):
            self._step_to(RenderLevel(self.level - 1))
            self._stepped_up = now
            return Event.LEVEL_REASON_HEADROOM
        return None

    def _has_headroom(self, load: float, now: float) -> bool:
        """Whether there was room for the level above for as long as it must be waited for.

        :param load: of a frame that was rendered at this level.
        """
        if self.level is RenderLevel.FULL:
            return False
        load = min(_expected_load(load, self.level, RenderLevel(self.level - 1)), MAX_LOAD)
        self._mean = load if self._mean is None else self._mean + _SMOOTHING * (load - self._mean)
        if self._mean > UP_LOAD:
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


def _expected_load(load: float, rendered_at: RenderLevel, level: RenderLevel) -> float:
    """Return the mean load of all frames that can be expected at a level.

    :param load: of a frame.
    :param rendered_at: level at which that frame was rendered.
    """
    return load * _WORK[level] / _WORK[rendered_at] * _RENDERED[level]
