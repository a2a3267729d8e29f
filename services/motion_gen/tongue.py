"""The tongue: tip and back follow the articulation that the speech encoder recognises.

Each is a critically damped spring that is drawn to its column of the encoder's articulation, as
gestures of the tongue are modelled in task dynamics (Saltzman & Munhall 1989). Where the encoder
detects no speech, the spring is drawn to rest. The springs look ahead as far as the lips do and no
farther, which makes up for their delay.

No control scales the tongue. For an "l" the tip touches the ridge behind the teeth however large
or lively the mouth moves; raised by half of that, it would articulate another sound.
"""

from __future__ import annotations

import numpy as np

from talkingface.contract.arrays import Float32Array, Float64Array
from talkingface.contract.speech_features import (
    ARTICULATION,
    ARTICULATION_COLUMNS,
    VOICE_ACTIVITY,
)
from talkingface.motion_gen.behaviour.speech import ACTIVE
from talkingface.motion_gen.behaviour.state import Serializable
from talkingface.motion_gen.easing import spring
from talkingface.motion_gen.windows import ROWS_PER_FRAME

# Columns of the features, in the order of TONGUE_TIP and TONGUE_BACK.
COLUMNS = [
    ARTICULATION_COLUMNS.start + ARTICULATION.index(name)
    for name in ("tongue_tip_up", "tongue_back_up")
]
# Columns at which tip and back are at rest, as in open vowels, and fully raised, as in /t d n/ and
# /k/; by eye beside the encoder's output for natural speech.
LOW, HIGH = np.array([0.25, 0.1]), np.array([0.6, 0.6])
# 1 / s. From 10 to 90 % of its way a tip takes 3.36 / 48 s = 70 ms, a back 96 ms; by eye. A spring
# lags behind its target by 2 / rate, 42 ms and 57 ms; a row acts 50 ms before its own time.
RATES: Float64Array = np.array([48.0, 35.0])
REST = 1e-3  # below which a tongue is at rest: its tip has moved by less than 0.03 mm


class TongueTracker(Serializable):
    """Moves the tongue of one stream, frame by frame."""

    def __init__(self) -> None:
        self.position: Float64Array = np.zeros(2)  # tip, back
        self.velocity: Float64Array = np.zeros(2)  # 1 / s

    def step(self, features: Float32Array, speech: Float32Array) -> Float32Array:
        """Advance by any number of frames.

        :param features: (2 n, FEATURE_DIM) rows of the encoder: for each frame the last two of
            those that it may see
        :param speech: (2 n, SPEECH_DIM) of the same rows
        :return: how far tip and back are raised, (n, 2), 0..1; exactly 0 at rest
        """
        targets = ((features[:, COLUMNS] - LOW) / (HIGH - LOW)).clip(0, 1)
        targets[speech[:, VOICE_ACTIVITY] <= ACTIVE] = 0
        targets = targets.reshape(-1, ROWS_PER_FRAME, 2).mean(1)
        raised = np.empty(targets.shape, np.float32)
        for frame, target in enumerate(targets):
            self.position, self.velocity = spring(self.position, self.velocity, target, RATES)
            raised[frame] = self.position
        raised[raised < REST] = 0
        return np.minimum(raised, 1)
