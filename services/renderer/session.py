"""One render stream, without network: motion in, inferences out, pictures in their order.

    session = RenderSession(handle)
    session.push(motion)                                  # (n, 58), any number of frames
    while (request := session.next_request()) is not None:
        frame = session.accept(infer("frame_synthesis", request))
    session.end()

A frame depends on nothing but the portrait and its own motion, so that any number of requests may
be under way; their answers are accepted in the order of the requests.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from talkingface.common.motion import MOTION_DIM, Array

MODEL_NAME = "frame_synthesis"
FRAME_SIZE = 512  # pixels, both sides


@dataclass(frozen=True)
class RenderedFrame:
    """A picture and its number in the stream."""

    index: int
    image: NDArray[np.uint8]  # (512, 512, 3) RGB


class RenderSession:
    """The state of one stream. Not for use by several threads at once."""

    def __init__(self, handle: str) -> None:
        """
        :param handle: of a prepared portrait, "sha256:" and 64 hex digits
        """
        self._portrait = np.frombuffer(bytes.fromhex(handle.removeprefix("sha256:")), np.uint8)
        self._motion: deque[Array] = deque()
        self._pushed = 0
        self._requested = 0
        self._accepted = 0

    @property
    def pushed(self) -> int:
        """Frames of motion pushed so far."""
        return self._pushed

    @property
    def frames(self) -> int:
        """Frames handed out so far."""
        return self._accepted

    def push(self, motion: Array) -> None:
        """Append motion (n, 58).

        :raises ValueError: another shape
        """
        if motion.ndim != 2 or motion.shape[1] != MOTION_DIM:
            raise ValueError(f"motion must be (n, {MOTION_DIM}), got {motion.shape}")
        self._motion.extend(motion.astype(np.float32))
        self._pushed += len(motion)

    def next_request(self) -> dict[str, NDArray[Any]] | None:
        """Inputs of the model for the next frame (without a batch dimension), or None."""
        if not self._motion:
            return None
        self._requested += 1
        return {"portrait": self._portrait, "motion": self._motion.popleft()}

    def accept(self, outputs: Mapping[str, NDArray[Any]]) -> RenderedFrame:
        """Take the answer to the oldest request that has none.

        :param outputs: image uint8 (512, 512, 3)
        :raises RuntimeError: no request is waiting for an answer
        :raises ValueError: an image of another shape or type
        """
        if self._accepted == self._requested:
            raise RuntimeError("accept without a request")
        image = outputs["image"]
        if image.shape != (FRAME_SIZE, FRAME_SIZE, 3) or image.dtype != np.uint8:
            raise ValueError(f"frame synthesis answered with {image.shape} {image.dtype}")
        frame = RenderedFrame(self._accepted, image)
        self._accepted += 1
        return frame
