"""Effect of an emotion on the face (FACS; Ekman and Friesen 1978, by ARKit names) and the manner.

The generator is trained on the templates; how strongly they show at a moment, and what the emotion
does to head, eyes and brows, is planned here. Head poses after Wallbott (1998) and Coulson (2004):
down and slow in sadness, forward and down in anger, back in fear, up in surprise, turned away in
disgust, tilted and lively in happiness.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from talkingface.contract.arrays import Float32Array, Float64Array
from talkingface.motion_gen.behaviour.noise import SmoothNoise
from talkingface.motion_gen.behaviour.speech import SpeechFrame
from talkingface.motion_gen.behaviour.state import Serializable, random_stream
from talkingface.motion_gen.canonical_motion import ARTICULATION, FACE_DIM, FACE_INDEX
from talkingface.motion_gen.easing import spring
from talkingface.motion_gen.windows import EMOTION_DIM

# In the order of `contract.controls.EMOTIONS`; a name without a side stands for both. Units by
# FACS, sizes by eye. The shapes do not part the lips (they open them by less than 0.005 face
# widths), so closures in speech hold.
SHAPES: tuple[dict[str, float], ...] = (
    {},
    {  # happiness: AU 6 + 12
        "mouthSmile": 0.72, "cheekSquint": 0.9, "eyeSquint": 0.5, "mouthDimple": 0.12,
        "browOuterUp": 0.08, "jawOpen": 0.045,
    },
    {  # sadness: AU 1 + 4 + 15 + 17, lids heavy
        "browInnerUp": 1.0, "browDown": 0.3, "mouthFrown": 0.95, "mouthShrugLower": 0.4,
        "eyeBlink": 0.2, "jawOpen": 0.04,
    },
    {  # anger: AU 4 + 5 + 7 + 9 + 23 + 24
        "browDown": 1.0, "eyeSquint": 0.35, "eyeWide": 0.35, "noseSneer": 0.6, "mouthPress": 0.3,
        "mouthFrown": 0.5, "mouthRollUpper": 0.12, "mouthRollLower": 0.12, "jawOpen": 0.03,
    },
    {  # fear: AU 1 + 2 + 4 + 5 + 20
        "browInnerUp": 1.0, "browOuterUp": 0.15, "browDown": 0.25, "eyeWide": 1.0,
        "mouthStretch": 0.8, "mouthFrown": 0.15,
    },
    {  # disgust: AU 9 + 10 + 17
        "noseSneer": 1.0, "mouthUpperUp": 0.5, "mouthShrugLower": 0.5, "browDown": 0.6,
        "cheekSquint": 0.6, "eyeSquint": 0.6, "mouthFrown": 0.45,
    },
    {  # surprise: AU 1 + 2 + 5; the jaw (AU 26) drops in silence only, see `SILENT_JAW`
        "browInnerUp": 1.0, "browOuterUp": 0.75, "eyeWide": 0.7,
    },
)  # fmt: skip


def template(shape: Mapping[str, float], sides: tuple[float, float] = (1.0, 1.0)) -> Float32Array:
    """Return a shape as a face, (FACE_DIM,).

    :param shape: coefficients by name; a name without a side stands for both
    :param sides: factors on the left and on the right coefficients
    """
    row = np.zeros(FACE_DIM, np.float32)
    for name, value in shape.items():
        if name in FACE_INDEX:
            row[FACE_INDEX[name]] = value
        else:
            row[FACE_INDEX[f"{name}Left"]] = sides[0] * value
            row[FACE_INDEX[f"{name}Right"]] = sides[1] * value
    return row


TEMPLATES: Float32Array = np.stack([template(shape) for shape in SHAPES])  # (7, FACE_DIM)
# The templates without articulation: this much is visible whatever the lips do.
OUTSIDE_SPEECH: Float32Array = TEMPLATES.copy()
OUTSIDE_SPEECH[:, ARTICULATION] = 0
# Change of the templates that makes the left side stronger and the right side weaker.
ASYMMETRY: Float32Array = np.stack([template(shape, (1.0, -1.0)) for shape in SHAPES])
ASYMMETRY[:, ARTICULATION] = 0
for _name, _column in FACE_INDEX.items():
    if _name.startswith("eyeBlink") or not _name.endswith(("Left", "Right")):
        ASYMMETRY[:, _column] = 0

# Effects on the manner at full weight, all sizes by eye. Order: neutral, happiness, sadness, anger,
# fear, disgust, surprise.
POSE = np.array(  # pitch, yaw, roll in degrees; yaw and roll to the side that the seed has drawn
    [[0, 0, 0], [1, 0, 3], [-5, 2, 2], [-3.5, 0, 0], [1.5, 2, 1], [1.5, -4, 2], [3, 0, 0]]
)
LOG_DISTANCE = np.array([0, -0.005, 0, -0.02, 0.02, 0.01, 0.01])  # log of the distance ratio
LOG_LIVELINESS = np.log([1, 1.25, 0.6, 1.2, 0.9, 0.9, 1.1])  # of factors on head motion
LOG_BLINK_RATE = np.log([1, 1.1, 0.8, 0.7, 1.5, 1.1, 0.6])  # of factors on the blink rate
LOG_SHYNESS = np.log([1, 0.8, 1.5, 0.5, 1.6, 1.3, 0.5])  # of factors on gaze aversion
DOWNCAST = np.array([0, 0, 0.8, 0, 0.2, 0.2, 0])  # chance that an aversion goes down
# Added to factors of 1 on the chances of brow raises, frowns and smiles.
RAISES = np.array([0, 0, -0.5, -1, -0.5, -0.8, -0.3])
FROWNS = np.array([0, -1, -0.3, 1, 0, 0.5, -1])
SMILES = np.array([0, 0.5, -1, -1, -1, -1, -0.3])
SILENT_JAW = np.array([0, 0, 0, 0, 0.03, 0, 0.18])  # `jawOpen` in silence
JAW_DROP_AFTER = 1.0  # seconds of silence, by eye
JAW_DROP_RATE, JAW_CLOSE_RATE = 8.0, 22.0  # 1 / s, by eye

# How strongly an emotion shows, as a factor on its weight; by eye.
MEAN = 0.92
WAVES, WAVES_HZ = 0.08, 0.25  # standard deviation and frequency of slow waves about the mean
ACCENT_GAIN = 0.12  # added per unit of prominence
MAX_PROMINENCE = 1.5
ASYMMETRY_SHARE, ASYMMETRY_HZ = 0.08, 0.1  # standard deviation and frequency of the asymmetry


@dataclass(frozen=True)
class Manner:
    """Effect of the current emotions on head, eyes, brows and smiles."""

    pose: Float64Array  # (3,) pitch, yaw, roll of the head in degrees
    log_distance: float  # log of the distance ratio
    liveliness: float  # factor on head motion, 1 = neutral
    blink_rate: float  # factor, 1 = neutral
    shyness: float  # factor on how often the eyes turn away, 1 = neutral
    downcast: float  # 0..1, chance that the eyes turn down when they turn away
    raises: float  # factor on the chance of brow raises, 1 = neutral
    frowns: float  # factor on the chance of frowns, 1 = neutral
    smiles: float  # factor on the chance of smiles, 1 = neutral


class EmotionPlanner(Serializable):
    """Varies how strongly an emotion shows, so that the face is not a mask."""

    def __init__(self, seed: int) -> None:
        self.rng = random_stream(seed, 4)
        self.side = 1.0 if self.rng.random() < 0.5 else -1.0
        self.waves = SmoothNoise(self.rng, np.full(EMOTION_DIM, WAVES_HZ))
        self.asymmetry = SmoothNoise(self.rng, np.full(1, ASYMMETRY_HZ))
        self.jaw, self.jaw_velocity = np.zeros((2, 1))

    def step(
        self, weights: Float32Array, speech: SpeechFrame
    ) -> tuple[Float32Array, Float32Array, Manner]:
        """Advance by one frame.

        :param weights: (7,) eased weights times strength
        :param speech: speech of the frame
        :return: weights as they show, (7,); what is added to the generated face, (FACE_DIM,); the
            manner
        """
        waves = self.waves.step().clip(-2, 2)
        asymmetry = ASYMMETRY_SHARE * min(max(float(self.asymmetry.step()[0]), -2.0), 2.0)
        prominence = min(speech.prominence, MAX_PROMINENCE)
        visible = (weights * (MEAN + WAVES * waves + ACCENT_GAIN * prominence)).clip(0, 1)
        face = np.asarray(asymmetry * (visible @ ASYMMETRY), np.float32)
        w = weights.astype(np.float64)
        drop = w @ SILENT_JAW if speech.silence > JAW_DROP_AFTER else 0.0
        self.jaw, self.jaw_velocity = spring(
            self.jaw,
            self.jaw_velocity,
            np.array([drop]),
            JAW_DROP_RATE if drop > 0 else JAW_CLOSE_RATE,
        )
        face[FACE_INDEX["jawOpen"]] += self.jaw[0]
        return visible.astype(np.float32), face, self._manner(w)

    def _manner(self, weights: Float64Array) -> Manner:
        """Return the manner for weights (7,)."""
        sides = np.array([1.0, self.side, self.side])
        return Manner(
            pose=sides * (weights @ POSE),
            log_distance=float(weights @ LOG_DISTANCE),
            liveliness=float(np.exp(weights @ LOG_LIVELINESS)),
            blink_rate=float(np.exp(weights @ LOG_BLINK_RATE)),
            shyness=float(np.exp(weights @ LOG_SHYNESS)),
            downcast=float(weights @ DOWNCAST),
            raises=max(1 + float(weights @ RAISES), 0.0),
            frowns=max(1 + float(weights @ FROWNS), 0.0),
            smiles=max(1 + float(weights @ SMILES), 0.0),
        )
