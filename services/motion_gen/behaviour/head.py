"""How the head moves: sway, posture, and what the voice asks of it.

Measured on three public addresses and 177 GRID clips (landmark tracking, below 5 Hz): the head
lifts by 2 to 3 degrees as an utterance begins and sinks as it ends; its speed follows the voice
below 1 Hz (r 0.58); on a stressed syllable the pitch peaks 40 to 160 ms after the energy
(1-2 Hz: r 0.24, shuffled 0.06) and then falls. Step per frame 0.20, 0.27 and 0.39 degrees (mean
of pitch, yaw and roll), GRID 0.08 to 0.13. That nods go with stressed syllables on average and
with wide spread: Munhall et al. (2004), Alexanderson et al. (2013).
"""

from __future__ import annotations

import math

import numpy as np

from talkingface.motion_gen.behaviour.emotion import Manner
from talkingface.motion_gen.behaviour.memory import FRAME, Drift, Stateful, stream
from talkingface.motion_gen.behaviour.voice import Voice
from talkingface.motion_gen.easing import spring

# Pitch, yaw, roll in degrees and x, y in face widths, log distance: standard deviations.
SWAY = np.array([1.0, 1.8, 1.1, 0.006, 0.004, 0.005])
SWAY_HZ = np.array([0.13, 0.1, 0.11, 0.08, 0.09, 0.07])
TALK = np.array([[3.7, 3.4, 2.3], [2.5, 2.6, 1.5], [1.5, 2.2, 1.0]])  # slow to quick
TALK_HZ = np.array([[0.28, 0.24, 0.26], [0.75, 0.65, 0.6], [1.6, 1.5, 1.4]])
CALM = 0.5  # share of the talking motion that stays at an expressivity of 0
VIGOUR = 0.18  # deviation of the log of how lively a seed's head is
AT_REST = 0.2  # share of the talking motion that stays while silent
DRIVE_RISE, DRIVE_FALL = 0.12, 0.4  # seconds
NECK = 0.006  # face widths of shift per degree of turn: the neck is below the face

POSTURE = np.array([2.4, 3.2, 2.3])  # standard deviation of a posture, degrees
IDLE_POSTURE = 0.6  # of it while silent
SHIFT_WITH_ACCENT = 0.12  # chance of a new posture with a stressed syllable
SHIFT_WITH_PHRASE = 0.6
SHIFT_SECONDS = 9.0  # mean time between new postures while silent
LIFT = (2.2, 1.8)  # degrees by which a phrase lifts the head: mean, deviation
BOW, SETTLE = -1.4, 4.0  # degrees from which it lifts, and seconds of silence that undo them
TIRING = 0.97  # of the lift that is left a frame later, down to a share of
LEAST_LIFT = 0.35
TUNE = 0.4  # degrees by which a voice a third of an octave above its usual pitch lifts it
BEAT = np.array([1.6, 0.0, 0.0]), np.array([2.2, 3.0, 1.5])  # degrees on an accent: the same
FARTHEST = 2.0  # standard deviations at which postures and beats end
LIMIT = np.array([20.0, 28.0, 20.0])  # degrees that a head nears but never passes
FOLLOW = 0.25  # of the gaze that the head turns itself
NOD_CHANCE = 4.0 / 60.0 * FRAME  # a frame, while listening: four a minute
NOD_AFTER = 1.5  # seconds of silence
NOD_DEGREES, NOD_SECONDS = (2.0, 4.5), (0.45, 0.7)

# How fast lift, posture, beats, gaze and listening nods arrive: 1 / s.
RATES = np.array([[6.0], [6.0], [13.0], [8.0], [16.0]])


