"""Triton model: finds the face in a photo, prepares the portrait, saves the result in the store.

A photo that cannot be used is reported as a typed error (`ServiceError.to_text`).
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import triton_python_backend_utils as pb_utils

from talkingface.contract.errors import ServiceError
from talkingface.renderer.portrait_store import PreparedPortraitStore
from talkingface.renderer.worker.kernels import compile_kernels
from talkingface.renderer.worker.portrait_preparation import PortraitPreparation
from talkingface.serving.config import RendererConfig, load


class TritonPythonModel:
    """One instance."""

    def initialize(self, args: dict[str, str]) -> None:
        """Load the networks of the face analysis, and prepare a grey face."""
        cv2.setNumThreads(1)
        compile_kernels()
        self._preparation = PortraitPreparation()
        self._store = PreparedPortraitStore(load(RendererConfig).portrait_store)
        self._store.save(*self._preparation.warm_up())

    def execute(self, requests: list[Any]) -> list[Any]:
        """Prepare one photo for each request."""
        return [self._respond(request) for request in requests]

    def _respond(self, request: Any) -> Any:
        image = pb_utils.get_input_tensor_by_name(request, "image").as_numpy()
        try:
            portrait, arrays = self._preparation.prepare(image.tobytes())
        except ServiceError as error:
            return pb_utils.InferenceResponse(error=pb_utils.TritonError(error.to_text()))
        self._store.save(portrait, arrays)
        message = np.frombuffer(portrait.SerializeToString(), np.uint8)
        return pb_utils.InferenceResponse([pb_utils.Tensor("portrait", message)])
