"""Actions of the face: each has an onset, an apex and an offset."""

from __future__ import annotations

import numpy as np

from talkingface.motion_gen.behaviour.memory import FRAME, Floats, Stateful
from talkingface.motion_gen.easing import spring

REACH = 3.9  # a critically damped spring is 90 % of the way after this over its rate


class Actions(Stateful):
    """Several actions side by side, without a jump in place or speed, also where one begins anew or
    is cut short: each is drawn to its size while it lasts, and home afterwards."""

    def __init__(self, count: int) -> None:
        self.size, self.left, self.place, self.speed = np.zeros((4, count))
        self.onset, self.offset = np.ones((2, count))

    def begin(self, which: int, size: float, onset: float, apex: float, offset: float) -> None:
        """Let an action begin in the next frame.

        :param size: its height at the apex
        :param onset: seconds in which it gets 90 % of the way there
        :param apex: seconds that it stays
        :param offset: seconds in which it loses 90 % of it
        """
        self.size[which], self.left[which] = size, onset + apex
        self.onset[which], self.offset[which] = onset, offset

    def release(self, which: int | slice, offset: float) -> None:
        """Let what lasts go now, in `offset` seconds at most."""
        self.left[which] = np.minimum(self.left[which], 0.0)
        self.offset[which] = np.minimum(self.offset[which], offset)

    def since(self, which: int) -> float:
        """Seconds since an action let go; negative while it lasts."""
        return -float(self.left[which])

    def step(self) -> Floats:
        """Places one frame on, (count,)."""
        lasts = self.left > 0
        self.left -= FRAME
        rate = REACH / np.where(lasts, self.onset, self.offset)
        self.place, self.speed = spring(self.place, self.speed, lasts * self.size, rate)
        return self.place
