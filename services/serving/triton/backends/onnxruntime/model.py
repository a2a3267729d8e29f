"""A Triton backend named "onnxruntime", for servers that have the Python backend alone.

It loads unmodified `backend: "onnxruntime"` models, so that the same model repository works in the
embedded Triton and in NVIDIA's container with its own ONNX Runtime backend. Supported settings of a
model: `default_model_filename`, `max_batch_size`, `dynamic_batching`, and the parameters
`intra_op_thread_count` and `inter_op_thread_count` of NVIDIA's backend.

On the CPU every request is run alone, so that the bits of a session cannot depend on the other
requests of its batch. (ONNX Runtime 1.31 on x86-64 with AVX2 gives equal bits for merged rows too,
but does not guarantee it for other processors.) The requests of a batch run in parallel instead,
one thread each. On a GPU they are merged.
"""

from __future__ import annotations

import json
import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import onnxruntime as ort
import triton_python_backend_utils as pb_utils
from numpy.typing import NDArray

# A module of its own within Triton, which imports nothing of talkingface.
Tensors = list[NDArray[Any]]


class TritonPythonModel:
    """One instance of one ONNX model."""

    def initialize(self, args: dict[str, str]) -> None:
        """Load the model; an error here makes Triton's load of the model fail.

        :param args: arguments that Triton's Python backend passes
        """
        config = json.loads(args["model_config"])
        path = os.path.join(
            args["model_repository"],
            args["model_version"],
            config.get("default_model_filename") or "model.onnx",
        )
        on_gpu = args["model_instance_kind"] == "GPU"
        options = ort.SessionOptions()
        options.intra_op_num_threads = _parameter(config, "intra_op_thread_count", 1)
        options.inter_op_num_threads = _parameter(config, "inter_op_thread_count", 1)
        options.log_severity_level = 3
        # Idle threads must not spin on a core that another model needs.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        providers: list[Any] = ["CPUExecutionProvider"]
        if on_gpu:
            device = int(args["model_instance_device_id"])
            providers.insert(0, ("CUDAExecutionProvider", {"device_id": device}))
        self._session = ort.InferenceSession(path, options, providers=providers)
        if on_gpu and "CUDAExecutionProvider" not in self._session.get_providers():
            raise pb_utils.TritonModelException("KIND_GPU, but ONNX Runtime has no CUDA here")
        self._inputs = [tensor["name"] for tensor in config["input"]]
        self._outputs = [tensor["name"] for tensor in config["output"]]
        self._merge = on_gpu and config.get("max_batch_size", 0) > 0
        self._pool = ThreadPoolExecutor(max_workers=os.cpu_count() or 1)

    def execute(self, requests: list[Any]) -> list[Any]:
        """Return a response for each request of a batch."""
        rows = [
            [pb_utils.get_input_tensor_by_name(r, name).as_numpy() for name in self._inputs]
            for r in requests
        ]
        if len(rows) == 1:
            return [self._respond(rows[0])]
        if not self._merge:
            return list(self._pool.map(self._respond, rows))
        merged = [np.concatenate(tensors) for tensors in zip(*rows, strict=True)]
        cuts = np.cumsum([len(tensors[0]) for tensors in rows])[:-1]
        try:
            outputs = [np.split(tensor, cuts) for tensor in self._run(merged)]
        except Exception as error:
            return [_failure(error)] * len(requests)
        return [self._response([part[i] for part in outputs]) for i in range(len(requests))]

    def finalize(self) -> None:
        """Stop the threads."""
        self._pool.shutdown()

    def _run(self, tensors: Tensors) -> Tensors:
        outputs: Tensors = self._session.run(
            self._outputs, dict(zip(self._inputs, tensors, strict=True))
        )
        return outputs

    def _respond(self, tensors: Tensors) -> Any:
        try:
            return self._response(self._run(tensors))
        except Exception as error:
            return _failure(error)

    def _response(self, tensors: Tensors) -> Any:
        return pb_utils.InferenceResponse(
            [
                pb_utils.Tensor(name, np.ascontiguousarray(tensor))
                for name, tensor in zip(self._outputs, tensors, strict=True)
            ]
        )


def _failure(error: Exception) -> Any:
    return pb_utils.InferenceResponse(error=pb_utils.TritonError(str(error)))


def _parameter(config: dict[str, Any], name: str, default: int) -> int:
    value = config.get("parameters", {}).get(name, {}).get("string_value")
    return int(value) if value else default
