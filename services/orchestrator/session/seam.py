"""Eases from the last motion of one build of the motion generator into that of another."""

from __future__ import annotations

from talkingface.contract.messages import motion_array, motion_message
from talkingface.contract.rates import MOTION_FPS
from talkingface.v1.motion_gen_pb2 import MotionChunk
from talkingface.v1.motion_pb2 import MotionFrame

# By eye: a head turns as far as it may have moved in about this time.
EASE_SECONDS = 0.4
_FRAMES = round(EASE_SECONDS * MOTION_FPS)


class Seam:
    """Blends motion into the frame before it, with a weight that falls smoothly to zero."""

    def __init__(self, last: MotionFrame, begin: int) -> None:
        """
        :param last: the frame to start from.
        :param begin: index of the first frame that is shown after it.
        """
        chunk = MotionChunk(frames=[last])
        self._last = motion_array(chunk, last.index)[0]
        self._begin = begin

    def ended(self, frame: int) -> bool:
        """Whether a frame and all later ones stay as they are."""
        return frame >= self._begin + _FRAMES

    def apply(self, chunk: MotionChunk) -> MotionChunk:
        """Return the next motion frames, blended."""
        if not chunk.frames:
            return chunk
        first = chunk.frames[0].index
        motion = motion_array(chunk, first)
        for frame, row in enumerate(motion, first):
            if not self.ended(frame):
                t = max(frame - self._begin + 1, 0) / (_FRAMES + 1)
                row += (1 - t * t * (3 - 2 * t)) * (self._last - row)
        return motion_message(first, motion)
