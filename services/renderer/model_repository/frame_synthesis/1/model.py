"""Triton model: one motion frame of a prepared portrait as a rendered frame.

The geometry moves the photo's own pixels; what it lacks comes from the model `inpainter`; a viewer
brings the result into the view that was asked for.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import cv2
import triton_python_backend_utils as pb_utils

from talkingface.contract.errors import ServiceError
from talkingface.contract.video import RenderLevel, View
from talkingface.renderer.arrays import AnyArray, Int32Array
from talkingface.renderer.geometry import PreparedPortrait
from talkingface.renderer.portrait_store import PHOTO, PORTRAIT, PreparedPortraitStore, unpack
from talkingface.renderer.worker.frame_synthesis import finish, inpainter_inputs, warm_up
from talkingface.renderer.worker.kernels import compile_kernels
from talkingface.renderer.worker.viewport import Canvases, PhotoPixels, Viewer, make_viewer
from talkingface.serving.config import RendererConfig, load

_CACHE_BYTES = 64 << 20  # portraits and viewers in memory: 10 MB, large views up to 50 MB more


class TritonPythonModel:
    """One instance."""

    def initialize(self, args: dict[str, str]) -> None:
        """Compile the geometry's kernels, so that the first frame is as quick as the others."""
        cv2.setNumThreads(1)
        self._store = PreparedPortraitStore(load(RendererConfig).portrait_store)
        self._cache: OrderedDict[bytes, tuple[Viewer, int]] = OrderedDict()
        self._canvases = Canvases()
        compile_kernels()
        warm_up()

    def execute(self, requests: list[Any]) -> list[Any]:
        """Render one frame for each request."""
        return [self._respond(request) for request in requests]

    def _respond(self, request: Any) -> Any:
        digest, values = _array(request, "portrait").tobytes(), _array(request, "view")
        try:
            viewer = self._viewer(digest, values)
        except ServiceError as error:
            return pb_utils.InferenceResponse(error=pb_utils.TritonError(error.to_text()))
        level = RenderLevel(int(_array(request, "level")[0]))
        frame = viewer.render(_array(request, "motion"), level, self._canvases)
        inpainted = pb_utils.InferenceRequest(
            model_name="inpainter",
            requested_output_names=["mouth_residual", "eyes_residual"],
            inputs=[
                pb_utils.Tensor(name, value[None])
                for name, value in inpainter_inputs(frame).items()
            ],
            # On a GPU server the result would otherwise stay in GPU memory.
            preferred_memory=pb_utils.PreferredMemory(pb_utils.TRITONSERVER_MEMORY_CPU, 0),
        ).exec()
        if inpainted.has_error():
            raise RuntimeError(f"inpainter: {inpainted.error().message()}")
        mouth, eyes = (
            pb_utils.get_output_tensor_by_name(inpainted, name).as_numpy()[0]
            for name in ("mouth_residual", "eyes_residual")
        )
        finish(frame, mouth, eyes)
        image = viewer.show(frame).reshape(1, -1)
        return pb_utils.InferenceResponse([pb_utils.Tensor("image", image)])

    def _viewer(self, digest: bytes, values: Int32Array) -> Viewer:
        """Return the viewer of a prepared portrait, from memory or from the store.

        :param values: (4,) the view as `View.from_array` takes it.

        :raises ServiceError: PORTRAIT_NOT_FOUND.
        """
        key = digest + values.tobytes()
        if key in self._cache:
            self._cache.move_to_end(key)
            return self._cache[key][0]
        handle = f"sha256:{digest.hex()}"
        arrays = self._store.load(handle, PORTRAIT)
        portrait = unpack(PreparedPortrait, arrays, PORTRAIT)
        pixels = unpack(PhotoPixels, self._store.load(handle, PHOTO), PHOTO)
        viewer = make_viewer(portrait, pixels, View.from_array(values))
        size = sum(array.nbytes for array in arrays.values()) + viewer.nbytes
        while (
            self._cache and size + sum(cached[1] for cached in self._cache.values()) > _CACHE_BYTES
        ):
            self._cache.popitem(last=False)
        self._cache[key] = viewer, size
        return viewer


def _array(request: Any, name: str) -> AnyArray:
    """An input without its batch dimension."""
    array: AnyArray = pb_utils.get_input_tensor_by_name(request, name).as_numpy()[0]
    return array
