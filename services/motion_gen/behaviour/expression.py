"""Smiles, squints, and the small turns of mouth and cheeks that go with talking.

Planned from measured statistics, not learnt: corners of nine real speakers' mouths move by 0.8 to
1.7 % of the face's height (standard deviation), with most of it below 1 Hz and hardly with
loudness; smiles have log-normal sizes, are lopsided and leave more slowly than they come. When and
how often: by eye. Which units go together: FACS (Ekman and Friesen 1978), by ARKit names.

No shape opens the lips (their inner edges stay, or meet), so closures in speech hold.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from talkingface.contract.motion import Array
from talkingface.motion_gen.behaviour.actions import Actions
from talkingface.motion_gen.behaviour.emotion import Manner, template
from talkingface.motion_gen.behaviour.memory import FRAME, Drift, Stateful, stream
from talkingface.motion_gen.behaviour.voice import Voice


class Kind(NamedTuple):
    """One kind of action. Sizes and apices are log-normal: median, deviation of the log."""

    shape: dict[str, float]  # at size 1
    size: tuple[float, float]
    apex: tuple[float, float]  # seconds
    onset: float  # seconds
    offset: float  # seconds
    accent: float  # chance as a stressed syllable, a phrase, a pause begins
    phrase: float
    pause: float
    speaking: float  # more a minute, while speaking
    silent: float  # and while silent


# `jawOpen` makes up for the lips that a smile draws over each other.
SMILE, SQUINT, SNEER, DIMPLE, DOUBT, PURSE = range(6)
KINDS = (
    Kind({"mouthSmile": 1.0, "cheekSquint": 0.8, "eyeSquint": 0.25, "mouthDimple": 0.15,
          "jawOpen": 0.07},
         (0.28, 0.5), (1.1, 0.5), 0.4, 0.9, 0.03, 0.08, 0.2, 1.5, 1.5),
    Kind({"eyeSquint": 1.0, "cheekSquint": 0.5},
         (0.25, 0.4), (0.6, 0.5), 0.25, 0.5, 0.10, 0.02, 0.05, 2.0, 0.5),
    Kind({"noseSneer": 1.0, "cheekSquint": 0.8, "eyeSquint": 0.3},
         (0.17, 0.4), (0.2, 0.4), 0.2, 0.35, 0.07, 0.0, 0.0, 0.0, 0.0),
    Kind({"mouthDimple": 1.0, "cheekSquint": 0.2},
         (0.25, 0.4), (0.5, 0.5), 0.25, 0.5, 0.06, 0.05, 0.15, 1.0, 0.7),
    Kind({"mouthFrown": 1.0, "mouthShrugLower": 0.25, "browInnerUp": 0.3},
         (0.24, 0.4), (0.6, 0.5), 0.3, 0.6, 0.04, 0.03, 0.12, 1.0, 0.4),
    Kind({"mouthPucker": 1.0},
         (0.22, 0.4), (0.4, 0.4), 0.25, 0.45, 0.02, 0.0, 0.1, 0.5, 0.4),
)  # fmt: skip
OPPOSED = {SMILE: (DOUBT, PURSE), DIMPLE: (PURSE,), DOUBT: (SMILE,), PURSE: (SMILE, DIMPLE)}
YIELD = 0.5  # seconds in which an action gives way to its opposite
REST = 1.2  # seconds between the end of an apex and the next onset of a kind at least
UTTERED = 0.4  # seconds of voice that make a phrase whose end is worth a sign
LOPSIDED = np.array([0.15, 0.1, 0.3, 0.45, 0.1, 0.0])  # deviation between an action's sides
AROUSED = 0.8  # more actions per unit of arousal
MANNER = np.array([0.5, 0.4, 0.5, 0.5, 0.4, 0.4])  # deviation of the log of a seed's chances
SIZES = 0.2  # and of its sizes

# Slow waves under the actions: corners up or down, mouth wider or narrower.
WAVES_HZ = np.array([0.22, 0.3])
TONE, WIDTH = 0.11, 0.11  # deviations, as coefficients
AT_REST = 0.15  # of the waves while silent
TIDE = 0.5  # seconds in which they come and go with the voice
TONES = (
    ({"mouthSmile": 1.0, "cheekSquint": 0.6, "jawOpen": 0.07},
     {"mouthFrown": 1.0, "mouthShrugLower": 0.25}),
    ({"mouthDimple": 0.7, "mouthStretch": 0.3}, {"mouthPucker": 1.0}),
)  # fmt: skip

_CHANCES = np.array([[kind.accent, kind.phrase, kind.pause] for kind in KINDS])
_RATES = np.array([[kind.silent, kind.speaking] for kind in KINDS]) / 60.0 * FRAME
_SHAPES = np.stack([template(kind.shape) for kind in KINDS])
_SLANTS = np.stack([template(kind.shape, (2.0, 0.0)) for kind in KINDS]) - _SHAPES
_TONES = np.stack([template(shape) for pair in zip(*TONES, strict=True) for shape in pair])
_UNITS = np.concatenate([_SHAPES, _SLANTS, _TONES])


class ExpressionPlanner(Stateful):
    """Actions of mouth, cheeks and lids, in a seed's own manner."""

    def __init__(self, seed: int) -> None:
        self.rng = stream(seed, 6)
        self.chances = np.exp(MANNER * self.rng.standard_normal(len(KINDS)))
        self.sizes = np.exp(SIZES * self.rng.standard_normal(len(KINDS)))
        self.side = math.copysign(1.0, self.rng.random() - 0.5)
        self.waves = Drift(self.rng, WAVES_HZ)
        self.actions = Actions(len(KINDS))
        self.slant = np.zeros(len(KINDS))
        self.tide = AT_REST

    def step(self, voice: Voice, manner: Manner) -> Array:
        """What is added to the face in the next frame: (FACE_DIM,)."""
        self._act(voice, manner)
        places = self.actions.step()
        self.tide += ((1.0 if voice.speaking else AT_REST) - self.tide) * FRAME / TIDE
        waves = self.tide * np.array([TONE, WIDTH]) * np.clip(self.waves.step(), -2, 2)
        waves[0] *= manner.smiles if waves[0] > 0 else manner.frowns
        rises, falls = np.maximum(waves, 0), np.maximum(-waves, 0)
        face = np.concatenate([places, places * self.slant, rises, falls]) @ _UNITS
        return face.astype(np.float32)

    def _act(self, voice: Voice, manner: Manner) -> None:
        rng = self.rng
        moods = (manner.smiles, 1.0, 1.0, manner.smiles, manner.frowns, manner.frowns)
        moments = (voice.accent, voice.phrase, voice.pause and voice.spoken > UTTERED)
        chances = (_CHANCES @ moments + _RATES[:, int(voice.speaking)]) * self.chances * moods
        chances *= 1 + AROUSED * voice.arousal
        for which in np.flatnonzero(rng.random(len(KINDS)) < chances):
            if self.actions.since(which) > REST:
                self._begin(int(which))

    def _begin(self, which: int) -> None:
        kind, (size, apex, slant) = KINDS[which], self.rng.standard_normal(3)
        for other in OPPOSED.get(which, ()):
            self.actions.release(other, YIELD)
        self.slant[which] = LOPSIDED[which] * min(max(0.7 * self.side + slant, -2.0), 2.0)
        self.actions.begin(
            which,
            kind.size[0] * self.sizes[which] * math.exp(kind.size[1] * size),
            kind.onset,
            kind.apex[0] * math.exp(kind.apex[1] * apex),
            kind.offset,
        )
