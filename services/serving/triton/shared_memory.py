"""Names, creation and clean-up of POSIX shared memory in /dev/shm.

Every region of the mesh is called `talkingface-<machine>-<pid>-<start>-...`: machine is a hash of
the host's name (in Kubernetes, the pod's), pid that of the process that made it, start a time that
tells it from an earlier process of the same pid (in a container it is 1 every time). A process
killed with SIGKILL leaves its regions behind; the next one to start there removes them.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import mmap
import os
import re
import socket
import time
from pathlib import Path

FOLDER = Path("/dev/shm")
_MACHINE = hashlib.sha256(socket.gethostname().encode()).hexdigest()[:8]
_START = f"{time.time_ns():x}"
_NAME = re.compile(rf"talkingface-{_MACHINE}-(\d+)-([0-9a-f]+)-.*")
_numbers = itertools.count()


def unique_name(purpose: str) -> str:
    """A region name (without slash) that no other region has."""
    return f"talkingface-{_MACHINE}-{os.getpid()}-{_START}-{purpose}{next(_numbers)}"


def sweep() -> list[str]:
    """Remove the regions of processes of this machine that no longer live.

    :return: the names removed.
    """
    removed = []
    for path in FOLDER.iterdir():
        match = _NAME.fullmatch(path.name)
        if match is None:
            continue
        pid, start = int(match[1]), match[2]
        if start != _START if pid == os.getpid() else not Path(f"/proc/{pid}").exists():
            path.unlink(missing_ok=True)
            removed.append(path.name)
    return removed


def sweep_prefix(prefix: str) -> None:
    """Remove the regions whose names begin with a prefix."""
    for path in FOLDER.glob(f"{prefix}*"):
        path.unlink(missing_ok=True)


class Region:
    """A new region of shared memory, mapped here; `name` is its key for others (with slash)."""

    def __init__(self, purpose: str, size: int) -> None:
        """
        :raises OSError: where /dev/shm has no room (rather than SIGBUS at the first write).
        """
        path = FOLDER / unique_name(purpose)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            os.posix_fallocate(descriptor, 0, size)
            self.memory = mmap.mmap(descriptor, size)
        except OSError:
            path.unlink()
            raise
        finally:
            os.close(descriptor)
        self.name = f"/{path.name}"
        self.size = size
        self._path = path

    def close(self) -> None:
        """Unmap and remove the region; processes that have mapped it keep their mapping."""
        self._path.unlink(missing_ok=True)
        with contextlib.suppress(BufferError):  # an array still looks at it; freed with the array
            self.memory.close()
