"""Chooses where a stage's models run: on the CPU or on an NVIDIA GPU.

Packages are imported by name where they are tried, in a process of its own: no service needs them.

A model that can run on a GPU has a configuration for it, `configs/gpu.pbtxt`, beside the CPU's
`config.pbtxt`; Triton loads it with `--model-config-name=gpu`. The GPU is used if all that such
models need works in this environment: driver, GPU, and the packages of their backends.

Also a program of the Triton images, which the standard library must suffice for:
`python3 device.py REPOSITORY` prints "cpu" or "gpu" for the setting TALKINGFACE_DEVICE, and the
reason to stderr; it ends with exit code 1 where a GPU is asked for and cannot be used. Nothing of
this has run on a machine with a GPU.
"""

from __future__ import annotations

import ctypes
import importlib
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

CPU, GPU, AUTO = "cpu", "gpu", "auto"
DEVICES = (AUTO, CPU, GPU)
CONFIG = "configs/gpu.pbtxt"
MIN_CAPABILITY = (7, 5)  # compute capability, of NVIDIA's CUDA 13
_CAPABILITY_ATTRIBUTES = (75, 76)  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR


class DeviceError(RuntimeError):
    """A GPU is asked for and cannot be used; the message states why."""


class Choice(NamedTuple):
    """Where models run, and why."""

    device: str
    reason: str


def choose(wanted: str, repository: Path) -> Choice:
    """Choose the device; takes seconds with a GPU, whose kernels are tried.

    :param wanted: of `DEVICES`
    :param repository: Triton's model repository
    :raises DeviceError: a GPU is asked for and cannot be used
    """
    if wanted not in DEVICES:
        raise DeviceError(f"TALKINGFACE_DEVICE={wanted!r} is not one of {', '.join(DEVICES)}")
    if wanted == CPU:
        return Choice(CPU, "it is asked for")
    problem = driver_problem()
    for backend in sorted(backends_on_gpu(repository)):
        problem = problem or _PROBLEMS[backend]()
    if problem is None:
        return Choice(GPU, "all that the models need works")
    if wanted == GPU:
        raise DeviceError(f"TALKINGFACE_DEVICE=gpu, but {problem}")
    return Choice(CPU, problem)


def backends_on_gpu(repository: Path) -> set[str]:
    """Return the names of the backends of the models that have a configuration for a GPU."""
    configs = (path.read_text() for path in repository.glob(f"*/{CONFIG}"))
    return {name for text in configs for name in re.findall(r'^backend: "(\w+)"', text, re.M)}


def driver_problem() -> str | None:
    """Return what is missing to use a GPU at all; None if there is one that is new enough."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return "there is no NVIDIA driver (libcuda.so.1)"
    count = ctypes.c_int()
    code = driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count))
    if code:
        return f"the NVIDIA driver fails with code {code}"
    if not count.value:
        return "the NVIDIA driver sees no GPU"
    capability = []
    for attribute in _CAPABILITY_ATTRIBUTES:
        value = ctypes.c_int()
        driver.cuDeviceGetAttribute(ctypes.byref(value), attribute, 0)
        capability.append(value.value)
    if tuple(capability) < MIN_CAPABILITY:
        found, least = (".".join(map(str, pair)) for pair in (capability, MIN_CAPABILITY))
        return f"the GPU's compute capability is {found}, below {least}"
    return None


def _onnxruntime_problem() -> str | None:
    try:
        onnxruntime = importlib.import_module("onnxruntime")
    except ImportError as error:
        return f"ONNX Runtime cannot be imported: {error}"
    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        return "this ONNX Runtime was built without CUDA (package onnxruntime-gpu)"
    return None


def _numba_problem() -> str | None:
    """Run a kernel, so that compiler, linker and driver are all known to work together."""
    try:
        numpy = importlib.import_module("numpy")
        cuda: Any = importlib.import_module("numba.cuda")
        if not cuda.is_available():
            return "numba finds no GPU (package numba-cuda)"

        values = cuda.to_device(numpy.ones(1, numpy.float32))
        cuda.jit(_double)[1, 1](values)
        result = values.copy_to_host()[0]
    except Exception as error:  # whatever the packages raise
        return f"numba cannot run a kernel on the GPU: {type(error).__name__}: {error}"
    return None if result == 2 else f"a kernel of numba returned {result} instead of 2"


def _double(values: Any) -> None:
    values[0] *= 2


_PROBLEMS: dict[str, Callable[[], str | None]] = {
    "onnxruntime": _onnxruntime_problem,
    "python": _numba_problem,
}


def main() -> int:
    """Run the program; the result is the exit code."""
    try:
        choice = choose(os.environ.get("TALKINGFACE_DEVICE") or AUTO, Path(sys.argv[1]))
    except DeviceError as error:
        print(f"event=start_failed DeviceError: {error}", file=sys.stderr)
        return 1
    print(f"event=device device={choice.device} {choice.reason}", file=sys.stderr)
    print(choice.device)
    return 0


if __name__ == "__main__":
    sys.exit(main())
