"""One render stream, without network: motion in, inference requests out, frames in their order.

    session = RenderSession(handle, view, frame_rate)
    session.push(motion)                                  # (n, 58) at 25 Hz, any number of frames
    while (request := session.next_request()) is not None:
        frame = session.accept(infer("frame_synthesis", request))
    session.end()

A frame depends on nothing but the portrait and its own motion, so that any number of requests may
be under way; their results are accepted in the order of the requests.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from talkingface.contract.motion import MOTION_DIM
from talkingface.contract.video import View
from talkingface.renderer.arrays import AnyArray, Float32Array, Uint8Image
from talkingface.renderer.interpolation import MotionInterpolator
from talkingface.serving import checkpoint

MODEL_NAME = "frame_synthesis"


@dataclass(frozen=True)
class RenderedFrame:
    """A frame and its number in the stream."""

    index: int
    image: Uint8Image  # in the shape of the view


class RenderSession:
    """The state of one stream. Not for use by several threads at once."""

    def __init__(
        self,
        handle: str,
        view: View,
        frame_rate: int,
        first_frame: int = 0,
        start_frame: int = 0,
    ) -> None:
        """
        :param handle: of a prepared portrait, "sha256:" and 64 hex digits
        :param frame_rate: frames a second, at least 25
        :param first_frame: number of the first frame to render
        :param start_frame: index of the first motion frame to be pushed
        """
        self._portrait = np.frombuffer(bytes.fromhex(handle.removeprefix("sha256:")), np.uint8)
        self._view = view
        self._interpolator = MotionInterpolator(frame_rate, start_frame)
        self._first_frame = first_frame
        # Numbers and motion of the frames not yet requested, and not yet accepted.
        self._waiting: deque[tuple[int, Float32Array]] = deque()
        self._requested: deque[tuple[int, Float32Array]] = deque()
        self._pushed = start_frame

    @property
    def pushed(self) -> int:
        """Index of the motion frame to be pushed next."""
        return self._pushed

    def push(self, motion: Float32Array, *, rendered: bool = True) -> None:
        """Append motion (n, 58).

        :param rendered: False drops its frames; their indices are skipped.
        :raises ValueError: another shape
        """
        if motion.ndim != 2 or motion.shape[1] != MOTION_DIM:
            raise ValueError(f"motion must be (n, {MOTION_DIM}), got {motion.shape}")
        first = self._interpolator.produced
        frames = self._interpolator.push(motion.astype(np.float32))
        if rendered:
            self._enqueue(enumerate(frames, first))
        self._pushed += len(motion)

    def end(self) -> None:
        """Note that no more motion follows: the last frames can be rendered."""
        first = self._interpolator.produced
        self._enqueue(enumerate(self._interpolator.end(), first))

    def next_request(self) -> dict[str, AnyArray] | None:
        """Return the model's inputs for the next frame (without a batch dimension), or None."""
        if not self._waiting:
            return None
        self._requested.append(self._waiting.popleft())
        return {
            "portrait": self._portrait,
            "motion": self._requested[-1][1],
            "view": self._view.to_array(),
        }

    def accept(self, outputs: Mapping[str, AnyArray]) -> RenderedFrame:
        """Accept the result of the oldest request that has none.

        :param outputs: image uint8 in the shape of the view
        :raises RuntimeError: no request is waiting for a result
        :raises ValueError: an image of another shape or type
        """
        if not self._requested:
            raise RuntimeError("accept without a request")
        image = outputs["image"]
        if image.shape != self._view.shape or image.dtype != np.uint8:
            raise ValueError(f"frame synthesis returned {image.shape} {image.dtype}")
        index, _ = self._requested.popleft()
        return RenderedFrame(index, image)

    def snapshot(self) -> bytes:
        """Serialise the whole state for `restore`, after which open requests are made again."""
        waiting = [*self._requested, *self._waiting]
        values = {
            "pushed": self._pushed,
            "produced": self._interpolator.produced,
            "waiting": [index for index, _ in waiting],
        }
        motion = np.array([row for _, row in waiting], np.float32).reshape(-1, MOTION_DIM)
        return checkpoint.pack(values, {"motion": motion, "last": self._interpolator.last})

    def restore(self, data: bytes) -> None:
        """Take over the state that `snapshot` has serialised.

        :raises ServiceError: CHECKPOINT_MISMATCH
        """
        values, arrays = checkpoint.unpack(data)
        try:
            like = np.zeros((0, MOTION_DIM), np.float32)
            motion = checkpoint.like(arrays["motion"], like)
            last = checkpoint.like(arrays["last"], like)
            self._enqueue(zip(map(int, values["waiting"]), motion, strict=True))
            self._pushed = int(values["pushed"])
            self._interpolator.restore(self._pushed, int(values["produced"]), last)
        except (KeyError, TypeError, ValueError) as error:
            raise checkpoint.mismatch(repr(error)) from None

    def _enqueue(self, frames: Iterable[tuple[int, Float32Array]]) -> None:
        self._waiting.extend(frame for frame in frames if frame[0] >= self._first_frame)
