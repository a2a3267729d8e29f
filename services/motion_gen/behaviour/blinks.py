"""When and how the lids close.

Intervals are log-normal, 26 a minute in conversation and 17 at rest (Bentivoglio et al. 1997;
normal range in conversation 10.5-32.5, Doughty 2001); spontaneous blinks close 40-47 % faster
than they open. Blinks come more often at the ends of phrases and with large gaze shifts (Evinger
et al. 1994: most shifts above 30 degrees); here, too, with stressed
syllables.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from talkingface.motion_gen.behaviour.memory import FRAME, Stateful, stream
from talkingface.motion_gen.behaviour.voice import Voice

RATE_SPEAKING = 24.0  # a minute
RATE_SILENT = 16.0
SIGMA = 0.6  # of the log of the interval
MIN_INTERVAL = 0.45  # seconds
LARGE_SHIFT = 8.0  # degrees
WITH_SHIFT = 0.35  # chance of a blink with a large gaze shift
AT_PAUSE = 0.6  # chance that a blink due soon comes at a pause
DUE_SOON = 0.6  # of the mean interval
PATIENCE = 0.25  # of the mean interval: so long a blink that is due waits for a stressed syllable
# How fast the wait runs while the voice is heard, against the natural rate: unstressed, and more
# with prominence. So a blink comes elsewhere when something else is said.
UNSTRESSED, STRESSED = 0.75, 0.5
FIRST = (0.1, 0.7)  # shares of an interval between which one is left as a stream begins
COMPLETE = 0.8  # share of blinks that shut the eye


class Blink(NamedTuple):
    """One blink; times in seconds on the stream's clock."""

    start: float
    closing: float
    closed: float
    opening: float
    depth: float

    @property
    def end(self) -> float:
        return self.start + self.closing + self.closed + self.opening

    def closure(self, time: float) -> float:
        """Planned lid closure at `time`, 0..depth."""
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
    """A blink of 210 to 370 ms that closes faster than it opens.

    It stays shut for a frame at least, so that one sees it shut.
    """
    closing = rng.uniform(0.065, 0.1)
    complete = rng.random() < COMPLETE
    return Blink(
        start=start,
        closing=closing,
        closed=rng.uniform(0.04, 0.07),
        opening=closing * rng.uniform(1.6, 2.0),
        depth=1.0 if complete else rng.uniform(0.7, 0.95),
    )


class BlinkPlanner(Stateful):
    """Draws from its own stream, so that a change of the rate leaves all else as it was."""

    def __init__(self, seed: int) -> None:
        self.rng = stream(seed, 1)
        # Intervals are in units of the mean, so that a new rate acts at once. A stream begins
        # somewhere within an interval.
        self.wait = self._draw_wait() * self.rng.uniform(*FIRST)
        self.blink = Blink(-1.0, 0.0, 0.0, 0.0, 0.0)

    def step(
        self, now: float, voice: Voice, shift: float, rate: float | None, haste: float = 1.0
    ) -> float:
        """Lid closure 0..1 in the middle of the next frame.

        :param now: seconds on the stream's clock
        :param shift: size of this frame's gaze shift, degrees
        :param rate: blinks a minute; None = natural
        :param haste: factor on the natural rate
        """
        natural = rate is None
        if rate is None:
            rate = haste * (RATE_SPEAKING if voice.speaking else RATE_SILENT)
        pace = UNSTRESSED + STRESSED * voice.prominence if natural and voice.heard else 1.0
        self.wait -= pace * rate / 60.0 * FRAME
        if now >= self.blink.end and rate > 0.0 and self._due(natural, voice, shift):
            self.blink = draw_blink(self.rng, now)
            self.wait = max(self._draw_wait(), MIN_INTERVAL * rate / 60.0)
        return self.blink.closure(now + 0.5 * FRAME)

    def _due(self, natural: bool, voice: Voice, shift: float) -> bool:
        if self.wait <= 0.0 or not natural:
            patient = natural and voice.heard and self.wait > -PATIENCE
            return self.wait <= 0.0 and (voice.accent or not patient)
        if shift > LARGE_SHIFT:
            return self.rng.random() < WITH_SHIFT
        return voice.pause and self.wait < DUE_SOON and self.rng.random() < AT_PAUSE

    def _draw_wait(self) -> float:
        """Log-normal with mean 1."""
        return float(self.rng.lognormal(-0.5 * SIGMA**2, SIGMA))
