"""Arrays of a GPU passed to other libraries and taken from them, by DLPack, without a copy.

The layout of the structures is that of DLPack's ABI before 1.0, which Triton uses:
https://github.com/dmlc/dlpack/blob/v0.8/include/dlpack/dlpack.h
"""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np

from talkingface.renderer.pixels.device_array import DeviceArray

CUDA = 2  # kDLCUDA
_NAME = b"dltensor"
# kDLInt, kDLUInt, kDLFloat
_CODES = {"i": 0, "u": 1, "f": 2}
_KINDS = {code: kind for kind, code in _CODES.items()}


class _Tensor(ctypes.Structure):
    _fields_ = [
        ("data", ctypes.c_void_p),
        ("device_type", ctypes.c_int32),
        ("device_id", ctypes.c_int32),
        ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    ]


class _ManagedTensor(ctypes.Structure):
    pass


_Deleter = ctypes.CFUNCTYPE(None, ctypes.POINTER(_ManagedTensor))
_ManagedTensor._fields_ = [
    ("tensor", _Tensor),
    ("context", ctypes.c_void_p),
    ("deleter", _Deleter),
]

# By address, until whoever took the tensor has deleted it.
_exported: dict[int, tuple[_ManagedTensor, Any]] = {}


def _delete(managed: Any) -> None:
    _exported.pop(ctypes.addressof(managed.contents), None)


_deleter = _Deleter(_delete)


_new_capsule = ctypes.pythonapi.PyCapsule_New
_new_capsule.restype = ctypes.py_object
_new_capsule.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
_pointer_of = ctypes.pythonapi.PyCapsule_GetPointer
_pointer_of.restype = ctypes.c_void_p
_pointer_of.argtypes = [ctypes.py_object, ctypes.c_char_p]


def export(array: DeviceArray, device: int, kind: int = CUDA) -> Any:
    """A contiguous array as a capsule; its memory must outlive what is made of it.

    :param device: the GPU's number.
    :param kind: of device.
    :raises ValueError: it is not contiguous.
    """
    if not array.contiguous:
        raise ValueError("only contiguous arrays are exported")
    axes = len(array.shape)
    shape = (ctypes.c_int64 * axes)(*array.shape)
    managed = _ManagedTensor()
    tensor = managed.tensor
    tensor.data, tensor.device_type, tensor.device_id = array.pointer, kind, device
    tensor.ndim, tensor.shape, tensor.strides = axes, shape, None  # None: contiguous
    tensor.code, tensor.bits, tensor.lanes = _CODES[array.dtype.kind], 8 * array.dtype.itemsize, 1
    managed.deleter = _deleter
    address = ctypes.addressof(managed)
    _exported[address] = managed, shape
    return _new_capsule(address, _NAME, None)


def imported(capsule: Any) -> DeviceArray:
    """The array of a capsule, which must live as long as the array is used.

    :raises ValueError: it is not contiguous.
    """
    managed = _ManagedTensor.from_address(_pointer_of(capsule, _NAME))
    tensor = managed.tensor
    shape = tuple(tensor.shape[i] for i in range(tensor.ndim))
    dtype = np.dtype(f"{_KINDS[tensor.code]}{tensor.bits // 8}")
    array = DeviceArray(tensor.data + tensor.byte_offset, shape, dtype)
    if tensor.strides:
        strides = tuple(tensor.strides[i] * dtype.itemsize for i in range(tensor.ndim))
        if strides != array.strides:
            raise ValueError("a tensor of Triton is not contiguous")
    return array
