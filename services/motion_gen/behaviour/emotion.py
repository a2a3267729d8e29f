"""What an emotion does to the face (FACS; Ekman and Friesen 1978, by ARKit names) and the manner.

The face's templates are what the generator is taught; how strongly they show at a moment, and what
the emotion does to head, eyes and brows, is planned. Tendencies of the head after Wallbott (1998)
and Coulson (2004): down and slow in sadness, forward and down in anger, back in fear, up in
surprise, turned away in disgust, tilted and lively in happiness.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from talkingface.contract.motion import Array
from talkingface.motion_gen.behaviour.memory import Drift, Stateful, stream
from talkingface.motion_gen.behaviour.voice import Voice
from talkingface.motion_gen.canonical_motion import ARTICULATION, FACE_DIM, FACE_INDEX
from talkingface.motion_gen.easing import spring
from talkingface.motion_gen.windows import EMOTION_DIM

# In the order of `controls.EMOTIONS`; a name without a side stands for both. The shapes leave the
# lips where they are (their openings add up to less than 0.005 face widths): closures stay.
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
    {  # surprise: AU 1 + 2 + 5; the jaw (AU 26) falls while silent, see `SILENT_JAW`
        "browInnerUp": 1.0, "browOuterUp": 0.75, "eyeWide": 0.7,
    },
)  # fmt: skip


def template(shape: dict[str, float], sides: tuple[float, float] = (1.0, 1.0)) -> Array:
    """(FACE_DIM,) of a shape by name; `sides` are factors on the left and right units."""
    row = np.zeros(FACE_DIM, np.float32)
    for name, value in shape.items():
        if name in FACE_INDEX:
            row[FACE_INDEX[name]] = value
        else:
            row[FACE_INDEX[f"{name}Left"]] = sides[0] * value
            row[FACE_INDEX[f"{name}Right"]] = sides[1] * value
    return row


TEMPLATES: Array = np.stack([template(shape) for shape in SHAPES])  # (7, FACE_DIM)
# The templates without what belongs to speech: this much is to be seen whatever the lips do.
OUTSIDE_SPEECH: Array = TEMPLATES.copy()
OUTSIDE_SPEECH[:, ARTICULATION] = 0
# Half of what the left side has more than the right when a face is lopsided.
LOPSIDED: Array = np.stack([template(shape, (1.0, -1.0)) for shape in SHAPES])
LOPSIDED[:, ARTICULATION] = 0
for _name, _column in FACE_INDEX.items():
    if _name.startswith("eyeBlink") or not _name.endswith(("Left", "Right")):
        LOPSIDED[:, _column] = 0

# neutral, happiness, sadness, anger, fear, disgust, surprise
POSE = np.array(  # pitch, yaw, roll, degrees; yaw and roll to the side that the seed chose
    [[0, 0, 0], [1, 0, 3], [-5, 2, 2], [-3.5, 0, 0], [1.5, 2, 1], [1.5, -4, 2], [3, 0, 0]]
)
LOG_DISTANCE = np.array([0, -0.005, 0, -0.02, 0.02, 0.01, 0.01])
LIVELY = np.log([1, 1.25, 0.6, 1.2, 0.9, 0.9, 1.1])  # head and accents
BLINKS = np.log([1, 1.1, 0.8, 0.7, 1.5, 1.1, 0.6])
SHY = np.log([1, 0.8, 1.5, 0.5, 1.6, 1.3, 0.5])
DOWNCAST = np.array([0, 0, 0.8, 0, 0.2, 0.2, 0])
RAISES = np.array([0, 0, -0.5, -1, -0.5, -0.8, -0.3])  # added to a factor of 1 on brow raises
FROWNS = np.array([0, -1, -0.3, 1, 0, 0.5, -1])
SMILES = np.array([0, 0.5, -1, -1, -1, -1, -0.3])  # likewise
SILENT_JAW = np.array([0, 0, 0, 0, 0.03, 0, 0.18])
LISTENING = 1.0  # seconds of silence after which a jaw may fall in surprise
JAW_FALLS, JAW_RISES = 8.0, 22.0  # 1 / s

# How strongly an emotion shows: slow waves about MEAN, more on accents.
WAVES_HZ = 0.25
MEAN, WAVES, ACCENTED = 0.92, 0.08, 0.12
LOPSIDED_HZ, LOPSIDED_SHARE = 0.1, 0.08


@dataclass(frozen=True)
class Manner:
    """What the emotions of a moment ask of the rest of the body."""

    pose: np.ndarray  # (3,) degrees
    log_distance: float
    lively: float  # factors, 1 = neutral
    blinks: float
    shyness: float
    downcast: float  # 0..1
    raises: float
    frowns: float
    smiles: float


class EmotionPlanner(Stateful):
    """Keeps an emotion from being a mask."""

    def __init__(self, seed: int) -> None:
        self.rng = stream(seed, 4)
        self.side = 1.0 if self.rng.random() < 0.5 else -1.0
        self.waves = Drift(self.rng, np.full(EMOTION_DIM, WAVES_HZ))
        self.tilt = Drift(self.rng, np.full(1, LOPSIDED_HZ))
        self.jaw, self.jaw_speed = np.zeros((2, 1))

    def step(self, weights: Array, voice: Voice) -> tuple[Array, Array, Manner]:
        """Weights as they show in the next frame (7,), what that adds to the face (FACE_DIM,)
        beside the generator's own, and the manner.

        :param weights: (7,) eased weights times strength
        """
        waves = np.clip(self.waves.step(), -2, 2)
        tilt = LOPSIDED_SHARE * float(np.clip(self.tilt.step()[0], -2, 2))
        accent = min(voice.prominence, 1.5)
        shown = np.clip(weights * (MEAN + WAVES * waves + ACCENTED * accent), 0, 1)
        face = np.asarray(tilt * (shown @ LOPSIDED), np.float32)
        w = weights.astype(np.float64)
        fall = w @ SILENT_JAW if voice.silence > LISTENING else 0.0
        self.jaw, self.jaw_speed = spring(
            self.jaw, self.jaw_speed, np.array([fall]), JAW_FALLS if fall > 0 else JAW_RISES
        )
        face[FACE_INDEX["jawOpen"]] += self.jaw[0]
        sides = np.array([1.0, self.side, self.side])
        manner = Manner(
            pose=sides * (w @ POSE),
            log_distance=float(w @ LOG_DISTANCE),
            lively=float(np.exp(w @ LIVELY)),
            blinks=float(np.exp(w @ BLINKS)),
            shyness=float(np.exp(w @ SHY)),
            downcast=float(w @ DOWNCAST),
            raises=max(1 + float(w @ RAISES), 0.0),
            frowns=max(1 + float(w @ FROWNS), 0.0),
            smiles=max(1 + float(w @ SMILES), 0.0),
        )
        return shown.astype(np.float32), face, manner
