"""Adaptive jitter buffer: delays the start of speech so that later packets arrive in time.

Audio that is played as it arrives has a gap wherever a packet is late. A client that sends ahead of
the clock has no late packets, and nothing of it is delayed. One that sends in real time over a
network with jitter causes one gap; from then on its audio is delayed by half as much again as that
packet was late.
"""

from __future__ import annotations

from collections.abc import Callable

MAX_SECONDS = 0.1  # longest delay; a packet that is later than that followed a pause
_DECAY = 0.97  # of the delay, with each start of speech


class JitterBuffer:
    """Decides when the queued audio of a session may be played."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """
        :param clock: returns the time in seconds.
        """
        self.delay = 0.0  # seconds
        self._clock = clock
        self._playing = False
        self._first_packet: float | None = None  # arrival of the first packet that is held back
        self._underrun: float | None = None  # when the queue became empty in the middle of speech

    def on_packet(self) -> None:
        """Note that audio has arrived."""
        now = self._clock()
        if self._underrun is not None:
            late = now - self._underrun
            if late <= MAX_SECONDS:
                self.delay = max(self.delay, min(1.5 * late, MAX_SECONDS))
            self._underrun = None
        if not self._playing and self._first_packet is None:
            self._first_packet = now

    def ready(self, queued: float, complete: bool) -> bool:
        """Whether the queued audio may be played now.

        :param queued: seconds of audio in the queue.
        :param complete: whether the end of the utterance is among it.
        """
        if self._playing or not queued:
            return True
        waited = self._clock() - (self._first_packet or 0.0)
        if waited < self.delay and queued < MAX_SECONDS and not complete:
            return False
        self._first_packet = None
        self._playing = True
        self.delay *= _DECAY
        return True

    def on_pause(self) -> None:
        """Note that the speech has ended: the next packet is not late."""
        self._playing = False
        self._first_packet = self._underrun = None

    def on_read(self, underrun: bool, complete: bool) -> None:
        """Note that audio was taken from the queue.

        :param underrun: whether the queue held less audio than was due.
        :param complete: whether the end of the utterance was among it.
        """
        if underrun and self._playing:
            self._playing = False
            self._underrun = None if complete else self._clock()
