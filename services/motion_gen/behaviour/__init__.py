"""What the body does beside speaking: a seeded, causal plan of eyes, face, head and emotion.

Lid closure, gaze and emotion are handed to the generator as conditions; head, brows, expression
and the life of lips in pauses are added to what it makes. All of it follows the voice as it is
heard (`voice.py`), frame after frame, with no look-ahead of its own. The same seed and the same
rows give the same plan; what draws random numbers has its own stream, so that one control leaves
the others as they were.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from talkingface.contract.motion import Array
from talkingface.motion_gen.behaviour.blinks import BlinkPlanner
from talkingface.motion_gen.behaviour.brows import BrowPlanner
from talkingface.motion_gen.behaviour.emotion import OUTSIDE_SPEECH, EmotionPlanner
from talkingface.motion_gen.behaviour.expression import ExpressionPlanner
from talkingface.motion_gen.behaviour.gaze import GazePlanner
from talkingface.motion_gen.behaviour.head import HeadPlanner
from talkingface.motion_gen.behaviour.memory import FRAME, Stateful
from talkingface.motion_gen.behaviour.pauses import PausePlanner
from talkingface.motion_gen.behaviour.voice import VoiceTracker
from talkingface.motion_gen.canonical_motion import FACE_INDEX

__all__ = ["Behaviour", "BehaviourPlanner"]

LIDS = [FACE_INDEX["eyeBlinkLeft"], FACE_INDEX["eyeBlinkRight"]]


class Behaviour(NamedTuple):
    """The plan of one frame."""

    eyes: tuple[float, float, float]  # lid closure 0..1, gaze pitch and yaw in degrees, camera's
    emotion: Array  # (7,) weights as they show now
    turn: Array  # (3,) head pitch, yaw, roll in degrees
    shift: Array  # (3,) head x, y in face widths, log distance
    least: Array  # (FACE_DIM,) what the face shows at least: lids, and emotion beside the lips
    face: Array  # (FACE_DIM,) to be added: sides of an emotion, its jaw in silence
    expression: Array  # (FACE_DIM,) >= 0: brows, expression, pauses, by the caller's expressivity

    def upon(self, face: Array) -> Array:
        """The generator's face (FACE_DIM,) with the plan: more than planned may show, not less."""
        return np.maximum(face, self.least) + self.face


class BehaviourPlanner(Stateful):
    """Plans frame after frame."""

    def __init__(self, seed: int) -> None:
        self.frame = 0
        self.target = (0.0, 0.0)
        self.voice = VoiceTracker()
        self.emotion = EmotionPlanner(seed)
        self.gaze = GazePlanner(seed)
        self.blinks = BlinkPlanner(seed)
        self.head = HeadPlanner(seed)
        self.brows = BrowPlanner(seed)
        self.expression = ExpressionPlanner(seed)
        self.pauses = PausePlanner(seed)

    def step(
        self,
        rows: Array,
        emotion: Array,
        gaze: tuple[float, float] | None = None,
        blink_rate: float | None = None,
        expressivity: float = 1.0,
    ) -> Behaviour:
        """The plan of the next frame.

        :param rows: (n, 4) the frame's rows of the speech encoder: voice activity, energy dBFS,
            log2 F0, voicing
        :param emotion: (7,) eased weights times strength
        :param gaze: where the caller wants the eyes, degrees; None = natural gaze
        :param blink_rate: blinks a minute; None = natural
        :param expressivity: factor on what is expressed beside speech, 0..2; blinks, gaze, sway of
            the head and emotion do not depend on it
        """
        now = self.frame * FRAME
        self.frame += 1
        voice = self.voice.step(rows)
        shown, face, manner = self.emotion.step(emotion, voice)
        offset = self.gaze.step(voice, gaze is not None, manner.shyness, manner.downcast)
        base = gaze or (0.0, 0.0)
        target = base[0] + offset[0], base[1] + offset[1]
        shift = math.dist(target, self.target)
        self.target = target
        closure = self.blinks.step(now, voice, shift, blink_rate, manner.blinks)
        turn, place = self.head.step(voice, target, manner, expressivity)
        lips, dip = self.pauses.step(voice)
        expression = self.brows.step(voice, target[0], manner)
        expression += self.expression.step(voice, manner) + lips
        turn[0] += expressivity * dip
        least = shown @ OUTSIDE_SPEECH
        least[LIDS] = np.maximum(least[LIDS], closure)
        return Behaviour(
            eyes=(closure, *target),
            emotion=shown,
            turn=turn.astype(np.float32),
            shift=place.astype(np.float32),
            least=least,
            face=face,
            expression=np.float32(expressivity) * expression,
        )
