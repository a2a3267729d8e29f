"""The lips between phrases and in silence: breathe, settle, press, lick, swallow.

In a pause the lips part for a breath; then they close, or stay ajar until the silence is long, and
settle shut. Idle lips stay shut except for an occasional press, lick or swallow. All of it yields
within a tenth of a second when speech returns, so that a closure at the start of a phrase holds. A
speaker who is cut off, as by an interruption, shuts the mouth: no breath follows.
The encoder hears a breath as silence, so it is placed at the end of the phrase. Sizes are set from
a measured statistic: in silences of 300 ms or more the opening of real lips, over the distance of
the outer corners of the eyes, has a median absolute deviation of 0.026 (THEval, CVPR 2026, 85 000
videos). Chances, rates and lengths: by eye.
"""

from __future__ import annotations

import math

import numpy as np

from talkingface.contract.arrays import Float32Array
from talkingface.motion_gen.behaviour.actions import Actions
from talkingface.motion_gen.behaviour.emotion import template
from talkingface.motion_gen.behaviour.speech import SpeechFrame
from talkingface.motion_gen.behaviour.state import Serializable, random_stream
from talkingface.motion_gen.windows import FRAME_SECONDS

BREATH, AJAR, PRESS, LICK, SWALLOW = range(5)
# Coefficients at size 1. Parted lips are 0.05 of the distance of the eyes' outer corners apart. In
# the other shapes `jawOpen` makes room for lips that are rolled in or pressed, so that they meet
# without overlapping.
PARTED = {"jawOpen": 0.12, "mouthLowerDown": 0.15, "mouthUpperUp": 0.12}
SHAPES = (
    PARTED,
    PARTED,
    {"mouthPress": 0.5, "mouthRollLower": 0.3, "mouthRollUpper": 0.25, "jawOpen": 0.06},
    {"mouthRollLower": 0.7, "mouthRollUpper": 0.4, "jawOpen": 0.07},
    {"mouthPress": 0.3, "mouthShrugLower": 0.35, "mouthDimple": 0.2, "jawOpen": 0.06},
)
MIN_PHRASE_SECONDS = 0.4  # of speech before a pause, below which it counts as noise
BREATH_CHANCE, PRESS_CHANCE = 0.88, 0.08  # in a pause
BREATH_SIZE = (1.75, 0.35)  # log-normal: median, standard deviation of the log; see above
MAX_BREATH_SIZE = 2.2
BREATH_APEX = (0.35, 0.8)  # seconds, range
BREATH_ONSET, BREATH_OFFSET = 0.24, (0.4, 0.8)  # seconds; the latter a range
AJAR_CHANCE = 0.5  # that the lips stay ajar after a breath
AJAR_SHARE = (0.2, 0.6)  # of the breath's size, range
SETTLE_AFTER = 1.6  # seconds of silence after which the lips close
SETTLE_SECONDS = 0.4
SETTLE_PRESS_CHANCE = 0.5  # that the lips press as they close
YIELD_SECONDS = 0.08  # in which the lips return when speech starts
MIN_REST = 2.5  # seconds of silence between two idle actions
# Chances of idle actions per frame: 2.5 presses, 1.2 licks and 1 swallow a minute.
IDLE_CHANCE = {
    PRESS: 2.5 / 60 * FRAME_SECONDS,
    LICK: 1.2 / 60 * FRAME_SECONDS,
    SWALLOW: 1.0 / 60 * FRAME_SECONDS,
}
IDLE_SIZE = (0.7, 0.3)  # log-normal: median, standard deviation of the log
MAX_IDLE_SIZE = 1.2
IDLE_ONSET, IDLE_OFFSET = 0.3, 0.5  # seconds
IDLE_APEX = {PRESS: (0.3, 1.0), LICK: (0.3, 0.6), SWALLOW: (0.25, 0.4)}  # seconds, ranges
SWALLOW_PITCH = -1.5  # degrees of head pitch of a swallow of size 1

_SHAPES = np.stack([template(shape) for shape in SHAPES])


class PausePlanner(Serializable):
    """Plans the lips between phrases and in silence."""

    def __init__(self, seed: int) -> None:
        self.rng = random_stream(seed, 7)
        self.actions = Actions(len(SHAPES))
        self.is_parted = False
        self.rest_left = MIN_REST  # seconds until the next idle action may start

    def step(self, speech: SpeechFrame) -> tuple[Float32Array, float]:
        """Advance by one frame.

        :return: what is added to the face, (FACE_DIM,), and to the head's pitch, degrees
        """
        draw = self.rng.random()
        self.rest_left -= FRAME_SECONDS
        if speech.maybe_active:
            self.is_parted = False
            self.actions.release(slice(None), YIELD_SECONDS)
        elif (
            speech.pause_start and speech.phrase_seconds > MIN_PHRASE_SECONDS and not speech.cut_off
        ):
            self._pause(draw)
        elif self.is_parted and speech.silence > SETTLE_AFTER:
            self._settle(draw)
        elif speech.silence > SETTLE_AFTER and self.rest_left <= 0:
            self._idle(draw)
        heights = self.actions.step()
        face = np.asarray(heights @ _SHAPES, np.float32)
        return face, SWALLOW_PITCH * float(heights[SWALLOW])

    def _pause(self, draw: float) -> None:
        """Start a breath, a press or nothing.

        :param draw: uniform random number, 0..1
        """
        rng = self.rng
        if draw > BREATH_CHANCE:
            if draw < BREATH_CHANCE + PRESS_CHANCE:
                self._begin_idle(PRESS)
            return
        self.is_parted = True
        median, sigma = BREATH_SIZE
        size = min(median * math.exp(sigma * rng.standard_normal()), MAX_BREATH_SIZE)
        apex, offset = rng.uniform(*BREATH_APEX), rng.uniform(*BREATH_OFFSET)
        ajar = rng.uniform(*AJAR_SHARE) if rng.random() < AJAR_CHANCE else 0.0
        self.actions.begin(BREATH, (1 - ajar) * size, BREATH_ONSET, apex, offset)
        self.actions.begin(AJAR, ajar * size, BREATH_ONSET, SETTLE_AFTER, SETTLE_SECONDS)

    def _settle(self, draw: float) -> None:
        """Close parted lips, with a press or without.

        :param draw: uniform random number, 0..1
        """
        self.is_parted = False
        self.rest_left = MIN_REST
        self.actions.release(slice(BREATH, AJAR + 1), SETTLE_SECONDS)
        if draw < SETTLE_PRESS_CHANCE:
            self._begin_idle(PRESS)

    def _idle(self, draw: float) -> None:
        """Start an idle action by chance.

        :param draw: uniform random number, 0..1
        """
        for which, chance in IDLE_CHANCE.items():
            if 0 <= draw < chance:
                self._begin_idle(which)
            draw -= chance

    def _begin_idle(self, which: int) -> None:
        self.rest_left = MIN_REST
        median, sigma = IDLE_SIZE
        size = min(median * math.exp(sigma * self.rng.standard_normal()), MAX_IDLE_SIZE)
        apex = self.rng.uniform(*IDLE_APEX[which])
        self.actions.begin(which, size, IDLE_ONSET, apex, IDLE_OFFSET)
