"""The machine's own speed in the header of each table, and what else a bench needs of a machine."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from talkingface_research.bench import machine, machine_work, other_work, packages, stress
from talkingface_research.bench.machine import Machine, Speed
from talkingface_research.bench.processes import Program, cpu_by_program, family
from talkingface_research.bench.runs import Run
from talkingface_research.bench.speed import slowest
from tests.support import ROOT


def made(one: float, together: float, share: float = 1.0) -> Machine:
    """A machine with two cores; in milliseconds."""
    return Machine(
        Speed(1, {"Python": one / 2, "copy": one / 2}, 1.0),
        Speed(2, {"Python": together / 2, "copy": together / 2}, share),
    )


def test_a_machine_whose_speed_changes_is_reported() -> None:
    before = made(50, 60)
    assert machine.change(before, made(51, 60)) == pytest.approx(0.02)
    assert machine.change(before, made(50, 75)) == pytest.approx(0.25)
    assert machine.change(before, made(40, 59)) == pytest.approx(-0.2)
    steady, changed = (machine.header(before, made(50, ms)) for ms in (61, 75))
    assert steady["machine's speed"].startswith("steady")
    assert changed["machine's speed"].startswith("CHANGED")
    assert machine.as_json(before, made(50, 75))["changed"]


def test_other_programs_are_reported() -> None:
    assert "other programs" not in made(50, 60).text()
    assert "the work got 100 % of one core, 60 % of all" in made(50, 60, share=0.6).text()


def test_several_processes_are_averaged() -> None:
    results = [{"ms": {"copy": 10.0}, "share": 1.0}, {"ms": {"copy": 14.0}, "share": 0.5}]
    assert machine.joined(results) == Speed(2, {"copy": 12.0}, 0.75)


def test_the_work_is_the_same_every_time() -> None:
    """Each part computes one fixed result, or it would not state a machine's speed."""
    assert machine_work.python_loop()() == machine_work.python_loop()()
    assert machine_work.numba_loop()() == machine_work.numba_loop()()
    (first,), (second,) = (machine_work.onnxruntime_run()() for _ in range(2))
    assert np.abs(first).max() > 0
    assert np.array_equal(first, second)


def test_this_machine_is_measured() -> None:
    found = machine.measure()
    assert set(found.one.ms) == set(found.all.ms) == set(machine_work.PARTS)
    assert all(ms > 0 for ms in (*found.one.ms.values(), *found.all.ms.values()))
    assert 0 < found.one.share <= 1
    assert found.all.processes == min(len(os.sched_getaffinity(0)), 32)


def test_the_best_repetition_counts() -> None:
    calls = []

    def work() -> None:
        calls.append(1)

    assert machine_work.measure({"work": work}, repetitions=4)["ms"]["work"] >= 0
    assert len(calls) == 4


def test_the_slowest_round_is_the_figure() -> None:
    rounds = [
        (Run(0.2, [0.04] * 10, 10, 1.0), 0.3),
        (Run(0.1, [0.05] * 10, 10, 2.0), 0.2),
    ]
    found = slowest("renderer", "interval", rounds)
    assert (found.fps, found.first_ms, found.p95_ms, found.cpu_ms) == (5.0, 200.0, 50.0, 30.0)
    assert found.rounds["fps"] == [10.0, 5.0]
    assert found.frames == 10


def test_cores_are_kept_busy_and_released() -> None:
    (core,) = stress.cores_for(1)
    assert core == max(os.sched_getaffinity(0))
    with stress.stress(1) as about:
        assert f"core {core}" in about
    with stress.stress(0) as about:
        assert about == ""
    with pytest.raises(ValueError, match="cores"):
        stress.cores_for(len(os.sched_getaffinity(0)) + 1)


def test_stress_ng_is_used_where_it_is_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    about, (command,) = stress.commands([1])
    assert "stress-ng is not installed" in about
    assert command[0] == sys.executable
    program = tmp_path / "stress-ng"
    program.touch(mode=0o755)
    about, (command,) = stress.commands([1])
    assert about == "stress-ng --cpu 1, pinned to core 1"
    assert command[:5] == [str(program), "--cpu", "1", "--taskset", "1"]


def test_a_load_that_ends_early_fails_the_bench(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "stress-ng"
    program.write_text("#!/bin/sh\nexit 3\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(RuntimeError, match="has ended"), stress.stress(1):
        deadline = time.monotonic() + 60
        while program in running() and time.monotonic() < deadline:
            time.sleep(0.05)


def running() -> set[Path]:
    """The files that this process and its children run."""
    lines = {Path(f"/proc/{pid}/cmdline").read_text() for pid in family(os.getpid())}
    return {Path(part) for line in lines for part in line.split("\0")}


def test_all_that_is_busy_counts_and_nothing_that_waits() -> None:
    second = os.sysconf("SC_CLK_TCK")
    values = [second * value for value in (10, 1, 5, 1000, 2000, 2, 3, 4, 7, 7)]
    text = f"cpu  {' '.join(map(str, values))}\ncpu0 1 1 1 1 1 1 1 1 1 1\n"
    assert other_work.busy_seconds(text) == 10 + 1 + 5 + 2 + 3 + 4


def test_what_this_process_and_its_children_use_is_not_other_work() -> None:
    """On a machine that does nothing else it would be 0; here it can only be bounded."""
    code = "import sys; sum(range(10**7)); print(flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", code]
    with (
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child,
        other_work.OtherWork() as others,
    ):
        assert child.stdout is not None
        child.stdout.readline()
    assert 0 <= others.cores <= (os.cpu_count() or 1)
    assert others.own_seconds > 0.05, "the child's"


def test_unequal_load_is_reported() -> None:
    cores = os.cpu_count() or 1
    assert "NOT" in other_work.text_of(0.5 * cores)
    assert "NOT" not in other_work.text_of(0.01 * cores)
    assert "UNEQUAL" in other_work.comparison_of([0.1 * cores, 0.0], [0.5 * cores, 0.0])
    assert "UNEQUAL" not in other_work.comparison_of([0.5 * cores], [0.49 * cores])


def test_cpu_is_found_by_program() -> None:
    code = "import sys; sum(range(10**6)); print(flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", code, "/models/inpainter/1/model.py"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        found = cpu_by_program({"renderer": os.getpid()})
    assert found[Program("renderer", "service")] > 0
    assert Program("renderer", "model inpainter") in found


def test_the_packages_of_a_mesh_are_measured() -> None:
    disk = packages.disk_of(ROOT)
    assert disk.absent == ()
    assert disk.packages > 20
    assert 300 < disk.mebibytes < 5000


def test_a_tree_without_extras_needs_its_dependencies(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text(
        '[project]\nname = "talkingface"\ndependencies = ["numpy>=1", "never-was; extra == \'x\'", '
        '"no-such-package-here"]\n'
    )
    (tmp_path / "services").mkdir()
    (tmp_path / "services" / "weights.onnx").write_bytes(b"1" * 2**20)
    disk = packages.disk_of(tmp_path)
    assert disk.absent == ("no-such-package-here",)
    assert disk.packages == 1
    assert disk.mebibytes > 10
