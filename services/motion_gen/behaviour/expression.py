"""Smiles, squints, and the small movements of mouth and cheeks that accompany speech.

Planned from measured statistics, not learnt: the corners of nine real speakers' mouths move by 0.8
to 1.7 % of the face's height (standard deviation), most of it below 1 Hz and hardly with loudness;
smiles have log-normal sizes, are asymmetric and fade more slowly than they appear. When and how
often: by eye. Which units go together: FACS (Ekman and Friesen 1978), by ARKit names.

No shape opens the lips (their inner edges stay, or meet), so closures in speech hold.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from talkingface.contract.arrays import Float32Array
from talkingface.motion_gen.behaviour.actions import Actions
from talkingface.motion_gen.behaviour.emotion import Manner, template
from talkingface.motion_gen.behaviour.noise import SmoothNoise
from talkingface.motion_gen.behaviour.speech import SpeechFrame
from talkingface.motion_gen.behaviour.state import Serializable, random_stream
from talkingface.motion_gen.windows import FRAME_SECONDS


class ActionKind(NamedTuple):
    """One kind of action; all values by eye.

    Sizes and apex lengths are log-normal: median, standard deviation of the log.
    """

    shape: dict[str, float]  # coefficients at size 1
    size: tuple[float, float]
    apex: tuple[float, float]  # seconds
    onset: float  # seconds
    offset: float  # seconds
    accent_chance: float
    phrase_chance: float  # at the start of a phrase
    pause_chance: float  # at the start of a pause
    speaking_rate: float  # further actions a minute while speaking
    silent_rate: float  # and while silent


# A `jawOpen` beside a smile makes up for the lips that the smile draws over each other.
SMILE, SQUINT, SNEER, DIMPLE, DOUBT, PURSE = range(6)
KINDS = (
    ActionKind(
        {"mouthSmile": 1.0, "cheekSquint": 0.8, "eyeSquint": 0.25, "mouthDimple": 0.15,
         "jawOpen": 0.07},
        (0.28, 0.5), (1.1, 0.5), 0.4, 0.9, 0.03, 0.08, 0.2, 1.5, 1.5,
    ),
    ActionKind(
        {"eyeSquint": 1.0, "cheekSquint": 0.5},
        (0.25, 0.4), (0.6, 0.5), 0.25, 0.5, 0.10, 0.02, 0.05, 2.0, 0.5,
    ),
    ActionKind(
        {"noseSneer": 1.0, "cheekSquint": 0.8, "eyeSquint": 0.3},
        (0.17, 0.4), (0.2, 0.4), 0.2, 0.35, 0.07, 0.0, 0.0, 0.0, 0.0,
    ),
    ActionKind(
        {"mouthDimple": 1.0, "cheekSquint": 0.2},
        (0.25, 0.4), (0.5, 0.5), 0.25, 0.5, 0.06, 0.05, 0.15, 1.0, 0.7,
    ),
    ActionKind(
        {"mouthFrown": 1.0, "mouthShrugLower": 0.25, "browInnerUp": 0.3},
        (0.24, 0.4), (0.6, 0.5), 0.3, 0.6, 0.04, 0.03, 0.12, 1.0, 0.4,
    ),
    ActionKind(
        {"mouthPucker": 1.0},
        (0.22, 0.4), (0.4, 0.4), 0.25, 0.45, 0.02, 0.0, 0.1, 0.5, 0.4,
    ),
)  # fmt: skip
# Kinds that an action of a kind releases, and the seconds in which those fade; by eye.
OPPOSED = {SMILE: (DOUBT, PURSE), DIMPLE: (PURSE,), DOUBT: (SMILE,), PURSE: (SMILE, DIMPLE)}
OPPOSED_OFFSET = 0.5
MIN_REST = 1.2  # seconds between an action's release and the next of its kind, by eye
MIN_PHRASE_SECONDS = 0.4  # of speech before a pause, below which the pause has no actions; by eye
# Standard deviation of the difference between an action's sides, for each kind, by eye; and the
# mean of the difference, in those deviations, towards the seed's side.
ASYMMETRY = np.array([0.15, 0.1, 0.3, 0.45, 0.1, 0.0])
SIDE_BIAS = 0.7
AROUSAL_GAIN = 0.8  # factor on the chances is 1 plus this per unit of arousal, by eye
# Standard deviations of the log of a seed's factors on the chances and the sizes, by eye.
CHANCE_SIGMA = np.array([0.5, 0.4, 0.5, 0.5, 0.4, 0.4])
SIZE_SIGMA = 0.2

# Slow waves below the actions: corners up or down, mouth wider or narrower. Standard deviations as
# coefficients and frequencies give the motion of the nine speakers' mouth corners.
WAVES_HZ = np.array([0.22, 0.3])
CORNER_WAVE, WIDTH_WAVE = 0.11, 0.11
WAVES_AT_REST = 0.15  # of the waves while silent, by eye
WAVES_SECONDS = 0.5  # time constant with which they follow the speech, by eye
WAVE_SHAPES = (
    ({"mouthSmile": 1.0, "cheekSquint": 0.6, "jawOpen": 0.07},
     {"mouthFrown": 1.0, "mouthShrugLower": 0.25}),
    ({"mouthDimple": 0.7, "mouthStretch": 0.3}, {"mouthPucker": 1.0}),
)  # fmt: skip

_CHANCES = np.array([[kind.accent_chance, kind.phrase_chance, kind.pause_chance] for kind in KINDS])
_RATES = np.array([[kind.silent_rate, kind.speaking_rate] for kind in KINDS]) / 60.0 * FRAME_SECONDS
_SHAPES = np.stack([template(kind.shape) for kind in KINDS])
_SLANTS = np.stack([template(kind.shape, (2.0, 0.0)) for kind in KINDS]) - _SHAPES
_WAVES = np.stack([template(shape) for pair in zip(*WAVE_SHAPES, strict=True) for shape in pair])
_UNITS = np.concatenate([_SHAPES, _SLANTS, _WAVES])


class ExpressionPlanner(Serializable):
    """Plans actions of mouth, cheeks and lids, with chances and sizes that the seed has drawn."""

    def __init__(self, seed: int) -> None:
        self.rng = random_stream(seed, 6)
        self.chances = np.exp(CHANCE_SIGMA * self.rng.standard_normal(len(KINDS)))
        self.sizes = np.exp(SIZE_SIGMA * self.rng.standard_normal(len(KINDS)))
        self.side = math.copysign(1.0, self.rng.random() - 0.5)
        self.noise = SmoothNoise(self.rng, WAVES_HZ)
        self.actions = Actions(len(KINDS))
        self.slant = np.zeros(len(KINDS))  # difference between the sides of the last action
        self.wave_size = WAVES_AT_REST

    def step(self, speech: SpeechFrame, manner: Manner) -> Float32Array:
        """Return what is added to the face in the next frame, (FACE_DIM,)."""
        self._draw_actions(speech, manner)
        heights = self.actions.step()
        target = 1.0 if speech.speaking else WAVES_AT_REST
        self.wave_size += (target - self.wave_size) * FRAME_SECONDS / WAVES_SECONDS
        noise = self.noise.step().clip(-2, 2)
        waves = self.wave_size * np.array([CORNER_WAVE, WIDTH_WAVE]) * noise
        waves[0] *= manner.smiles if waves[0] > 0 else manner.frowns
        rises, falls = np.maximum(waves, 0), np.maximum(-waves, 0)
        face = np.concatenate([heights, heights * self.slant, rises, falls]) @ _UNITS
        return np.asarray(face, np.float32)

    def _draw_actions(self, speech: SpeechFrame, manner: Manner) -> None:
        """Start actions by chance at the events of the frame."""
        rng = self.rng
        moods = (manner.smiles, 1.0, 1.0, manner.smiles, manner.frowns, manner.frowns)
        pause = speech.pause_start and speech.phrase_seconds > MIN_PHRASE_SECONDS
        events = (speech.accent, speech.phrase_start, pause)
        chances = (_CHANCES @ events + _RATES[:, int(speech.speaking)]) * self.chances * moods
        chances *= 1 + AROUSAL_GAIN * speech.arousal
        for which in np.flatnonzero(rng.random(len(KINDS)) < chances):
            if self.actions.seconds_since_release(which) > MIN_REST:
                self._begin(int(which))

    def _begin(self, which: int) -> None:
        """Start an action of a kind, and release its opposites."""
        kind = KINDS[which]
        size_draw, apex_draw, slant_draw = self.rng.standard_normal(3)
        for other in OPPOSED.get(which, ()):
            self.actions.release(other, OPPOSED_OFFSET)
        slant = min(max(SIDE_BIAS * self.side + slant_draw, -2.0), 2.0)
        self.slant[which] = ASYMMETRY[which] * slant
        self.actions.begin(
            which,
            kind.size[0] * self.sizes[which] * math.exp(kind.size[1] * size_draw),
            kind.onset,
            kind.apex[0] * math.exp(kind.apex[1] * apex_draw),
            kind.offset,
        )
