"""The Triton model of frames, with a double of Triton's Python API."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import talkingface.renderer
from talkingface.contract.video import RenderLevel, View
from talkingface.renderer.geometry import FRAME
from talkingface.renderer.pixels import cuda_driver, dlpack
from talkingface.renderer.portrait_store import GREY_FACE, PHOTO, PORTRAIT, pack
from talkingface.renderer.portrait_store import PreparedPortraitStore as Store
from talkingface.renderer.worker.devices import OUTPUTS
from talkingface.renderer.worker.frame_synthesis import all_moved, grey_portrait, whole_photo
from talkingface.v1.media_pb2 import FRAMING_CROP
from talkingface.v1.renderer_pb2 import Portrait
from tests.support.simulated_gpu import IdleGpu, value_of

MODEL = Path(talkingface.renderer.__file__).parent / "model_repository/frame_synthesis/1/model.py"


class Tensor:
    """A tensor of the host, or of a GPU where it comes from DLPack."""

    def __init__(self, name: str, array: Any, capsule: Any = None) -> None:
        self.name, self._array, self._capsule = name, array, capsule

    @staticmethod
    def from_dlpack(name: str, capsule: Any) -> Tensor:
        return Tensor(name, value_of(dlpack.imported(capsule)), capsule)

    def is_cpu(self) -> bool:
        return self._capsule is None

    def as_numpy(self) -> Any:
        assert self.is_cpu()
        return self._array

    def to_dlpack(self) -> Any:
        return self._capsule

    def values(self) -> Any:
        """What it holds, wherever it is."""
        return self._array


class Response:
    def __init__(self, tensors: Any = (), error: Any = None) -> None:
        self.tensors, self._error = tensors, error

    def has_error(self) -> bool:
        return self._error is not None

    def error(self) -> Any:
        return self._error


class Error(Exception):
    def message(self) -> str:
        return str(self)


class Network:
    """The model `inpainter`: its requests, and residuals in the memory of a GPU or of the host."""

    def __init__(self) -> None:
        self.rows: list[int] = []
        self.on_gpu: set[str] = set()
        self.fails = False
        self._kept: Any = None

    def request(self, model_name: str, inputs: Any, **kwargs: Any) -> Any:
        assert model_name == "inpainter" and tuple(kwargs["requested_output_names"]) == OUTPUTS
        return SimpleNamespace(exec=lambda: self._respond(inputs, kwargs["preferred_memory"]))

    def _respond(self, inputs: Any, memory: Any) -> Response:
        if self.fails:
            return Response(error=Error("out of memory"))
        shapes = {tensor.name: tensor.values().shape for tensor in inputs}
        self.on_gpu = {tensor.name for tensor in inputs if not tensor.is_cpu()}
        self.rows.append(shapes["mouth"][0])
        arrays = [np.full((*shapes[n][:-1], 4), 0.2, np.float32) for n in ("mouth", "eyes")]
        self._kept = arrays
        capsules = [a.__dlpack__() if memory[0] == 1 else None for a in arrays]
        return Response([Tensor(*part) for part in zip(OUTPUTS, arrays, capsules, strict=True)])


@pytest.fixture
def network() -> Network:
    return Network()


@pytest.fixture
def model(network: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The model's module, and a store with the grey face."""

    def tensor_of(holder: Any, name: str) -> Any:
        return next(tensor for tensor in holder.tensors if tensor.name == name)

    utils = SimpleNamespace(
        Tensor=Tensor,
        InferenceResponse=Response,
        InferenceRequest=network.request,
        PreferredMemory=lambda kind, device: (kind, device),
        TRITONSERVER_MEMORY_CPU=0,
        TRITONSERVER_MEMORY_GPU=1,
        TritonError=Error,
        TritonModelException=RuntimeError,
        get_input_tensor_by_name=tensor_of,
        get_output_tensor_by_name=tensor_of,
    )
    monkeypatch.setitem(sys.modules, "triton_python_backend_utils", utils)
    monkeypatch.setenv("TALKINGFACE_PORTRAIT_STORE", str(tmp_path))
    portrait = grey_portrait()
    arrays = pack(portrait, PORTRAIT) | pack(whole_photo(portrait.frame), PHOTO)
    Store(tmp_path).save(Portrait(handle=GREY_FACE), arrays)
    spec = importlib.util.spec_from_file_location("frame_synthesis_model", MODEL)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "compile_kernels", lambda: None)  # in a process of its own
    return module


def _request(digest: bytes) -> Response:
    view = View(FRAMING_CROP, FRAME, FRAME, planar=True)
    inputs: dict[str, Any] = {
        "portrait": np.frombuffer(digest, np.uint8),
        "motion": all_moved(),
        "view": view.to_array(),
        "level": np.array([RenderLevel.FULL], np.int32),
    }
    return Response([Tensor(name, value[None]) for name, value in inputs.items()])


def _instance(module: Any, kind: str) -> Any:
    instance = module.TritonPythonModel()
    instance.initialize({"model_instance_kind": kind, "model_instance_device_id": "0"})
    return instance


KNOWN = bytes.fromhex(GREY_FACE.removeprefix("sha256:"))


@pytest.mark.parametrize("kind", ["CPU", "GPU"])
def test_a_batch_has_one_inference_and_a_response_for_each_request(
    model: Any, network: Network, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if kind == "GPU":
        monkeypatch.setattr(cuda_driver, "CudaDriver", lambda *args: IdleGpu())
    instance = _instance(model, kind)
    responses = instance.execute([_request(d) for d in (KNOWN, bytes(32), KNOWN)])
    assert network.rows == [2]
    assert network.on_gpu == ({"mouth", "eyes"} if kind == "GPU" else set())
    assert [response.has_error() for response in responses] == [False, True, False]
    assert "PORTRAIT_NOT_FOUND" in responses[1].error().message()
    one, other = (responses[i].tensors[0].as_numpy() for i in (0, 2))
    assert one.shape == (1, FRAME * FRAME * 3 // 2) and one.dtype == np.uint8
    if kind == "CPU":  # threads of the GPU do not run here
        np.testing.assert_array_equal(one, other)


def test_a_failing_network_fails_the_batch(model: Any, network: Network) -> None:
    instance = _instance(model, "CPU")
    network.fails = True
    with pytest.raises(RuntimeError, match="inpainter: out of memory"):
        instance.execute([_request(KNOWN)])
    network.fails = False
    assert not instance.execute([_request(KNOWN)])[0].has_error()


def test_an_instance_on_a_gpu_does_not_load_without_one(model: Any) -> None:
    with pytest.raises(
        RuntimeError, match=r"KIND_GPU, but .*(missing|NVIDIA driver library|cu\w+: )"
    ):
        _instance(model, "GPU")
