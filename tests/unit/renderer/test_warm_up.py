"""After the warm-up no frame waits for a kernel to be compiled, or loaded."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def test_no_frame_needs_a_kernel_that_the_warm_up_has_not_run() -> None:
    program = [sys.executable, "-m", "tests.support.warm_up_program"]
    folder = Path(__file__).parents[3]
    done = subprocess.run(program, check=True, stdout=subprocess.PIPE, text=True, cwd=folder)
    assert done.stdout == ""
