"""The embedded Triton: NVIDIA's `tritonserver` binary (from `nvidia-pytriton`) as a child process.

It serves one model repository on localhost. The binary has only the Python backend; `backends/`
adds the other backends that the repositories need, written for the Python backend. In production
the same repositories are mounted into NVIDIA's Triton container, and TALKINGFACE_TRITON_URL is set.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import random
import re
import shutil
import signal
import site
import socket
import sys
import sysconfig
import tempfile
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path

import grpc
from tritonclient.grpc import service_pb2, service_pb2_grpc

from talkingface.serving.config import StartError
from talkingface.serving.triton import device, shared_memory
from talkingface.serving.triton.device import CPU, Choice

log = logging.getLogger(__name__)

_BACKENDS = Path(__file__).parent / "backends"
_CHOICE_SECONDS = 60.0  # with a GPU, numba compiles a kernel

# Runs a program that gets SIGTERM when its parent dies, even by SIGKILL. In a fresh interpreter,
# because preexec_fn is not safe in a process with threads.
_EXEC_WITH_PARENT = """
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG
if os.getppid() != int(sys.argv[1]):
    sys.exit("the parent has ended")
os.execv(sys.argv[2], sys.argv[2:])
"""


class TritonError(RuntimeError):
    """Triton could not be started or has ended; the message contains its log lines."""


class TransientTritonError(TritonError):
    """Triton did not start, for a reason that may not affect another attempt."""


class EmbeddedTriton:
    """One `tritonserver` process and its model repository."""

    def __init__(
        self,
        repository: Path,
        environ: Mapping[str, str] | None = None,
        on_line: Callable[[str], None] | None = None,
        device: str = CPU,
    ) -> None:
        """
        :param repository: folder of models
        :param device: "cpu" or "gpu", see `device.choose`
        :param environ: environment variables for the models, added to those of this process
        :param on_line: called with each line of Triton's log; default: logged at DEBUG
        """
        self._repository = repository
        self._environ = dict(environ or {})
        self._device = device
        self._on_line = on_line or log.debug
        self._lines: deque[str] = deque(maxlen=400)
        self._prefix = shared_memory.unique_name("triton")
        self._process: asyncio.subprocess.Process | None = None
        self._reader: asyncio.Task[None] | None = None
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._choose_ports()

    @property
    def pid(self) -> int | None:
        """Process id while it runs."""
        return self._process.pid if self._process else None

    @property
    def running(self) -> bool:
        """Whether the process is running."""
        return self._process is not None and self._process.returncode is None

    def _choose_ports(self) -> None:
        self.url = f"127.0.0.1:{_free_port()}"
        self.metrics_port = _free_port()

    async def start(self, within: float = 120.0) -> None:
        """Start Triton and wait until every model of the repository is loaded.

        If it fails for a reason that is not in the models, it is started once more, on other ports.

        :param within: seconds to wait
        :raises TritonError: it has ended, could not load a model, or took too long
        """
        for last in (False, True):
            try:
                return await self._start(within)
            except TransientTritonError as error:
                if last:
                    raise
                log.warning("Triton is restarted: %s", error)
                self._choose_ports()

    async def _start(self, within: float) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="talkingface-triton-")
        backends = Path(self._folder.name)
        binary, environ = _prepare(backends, self._environ)
        port = self.url.rpartition(":")[2]
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-I", "-S", "-c", _EXEC_WITH_PARENT, str(os.getpid()), str(binary)),
            f"--id={self._prefix}",
            f"--model-repository={self._repository}",
            # A model without a configuration of this name is loaded with its config.pbtxt.
            f"--model-config-name={self._device}",
            f"--backend-directory={backends}",
            # The configurations are complete; completing them would import each model once more.
            "--disable-auto-complete-config",
            "--allow-http=false",
            "--grpc-address=127.0.0.1",
            f"--grpc-port={port}",
            "--metrics-address=127.0.0.1",
            f"--metrics-port={self.metrics_port}",
            "--allow-gpu-metrics=false",
            "--exit-timeout-secs=5",
            "--grpc-infer-allocation-pool-size=16",
            f"--backend-config=python,shm-region-prefix-name={self._prefix}",
            f"--backend-config=onnxruntime,shm-region-prefix-name={self._prefix}",
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env=environ,
            start_new_session=True,  # its own process group: Ctrl-C must not reach it
        )
        self._lines.clear()
        self._reader = asyncio.create_task(self._read(self._process))
        try:
            async with asyncio.timeout(within):
                await self._until_ready()
        except TimeoutError:
            await self.stop()
            raise TritonError(f"Triton not ready after {within:g} s\n{self.tail()}") from None
        except BaseException:
            await self.stop()
            raise

    async def _until_ready(self) -> None:
        assert self._process is not None and self._reader is not None
        async with grpc.aio.insecure_channel(self.url, _FAST_RECONNECT) as channel:
            stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
            while True:
                if self._process.returncode is not None:
                    await self._reader
                    raise self._failure()
                with contextlib.suppress(grpc.aio.AioRpcError):
                    response = await stub.ServerReady(service_pb2.ServerReadyRequest(), timeout=1)
                    if response.ready:
                        await self._check_identity(stub)
                        return
                await asyncio.sleep(0.05)

    async def _check_identity(self, stub: service_pb2_grpc.GRPCInferenceServiceStub) -> None:
        """Check that the child process responds, and not another server of this machine.

        Triton's gRPC server does not fail on a port that is in use, but shares it.

        :raises TransientTritonError: another server responds
        """
        response = await stub.ServerMetadata(service_pb2.ServerMetadataRequest(), timeout=1)
        if response.name != self._prefix:
            raise TransientTritonError(f"another server, {response.name!r}, responds at {self.url}")

    async def stop(self) -> None:
        """Kill Triton and its models' processes, and remove their files and shared memory.

        A kill is safe, because the service has drained and no inference is running; an orderly
        shutdown would take more than a second for each model.
        """
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            await self._process.wait()
            self._process = None
        if self._reader is not None:
            await self._reader
            self._reader = None
        shared_memory.sweep_prefix(self._prefix)
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None

    def tail(self, lines: int = 40) -> str:
        """Return the last lines of Triton's log."""
        return "\n".join(list(self._lines)[-lines:])

    def _failure(self) -> TritonError:
        """Return the error of a Triton that has ended: its lines of severity E, or the last."""
        errors = [
            line
            for line in self._lines
            if re.match(r"E\d{4} ", line) and "CudaDriverHelper" not in line
        ]
        assert self._process is not None
        output = "\n".join(errors) or self.tail()
        text = f"Triton ended with code {self._process.returncode} while loading "
        text += f"{self._repository}:\n{output}"
        # On a machine under heavy load the Python backend can lose a race for its own lock.
        transient = "failed to load" not in output or "lock_exception" in output
        return (TransientTritonError if transient else TritonError)(text)

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        while True:
            try:
                line = await process.stdout.readline()
            except ValueError:  # a line beyond the reader's limit; its rest follows
                continue
            if not line:
                return
            text = line.decode(errors="replace").rstrip()
            self._lines.append(text)
            self._on_line(text)


