"""Compiled kernels belong to one state of the source."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numba

from talkingface.renderer.compiler import KERNELS, kernel_folder
from talkingface.renderer.geometry import frame


def test_any_change_of_the_source_gets_a_folder_of_its_own(tmp_path: Path) -> None:
    source, base = tmp_path / "source", tmp_path / "cache"
    (source / "pixels").mkdir(parents=True)
    caller, called = source / "loops.py", source / "pixels" / "mouth.py"
    for path in (caller, called):
        path.write_text("SHADE = 1\n")
    before = kernel_folder(source, base)
    assert before.parent == base
    assert kernel_folder(source, base) == before
    called.write_text("SHADE = 2\n")
    os.utime(called, ns=(1, 1))  # however coarse the clock of the file system is
    after = kernel_folder(source, base)
    assert after != before
    called.rename(source / "pixels" / "teeth.py")
    assert kernel_folder(source, base) not in (before, after)


def test_kernels_are_kept_in_it() -> None:
    frame.bounding_box(frame.FLIP.reshape(1, 2), 0)
    config: Any = numba.config
    assert str(KERNELS) == config.CACHE_DIR
    assert list(KERNELS.rglob("*.nbi"))
