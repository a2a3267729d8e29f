"""When the voice begins to speak and when it falls silent."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from talkingface.contract.rates import ROW_RATE
from talkingface.v1 import talking_face_pb2 as talking_face

SPEAKING = talking_face.Event.KIND_SPEECH_STARTED
IDLE = talking_face.Event.KIND_SPEECH_ENDED

# A voice begins after 60 ms above the upper threshold and ends after 400 ms below the lower one,
# so that single rows and the closures of plosives do not make events.
_UPPER, _LOWER = 0.6, 0.4
_BEGIN_ROWS, _END_ROWS = 3, 20


class VoiceActivity:
    """Turns the probability of voice, row by row at 50 Hz, into events with their time."""

    def __init__(self, row: int = 0, speaking: bool = False, run: int = 0) -> None:
        """
        :param row: the first that comes; the others are the `state` before it.
        """
        self._row = row
        self._speaking = speaking
        self._run = run  # rows on the other side of the threshold

    @property
    def state(self) -> tuple[bool, int]:
        """With the number of the next row, all that there is to remember."""
        return self._speaking, self._run

    def push(self, probability: NDArray[np.float32]) -> list[tuple[talking_face.Event.Kind, float]]:
        """Take the next rows, (n,) in [0, 1].

        :return: (kind, seconds since the first row) for each event.
        """
        events: list[tuple[talking_face.Event.Kind, float]] = []
        for value in probability:
            other_side = value < _LOWER if self._speaking else value > _UPPER
            self._run = self._run + 1 if other_side else 0
            self._row += 1
            if self._run == (_END_ROWS if self._speaking else _BEGIN_ROWS):
                self._speaking = not self._speaking
                kind = SPEAKING if self._speaking else IDLE
                events.append((kind, (self._row - self._run) / ROW_RATE))
                self._run = 0
        return events

    def end(self) -> list[tuple[talking_face.Event.Kind, float]]:
        """The audio is over: a voice that still speaks falls silent."""
        if not self._speaking:
            return []
        self._speaking = False
        return [(IDLE, (self._row - self._run) / ROW_RATE)]
