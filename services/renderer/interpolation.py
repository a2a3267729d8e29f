"""Motion at 25 frames a second interpolated to any higher frame rate, as it arrives.

Frame i of the result shows the motion at i / rate seconds. Between two motion frames it lies on the
parabola through these and the one before, which follows accelerations as the eye expects them and
needs no more than the next motion frame: a frame waits at most 40 ms for it. The parabola is
flattened where it would leave the range between its two motion frames, so that a shut lid, sealed
lips or any other extreme of the motion is never exceeded. What falls on a motion frame is that
frame, bit for bit.
"""

from __future__ import annotations

import numpy as np

from talkingface.contract.motion import MOTION_DIM
from talkingface.contract.rates import MOTION_FPS
from talkingface.contract.video import frame_count
from talkingface.renderer.arrays import Float32Array


class MotionInterpolator:
    """The state of one stream. The result does not depend on how the motion is cut into pieces."""

    def __init__(self, rate: int, start_frame: int = 0) -> None:
        """
        :param rate: frames a second, at least 25.
        :param start_frame: index of the first motion frame to be pushed.
        """
        self._rate = rate
        self._consumed = start_frame  # index of the motion frame to be pushed next
        self._produced = frame_count(start_frame, rate)  # index of the frame to be returned next
        self._last = np.zeros((0, MOTION_DIM), np.float32)  # the last two motion frames

    def push(self, motion: Float32Array) -> Float32Array:
        """Take the next motion (n, 60) and return the frames (m, 60) that it completes."""
        frames = [self._last[:0]]
        for row in motion:
            frames.append(self._until(row))
            before = self._last[-1] if len(self._last) else row
            self._last = np.stack([before, row])
            self._consumed += 1
            if self._position()[1] == 0:  # the next frame is this motion frame
                frames.append(row[None])
                self._produced += 1
        return np.concatenate(frames)

    def end(self) -> Float32Array:
        """Return the frames (m, 60) after the last motion frame, which they repeat."""
        missing = frame_count(self._consumed, self._rate) - self._produced
        self._produced += missing
        return np.repeat(self._last[-1:], missing, axis=0)

    @property
    def produced(self) -> int:
        """Frames returned so far."""
        return self._produced

    @property
    def last(self) -> Float32Array:
        """The last two motion frames, or none: together with the counts the whole state."""
        return self._last

    def restore(self, consumed: int, produced: int, last: Float32Array) -> None:
        """Continue after `consumed` motion frames, of which `last` are the last, and `produced`
        frames."""
        self._consumed, self._produced, self._last = consumed, produced, last

    def _position(self) -> tuple[int, int]:
        """The motion frame before or at the next frame, and how far beyond it, in 1 / rate of a
        motion frame."""
        return divmod(self._produced * MOTION_FPS, self._rate)

    def _until(self, row: Float32Array) -> Float32Array:
        """The frames (m, 60) between the last motion frame and the one that follows it, `row`."""
        frames = [self._last[:0]]
        while (position := self._position())[0] < self._consumed:
            before, start = self._last
            step = row - start
            limit = 2 * np.abs(step)
            bend = np.clip(step - (start - before), -limit, limit)
            t = np.float32(position[1] / self._rate)
            change = t * step + t * (t - 1) / 2 * bend
            low, high = np.minimum(start, row), np.maximum(start, row)
            frames.append(np.clip(start + change, low, high)[None])
            self._produced += 1
        return np.concatenate(frames)