async def choose_device(wanted: str, repository: Path) -> Choice:
    """Choose the device as `device.choose` does, in a process that ends before Triton starts.

    :raises StartError: a GPU is asked for and cannot be used
    """
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-I", device.__file__, str(repository)),
        env={**os.environ, "TALKINGFACE_DEVICE": wanted},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(_CHOICE_SECONDS):
            out, err = await process.communicate()
    except TimeoutError:
        process.kill()
        await process.wait()
        raise StartError(f"the GPU was not found usable in {_CHOICE_SECONDS:g} s") from None
    chosen, said = out.decode().strip(), err.decode().strip().rpartition("\n")[2]
    if process.returncode:
        raise StartError(said.rpartition("DeviceError: ")[2])
    return Choice(chosen, said.partition(f"device={chosen} ")[2])


_FAST_RECONNECT = (
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 200),
)


def _prepare(folder: Path, extra: Mapping[str, str]) -> tuple[Path, dict[str, str]]:
    """Prepare a backend directory and the environment of the server.

    :param folder: empty folder for the backends
    :param extra: environment variables to add
    :return: the server's binary and its environment
    """
    package = _pytriton()
    triton = package / "tritonserver"
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    stub = triton / "python_backend_stubs" / version / "triton_python_backend_stub"
    if not stub.exists():
        raise TritonError(f"nvidia-pytriton has no Python backend for Python {version}")
    python = folder / "python"
    # Copied, because Triton looks for the stub at the real path of the library's folder.
    shutil.copytree(
        triton / "backends" / "python", python, ignore=shutil.ignore_patterns("__pycache__")
    )
    shutil.copy2(stub, python)
    for backend in _BACKENDS.iterdir():
        if (backend / "model.py").exists():
            shutil.copytree(
                backend, folder / backend.name, ignore=shutil.ignore_patterns("__pycache__")
            )
    # The models run in parallel already; a thread pool in each would compete for the cores.
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"), "1")
    environ = {**threads, **os.environ, **extra}
    libraries = [str(package.parent / "nvidia_pytriton.libs")]
    if sysconfig.get_config_var("Py_ENABLE_SHARED"):  # this interpreter's own libpython
        libraries.append(str(sysconfig.get_config_var("LIBDIR")))
    libraries.append(environ.get("LD_LIBRARY_PATH", ""))
    environ["LD_LIBRARY_PATH"] = ":".join(filter(None, libraries))
    # The stub embeds Python and finds its environment by the first `python3` on the path.
    environ["PATH"] = f"{Path(sys.executable).parent}:{environ.get('PATH', os.defpath)}"
    return triton / "bin" / "tritonserver", environ


def _pytriton() -> Path:
    """Return the folder of the installed package `pytriton`, whose import would be slow."""
    for folder in {*site.getsitepackages(), sysconfig.get_path("platlib")}:
        package = Path(folder) / "pytriton"
        if (package / "tritonserver").is_dir():
            return package
    raise TritonError("nvidia-pytriton is not installed")


def _free_port() -> int:
    """Return a free port below the range of outgoing connections, because Triton binds it late."""
    while True:
        port = random.randrange(20_000, 32_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
