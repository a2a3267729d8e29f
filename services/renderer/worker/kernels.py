"""Compile numba's kernels once for each build.

python3 -m talkingface.renderer.worker.kernels PART     # "portraits" or "frames"
"""

from __future__ import annotations

import fcntl
import shutil
import subprocess
import sys
from pathlib import Path

from talkingface.renderer.compiler import KERNELS


def compile_kernels(folder: Path = KERNELS) -> None:
    """Compile all kernels into numba's cache, from which every process then loads them.

    The compiler allocates more than 100 MB and never frees them, and uses one core: it runs in two
    processes, which load from the cache what the other has compiled. Kernels of other states of the
    source are deleted.

    :param folder: of the cache.
    """
    done = folder / "complete"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # the others wait for the first
            if done.exists():
                return
            parts = [subprocess.Popen(["python3", "-m", __name__, part]) for part in _PARTS]
            if not any([part.wait() for part in parts]):
                done.touch()
                _delete_others(folder)
    except OSError:
        return  # then each process compiles them for itself, or reports what is wrong


def _delete_others(kept: Path) -> None:
    for folder in kept.parent.glob("kernels-*"):
        if folder != kept:
            shutil.rmtree(folder, ignore_errors=True)


def _compile_for_portraits() -> None:
    """Compile what prepares portraits, and first what draws mouths, which takes longest."""
    from talkingface.contract.motion import neutral
    from talkingface.renderer.geometry import Canvas, target_pose
    from talkingface.renderer.geometry.frame_plan import plan_frame
    from talkingface.renderer.geometry.mouth_drawing import draw_mouth
    from talkingface.renderer.worker.frame_synthesis import all_moved, grey_portrait
    from talkingface.renderer.worker.portrait_preparation import PortraitPreparation

    portrait = grey_portrait()
    for motion in (all_moved(), neutral(1)[0]):
        plan = plan_frame(portrait, *target_pose(portrait, motion))
        draw_mouth(portrait, plan, Canvas(), False)
    PortraitPreparation().warm_up()


def _compile_for_frames() -> None:
    from talkingface.renderer.worker.devices import CpuDevice, warm_up

    warm_up(CpuDevice())


_PARTS = {"portraits": _compile_for_portraits, "frames": _compile_for_frames}

if __name__ == "__main__":
    _PARTS[sys.argv[1]]()
