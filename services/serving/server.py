"""Start-up, admission, error handling and shutdown of a service, the same for all four.

class MyService(...Servicer):
    async def Method(self, requests, context):
        async with self.host.call(context, "Method") as call:
            first = await call.admit(read)     # RESOURCE_EXHAUSTED if no slot is free
            ...                                # ServiceError -> google.rpc.Status

host = ServiceHost("renderer", config)
exit_code = await host.run("talkingface.v1.RendererService", add=..., start=..., stop=...)
"""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, TypeAlias, TypeVar

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from talkingface.contract.channel import MAX_MESSAGE_BYTES
from talkingface.contract.errors import ServiceError
from talkingface.serving.admission import Slots
from talkingface.serving.config import ServiceConfig
from talkingface.serving.metrics import Metrics

log = logging.getLogger(__name__)

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
T = TypeVar("T")

_SERVING = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING

# Health service name that is SERVING as long as the process runs, even while its Triton is
# unavailable or the service is draining.
LIVENESS = "liveness"

# Seconds, by eye: a client that takes longer to send its first message gives its slot back until
# the message arrives.
_FIRST_MESSAGE_SECONDS = 1.0
# Seconds, by eye, to send the status of calls that the end of the drain has ended.
_STATUS_SECONDS = 1.0

SERVER_OPTIONS = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    # Clients may ping every 20 s, even without a call; gRPC's default limit is 5 minutes.
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    # Detect clients whose machine or network has failed.
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.so_reuseport", 0),
)


def set_up_logging(service: str, level: str) -> None:
    """Log to stderr, one line a record: time, level, service, message (key=value pairs)."""
    logging.basicConfig(
        stream=sys.stderr,
        level=level,
        format=f"%(asctime)s.%(msecs)03d %(levelname)s {service} %(message)s",
        datefmt="%Y-%m-%dT%H:%M:%S",
        force=True,
    )


class Call:
    """One call of a client: its slot, time limits, session name and start time."""

    def __init__(self, host: ServiceHost, method: str) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.task = task
        self.method = method
        self.session_id = "-"
        self.started = time.perf_counter()
        self.overdue: ServiceError | None = None
        self._host = host
        self._first: float | None = None
        self._free: Callable[[], None] | None = None
        self._timers: list[asyncio.TimerHandle] = []

    def reserve(self, slots: Slots | None = None, caller: str = "") -> None:
        """Take a slot for the rest of the call.

        :param slots: slots to take from; default: those of the service
        :param caller: name of the caller
        :raises ServiceError: NO_CAPACITY or QUOTA_EXCEEDED
        """
        slots = slots or self._host.slots
        slots.take(caller)
        self._free = partial(slots.free, caller)

    def release(self) -> None:
        """Free the slot."""
        if self._free is not None:
            self._free()
            self._free = None

    async def admit(self, read: Callable[[], Awaitable[T]], caller: str = "") -> T:
        """Take a slot, then read the first message.

        A client that does not send it within a second loses the slot until it does.

        :param read: reads the first message
        :param caller: name of the caller
        :raises ServiceError: NO_CAPACITY or QUOTA_EXCEEDED, at once; errors of `read`
        """
        self.reserve(caller=caller)
        reading = asyncio.ensure_future(read())
        try:
            done, _ = await asyncio.wait([reading], timeout=_FIRST_MESSAGE_SECONDS)
            if not done:
                self.release()
                await reading
                self.reserve(caller=caller)
            return await reading
        finally:
            reading.cancel()

    def limit(self, seconds: float, reason: str, text: str) -> None:
        """End the call with an error if it is still running after `seconds`."""
        timer = asyncio.get_running_loop().call_later(
            seconds, self._expire, ServiceError(reason, text)
        )
        self._timers.append(timer)

    def _expire(self, error: ServiceError) -> None:
        if self.overdue is None:
            self.overdue = error
            self.task.cancel()

    def result(self) -> None:
        """Record that a result has been sent."""
        if self._first is None:
            self._first = time.perf_counter() - self.started
            self._host.metrics.first_result(self.method, self._first)

    def end(self, code: str, reason: str = "") -> None:
        """Free the slot; count and log the call."""
        for timer in self._timers:
            timer.cancel()
        self.release()
        self._host.metrics.call_ended(self.method, code, reason)
        log.info(
            "call=%s session=%s code=%s%s seconds=%.3f%s",
            self.method,
            self.session_id,
            code,
            f" reason={reason}" if reason else "",
            time.perf_counter() - self.started,
            "" if self._first is None else f" first_result={self._first:.3f}",
        )


