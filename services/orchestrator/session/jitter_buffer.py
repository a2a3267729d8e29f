"""How long the first sound after silence waits, so that none is lacking in the words that follow.

Sound that is fed as it comes has a hole wherever a piece comes late. A client that sends ahead
has no late pieces and waits for nothing; one that sends at the pace of speech over an uneven way
makes one hole, and from then on its sound is held back by half as much again as it was late.
"""

from __future__ import annotations

from collections.abc import Callable

MAX_SECONDS = 0.1  # that sound is held back; what is lacking for longer was a pause
_KEPT = 0.97  # of the hold, from one beginning to the next


class JitterBuffer:
    """The state of one session."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.hold = 0.0  # seconds
        self._clock = clock
        self._speaking = False
        self._came: float | None = None  # when the sound came that is held back
        self._dried: float | None = None  # when there was suddenly no more

    def pushed(self) -> None:
        """Sound has come."""
        now = self._clock()
        if self._dried is not None:
            late = now - self._dried
            if late <= MAX_SECONDS:
                self.hold = max(self.hold, min(1.5 * late, MAX_SECONDS))
            self._dried = None
        if not self._speaking and self._came is None:
            self._came = now

    def lets(self, queued: float, whole: bool) -> bool:
        """Whether sound may be fed now.

        :param queued: seconds that wait.
        :param whole: True where the end of the words is among them.
        """
        if self._speaking or not queued:
            return True
        waited = self._clock() - (self._came or 0.0)
        if waited < self.hold and queued < MAX_SECONDS and not whole:
            return False
        self._came = None
        self._speaking = True
        self.hold *= _KEPT
        return True

    def paused(self) -> None:
        """The words have ended: what comes next is not late."""
        self._speaking = False
        self._came = self._dried = None

    def fed(self, lacking: bool, whole: bool) -> None:
        """Sound was fed.

        :param lacking: True where there was less than was due ...
        :param whole: ... because the words ended there.
        """
        if lacking and self._speaking:
            self._speaking = False
            self._dried = None if whole else self._clock()
