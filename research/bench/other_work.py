"""How much of this machine other programs use during a bench.

Figures of wall time mean little where others take the cores, and a ratio of two runs means nothing
where they take more of them in one run than in the other.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from talkingface_research.bench.processes import cpu_of, family

NOTICEABLE = 0.05  # share of all cores, by eye
_EVERY_SECONDS = 1.0


class OtherWork:
    """Measure what other programs use, as a context manager.

    The CPU time of the whole machine, without that of this process and of all its descendants. They
    are looked for every second, because those that have ended no longer state theirs.
    """

    def __init__(self) -> None:
        self._own: dict[int, float] = {}  # CPU seconds by process id, as last seen
        self._before: dict[int, float] = {}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="other-work", daemon=True)
        self._begin = self._busy = 0.0
        # After the end:
        self.own_seconds = 0.0  # CPU time of this process and its descendants
        self.cores = 0.0  # that other programs used, on average

    def __enter__(self) -> Self:
        self._sample()
        self._before = dict(self._own)
        self._begin, self._busy = time.perf_counter(), busy_seconds()
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ended.set()
        self._thread.join()
        self._sample()
        self.own_seconds = sum(cpu - self._before.get(pid, 0.0) for pid, cpu in self._own.items())
        busy = busy_seconds() - self._busy
        self.cores = max(busy - self.own_seconds, 0.0) / (time.perf_counter() - self._begin)

    def _watch(self) -> None:
        while not self._ended.wait(_EVERY_SECONDS):
            self._sample()

    def _sample(self) -> None:
        for pid in family(os.getpid()):
            self._own[pid] = max(cpu_of(pid), self._own.get(pid, 0.0))


def busy_seconds(text: str | None = None) -> float:
    """CPU seconds of all programs so far, and those that the hypervisor has given to others.

    :param text: of /proc/stat, by default this machine's
    """
    line = (text or Path("/proc/stat").read_text()).splitlines()[0].split()
    user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, line[1:9])
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def text_of(cores: float) -> str:
    """The line for the header of a table."""
    count = os.cpu_count() or 1
    text = f"{cores:.2f} of {count} cores during the run"
    if cores > NOTICEABLE * count:
        text += ": times, frame rates and lateness are NOT those of a quiet machine"
    return text


def comparison_of(ours: Sequence[float], others: Sequence[float]) -> str:
    """The line for the header of a comparison: cores in each round of this tree and the other."""
    pairs = list(zip(ours, others, strict=True))
    text = "; ".join(f"{a:.2f} and {b:.2f}" for a, b in pairs)
    text = f"{text} of {os.cpu_count()} cores, in each round of this tree and of the other"
    if max(abs(a - b) for a, b in pairs) > NOTICEABLE * (os.cpu_count() or 1):
        text += ": UNEQUAL, so that only the ratios of CPU time and memory can be used"
    return text
