"""When and how the lids close.

Intervals are log-normal; people blink 26 times a minute in conversation and 17 at rest (Bentivoglio
et al. 1997; normal range in conversation 10.5-32.5, Doughty 2001); spontaneous blinks close
40-47 % faster than they open. Blinks are more frequent at the ends of phrases and with large gaze
shifts (Evinger et al. 1994: most shifts above 30 degrees); here also with stressed syllables.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from talkingface.motion_gen.behaviour.speech import SpeechFrame
from talkingface.motion_gen.behaviour.state import Serializable, random_stream
from talkingface.motion_gen.windows import FRAME_SECONDS

# Blinks a minute, just below the rates measured by Bentivoglio et al.
RATE_SPEAKING = 24.0
RATE_SILENT = 16.0
INTERVAL_SIGMA = 0.6  # standard deviation of the log of the interval
MIN_INTERVAL = 0.45  # seconds, by eye
LARGE_GAZE_SHIFT = 8.0  # degrees, by eye: the planned gaze seldom shifts by 30
GAZE_SHIFT_CHANCE = 0.35  # of a blink with a large gaze shift, by eye
PAUSE_CHANCE = 0.6  # that a blink that is due soon comes at a pause, by eye
DUE_SOON = 0.6  # of the mean interval, by eye
# How long a blink that is due waits for a stressed syllable, in mean intervals, by eye.
MAX_ACCENT_WAIT = 0.25
# Speed of the waiting time during speech, relative to the natural rate: a base, and an increase
# per unit of prominence, by eye. It makes the times of blinks depend on the speech.
PACE_BASE, PACE_PER_PROMINENCE = 0.75, 0.5
FIRST_WAIT_SHARE = (0.1, 0.7)  # range of the share of an interval left as a stream starts, by eye
COMPLETE_SHARE = 0.8  # of blinks that close the eye completely, by eye
PARTIAL_DEPTH = (0.7, 0.95)  # range of the closure of the others, by eye
# Seconds, by eye: 210 to 370 ms in all, as opening takes 1.6 to 2 times as long as closing.
CLOSING_SECONDS, CLOSED_SECONDS = (0.065, 0.1), (0.04, 0.07)
OPENING_PER_CLOSING = (1.6, 2.0)


class Blink(NamedTuple):
    """One blink; times in seconds on the stream's clock."""

    start: float
    closing: float  # duration of each phase
    closed: float
    opening: float
    depth: float  # largest closure, 0..1

    @property
    def end(self) -> float:
        """Time at which the eye is open again."""
        return self.start + self.closing + self.closed + self.opening

    def closure(self, time: float) -> float:
        """Return the lid closure at `time`, 0..depth."""
        since = time - self.start
        if since <= 0.0 or time >= self.end:
            return 0.0
        if since < self.closing:
            phase = since / self.closing
        elif since < self.closing + self.closed:
            phase = 1.0
        else:
            phase = (self.end - time) / self.opening
        return self.depth * 0.5 * (1.0 - math.cos(math.pi * phase))


def draw_blink(rng: np.random.Generator, start: float) -> Blink:
    """Draw a blink of 210 to 370 ms that closes faster than it opens.

    It stays closed for at least a frame, so that the closed eye is visible.
    """
    closing = rng.uniform(*CLOSING_SECONDS)
    complete = rng.random() < COMPLETE_SHARE
    return Blink(
        start=start,
        closing=closing,
        closed=rng.uniform(*CLOSED_SECONDS),
        opening=closing * rng.uniform(*OPENING_PER_CLOSING),
        depth=1.0 if complete else rng.uniform(*PARTIAL_DEPTH),
    )


class BlinkPlanner(Serializable):
    """Plans blinks; a random stream of its own keeps the rate from changing other behaviour."""

    def __init__(self, seed: int) -> None:
        self.rng = random_stream(seed, 1)
        # The waiting time is in units of the mean interval, so that a new rate acts at once. A
        # stream starts somewhere within an interval.
        self.wait = self._draw_wait() * self.rng.uniform(*FIRST_WAIT_SHARE)
        self.blink = Blink(-1.0, 0.0, 0.0, 0.0, 0.0)

    def step(
        self,
        now: float,
        speech: SpeechFrame,
        gaze_shift: float,
        rate: float | None,
        rate_factor: float = 1.0,
    ) -> float:
        """Return the lid closure in the middle of the next frame, 0..1.

        :param now: seconds on the stream's clock
        :param gaze_shift: size of this frame's gaze shift, degrees
        :param rate: blinks a minute; None = natural
        :param rate_factor: factor on the natural rate
        """
        natural = rate is None
        if rate is None:
            rate = rate_factor * (RATE_SPEAKING if speech.speaking else RATE_SILENT)
        pace = (
            PACE_BASE + PACE_PER_PROMINENCE * speech.prominence
            if natural and speech.active
            else 1.0
        )
        self.wait -= pace * rate / 60.0 * FRAME_SECONDS
        if now >= self.blink.end and rate > 0.0 and self._is_due(natural, speech, gaze_shift):
            self.blink = draw_blink(self.rng, now)
            self.wait = max(self._draw_wait(), MIN_INTERVAL * rate / 60.0)
        return self.blink.closure(now + 0.5 * FRAME_SECONDS)

    def _is_due(self, natural: bool, speech: SpeechFrame, gaze_shift: float) -> bool:
        if self.wait <= 0.0 or not natural:
            may_wait = natural and speech.active and self.wait > -MAX_ACCENT_WAIT
            return self.wait <= 0.0 and (speech.accent or not may_wait)
        if gaze_shift > LARGE_GAZE_SHIFT:
            return self.rng.random() < GAZE_SHIFT_CHANCE
        return speech.pause_start and self.wait < DUE_SOON and self.rng.random() < PAUSE_CHANCE

    def _draw_wait(self) -> float:
        """Draw a waiting time, log-normal with mean 1."""
        return float(self.rng.lognormal(-0.5 * INTERVAL_SIGMA**2, INTERVAL_SIGMA))
