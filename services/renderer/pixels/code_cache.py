"""Compiled kernels of a GPU on disk: compiling all of them takes 10 s."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from talkingface.contract.identity import digest

_PARTS = ("renderer/face", "renderer/pixels")
_LIBRARIES = ("cuda-core", "llvmlite", "numba", "numba-cuda", "numpy", "nvidia-nvvm")


class CodeCache:
    """One folder, shared by all processes of a machine."""

    def __init__(self, folder: Path) -> None:
        """
        :param folder: created if it does not exist; where that fails, nothing is kept.
        """
        self._folder = folder
        self._build = digest(_PARTS, _LIBRARIES)

    def __call__(self, key: str, compiled: Callable[[], tuple[str, bytes]]) -> tuple[str, bytes]:
        """Return an entry's name and its code, from the folder or newly compiled.

        :param key: all that decides the code, but for this build.
        """
        name = hashlib.sha256(f"{self._build}\0{key}".encode()).hexdigest()
        path = self._folder / f"{name}.gpu"
        try:
            entry, _, code = path.read_bytes().partition(b"\n")
            return entry.decode(), code
        except OSError:
            entry_name, code = compiled()
            self._keep(path, entry_name.encode() + b"\n" + code)
            return entry_name, code

    def _keep(self, path: Path, content: bytes) -> None:
        """Write a file under another name first, so that nobody reads half of it."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=self._folder, delete=False) as file:
                file.write(content)
            os.replace(file.name, path)
        except OSError:
            return  # the next process compiles it again
