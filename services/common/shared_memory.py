"""Names, creation and clean-up of POSIX shared memory in /dev/shm.

Every region of the mesh is called `talkingface-<machine>-<pid>-...`: pid is that of the process
that made it, machine a hash of the host's name and the process's PID namespace, within which a pid
means something. A process killed with SIGKILL leaves its regions behind; the next one to start
there removes them.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import mmap
import os
import re
import socket
from pathlib import Path

FOLDER = Path("/dev/shm")
_SCOPE = f"{socket.gethostname()} {os.readlink('/proc/self/ns/pid')}"
_MACHINE = hashlib.sha256(_SCOPE.encode()).hexdigest()[:8]
_NAME = re.compile(rf"talkingface-{_MACHINE}-(\d+)-.*")
_numbers = itertools.count()


def unique_name(purpose: str) -> str:
    """A region name (without slash) that no other region has."""
    return f"talkingface-{_MACHINE}-{os.getpid()}-{purpose}{next(_numbers)}"


def sweep() -> list[str]:
    """Remove the regions of processes of this machine that no longer live.

    :return: the names removed.
    """
    removed = []
    for path in FOLDER.iterdir():
        match = _NAME.fullmatch(path.name)
        if match and not Path(f"/proc/{match[1]}").exists():
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
