"""What the client of a live bench says and does, with the moments at which it did.

Utterances are cut from a recording so that each begins with a steep rise of the voice to an open
vowel: its first piece of 20 ms holds the onset, and lips must part for it. Silence is nothing
sent. The acts go round:

| act | what is sent |
|---|---|
| talk | an utterance at the pace of speech, then silence |
| interrupt | speech far ahead of the clock, cut off at a loud moment, then silence |
| interrupt and talk on | the same, and at once an utterance at the pace of speech |
| look | with the head held and no blinks: gaze to one side, then to the other |
| turn | likewise: the head to one side, then to the other |
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

Sound = NDArray[np.int16]

PIECE = SAMPLE_RATE // 50  # samples that are sent at a time
CALM_SECONDS = 1.3  # of silence after everything, at least
_CALM_SPREAD = 0.5  # ... and at most this much more, so that no clock of the server is met
_HOP = SAMPLE_RATE // 100
_QUIET, _LOUD = 0.15, 0.3  # of the voice's level
_OPEN = 0.3  # of the power at the onset: where an open vowel's first formant lies
_SHORTEST, _LONGEST = 0.9, 1.5  # seconds of an utterance
_INTERRUPTED_SECONDS = 4.0
_FLIGHT_SECONDS = 0.25  # from sending to hearing, about
GAZE_DEGREES, HEAD_DEGREES = 18.0, 14.0


@dataclass(frozen=True)
class Said:
    """An utterance: `samples` at the pace of speech from `sent` on, or all at once."""

    sent: float  # `time.perf_counter`, just before the first piece was sent
    samples: Sound
    after_interrupt: bool = False
    at_once: bool = False


@dataclass(frozen=True)
class Steered:
    """A change of one control; `calm` before and after it as long as an act waits."""

    sent: float
    what: str  # "gaze", "head", or "" for what only prepares
    degrees: float = 0.0  # to the viewer's right


@dataclass(frozen=True)
class Interrupted:
    """What was not played yet was dropped."""

    sent: float
    talks_on: bool


@dataclass
class Diary:
    """All that was done in a session, in order."""

    said: list[Said] = field(default_factory=list)
    steered: list[Steered] = field(default_factory=list)
    interrupted: list[Interrupted] = field(default_factory=list)


def utterances(voice: NDArray[np.float32]) -> list[Sound]:
    """Pieces of a recording, 0.9 to 1.5 s, each from a steep rise of the voice to a weak moment.

    :param voice: (n,) at 16 kHz.
    :raises ValueError: there is none.
    """
    hops = len(voice) // _HOP
    level = np.sqrt(np.mean(np.square(voice[: hops * _HOP].reshape(hops, _HOP)), axis=1))
    level /= max(float(np.percentile(level, 95)), 1e-6)
    shortest, longest = (round(seconds * SAMPLE_RATE / _HOP) for seconds in (_SHORTEST, _LONGEST))
    found, first = [], 4
    while first + longest <= hops:
        rises = level[first - 4 : first].max() < _QUIET < level[first : first + 3].min()
        loud = level[first + 1 : first + 10].mean() > _LOUD
        if rises and loud and _begins_openly(voice[first * _HOP : (first + 10) * _HOP]):
            last = first + shortest + int(level[first + shortest : first + longest].argmin())
            piece = voice[first * _HOP : last * _HOP]
            found.append(np.rint(np.clip(piece, -1, 1) * 32767).astype("<i2"))
            first += 10
        first += 1
    if not found:
        raise ValueError("the recording has no utterance that begins with a clear onset")
    return found


def _begins_openly(sound: NDArray[np.float32]) -> bool:
    """Whether this is an open vowel: its first formant, above 500 Hz, stands out from what is
    below, and there is little above it."""
    power = np.square(np.abs(np.fft.rfft(sound * np.hanning(len(sound)))))
    hertz = np.fft.rfftfreq(len(sound), 1 / SAMPLE_RATE)
    low, formant = (
        power[(hertz >= begin) & (hertz < end)].sum() / power.sum()
        for begin, end in ((0, 300), (500, 1100))
    )
    return bool(formant > max(_OPEN, low))


class Conversation:
    """One session's side of the talk: what to give `TalkingFace.animate` as audio."""

    def __init__(self, voice: NDArray[np.float32], seconds: float, seed: int) -> None:
        """
        :param voice: a recording, (n,) at 16 kHz.
        :param seconds: how long to go on; the act that is under way is ended.
        """
        self.diary = Diary()
        self._utterances = utterances(voice)
        self._samples = np.rint(np.clip(voice, -1, 1) * 32767).astype("<i2")
        self._random = np.random.default_rng(seed)
        self._next = itertools.count(seed)
        self._until = time.perf_counter() + seconds

    def stop(self) -> None:
        """Say no more after the present act."""
        self._until = 0.0

    async def play(self) -> AsyncIterator[Sent]:
        """The pieces, each when its time has come."""
        await asyncio.sleep(CALM_SECONDS)
        acts = (self._talk, self._interrupt, self._talk, self._look, self._talk)
        for act in itertools.cycle((*acts, self._interrupt_and_talk_on, self._talk, self._turn)):
            if time.perf_counter() >= self._until:
                return
            async for piece in act():
                yield piece

    async def _calm(self, extra: float = 0.0) -> None:
        await asyncio.sleep(CALM_SECONDS + extra + _CALM_SPREAD * float(self._random.random()))

    async def _talk(self) -> AsyncIterator[Sent]:
        async for piece in self._say():
            yield piece
        await self._calm()

    async def _say(self, after_interrupt: bool = False) -> AsyncIterator[Sent]:
        number = next(self._next)
        samples = self._utterances[number % len(self._utterances)]
        begin = time.perf_counter()
        self.diary.said.append(Said(begin, samples, after_interrupt))
        for i in range(0, len(samples), PIECE):
            await asyncio.sleep(max(begin + i / SAMPLE_RATE - time.perf_counter(), 0.0))
            yield samples[i : i + PIECE].tobytes()
        yield EndOfUtterance(id=str(number))

    async def _interrupted(self, talks_on: bool) -> AsyncIterator[Sent]:
        first = self._utterances[next(self._next) % len(self._utterances)]
        length = int(_INTERRUPTED_SECONDS * SAMPLE_RATE)
        samples = np.concatenate([first, np.resize(self._samples, length)])[:length]
        self.diary.said.append(Said(time.perf_counter(), samples, at_once=True))
        yield samples.tobytes()
        await asyncio.sleep(_FLIGHT_SECONDS + self._loud_moment(first))
        self.diary.interrupted.append(Interrupted(time.perf_counter(), talks_on))
        yield Interrupt()

    @staticmethod
    def _loud_moment(samples: Sound) -> float:
        """The middle of the loudest fifth of a second within 0.4..0.9 s."""
        part = np.abs(samples[int(0.3 * SAMPLE_RATE) : int(1.0 * SAMPLE_RATE)].astype(np.float64))
        window = SAMPLE_RATE // 5
        return 0.4 + float(np.convolve(part, np.ones(window), "valid").argmax()) / SAMPLE_RATE

    async def _interrupt(self) -> AsyncIterator[Sent]:
        async for piece in self._interrupted(talks_on=False):
            yield piece
        await self._calm(0.3)

    async def _interrupt_and_talk_on(self) -> AsyncIterator[Sent]:
        async for piece in self._interrupted(talks_on=True):
            yield piece
        async for piece in self._say(after_interrupt=True):
            yield piece
        await self._calm()

    async def _look(self) -> AsyncIterator[Sent]:
        for degrees in self._sides(GAZE_DEGREES):
            if not degrees:
                yield self._steer("", _HELD)
            else:
                yield self._steer("gaze", Controls(gaze_direction=Gaze(yaw=degrees)), degrees)
            await self._calm()
        yield self._steer("", _FREE)
        await self._calm()

    async def _turn(self) -> AsyncIterator[Sent]:
        for degrees in self._sides(HEAD_DEGREES):
            if not degrees:
                yield self._steer("", _HELD)
            else:
                yield self._steer("head", Controls(head_pose=HeadRotation(yaw=degrees)), degrees)
            await self._calm(0.3)
        yield self._steer("", _FREE)
        await self._calm(0.3)

    def _sides(self, degrees: float) -> tuple[float, float, float]:
        side = degrees if self._random.random() < 0.5 else -degrees
        return 0.0, side, -side

    def _steer(self, what: str, controls: Controls, degrees: float = 0.0) -> Sent:
        self.diary.steered.append(Steered(time.perf_counter(), what, degrees))
        return ControlUpdate(controls=controls)


_HELD = Controls(gaze_direction=Gaze(), head_motion_scale=0.0, blink_rate=0.0)
_FREE = Controls(natural_gaze={}, head_pose=HeadRotation(), head_motion_scale=1.0, blink_rate=20.0)
