"""What the tests share: the real services, each started once as a process of its own."""

from __future__ import annotations

import asyncio
import io
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from google.protobuf.message import Message
from PIL import Image

from talkingface.contract.call_status import CallStatus
from talkingface.contract.errors import ServiceError
from talkingface.contract.motion import neutral
from talkingface.renderer import fetch_assets, geometry
from talkingface.renderer.analysis import FaceAnalyser, PortraitError
from talkingface.renderer.face.camera import Camera
from talkingface.renderer.face.model import rotation_matrix
from talkingface.serving.health import check as health


class ServiceProcess:
    """A service as `python -m MODULE` on free ports, with its embedded Triton if it has one."""

    def __init__(self, module: str, log: Path, **settings: str) -> None:
        """
        :param settings: fields of its configuration, such as slots="2".
        """
        environ = {k: v for k, v in os.environ.items() if not k.startswith("TALKINGFACE_")}
        environ |= {"TALKINGFACE_PORT": "0", "TALKINGFACE_METRICS_PORT": "0"}
        environ |= {f"TALKINGFACE_{name.upper()}": value for name, value in settings.items()}
        self.settings = settings
        self._log = log
        with log.open("w") as file:
            self.process = subprocess.Popen(
                [sys.executable, "-m", module], env=environ, stderr=file, stdout=file
            )

    @property
    def log(self) -> str:
        """What it has written so far."""
        return self._log.read_text()

    @property
    def address(self) -> str:
        """host:port of its gRPC."""
        return "127.0.0.1:" + self._find(r"event=listening port=(\d+)")

    @property
    def triton_pid(self) -> int:
        """Process id of its embedded Triton, the last one started."""
        return int(self._find(r"event=triton_started .*pid=(\d+)"))

    def metric(self, sample: str) -> float:
        """The value of a sample of its metrics, such as 'talkingface_ready{service="renderer"}'."""
        port = self._find(r"metrics_port=(\d+)")
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
            lines = answer.read().decode().splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(sample))

    def slots_in_use(self) -> int:
        """Streams that it holds now."""
        return int(self.metric("talkingface_slots_in_use{"))

    def wait_until_serving(self, seconds: float = 100.0) -> None:
        """Wait for SERVING; fails with its log where it ends or takes longer."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                pytest.fail(f"ended with code {self.process.returncode}:\n{self.log}")
            if "event=listening" in self.log and health(self.address) == "SERVING":
                return
            time.sleep(0.05)
        pytest.fail(f"not serving after {seconds} s:\n{self.log}")

    async def until_free(self) -> None:
        """Wait for all slots to be free."""
        async with asyncio.timeout(10):
            # Another process: there is no event to wait for.
            while self.slots_in_use():  # noqa: ASYNC110
                await asyncio.sleep(0.02)

    def stop(self) -> int:
        """End it as a platform does; the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(30)

    def _find(self, pattern: str) -> str:
        found = re.findall(pattern, self.log)
        if not found:
            pytest.fail(f"no {pattern!r} in the log:\n{self.log}")
        return found[-1]


@dataclass
class StreamClient:
    """Calls of one bidirectional method, such as `stub.Extract`."""

    method: Callable[[], Any]

    async def exchange(self, requests: Iterable[Message]) -> list[Any]:
        """Send everything, reading at the same time; the answers.

        :raises ServiceError: what the server has told.
        """
        call = self.method()
        status = CallStatus(call)

        async def write() -> None:
            try:
                for request in requests:
                    await call.write(request)
                await call.done_writing()
            except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
                pass  # told by the read

        writer = asyncio.create_task(write())
        answers = []
        try:
            while (answer := await call.read()) is not grpc.aio.EOF:
                answers.append(answer)
        except grpc.aio.AioRpcError as error:
            raise await status.error(error) from error
        finally:
            await writer
        return answers

    async def check_refusal(self, requests: list[Message], reason: str, path: str = "") -> None:
        """The server must refuse, with this reason and about this field."""
        with pytest.raises(ServiceError) as refused:
            async with asyncio.timeout(10):
                await self.exchange(requests)
        assert refused.value.reason == reason
        assert not refused.value.retryable
        assert list(refused.value.field_violations) == ([path] if path else [])


