"""The embedded Triton and its client, on the real server binary."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest
from google.protobuf.empty_pb2 import Empty

from talkingface.contract.errors import ServiceError
from talkingface.serving.triton import shared_memory
from talkingface.serving.triton.client import TritonClient
from talkingface.serving.triton.server import EmbeddedTriton, TritonError
from talkingface.v1 import audio_features_pb2_grpc
from talkingface.v1.audio_features_pb2 import ExtractConfig, ExtractRequest
from tests.support import ROOT
from tests.support.services import ServiceProcess, StreamClient

SPEECH_ENCODER = ROOT / "services/audio_features/model_repository"

SLOW_SECONDS = 2.0  # for which the model below is slow
# Takes tensors that travel by message (small) and by shared memory (large). By its input it is
# slow, fails, or answers with a typed error.
ECHO_CONFIG = """
backend: "python"
max_batch_size: 4
input [
  { name: "small" data_type: TYPE_FP32 dims: [ 3 ] },
  { name: "large" data_type: TYPE_UINT8 dims: [ 512, 512, 3 ] },
  { name: "bytes" data_type: TYPE_UINT8 dims: [ -1 ] }
]
output [
  { name: "large_plus_one" data_type: TYPE_UINT8 dims: [ 512, 512, 3 ] },
  { name: "twice" data_type: TYPE_FP32 dims: [ 3 ] },
  { name: "length" data_type: TYPE_INT64 dims: [ 1 ] },
  { name: "same_bytes" data_type: TYPE_UINT8 dims: [ -1 ] }
]
instance_group [ { kind: KIND_CPU count: 1 } ]
"""
ECHO_MODEL = """
import time
import numpy as np
import triton_python_backend_utils as pb_utils
from talkingface.contract.errors import ServiceError

class TritonPythonModel:
    def execute(self, requests):
        return [self.answer(r) for r in requests]

    def answer(self, request):
        small, large, data = (
            pb_utils.get_input_tensor_by_name(request, name).as_numpy()
            for name in ("small", "large", "bytes")
        )
        if small[0, 0] == -1:
            time.sleep(float(small[0, 1]))
        if small[0, 0] == -2:
            raise ValueError("a secret of the inside")
        if small[0, 0] == -3:
            error = ServiceError("NO_FACE", "nobody", {"width": "3"})
            return pb_utils.InferenceResponse(error=pb_utils.TritonError(error.to_text()))
        return pb_utils.InferenceResponse([
            pb_utils.Tensor("large_plus_one", large + 1),
            pb_utils.Tensor("twice", small * 2),
            pb_utils.Tensor("length", np.array([[data.shape[1]]])),
            pb_utils.Tensor("same_bytes", data),
        ])
"""


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The speech encoder as it is, and the model above."""
    folder = tmp_path_factory.mktemp("models")
    shutil.copytree(SPEECH_ENCODER / "speech_encoder", folder / "speech_encoder")
    (folder / "echo/1").mkdir(parents=True)
    (folder / "echo/config.pbtxt").write_text(ECHO_CONFIG)
    (folder / "echo/1/model.py").write_text(ECHO_MODEL)
    return folder


@pytest.fixture(scope="module")
def loop_runner() -> Iterator[asyncio.Runner]:
    """One event loop for the server that the module's tests share."""
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture(scope="module")
def triton(repository: Path, loop_runner: asyncio.Runner) -> Iterator[EmbeddedTriton]:
    """A running embedded Triton."""
    server = EmbeddedTriton(repository)
    loop_runner.run(server.start())
    yield server
    loop_runner.run(server.stop())


def echo_inputs(first: float = 0, second: float = 0, length: int = 5) -> dict[str, np.ndarray]:
    """Inputs of the echo model."""
    large = np.random.default_rng(length).integers(0, 255, (512, 512, 3), np.uint8)
    small = np.array([first, second, 1], np.float32)
    data = np.random.default_rng(length).integers(0, 255, length, np.uint8)
    return {"small": small, "large": large, "bytes": data}


def regions() -> set[str]:
    """Names of the client's regions of shared memory."""
    mine = re.compile(rf"talkingface-\w+-{os.getpid()}-\w+-tensor\d+")
    return {path.name for path in shared_memory.FOLDER.iterdir() if mine.fullmatch(path.name)}


def test_a_port_that_another_server_uses_is_avoided(
    triton: EmbeddedTriton, tmp_path: Path, loop_runner: asyncio.Runner
) -> None:
    shutil.copytree(SPEECH_ENCODER / "speech_encoder", tmp_path / "speech_encoder")
    late = EmbeddedTriton(tmp_path)
    late.url = triton.url
    loop_runner.run(late.start())
    try:
        assert late.running
        assert late.url != triton.url
    finally:
        loop_runner.run(late.stop())


async def test_small_large_and_varying_tensors_arrive(triton: EmbeddedTriton) -> None:
    client = TritonClient(triton.url)
    assert await client.is_ready(["echo", "speech_encoder"])
    assert not await client.is_ready(["nobody"])
    for length in (1, 5, 300_000, 6_000_000):
        inputs = echo_inputs(1.5, length=length)
        outputs = await client.infer("echo", inputs)
        assert np.array_equal(outputs["large_plus_one"], inputs["large"] + 1)
        assert outputs["twice"].tolist() == [3, 0, 2]
        assert outputs["length"].tolist() == [length]
        assert np.array_equal(outputs["same_bytes"], inputs["bytes"])
    assert 2 <= len(regions()) <= 4
    await client.close()
    assert not regions()


