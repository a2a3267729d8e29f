"""One render stream, without network: motion in, inferences out, pictures in their order.

    session = RenderSession(handle, view, frame_rate)
    session.push(motion)                                  # (n, 58) at 25 Hz, any number of frames
    while (request := session.next_request()) is not None:
        frame = session.accept(infer("frame_synthesis", request))
    session.end()

A picture depends on nothing but the portrait and its own motion, so that any number of requests
may be under way; their answers are accepted in the order of the requests.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from talkingface.common.motion import MOTION_DIM, Array
from talkingface.renderer.interpolation import MotionInterpolator
from talkingface.renderer.picture import View

MODEL_NAME = "frame_synthesis"


@dataclass(frozen=True)
class RenderedFrame:
    """A picture and its number in the stream."""

    index: int
    image: NDArray[np.uint8]  # in the shape of the view


class RenderSession:
    """The state of one stream. Not for use by several threads at once."""

    def __init__(self, handle: str, view: View, frame_rate: int) -> None:
        """
        :param handle: of a prepared portrait, "sha256:" and 64 hex digits
        :param frame_rate: pictures a second, at least 25
        """
        self._portrait = np.frombuffer(bytes.fromhex(handle.removeprefix("sha256:")), np.uint8)
        self._view = view
        self._interpolator = MotionInterpolator(frame_rate)
        self._motion: deque[Array] = deque()  # of the pictures not yet requested
        self._pushed = 0
        self._requested = 0
        self._accepted = 0

    @property
    def pushed(self) -> int:
        """Frames of motion pushed so far."""
        return self._pushed

    @property
    def frames(self) -> int:
        """Pictures handed out so far."""
        return self._accepted

    def push(self, motion: Array) -> None:
        """Append motion (n, 58).

        :raises ValueError: another shape
        """
        if motion.ndim != 2 or motion.shape[1] != MOTION_DIM:
            raise ValueError(f"motion must be (n, {MOTION_DIM}), got {motion.shape}")
        self._motion.extend(self._interpolator.push(motion.astype(np.float32)))
        self._pushed += len(motion)

    def end(self) -> None:
        """No more motion comes: the last pictures can be made."""
        self._motion.extend(self._interpolator.end())

    def next_request(self) -> dict[str, NDArray[Any]] | None:
        """Inputs of the model for the next picture (without a batch dimension), or None."""
        if not self._motion:
            return None
        self._requested += 1
        return {
            "portrait": self._portrait,
            "motion": self._motion.popleft(),
            "view": self._view.to_array(),
        }

    def accept(self, outputs: Mapping[str, NDArray[Any]]) -> RenderedFrame:
        """Take the answer to the oldest request that has none.

        :param outputs: image uint8 in the shape of the view
        :raises RuntimeError: no request is waiting for an answer
        :raises ValueError: an image of another shape or type
        """
        if self._accepted == self._requested:
            raise RuntimeError("accept without a request")
        image = outputs["image"]
        if image.shape != self._view.shape or image.dtype != np.uint8:
            raise ValueError(f"frame synthesis answered with {image.shape} {image.dtype}")
        frame = RenderedFrame(self._accepted, image)
        self._accepted += 1
        return frame
