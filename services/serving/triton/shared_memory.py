"""Names, creation and clean-up of POSIX shared memory in /dev/shm.

Every region of the mesh is called `talkingface-<machine>-<pid>-<start>-...`: machine is a hash of
the host's name (in Kubernetes, the pod's), pid is the process that created it, and start is a time
that distinguishes it from an earlier process with the same pid (in a container the pid is always
1). A process killed with SIGKILL leaves its regions behind; the next one that starts on the machine
removes them.
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
    """Return a unique region name, without slash."""
    return f"talkingface-{_MACHINE}-{os.getpid()}-{_START}-{purpose}{next(_numbers)}"


def sweep() -> list[str]:
    """Remove the regions of processes of this machine that have ended.

    :return: names of the removed regions
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
    """Remove the regions whose names begin with `prefix`."""
    for path in FOLDER.glob(f"{prefix}*"):
        path.unlink(missing_ok=True)


class Region:
    """A new region of shared memory, mapped by this process.

    `name`, with slash, is its key for other processes.
    """

    def __init__(self, purpose: str, size: int) -> None:
        """
        :param purpose: part of the name
        :param size: bytes
        :raises OSError: /dev/shm is full (instead of SIGBUS at the first write)
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
        with contextlib.suppress(BufferError):  # an array still uses it; freed with the array
            self.memory.close()
