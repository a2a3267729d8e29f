"""What all tests share: their tiers, which skips are allowed, and the services as processes."""

from __future__ import annotations

import io
import os
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from talkingface.contract.motion import neutral
from talkingface.renderer import fetch_assets, geometry
from talkingface.renderer.analysis import FaceAnalyser, PortraitError
from talkingface.renderer.face.camera import Camera
from talkingface.renderer.face.model import rotation_matrix
from tests.support import ROOT, report
from tests.support.services import ServiceProcess, running_service

TIERS = ("unit", "services", "mesh", "faults", "deploy", "research")  # folders, and markers
# Parts of the reasons of skips that CI accepts: what it has not got. Any other skip fails there.
ALLOWED_SKIPS = ("training extra", "shared data", "GPU", "extra gpu")


def pytest_configure(config: pytest.Config) -> None:
    """Begin new reports, in the process that controls the run."""
    if not hasattr(config, "workerinput"):
        report.clear()


def pytest_itemcollected(item: pytest.Item) -> None:
    """Mark a test by the tier that its folder stands for."""
    tier = item.path.relative_to(ROOT / "tests").parts[0]
    if tier not in TIERS:
        raise pytest.UsageError(f"{item.path} is in none of the folders {', '.join(TIERS)}")
    item.add_marker(tier)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Fail a test that is skipped in CI without need."""
    result = yield
    fail_if_skipped(result)
    return result


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Fail a module that is skipped in CI without need."""
    result = yield
    fail_if_skipped(result)
    return result


def fail_if_skipped(result: Any) -> None:
    """Turn a skip into a failure where CI is set and the reason is none of `ALLOWED_SKIPS`."""
    if not os.environ.get("CI") or not result.skipped or hasattr(result, "wasxfail"):
        return
    reason = result.longrepr[2] if isinstance(result.longrepr, tuple) else str(result.longrepr)
    if not any(allowed in reason for allowed in ALLOWED_SKIPS):
        result.outcome = "failed"
        result.longrepr = f"not allowed in CI: {reason}"


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
    """File of a face turned away too far: the portrait, rendered at a larger yaw than the renderer
    is made for; the smallest yaw that the analysis refuses, in steps of 3 degrees."""
    fetch_assets.fetch("models", fetch_assets.MODEL_DIR)
    analyser = FaceAnalyser()
    found = analyser.analyse(portrait_image)
    portrait = geometry.prepare(found.frame, found.landmarks, found.matte, found.background)
    coefficients, camera, _ = geometry.target_pose(portrait, neutral(1)[0])
    for yaw in range(50, 80, 3):
        rotation = rotation_matrix(float(camera.angles[0, 0]), yaw, 0.0)[None]
        away = Camera(rotation, camera.scale, camera.translation)
        file = io.BytesIO()
        Image.fromarray(geometry.render_pose(portrait, coefficients, away).image).save(file, "PNG")
        try:
            analyser.analyse(file.getvalue())
        except PortraitError:
            return file.getvalue()
    pytest.fail("no frame is refused as turned away")


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
    (path,) = fetch_assets.fetch("portrait", ROOT / "build" / "demo")
    return path


@pytest.fixture(scope="session")
def voice() -> np.ndarray:
    """Two seconds of made-up speech at 16 kHz: a gliding buzz in syllables, (32000,) float32."""
    time_axis = np.arange(32_000) / 16_000
    phase = 2 * np.pi * np.cumsum(120 + 30 * np.sin(2 * np.pi * 0.7 * time_axis)) / 16_000
    buzz = sum(np.sin(k * phase) / k for k in range(1, 20))
    syllables = np.clip(np.sin(2 * np.pi * 3 * time_axis), 0, 1)
    return (0.2 * buzz * syllables).astype(np.float32)