class HeadPlanner(Stateful):
    """Places of the head, frame after frame, from the voice and where the eyes go."""

    def __init__(self, seed: int) -> None:
        self.rng = stream(seed, 3)
        self.sway = Drift(self.rng, SWAY_HZ)
        self.talk = Drift(self.rng, TALK_HZ.ravel())
        self.vigour = math.exp(VIGOUR * self.rng.standard_normal())
        self.drive = AT_REST
        self.posture = np.zeros(3)
        self.lift = 0.0
        self.fresh = 0.0  # 1 as a phrase begins, fading
        self.beat = np.zeros(3)
        self.nod_left = 0.0  # seconds
        self.nod = (0.0, 1.0)  # degrees, seconds a nod
        self.place, self.speed = np.zeros((2, len(RATES), 3))

    def step(
        self, voice: Voice, gaze: tuple[float, float], manner: Manner, expressivity: float = 1.0
    ) -> tuple[np.ndarray, np.ndarray]:
        """The next frame: rotation (3,) in degrees; x, y in face widths and log distance (3,).

        :param gaze: planned pitch and yaw, degrees
        :param expressivity: factor on tilts, beats and nods, and on a part of the talking motion
        """
        rng = self.rng
        if voice.phrase:
            self.lift, self.fresh = float(rng.normal(*LIFT)), 1.0
        self.fresh = LEAST_LIFT + TIRING * (self.fresh - LEAST_LIFT)
        chances = (SHIFT_WITH_PHRASE, SHIFT_WITH_ACCENT, FRAME / SHIFT_SECONDS)
        moments = (voice.phrase, voice.accent, not voice.heard)
        if rng.random() < np.dot(chances, moments):
            posture = POSTURE * (1.0 if voice.heard else IDLE_POSTURE)
            self.posture = posture * self._draw()
        if voice.accent:
            self.beat = BEAT[0] + BEAT[1] * self._draw()
        lift = self.lift * self.fresh * voice.heard + TUNE * voice.pitch
        lift += BOW * math.exp(-voice.silence / SETTLE)
        lively = self.vigour * manner.lively
        beat = lively * voice.prominence * self.beat
        follow = np.array([FOLLOW * gaze[0], FOLLOW * gaze[1], 0.0])
        nod = np.array([self._nod(voice), 0.0, 0.0])
        acts = expressivity * np.stack([self.posture, beat, nod])
        targets = np.stack([[lift, 0.0, 0.0], acts[0], acts[1], follow, acts[2]])
        self.place, self.speed = spring(self.place, self.speed, targets, RATES)

        wanted = min(0.7 + 0.6 * voice.prominence, 1.6) if voice.heard else AT_REST
        seconds = DRIVE_RISE if wanted > self.drive else DRIVE_FALL
        self.drive += (wanted - self.drive) * FRAME / seconds
        sway = SWAY * self.sway.step()
        talk = TALK * self.talk.step(lively * self.drive).reshape(TALK.shape)
        talk *= CALM + (1 - CALM) * expressivity
        turn = sway[:3] + talk.sum(axis=0) + self.place.sum(axis=0) + manner.pose
        turn = LIMIT * np.tanh(turn / LIMIT)
        shift = np.array([NECK * (0.5 * turn[1] + turn[2]), -NECK * turn[0], manner.log_distance])
        return turn, shift + sway[3:]

    def _draw(self) -> np.ndarray:
        return np.clip(self.rng.standard_normal(3), -FARTHEST, FARTHEST)

    def _nod(self, voice: Voice) -> float:
        """Target of a listener's nods, degrees: downwards, once or twice."""
        rng = self.rng
        if voice.heard:
            self.nod_left = 0.0
        elif self.nod_left <= 0.0 and voice.silence > NOD_AFTER and rng.random() < NOD_CHANCE:
            self.nod = (rng.uniform(*NOD_DEGREES), rng.uniform(*NOD_SECONDS))
            self.nod_left = self.nod[1] * (1 if rng.random() < 0.6 else 2)
        if self.nod_left <= 0.0:
            return 0.0
        degrees, seconds = self.nod
        self.nod_left -= FRAME
        return -0.5 * degrees * (1 - math.cos(2 * math.pi * self.nod_left / seconds))
