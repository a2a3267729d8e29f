"""Arrays in a GPU's memory, as kernels take them; the host never touches what they hold."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import numpy as np

from talkingface.renderer.arrays import AnyArray

# Looked up some hundred times a frame.
_DTYPES: dict[Any, Any] = {
    kind: np.dtype(kind)
    for kind in (np.bool_, np.uint8, np.uint16, np.uint32, np.uint64, np.int32, np.int64)
} | {np.float32: np.dtype(np.float32)}


class DeviceArray:
    """A view of a GPU's memory, with the slicing of numpy that the geometry needs."""

    __slots__ = ("_packed", "_strides", "dtype", "kind", "pointer", "shape")

    def __init__(
        self,
        pointer: int,
        shape: tuple[int, ...],
        dtype: Any,
        strides: tuple[int, ...] | None = None,
    ) -> None:
        """
        :param pointer: address in the GPU's memory.
        :param strides: bytes; None: those of a contiguous array.
        """
        self.pointer, self.shape = pointer, shape
        self.dtype: Any = _DTYPES.get(dtype) or np.dtype(dtype)
        self._strides = strides
        self.kind = (self.dtype.char, len(shape), strides is None)
        """What kernels are compiled for: element type, dimensions, whether it is contiguous."""
        self._packed: bytes | None = None

    @property
    def strides(self) -> tuple[int, ...]:
        """Bytes from one element to the next along each axis."""
        if self._strides is None:
            return strides_of(self.shape, self.dtype.itemsize)
        return self._strides

    @property
    def nbytes(self) -> int:
        """Bytes of its elements."""
        return math.prod(self.shape) * int(self.dtype.itemsize)

    @property
    def contiguous(self) -> bool:
        """Whether its elements follow one another."""
        return self.kind[2]

    @property
    def packed(self) -> bytes:
        """The array as numba's kernels take it, numbers of eight bytes.

        They are: no owner, no parent, elements, bytes of one, address, shape, strides.
        """
        if self._packed is None:
            before, behind, strides = _layout(self.shape, self.dtype.itemsize)
            if self._strides is not None:
                behind = behind[: -len(strides)] + _packed(self._strides)
            self._packed = before + self.pointer.to_bytes(8, "little") + behind
        return self._packed

    def __len__(self) -> int:
        return self.shape[0]

    def __iter__(self) -> Iterator[DeviceArray]:
        return (self[i] for i in range(len(self)))

    def __getitem__(self, key: int | slice | tuple[int | slice, ...]) -> DeviceArray:
        """A part of the array by whole numbers and slices of step 1.

        Whether the result counts as contiguous depends on the kind of key alone, not on lengths:
        kernels must not be compiled anew for a part that happens to be whole.

        :raises IndexError: an index outside, or a step.
        """
        pointer, shape, strides = self.pointer, [], []
        keys = key if isinstance(key, tuple) else (key,)
        own = self.strides
        for axis, part in enumerate(keys):
            length, stride = self.shape[axis], own[axis]
            if isinstance(part, slice):
                start, stop, step = part.indices(length)
                if step != 1:
                    raise IndexError("slices of arrays on a GPU have no steps")
                shape.append(max(stop - start, 0))
                strides.append(stride)
            else:
                start = part + length if part < 0 else part
                if not 0 <= start < length:
                    raise IndexError(f"index {part} of {length}")
            pointer += start * stride
        shape += self.shape[len(keys) :]
        strides += own[len(keys) :]
        # One slice behind whole numbers cuts a run out of a contiguous array.
        whole = self.contiguous and not any(isinstance(part, slice) for part in keys[:-1])
        return DeviceArray(pointer, tuple(shape), self.dtype, None if whole else tuple(strides))

    def view(self, dtype: Any) -> DeviceArray:
        """The same memory as elements of another type of the same size.

        :raises ValueError: a type of another size.
        """
        if np.dtype(dtype).itemsize != self.dtype.itemsize:
            raise ValueError("a view has elements of the same size")
        return DeviceArray(self.pointer, self.shape, dtype, self._strides)

    def reshape(self, *shape: int) -> DeviceArray:
        """The elements of a contiguous array in another shape.

        :raises ValueError: it is not contiguous, or has another number of elements.
        """
        if -1 in shape:
            rest = -math.prod(shape)
            shape = tuple(math.prod(self.shape) // rest if n == -1 else n for n in shape)
        if not self.contiguous or math.prod(shape) != math.prod(self.shape):
            raise ValueError(f"cannot reshape {self.shape} to {shape}")
        return DeviceArray(self.pointer, shape, self.dtype)


@lru_cache(4096)
def strides_of(shape: tuple[int, ...], itemsize: int) -> tuple[int, ...]:
    """Bytes from one element to the next along each axis of a contiguous array."""
    strides, step = [], itemsize
    for length in reversed(shape):
        strides.append(step)
        step *= length
    return tuple(reversed(strides))


@lru_cache(4096)
def _layout(shape: tuple[int, ...], itemsize: int) -> tuple[bytes, bytes, bytes]:
    """What is packed before a contiguous array's address and behind it; of that, the strides."""
    strides = _packed(strides_of(shape, itemsize))
    before = _packed((0, 0, math.prod(shape), itemsize))
    return before, _packed(shape) + strides, strides


def _packed(numbers: tuple[int, ...]) -> bytes:
    return struct.pack(f"<{len(numbers)}q", *numbers)


def like(array: AnyArray, pointer: int) -> DeviceArray:
    """The array in a GPU's memory that a contiguous array of the host is copied to."""
    return DeviceArray(pointer, array.shape, array.dtype)
