"""A whole mesh on this machine: four services, and the Triton servers of three of them.

    with LocalMesh() as mesh:
        ... mesh.target ...

Used by the commands `animate`, `up` and `bench`, and by the tests. The services are child
processes in their own sessions, so that Ctrl-C reaches only this process, which then stops them in
order. They end with this process even when it is killed.
"""

from __future__ import annotations

import contextlib
import math
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from talkingface.serving.health import check

ORCHESTRATOR = "orchestrator"
STAGES = ("audio_features", "motion_gen", "renderer")

START_SECONDS = 120.0  # for all services
_STOP_SECONDS = 15.0  # for all services, of which 5 to drain
_MAX_REASON = 600  # characters of a log line in an error
_KEPT_LINES = 200  # of a service's log, to find the reason of its end
# The orchestrator alone limits the sessions: by what the stages, which share the cores, cost
# together.
_STAGE_SLOTS = {"TALKINGFACE_SLOTS": "1024"}
_MEASURED_SLOTS = {"TALKINGFACE_SLOTS": "0", "TALKINGFACE_SHARED_MACHINE": "1"}
_LISTENING = re.compile(r"event=listening port=(\d+) metrics_port=(\d+)")

# Runs a module that gets SIGTERM when its parent dies, even by SIGKILL.
_RUN_WITH_PARENT = """
import ctypes, os, runpy, sys
ctypes.CDLL(None).prctl(1, 15)  # PR_SET_PDEATHSIG, SIGTERM
if os.getppid() != int(sys.argv[1]):
    sys.exit("the parent has ended")
module = sys.argv[2]
del sys.argv[1:]
runpy.run_module(module, run_name="__main__", alter_sys=True)
"""


class MeshError(RuntimeError):
    """The mesh could not start, or one of its services has ended."""