async def test_an_output_whose_size_the_caller_knows_is_shared(triton: EmbeddedTriton) -> None:
    client = TritonClient(triton.url)
    inputs = echo_inputs(length=300_000)
    await client.infer("echo", inputs)
    held = len(regions())
    outputs = await client.infer("echo", inputs, shapes={"same_bytes": (300, 500, 2)})
    assert np.array_equal(outputs["same_bytes"], inputs["bytes"].reshape(300, 500, 2))
    assert len(regions()) == held + 1
    for other in (300_001, 299_999):
        with pytest.raises(ServiceError, match="INTERNAL"):
            await client.infer("echo", inputs, shapes={"same_bytes": (other,)})
    await client.close()
    assert not regions()


async def test_results_do_not_depend_on_neighbours(triton: EmbeddedTriton) -> None:
    client = TritonClient(triton.url)
    generator = np.random.default_rng(0)
    spec = await client.model("speech_encoder")
    rows = [
        {t.name: generator.standard_normal(t.shape).astype(t.dtype) for t in spec.inputs.values()}
        for _ in range(12)
    ]
    alone = [await client.infer("speech_encoder", row) for row in rows]
    together = await asyncio.gather(*(client.infer("speech_encoder", row) for row in rows))
    for one, other in zip(alone, together, strict=True):
        assert all(np.array_equal(one[name], other[name]) for name in spec.outputs)
    await client.close()


async def test_errors_of_a_model_are_distinguished(triton: EmbeddedTriton) -> None:
    client, hasty = TritonClient(triton.url), TritonClient(triton.url, timeout=0.5)
    with pytest.raises(ServiceError) as typed:
        await client.infer("echo", echo_inputs(-3))
    assert (typed.value.reason, typed.value.metadata) == ("NO_FACE", {"width": "3"})
    with pytest.raises(ServiceError) as failed:
        await client.infer("echo", echo_inputs(-2))
    assert failed.value.reason == "INTERNAL"
    assert "secret" not in failed.value.message
    with pytest.raises(ServiceError) as late:
        await hasty.infer("echo", echo_inputs(-1, 1.0))
    assert late.value.reason == "STAGE_UNAVAILABLE"
    with pytest.raises(ServiceError, match="STAGE_UNAVAILABLE"):
        await client.infer("nobody", {})
    await client.close()
    await hasty.close()
    assert not regions()


async def test_a_cancelled_call_releases_its_memory(triton: EmbeddedTriton) -> None:
    client = TritonClient(triton.url)
    await client.infer("echo", echo_inputs())
    held = regions()
    task = asyncio.create_task(client.infer("echo", echo_inputs(-1, SLOW_SECONDS)))
    await asyncio.sleep(0.1)
    task.cancel()
    began = time.monotonic()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert time.monotonic() - began < SLOW_SECONDS  # before the model has answered
    # Triton still writes into the region, so that nobody else may get it.
    inputs = echo_inputs(7)
    assert np.array_equal(
        (await client.infer("echo", inputs))["large_plus_one"], inputs["large"] + 1
    )
    assert held < regions()
    await client.close()
    assert not regions()


async def test_a_stage_uses_the_triton_of_its_settings(
    triton: EmbeddedTriton, service_logs: Path, voice: np.ndarray
) -> None:
    log = service_logs / "external.log"
    service = ServiceProcess("talkingface.audio_features.server", log, triton_url=triton.url)
    try:
        await asyncio.to_thread(service.wait_until_serving)
        assert "triton_started" not in service.log
        async with grpc.aio.insecure_channel(service.address) as channel:
            stub = audio_features_pb2_grpc.AudioFeaturesServiceStub(channel)
            answers = await StreamClient(stub.Extract).exchange(
                [
                    ExtractRequest(config=ExtractConfig(session_id="a")),
                    ExtractRequest(audio=voice.astype("<f4").tobytes()),
                    ExtractRequest(end=Empty()),
                ]
            )
        assert sum(answer.features.rows for answer in answers) == 100
    finally:
        assert service.stop() == 0
    assert triton.running


@pytest.mark.parametrize(
    ("config", "model", "reason"),
    [
        (ECHO_CONFIG, "import no_such_module", "no_such_module"),
        ('backend: "no_such_backend"', "", "no_such_backend"),
        ('backend: "onnxruntime" max_batch_size: "x"', "", "config.pbtxt"),
    ],
)
async def test_a_model_that_cannot_be_loaded_is_reported(
    tmp_path: Path, config: str, model: str, reason: str
) -> None:
    (tmp_path / "broken/1").mkdir(parents=True)
    (tmp_path / "broken/config.pbtxt").write_text(config)
    (tmp_path / "broken/1/model.py").write_text(model)
    server = EmbeddedTriton(tmp_path)
    with pytest.raises(TritonError, match=reason):
        await server.start(120)
    assert not server.running


def test_triton_dies_with_its_service(repository: Path, tmp_path: Path) -> None:
    shutil.copytree(repository / "echo", tmp_path / "echo")
    script = (
        "import asyncio, os, signal, sys\n"
        "from pathlib import Path\n"
        "from talkingface.serving.triton.server import EmbeddedTriton\n"
        "async def main():\n"
        "    server = EmbeddedTriton(Path(sys.argv[1]))\n"
        "    await server.start()\n"
        "    print(server.pid, flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "asyncio.run(main())\n"
    )
    killed = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    process = Path(f"/proc/{int(killed.stdout)}")
    deadline = time.monotonic() + 60
    while _runs(process) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not _runs(process)


def _runs(process: Path) -> bool:
    """Whether the process exists and is not a zombie."""
    try:
        return (process / "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
