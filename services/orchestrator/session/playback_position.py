"""Where in the client's messages lies what has been played."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import deque
from dataclasses import dataclass

from talkingface.contract.rates import SAMPLE_RATE
from talkingface.v1 import talking_face_pb2 as talking_face

# What a resampler must hear before what it gives is to be used.
_PREROLL_SECONDS = 0.25


@dataclass(frozen=True)
class _Piece:
    number: int
    begin: int  # byte of the whole sound
    end: int
    offset: int  # of `begin` in the message


class SentAudioIndex:
    """Which bytes of sound were in which message of the client."""

    def __init__(self, place: talking_face.Place, begin: int) -> None:
        """
        :param place: from where the client sends ...
        :param begin: ... and the byte of the whole sound that lies there.
        """
        self._pieces: deque[_Piece] = deque()
        self._first = place
        self._end = begin

    def audio(self, number: int, size: int) -> None:
        """A message of sound has come."""
        offset = self._first.bytes if number == self._first.messages else 0
        piece = _Piece(number, self._end, self._end + size, offset)
        self._end = piece.end
        self._pieces.append(piece)

    def place(self, position: int, after: int = -1) -> talking_face.Place:
        """Where a byte is, behind message `after`; what lies before it is forgotten."""
        while len(self._pieces) > 1 and self._pieces[1].begin < position:
            self._pieces.popleft()
        place = talking_face.Place()
        place.CopyFrom(self._first)
        if self._pieces and (piece := self._pieces[0]).begin < position:
            if position < piece.end:
                return talking_face.Place(
                    messages=piece.number, bytes=piece.offset + position - piece.begin
                )
            place = talking_face.Place(messages=piece.number + 1)
        if after >= place.messages:
            place = talking_face.Place(messages=after + 1)
        return place


class PlaybackTracker:
    """How far the client's live sound had been played at each moment of the session."""

    def __init__(self, place: talking_face.Place, sample_bytes: int) -> None:
        """
        :param place: from where the client sends.
        :param sample_bytes: of a sample of all channels.
        """
        self._log = SentAudioIndex(place, 0)
        self._sample_bytes = sample_bytes
        self._fed: deque[tuple[int, int, int]] = deque([(0, 0, 0)])
        self._marks: deque[tuple[int, int, int]] = deque()
        self._after = -1
        self._utterance = -place.utterance_bytes

    def audio(self, number: int, size: int) -> None:
        """A message of sound has come."""
        self._log.audio(number, size)

    def fed(self, begin: int, taken: int, spoken: int) -> None:
        """So many bytes, of which `taken` were taken before, lie on the clock from a sample on."""
        if spoken:
            self._fed.append((begin, taken, spoken))

    def passed(self, end: int, position: int, number: int) -> None:
        """The utterance that message `number` has ended ends at a sample, and at this byte."""
        self._marks.append((end, position, number))

    def interrupted(self, position: int, number: int) -> None:
        """Message `number` has dropped all up to this byte."""
        self._fed = deque([(0, position, 0)])
        self._marks.clear()
        self._after, self._utterance = number, position

    def at(self, sample: int) -> talking_face.Place:
        """The place that has been played at a sample of the session; they never fall."""
        begins = [begin for begin, _, _ in self._fed]
        for _ in range(bisect_right(begins, sample) - 1):
            self._fed.popleft()
        begin, taken, spoken = self._fed[0]
        position = taken + min(spoken, max(sample - begin, 0) * self._sample_bytes)
        while self._marks and self._marks[0][0] <= sample:
            _, self._utterance, number = self._marks.popleft()
            self._after = max(self._after, number)
        place = self._log.place(position, self._after)
        place.utterance_bytes = max(position - self._utterance, 0)
        return place


def preroll(taken: int, rate: int) -> tuple[int, int]:
    """Where to begin again with sound at `rate` so that the resampler gives 16 kHz from `taken` on
    as it did: (sample of the source, sample at 16 kHz), which are one moment."""
    common = math.gcd(rate, SAMPLE_RATE)
    step, voice_step = rate // common, SAMPLE_RATE // common
    back = 0 if rate == SAMPLE_RATE else round(_PREROLL_SECONDS * SAMPLE_RATE)
    steps = max(taken - back, 0) // voice_step
    return steps * step, steps * voice_step
