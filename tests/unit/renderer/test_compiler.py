"""Compiled kernels belong to one state of the source."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numba

from talkingface.renderer.compiler import KERNELS, kernel_folder
from talkingface.renderer.geometry import frame


def test_any_change_of_the_source_gets_a_folder_of_its_own(tmp_path: Path) -> None:
    root, base = tmp_path / "talkingface", tmp_path / "cache"
    files = [root / name for name in ("renderer/pixels/mouth.py", "contract/motion.py")]
    for path in files:
        path.parent.mkdir(parents=True)
        path.write_text("SHADE = 1\n")
    seen = {kernel_folder(base, root)}
    assert seen == {kernel_folder(base, root)}
    assert seen.pop().parent == base
    for number, path in enumerate(files):
        path.write_text("SHADE = 2\n")
        os.utime(path, ns=(number, number))  # however coarse the clock of the file system is
        seen.add(kernel_folder(base, root))
    files[0].rename(files[0].with_name("teeth.py"))
    seen.add(kernel_folder(base, root))
    assert len(seen) == 3


def test_kernels_are_kept_in_it() -> None:
    frame.bounding_box(frame.FLIP.reshape(1, 2), 0)
    config: Any = numba.config
    assert str(KERNELS) == config.CACHE_DIR
    assert list(KERNELS.rglob("*.nbi"))
