"""Brows, and lids beside blinks: raised on some accents, drawn together with effort, never dead.

Eyebrow raises go with accents of pitch, far from all of them (Cave et al. 1996: 71 % of rises of F0
come with one; Flecha-Garcia 2010: raises lead pitch accents by 60 ms on average). Heights and the
slow waves are planned from measured statistics: nine real speakers move the brow over the eye by
1.0 to 2.1 % of the face's height (standard deviation), most of it below 1 Hz, and hardly with
loudness. Raises as a phrase begins, over a rising end and in arousal: their chances are by eye.
"""

from __future__ import annotations

import math

import numpy as np

from talkingface.contract.motion import Array
from talkingface.motion_gen.behaviour.actions import Actions
from talkingface.motion_gen.behaviour.emotion import Manner, template
from talkingface.motion_gen.behaviour.memory import Drift, Stateful, stream
from talkingface.motion_gen.behaviour.voice import Voice
from talkingface.motion_gen.canonical_motion import FACE_INDEX
from talkingface.motion_gen.easing import spring

RAISE, FROWN = 0, 1
RAISE_CHANCE, FROWN_CHANCE = 0.55, 0.2  # of an accent
HIGH_BONUS = 0.3  # more raises, fewer frowns per unit of pitch above the usual
BEGIN_CHANCE = 0.45  # of a raise as a phrase begins
QUESTION_CHANCE = 0.7  # of a raise over a rising end
THINKING_CHANCE = 0.4  # of a slight frown in a pause
HABIT = 0.35  # deviation of the log of how often a seed raises or draws its brows
# Log-normal, median and deviation of the log: heights, and seconds at the apex.
HEIGHT = {RAISE: (0.52, 0.45), FROWN: (0.27, 0.4)}
FLASH, HELD = (0.16, 0.5), (0.8, 0.5)
HELD_SHARE = 0.3  # of the raises on accents that stay
MOST = 0.9
ONSET, OFFSET = (0.13, 0.3), (0.25, 0.6)  # seconds of a flash, of what is held
OUTER = 0.7  # of the raise; the outer brow alone looks devilish
ASYMMETRY = 0.2
LOOK_UP = 0.012  # raise per degree of upward gaze
LOOK_RATE, TILT_RATE = 14.0, 20.0  # 1 / s
AROUSED = 0.35  # raise per unit of arousal
# Slow and quick waves: raised above, drawn down below.
WAVES, WAVES_HZ = np.array([0.23, 0.11]), np.array([0.22, 0.9])
AT_REST = 0.3  # of the waves while silent
TIDE = 3.0  # 1 / s, how fast waves and arousal come and go with the voice
IDLE_HZ = np.array([0.15, 0.2, 0.12])  # raise, frown, squint
IDLE = np.array([0.04, 0.03, 0.03])


class BrowPlanner(Stateful):
    """Adds to the generator's upper face."""

    def __init__(self, seed: int) -> None:
        self.rng = stream(seed, 5)
        self.idle = Drift(self.rng, np.concatenate([IDLE_HZ, WAVES_HZ]))
        self.habit = np.exp(HABIT * self.rng.standard_normal(2))
        self.actions = Actions(2)
        self.tilt = 0.0  # of the last action: left more, right less
        # Raise with the eyes, with arousal, how strong the waves are, tilt.
        self.place, self.speed = np.zeros((2, 4))
        self.place[2] = AT_REST

    def step(self, voice: Voice, gaze_pitch: float, manner: Manner) -> Array:
        """What is added to the face in the next frame: (FACE_DIM,)."""
        self._act(voice, manner)
        raised, frown = self.actions.step()
        follow = np.array([
            LOOK_UP * max(gaze_pitch, 0.0),
            AROUSED * max(voice.arousal, 0.0),
            1.0 if voice.speaking else AT_REST,
            self.tilt,
        ])  # fmt: skip
        rates = np.array([LOOK_RATE, TIDE, TIDE, TILT_RATE])
        self.place, self.speed = spring(self.place, self.speed, follow, rates)
        drifts = np.clip(self.idle.step(), -2.0, 2.0)
        idle = IDLE * drifts[: len(IDLE)] ** 2
        wave = self.place[2] * float(WAVES @ drifts[len(IDLE) :])
        lift = raised + self.place[0] + self.place[1] + idle[0] + max(wave, 0.0)
        frown += idle[1] + 0.6 * max(-wave, 0.0)
        sides = (1.0 + self.place[3], 1.0 - self.place[3])
        face = template({"browOuterUp": OUTER * lift, "eyeWide": 0.15 * raised}, sides)
        face[FACE_INDEX["browInnerUp"]] = lift
        face += template({"browDown": frown, "eyeSquint": idle[2] + 0.3 * frown})
        return face

    def _act(self, voice: Voice, manner: Manner) -> None:
        rng = self.rng
        raises, frowns = self.habit * (manner.raises, manner.frowns)
        if voice.accent:
            up, down, stays = rng.random(3)
            lean = HIGH_BONUS * voice.pitch
            if up < raises * (RAISE_CHANCE + lean):
                self._begin(RAISE, bool(stays < HELD_SHARE))
            elif down < frowns * (FROWN_CHANCE - 0.5 * lean):
                self._begin(FROWN, True)
        elif voice.phrase:
            if rng.random() < raises * BEGIN_CHANCE:
                self._begin(RAISE, True)
        elif voice.question:
            if rng.random() < raises * QUESTION_CHANCE:
                self._begin(RAISE, True)
        elif voice.pause and rng.random() < frowns * THINKING_CHANCE:
            self._begin(FROWN, True)

    def _begin(self, which: int, held: bool) -> None:
        """One raise or frown; it takes the other's place."""
        rng = self.rng
        (median, spread), (apex, apex_spread) = HEIGHT[which], HELD if held else FLASH
        size, length, tilt = rng.standard_normal(3)
        self.actions.release(1 - which, OFFSET[0])
        self.actions.begin(
            which,
            min(median * math.exp(spread * size), MOST),
            ONSET[held],
            apex * math.exp(apex_spread * length),
            OFFSET[held],
        )
        self.tilt = ASYMMETRY * min(max(tilt, -2.0), 2.0)
