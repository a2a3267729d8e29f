"""Brows, and lids apart from blinks: raises, frowns, slow waves and idle motion.

Eyebrow raises go with accents of pitch, but not with all of them (Cave et al. 1996: 71 % of rises
of F0 come with one; Flecha-Garcia 2010: raises lead pitch accents by 60 ms on average). Heights and
slow waves are set from measured statistics: nine real speakers move the brow over the eye by 1.0 to
2.1 % of the face's height (standard deviation), most of it below 1 Hz, and hardly with loudness.
All chances, among them those of raises at the start of a phrase, over a rising end and in arousal,
are by eye.
"""

from __future__ import annotations

import math

import numpy as np

from talkingface.contract.arrays import Float32Array
from talkingface.motion_gen.behaviour.actions import Actions
from talkingface.motion_gen.behaviour.emotion import Manner
from talkingface.motion_gen.behaviour.noise import SmoothNoise
from talkingface.motion_gen.behaviour.speech import SpeechFrame
from talkingface.motion_gen.behaviour.state import Serializable, random_stream
from talkingface.motion_gen.canonical_motion import FACE_DIM, FACE_INDEX
from talkingface.motion_gen.easing import spring

RAISE, FROWN = 0, 1
RAISE_CHANCE, FROWN_CHANCE = 0.55, 0.2  # of an accent
PITCH_BONUS = 0.3  # added to the chance of a raise per unit of pitch; half of it off a frown's
PHRASE_RAISE_CHANCE = 0.45  # at the start of a phrase
RISING_END_RAISE_CHANCE = 0.7
PAUSE_FROWN_CHANCE = 0.4
HABIT_SIGMA = 0.35  # deviation of the log of a seed's factors on its chances; by eye
# Log-normal, median and standard deviation of the log: heights as coefficients, for brows that
# move as much as the nine speakers'; seconds at the apex, by eye.
HEIGHT = {RAISE: (0.52, 0.45), FROWN: (0.27, 0.4)}
SHORT_APEX, LONG_APEX = (0.16, 0.5), (0.8, 0.5)
LONG_SHARE = 0.3  # of the raises on accents; by eye
MAX_HEIGHT = 0.9  # coefficient, by eye
ONSET, OFFSET = (0.13, 0.3), (0.25, 0.6)  # seconds of a short, of a long action; by eye
OUTER = 0.7  # height of the outer brow in the inner brow's; equal heights look devilish
RAISE_WIDENS_EYE = 0.15  # coefficient per coefficient, by eye
FROWN_SQUINTS = 0.3  # likewise
TILT = 0.2  # standard deviation of an action's asymmetry, by eye
MAX_DEVIATIONS = 2.0  # at which random numbers are clipped
LOOK_UP = 0.012  # raise per degree of upward gaze, by eye
LOOK_RATE, TILT_RATE = 14.0, 20.0  # 1 / s, by eye
AROUSAL_RAISE = 0.35  # raise per unit of arousal, by eye
# Slow and quick waves, raise above zero and frown below: standard deviations as coefficients and
# frequencies, from the nine speakers.
WAVES, WAVES_HZ = np.array([0.23, 0.11]), np.array([0.22, 0.9])
WAVES_AT_REST = 0.3  # of the waves while silent, by eye
WAVE_FROWN = 0.6  # frown per unit of a wave below zero, by eye
WAVES_RATE = 3.0  # 1 / s at which waves and arousal follow the speech, by eye
# Idle raise, frown and squint: frequencies and coefficients, by eye.
IDLE_HZ = np.array([0.15, 0.2, 0.12])
IDLE = np.array([0.04, 0.03, 0.03])

_COLUMNS = [
    FACE_INDEX[name]
    for name in (
        *("browInnerUp", "browOuterUpLeft", "browOuterUpRight", "eyeWideLeft", "eyeWideRight"),
        *("browDownLeft", "browDownRight", "eyeSquintLeft", "eyeSquintRight"),
    )
]


