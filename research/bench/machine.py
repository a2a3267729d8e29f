"""The speed of this machine by a fixed piece of work, for the header of each table.

Machines differ by a factor of two, and a shared one from hour to hour. Figures of two tables can be
compared after division by the CPU time of the same work (`machine_work`) beside them. It is
measured before and after a run: on one core, and on all cores at once, where a machine whose cores
share caches or hardware threads is slower.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from typing import Any

CHANGED = 0.1  # by which the CPU time of the work may change during a run, by eye
_BUSY = 0.9  # share of the cores below which other programs are reported, by eye
_MOST_PROCESSES = 32  # at once, each of which needs about 200 MiB
_TIMEOUT_SECONDS = 120.0  # of the whole measurement, which takes about five


@dataclass(frozen=True)
class Speed:
    """The same work in one process, or in several at once."""

    processes: int
    ms: Mapping[str, float]  # CPU time of each part: best of the repetitions, mean of the processes
    share: float  # of the cores, that the processes got

    @property
    def total(self) -> float:
        """CPU time of all parts in milliseconds."""
        return sum(self.ms.values())


@dataclass(frozen=True)
class Machine:
    """The speed of a machine at one moment."""

    one: Speed  # on one core
    all: Speed  # on all cores at once

    def text(self) -> str:
        """Both speeds in one line."""
        parts = ", ".join(f"{name} {ms:.1f}" for name, ms in self.one.ms.items())
        together = f"all {self.all.processes} cores at once"
        text = f"{self.one.total:.1f} ms of CPU on one core ({parts}), "
        text += f"{self.all.total:.1f} ms on {together}"
        if min(self.one.share, self.all.share) < _BUSY:
            text += (
                f"; other programs ran: the work got {100 * self.one.share:.0f} % of one core, "
                f"{100 * self.all.share:.0f} % of all"
            )
        return text


def measure() -> Machine:
    """Measure this machine, which takes about five seconds.

    :raises RuntimeError: a process of the work has failed
    """
    cores = sorted(os.sched_getaffinity(0))[:_MOST_PROCESSES]
    with ExitStack() as stack:
        # They end when their standard input is closed.
        processes = [stack.enter_context(_start(core)) for core in cores]
        for process in processes:
            _read(process, "ready")
        one = _run(processes[:1])
        return Machine(one, _run(processes))


def _start(core: int) -> subprocess.Popen[str]:
    # `timeout` ends a process that hangs; reading its output would otherwise wait forever.
    command = ["timeout", f"{_TIMEOUT_SECONDS:g}", sys.executable]
    command += ["-m", "talkingface_research.bench.machine_work", str(core)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def _read(process: subprocess.Popen[str], expected: str = "") -> str:
    assert process.stdout is not None
    line = process.stdout.readline().strip()
    if not line or (expected and line != expected):
        raise RuntimeError("the work that states the machine's speed has failed")
    return line


def _run(processes: Sequence[subprocess.Popen[str]]) -> Speed:
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    return joined([json.loads(_read(process)) for process in processes])


def joined(results: Sequence[Mapping[str, Any]]) -> Speed:
    """The mean of several processes' results, as `machine_work.measure` returns them."""
    count = len(results)
    ms = {name: sum(r["ms"][name] for r in results) / count for name in results[0]["ms"]}
    return Speed(count, ms, sum(r["share"] for r in results) / count)


def change(before: Machine, after: Machine) -> float:
    """By which share the work took longer after the run: the larger of one core and all cores."""
    changes = (
        after.one.total / before.one.total - 1,
        after.all.total / before.all.total - 1,
    )
    return max(changes, key=abs)


def header(before: Machine, after: Machine) -> dict[str, str]:
    """Lines for the header of a table."""
    share = change(before, after)
    verdict = f"steady: {100 * share:+.0f} % from before to after the run"
    if abs(share) > CHANGED:
        verdict = (
            f"CHANGED during the run: the same work took {100 * share:+.0f} % CPU time after it"
        )
    return {
        "machine's speed before": before.text(),
        "machine's speed after": after.text(),
        "machine's speed": verdict,
    }


def as_json(before: Machine, after: Machine) -> dict[str, Any]:
    """Both measurements, and the change, for programs."""
    return {
        "before": asdict(before),
        "after": asdict(after),
        "change": change(before, after),
        "changed": abs(change(before, after)) > CHANGED,
    }
