"""Head motion: sway, posture, and what follows the speech.

Measured on three public addresses and 177 GRID clips (landmark tracking, below 5 Hz): the head
lifts by 2 to 3 degrees as an utterance begins and sinks as it ends; its speed follows the voice
below 1 Hz (r 0.58); on a stressed syllable the pitch peaks 40 to 160 ms after the energy
(1-2 Hz: r 0.24, shuffled 0.06) and then falls. Step per frame 0.20, 0.27 and 0.39 degrees (mean
of pitch, yaw and roll), GRID 0.08 to 0.13. That nods go with stressed syllables on average and
with wide spread: Munhall et al. (2004), Alexanderson et al. (2013).

Sizes and frequencies were set by eye so that the sum has the measured lift, steps per frame and
spectrum.
"""

from __future__ import annotations

import math

import numpy as np

from talkingface.contract.arrays import Float64Array
from talkingface.motion_gen.behaviour.emotion import Manner
from talkingface.motion_gen.behaviour.noise import SmoothNoise
from talkingface.motion_gen.behaviour.speech import SpeechFrame
from talkingface.motion_gen.behaviour.state import Serializable, random_stream
from talkingface.motion_gen.easing import spring
from talkingface.motion_gen.windows import FRAME_SECONDS

# Standard deviations of pitch, yaw, roll in degrees, x, y in face widths, and log distance.
SWAY = np.array([1.0, 1.8, 1.1, 0.006, 0.004, 0.005])
SWAY_HZ = np.array([0.13, 0.1, 0.11, 0.08, 0.09, 0.07])
# Talking motion in three bands, slow to quick: pitch, yaw, roll, degrees at a drive of 1.
TALK = np.array([[3.7, 3.4, 2.3], [2.5, 2.6, 1.5], [1.5, 2.2, 1.0]])
TALK_HZ = np.array([[0.28, 0.24, 0.26], [0.75, 0.65, 0.6], [1.6, 1.5, 1.4]])
UNEXPRESSIVE_SHARE = 0.5  # of the talking motion that stays at an expressivity of 0
LIVELINESS_SIGMA = 0.18  # standard deviation of the log of a seed's factor on head motion
# Drive of the talking motion in speech: a base, an increase per unit of prominence, a limit.
DRIVE_BASE, DRIVE_PER_PROMINENCE, MAX_DRIVE = 0.7, 0.6, 1.6
DRIVE_AT_REST = 0.2  # while silent
DRIVE_RISE, DRIVE_FALL = 0.12, 0.4  # seconds, time constants
# Face widths of shift per degree of rotation, as the neck is below the face; half for yaw.
NECK_SHIFT, NECK_YAW_FACTOR = 0.006, 0.5

POSTURE = np.array([2.4, 3.2, 2.3])  # pitch, yaw, roll, degrees: standard deviation of a posture
IDLE_POSTURE = 0.6  # factor on it while silent
POSTURE_AT_ACCENT = 0.12  # chance of a new posture at an accent
POSTURE_AT_PHRASE = 0.6  # chance at the start of a phrase
POSTURE_SECONDS = 9.0  # mean time between new postures while silent
LIFT = (2.2, 1.8)  # degrees by which a phrase lifts the head: mean, standard deviation
LIFT_DECAY = 0.97  # per frame, of the part of the lift above
LIFT_FLOOR = 0.35  # of the lift, which stays
SINK = -1.4  # degrees to which the head sinks after speech, from which it recovers
SINK_SECONDS = 4.0  # time constant of the recovery
PITCH_LIFT = 0.4  # degrees per unit of the voice's pitch (see `SpeechFrame.pitch`)
# Degrees of pitch, yaw, roll on an accent at a prominence of 1: mean, standard deviation.
BEAT = np.array([1.6, 0.0, 0.0]), np.array([2.2, 3.0, 1.5])
MAX_DEVIATIONS = 2.0  # at which random numbers for postures and beats are clipped
LIMIT = np.array([20.0, 28.0, 20.0])  # pitch, yaw, roll, degrees: approached, never passed
GAZE_SHARE = 0.25  # of the gaze that the head turns itself
NOD_CHANCE = 4.0 / 60.0 * FRAME_SECONDS  # per frame while listening: four nods a minute
NOD_AFTER = 1.5  # seconds of silence before nods
NOD_DEGREES, NOD_SECONDS = (2.0, 4.5), (0.45, 0.7)  # ranges of the size and the length of a nod
SINGLE_NOD_CHANCE = 0.6  # otherwise the nod is repeated once

# Springs of lift, posture, beats, gaze and listener's nods: 1 / s.
RATES = np.array([[6.0], [6.0], [13.0], [8.0], [16.0]])


