"""Compile numba's kernels once for each build.

python3 -m talkingface.renderer.worker.kernels
"""

from __future__ import annotations

import fcntl
import os
import subprocess
from pathlib import Path

from talkingface.contract.identity import digest


def cache_folder() -> Path:
    """The folder of compiled kernels."""
    return Path(os.environ.get("NUMBA_CACHE_DIR") or Path(__file__).parent / "__pycache__")


def compile_kernels() -> None:
    """Compile all kernels into numba's cache, from which every process then loads them.

    The compiler allocates more than 100 MB and never frees them: it runs in a process of its own.
    """
    folder = cache_folder()
    build = digest(("contract", "renderer"), ("numba", "numpy"), processor=True)
    done = folder / f"kernels.{build}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "kernels.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # the others wait for the first
            if not done.exists():
                subprocess.run(["python3", "-m", __name__], check=True)
                done.touch()
    except (OSError, subprocess.CalledProcessError):
        return  # then each process compiles them for itself, or reports what is wrong


if __name__ == "__main__":
    from talkingface.renderer.worker.devices import CpuDevice, warm_up
    from talkingface.renderer.worker.portrait_preparation import PortraitPreparation

    PortraitPreparation().warm_up()
    warm_up(CpuDevice())
