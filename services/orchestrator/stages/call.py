"""One call of a stage, with its deadlines."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Generic, Self, TypeVar, cast

import grpc

from talkingface.contract.call_status import CallStatus, is_connection_lost
from talkingface.contract.errors import ServiceError
from talkingface.contract.stage_streams import StreamConfig, StreamRequest, StreamResponse
from talkingface.orchestrator.config import OrchestratorConfig
from talkingface.orchestrator.stages.methods import StageMethod
from talkingface.orchestrator.stages.replicas import Replica
from talkingface.v1 import stage_pb2 as stage

# Input beyond its look-ahead that a stage may hold before a result is due. In a live session: one
# chunk of audio (40 ms) and what is in transit.
_SLACK_SECONDS = 0.5
_LIVE_SLACK_SECONDS = 0.08
_MAX_TICK_SECONDS = 1.0
_DECAY = 0.99  # of the recent maximum, with each result

T = TypeVar("T")


def stage_error(name: str, error: grpc.aio.AioRpcError, parsed: ServiceError) -> ServiceError:
    """Return the client's error for an error of a stage: with the stage's reason if it has one.

    :param parsed: the same error as a `ServiceError`.
    """
    if is_connection_lost(error):  # raised by gRPC itself, whose text contains addresses
        parsed = ServiceError("STAGE_UNAVAILABLE", f"{name} cannot be reached")
    parsed.metadata = {**parsed.metadata, "stage": name}
    return parsed


class StageSilentError(ServiceError):
    """STAGE_UNAVAILABLE: the call has not failed, but a result is overdue."""


class StageCall(Generic[StreamConfig, StreamRequest, StreamResponse]):
    """One call of one stage: `open`, then `send` and `receive` concurrently, `end`, `cancel`.

    The stream that uses the call sets `sent_until` and `received_until`, in seconds of the session,
    which determine whether a result is due; `overdue` is for how many seconds. `max_overdue` is the
    recent maximum of that: it raises the timeout, so that a slow cluster is not taken for a dead
    replica.
    """

    def __init__(
        self,
        method: StageMethod[StreamConfig, StreamRequest, StreamResponse],
        config: OrchestratorConfig,
        replica: Replica,
        elsewhere: Callable[[], float | None],
    ) -> None:
        """
        :param replica: the replica to call.
        :param elsewhere: returns the multiple of the live timeout that the call waits for a result
            before another replica is preferred; None if no other could continue the stream.
        """
        self.replica = replica
        self.info = stage.StageInfo()
        self.sent_until = 0.0
        self.received_until = 0.0
        self.overdue = 0.0
        self.max_overdue = 0.0
        self._method = method
        self._config = config
        self._elsewhere = elsewhere
        self._timeout = config.stage_timeout
        self._slack = _SLACK_SECONDS
        self._call = method.call(replica.channel)
        self._status = CallStatus(self._call)
        self._ended = False
        self._writing = asyncio.Lock()
        self._sender: asyncio.Task[Any] | None = None  # that waits for a write
        self._receiver: asyncio.Task[Any] | None = None  # that waits for a result
        self._interrupted: set[asyncio.Task[Any]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._has_result = False  # since the last tick
        self._silence: StageSilentError | None = None

    @property
    def name(self) -> str:
        """Name of the stage."""
        return self._method.name

    async def open(self, config: StreamConfig, within: float) -> Self:
        """Send the configuration, and wait until the stage has accepted the stream.

        :param within: seconds that this may take.
        :raises ServiceError: the stage's refusal, or STAGE_UNAVAILABLE. The call is over then.
        """
        try:
            with self.replica.opening():
                await self._open(config, within)
        except BaseException:
            self.cancel()
            raise
        self.on_end(self.replica.ended)
        return self

    async def _open(self, config: StreamConfig, within: float) -> None:
        try:
            async with asyncio.timeout(within):
                # The read comes first: without one, a refusal might not arrive (see `CallStatus`).
                reading = asyncio.ensure_future(self._guard(self._call.read()))
                try:
                    await self.send(self._method.first_request(config))
                except ServiceError:
                    pass  # the read raises the reason
                except BaseException:
                    reading.cancel()
                    raise
                answer = await reading
        except TimeoutError:
            raise self._silent("did not accept the stream in time") from None
        response = None if answer is grpc.aio.EOF else cast("StreamResponse", answer)
        if response is None or not response.HasField("started"):
            raise self._unavailable("did not send `started`")
        self.info = response.started

    def set_live_timeout(self, seconds: float) -> None:
        """Expect results in real time, and another replica's after so many seconds without one."""
        self._timeout = min(seconds, self._config.stage_timeout)
        self._slack = _LIVE_SLACK_SECONDS

    async def send(self, request: StreamRequest) -> None:
        """Send a request; waits while the stage does not accept it.

        :raises ServiceError: the stage's error.
        """
        async with self._writing:
            self._sender = asyncio.current_task()
            try:
                await self._interruptible(self._call.write(request))
            finally:
                self._sender = None

    async def end(self) -> None:
        """Send the end of the stream."""
        await self.send(self._method.request(end={}))
        self._ended = True
        await self._guard(self._call.done_writing())

    async def receive(self) -> StreamResponse | None:
        """Return the next result or checkpoint, or None after the last.

        :raises ServiceError: the stage's error, or STAGE_UNAVAILABLE when a result is overdue for
            longer than the timeout.
        """
        self.overdue = 0.0
        self._receiver = task = asyncio.current_task()
        assert task is not None
        if self._timer is None:
            self._await_tick()
        try:
            answer = await self._interruptible(self._call.read())
        except asyncio.CancelledError:
            if self._silence is None or task.cancelling():
                raise
            raise self._silence from None
        finally:
            self._receiver = None
        self._has_result = True
        self.max_overdue = max(self.overdue, _DECAY * self.max_overdue)
        return None if answer is grpc.aio.EOF else cast("StreamResponse", answer)

    def _await_tick(self) -> None:
        # Overdue time is counted in turns of the event loop instead of by the clock: while this
        # process itself was suspended, results may have arrived that have not been read yet.
        self._has_result = False
        tick = min(self._timeout / 8, _MAX_TICK_SECONDS)
        self._timer = asyncio.get_running_loop().call_later(tick, self._on_tick, tick)

    def _on_tick(self, tick: float) -> None:
        """Interrupt the receiver if a result is overdue for too long."""
        self._timer = None
        if self._receiver is None:
            return
        if not self._has_result:
            self.overdue = self.overdue + tick if self._is_due() else 0.0
        if self.overdue > self._timeout and self.overdue > self._limit():
            self._silence = self._silent(f"returned no result for {self.overdue:.2g} s")
            self._interrupt(self._receiver)
        else:
            self._await_tick()

    def on_end(self, callback: Callable[[], Any]) -> None:
        """Call `callback` when the call is over, however it ends."""
        self._call.add_done_callback(lambda _: callback())

    def cancel(self) -> None:
        """End the call at once; its slot becomes free."""
        self._call.cancel()
        if self._timer is not None:
            self._timer.cancel()
        if self._sender is not None:  # gRPC itself does not end a write on a dead connection
            self._interrupt(self._sender)

    def _interrupt(self, task: asyncio.Task[Any]) -> None:
        """End what a task waits for with CancelledError, without cancelling the task."""
        self._interrupted.add(task)
        task.cancel()

    async def _interruptible(self, operation: Awaitable[T]) -> T:
        """Await an operation of gRPC that `_interrupt` can end; see `_guard`."""
        task = asyncio.current_task()
        assert task is not None
        try:
            return await self._guard(operation)
        finally:
            if task in self._interrupted:
                self._interrupted.discard(task)
                task.uncancel()

    def _is_due(self) -> bool:
        ahead = self.sent_until - self.received_until
        return self._ended or ahead > self.info.look_ahead_ms / 1000 + self._slack

    def _limit(self) -> float:
        """Return the seconds that a result may be overdue."""
        times, most = self._elsewhere(), self._config.stage_timeout
        if times is None:
            return most
        return min(times * (self._timeout + min(2 * self.max_overdue, self._timeout)), most)

    def _unavailable(self, problem: str) -> ServiceError:
        return ServiceError(
            "STAGE_UNAVAILABLE", f"{self.name} {problem}", metadata={"stage": self.name}
        )

    def _silent(self, problem: str) -> StageSilentError:
        return StageSilentError(
            "STAGE_UNAVAILABLE", f"{self.name} {problem}", metadata={"stage": self.name}
        )

    async def _guard(self, operation: Awaitable[T]) -> T:
        """Await an operation of gRPC, and turn its failures into `ServiceError`."""
        try:
            return await operation
        except grpc.aio.AioRpcError as error:
            raise stage_error(self.name, error, await self._status.error(error)) from None
        except asyncio.InvalidStateError:  # the call has ended already: its status says why
            call = self._call
            ended = grpc.aio.AioRpcError(
                await call.code(),
                await call.initial_metadata(),
                await call.trailing_metadata(),
                await call.details(),
            )
            raise stage_error(self.name, ended, await self._status.error(ended)) from None
