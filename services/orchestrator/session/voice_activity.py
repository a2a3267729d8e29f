"""Detects when speech starts and ends."""

from __future__ import annotations

from collections import deque

from talkingface.contract.arrays import Float32Array
from talkingface.contract.rates import ROW_RATE
from talkingface.v1 import talking_face_pb2 as talking_face

SPEECH_STARTED = talking_face.Event.KIND_SPEECH_STARTED
SPEECH_ENDED = talking_face.Event.KIND_SPEECH_ENDED

# Speech starts after 60 ms above the upper threshold and ends after 400 ms below the lower one, so
# that neither single rows nor the closures of plosives cause events.
_UPPER, _LOWER = 0.6, 0.4  # probability
_START_ROWS, _END_ROWS = 3, 20


class VoiceActivity:
    """Turns the probability of speech, row by row at 50 Hz, into timed events."""

    def __init__(self, first_row: int = 0, speaking: bool = False, run_rows: int = 0) -> None:
        """
        :param first_row: index of the first row to arrive.
        :param speaking: first part of the `state` before that row.
        :param run_rows: second part of the `state` before that row.
        """
        self._next_row = first_row
        self._speaking = speaking
        self._run_rows = run_rows  # last rows on the other side of the threshold

    @property
    def state(self) -> tuple[bool, int]:
        """The state, apart from the index of the next row."""
        return self._speaking, self._run_rows

    def push(self, probability: Float32Array) -> list[tuple[talking_face.Event.Kind, float]]:
        """Process the next rows.

        :param probability: (n,) in [0, 1].
        :return: (kind, seconds since the beginning of the session) for each event.
        """
        events: list[tuple[talking_face.Event.Kind, float]] = []
        for value in probability:
            other_side = value < _LOWER if self._speaking else value > _UPPER
            self._run_rows = self._run_rows + 1 if other_side else 0
            self._next_row += 1
            if self._run_rows == (_END_ROWS if self._speaking else _START_ROWS):
                self._speaking = not self._speaking
                kind = SPEECH_STARTED if self._speaking else SPEECH_ENDED
                events.append((kind, (self._next_row - self._run_rows) / ROW_RATE))
                self._run_rows = 0
        return events

    def end(self) -> list[tuple[talking_face.Event.Kind, float]]:
        """Return the events that the end of the audio causes: speech that goes on ends there."""
        if not self._speaking:
            return []
        self._speaking = False
        return [(SPEECH_ENDED, (self._next_row - self._run_rows) / ROW_RATE)]


class VoiceActivityHistory:
    """The states of a `VoiceActivity` after recent rows, for tokens."""

    def __init__(self, initial: tuple[bool, int]) -> None:
        """
        :param initial: state at the start of the session.
        """
        self._initial = initial
        self._states: deque[tuple[int, tuple[bool, int]]] = deque()  # number of rows, state

    def add(self, rows: int, state: tuple[bool, int]) -> None:
        """Add the state after a number of rows."""
        self._states.append((rows, state))

    def after(self, rows: int) -> tuple[bool, int]:
        """Return the state after a number of rows, and drop older ones; it must not decrease."""
        while self._states and self._states[0][0] < rows:
            self._states.popleft()
        if self._states and self._states[0][0] == rows:
            return self._states[0][1]
        return self._initial