def running_service(module: str, log: Path, **settings: str) -> Iterator[ServiceProcess]:
    """A service while a fixture lives."""
    service = ServiceProcess(module, log, **settings)
    try:
        service.wait_until_serving()
        yield service
    finally:
        service.stop()


@pytest.fixture(scope="session")
def service_logs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the services' logs."""
    return tmp_path_factory.mktemp("logs")


@pytest.fixture(scope="session")
def audio_features_service(service_logs: Path) -> Iterator[ServiceProcess]:
    """The speech encoder with its Triton."""
    yield from running_service(
        "talkingface.audio_features.server", service_logs / "audio_features.log"
    )


@pytest.fixture(scope="session")
def motion_gen_service(service_logs: Path) -> Iterator[ServiceProcess]:
    """The motion generator with its Triton."""
    yield from running_service("talkingface.motion_gen.server", service_logs / "motion_gen.log")


@pytest.fixture(scope="session")
def portrait_image(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """File of a portrait (NASA, public domain), PNG, 512x512."""
    (path,) = fetch_assets.fetch("portrait", tmp_path_factory.mktemp("portrait"))
    return path.read_bytes()


@pytest.fixture(scope="session")
def turned_face(portrait_image: bytes) -> bytes:
    """File of a face turned away too far: the portrait in our own rendering, beyond what that is
    made for; the least turn that the analysis refuses."""
    fetch_assets.fetch("models", fetch_assets.MODEL_DIR)
    analyser = FaceAnalyser()
    found = analyser.analyse(portrait_image)
    portrait = geometry.prepare(found.frame, found.landmarks, found.matte, found.background)
    coefficients, camera = geometry.target_pose(portrait, neutral(1)[0])
    for yaw in range(50, 80, 3):
        rotation = rotation_matrix(float(camera.angles[0, 0]), yaw, 0.0)[None]
        away = Camera(rotation, camera.scale, camera.translation)
        file = io.BytesIO()
        Image.fromarray(geometry.render_pose(portrait, coefficients, away).image).save(file, "PNG")
        try:
            analyser.analyse(file.getvalue())
        except PortraitError:
            return file.getvalue()
    pytest.fail("no picture is seen as turned away")


@pytest.fixture(scope="session")
def renderer_service(
    service_logs: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ServiceProcess]:
    """The renderer with its Triton and an empty store of portraits."""
    fetch_assets.fetch("models", fetch_assets.MODEL_DIR)
    yield from running_service(
        "talkingface.renderer.server",
        service_logs / "renderer.log",
        portrait_store=str(tmp_path_factory.mktemp("portraits")),
    )


@pytest.fixture(scope="session")
def mesh(
    service_logs: Path,
    tmp_path_factory: pytest.TempPathFactory,
    audio_features_service: ServiceProcess,
    motion_gen_service: ServiceProcess,
    renderer_service: ServiceProcess,
) -> Iterator[ServiceProcess]:
    """The orchestrator of a whole mesh."""
    yield from running_service(
        "talkingface.orchestrator.server",
        service_logs / "mesh.log",
        idle_timeout="10",
        audio_features_target=audio_features_service.address,
        motion_gen_target=motion_gen_service.address,
        renderer_target=renderer_service.address,
        upload_store=str(tmp_path_factory.mktemp("uploads")),
    )


@pytest.fixture(scope="session")
def portrait_file() -> Path:
    """The NASA portrait, fetched once."""
    (path,) = fetch_assets.fetch("portrait", Path(__file__).parents[1] / "build" / "demo")
    return path


@pytest.fixture(scope="session")
def voice() -> np.ndarray:
    """Two seconds like a voice, 16 kHz: a gliding buzz in syllables, (32000,) float32."""
    time_axis = np.arange(32_000) / 16_000
    phase = 2 * np.pi * np.cumsum(120 + 30 * np.sin(2 * np.pi * 0.7 * time_axis)) / 16_000
    buzz = sum(np.sin(k * phase) / k for k in range(1, 20))
    syllables = np.clip(np.sin(2 * np.pi * 3 * time_axis), 0, 1)
    return (0.2 * buzz * syllables).astype(np.float32)
