"""`talkingface bench gpu`: its parts on made-up figures, its refusal, and all of it on a CPU."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from talkingface.serving.triton.device import driver_problem
from talkingface.v1.renderer_pb2 import Portrait
from talkingface_research.bench import gpu_frames, gpu_sessions, gpu_table
from talkingface_research.bench.gpu_frames import Difference, Throughput, Times
from talkingface_research.bench.gpu_monitor import Usage, usage_of
from talkingface_research.bench.gpu_sessions import Clients, Held, Step
from talkingface_research.bench.gpu_table import Results, limits_of, tabulate
from talkingface_research.bench.processes import Program
from talkingface_research.report import JUDGED

COMMAND = (Path(sys.executable).parent / "talkingface", "bench", "gpu")
FRAMES = 75


# --- sessions


def session(late: float = 0.0, missing: int = 0, level: int = 0, error: str = "") -> Held:
    """A session of three seconds.

    :param late: by which every tenth frame is late, in seconds
    :param missing: frames that are left out at its end
    """
    indices = [i for i in range(FRAMES) if not FRAMES - 1 - missing <= i < FRAMES - 1]
    lags = [0.2 + late * (i % 10 == 0) for i in indices]
    return Held(lags, indices, level, error)


def step(*sessions: Held, gpu: Usage | None = None, cpu: float = 1.0) -> Step:
    """A step of three seconds."""
    return Step(sessions, 3.0, {Program("orchestrator", "service"): cpu}, 0.5, gpu)


@pytest.mark.parametrize(
    "held, found",
    [
        (True, step(session(), session(late=0.03))),
        (False, step(session(late=0.05))),
        (False, step(session(), session(missing=1))),
        (False, step(session(), session(level=1))),
        (False, step(session(), session(error="NO_CAPACITY"))),
        (False, step(Held())),
    ],
)
def test_sessions_are_held_if_all_are_served_in_full_and_in_time(held: bool, found: Step) -> None:
    assert found.held is held


@pytest.mark.parametrize(
    "carried, tried",
    [
        (100, [16, 32, 64, 128, 96, 112, 104]),
        (512, [16, 32, 64, 128, 256, 512]),
        (3, [16, 8, 4, 2, 3]),
        (0, [16, 8, 4, 2, 1]),
    ],
)
async def test_the_number_of_sessions_is_found(
    monkeypatch: pytest.MonkeyPatch, carried: int, tried: list[int]
) -> None:
    async def hold(clients: Clients, services: Mapping[str, int], count: int) -> Step:
        return step(*[session(late=0.0 if count <= carried else 1.0)] * count)

    monkeypatch.setattr(gpu_sessions, "hold", hold)
    clients = Clients("", "", b"", seconds=15)
    steps = await gpu_sessions.ramp(clients, {}, 16, 512, lambda: 1000.0, lambda text: None)
    assert [len(found.sessions) for found in steps] == tried
    left = iter([100.0, 10.0])
    steps = await gpu_sessions.ramp(clients, {}, 16, 512, lambda: next(left), lambda text: None)
    assert len(steps) == 1  # the next one would not fit


def test_the_limit_is_the_resource_that_is_nearly_full() -> None:
    busy = Usage(busy=0.97, memory=3000, sessions=8, encoder=0.4)
    assert "limited by share of the GPU's time (97 %)" in limits_of(step(session(1), gpu=busy))
    full = step(session(1), cpu=2.9)
    assert "limited by cores of orchestrator's event loop (97 %)" in limits_of(full)
    assert "limited by latency" in limits_of(step(session(1), cpu=0.1))
    assert "were held" in limits_of(step(session()))


def test_lines_of_nvidia_smi_are_read() -> None:
    lines = ["50, 1000, 2, 10", "100, 1200, 3, 30", "[Unknown Error]", "30, 1100, [N/A], [N/A]"]
    assert usage_of(lines) == pytest.approx(Usage(0.6, 1200, 3, 0.4 / 3))
    assert usage_of([]) is None


# --- frames


class Renderer:
    """Renders noise that depends on the motion, with an error in one frame."""

    def __init__(self, error: int = 0) -> None:
        self.error = error

    async def infer(self, name: str, inputs: Any, shapes: Any) -> dict[str, np.ndarray]:
        assert name == "frame_synthesis"
        noise = np.random.default_rng(inputs["motion"].tobytes()[40])
        image = noise.integers(0, 200, shapes["image"], np.uint8)
        image[0, 0] += np.uint8(self.error)
        return {"image": image}


async def test_differences_of_frames_are_counted() -> None:
    portrait = Portrait(handle="sha256:" + "0" * 64, width=300, height=300)
    wanted = gpu_frames.requests([portrait], few=True)
    assert len(wanted) == 4
    assert len(gpu_frames.requests([portrait] * 2, few=False)) > 100
    same = await gpu_frames.compare(Renderer(), Renderer(), wanted)  # type: ignore[arg-type]
    assert same[:4] == (4, 0, 0, 0)
    apart = await gpu_frames.compare(Renderer(), Renderer(3), wanted)  # type: ignore[arg-type]
    assert apart.largest == 3
    assert 0 < apart.share < 1e-4
    assert apart.worst in [request.name for request in wanted]


def test_the_table_judges_a_gpu() -> None:
    times = {model: Times(100, 10, 0.1, 0.1, 1.0, 0.1) for model in gpu_frames.MODELS}
    done = Throughput(16, 2.0, [0.02] * 100, times, {Program("renderer", "tritonserver"): 0.5})
    usage = Usage(0.5, 1000, 0, 0)
    results = Results(Difference(10, 2, 0.1, 0.1, "worst"), [(done, usage)], {"renderer": 120.0})
    results.steps = [step(session(), session(), gpu=usage), step(*[session(1)] * 4, gpu=usage)]
    assert results.best is results.steps[0]
    report = tabulate(results, {}, on_gpu=True)
    figures = {row.what: row for rows in report.sections.values() for row in rows}
    assert figures["largest difference"].verdict == "MISS by 1"
    assert figures["16 requested at a time"].values[JUDGED] == 50
    assert figures["sessions held"].verdict == "MISS by 98"
    assert figures["16 at a time: frame_synthesis computes"].values[JUDGED] == 100
    assert figures["all processes"].values[JUDGED] == pytest.approx(1000 / 150)
    assert tabulate(results, {}, on_gpu=False).missed[0].what == "largest difference"
    assert gpu_table.note_of(results.steps[1]).startswith("0 frames missing")


# --- the command


@pytest.mark.skipif(driver_problem() is None, reason="this machine has a GPU")
def test_without_a_gpu_the_command_states_what_is_missing() -> None:
    done = subprocess.run(COMMAND, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 4
    assert f"TALKINGFACE_DEVICE=gpu, but {driver_problem()}; `--dry-run` tries" in done.stderr
    assert not done.stdout


@pytest.mark.skipif(
    "BENCH_GPU_DRY_RUN" not in os.environ, reason="the dry run of the bench of a GPU is long"
)
def test_the_dry_run_measures_everything(tmp_path: Path) -> None:
    file = tmp_path / "gpu.json"
    done = subprocess.run(
        [*COMMAND, "--dry-run", "--json", file],
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    table = json.loads(file.read_text())
    assert table["dry_run"] is True
    assert table["about"]["device"].startswith("cpu")
    assert table["about"]["encoder of H.264"] == "x264"
    rows = {row["what"]: row for rows in table["sections"].values() for row in rows}
    # Two processes on one CPU give the same bits.
    assert rows["largest difference"]["values"][JUDGED] == 0
    for what in ("1 requested at a time", "2 requested at a time", "all processes"):
        assert rows[what]["values"][JUDGED] > 0
    for stage in ("audio_features", "motion_gen", "renderer"):
        assert rows[f"streams that {stage} carries alone"]["values"][JUDGED] > 0
    assert rows["1 sessions: lateness"]["values"]["n"] > 0
