"""One render stream, without network: motion in, inference requests out, frames in their order.

    session = RenderSession(handle, view, frame_rate)
    session.push(motion)                                  # (n, 60) at 25 Hz, any number of frames
    while (request := session.next_request()) is not None:
        frame = session.accept(infer("frame_synthesis", request) if request else {})
    session.end()

A frame depends on nothing but the portrait, its own motion and its level, so that any number of
requests may be under way; their results are accepted in the order of the requests.

At half the rate, a frame with an odd index has the motion and the level of the frame before it. If
that one came from this session it is repeated; after a restart it is rendered, with the same pixels
as a result.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from talkingface.contract.motion import MOTION_DIM
from talkingface.contract.video import RenderLevel, View
from talkingface.renderer.arrays import AnyArray, Float32Array, Uint8Image
from talkingface.renderer.interpolation import MotionInterpolator
from talkingface.serving import checkpoint

MODEL_NAME = "frame_synthesis"


@dataclass(frozen=True)
class RenderedFrame:
    """A frame and its number in the stream."""

    index: int
    image: Uint8Image | None  # in the shape of the view; None if it repeats the frame before it


@dataclass(frozen=True)
class _Frame:
    """What a frame is rendered from."""

    index: int
    motion: Float32Array  # (60,)
    level: int  # of `RenderLevel`
    repeats: bool  # the same motion and level as those of the frame with the index before


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
        self._waiting: deque[_Frame] = deque()  # not yet requested
        self._requested: deque[tuple[_Frame, bool]] = deque()  # not yet accepted; whether rendered
        self._last_requested = -1  # index of a frame
        self._last_pushed: _Frame | None = None  # None if it was dropped
        self._pushed = start_frame
        self._level = RenderLevel.FULL

    @property
    def pushed(self) -> int:
        """Index of the motion frame to be pushed next."""
        return self._pushed

    def push(
        self, motion: Float32Array, level: int = RenderLevel.FULL, *, rendered: bool = True
    ) -> None:
        """Append motion (n, 60).

        :param level: level of the frames that it completes
        :param rendered: False drops its frames; their indices are skipped.
        :raises ValueError: another shape, or no such level
        """
        self._level = RenderLevel(level)
        if motion.ndim != 2 or motion.shape[1] != MOTION_DIM:
            raise ValueError(f"motion must be (n, {MOTION_DIM}), got {motion.shape}")
        first = self._interpolator.produced
        frames = self._interpolator.push(motion.astype(np.float32))
        if rendered:
            self._enqueue(first, frames)
        elif len(frames):
            self._last_pushed = None
        self._pushed += len(motion)

    def end(self) -> None:
        """Note that no more motion follows: the last frames can be rendered."""
        first = self._interpolator.produced
        self._enqueue(first, self._interpolator.end())

    def next_request(self) -> dict[str, AnyArray] | None:
        """Return the model's inputs for the next frame (without a batch dimension).

        :return: no inputs if the frame repeats the one before it; None if motion is missing.
        """
        if not self._waiting:
            return None
        frame = self._waiting.popleft()
        rendered = not (frame.repeats and self._last_requested == frame.index - 1)
        self._requested.append((frame, rendered))
        self._last_requested = frame.index
        if not rendered:
            return {}
        return {
            "portrait": self._portrait,
            "motion": frame.motion,
            "view": self._view.to_array(),
            "level": np.array([frame.level], np.int32),
        }

    def accept(self, outputs: Mapping[str, AnyArray]) -> RenderedFrame:
        """Accept the result of the oldest request that has none.

        :param outputs: image uint8 in the shape of the view; none for a request without inputs
        :raises RuntimeError: no request is waiting for a result
        :raises ValueError: an image of another shape or type
        """
        if not self._requested:
            raise RuntimeError("accept without a request")
        frame, rendered = self._requested[0]
        if not rendered:
            self._requested.popleft()
            return RenderedFrame(frame.index, None)
        image = outputs["image"]
        if image.shape != self._view.shape or image.dtype != np.uint8:
            raise ValueError(f"frame synthesis returned {image.shape} {image.dtype}")
        self._requested.popleft()
        return RenderedFrame(frame.index, image)

    def snapshot(self) -> bytes:
        """Serialise the whole state for `restore`, after which open requests are made again."""
        waiting = [*(frame for frame, _ in self._requested), *self._waiting]
        # The next frame may repeat the last one, also if that one is no longer waiting.
        frames = [*waiting, *([self._last_pushed] if self._last_pushed else [])]
        values = {
            "pushed": self._pushed,
            "produced": self._interpolator.produced,
            "level": self._level,
            "waiting": len(waiting),
            "frames": [[frame.index, frame.level, frame.repeats] for frame in frames],
        }
        motion = np.array([frame.motion for frame in frames], np.float32).reshape(-1, MOTION_DIM)
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
            frames = [
                _Frame(int(index), row, RenderLevel(level), bool(repeats))
                for (index, level, repeats), row in zip(values["frames"], motion, strict=True)
            ]
            waiting = int(values["waiting"])
            self._last_pushed = frames[waiting] if len(frames) > waiting else None
            self._waiting.extend(f for f in frames[:waiting] if f.index >= self._first_frame)
            self._level = RenderLevel(values["level"])
            self._pushed = int(values["pushed"])
            self._interpolator.restore(self._pushed, int(values["produced"]), last)
        except (KeyError, TypeError, ValueError) as error:
            raise checkpoint.mismatch(repr(error)) from None

    def _enqueue(self, first: int, frames: Float32Array) -> None:
        """Queue frames at the current level.

        :param first: index of the first frame
        :param frames: their motion (n, 60)
        """
        for index, motion in enumerate(frames, first):
            frame = _Frame(index, motion, min(self._level, RenderLevel.HALF_RESOLUTION), False)
            before = self._last_pushed
            if self._level is RenderLevel.HALF_RATE and index % 2 and before is not None:
                frame = replace(before, index=index, repeats=True)
            self._last_pushed = frame
            if index >= self._first_frame:
                self._waiting.append(frame)
