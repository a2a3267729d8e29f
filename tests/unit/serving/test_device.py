"""The choice between CPU and GPU, the models' configurations for both, and merged batches."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime
import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from talkingface.serving.config import StartError
from talkingface.serving.triton import device
from talkingface.serving.triton.device import CPU, GPU, DeviceError, choose
from talkingface.serving.triton.server import choose_device
from tests.support import ROOT

SERVICES = ROOT / "services"
REPOSITORIES = {
    name: SERVICES / name / "model_repository"
    for name in ("audio_features", "motion_gen", "renderer")
}
ON_GPU = {"speech_encoder", "motion_generator", "inpainter", "frame_synthesis"}
GPU_MODELS = sorted(
    path.parents[1] for folder in REPOSITORIES.values() for path in folder.glob("*/configs/*")
)
NO_GPU = device.driver_problem()


# --- the choice


@pytest.fixture
def working_gpu(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A machine on which everything works; the problems of backends can be replaced."""
    monkeypatch.setattr(device, "driver_problem", lambda: None)
    problems: dict[str, Any] = {"onnxruntime": lambda: None, "python": lambda: None}
    monkeypatch.setattr(device, "_PROBLEMS", problems)
    return problems


@pytest.mark.parametrize("wanted, chosen", [("auto", GPU), ("gpu", GPU), ("cpu", CPU)])
def test_a_gpu_is_used_where_everything_works(
    working_gpu: dict[str, Any], wanted: str, chosen: str
) -> None:
    assert choose(wanted, REPOSITORIES["renderer"]).device == chosen


def test_auto_takes_the_cpu_and_states_why(working_gpu: dict[str, Any]) -> None:
    working_gpu["python"] = lambda: "numba is broken"
    assert choose("auto", REPOSITORIES["renderer"]) == (CPU, "numba is broken")
    # The speech encoder has no model that needs numba.
    assert choose("auto", REPOSITORIES["audio_features"]).device == GPU
    working_gpu["onnxruntime"] = lambda: "no CUDA"
    assert choose("auto", REPOSITORIES["audio_features"]) == (CPU, "no CUDA")


def test_a_gpu_that_is_asked_for_and_missing_is_an_error(
    working_gpu: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device, "driver_problem", lambda: "there is no driver")
    with pytest.raises(DeviceError, match="TALKINGFACE_DEVICE=gpu, but there is no driver"):
        choose("gpu", REPOSITORIES["renderer"])
    with pytest.raises(DeviceError, match="'tpu' is not one of auto, cpu, gpu"):
        choose("tpu", REPOSITORIES["renderer"])


@pytest.mark.skipif(NO_GPU is None, reason="this machine has a GPU")
async def test_the_choice_is_made_in_a_process_of_its_own() -> None:
    assert await choose_device("auto", REPOSITORIES["renderer"]) == (CPU, NO_GPU)
    with pytest.raises(StartError) as refused:
        await choose_device("gpu", REPOSITORIES["renderer"])
    assert str(refused.value) == f"TALKINGFACE_DEVICE=gpu, but {NO_GPU}"


# --- configurations


def parsed(path: Path) -> model_config_pb2.ModelConfig:
    """A model's configuration."""
    return text_format.Parse(path.read_text(), model_config_pb2.ModelConfig())


def test_every_model_but_the_preparation_of_portraits_runs_on_a_gpu() -> None:
    assert {model.name for model in GPU_MODELS} == ON_GPU


@pytest.mark.parametrize("model", GPU_MODELS, ids=lambda model: model.name)
def test_the_two_configurations_of_a_model_differ_in_instances_and_batches(model: Path) -> None:
    cpu, gpu = parsed(model / "config.pbtxt"), parsed(model / device.CONFIG)
    kinds = model_config_pb2.ModelInstanceGroup
    assert [group.kind for group in cpu.instance_group] == [kinds.KIND_CPU]
    assert [group.kind for group in gpu.instance_group] == [kinds.KIND_GPU]
    assert gpu.max_batch_size >= 32 > cpu.max_batch_size
    assert gpu.HasField("dynamic_batching")
    gpu.parameters.pop("padding", None)
    for config in (cpu, gpu):
        for field in ("instance_group", "max_batch_size", "dynamic_batching"):
            config.ClearField(field)
    assert cpu == gpu


