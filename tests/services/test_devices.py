"""Devices and encoders of running services: what they report, and how they refuse to start."""

from __future__ import annotations

import re
from pathlib import Path

import grpc
import pytest

from talkingface.renderer.h264 import H264Kind, problem_of
from talkingface.serving.triton.device import driver_problem
from talkingface.v1.stage_pb2 import GetStatusRequest, StageInfo
from talkingface.v1.stage_pb2_grpc import StageStatusServiceStub
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


@pytest.mark.parametrize("setting", ["device", "video_encoder"])
def test_another_word_is_an_invalid_setting(tmp_path: Path, setting: str) -> None:
    service = ServiceProcess("talkingface.renderer.server", tmp_path / "log", **{setting: "tpu"})
    assert service.process.wait(EXIT_SECONDS) == 2
    assert f"{setting}: 'tpu' is not one of auto" in service.log
