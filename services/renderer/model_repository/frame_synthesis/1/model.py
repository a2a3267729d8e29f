"""Triton model: one motion frame of a prepared portrait as a picture.

The geometry moves the photo's own pixels here; what it lacks comes from the model `inpainter`; the
view makes of the frame the picture that was asked for.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import cv2
import numpy as np
import triton_python_backend_utils as pb_utils

from talkingface.contract.errors import ServiceError
from talkingface.contract.picture import View
from talkingface.renderer.geometry import PreparedPortrait
from talkingface.renderer.portrait_store import PHOTO, PORTRAIT, PreparedPortraitStore, unpack
from talkingface.renderer.worker.frame_synthesis import finish, inpainter_inputs, warm_up
from talkingface.renderer.worker.kernels import compile_kernels
from talkingface.renderer.worker.viewport import PhotoPixels, Viewer, make_viewer
from talkingface.serving.config import RendererConfig, load

_KEPT_BYTES = 64 << 20  # portraits and views in memory: 10 MB, large views up to 50 MB more


class TritonPythonModel:
    """One instance."""

    def initialize(self, args: dict[str, str]) -> None:
        """Compile the geometry's kernels, so that the first frame is as quick as the others."""
        cv2.setNumThreads(1)
        self._store = PreparedPortraitStore(load(RendererConfig).portrait_store)
        self._kept: OrderedDict[bytes, tuple[PreparedPortrait, Viewer, int]] = OrderedDict()
        compile_kernels()
        warm_up()

    def execute(self, requests: list[Any]) -> list[Any]:
        """One frame a request."""
        return [self._answer(request) for request in requests]

    def _answer(self, request: Any) -> Any:
        digest, values = _array(request, "portrait").tobytes(), _array(request, "view")
        try:
            portrait, viewer = self._viewer(digest, values)
        except ServiceError as error:
            return pb_utils.InferenceResponse(error=pb_utils.TritonError(error.to_text()))
        frame = viewer.render(_array(request, "motion"))
        answer = pb_utils.InferenceRequest(
            model_name="inpainter",
            requested_output_names=["mouth_residual", "eyes_residual"],
            inputs=[
                pb_utils.Tensor(name, value[None])
                for name, value in inpainter_inputs(portrait, frame).items()
            ],
            # On a GPU server the answer would otherwise stay in GPU memory.
            preferred_memory=pb_utils.PreferredMemory(pb_utils.TRITONSERVER_MEMORY_CPU, 0),
        ).exec()
        if answer.has_error():
            raise RuntimeError(f"inpainter: {answer.error().message()}")
        mouth, eyes = (
            pb_utils.get_output_tensor_by_name(answer, name).as_numpy()[0]
            for name in ("mouth_residual", "eyes_residual")
        )
        finish(frame, mouth, eyes)
        picture = viewer.picture(frame).reshape(1, -1)
        return pb_utils.InferenceResponse([pb_utils.Tensor("image", picture)])

    def _viewer(self, digest: bytes, values: np.ndarray) -> tuple[PreparedPortrait, Viewer]:
        """A prepared portrait and what shows it in a view, from memory or from the store.

        :raises ServiceError: PORTRAIT_NOT_FOUND.
        """
        key = digest + values.tobytes()
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key][:2]
        handle = f"sha256:{digest.hex()}"
        arrays = self._store.load(handle, PORTRAIT)
        portrait = unpack(PreparedPortrait, arrays, PORTRAIT)
        pixels = unpack(PhotoPixels, self._store.load(handle, PHOTO), PHOTO)
        viewer = make_viewer(portrait, pixels, View.from_array(values))
        size = sum(array.nbytes for array in arrays.values()) + viewer.nbytes
        while self._kept and size + sum(kept[2] for kept in self._kept.values()) > _KEPT_BYTES:
            self._kept.popitem(last=False)
        self._kept[key] = portrait, viewer, size
        return portrait, viewer


def _array(request: Any, name: str) -> np.ndarray:
    """An input without its batch dimension."""
    array: np.ndarray = pb_utils.get_input_tensor_by_name(request, name).as_numpy()[0]
    return array
