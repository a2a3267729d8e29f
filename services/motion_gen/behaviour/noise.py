"""Smooth random motion."""

from __future__ import annotations

import math

import numpy as np

from talkingface.contract.arrays import Float64Array
from talkingface.motion_gen.behaviour.state import Serializable
from talkingface.motion_gen.windows import FRAME_SECONDS

FORCE_SECONDS = 0.16  # time constant with which a force builds up, as in a muscle; by eye
DAMPING = 0.7  # ratio to critical damping; by eye


class SmoothNoise(Serializable):
    """Damped oscillators driven by white noise: unit variance each, continuous in velocity.

    The force is low-pass filtered with `FORCE_SECONDS`; its strength follows from the H2 norm of
    the resulting third-order system.
    """

    position: Float64Array  # (n,)
    velocity: Float64Array  # (n,) per second

    def __init__(self, rng: np.random.Generator, hz: Float64Array) -> None:
        """
        :param rng: random generator, possibly shared with others
        :param hz: (n,) natural frequency of each oscillator
        """
        omega = 2 * math.pi * np.asarray(hz, np.float64)
        first = 1 + 2 * DAMPING * omega * FORCE_SECONDS
        second = 2 * DAMPING * omega + omega**2 * FORCE_SECONDS
        self.rng = rng
        self.strength = np.sqrt(
            2 * omega**2 * (first * second - FORCE_SECONDS * omega**2) / first / FRAME_SECONDS
        )
        self.damping, self.stiffness = 2 * DAMPING * omega, omega**2
        self.position, self.velocity, self.force = np.zeros((3, len(omega)))

    def step(self, drive: float = 1.0) -> Float64Array:
        """Advance by one frame and return the positions, (n,).

        :param drive: factor on the force; at 0 the oscillators come to rest
        """
        noise = drive * self.strength * self.rng.standard_normal(len(self.position))
        self.force += (noise - self.force) * (FRAME_SECONDS / FORCE_SECONDS)
        pull = self.damping * self.velocity + self.stiffness * self.position
        self.velocity += FRAME_SECONDS * (self.force - pull)
        self.position = self.position + FRAME_SECONDS * self.velocity
        return self.position