class ServiceHost:
    """Everything that a service needs around its methods."""

    def __init__(self, service: str, config: ServiceConfig, per_caller: int = 0) -> None:
        """
        :param service: short name such as "renderer", for logs and metrics
        :param config: settings of the service
        :param per_caller: slots that one caller may hold; 0: all of them
        """
        self.service = service
        self.config = config
        self.metrics = Metrics(service)
        self.draining = asyncio.Event()
        self.health = health.aio.HealthServicer()
        self.slots = Slots(service, config.slots, per_caller, self.metrics.set_slots)
        self._calls: set[Call] = set()
        self._health_names = [""]
        self._drain_deadline = 0.0
        self.metrics.set_ready(False)

    @asynccontextmanager
    async def call(self, context: Context, method: str) -> AsyncIterator[Call]:
        """Run one call: convert errors to status codes, free its slot, count and log it."""
        call = Call(self, method)
        self._calls.add(call)
        try:
            if self.draining.is_set():
                raise ServiceError("DRAINING", f"{self.service} is shutting down")
            yield call
            call.end("OK")
        except asyncio.CancelledError:
            if call.overdue is None or call.task.uncancel():  # cancelled by the client
                call.end("CANCELLED")
                raise
            await self._abort(context, call, call.overdue)
        except grpc.aio.AbortError:
            call.end("ABORTED")
            raise
        except ServiceError as error:
            if error.reason == "INTERNAL":
                log.error("session=%s %s", call.session_id, error, exc_info=error)
            await self._abort(context, call, error)
        except Exception as error:
            log.error("session=%s unexpected %r", call.session_id, error, exc_info=error)
            internal = ServiceError(
                "INTERNAL", "defect of the server", metadata={"session_id": call.session_id}
            )
            await self._abort(context, call, internal)
        finally:
            self._calls.discard(call)

    @property
    def idle(self) -> bool:
        """Whether no call is running."""
        return not self._calls

    @staticmethod
    async def _abort(context: Context, call: Call, error: ServiceError) -> None:
        call.end(error.code.name, error.reason)
        await context.abort_with_status(error.to_status())

    async def set_serving(self, serving: bool) -> None:
        """Report to health checks and metrics whether new streams are accepted."""
        self.metrics.set_ready(serving)
        for name in self._health_names:
            await self.health.set(name, _SERVING if serving else _NOT_SERVING)

    @property
    def drain_left(self) -> float:
        """Seconds that calls may continue while the service is draining."""
        return max(0.0, self._drain_deadline - asyncio.get_running_loop().time())

    async def drain(self) -> None:
        """Refuse new calls and wait for the running ones, which are ended after `drain_timeout`."""
        seconds = self.config.drain_timeout
        self._drain_deadline = asyncio.get_running_loop().time() + seconds
        self.draining.set()
        await self.set_serving(False)
        if not self._calls:
            return
        log.info("event=draining calls=%d", len(self._calls))
        for call in self._calls:
            call.limit(seconds, "DRAINING", f"{self.service} has shut down")
        tasks = [call.task for call in self._calls]
        await asyncio.wait(tasks, timeout=seconds + _STATUS_SECONDS)

    async def run(
        self,
        full_name: str,
        add: Callable[[grpc.aio.Server], None],
        start: Callable[[], Awaitable[None]],
        stop: Callable[[], Awaitable[None]],
    ) -> int:
        """Run a service until SIGTERM or SIGINT.

        It listens at once, and reports SERVING after `start` has returned. On a signal it drains,
        stops the server and calls `stop`; a second signal ends it at once.

        :param full_name: proto name of the service, such as "talkingface.v1.RendererService"
        :param add: adds the servicer to a server
        :param start: prepares the service: Triton, warm-up, connections
        :param stop: undoes `start`
        :return: exit code: 0, 1 if the service could not start, 130 after a second signal
        """
        config = self.config
        server = await self._create_server(full_name, add)
        try:
            port = server.add_insecure_port(f"{config.host}:{config.port}")
            metrics_port, close_metrics = self.metrics.serve(config.host, config.metrics_port)
        except (RuntimeError, OSError) as error:
            log.error("event=cannot_listen host=%s port=%d: %s", config.host, config.port, error)
            return 1
        stopping = _stop_on_signals()
        await server.start()
        log.info("event=listening port=%d metrics_port=%d", port, metrics_port)
        begin = time.perf_counter()
        exit_code = 0
        starting = asyncio.ensure_future(start())
        waiting = asyncio.ensure_future(stopping.wait())
        try:
            await asyncio.wait([starting, waiting], return_when=asyncio.FIRST_COMPLETED)
            if not stopping.is_set():
                await starting
                await self.set_serving(True)
                log.info("event=serving port=%d seconds=%.2f", port, time.perf_counter() - begin)
                await waiting
            await self.drain()
        except asyncio.CancelledError:
            exit_code = 130
        except Exception as error:
            log.error("event=start_failed %s", error, exc_info=not isinstance(error, ServiceError))
            exit_code = 1
        finally:
            for task in (starting, waiting):
                task.cancel()
            await asyncio.wait([starting, waiting])
            await server.stop(0)
            await stop()
            close_metrics()
            log.info("event=stopped")
        return exit_code

    async def _create_server(
        self, full_name: str, add: Callable[[grpc.aio.Server], None]
    ) -> grpc.aio.Server:
        """Create the gRPC server with the service, its health and reflection."""
        server = grpc.aio.server(options=SERVER_OPTIONS)
        add(server)
        health_pb2_grpc.add_HealthServicer_to_server(self.health, server)
        names = (full_name, health.SERVICE_NAME, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, server)
        self._health_names.append(full_name)
        await self.set_serving(False)
        await self.health.set(LIVENESS, _SERVING)
        return server


def _stop_on_signals() -> asyncio.Event:
    """Return an event that SIGTERM and SIGINT set; a second signal cancels the current task."""
    main = asyncio.current_task()
    assert main is not None
    stopping = asyncio.Event()

    def on_signal() -> None:
        if stopping.is_set():
            main.cancel()
        stopping.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, on_signal)
    return stopping
