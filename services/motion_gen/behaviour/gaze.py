"""Natural gaze: fixations on the viewer's face, and gaze aversion.

Saccade sizes A = -6.9 ln(P / 15.7) degrees, P uniform in 1..15, and the direction table are those
of Lee, Badler and Badler, "Eyes Alive" (2002). Gaze aversion occurs every 4.0 +- 1.0 s when
speaking and 5.0 +- 1.0 s when listening, for 1.0 +- 0.2 s: 70 % sideways, 10 % up, 20 % down, or
10 / 70 / 20 % while thinking; it begins with an utterance and ends before its end (Andrist, Mutlu
and Gleicher 2013).
"""

from __future__ import annotations

import math

import numpy as np

from talkingface.motion_gen.behaviour.speech import SpeechFrame
from talkingface.motion_gen.behaviour.state import Serializable, random_stream
from talkingface.motion_gen.windows import FRAME_SECONDS

# Seconds, mean and standard deviation, after Andrist et al.
AVERSION_INTERVAL_SPEAKING = (4.0, 1.0)
AVERSION_INTERVAL_SILENT = (5.0, 1.0)
AVERSION_LENGTH = (1.0, 0.2)
AVERSION_AT_ONSET = 0.4  # chance of an aversion as an utterance starts, by eye
AVERSION_AT_PAUSE = 0.3  # chance of an aversion at a pause, by eye
AVERSION_RANGE = (5.0, 15.0)  # degrees to which saccade sizes are clipped, by eye
RETURN_SECONDS = 0.16  # from the end of an utterance until the eyes are back, by eye
# Chances of a direction: sideways, up, down. The first two after Andrist et al., the last by eye.
NORMAL_DIRECTIONS = (0.7, 0.1, 0.2)
THINKING_DIRECTIONS = (0.1, 0.7, 0.2)
DOWNCAST_DIRECTIONS = (0.25, 0.0, 0.75)
DIRECTION_SPREAD = 0.25  # radians, standard deviation about a direction, by eye
VERTICAL_FACTOR = 0.75  # on the size of an aversion up or down, by eye

# Fixations: from one of the viewer's eyes to the other, or to the mouth; by eye.
FIXATION_INTERVAL = (0.9, 0.5)  # seconds, median and standard deviation of the log
FIXATION_SPREAD = 1.1  # degrees, standard deviation
FIXATION_SPREAD_CONTROLLED = 0.4
FIXATION_VERTICAL_FACTOR = 0.7

DIRECTION_DEGREES = tuple(range(0, 360, 45))
DIRECTION_CHANCE = np.array([15.5, 6.5, 17.7, 7.4, 16.8, 7.9, 20.4, 7.8]) / 100.0  # "Eyes Alive"

Angles = tuple[float, float]  # pitch, yaw in degrees


def saccade_size(rng: np.random.Generator) -> float:
    """Draw a saccade size in degrees, 0.3 to 19, by the "Eyes Alive" law."""
    return -6.9 * math.log(rng.uniform(1.0, 15.0) / 15.7)


class GazePlanner(Serializable):
    """Plans gaze in steps: `aversion` from the viewer, and `fixation` about the viewer's face.

    The generator decides how fast the eyes follow.
    """

    def __init__(self, seed: int) -> None:
        self.rng = random_stream(seed, 2)
        self.aversion_wait = self._draw_normal(*AVERSION_INTERVAL_SILENT)  # seconds
        self.aversion_left = 0.0  # seconds
        self.fixation_left = self._draw_fixation()  # seconds
        self.aversion: Angles = (0.0, 0.0)
        self.fixation: Angles = (0.0, 0.0)

    def step(
        self, speech: SpeechFrame, controlled: bool, shyness: float = 1.0, downcast: float = 0.0
    ) -> Angles:
        """Return the gaze of the next frame relative to its base direction.

        :param speech: speech of the frame
        :param controlled: whether the caller sets the base direction: then there are only fixations
        :param shyness: factor on how often the eyes turn away
        :param downcast: 0..1, chance that they turn down rather than elsewhere
        """
        self._step_aversion(speech, shyness, downcast)
        self._step_fixation(controlled)
        aversion = (0.0, 0.0) if controlled else self.aversion
        return aversion[0] + self.fixation[0], aversion[1] + self.fixation[1]

    def _step_aversion(self, speech: SpeechFrame, shyness: float, downcast: float) -> None:
        rng = self.rng
        if self.aversion_left > 0.0:
            left = self.aversion_left - FRAME_SECONDS
            self.aversion_left = min(left, RETURN_SECONDS) if speech.utterance_end else left
            if self.aversion_left <= 0.0:
                self.aversion = (0.0, 0.0)
                self.aversion_wait = self._draw_normal(
                    *(AVERSION_INTERVAL_SPEAKING if speech.speaking else AVERSION_INTERVAL_SILENT)
                )
            return
        self.aversion_wait -= shyness * FRAME_SECONDS
        hesitates = speech.pause_start and rng.random() < AVERSION_AT_PAUSE
        starts = speech.utterance_start and rng.random() < AVERSION_AT_ONSET
        if self.aversion_wait <= 0.0 or hesitates or starts:
            self.aversion_left = self._draw_normal(*AVERSION_LENGTH)
            chances = THINKING_DIRECTIONS if hesitates or starts else NORMAL_DIRECTIONS
            self.aversion = self._draw_aversion(
                DOWNCAST_DIRECTIONS if rng.random() < downcast else chances
            )

    def _step_fixation(self, controlled: bool) -> None:
        self.fixation_left -= FRAME_SECONDS
        if self.fixation_left > 0.0:
            return
        self.fixation_left = self._draw_fixation()
        spread = FIXATION_SPREAD_CONTROLLED if controlled else FIXATION_SPREAD
        size = abs(self.rng.normal(0.0, spread))
        angle = math.radians(self.rng.choice(DIRECTION_DEGREES, p=DIRECTION_CHANCE))
        self.fixation = (
            FIXATION_VERTICAL_FACTOR * size * math.sin(angle),
            size * math.cos(angle),
        )

    def _draw_aversion(self, chances: tuple[float, float, float]) -> Angles:
        """Draw an aversion.

        :param chances: of a direction sideways, up and down
        """
        rng = self.rng
        size = min(max(saccade_size(rng), AVERSION_RANGE[0]), AVERSION_RANGE[1])
        direction = rng.choice(3, p=chances)
        tilt = rng.normal(0.0, DIRECTION_SPREAD)
        if direction == 0:
            sign = 1.0 if rng.random() < 0.5 else -1.0
            return size * math.sin(tilt), sign * size * math.cos(tilt)
        vertical = VERTICAL_FACTOR * size if direction == 1 else -VERTICAL_FACTOR * size
        return vertical * math.cos(tilt), size * math.sin(tilt)

    def _draw_fixation(self) -> float:
        """Draw the length of a fixation in seconds."""
        median, sigma = FIXATION_INTERVAL
        return float(self.rng.lognormal(math.log(median), sigma))

    def _draw_normal(self, mean: float, deviation: float) -> float:
        """Draw seconds, at least a fifth of the mean."""
        return max(0.2 * mean, float(self.rng.normal(mean, deviation)))
