"""numba's compiler, with a cache that notices every change of the source.

numba compiles a cached function again when its own file changes, but not when another file changes
whose functions it calls. Therefore each state of the source has a folder of its own.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import numba
from numba import njit

from talkingface.contract.identity import ROOT, digest

__all__ = ["KERNELS", "kernel_folder", "njit"]

_PARTS = ("contract", "renderer")  # folders of the package whose source decides the kernels


def kernel_folder(base: Path, root: Path = ROOT) -> Path:
    """The folder of the kernels of a state of the source, of numba and of the processor.

    Files count by time and size: every process that draws asks for it, and the build's digest of
    their syntax takes 0.4 s.

    :param base: folder of the cache.
    :param root: folder of the package.
    """
    state = hashlib.sha256(digest((), ("numba", "numpy"), processor=True).encode())
    for path in sorted(path for part in _PARTS for path in (root / part).rglob("*.py")):
        found = path.stat()
        name = path.relative_to(root).as_posix()
        state.update(f"{name} {found.st_mtime_ns} {found.st_size}\0".encode())
    return base / f"kernels-{state.hexdigest()[:12]}"


KERNELS = kernel_folder(
    Path(os.environ.get("NUMBA_CACHE_DIR") or Path(__file__).parent / "__pycache__")
)
"""Folder of the compiled kernels of this source, below NUMBA_CACHE_DIR if that is set."""
_config: Any = numba.config  # its attributes have no types
_config.CACHE_DIR = str(KERNELS)
