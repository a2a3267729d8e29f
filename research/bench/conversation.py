"""What the client of a live bench sends, with the times at which it did.

Utterances are cut from a recording so that each begins with a steep rise of the level to an open
vowel: its first chunk of 20 ms holds the onset, and lips must part for it. During silence nothing
is sent. The client cycles through these acts:

| act | what is sent |
|---|---|
| talk | an utterance at the pace of speech, then silence |
| interrupt | 4 s of speech at once, interrupted at a loud moment, then silence |
| interrupt and talk on | the same, and at once an utterance at the pace of speech |
| look | with the head still and no blinks: gaze to one side, then to the other |
| turn | likewise, the head to one side, then to the other |
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from talkingface.client import (
    Controls,
    ControlUpdate,
    EndOfUtterance,
    Gaze,
    HeadRotation,
    Interrupt,
)
from talkingface.client import SessionInput as Sent
from talkingface.contract.rates import SAMPLE_RATE

Pcm = NDArray[np.int16]

CHUNK = SAMPLE_RATE // 50  # samples that are sent at a time
PAUSE_SECONDS = 1.3  # silence after each act, at least
# At most so much more silence, at random, so that acts keep no phase to a clock of the server.
_PAUSE_SPREAD = 0.5
_HOP = SAMPLE_RATE // 100  # samples
_QUIET, _LOUD = 0.15, 0.3  # share of the 95th percentile of the level
_OPEN = 0.3  # share of the power at the onset in the band of an open vowel's first formant
_SHORTEST, _LONGEST = 0.9, 1.5  # seconds of an utterance
_INTERRUPTED_SECONDS = 4.0
_LATENCY_SECONDS = 0.25  # from sending to audible, about
GAZE_DEGREES, HEAD_DEGREES = 18.0, 14.0


@dataclass(frozen=True)
class Utterance:
    """An utterance: `samples` in real time from `sent` on, or all at once."""

    sent: float  # `time.perf_counter`, just before the first chunk was sent
    samples: Pcm
    after_interrupt: bool = False
    at_once: bool = False


@dataclass(frozen=True)
class ControlChange:
    """A change of one control, with a pause before and after it."""

    sent: float
    what: str  # "gaze", "head", or "" for a change that only prepares others
    degrees: float = 0.0  # to the viewer's right


@dataclass(frozen=True)
class Interruption:
    """An interrupt: the server drops what is not played yet."""

    sent: float
    talks_on: bool


@dataclass
class SessionTrace:
    """All that the client did in a session, in order."""

    utterances: list[Utterance] = field(default_factory=list)
    control_changes: list[ControlChange] = field(default_factory=list)
    interruptions: list[Interruption] = field(default_factory=list)


def find_utterances(speech: NDArray[np.float32]) -> list[Pcm]:
    """Cut parts of 0.9 to 1.5 s out of a recording, each from a steep rise of the level to a weak
    moment.

    :param speech: (n,) at 16 kHz
    :raises ValueError: the recording has none
    """
    hops = len(speech) // _HOP
    level = np.sqrt(np.mean(np.square(speech[: hops * _HOP].reshape(hops, _HOP)), axis=1))
    level /= max(float(np.percentile(level, 95)), 1e-6)
    shortest, longest = (round(seconds * SAMPLE_RATE / _HOP) for seconds in (_SHORTEST, _LONGEST))
    found, first = [], 4
    while first + longest <= hops:
        rises = level[first - 4 : first].max() < _QUIET < level[first : first + 3].min()
        loud = level[first + 1 : first + 10].mean() > _LOUD
        if rises and loud and _begins_openly(speech[first * _HOP : (first + 10) * _HOP]):
            last = first + shortest + int(level[first + shortest : first + longest].argmin())
            part = speech[first * _HOP : last * _HOP]
            found.append(np.rint(np.clip(part, -1, 1) * 32767).astype("<i2"))
            first += 10
        first += 1
    if not found:
        raise ValueError("the recording has no utterance that begins with a clear onset")
    return found


def _begins_openly(samples: NDArray[np.float32]) -> bool:
    """Whether this is an open vowel: its first formant, above 500 Hz, has more power than what is
    below, and little lies above it."""
    power = np.square(np.abs(np.fft.rfft(samples * np.hanning(len(samples)))))
    hertz = np.fft.rfftfreq(len(samples), 1 / SAMPLE_RATE)
    low, formant = (
        power[(hertz >= begin) & (hertz < end)].sum() / power.sum()
        for begin, end in ((0, 300), (500, 1100))
    )
    return bool(formant > max(_OPEN, low))


class Conversation:
    """The client's side of one session: what to give `TalkingFace.animate` as audio."""

    def __init__(self, speech: NDArray[np.float32], seconds: float, seed: int) -> None:
        """
        :param speech: a recording, (n,) at 16 kHz
        :param seconds: how long to go on; the present act is completed
        :param seed: of the pauses, and the first utterance
        """
        self.trace = SessionTrace()
        self._utterances = find_utterances(speech)
        self._samples = np.rint(np.clip(speech, -1, 1) * 32767).astype("<i2")
        self._random = np.random.default_rng(seed)
        self._next = itertools.count(seed)
        self._until = time.perf_counter() + seconds

    def stop(self) -> None:
        """Send nothing more after the present act."""
        self._until = 0.0

    async def play(self) -> AsyncIterator[Sent]:
        """Yield the messages, each at its time."""
        await asyncio.sleep(PAUSE_SECONDS)
        acts = (self._talk, self._interrupt, self._talk, self._look, self._talk)
        for act in itertools.cycle((*acts, self._interrupt_and_talk_on, self._talk, self._turn)):
            if time.perf_counter() >= self._until:
                return
            async for message in act():
                yield message

    async def _pause(self, extra: float = 0.0) -> None:
        await asyncio.sleep(PAUSE_SECONDS + extra + _PAUSE_SPREAD * float(self._random.random()))

    async def _talk(self) -> AsyncIterator[Sent]:
        async for message in self._speak():
            yield message
        await self._pause()

    async def _speak(self, after_interrupt: bool = False) -> AsyncIterator[Sent]:
        number = next(self._next)
        samples = self._utterances[number % len(self._utterances)]
        begin = time.perf_counter()
        self.trace.utterances.append(Utterance(begin, samples, after_interrupt))
        for i in range(0, len(samples), CHUNK):
            await asyncio.sleep(max(begin + i / SAMPLE_RATE - time.perf_counter(), 0.0))
            yield samples[i : i + CHUNK].tobytes()
        yield EndOfUtterance(id=str(number))

    async def _cut_off(self, talks_on: bool) -> AsyncIterator[Sent]:
        first = self._utterances[next(self._next) % len(self._utterances)]
        length = int(_INTERRUPTED_SECONDS * SAMPLE_RATE)
        samples = np.concatenate([first, np.resize(self._samples, length)])[:length]
        self.trace.utterances.append(Utterance(time.perf_counter(), samples, at_once=True))
        yield samples.tobytes()
        await asyncio.sleep(_LATENCY_SECONDS + self._loud_moment(first))
        self.trace.interruptions.append(Interruption(time.perf_counter(), talks_on))
        yield Interrupt()

    @staticmethod
    def _loud_moment(samples: Pcm) -> float:
        """The middle of the loudest fifth of a second within 0.4..0.9 s."""
        part = np.abs(samples[int(0.3 * SAMPLE_RATE) : int(1.0 * SAMPLE_RATE)].astype(np.float64))
        window = SAMPLE_RATE // 5
        return 0.4 + float(np.convolve(part, np.ones(window), "valid").argmax()) / SAMPLE_RATE

    async def _interrupt(self) -> AsyncIterator[Sent]:
        async for message in self._cut_off(talks_on=False):
            yield message
        await self._pause(0.3)

    async def _interrupt_and_talk_on(self) -> AsyncIterator[Sent]:
        async for message in self._cut_off(talks_on=True):
            yield message
        async for message in self._speak(after_interrupt=True):
            yield message
        await self._pause()

    async def _look(self) -> AsyncIterator[Sent]:
        for degrees in self._sides(GAZE_DEGREES):
            if not degrees:
                yield self._steer("", _STILL)
            else:
                yield self._steer("gaze", Controls(gaze_direction=Gaze(yaw=degrees)), degrees)
            await self._pause()
        yield self._steer("", _FREE)
        await self._pause()

    async def _turn(self) -> AsyncIterator[Sent]:
        for degrees in self._sides(HEAD_DEGREES):
            if not degrees:
                yield self._steer("", _STILL)
            else:
                yield self._steer("head", Controls(head_pose=HeadRotation(yaw=degrees)), degrees)
            await self._pause(0.3)
        yield self._steer("", _FREE)
        await self._pause(0.3)

    def _sides(self, degrees: float) -> tuple[float, float, float]:
        side = degrees if self._random.random() < 0.5 else -degrees
        return 0.0, side, -side

    def _steer(self, what: str, controls: Controls, degrees: float = 0.0) -> Sent:
        self.trace.control_changes.append(ControlChange(time.perf_counter(), what, degrees))
        return ControlUpdate(controls=controls)


_STILL = Controls(gaze_direction=Gaze(), head_motion_scale=0.0, blink_rate=0.0)
_FREE = Controls(natural_gaze={}, head_pose=HeadRotation(), head_motion_scale=1.0, blink_rate=20.0)
