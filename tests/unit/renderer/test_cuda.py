"""The kernels of a GPU: the same results as the loops of the CPU, and code for a GPU.

No GPU is needed. numba's simulator runs each thread in Python, too slowly for more than a few
pixels, and NVVM compiles without a device.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from talkingface.renderer.pixels import cpu
from talkingface.renderer.pixels.cuda import all_kernels
from tests.support import pixel_program

SIMULATE = """
import sys
import numpy as np
from tests.support import pixel_program
np.savez(sys.argv[1], **pixel_program.run(pixel_program.simulated_kernels()))
"""


def test_simulated_kernels_give_what_the_loops_give(tmp_path: Path) -> None:
    found = tmp_path / "found.npz"
    subprocess.run(
        [sys.executable, "-W", "ignore", "-c", SIMULATE, found],
        check=True,
        env=os.environ | {"NUMBA_ENABLE_CUDASIM": "1", "NUMBA_DISABLE_JIT": "1"},
        cwd=Path(__file__).parents[3],
    )
    wanted = pixel_program.run(cpu)
    with np.load(found) as simulated:
        assert set(simulated.files) == set(wanted)
        for name, value in wanted.items():
            apart = np.abs(_numbers(simulated[name]) - _numbers(value))
            assert apart.max() <= (1e-3 if value.dtype == np.float32 else 1), name


def test_every_kernel_compiles_for_a_gpu() -> None:
    pytest.importorskip("numba_cuda", reason="the compiler for a GPU is not installed (extra gpu)")
    output = subprocess.run(
        [sys.executable, "-m", "tests.support.pixel_program", "sm_90"],
        check=True,
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[3],
    ).stdout
    assert f"{len(all_kernels())} kernels compiled" in output


def _numbers(array: np.ndarray) -> np.ndarray:
    """An array as real numbers, packed pixels by channel."""
    if array.dtype == np.uint32:
        array = array.view(np.uint8)
    return array.astype(np.float64)