class BrowPlanner(Serializable):
    """Plans what brows and lids add to the generated face."""

    def __init__(self, seed: int) -> None:
        self.rng = random_stream(seed, 5)
        self.noise = SmoothNoise(self.rng, np.concatenate([IDLE_HZ, WAVES_HZ]))
        self.habit = np.exp(HABIT_SIGMA * self.rng.standard_normal(2))
        self.actions = Actions(2)
        self.tilt = 0.0  # of the last action: more on the left, less on the right
        # Raise with gaze, raise with arousal, size of the waves, tilt.
        self.position, self.velocity = np.zeros((2, 4))
        self.position[2] = WAVES_AT_REST

    def step(self, speech: SpeechFrame, gaze_pitch: float, manner: Manner) -> Float32Array:
        """Return what is added to the face in the next frame, (FACE_DIM,).

        :param speech: speech of the frame
        :param gaze_pitch: degrees, up is positive
        :param manner: effect of the emotion
        """
        self._draw_action(speech, manner)
        raised, frown = self.actions.step()
        targets = np.array([
            LOOK_UP * max(gaze_pitch, 0.0),
            AROUSAL_RAISE * max(speech.arousal, 0.0),
            1.0 if speech.speaking else WAVES_AT_REST,
            self.tilt,
        ])  # fmt: skip
        rates = np.array([LOOK_RATE, WAVES_RATE, WAVES_RATE, TILT_RATE])
        self.position, self.velocity = spring(self.position, self.velocity, targets, rates)
        noise = self.noise.step().clip(-MAX_DEVIATIONS, MAX_DEVIATIONS)
        idle = IDLE * noise[: len(IDLE)] ** 2
        wave = self.position[2] * float(WAVES @ noise[len(IDLE) :])
        lift = raised + self.position[0] + self.position[1] + idle[0] + max(wave, 0.0)
        frown += idle[1] + WAVE_FROWN * max(-wave, 0.0)
        left, right = 1.0 + self.position[3], 1.0 - self.position[3]
        outer, wide = OUTER * lift, RAISE_WIDENS_EYE * raised
        squint = idle[2] + FROWN_SQUINTS * frown
        face = np.zeros(FACE_DIM, np.float32)
        face[_COLUMNS] = (
            *(lift, left * outer, right * outer, left * wide, right * wide),
            *(frown, frown, squint, squint),
        )
        return face

    def _draw_action(self, speech: SpeechFrame, manner: Manner) -> None:
        """Start a raise or a frown by chance at the events of the frame."""
        rng = self.rng
        raises, frowns = self.habit * (manner.raises, manner.frowns)
        if speech.accent:
            raise_draw, frown_draw, long_draw = rng.random(3)
            bonus = PITCH_BONUS * speech.pitch
            if raise_draw < raises * (RAISE_CHANCE + bonus):
                self._begin(RAISE, bool(long_draw < LONG_SHARE))
            elif frown_draw < frowns * (FROWN_CHANCE - 0.5 * bonus):
                self._begin(FROWN, True)
        elif speech.phrase_start:
            if rng.random() < raises * PHRASE_RAISE_CHANCE:
                self._begin(RAISE, True)
        elif speech.rising_end:
            if rng.random() < raises * RISING_END_RAISE_CHANCE:
                self._begin(RAISE, True)
        elif speech.pause_start and rng.random() < frowns * PAUSE_FROWN_CHANCE:
            self._begin(FROWN, True)

    def _begin(self, which: int, is_long: bool) -> None:
        """Start a raise or a frown, and release the other."""
        rng = self.rng
        median, sigma = HEIGHT[which]
        apex, apex_sigma = LONG_APEX if is_long else SHORT_APEX
        height_draw, apex_draw, tilt_draw = rng.standard_normal(3)
        self.actions.release(1 - which, OFFSET[0])
        self.actions.begin(
            which,
            min(median * math.exp(sigma * height_draw), MAX_HEIGHT),
            ONSET[is_long],
            apex * math.exp(apex_sigma * apex_draw),
            OFFSET[is_long],
        )
        self.tilt = TILT * min(max(tilt_draw, -MAX_DEVIATIONS), MAX_DEVIATIONS)