class HeadPlanner(Serializable):
    """Plans the head's motion from speech, gaze and emotion."""

    def __init__(self, seed: int) -> None:
        self.rng = random_stream(seed, 3)
        self.sway = SmoothNoise(self.rng, SWAY_HZ)
        self.talk = SmoothNoise(self.rng, TALK_HZ.ravel())
        self.liveliness = math.exp(LIVELINESS_SIGMA * self.rng.standard_normal())
        self.drive = DRIVE_AT_REST
        self.posture = np.zeros(3)  # degrees
        self.lift = 0.0  # degrees
        self.lift_share = 0.0  # of the lift: 1 as a phrase begins, then decaying
        self.beat = np.zeros(3)  # degrees at a prominence of 1
        self.nod_left = 0.0  # seconds
        self.nod = (0.0, 1.0)  # degrees, seconds of one nod
        # (5, 3) in degrees and degrees per second: the springs of `RATES`.
        self.position, self.velocity = np.zeros((2, len(RATES), 3))

    def step(
        self,
        speech: SpeechFrame,
        gaze: tuple[float, float],
        manner: Manner,
        expressivity: float = 1.0,
    ) -> tuple[Float64Array, Float64Array]:
        """Advance by one frame.

        :param speech: speech of the frame
        :param gaze: planned pitch and yaw, degrees
        :param manner: effect of the emotion
        :param expressivity: factor on postures, beats, nods, and on a part of the talking motion
        :return: rotation (3,) in degrees; x, y in face widths and log distance (3,)
        """
        liveliness = self.liveliness * manner.liveliness
        self._draw_events(speech)
        lift = self.lift * self.lift_share * speech.active + PITCH_LIFT * speech.pitch
        lift += SINK * math.exp(-speech.silence / SINK_SECONDS)
        beat = liveliness * speech.prominence * self.beat
        follow = np.array([GAZE_SHARE * gaze[0], GAZE_SHARE * gaze[1], 0.0])
        nod = np.array([self._nod(speech), 0.0, 0.0])
        expressive = expressivity * np.stack([self.posture, beat, nod])
        targets = np.stack([[lift, 0.0, 0.0], expressive[0], expressive[1], follow, expressive[2]])
        self.position, self.velocity = spring(self.position, self.velocity, targets, RATES)

        self._step_drive(speech)
        sway = SWAY * self.sway.step()
        talk = TALK * self.talk.step(liveliness * self.drive).reshape(TALK.shape)
        talk *= UNEXPRESSIVE_SHARE + (1 - UNEXPRESSIVE_SHARE) * expressivity
        rotation = sway[:3] + talk.sum(axis=0) + self.position.sum(axis=0) + manner.pose
        rotation = LIMIT * np.tanh(rotation / LIMIT)
        pitch, yaw, roll = rotation
        shift = np.array(
            [
                NECK_SHIFT * (NECK_YAW_FACTOR * yaw + roll),
                -NECK_SHIFT * pitch,
                manner.log_distance,
            ]
        )
        return rotation, shift + sway[3:]

    def _draw_events(self, speech: SpeechFrame) -> None:
        """Draw lift, posture and beat at the events of the frame."""
        rng = self.rng
        if speech.phrase_start:
            self.lift, self.lift_share = float(rng.normal(*LIFT)), 1.0
        self.lift_share = LIFT_FLOOR + LIFT_DECAY * (self.lift_share - LIFT_FLOOR)
        chances = (POSTURE_AT_PHRASE, POSTURE_AT_ACCENT, FRAME_SECONDS / POSTURE_SECONDS)
        events = (speech.phrase_start, speech.accent, not speech.active)
        if rng.random() < np.dot(chances, events):
            size = POSTURE * (1.0 if speech.active else IDLE_POSTURE)
            self.posture = size * self._draw_deviations()
        if speech.accent:
            self.beat = BEAT[0] + BEAT[1] * self._draw_deviations()

    def _step_drive(self, speech: SpeechFrame) -> None:
        """Move the drive of the talking motion towards its target."""
        target = DRIVE_AT_REST
        if speech.active:
            target = min(DRIVE_BASE + DRIVE_PER_PROMINENCE * speech.prominence, MAX_DRIVE)
        seconds = DRIVE_RISE if target > self.drive else DRIVE_FALL
        self.drive += (target - self.drive) * FRAME_SECONDS / seconds

    def _draw_deviations(self) -> Float64Array:
        """Draw three clipped standard normal numbers."""
        return np.clip(self.rng.standard_normal(3), -MAX_DEVIATIONS, MAX_DEVIATIONS)

    def _nod(self, speech: SpeechFrame) -> float:
        """Return the pitch of a listener's nod in degrees, downwards; nods come once or twice."""
        rng = self.rng
        if speech.active:
            self.nod_left = 0.0
        elif self.nod_left <= 0.0 and speech.silence > NOD_AFTER and rng.random() < NOD_CHANCE:
            self.nod = (rng.uniform(*NOD_DEGREES), rng.uniform(*NOD_SECONDS))
            self.nod_left = self.nod[1] * (1 if rng.random() < SINGLE_NOD_CHANCE else 2)
        if self.nod_left <= 0.0:
            return 0.0
        degrees, seconds = self.nod
        self.nod_left -= FRAME_SECONDS
        return -0.5 * degrees * (1 - math.cos(2 * math.pi * self.nod_left / seconds))
