"""Planned behaviour: eyes, brows, expression, head and emotion, seeded and causal.

Lid closure, gaze and emotion are conditions of the generator; head, brows, expression and the lips
in pauses are added to its output. Everything follows the speech frame by frame (`speech.py`),
without look-ahead of its own. The same seed and the same rows give the same plan; every planner
draws from a random stream of its own, so that one control does not change what others do.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from talkingface.contract.arrays import Float32Array
from talkingface.motion_gen.behaviour.blinks import BlinkPlanner
from talkingface.motion_gen.behaviour.brows import BrowPlanner
from talkingface.motion_gen.behaviour.emotion import OUTSIDE_SPEECH, EmotionPlanner
from talkingface.motion_gen.behaviour.expression import ExpressionPlanner
from talkingface.motion_gen.behaviour.gaze import GazePlanner
from talkingface.motion_gen.behaviour.head import HeadPlanner
from talkingface.motion_gen.behaviour.pauses import PausePlanner
from talkingface.motion_gen.behaviour.speech import SpeechTracker
from talkingface.motion_gen.behaviour.state import Serializable
from talkingface.motion_gen.canonical_motion import FACE_INDEX
from talkingface.motion_gen.windows import FRAME_SECONDS

__all__ = ["Behaviour", "BehaviourPlanner"]

LIDS = [FACE_INDEX["eyeBlinkLeft"], FACE_INDEX["eyeBlinkRight"]]


class Behaviour(NamedTuple):
    """The plan of one frame."""

    # Lid closure 0..1, and gaze pitch and yaw in degrees in the camera's frame.
    eyes: tuple[float, float, float]
    emotion: Float32Array  # (7,) weights as they show now
    rotation: Float32Array  # (3,) head pitch, yaw, roll in degrees
    shift: Float32Array  # (3,) head x, y in face widths, log of the distance ratio
    minimum: Float32Array  # (FACE_DIM,) lower bound: lids, and the emotion outside the lips
    face: Float32Array  # (FACE_DIM,) to be added: an emotion's asymmetry, its jaw in silence
    expression: Float32Array  # (FACE_DIM,) >= 0, times expressivity: brows, expression, pauses

    def apply_to(self, face: Float32Array) -> Float32Array:
        """Return the generated face (FACE_DIM,) raised to `minimum`, plus `face`."""
        return np.maximum(face, self.minimum) + self.face


class BehaviourPlanner(Serializable):
    """Plans the behaviour of one stream, frame by frame."""

    def __init__(self, seed: int) -> None:
        self.frame = 0
        self.gaze_target = (0.0, 0.0)  # pitch, yaw in degrees
        self.speech = SpeechTracker()
        self.emotion = EmotionPlanner(seed)
        self.gaze = GazePlanner(seed)
        self.blinks = BlinkPlanner(seed)
        self.head = HeadPlanner(seed)
        self.brows = BrowPlanner(seed)
        self.expression = ExpressionPlanner(seed)
        self.pauses = PausePlanner(seed)

    def step(
        self,
        rows: Float32Array,
        emotion: Float32Array,
        gaze: tuple[float, float] | None = None,
        blink_rate: float | None = None,
        expressivity: float = 1.0,
    ) -> Behaviour:
        """Plan the next frame.

        :param rows: (n, 4) the frame's rows of the speech encoder: voice activity, energy dBFS,
            log2 F0, voicing
        :param emotion: (7,) eased weights times strength
        :param gaze: pitch and yaw that the caller asks for, degrees; None = natural gaze
        :param blink_rate: blinks a minute; None = natural
        :param expressivity: factor on what is expressed beside speech, 0..2; blinks, gaze, sway of
            the head and emotion do not depend on it
        """
        now = self.frame * FRAME_SECONDS
        self.frame += 1
        speech = self.speech.step(rows)
        visible, face, manner = self.emotion.step(emotion, speech)
        offset = self.gaze.step(speech, gaze is not None, manner.shyness, manner.downcast)
        base = gaze or (0.0, 0.0)
        target = base[0] + offset[0], base[1] + offset[1]
        gaze_shift = math.dist(target, self.gaze_target)
        self.gaze_target = target
        closure = self.blinks.step(now, speech, gaze_shift, blink_rate, manner.blink_rate)
        rotation, shift = self.head.step(speech, target, manner, expressivity)
        lips, swallow_pitch = self.pauses.step(speech)
        expression = self.brows.step(speech, target[0], manner)
        expression += self.expression.step(speech, manner) + lips
        rotation[0] += expressivity * swallow_pitch
        minimum = visible @ OUTSIDE_SPEECH
        minimum[LIDS] = np.maximum(minimum[LIDS], closure)
        return Behaviour(
            eyes=(closure, *target),
            emotion=visible,
            rotation=rotation.astype(np.float32),
            shift=shift.astype(np.float32),
            minimum=minimum,
            face=face,
            expression=np.float32(expressivity) * expression,
        )
