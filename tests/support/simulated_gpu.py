"""A GPU in the memory of this process, whose threads run one after the other.

The bodies of the kernels are compiled for the CPU, so that frames of any size are possible. Threads
run forwards or backwards: no result may depend on their order.
"""

from __future__ import annotations

import inspect
from collections import Counter
from typing import Any

import numpy as np
from numba import njit

from talkingface.renderer.arrays import AnyArray
from talkingface.renderer.pixels import cuda_frame
from talkingface.renderer.pixels.cuda_kernel import Kernel, flatten
from talkingface.renderer.pixels.device_array import DeviceArray

_GARBAGE = 0xA5  # what new memory holds


def _keep_largest(values: Any, y: Any, x: Any, value: Any) -> None:
    values[y, x] = max(values[y, x], value)


class SimulatedGpu:
    """As `gpu.Gpu`; addresses are those of this process."""

    def __init__(self, backwards: bool = False) -> None:
        """
        :param backwards: the last thread runs first.
        """
        self.backwards = backwards
        self.calls: Counter[str] = Counter()
        self.kernels: list[tuple[Kernel, tuple[Any, ...]]] = []  # with what they were launched
        self.fails = False  # the next `wait` reports an error
        self._memory: dict[int, AnyArray] = {}
        self._loops: dict[Any, Any] = {}

    def allocate(self, nbytes: int) -> int:
        self.calls["allocate"] += 1
        memory = np.full(max(nbytes, 1) + 256, _GARBAGE, np.uint8)
        pointer = -(-memory.ctypes.data // 256) * 256
        self._memory[pointer] = memory
        return pointer

    def free(self, pointer: int) -> None:
        del self._memory[pointer]

    def pinned(self, nbytes: int) -> Any:
        return np.full(nbytes, _GARBAGE, np.uint8)

    def stream(self) -> int:
        self.calls["stream"] += 1
        return self.calls["stream"]

    def to_device(self, stream: Any, pointer: int, array: AnyArray) -> None:
        self.calls["to_device"] += 1
        assert array.flags.c_contiguous
        _bytes_at(pointer, array.nbytes)[:] = np.frombuffer(array.tobytes(), np.uint8)

    def to_host(self, stream: Any, array: AnyArray, pointer: int) -> None:
        self.calls["to_host"] += 1
        array.reshape(-1).view(np.uint8)[:] = _bytes_at(pointer, array.nbytes)

    def copy(self, stream: Any, target: int, source: int, nbytes: int) -> None:
        self.calls["copy"] += 1
        _bytes_at(target, nbytes)[:] = _bytes_at(source, nbytes)

    def fill(self, stream: Any, pointer: int, byte: int, nbytes: int) -> None:
        self.calls["fill"] += 1
        _bytes_at(pointer, nbytes)[:] = byte

    def launch(self, stream: Any, kernel: Kernel, shape: tuple[int, ...], args: Any) -> None:
        self.calls["launch"] += 1
        kinds: list[Any] = [kernel]
        flatten(args, [], kinds)
        key = tuple(kinds)
        if key not in self._loops:
            self._loops[key] = _loop_of(kernel)
            self.kernels.append((kernel, args))
        self._loops[key](shape, self.backwards, values_of(args))

    def wait(self, stream: Any) -> None:
        self.calls["wait"] += 1
        if self.fails:
            raise RuntimeError("cuStreamSynchronize: CUDA_ERROR_ILLEGAL_ADDRESS")


class IdleGpu(SimulatedGpu):
    """Runs no thread: what remains is the work of the host."""

    def launch(self, stream: Any, kernel: Kernel, shape: tuple[int, ...], args: Any) -> None:
        self.calls["launch"] += 1
        kinds: list[Any] = [kernel]
        packed: list[bytes] = []
        flatten(args, packed, kinds)
        b"".join(packed)
        key = tuple(kinds)
        if key not in self._loops:
            self._loops[key] = None
            self.kernels.append((kernel, args))


def value_of(array: DeviceArray) -> AnyArray:
    """An array of the simulated GPU, not copied."""
    if not array.nbytes:
        return np.empty(array.shape, array.dtype)
    return _array_at(array.pointer, array.shape, array.dtype, array.strides)


def values_of(value: Any) -> Any:
    """Arguments of a kernel with arrays of this process."""
    if isinstance(value, DeviceArray):
        return value_of(value)
    if isinstance(value, tuple):
        parts = [values_of(part) for part in value]
        return type(value)(*parts) if hasattr(value, "_fields") else tuple(parts)
    return value


def _array_at(
    pointer: int, shape: tuple[int, ...], dtype: Any, strides: tuple[int, ...] | None = None
) -> AnyArray:
    interface = {
        "shape": shape,
        "typestr": np.dtype(dtype).str,
        "data": (pointer, False),
        "strides": strides,
        "version": 3,
    }
    holder = type("Memory", (), {"__array_interface__": interface})()
    return np.asarray(holder)


def _bytes_at(pointer: int, nbytes: int) -> AnyArray:
    return _array_at(pointer, (nbytes,), np.uint8)


_compiled: dict[Kernel, Any] = {}


def _loop_of(kernel: Kernel) -> Any:
    """Run a kernel's body for each thread of a shape."""
    if kernel not in _compiled:
        options: dict[str, Any] = {"fastmath": True, "error_model": "numpy"}
        body = njit(kernel.body, **options)
        count = len(inspect.signature(kernel.body).parameters) - (1 if kernel.flat else 2)
        names = ", ".join(f"a{i}" for i in range(count))
        namespace: dict[str, Any] = {"body": body}
        if kernel.flat:
            source = f"""
def loop(height, width, backwards, {names}):
    for i in range(height):
        body(height - 1 - i if backwards else i, {names})
"""
        else:
            source = f"""
def loop(height, width, backwards, {names}):
    for i in range(height):
        for j in range(width):
            x, y = (width - 1 - j, height - 1 - i) if backwards else (j, i)
            body(x, y, {names})
"""
        exec(source, namespace)
        loop = njit(namespace["loop"], **options)

        def run(shape: tuple[int, ...], backwards: bool, args: tuple[Any, ...]) -> None:
            real, cuda_frame.keep_largest = cuda_frame.keep_largest, _kept
            try:
                loop(shape[0], shape[-1], backwards, *args)
            finally:
                cuda_frame.keep_largest = real

        _compiled[kernel] = run
    return _compiled[kernel]


_kept = njit(_keep_largest)
