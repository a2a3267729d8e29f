"""A GPU by NVIDIA's driver, with kernels that numba-cuda compiles.

Needs the packages of the extra `gpu`, and has not run on a GPU. Kernels are launched past numba's
own launcher, which takes 30 us and more for arguments as nested as ours: their numbers are packed
into slots of eight bytes, whose addresses the driver takes (`cuda_kernel.flatten`).
"""

from __future__ import annotations

import ctypes
import importlib
from typing import Any

import numpy as np

from talkingface.renderer.arrays import AnyArray, Uint8Array
from talkingface.renderer.pixels.code_cache import CodeCache
from talkingface.renderer.pixels.cuda_kernel import SLOT, Kernel, cuda, flatten

_MOST_SLOTS = 512  # 4096 bytes, what a kernel takes at most


class CudaDriver:
    """One GPU; see `gpu.Gpu`. For the thread that makes it."""

    def __init__(self, device: int, cache: CodeCache) -> None:
        """
        :param device: its number.
        :param cache: of compiled kernels.
        :raises RuntimeError: driver, GPU or a package is missing; the message states which.
        """
        try:
            self._driver: Any = importlib.import_module("cuda.bindings.driver")
            self._core: Any = importlib.import_module("cuda.core")
            importlib.import_module("numba_cuda")
        except ImportError as error:
            raise RuntimeError(f"a package for GPUs is missing (extra gpu): {error}") from error
        driver = self._driver
        self._call(driver.cuInit, 0)
        handle = self._call(driver.cuDeviceGet, device)
        # Waiting must leave the core to other processes.
        blocking = driver.CUctx_flags.CU_CTX_SCHED_BLOCKING_SYNC
        self._call(driver.cuDevicePrimaryCtxSetFlags, handle, int(blocking))
        self._context = self._call(driver.cuDevicePrimaryCtxRetain, handle)
        self._call(driver.cuCtxSetCurrent, self._context)
        cuda.select_device(device)  # numba compiles for it
        names = driver.CUdevice_attribute
        self.capability: tuple[int, int] = (
            self._call(
                driver.cuDeviceGetAttribute,
                names.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR,
                handle,
            ),
            self._call(
                driver.cuDeviceGetAttribute,
                names.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR,
                handle,
            ),
        )
        self._cache = cache
        self._functions: dict[Any, Any] = {}
        self._modules: list[Any] = []
        self._slots = bytearray(_MOST_SLOTS * SLOT)
        start = ctypes.addressof(ctypes.c_char.from_buffer(self._slots))
        addresses = (start + SLOT * i for i in range(_MOST_SLOTS))
        self._addresses = (ctypes.c_void_p * _MOST_SLOTS)(*addresses)
        self._params = ctypes.addressof(self._addresses)

    def allocate(self, nbytes: int) -> int:
        """As `Gpu.allocate`."""
        # Memory of a pool could not be passed to Triton, which is another process.
        return int(self._call(self._driver.cuMemAlloc, max(nbytes, 1)))

    def free(self, pointer: int) -> None:
        """As `Gpu.free`."""
        self._call(self._driver.cuMemFree, pointer)

    def pinned(self, nbytes: int) -> Uint8Array:
        """As `Gpu.pinned`; never freed."""
        address = int(self._call(self._driver.cuMemHostAlloc, max(nbytes, 1), 0))
        memory: Any = (ctypes.c_uint8 * nbytes).from_address(address)
        pinned: Uint8Array = np.frombuffer(memory, np.uint8)
        return pinned

    def stream(self) -> Any:
        """As `Gpu.stream`."""
        flag = self._driver.CUstream_flags.CU_STREAM_NON_BLOCKING
        return self._call(self._driver.cuStreamCreate, int(flag))

    def to_device(self, stream: Any, pointer: int, array: AnyArray) -> None:
        """As `Gpu.to_device`."""
        address = array.ctypes.data
        self._call(self._driver.cuMemcpyHtoDAsync, pointer, address, array.nbytes, stream)

    def to_host(self, stream: Any, array: AnyArray, pointer: int) -> None:
        """As `Gpu.to_host`."""
        address = array.ctypes.data
        self._call(self._driver.cuMemcpyDtoHAsync, address, pointer, array.nbytes, stream)

    def copy(self, stream: Any, target: int, source: int, nbytes: int) -> None:
        """As `Gpu.copy`."""
        self._call(self._driver.cuMemcpyDtoDAsync, target, source, nbytes, stream)

    def fill(self, stream: Any, pointer: int, byte: int, nbytes: int) -> None:
        """As `Gpu.fill`."""
        self._call(self._driver.cuMemsetD8Async, pointer, byte, nbytes, stream)

    def launch(self, stream: Any, kernel: Kernel, shape: tuple[int, ...], args: Any) -> None:
        """As `Gpu.launch`; compiles the kernel if it is new for such arguments."""
        height_first = shape if kernel.flat else shape[::-1]
        packed: list[bytes] = [n.to_bytes(SLOT, "little") for n in height_first]
        kinds: list[Any] = [kernel]
        flatten(args, packed, kinds)
        key = tuple(kinds)
        function = self._functions.get(key)
        if function is None:
            function = self._functions[key] = self._load(kernel, kinds[1:], args)
        numbers = b"".join(packed)
        self._slots[: len(numbers)] = numbers
        blocks, threads = kernel.grid(shape)
        self._call(
            self._driver.cuLaunchKernel, function, *blocks, *threads, 0, stream, self._params, 0
        )

    def wait(self, stream: Any) -> None:
        """As `Gpu.wait`."""
        self._call(self._driver.cuStreamSynchronize, stream)

    def _load(self, kernel: Kernel, kinds: list[Any], args: tuple[Any, ...]) -> Any:
        """Load a kernel for arguments of these kinds, see `flatten`."""

        def compiled() -> tuple[str, bytes]:
            entry, text = kernel.ptx(args, self.capability)
            return entry, assemble(self._core, text, self.capability)

        entry, code = self._cache(f"{self.capability} {kernel.name} {kinds}", compiled)
        module = self._call(self._driver.cuModuleLoadData, code)
        self._modules.append(module)
        return self._call(self._driver.cuModuleGetFunction, module, entry.encode())

    def _call(self, function: Any, *args: Any) -> Any:
        """Call the driver.

        :raises RuntimeError: it reports an error.
        """
        error, *results = function(*args)
        if error:
            raise RuntimeError(f"{function.__name__}: {error.name}")
        return results[0] if results else None


def assemble(core: Any, ptx: str, capability: tuple[int, int]) -> bytes:
    """Assemble PTX to code for a GPU, which an older driver takes, too; no GPU is needed.

    :param core: the package `cuda.core`.
    """
    options = core.LinkerOptions(arch="sm_{}{}".format(*capability))
    linked = core.Linker(core.ObjectCode.from_ptx(ptx.encode()), options=options).link("cubin")
    return bytes(linked.code)
