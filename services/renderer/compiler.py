"""numba's compiler, with a cache that notices every change of the source.

numba compiles a cached function again when its own file changes, but not when another file changes
whose functions it calls. Therefore each state of the renderer's source has a folder of its own.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import numba
from numba import njit

__all__ = ["KERNELS", "njit"]


def _folder() -> Path:
    here = Path(__file__).parent
    state = hashlib.sha256()
    for path in sorted(here.rglob("*.py")):
        found = path.stat()
        state.update(f"{path.relative_to(here)} {found.st_mtime_ns} {found.st_size}\0".encode())
    base = Path(os.environ.get("NUMBA_CACHE_DIR") or here / "__pycache__")
    return base / f"kernels-{state.hexdigest()[:12]}"


KERNELS = _folder()
"""Folder of the compiled kernels of this source, below NUMBA_CACHE_DIR if that is set."""
numba.config.CACHE_DIR = str(KERNELS)
