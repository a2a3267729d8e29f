"""What the lips do while nothing is said: breathe, settle, press, wet, swallow.

A pause parts the lips for a breath; then they close, or stay ajar until the silence is long, and
settle shut. Idle lips stay shut, but for a press, a lick or a swallow now and then. All of it
yields within a tenth of a second as the voice returns: a closure at a phrase's beginning holds.
Who is cut off, as an interruption does it, shuts his mouth: no breath follows.
A breath is not heard (the encoder knows it as silence), so it follows the phrase's end. Sizes are
planned from a measured statistic: in silences of 300 ms or more the opening of real lips, over the
distance of the outer corners of the eyes, has a median absolute deviation of 0.026 (THEval, CVPR
2026, 85 000 videos). Chances, rates and lengths: by eye.
"""

from __future__ import annotations

import math

import numpy as np

from talkingface.contract.motion import Array
from talkingface.motion_gen.behaviour.actions import Actions
from talkingface.motion_gen.behaviour.emotion import template
from talkingface.motion_gen.behaviour.memory import FRAME, Stateful, stream
from talkingface.motion_gen.behaviour.voice import Voice

BREATH, AJAR, PRESS, WET, SWALLOW = range(5)
# At size 1: lips apart by 0.05 of the distance of the eyes' outer corners; and lips that meet, not
# overlap, for `jawOpen` makes room for what is rolled in and pressed.
APART = {"jawOpen": 0.12, "mouthLowerDown": 0.15, "mouthUpperUp": 0.12}
SHAPES = (
    APART,
    APART,
    {"mouthPress": 0.5, "mouthRollLower": 0.3, "mouthRollUpper": 0.25, "jawOpen": 0.06},
    {"mouthRollLower": 0.7, "mouthRollUpper": 0.4, "jawOpen": 0.07},
    {"mouthPress": 0.3, "mouthShrugLower": 0.35, "mouthDimple": 0.2, "jawOpen": 0.06},
)
UTTERED = 0.4  # seconds of voice that make a phrase: blips of noise stir nothing
BREATHES, PRESSES = 0.88, 0.08  # chances in a pause
SIZE = (1.75, 0.35)  # log-normal: median, deviation of the log
MOST = 2.2
BREATH_SECONDS = (0.35, 0.8)
ONSET, OFFSET = 0.24, (0.4, 0.8)  # seconds of a breath
STAYS_AJAR = 0.5  # chance, after a breath
AJAR_SHARE = (0.2, 0.6)  # of the breath's size
SHUT_AFTER = 1.6  # seconds of silence from which on lips are on their way shut
SHUT_SECONDS = 0.4
SETTLES = 0.5  # chance that they press as they shut
RETURN = 0.08  # seconds in which lips yield to the voice
REST = 2.5  # seconds of silence between two of what follows, at least
IDLE = {PRESS: 2.5 / 60 * FRAME, WET: 1.2 / 60 * FRAME, SWALLOW: 1.0 / 60 * FRAME}  # a frame
IDLE_SIZE = (0.7, 0.3)
IDLE_ONSET, IDLE_OFFSET = 0.3, 0.5  # seconds
IDLE_APEX = {PRESS: (0.3, 1.0), WET: (0.3, 0.6), SWALLOW: (0.25, 0.4)}  # seconds
DIP = -1.5  # degrees by which a swallow of size 1 lowers the head

_SHAPES = np.stack([template(shape) for shape in SHAPES])


class PausePlanner(Stateful):
    """Lips between phrases, and while idle."""

    def __init__(self, seed: int) -> None:
        self.rng = stream(seed, 7)
        self.actions = Actions(len(SHAPES))
        self.parted = False
        self.rest = REST  # seconds until something more may come

    def step(self, voice: Voice) -> tuple[Array, float]:
        """What the next frame adds to the face (FACE_DIM,) and to the head's pitch, degrees."""
        draw = self.rng.random()
        self.rest -= FRAME
        if voice.stirring:
            self.parted = False
            self.actions.release(slice(None), RETURN)
        elif voice.pause and voice.spoken > UTTERED and not voice.broken:
            self._pause(draw)
        elif self.parted and voice.silence > SHUT_AFTER:
            self._settle(draw)
        elif voice.silence > SHUT_AFTER and self.rest <= 0:
            self._idle(draw)
        places = self.actions.step()
        return (places @ _SHAPES).astype(np.float32), DIP * float(places[SWALLOW])

    def _pause(self, draw: float) -> None:
        rng = self.rng
        if draw > BREATHES:
            if draw < BREATHES + PRESSES:
                self._press(PRESS)
            return
        self.parted = True
        size = min(SIZE[0] * math.exp(SIZE[1] * rng.standard_normal()), MOST)
        apex, offset = rng.uniform(*BREATH_SECONDS), rng.uniform(*OFFSET)
        ajar = rng.uniform(*AJAR_SHARE) if rng.random() < STAYS_AJAR else 0.0
        self.actions.begin(BREATH, (1 - ajar) * size, ONSET, apex, offset)
        self.actions.begin(AJAR, ajar * size, ONSET, SHUT_AFTER, SHUT_SECONDS)

    def _settle(self, draw: float) -> None:
        self.parted = False
        self.rest = REST
        self.actions.release(slice(BREATH, AJAR + 1), SHUT_SECONDS)
        if draw < SETTLES:
            self._press(PRESS)

    def _idle(self, draw: float) -> None:
        for which, chance in IDLE.items():
            if 0 <= draw < chance:
                self._press(which)
            draw -= chance

    def _press(self, which: int) -> None:
        self.rest = REST
        size = min(IDLE_SIZE[0] * math.exp(IDLE_SIZE[1] * self.rng.standard_normal()), 1.2)
        apex = self.rng.uniform(*IDLE_APEX[which])
        self.actions.begin(which, size, IDLE_ONSET, apex, IDLE_OFFSET)
