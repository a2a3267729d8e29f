"""What is asked of NVIDIA's driver, of which a double takes its place."""

from __future__ import annotations

import ctypes
import sys
from enum import IntEnum
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pytest

from talkingface.renderer.pixels import cuda_driver, dlpack
from talkingface.renderer.pixels.code_cache import CodeCache
from talkingface.renderer.pixels.cuda_kernel import Kernel, cuda, kernel
from talkingface.renderer.pixels.device_array import DeviceArray
from talkingface.renderer.pixels.gpu import CommandQueue


class Result(IntEnum):
    CUDA_SUCCESS = 0
    CUDA_ERROR_OUT_OF_MEMORY = 2


class Driver(ModuleType):
    """The functions of `cuda.bindings.driver` that are used; each returns an error, and results."""

    CUctx_flags = SimpleNamespace(CU_CTX_SCHED_BLOCKING_SYNC=4)
    CUstream_flags = SimpleNamespace(CU_STREAM_NON_BLOCKING=1)
    CUdevice_attribute = SimpleNamespace(
        CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR=9,
        CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR=0,
    )

    def __init__(self) -> None:
        super().__init__("cuda.bindings.driver")
        self.calls: list[tuple[Any, ...]] = []
        self.params: list[int] = []  # as the last kernel reads them
        self.memory: list[Any] = []
        self.error = Result.CUDA_SUCCESS

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("cu"):
            raise AttributeError(name)

        def function(*args: Any) -> tuple[Any, ...]:
            self.calls.append((name, *args))
            return self.error, self._result(name, args)

        function.__name__ = name
        return function

    def _result(self, name: str, args: tuple[Any, ...]) -> Any:
        if name in ("cuMemAlloc", "cuMemHostAlloc"):
            self.memory.append((ctypes.c_uint8 * args[0])())
            return ctypes.addressof(self.memory[-1])
        if name == "cuDeviceGetAttribute":
            return args[0]
        if name == "cuLaunchKernel":
            addresses = (ctypes.c_void_p * 40).from_address(args[9])
            self.params = [
                ctypes.c_uint64.from_address(address or 0).value for address in addresses
            ]
        return f"{name} {len(self.calls)}"


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> Driver:
    double = Driver()
    for name in ("cuda.core", "numba_cuda"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setitem(sys.modules, "cuda.bindings.driver", double)
    monkeypatch.setattr(cuda, "select_device", lambda number: None)
    monkeypatch.setattr(Kernel, "ptx", lambda *args: ("entry", "PTX"))
    monkeypatch.setattr(cuda_driver, "assemble", lambda *args: b"code")
    return double


class Parts(NamedTuple):
    share: np.float32
    image: Any


@kernel
def shade(x, y, parts, left, flag, out):  # type: ignore[no-untyped-def]
    """A kernel that is not run."""


def test_arguments_are_packed_as_a_kernel_reads_them(driver: Driver, tmp_path: Path) -> None:
    gpu = cuda_driver.CudaDriver(0, CodeCache(tmp_path))
    image = DeviceArray(0x1000, (20, 40), np.uint32)
    part = DeviceArray(0x2000, (20, 40), np.uint8)[2:4, 3:9]
    args = (Parts(np.float32(0.5), image), -7, True, part)
    for _ in range(2):
        gpu.launch("stream", shade, (20, 40), args)
    half = int(np.float32(0.5).view(np.uint32))
    whole = [0, 0, 800, 4, 0x1000, 20, 40, 160, 4]
    cut = [0, 0, 12, 1, 0x2000 + 2 * 40 + 3, 2, 6, 40, 1]
    assert driver.params[: 2 + 1 + 9 + 2 + 9] == [40, 20, half, *whole, 2**64 - 7, 1, *cut]
    names = [name for name, *_ in driver.calls]
    assert names.count("cuModuleLoadData") == 1  # compiled once
    launches = [call for call in driver.calls if call[0] == "cuLaunchKernel"]
    # Blocks of 32 x 8 threads, no shared memory.
    assert [call[2:10] for call in launches] == [(2, 3, 1, 32, 8, 1, 0, "stream")] * 2


def test_commands_follow_one_upload_in_a_stream_of_their_own(
    driver: Driver, tmp_path: Path
) -> None:
    gpu = cuda_driver.CudaDriver(0, CodeCache(tmp_path))
    assert ("cuDevicePrimaryCtxSetFlags", "cuDeviceGet 2", 4) in driver.calls
    queue = CommandQueue(gpu)
    driver.calls.clear()
    values = [np.arange(n, dtype=np.float32) for n in (3, 5)]
    first, second = (queue.upload(array) for array in values)
    queue.fill(first, 0)
    host = np.empty(3, np.float32)
    queue.to_host(host, first)
    assert not driver.calls
    queue.submit()
    queue.wait()
    names = [call[0] for call in driver.calls]
    copies = ["cuMemcpyHtoDAsync", "cuMemsetD8Async", "cuMemcpyDtoHAsync"]
    assert names == [*copies, "cuStreamSynchronize"]
    assert driver.calls[0][1] == first.pointer
    assert second.pointer - first.pointer == 256
    staged = np.frombuffer(ctypes.string_at(driver.calls[0][2], 256 + 20), np.uint8)
    np.testing.assert_array_equal(staged[:12].view(np.float32), values[0])
    np.testing.assert_array_equal(staged[256:].view(np.float32), values[1])
    assert len({str(call[-1]) for call in driver.calls}) == 1  # the stream


def test_an_error_of_the_driver_is_reported_by_name(driver: Driver, tmp_path: Path) -> None:
    gpu = cuda_driver.CudaDriver(0, CodeCache(tmp_path))
    driver.error = Result.CUDA_ERROR_OUT_OF_MEMORY
    with pytest.raises(RuntimeError, match="cuMemAlloc: CUDA_ERROR_OUT_OF_MEMORY"):
        gpu.allocate(8)


def test_a_missing_package_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cuda.bindings.driver", None)
    with pytest.raises(RuntimeError, match="extra gpu"):
        cuda_driver.CudaDriver(0, CodeCache(tmp_path))


@pytest.mark.parametrize(("strides", "taken"), [((4, 1), True), ((1, 3), False)])
def test_a_tensor_with_strides_is_taken_if_it_is_contiguous(
    strides: tuple[int, int], taken: bool
) -> None:
    capsule = dlpack.export(DeviceArray(4096, (3, 4), np.float32), 0)
    managed = dlpack._ManagedTensor.from_address(dlpack._pointer_of(capsule, b"dltensor"))
    managed.tensor.strides = (ctypes.c_int64 * 2)(*strides)
    if taken:
        assert dlpack.imported(capsule).shape == (3, 4)
    else:
        with pytest.raises(ValueError, match="contiguous"):
            dlpack.imported(capsule)
