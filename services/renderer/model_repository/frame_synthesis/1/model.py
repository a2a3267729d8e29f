"""Triton model: one motion frame of a prepared portrait as a picture.

The geometry moves the photo's own pixels here; what it lacks comes from the model `inpainter`.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import cv2
import numpy as np
import triton_python_backend_utils as pb_utils

from talkingface.common.config import RendererConfig, load
from talkingface.common.errors import ServiceError
from talkingface.renderer.geometry import Portrait, render
from talkingface.renderer.store import PortraitStore, unpack
from talkingface.renderer.synthesis import finish, inpainter_inputs, warm_up

_KEPT_PORTRAITS = 16  # in memory, about 15 MB each


class TritonPythonModel:
    """One instance."""

    def initialize(self, args: dict[str, str]) -> None:
        """Compile the geometry's kernels, so that the first frame is as quick as the others."""
        cv2.setNumThreads(1)
        self._store = PortraitStore(load(RendererConfig).portrait_store)
        self._portraits: OrderedDict[bytes, Portrait] = OrderedDict()
        warm_up()

    def execute(self, requests: list[Any]) -> list[Any]:
        """One frame a request."""
        return [self._answer(request) for request in requests]

    def _answer(self, request: Any) -> Any:
        try:
            portrait = self._portrait(_array(request, "portrait").tobytes())
        except ServiceError as error:
            return pb_utils.InferenceResponse(error=pb_utils.TritonError(error.to_text()))
        frame = render(portrait, _array(request, "motion"))
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
        image = finish(frame, mouth, eyes)
        return pb_utils.InferenceResponse([pb_utils.Tensor("image", image[None])])

    def _portrait(self, digest: bytes) -> Portrait:
        """A prepared portrait, from memory or from the store.

        :raises ServiceError: PORTRAIT_NOT_FOUND.
        """
        if digest in self._portraits:
            self._portraits.move_to_end(digest)
        else:
            arrays = self._store.load(f"sha256:{digest.hex()}")
            self._portraits[digest] = unpack(Portrait, arrays)
            if len(self._portraits) > _KEPT_PORTRAITS:
                self._portraits.popitem(last=False)
        return self._portraits[digest]


def _array(request: Any, name: str) -> np.ndarray:
    """An input without its batch dimension."""
    array: np.ndarray = pb_utils.get_input_tensor_by_name(request, name).as_numpy()[0]
    return array
