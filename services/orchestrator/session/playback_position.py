"""Maps audio that has been played to positions in the client's messages."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import deque
from dataclasses import dataclass

from talkingface.contract.rates import SAMPLE_RATE
from talkingface.v1 import talking_face_pb2 as talking_face

# Audio after which a resampler's output no longer depends on where it started; by experiment.
_PREROLL_SECONDS = 0.25


@dataclass(frozen=True)
class _Chunk:
    number: int
    begin: int  # first byte, counted over all audio
    end: int
    offset: int  # of `begin` in the message


class SentAudioIndex:
    """Which bytes of audio were in which message of the client."""

    def __init__(self, position: talking_face.StreamPosition, begin: int) -> None:
        """
        :param position: where the client starts sending.
        :param begin: byte of the audio at that position.
        """
        self._chunks: deque[_Chunk] = deque()
        self._first = position
        self._end = begin

    def audio(self, number: int, size: int) -> None:
        """Record a message of audio."""
        offset = self._first.bytes if number == self._first.messages else 0
        chunk = _Chunk(number, self._end, self._end + size, offset)
        self._end = chunk.end
        self._chunks.append(chunk)

    def locate(self, byte: int, after: int = -1) -> talking_face.StreamPosition:
        """Return the position of a byte of the audio, behind message `after`.

        Messages before it are forgotten: successive bytes must not decrease.
        """
        while len(self._chunks) > 1 and self._chunks[1].begin < byte:
            self._chunks.popleft()
        found = talking_face.StreamPosition()
        found.CopyFrom(self._first)
        if self._chunks and (chunk := self._chunks[0]).begin < byte:
            if byte < chunk.end:
                return talking_face.StreamPosition(
                    messages=chunk.number, bytes=chunk.offset + byte - chunk.begin
                )
            found = talking_face.StreamPosition(messages=chunk.number + 1)
        if after >= found.messages:
            found = talking_face.StreamPosition(messages=after + 1)
        return found


class PlaybackTracker:
    """How much of the client's live audio has been played at each moment of the session."""

    def __init__(self, position: talking_face.StreamPosition, sample_bytes: int) -> None:
        """
        :param position: where the client starts sending.
        :param sample_bytes: size of one sample of all channels.
        """
        self._index = SentAudioIndex(position, 0)
        self._sample_bytes = sample_bytes
        self._scheduled: deque[tuple[int, int, int]] = deque([(0, 0, 0)])
        self._marks: deque[tuple[int, int, int]] = deque()
        self._after = -1
        self._utterance = -position.utterance_bytes

    def audio(self, number: int, size: int) -> None:
        """Record a message of audio."""
        self._index.audio(number, size)

    def scheduled(self, begin: int, before: int, size: int) -> None:
        """Record that audio lies on the clock.

        :param begin: sample of the session at which it starts.
        :param before: bytes of audio that were scheduled earlier.
        :param size: its size in bytes.
        """
        if size:
            self._scheduled.append((begin, before, size))

    def utterance_ended(self, end: int, byte: int, number: int) -> None:
        """Record that the utterance ended by message `number` ends at a sample and at a byte."""
        self._marks.append((end, byte, number))

    def interrupted(self, byte: int, number: int) -> None:
        """Record that message `number` has discarded all audio up to a byte."""
        self._scheduled = deque([(0, byte, 0)])
        self._marks.clear()
        self._after, self._utterance = number, byte

    def at(self, sample: int) -> talking_face.StreamPosition:
        """Return the position played at a sample of the session; samples must not decrease."""
        begins = [begin for begin, _, _ in self._scheduled]
        for _ in range(bisect_right(begins, sample) - 1):
            self._scheduled.popleft()
        begin, before, size = self._scheduled[0]
        byte = before + min(size, max(sample - begin, 0) * self._sample_bytes)
        while self._marks and self._marks[0][0] <= sample:
            _, self._utterance, number = self._marks.popleft()
            self._after = max(self._after, number)
        position = self._index.locate(byte, self._after)
        position.utterance_bytes = max(byte - self._utterance, 0)
        return position


def preroll(consumed: int, rate: int) -> tuple[int, int]:
    """Return where to restart decoding so that the resampler repeats its output from a sample on.

    :param consumed: sample at 16 kHz from which the output must be the same.
    :param rate: sample rate of the client's audio, in Hz.
    :return: the same moment as a sample at `rate` and as a sample at 16 kHz.
    """
    common = math.gcd(rate, SAMPLE_RATE)
    step, output_step = rate // common, SAMPLE_RATE // common
    back = 0 if rate == SAMPLE_RATE else round(_PREROLL_SECONDS * SAMPLE_RATE)
    steps = max(consumed - back, 0) // output_step
    return steps * step, steps * output_step
