"""What a GPU is doing, by `nvidia-smi`, which comes with NVIDIA's driver."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import subprocess
from collections.abc import Sequence
from typing import NamedTuple

_FIELDS = ("utilization.gpu", "memory.used", "encoder.stats.sessionCount", "utilization.encoder")
_ABOUT = ("name", "driver_version", "memory.total", "mig.mode.current")
_EVERY_SECONDS = 1


class Usage(NamedTuple):
    """The first GPU over some time."""

    busy: float  # mean share of the time in which a kernel ran
    memory: float  # MiB, largest
    sessions: float  # of its encoder, largest
    encoder: float  # mean share of the time in which it encoded


def about() -> str:
    """The GPU's name, driver, memory and MIG mode in one line; "" without nvidia-smi."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return ""
    command = [program, f"--query-gpu={','.join(_ABOUT)}", "--format=csv,noheader"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    return "; ".join(done.stdout.split("\n")[:-1])


class Monitor:
    """Measures the first GPU every second, as an asynchronous context manager."""

    def __init__(self) -> None:
        self._process: asyncio.subprocess.Process | None = None
        self.usage: Usage | None = None  # after the end; None without nvidia-smi

    async def __aenter__(self) -> Monitor:
        program = shutil.which("nvidia-smi")
        if program is not None:
            self._process = await asyncio.create_subprocess_exec(
                *(program, "-i", "0", "-l", str(_EVERY_SECONDS)),
                *(f"--query-gpu={','.join(_FIELDS)}", "--format=csv,noheader,nounits"),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
            )
        return self

    async def __aexit__(self, *error: object) -> None:
        if self._process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            self._process.terminate()
        out, _ = await self._process.communicate()
        self.usage = usage_of(out.decode().splitlines())


def usage_of(lines: Sequence[str]) -> Usage | None:
    """Read the lines of nvidia-smi; fields that a GPU does not have, "[N/A]", count as 0."""
    rows = [[_number(field) for field in line.split(",")] for line in lines]
    rows = [row for row in rows if len(row) == len(_FIELDS)]
    if not rows:
        return None
    busy, memory, sessions, encoder = zip(*rows, strict=True)
    count = len(rows)
    return Usage(sum(busy) / count / 100, max(memory), max(sessions), sum(encoder) / count / 100)


def _number(field: str) -> float:
    try:
        return float(field)
    except ValueError:
        return 0.0