@pytest.mark.parametrize("stage", ["audio_features", "motion_gen"])
def test_the_batches_of_models_that_decide_motion_are_padded(stage: str) -> None:
    for path in REPOSITORIES[stage].glob(f"*/{device.CONFIG}"):
        assert parsed(path).parameters["padding"].string_value == "full"


# --- merged batches, with ONNX Runtime's CPU provider in place of CUDA's


class Tensor:
    """A tensor of Triton's Python backend."""

    def __init__(self, name: str, array: np.ndarray) -> None:
        self.name, self.array = name, array

    def as_numpy(self) -> np.ndarray:
        return self.array


@pytest.fixture
def backend(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module of the backend, with the classes that Triton gives it."""
    utils = ModuleType("triton_python_backend_utils")
    vars(utils).update(
        Tensor=Tensor,
        InferenceResponse=lambda tensors=None, error=None: SimpleNamespace(
            tensors=tensors, error=error
        ),
        TritonError=str,
        TritonModelException=RuntimeError,
        get_input_tensor_by_name=lambda request, name: Tensor(name, request[name]),
    )
    monkeypatch.setitem(sys.modules, "triton_python_backend_utils", utils)
    path = SERVICES / "serving/triton/backends/onnxruntime/model.py"
    spec = importlib.util.spec_from_file_location("onnxruntime_backend", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Session(onnxruntime.InferenceSession):
    """Runs on the CPU what is meant for CUDA, and counts the rows of each run."""

    rows: list[int]

    def __init__(self, path: str, options: Any, providers: Any) -> None:
        assert providers[0][0] == "CUDAExecutionProvider"
        super().__init__(path, options, providers=["CPUExecutionProvider"])
        self.rows = []

    def get_providers(self) -> list[str]:
        return ["CUDAExecutionProvider"]

    def run(self, names: Any, inputs: Any) -> Any:
        self.rows.append(len(next(iter(inputs.values()))))
        return super().run(names, inputs)


def merging_model(backend: Any, monkeypatch: pytest.MonkeyPatch, padding: str) -> Any:
    """The speech encoder as a GPU instance."""
    monkeypatch.setattr(backend.ort, "InferenceSession", Session)
    monkeypatch.setattr(backend.ort, "preload_dlls", lambda: None)
    inputs, outputs = ("pcm", "state"), ("features", "speech", "next_state")
    config = {
        "max_batch_size": 8,
        "input": [{"name": name} for name in inputs],
        "output": [{"name": name} for name in outputs],
        "parameters": {"padding": {"string_value": padding}},
    }
    model = backend.TritonPythonModel()
    model.initialize(
        {
            "model_config": json.dumps(config),
            "model_repository": str(REPOSITORIES["audio_features"] / "speech_encoder"),
            "model_version": "1",
            "model_instance_kind": "GPU",
            "model_instance_device_id": "0",
        }
    )
    return model


def requests(count: int) -> list[dict[str, np.ndarray]]:
    """Requests of one row each."""
    noise = np.random.default_rng(0)
    return [
        {
            "pcm": noise.normal(0, 0.1, (1, 640)).astype(np.float32),
            "state": noise.normal(0, 0.1, (1, 16660)).astype(np.float32),
        }
        for _ in range(count)
    ]


def test_full_batches_give_a_row_the_same_bits_in_any_company(
    backend: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = merging_model(backend, monkeypatch, "full")
    rows = requests(8)
    alone = [model.execute([row])[0].tensors for row in rows]
    for company in (rows, rows[::-1], rows[2:5]):
        for row, response in zip(company, model.execute(company), strict=True):
            expected = alone[next(i for i, other in enumerate(rows) if other is row)]
            for tensor, other in zip(response.tensors, expected, strict=True):
                assert tensor.array.shape[0] == 1
                assert np.array_equal(tensor.array, other.array)
    assert set(model._session.rows) == {8}


def test_other_batches_are_filled_up_to_a_power_of_two(
    backend: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = merging_model(backend, monkeypatch, "")
    for count in (1, 2, 3, 5, 8):
        assert len(model.execute(requests(count))) == count
    assert model._session.rows == [1, 2, 4, 8, 8]


def test_a_failed_run_is_an_error_of_each_request(
    backend: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = merging_model(backend, monkeypatch, "full")
    wrong = [{**row, "state": row["state"][:, :5]} for row in requests(2)]
    assert [bool(response.error) for response in model.execute(wrong)] == [True, True]
