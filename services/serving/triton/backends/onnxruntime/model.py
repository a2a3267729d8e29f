"""A Triton backend named "onnxruntime", for servers that have the Python backend alone.

It loads unmodified `backend: "onnxruntime"` models, so that the same model repository works in the
embedded Triton and in NVIDIA's container with its own ONNX Runtime backend. Supported settings of a
model: `default_model_filename`, `max_batch_size`, `dynamic_batching`, the parameters
`intra_op_thread_count` and `inter_op_thread_count` of NVIDIA's backend, and `padding`.

On the CPU every request is run alone, so that the bits of a session cannot depend on the other
requests of its batch. (ONNX Runtime 1.31 on x86-64 with AVX2 gives equal bits for merged rows too,
but does not guarantee it for other processors.) The requests of a batch run in parallel instead,
one thread each.

On a GPU they are merged into one run and filled up with copies of the first row: to the next power
of two, so that cuDNN prepares few sizes, or, with the parameter `padding` "full", to
`max_batch_size`. Then all runs have the same kernels, and a row's bits depend neither on how many
other rows there are, nor on what these hold. NVIDIA's own ONNX Runtime backend does not pad,
therefore the GPU images use this one as well. It has not run on a GPU.
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
            ort.preload_dlls()  # CUDA's libraries, where they are packages of this environment
            providers.insert(0, ("CUDAExecutionProvider", _cuda_options(args)))
        self._session = ort.InferenceSession(path, options, providers=providers)
        if on_gpu and "CUDAExecutionProvider" not in self._session.get_providers():
            raise pb_utils.TritonModelException("KIND_GPU, but ONNX Runtime has no CUDA here")
        self._inputs = [tensor["name"] for tensor in config["input"]]
        self._outputs = [tensor["name"] for tensor in config["output"]]
        self._max_rows = config.get("max_batch_size", 0)
        self._merge = on_gpu and self._max_rows > 0
        padding = config.get("parameters", {}).get("padding", {})
        self._full = padding.get("string_value") == "full"
        self._pool = ThreadPoolExecutor(max_workers=os.cpu_count() or 1)

    def execute(self, requests: list[Any]) -> list[Any]:
        """Return a response for each request of a batch."""
        rows = [
            [pb_utils.get_input_tensor_by_name(r, name).as_numpy() for name in self._inputs]
            for r in requests
        ]
        if self._merge:
            return self._respond_merged(rows)
        if len(rows) == 1:
            return [self._respond(rows[0])]
        return list(self._pool.map(self._respond, rows))

    def _respond_merged(self, rows: list[Tensors]) -> list[Any]:
        counts = [len(tensors[0]) for tensors in rows]
        cuts = np.cumsum(counts)
        total = self._max_rows if self._full else 1 << (sum(counts) - 1).bit_length()
        try:
            results = self._run(merge(rows, total))
        except Exception as error:
            return [_failure(error)] * len(rows)
        parts = [np.split(tensor, cuts) for tensor in results]
        return [self._response([part[i] for part in parts]) for i in range(len(rows))]

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


def merge(rows: list[Tensors], count: int) -> Tensors:
    """Merge the tensors of several requests into `count` rows, filled up with copies of the first.

    :param rows: for each request its inputs, of one row or more each
    """
    missing = count - sum(len(tensors[0]) for tensors in rows)
    filling = [np.repeat(tensor[:1], missing, axis=0) for tensor in rows[0]]
    return [np.concatenate(tensors) for tensors in zip(*rows, filling, strict=True)]


def _cuda_options(args: dict[str, str]) -> dict[str, str]:
    """Options of the CUDA provider: the same kernels in every process, in full float32."""
    return {
        "device_id": args["model_instance_device_id"],
        "cudnn_conv_algo_search": "HEURISTIC",
        "use_tf32": "0",
    }


def _failure(error: Exception) -> Any:
    return pb_utils.InferenceResponse(error=pb_utils.TritonError(str(error)))


def _parameter(config: dict[str, Any], name: str, default: int) -> int:
    value = config.get("parameters", {}).get(name, {}).get("string_value")
    return int(value) if value else default
