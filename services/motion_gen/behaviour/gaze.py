"""Where the eyes look when nobody says where.

Saccade sizes A = -6.9 ln(P / 15.7) degrees, P uniform in 1..15, and the direction table are those
of Lee, Badler and Badler, "Eyes Alive" (2002). Gaze aversion comes every 4.0 +- 1.0 s when
speaking and 5.0 +- 1.0 s when listening, for 1.0 +- 0.2 s: 70 % sideways, 10 % up, 20 % down, or
10 / 70 / 20 % while thinking; it begins with an utterance and ends before its end (Andrist, Mutlu
and Gleicher 2013).
"""

from __future__ import annotations

import math

import numpy as np

from talkingface.motion_gen.behaviour.memory import FRAME, Stateful, stream
from talkingface.motion_gen.behaviour.voice import Voice

AVERSION_INTERVAL = {True: (4.0, 1.0), False: (5.0, 1.0)}  # speaking, not
AVERSION_LENGTH = (1.0, 0.2)
AVERSION_AT_ONSET = 0.4  # chance that a speaker looks away as speech begins
AVERSION_AT_PAUSE = 0.3  # chance that a hesitation turns the eyes away
AVERSION_RANGE = (5.0, 15.0)  # degrees
RETURN = 0.16  # seconds from the end of an utterance until the eyes are back
SIDE_UP_DOWN = (0.7, 0.1, 0.2)
THINKING = (0.1, 0.7, 0.2)
DOWNCAST = (0.25, 0.0, 0.75)

# Looking from one of the partner's eyes to the other, or to the mouth.
FIXATION_INTERVAL = (0.9, 0.5)  # median seconds, sigma of the log
FIXATION_SPREAD = 1.1  # degrees
FIXATION_SPREAD_CONTROLLED = 0.4

DIRECTION_DEGREES = tuple(range(0, 360, 45))
DIRECTION_CHANCE = np.array([15.5, 6.5, 17.7, 7.4, 16.8, 7.9, 20.4, 7.8]) / 100.0

Angles = tuple[float, float]  # pitch, yaw in degrees


def saccade_size(rng: np.random.Generator) -> float:
    """Degrees, by the "Eyes Alive" law: 0.3 to 19."""
    return -6.9 * math.log(rng.uniform(1.0, 15.0) / 15.7)


class GazePlanner(Stateful):
    """Moves `away` (off the partner) and `offset` (about the partner's face) in steps: how fast
    an eye gets there is the generator's affair."""

    def __init__(self, seed: int) -> None:
        self.rng = stream(seed, 2)
        self.wait = self._draw_normal(*AVERSION_INTERVAL[False])
        self.left = 0.0
        self.fixation = self._draw_fixation()
        self.away: Angles = (0.0, 0.0)
        self.offset: Angles = (0.0, 0.0)

    def step(
        self, voice: Voice, controlled: bool, shyness: float = 1.0, downcast: float = 0.0
    ) -> Angles:
        """Gaze of the next frame about its base.

        :param controlled: the caller says where to look: only the fixation moves
        :param shyness: factor on how often the eyes turn away
        :param downcast: 0..1, chance that they turn down rather than elsewhere
        """
        self._step_aversion(voice, shyness, downcast)
        self._step_fixation(controlled)
        away = (0.0, 0.0) if controlled else self.away
        return away[0] + self.offset[0], away[1] + self.offset[1]

    def _step_aversion(self, voice: Voice, shyness: float, downcast: float) -> None:
        rng = self.rng
        if self.left > 0.0:
            self.left = min(self.left - FRAME, RETURN) if voice.ended else self.left - FRAME
            if self.left <= 0.0:
                self.away = (0.0, 0.0)
                self.wait = self._draw_normal(*AVERSION_INTERVAL[voice.speaking])
            return
        self.wait -= shyness * FRAME
        hesitates = voice.pause and rng.random() < AVERSION_AT_PAUSE
        begins = voice.onset and rng.random() < AVERSION_AT_ONSET
        if self.wait <= 0.0 or hesitates or begins:
            self.left = self._draw_normal(*AVERSION_LENGTH)
            chances = THINKING if hesitates or begins else SIDE_UP_DOWN
            self.away = self._draw_aversion(DOWNCAST if rng.random() < downcast else chances)

    def _step_fixation(self, controlled: bool) -> None:
        self.fixation -= FRAME
        if self.fixation > 0.0:
            return
        self.fixation = self._draw_fixation()
        spread = FIXATION_SPREAD_CONTROLLED if controlled else FIXATION_SPREAD
        size = abs(self.rng.normal(0.0, spread))
        angle = math.radians(self.rng.choice(DIRECTION_DEGREES, p=DIRECTION_CHANCE))
        self.offset = (0.7 * size * math.sin(angle), size * math.cos(angle))

    def _draw_aversion(self, chances: tuple[float, float, float]) -> Angles:
        rng = self.rng
        size = min(max(saccade_size(rng), AVERSION_RANGE[0]), AVERSION_RANGE[1])
        where = rng.choice(3, p=chances)
        tilt = rng.normal(0.0, 0.25)
        if where == 0:
            sign = 1.0 if rng.random() < 0.5 else -1.0
            return size * math.sin(tilt), sign * size * math.cos(tilt)
        vertical = 0.75 * size if where == 1 else -0.75 * size
        return vertical * math.cos(tilt), size * math.sin(tilt)

    def _draw_fixation(self) -> float:
        median, sigma = FIXATION_INTERVAL
        return float(self.rng.lognormal(math.log(median), sigma))

    def _draw_normal(self, mean: float, deviation: float) -> float:
        return max(0.2 * mean, float(self.rng.normal(mean, deviation)))
