"""Devices and encoders of running services: what they report, and how they refuse to start."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import grpc
import pytest
from tritonclient.grpc import service_pb2, service_pb2_grpc

from talkingface.renderer.h264 import H264Kind, problem_of
from talkingface.serving.triton.client import TritonClient
from talkingface.serving.triton.device import CONFIG, driver_problem
from talkingface.serving.triton.server import EmbeddedTriton, TritonError
from talkingface.v1.stage_pb2 import GetStatusRequest, StageInfo
from talkingface.v1.stage_pb2_grpc import StageStatusServiceStub
from tests.support import ROOT
from tests.support.services import ServiceProcess

EXIT_SECONDS = 60.0
no_gpu = pytest.mark.skipif(driver_problem() is None, reason="this machine has a GPU")
no_nvenc = pytest.mark.skipif(problem_of(H264Kind.NVENC) is None, reason="this GPU has an encoder")


async def info(service: ServiceProcess) -> StageInfo:
    """What a stage reports of itself."""
    async with grpc.aio.insecure_channel(service.address) as channel:
        status = await StageStatusServiceStub(channel).GetStatus(GetStatusRequest(), timeout=10)
    return status.info


@no_gpu
async def test_stages_report_where_their_models_run(
    audio_features_service: ServiceProcess, renderer_service: ServiceProcess
) -> None:
    for service, encoder in ((audio_features_service, ""), (renderer_service, "x264")):
        found = await info(service)
        assert (found.device, found.video_encoder) == ("cpu", encoder)
        assert re.fullmatch(r"\w+@[0-9a-f]{12}", found.model)
        labels = f'device="cpu",model="{found.model}",service="{found.stage}"'
        sample = f'talkingface_stage_info{{{labels},video_encoder="{encoder}"}}'
        assert service.metric(sample) == 1
        assert "event=device device=cpu there is no NVIDIA driver" in service.log


def refusal(module: str, log: Path, **settings: str) -> str:
    """The log of a service that does not start."""
    service = ServiceProcess(module, log, **settings)
    try:
        assert service.process.wait(EXIT_SECONDS) == 1
    finally:
        service.kill()
    return service.log


@no_gpu
def test_a_stage_does_not_start_without_the_gpu_that_is_asked_for(tmp_path: Path) -> None:
    log = refusal("talkingface.motion_gen.server", tmp_path / "log", device="gpu")
    assert "event=start_failed TALKINGFACE_DEVICE=gpu, but there is no NVIDIA driver" in log
    assert "Traceback" not in log


@no_nvenc
def test_a_renderer_does_not_start_without_the_encoder_that_is_asked_for(tmp_path: Path) -> None:
    log = refusal("talkingface.renderer.server", tmp_path / "log", video_encoder="nvenc")
    assert "event=start_failed TALKINGFACE_VIDEO_ENCODER=nvenc, but NVENC does not work" in log
    assert "Traceback" not in log


def test_a_stage_does_not_start_at_a_triton_with_another_device(
    audio_features_service: ServiceProcess, tmp_path: Path
) -> None:
    url = re.findall(r"event=triton_started url=(\S+)", audio_features_service.log)[-1]
    log = refusal(
        "talkingface.audio_features.server", tmp_path / "log", device="gpu", triton_url=url
    )
    assert re.search(r"event=start_failed .* the models of \S+ run on the cpu", log)


async def test_triton_loads_the_configurations_for_a_gpu(tmp_path: Path) -> None:
    """With their instances on the CPU, since Triton refuses others where there is no GPU."""
    models = ("audio_features/speech_encoder", "motion_gen/motion_generator", "renderer/inpainter")
    for model in models:
        stage, name = model.split("/")
        folder = tmp_path / name
        shutil.copytree(ROOT / "services" / stage / "model_repository" / name, folder)
        config = folder / CONFIG
        config.write_text(config.read_text().replace("KIND_GPU", "KIND_CPU"))
    triton = EmbeddedTriton(tmp_path, device="gpu")
    await triton.start()
    client = TritonClient(triton.url)
    try:
        for model, size in zip(models, (32, 32, 64), strict=True):
            name = model.split("/")[1]
            assert await client.device(name) == "cpu"
            await client.warm_up(name)
            assert await largest_batch(triton.url, name) == size
    finally:
        await client.close()
        await triton.stop()


async def largest_batch(url: str, model: str) -> int:
    """`max_batch_size` of a model that is loaded."""
    async with grpc.aio.insecure_channel(url) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        response = await stub.ModelConfig(service_pb2.ModelConfigRequest(name=model))
    size: int = response.config.max_batch_size
    return size


@no_gpu
async def test_triton_refuses_instances_on_a_gpu_that_is_not_there() -> None:
    triton = EmbeddedTriton(ROOT / "services/motion_gen/model_repository", device="gpu")
    with pytest.raises(TritonError, match=r"(?i)gpu"):
        await triton.start()


@pytest.mark.parametrize("setting", ["device", "video_encoder"])
def test_another_word_is_an_invalid_setting(tmp_path: Path, setting: str) -> None:
    service = ServiceProcess("talkingface.renderer.server", tmp_path / "log", **{setting: "tpu"})
    assert service.process.wait(EXIT_SECONDS) == 2
    assert f"{setting}: 'tpu' is not one of auto" in service.log
