"""Other work on some cores of this machine during a live bench."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

# Where stress-ng is not installed. It ends with its parent, even if that is killed.
_BUSY = """
import ctypes, os, sys
ctypes.CDLL(None).prctl(1, 15)  # PR_SET_PDEATHSIG, SIGTERM
os.sched_setaffinity(0, {int(sys.argv[1])})
state = 1
while True:
    state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
"""


def commands(cores: list[int]) -> tuple[str, list[list[str]]]:
    """The programs that keep cores busy.

    :return: their description, and a command for each core
    """
    pinned = f"pinned to core {', '.join(map(str, cores))}"
    if (program := shutil.which("stress-ng")) is not None:
        return f"stress-ng --cpu 1, {pinned}", [
            [program, "--cpu", "1", "--taskset", str(core), "--quiet"] for core in cores
        ]
    about = f"a busy loop of Python, {pinned} (stress-ng is not installed)"
    return about, [[sys.executable, "-c", _BUSY, str(core)] for core in cores]


def cores_for(count: int) -> list[int]:
    """The cores that are kept busy: the last of those that this process may use.

    :raises ValueError: there are fewer
    """
    available = sorted(os.sched_getaffinity(0))
    if count > len(available):
        raise ValueError(f"this machine has only {len(available)} cores")
    return available[len(available) - count :]


@contextmanager
def stress(count: int) -> Iterator[str]:
    """Keep cores busy meanwhile; the value says by which program.

    :param count: number of cores; 0 starts nothing
    :raises ValueError: there are fewer cores
    """
    if not count:
        yield ""
        return
    about, programs = commands(cores_for(count))
    running = [
        subprocess.Popen(program, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        for program in programs
    ]
    try:
        yield about
        if any(process.poll() is not None for process in running):
            raise RuntimeError(f"a program of the load has ended during the run: {about}")
    finally:
        for process in running:
            process.terminate()
        for process in running:
            process.wait()
