"""CPU time and memory of processes, from /proc."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple


@dataclass(frozen=True)
class Memory:
    """Memory of a service with its Triton, in MiB. Pages that processes share count in each RSS."""

    service: str
    processes: int
    rss: float
    pss: float
    peak: float  # largest RSS that a single process has had


class Size(NamedTuple):
    """Memory of one process in MiB."""

    rss: float
    pss: float  # pages that n processes share count one n-th in each


class Program(NamedTuple):
    """All processes of one program within a service."""

    service: str
    name: str  # "service", "tritonserver", or "model" and its name


class Sample(NamedTuple):
    """All processes of a mesh at one moment."""

    seconds: float  # since `MemoryWatch.run` began
    sizes: Mapping[tuple[str, int], Size]  # by service and process id


def family(pid: int) -> list[int]:
    """A process and all its descendants."""
    parents: dict[int, list[int]] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:  # it has ended
            continue
        parents.setdefault(int(fields[1]), []).append(int(folder.name))
    members = [pid]
    for member in members:
        members += parents.get(member, [])
    return members


def cpu_seconds(pids: Iterable[int]) -> float:
    """CPU seconds that processes and all their descendants have used so far."""
    return sum(cpu_of(member) for parent in pids for member in family(parent))


def cpu_by_program(services: Mapping[str, int]) -> dict[Program, float]:
    """CPU seconds so far, by service and program; several processes of one program are added.

    :param services: process ids by service; descendants count as part of it
    """
    seconds: dict[Program, float] = {}
    for service, parent in services.items():
        for pid in family(parent):
            program = Program(service, _program(pid) if pid != parent else "service")
            seconds[program] = seconds.get(program, 0.0) + cpu_of(pid)
    return seconds


def cpu_of(pid: int, ended: bool = False) -> float:
    """CPU seconds that one process has used so far; 0 if it has ended.

    :param ended: whether to add those of its child processes that have ended
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:  # it has ended
        return 0.0
    return sum(map(int, fields[11 : 15 if ended else 13])) / os.sysconf("SC_CLK_TCK")


def _program(pid: int) -> str:
    """Name of a process: that of its model if it is one of Triton's Python backend."""
    try:
        command = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
    except OSError:  # it has ended
        return "ended"
    models = [path for path in map(Path, command) if path.match("*/1/model.*")]
    return f"model {models[0].parents[1].name}" if models else Path(command[0]).name


def memory_of(service: str, pid: int) -> Memory:
    """Memory of a process and all its descendants."""
    members = family(pid)
    sizes = [size_of(member) for member in members]
    peak = max(_mebibytes(f"/proc/{member}/status", "VmHWM") for member in members)
    rss, pss = (sum(column) for column in zip(*sizes, strict=True))
    return Memory(service, len(members), rss, pss, peak)


def size_of(pid: int) -> Size:
    """Memory of one process.

    :raises OSError: it has ended
    """
    file = f"/proc/{pid}/smaps_rollup"
    return Size(_mebibytes(file, "Rss"), _mebibytes(file, "Pss"))


def _mebibytes(file: str, name: str) -> float:
    lines = Path(file).read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:")) / 1024


class MemoryWatch:
    """Measures all processes of a mesh at regular intervals."""

    def __init__(self, services: Mapping[str, int], every: float) -> None:
        """
        :param services: process ids by service; descendants count as part of it
        :param every: seconds
        """
        self._services = services
        self._every = every
        self.samples: list[Sample] = []

    async def run(self) -> None:
        """Measure until cancelled; in a thread, so that arrivals are not delayed."""
        begin = time.perf_counter()
        while True:
            seconds = time.perf_counter() - begin
            self.samples.append(Sample(seconds, await asyncio.to_thread(self._measure)))
            left = begin + len(self.samples) * self._every - time.perf_counter()
            await asyncio.sleep(max(left, 0.0))

    def _measure(self) -> dict[tuple[str, int], Size]:
        sizes = {}
        for service, parent in self._services.items():
            for pid in family(parent):
                try:
                    sizes[service, pid] = size_of(pid)
                except (OSError, StopIteration):  # it has ended
                    continue
                time.sleep(0.005)
        return sizes
