"""What the model `frame_synthesis` does for a batch of requests, without Triton."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from talkingface.contract.errors import ServiceError
from talkingface.contract.video import RenderLevel
from talkingface.renderer.arrays import Float32Array, Int32Array, Uint8Array, Uint8Image
from talkingface.renderer.worker.devices import Device, FrameRequest, Infer, frames_of
from talkingface.renderer.worker.viewport import Viewer


class SynthesisRequest(NamedTuple):
    """The inputs of one request; a batch mixes portraits, views and levels."""

    portrait: Uint8Array  # (32,) digest
    motion: Float32Array  # (60,)
    view: Int32Array  # (13,)
    level: Int32Array  # (1,)


class FrameSynthesis:
    """Renders batches of requests on a device."""

    def __init__(
        self, device: Device, viewer_of: Callable[[bytes, Int32Array], Viewer], infer: Infer
    ) -> None:
        """
        :param viewer_of: as `ViewerCache`.
        :param infer: runs the network on a batch.
        """
        self._device, self._viewer_of, self._infer = device, viewer_of, infer

    def __call__(self, requests: Sequence[SynthesisRequest]) -> list[Uint8Image | Exception]:
        """Return an image or an error for each request; one that fails harms no other.

        :raises RuntimeError: network or GPU has failed; no frame of the batch is finished.
        """
        results: list[Uint8Image | Exception | None] = [None] * len(requests)
        found: list[tuple[int, FrameRequest]] = []
        for index, request in enumerate(requests):
            try:
                found.append((index, self._frame_request(request)))
            except (ServiceError, ValueError, KeyError, OSError) as error:
                results[index] = error
        frames = frames_of(self._device, [request for _, request in found], self._infer)
        for (index, _), frame in zip(found, frames, strict=True):
            results[index] = frame
        return [result for result in results if result is not None]

    def _frame_request(self, request: SynthesisRequest) -> FrameRequest:
        """
        :raises ServiceError: PORTRAIT_NOT_FOUND.
        :raises ValueError: a view or level that there is not; as KeyError and OSError, also a
            stored portrait that cannot be read.
        """
        viewer = self._viewer_of(request.portrait.tobytes(), request.view)
        return FrameRequest(viewer, request.motion, RenderLevel(int(request.level[0])))
