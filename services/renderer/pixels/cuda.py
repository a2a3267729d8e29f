"""The kernels of a GPU: the same names, arguments and results as the loops of the CPU.

Each thread computes one pixel or one triangle, by the same device functions. What the loops leave
out because it cannot be seen is computed here. Needs numba-cuda where a GPU is; numba's simulator
serves the tests.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numba import cuda

from talkingface.renderer.pixels import crops, face, layers, planar, triangles
from talkingface.renderer.pixels.triangles import FIRST_ATTRIBUTE, NONE

_BLOCK = (32, 8)  # threads: 32 neighbours of a row read memory together
_LINE = 128  # threads along a list


class Kernel:
    """A kernel over the pixels of an image, or over the rows of a list."""

    def __init__(self, body: Callable[..., None], over: str) -> None:
        """
        :param body: what a thread does, called with x and y, or with an index, and the arguments.
        :param over: the argument whose first axes are the grid of threads; its last two are if its
            name is "planes".
        """
        names = list(inspect.signature(body).parameters)
        self.flat = names[0] == "n"
        self._name = over
        self._over = names.index(over) - (1 if self.flat else 2)
        self.python = _line(body) if self.flat else _grid(body)
        self._compiled: Any = None

    def __call__(self, *args: Any) -> None:
        """Launch the kernel in the current thread's default stream."""
        if self._compiled is None:
            self._compiled = cuda.jit(self.python, fastmath=True)
        shape = args[self._over].shape
        if self.flat:
            self._compiled[math.ceil(shape[0] / _LINE), _LINE](shape[0], args)
            return
        height, width = shape[-2:] if self._name == "planes" else shape[:2]
        grid = (math.ceil(width / _BLOCK[0]), math.ceil(height / _BLOCK[1]))
        self._compiled[grid, _BLOCK](width, height, args)


def _grid(body: Callable[..., None]) -> Callable[..., None]:
    inner = cuda.jit(body, device=True, fastmath=True)

    def thread(width: int, height: int, args: Any) -> None:
        x, y = cuda.grid(2)
        if x < width and y < height:
            inner(x, y, *args)

    return thread


def _line(body: Callable[..., None]) -> Callable[..., None]:
    inner = cuda.jit(body, device=True, fastmath=True)

    def thread(count: int, args: Any) -> None:
        n = cuda.grid(1)
        if n < count:
            inner(n, *args)

    return thread


def kernel(over: str) -> Callable[[Callable[..., None]], Kernel]:
    """Make a kernel of the body of a thread; see `Kernel`."""
    return lambda body: Kernel(body, over)


@kernel(over="out")
def fill(x, y, value, out):
    """Write the same value at all pixels of an image (H, W)."""
    out[y, x] = value


@kernel(over="triangles")
def _write_rows(n, points, values, triangles_, cull, table, drawn):
    a, b, c = triangles_[n, 0], triangles_[n, 1], triangles_[n, 2]
    drawn[n] = triangles.write_row(table[n], points, values, a, b, c, cull)
