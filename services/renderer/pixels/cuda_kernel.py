"""Kernels of a GPU: what a thread does, compiled for the arguments that it is launched with.

A kernel has one thread for each pixel of a shape, or for each row of a list. It takes arrays of the
GPU, numbers, and named tuples of both. An array of the host is an error: numba would copy it to the
GPU and back, and wait.
"""

from __future__ import annotations

import inspect
import struct
from collections.abc import Callable
from typing import Any

import numba
import numba.cuda
import numpy as np

from talkingface.renderer.pixels.device_array import DeviceArray

cuda: Any = numba.cuda  # its functions have no types
_numba: Any = numba
_types: Any = numba.types

_BLOCK = (32, 8)  # threads: 32 neighbours of a row read memory together
_LINE = 128  # threads along a list
SLOT = 8  # bytes in which an argument lies

Body = Callable[..., None]
Grid = tuple[int, int, int]


class Kernel:
    """What a thread does, and how it is launched."""

    def __init__(self, body: Body) -> None:
        """
        :param body: what a thread does; called with x and y, or with n, and the arguments.
        """
        self.body, self.name = body, body.__name__
        self.flat = next(iter(inspect.signature(body).parameters)) == "n"
        self.python = _line(body) if self.flat else _pixels(body)

    def grid(self, shape: tuple[int, ...]) -> tuple[Grid, Grid]:
        """Blocks, and threads of a block, for a shape (N,) or (H, W)."""
        if self.flat:
            return (max(-(-shape[0] // _LINE), 1), 1, 1), (_LINE, 1, 1)
        height, width = shape
        blocks = (max(-(-width // _BLOCK[0]), 1), max(-(-height // _BLOCK[1]), 1), 1)
        return blocks, (*_BLOCK, 1)

    def signature(self, args: tuple[Any, ...]) -> Any:
        """The types that numba compiles it for."""
        size = (_types.int64,) if self.flat else (_types.int64, _types.int64)
        return _types.void(*size, _type_of(args))

    def ptx(self, args: tuple[Any, ...], capability: tuple[int, int]) -> tuple[str, str]:
        """Compile it for arguments like these; no GPU is needed.

        :param capability: compute capability, such as (9, 0).
        :return: name of its entry, and PTX.
        """
        text, _ = cuda.compile_ptx(self.python, self.signature(args), cc=capability, fastmath=True)
        entry = text.split(".visible .entry ")[1].split("(")[0]
        return entry, text


def kernel(body: Body) -> Kernel:
    """Make a kernel of the body of a thread; see `Kernel`."""
    return Kernel(body)


def flatten(args: tuple[Any, ...], packed: list[bytes], kinds: list[Any]) -> None:
    """Pack arguments as a kernel of numba takes them, and name their types.

    :param packed: out: their numbers, each in the lower bytes of a `SLOT`.
    :param kinds: out: what two calls of the same compiled kernel have in common.
    :raises TypeError: an argument that kernels do not take, such as an array of the host.
    """
    for value in args:
        kind = type(value)
        if kind is DeviceArray:
            packed.append(value.packed)
            kinds.append(value.kind)
        elif kind is np.float32:
            packed.append(struct.pack("<f4x", value))
            kinds.append(kind)
        elif kind in (int, bool, np.bool_, np.int64):
            packed.append(int(value).to_bytes(SLOT, "little", signed=True))
            kinds.append(kind)
        elif isinstance(value, tuple):
            kinds.append((kind, len(value)))
            flatten(value, packed, kinds)
        else:
            raise TypeError(f"kernels of a GPU take no {kind.__module__}.{kind.__qualname__}")


def _type_of(value: Any) -> Any:
    """The type of an argument, as numba names it."""
    if isinstance(value, DeviceArray):
        layout = "C" if value.contiguous else "A"
        return _types.Array(_numba.from_dtype(value.dtype), len(value.shape), layout)
    if isinstance(value, tuple):
        return _types.BaseTuple.from_types([_type_of(part) for part in value], type(value))
    return _numba.typeof(value)


def _pixels(body: Body) -> Body:
    inner = cuda.jit(body, device=True, fastmath=True)

    def thread(width: int, height: int, args: Any) -> None:
        x, y = cuda.grid(2)
        if x < width and y < height:
            inner(x, y, *args)

    return thread


def _line(body: Body) -> Body:
    inner = cuda.jit(body, device=True, fastmath=True)

    def thread(count: int, args: Any) -> None:
        n = cuda.grid(1)
        if n < count:
            inner(n, *args)

    return thread
