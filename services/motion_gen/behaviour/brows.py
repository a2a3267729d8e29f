"""Brows and lids beside blinks: raised on some accents, drawn together with effort, never dead.

Eyebrow raises go with accents of pitch, far from all of them (Cave et al. 1996: 71 % of rises of F0
come with one; Flecha-Garcia 2010: raises lead pitch accents by 60 ms on average). On the recordings
measured here the brows follow the energy with r 0.33 at 0.5-2 Hz.
"""

from __future__ import annotations

import numpy as np

from talkingface.common.motion import Array
from talkingface.motion_gen.behaviour.emotion import Manner, template
from talkingface.motion_gen.behaviour.memory import Drift, Stateful, stream
from talkingface.motion_gen.behaviour.voice import Voice
from talkingface.motion_gen.controls import spring
from talkingface.motion_gen.performance import FACE_INDEX

RAISE_CHANCE, FROWN_CHANCE = 0.35, 0.2  # of an accent
HIGH_BONUS = 0.3  # more raises, fewer frowns per unit of pitch above the usual
THINKING_CHANCE = 0.4  # of a slight frown in a pause
RAISE, FROWN = (-1.25, 0.4), (-1.6, 0.4)  # log-normal heights: mean and deviation of the log
MOST = 0.6
OUTER = 0.7  # of the raise; the outer brow alone looks devilish
RISE, FALL = 22.0, 8.0  # 1 / s
HELD = 4  # frames that a brow stays up at least
ASYMMETRY = 0.2
LOOK_UP = 0.012  # raise per degree of upward gaze
LOOK_RATE, JAW_RATE = 14.0, 8.0
LISTENING = 1.0  # seconds of silence after which a jaw may fall in surprise
IDLE_HZ = np.array([0.15, 0.2, 0.12])  # raise, frown, squint
IDLE = np.array([0.04, 0.03, 0.03])


class BrowPlanner(Stateful):
    """Adds to the generator's upper face."""

    def __init__(self, seed: int) -> None:
        self.rng = stream(seed, 5)
        self.idle = Drift(self.rng, IDLE_HZ)
        # Raise, frown, raise with the eyes, jaw of a silent emotion.
        self.target, self.place, self.speed = np.zeros((3, 4))
        self.held = 0
        self.sides = (1.0, 1.0)

    def step(self, voice: Voice, gaze_pitch: float, manner: Manner) -> Array:
        """What is added to the face in the next frame: (FACE_DIM,)."""
        rng = self.rng
        self.held -= 1
        if voice.accent:
            up, down, height = rng.random(), rng.random(), rng.standard_normal()
            lean = HIGH_BONUS * voice.pitch
            if up < manner.raises * (RAISE_CHANCE + lean):
                self._pull(0, float(np.exp(RAISE[0] + RAISE[1] * height)))
            elif down < manner.frowns * (FROWN_CHANCE - 0.5 * lean):
                self._pull(1, float(np.exp(FROWN[0] + FROWN[1] * height)))
        elif voice.pause and rng.random() < manner.frowns * THINKING_CHANCE:
            self._pull(1, float(np.exp(FROWN[0])))
        elif self.held <= 0:
            self.target[:2] = 0.0
        self.target[2] = LOOK_UP * max(gaze_pitch, 0.0)
        self.target[3] = manner.jaw if voice.silence > LISTENING else 0.0
        rates = np.where(self.target > self.place, RISE, FALL)
        rates[2:] = LOOK_RATE, JAW_RATE if self.target[3] > 0 else RISE
        self.place, self.speed = spring(self.place, self.speed, self.target, rates)
        idle = IDLE * np.minimum(self.idle.step() ** 2, 4.0)
        lift = self.place[0] + self.place[2] + idle[0]
        frown = self.place[1] + idle[1]
        face = template({"browOuterUp": OUTER * lift, "eyeWide": 0.15 * self.place[0]}, self.sides)
        face[FACE_INDEX["browInnerUp"]] = lift
        face += template({"browDown": frown, "eyeSquint": idle[2] + 0.3 * self.place[1]})
        face[FACE_INDEX["jawOpen"]] = self.place[3]
        return face

    def _pull(self, which: int, height: float) -> None:
        self.target[:2] = 0.0
        self.target[which] = min(height, MOST)
        self.held = HELD
        tilt = ASYMMETRY * float(np.clip(self.rng.standard_normal(), -2, 2))
        self.sides = (1.0 + tilt, 1.0 - tilt)