class ServiceProcess:
    """One service as a child process; `on_line` is called with its log lines."""

    def __init__(
        self, name: str, environ: Mapping[str, str], on_line: Callable[[str, str], None]
    ) -> None:
        self.name = name
        self.port = 0
        self.metrics_port = 0
        self._on_line = on_line
        self._lines: deque[str] = deque(maxlen=_KEPT_LINES)
        self._listening = threading.Event()
        self._process = subprocess.Popen(
            [
                sys.executable,
                "-c",
                _RUN_WITH_PARENT,
                str(os.getpid()),
                f"talkingface.{name}.server",
            ],
            env={**os.environ, **environ},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, name=f"log-{name}", daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        """Process id of the service, and id of its process group."""
        return self._process.pid

    @property
    def target(self) -> str:
        """host:port of its gRPC server."""
        return f"127.0.0.1:{self.port}"

    @property
    def exit_code(self) -> int | None:
        """Exit code, or None while it runs."""
        return self._process.poll()

    def wait_listening(self, deadline: float) -> None:
        """Wait until the service listens and its ports are known.

        :param deadline: by `time.monotonic`
        :raises MeshError: it has ended, or the deadline has passed
        """
        while not self._listening.wait(0.05):
            self.check(deadline)

    def wait_serving(self, deadline: float) -> None:
        """Wait until its health is SERVING.

        :param deadline: by `time.monotonic`
        :raises MeshError: it has ended, or the deadline has passed
        """
        while check(self.target, timeout=1.0) != "SERVING":
            self.check(deadline)
            time.sleep(0.05)

    def terminate(self) -> None:
        """Send SIGTERM, on which it drains and exits."""
        if self.exit_code is None:
            self._process.terminate()

    def wait(self, deadline: float) -> None:
        """Wait until it has exited; at the deadline it and its child processes are killed."""
        try:
            self._process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            self.kill()
            self._process.wait()
        self._reader.join(timeout=1)

    def kill(self) -> None:
        """Kill it; its Triton ends with it."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)

    def check(self, deadline: float = math.inf) -> None:
        """Check that it runs.

        :param deadline: by `time.monotonic`
        :raises MeshError: it has ended, or the deadline has passed
        """
        if self.exit_code is not None:
            self._reader.join(timeout=1)
            raise MeshError(f"{self.name} ended with code {self.exit_code}: {self._reason()}")
        if time.monotonic() > deadline:
            raise MeshError(f"{self.name} did not start in time: {self._reason()}")

    def _reason(self) -> str:
        """Return the first exception of its log, else the first error, else the last line."""
        lines = list(self._lines) or ["no log"]
        exceptions = [line for line in lines if "Error: " in line]
        errors = [line for line in lines if " ERROR " in line]
        return (exceptions or errors or lines[-1:])[0][:_MAX_REASON]

    def _read(self) -> None:
        assert self._process.stdout is not None
        for raw in self._process.stdout:
            line = raw.decode(errors="replace").rstrip()
            self._lines.append(line)
            if found := _LISTENING.search(line):
                self.port, self.metrics_port = int(found[1]), int(found[2])
                self._listening.set()
            self._on_line(self.name, line)


class LocalMesh:
    """The four services on free ports of this machine, as a context manager."""

    def __init__(
        self,
        *,
        port: int = 0,
        stages: Iterable[str] = STAGES,
        replicas: Mapping[str, int] | None = None,
        environ: Mapping[str, str] | None = None,
        on_line: Callable[[str, str], None] | None = None,
        on_progress: Callable[[str], None] | None = None,
    ) -> None:
        """
        :param port: port of the orchestrator; 0 takes a free one
        :param stages: stages to start
        :param replicas: number of replicas by stage; default 1; "renderer-2" is the second renderer
        :param environ: settings of all services, added to the variables of this process. Without
            TALKINGFACE_SLOTS among them, the orchestrator measures how many sessions the machine
            holds, and admits one until then.
        :param on_line: called from threads with service and line for each line of the logs
        :param on_progress: called with the name of each service that is serving
        """
        self._port = port
        self._stages = {
            stage: [stage, *(f"{stage}-{i}" for i in range(2, (replicas or {}).get(stage, 1) + 1))]
            for stage in stages
        }
        self._environ = {
            "TALKINGFACE_HOST": "127.0.0.1",
            "TALKINGFACE_METRICS_PORT": "0",
            "TALKINGFACE_DRAIN_TIMEOUT": "5",
            "PYTHONUNBUFFERED": "1",
            **(environ or {}),
        }
        self._measured = "TALKINGFACE_SLOTS" not in {**os.environ, **self._environ}
        self._on_line = on_line or (lambda service, line: None)
        self._on_progress = on_progress or (lambda service: None)
        self.processes: dict[str, ServiceProcess] = {}

    @property
    def target(self) -> str:
        """host:port of the orchestrator's gRPC server."""
        return self.processes[ORCHESTRATOR].target

    def start(self) -> None:
        """Start all services and wait until they serve.

        :raises MeshError: one of them could not start; all have been stopped
        """
        deadline = time.monotonic() + START_SECONDS
        try:
            for stage, names in self._stages.items():
                for name in names:
                    settings = {"TALKINGFACE_PORT": "0", "TALKINGFACE_REPLICA": name}
                    self._spawn(stage, name, settings | (_STAGE_SLOTS if self._measured else {}))
            targets = {}
            for stage, names in self._stages.items():
                for name in names:
                    self.processes[name].wait_listening(deadline)
                addresses = ",".join(self.processes[name].target for name in names)
                targets[f"TALKINGFACE_{stage.upper()}_TARGET"] = addresses
            environ = {"TALKINGFACE_PORT": str(self._port), **targets}
            if self._measured:
                environ |= _MEASURED_SLOTS
            self._spawn(ORCHESTRATOR, ORCHESTRATOR, environ)
            self.processes[ORCHESTRATOR].wait_listening(deadline)
            for name, process in self.processes.items():
                process.wait_serving(deadline)
                self._on_progress(name)
        except BaseException:
            self.stop()
            raise

    def check(self) -> None:
        """Check that all services run.

        :raises MeshError: a service has ended
        """
        for process in self.processes.values():
            process.check()

    def stop(self) -> None:
        """Stop all services: the orchestrator first, so that it can drain, then the stages."""
        deadline = time.monotonic() + _STOP_SECONDS
        try:
            for is_orchestrator in (True, False):
                running = [
                    process
                    for name, process in self.processes.items()
                    if (name == ORCHESTRATOR) == is_orchestrator
                ]
                for process in running:
                    process.terminate()
                for process in running:
                    process.wait(deadline)
        except BaseException:  # a second Ctrl-C
            for process in self.processes.values():
                process.kill()
            raise

    def _spawn(self, service: str, name: str, environ: Mapping[str, str]) -> None:
        environ = {**self._environ, **environ}
        self.processes[name] = ServiceProcess(service, environ, self._on_line)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()


def log_to(path: Path) -> Callable[[str, str], None]:
    """Return a function for `on_line` that appends the lines of all services to a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = threading.Lock()

    def write(service: str, line: str) -> None:
        with lock, path.open("a") as file:
            file.write(f"{service:<14} | {line}\n")

    return write
