"""Triton model: motion frames of prepared portraits as rendered frames, in batches.

The geometry moves the photo's own pixels; what it lacks comes from the model `inpainter`; a viewer
brings the result into the view that was asked for. An instance on a GPU draws there, and passes
crops and residuals between its memory and the network's without the host. It has not run on a GPU.
"""

from __future__ import annotations

from typing import Any

import cv2
import triton_python_backend_utils as pb_utils

from talkingface.contract.errors import ServiceError
from talkingface.renderer.compiler import KERNELS
from talkingface.renderer.pixels import dlpack
from talkingface.renderer.pixels.code_cache import CodeCache
from talkingface.renderer.pixels.device_array import DeviceArray
from talkingface.renderer.portrait_store import PreparedPortraitStore
from talkingface.renderer.worker.devices import (
    OUTPUTS,
    CpuDevice,
    Device,
    Tensors,
    warm_up,
)
from talkingface.renderer.worker.kernels import compile_kernels
from talkingface.renderer.worker.synthesis import FrameSynthesis, SynthesisRequest
from talkingface.renderer.worker.viewer_cache import ViewerCache
from talkingface.serving.config import RendererConfig, load


class TritonPythonModel:
    """One instance."""

    def initialize(self, args: dict[str, str]) -> None:
        """Compile all kernels, so that the first frame is as quick as the others.

        An error here makes Triton's load of the model fail, for example that of an instance on a
        GPU without one.
        """
        cv2.setNumThreads(1)
        self._on_gpu = args["model_instance_kind"] == "GPU"
        self._gpu = int(args["model_instance_device_id"])
        compile_kernels()
        device = self._device()
        warm_up(device)
        store = PreparedPortraitStore(load(RendererConfig).portrait_store)
        viewers = ViewerCache(store, device.cache_bytes)
        self._synthesis = FrameSynthesis(device, viewers, self._infer)
        self._held: list[Any] = []

    def execute(self, requests: list[Any]) -> list[Any]:
        """Render one frame for each request."""
        inputs = [
            SynthesisRequest(*(_array(request, name) for name in SynthesisRequest._fields))
            for request in requests
        ]
        responses = [_response(result) for result in self._synthesis(inputs)]
        self._held.clear()
        return responses

    def _device(self) -> Device:
        if not self._on_gpu:
            return CpuDevice()
        # Instances of the CPU need not load numba's compiler for GPUs.
        from talkingface.renderer.pixels.cuda_driver import CudaDriver
        from talkingface.renderer.worker.gpu_device import GpuDevice

        try:
            return GpuDevice(CudaDriver(self._gpu, CodeCache(KERNELS)))
        except RuntimeError as error:
            raise pb_utils.TritonModelException(f"KIND_GPU, but {error}") from error

    def _infer(self, inputs: Tensors) -> Tensors:
        """Run the model `inpainter` on a batch, whose tensors stay where they are."""
        gpu, cpu = pb_utils.TRITONSERVER_MEMORY_GPU, pb_utils.TRITONSERVER_MEMORY_CPU
        memory = (gpu, self._gpu) if self._on_gpu else (cpu, 0)
        answer = pb_utils.InferenceRequest(
            model_name="inpainter",
            requested_output_names=list(OUTPUTS),
            inputs=[self._tensor(name, value) for name, value in inputs.items()],
            preferred_memory=pb_utils.PreferredMemory(*memory),
        ).exec()
        if answer.has_error():
            raise RuntimeError(f"inpainter: {answer.error().message()}")
        self._held.append(answer)
        return {
            name: self._value(pb_utils.get_output_tensor_by_name(answer, name)) for name in OUTPUTS
        }

    def _tensor(self, name: str, value: Any) -> Any:
        if isinstance(value, DeviceArray):
            return pb_utils.Tensor.from_dlpack(name, dlpack.export(value, self._gpu))
        return pb_utils.Tensor(name, value)

    def _value(self, tensor: Any) -> Any:
        """The array of a tensor, which is held until the batch is done."""
        if tensor.is_cpu():
            return tensor.as_numpy()
        capsule = tensor.to_dlpack()
        self._held += [tensor, capsule]
        return dlpack.imported(capsule)


def _array(request: Any, name: str) -> Any:
    """An input without its batch dimension."""
    return pb_utils.get_input_tensor_by_name(request, name).as_numpy()[0]


def _response(result: Any) -> Any:
    if isinstance(result, ServiceError):
        return pb_utils.InferenceResponse(error=pb_utils.TritonError(result.to_text()))
    if isinstance(result, Exception):
        text = f"{type(result).__name__}: {result}"
        return pb_utils.InferenceResponse(error=pb_utils.TritonError(text))
    return pb_utils.InferenceResponse([pb_utils.Tensor("image", result.reshape(1, -1))])
