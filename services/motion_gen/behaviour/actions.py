"""Facial actions with onset, apex and offset."""

from __future__ import annotations

import numpy as np

from talkingface.contract.arrays import Float64Array
from talkingface.motion_gen.behaviour.state import Serializable
from talkingface.motion_gen.easing import spring
from talkingface.motion_gen.windows import FRAME_SECONDS

# A critically damped spring has covered 90 % of the way when its rate times the time is this.
RATE_TIMES_SECONDS = 3.9


class Actions(Serializable):
    """Several independent actions, each driven by a spring.

    Position and velocity never jump, even where an action starts anew or is cut short: the spring
    pulls it to its size until its apex is over, then back to zero.
    """

    position: Float64Array  # (count,)
    velocity: Float64Array  # (count,) per second

    def __init__(self, count: int) -> None:
        self.size, self.hold_left, self.position, self.velocity = np.zeros((4, count))
        self.onset, self.offset = np.ones((2, count))  # seconds

    def begin(self, which: int, size: float, onset: float, apex: float, offset: float) -> None:
        """Start an action in the next frame.

        :param which: index of the action
        :param size: height at the apex
        :param onset: seconds until 90 % of the size is reached
        :param apex: seconds at the apex
        :param offset: seconds in which 90 % of the size is lost afterwards
        """
        self.size[which], self.hold_left[which] = size, onset + apex
        self.onset[which], self.offset[which] = onset, offset

    def release(self, which: int | slice, offset: float) -> None:
        """End actions now.

        :param which: index or indices of the actions
        :param offset: most seconds in which they lose 90 % of their size
        """
        self.hold_left[which] = np.minimum(self.hold_left[which], 0.0)
        self.offset[which] = np.minimum(self.offset[which], offset)

    def seconds_since_release(self, which: int) -> float:
        """Return the seconds since an action's apex ended; negative before that."""
        return -float(self.hold_left[which])

    def step(self) -> Float64Array:
        """Advance by one frame and return the positions, (count,)."""
        held = self.hold_left > 0
        self.hold_left -= FRAME_SECONDS
        rate = RATE_TIMES_SECONDS / np.where(held, self.onset, self.offset)
        self.position, self.velocity = spring(self.position, self.velocity, held * self.size, rate)
        return self.position
