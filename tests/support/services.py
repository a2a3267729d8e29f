"""The services as processes, and their streams as a client sees them."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.message import Message

from talkingface.contract.call_status import CallStatus
from talkingface.contract.errors import ServiceError
from talkingface.serving.health import check as health


class StartTimeout(AssertionError):
    """A service that did not serve in time, though it has not ended."""


class ServiceProcess:
    """A service as `python -m MODULE` on free ports, with its embedded Triton if it has one."""

    def __init__(self, module: str, log: Path, *, package: str = "", **settings: str) -> None:
        """
        :param package: folder of another build of the package, see `other_build`; "": this one.
        :param settings: fields of its configuration, such as slots="2".
        """
        environ = {k: v for k, v in os.environ.items() if not k.startswith("TALKINGFACE_")}
        if package:
            environ["PYTHONPATH"] = package
        environ |= {"TALKINGFACE_PORT": "0", "TALKINGFACE_METRICS_PORT": "0"}
        environ |= {f"TALKINGFACE_{name.upper()}": value for name, value in settings.items()}
        self.settings = settings
        self._log = log
        with log.open("w") as file:
            self.process = subprocess.Popen(
                [sys.executable, "-m", module], env=environ, stderr=file, stdout=file
            )

    @property
    def log(self) -> str:
        """What it has written so far."""
        return self._log.read_text()

    @property
    def address(self) -> str:
        """host:port of its gRPC."""
        return "127.0.0.1:" + self._find(r"event=listening port=(\d+)")

    @property
    def triton_pid(self) -> int:
        """Process id of its embedded Triton, the last one started."""
        return int(self._find(r"event=triton_started .*pid=(\d+)"))

    def metric(self, sample: str) -> float:
        """The value of a sample of its metrics, such as 'talkingface_ready{service="renderer"}'."""
        port = self._find(r"metrics_port=(\d+)")
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as answer:
            lines = answer.read().decode().splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(sample))

    def slots_in_use(self) -> int:
        """Streams that it holds now."""
        return int(self.metric("talkingface_slots_in_use{"))

    def wait_until_serving(self, seconds: float = 120.0) -> None:
        """Wait for SERVING; fails with its log where it ends.

        :raises StartTimeout: it takes longer.
        """
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                pytest.fail(f"ended with code {self.process.returncode}:\n{self.log}")
            if "event=listening" in self.log and health(self.address) == "SERVING":
                return
            time.sleep(0.05)
        raise StartTimeout(f"not serving after {seconds} s:\n{self.log}")

    def stop(self) -> int:
        """End it as a platform does.

        :return: the exit code.
        """
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)

    def kill(self) -> None:
        """End it at once, and with it its Triton."""
        self.process.kill()
        self.process.wait(60)

    def _find(self, pattern: str) -> str:
        found = re.findall(pattern, self.log)
        if not found:
            pytest.fail(f"no {pattern!r} in the log:\n{self.log}")
        return found[-1]


async def until(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    """Wait for what another process does, of which there is no event."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not in {seconds} s"
        await asyncio.sleep(0.02)


async def until_free(*services: ServiceProcess) -> float:
    """Wait for all slots of services to be free.

    :return: the seconds that it took.
    """
    began = time.perf_counter()
    await until(lambda: not any(service.slots_in_use() for service in services))
    return time.perf_counter() - began


@dataclass
class StreamClient:
    """Calls of one bidirectional method, such as `stub.Extract`."""

    method: Callable[[], Any]

    async def exchange(self, requests: Iterable[Message]) -> list[Any]:
        """Send everything, reading at the same time.

        :return: the answers.
        :raises ServiceError: the error of the server.
        """
        call = self.method()
        status = CallStatus(call)

        async def write() -> None:
            try:
                for request in requests:
                    await call.write(request)
                await call.done_writing()
            except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
                pass  # the read reports it

        writer = asyncio.create_task(write())
        answers = []
        try:
            while (answer := await call.read()) is not grpc.aio.EOF:
                answers.append(answer)
        except grpc.aio.AioRpcError as error:
            raise await status.error(error) from error
        finally:
            await writer
        return answers

    async def check_refusal(self, requests: Sequence[Message], reason: str, path: str = "") -> None:
        """Check that the server refuses, with this reason and about this field."""
        with pytest.raises(ServiceError) as refused:
            async with asyncio.timeout(60):
                await self.exchange(requests)
        assert refused.value.reason == reason
        assert not refused.value.retryable
        assert list(refused.value.field_violations) == ([path] if path else [])


def running_service(module: str, log: Path, **settings: str) -> Iterator[ServiceProcess]:
    """A service while a fixture lives, started once more where a busy machine was too slow."""
    service = ServiceProcess(module, log, **settings)
    try:
        try:
            service.wait_until_serving()
        except StartTimeout as error:
            warnings.warn(f"{module} is started once more: {error}", stacklevel=2)
            service.kill()
            service = ServiceProcess(module, log, **settings)
            service.wait_until_serving()
        yield service
    finally:
        service.stop()
