"""numba's compiler, with a cache that notices every change of the source.

numba compiles a cached function again when its own file changes, but not when another file changes
whose functions it calls. Therefore each state of the renderer's source has a folder of its own.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import numba
from numba import njit

__all__ = ["KERNELS", "kernel_folder", "njit"]


def kernel_folder(source: Path, base: Path) -> Path:
    """The folder of the kernels of a state of the source.

    :param source: folder of the source.
    :param base: folder of the cache.
    """
    state = hashlib.sha256()
    for path in sorted(source.rglob("*.py")):
        found = path.stat()
        name = path.relative_to(source).as_posix()
        state.update(f"{name} {found.st_mtime_ns} {found.st_size}\0".encode())
    return base / f"kernels-{state.hexdigest()[:12]}"


_HERE = Path(__file__).parent
KERNELS = kernel_folder(_HERE, Path(os.environ.get("NUMBA_CACHE_DIR") or _HERE / "__pycache__"))
"""Folder of the compiled kernels of this source, below NUMBA_CACHE_DIR if that is set."""
_config: Any = numba.config  # its attributes have no types
_config.CACHE_DIR = str(KERNELS)
