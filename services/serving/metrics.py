"""Prometheus metrics of a service; all names begin with `talkingface_`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

# Upper bounds of buckets, in seconds.
_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.03, 0.04, 0.06, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
_STALL_SECONDS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0, 1.5, 2.0, 5.0, 10.0, 30.0)


class Metrics:
    """The metrics of one service, in its own registry."""

    def __init__(self, service: str) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        registry = self.registry
        self.slots_in_use = Gauge(
            "talkingface_slots_in_use", "Slots in use by streams.", ["service"], registry=registry
        )
        self.slots_total = Gauge(
            "talkingface_slots_total", "Slots for streams.", ["service"], registry=registry
        )
        self.ready = Gauge(
            "talkingface_ready",
            "1 while new streams are accepted, else 0.",
            ["service"],
            registry=registry,
        )
        self._calls = Counter(
            "talkingface_calls",
            "Completed calls by method, status code and reason.",
            ["service", "method", "code", "reason"],
            registry=registry,
        )
        self._step = Histogram(
            "talkingface_step_seconds",
            "Duration of one step of a stage, such as an inference or the encoding of a frame.",
            ["service", "step"],
            buckets=_SECONDS,
            registry=registry,
        )
        self._first = Histogram(
            "talkingface_first_result_seconds",
            "Time from the start of a call to its first result.",
            ["service", "method"],
            buckets=_SECONDS,
            registry=registry,
        )
        self._items = Counter(
            "talkingface_items",
            "Items produced: rows of features, frames of motion or video, bytes.",
            ["service", "kind"],
            registry=registry,
        )
        self._replicas = Gauge(
            "talkingface_replicas_serving",
            "Replicas of a stage that accept streams, as polled by the orchestrator.",
            ["service", "stage"],
            registry=registry,
        )
        self._recoveries = Counter(
            "talkingface_recoveries",
            "Streams continued at another replica, by cause: broken, silent, or moved from a "
            "draining replica.",
            ["service", "stage", "cause"],
            registry=registry,
        )
        self._stall = Histogram(
            "talkingface_stall_seconds",
            "Time without results of a stage after its stream broke or fell silent.",
            ["service", "stage"],
            buckets=_STALL_SECONDS,
            registry=registry,
        )
        self._levels = Gauge(
            "talkingface_sessions_at_level",
            "Live sessions by the level at which their frames are rendered: 0 full, 1 half "
            "resolution, 2 half rate.",
            ["service", "level"],
            registry=registry,
        )
        self._level_changes = Counter(
            "talkingface_level_changes",
            "Changes of a live session's level, by the new level and by reason: overload or "
            "headroom.",
            ["service", "level", "reason"],
            registry=registry,
        )
        self._service = service

    def set_slots(self, in_use: int, total: int) -> None:
        """Set the number of slots in use, and of all slots."""
        self.slots_in_use.labels(self._service).set(in_use)
        self.slots_total.labels(self._service).set(total)

    def set_ready(self, ready: bool) -> None:
        """Set whether new streams are accepted."""
        self.ready.labels(self._service).set(float(ready))

    def call_ended(self, method: str, code: str, reason: str = "") -> None:
        """Count a completed call.

        :param method: name of the method
        :param code: name of the gRPC status code
        :param reason: of `ErrorReason`, for a call that failed
        """
        self._calls.labels(self._service, method, code, reason).inc()

    def first_result(self, method: str, seconds: float) -> None:
        """Record the time to a stream's first result."""
        self._first.labels(self._service, method).observe(seconds)

    def count(self, kind: str, number: int = 1) -> None:
        """Count items of a kind, such as "rows" or "frames"."""
        self._items.labels(self._service, kind).inc(number)

    def set_replicas(self, stage: str, serving: int) -> None:
        """Set the number of replicas of a stage that accept streams."""
        self._replicas.labels(self._service, stage).set(serving)

    def recovered(self, stage: str, cause: str, stall: float | None = None) -> None:
        """Count a stream that continued at another replica.

        :param stage: name of the stage
        :param cause: "broken", "silent" or "moved"
        :param stall: seconds without results, if there were any
        """
        self._recoveries.labels(self._service, stage, cause).inc()
        if stall is not None:
            self._stall.labels(self._service, stage).observe(stall)

    def session_at_level(self, before: int | None, level: int | None) -> None:
        """Count a live session at its new level.

        :param before: its level before; None if it begins
        :param level: its new level; None if it ends
        """
        if before is not None:
            self._levels.labels(self._service, str(int(before))).dec()
        if level is not None:
            self._levels.labels(self._service, str(int(level))).inc()

    def level_changed(self, level: int, reason: str) -> None:
        """Count a change of a live session's level.

        :param level: the new level
        :param reason: "overload" or "headroom"
        """
        self._level_changes.labels(self._service, str(int(level)), reason).inc()

    @contextmanager
    def timed(self, step: str) -> Iterator[None]:
        """Record the duration of a `with` block as one step."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self._step.labels(self._service, step).observe(time.perf_counter() - start)

    def serve(self, host: str, port: int) -> tuple[int, Callable[[], None]]:
        """Serve /metrics over HTTP.

        :param host: address to listen on
        :param port: port to listen on; 0 takes a free one
        :return: the port, and a function that stops the server
        """
        server, thread = start_http_server(port, addr=host, registry=self.registry)

        def close() -> None:
            server.shutdown()
            server.server_close()
            thread.join()

        return server.server_port, close
