"""A session's stream to a stage, which outlives the replica that serves it.

The stage sends a checkpoint about once a second. What was sent after it is kept here. When the call
fails, another one is opened, at another replica or at the same one when it is back; it is sent the
checkpoint and the messages after it, and results that are repeated are dropped. The results are the
same as if nothing had happened.

A checkpoint is only accepted by the build that made it. Where other builds alone are left, as at
the end of an upgrade, the stream starts cold at one of them, with some seconds of input before the
failure; its results continue without a gap, but are not those of an undisturbed stream.

A stage may also stop responding: its process or its Triton hangs, or the network is cut. A live
session soon abandons such a call if another replica can continue it. In case that was premature,
because all replicas are slow, the next one is given twice the time, until a result arrives.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from copy import deepcopy
from dataclasses import dataclass
from typing import Generic

from talkingface.contract.errors import ServiceError
from talkingface.contract.stage_streams import StreamConfig, StreamRequest, StreamResponse
from talkingface.orchestrator.stages.call import StageCall, StageSilentError
from talkingface.orchestrator.stages.history import InputHistory
from talkingface.orchestrator.stages.methods import StageMethod
from talkingface.v1 import stage_pb2 as stage

log = logging.getLogger(__name__)

# Failures of a call after which the stream continues at another replica.
_FAILED = ("STAGE_UNAVAILABLE", "DRAINING")
# ... and failures to open one that may pass.
_TEMPORARY = (*_FAILED, "NO_CAPACITY", "CHECKPOINT_MISMATCH")
_RETRY_SECONDS = 0.1  # between attempts
_MAX_FAILED_CALLS = 3  # without a single result: it is the input that breaks the stage
_MIGRATION_SECONDS = 0.5  # for which opening a call may delay a live stream that still works

# Input before a failure that a cold start repeats, in seconds. Offline the stage settles again; in
# a live session the repetition must take less than about a third of a second.
_WARM_UP_SECONDS = 10.0
_LIVE_WARM_UP_SECONDS = 1.0


@dataclass(frozen=True)
class Recovery:
    """How a stream has continued."""

    name: str
    """Name of the stage."""
    cause: str
    """"broken", "silent" or "moved"."""
    stall: float | None
    """Seconds without results; None if none were missed."""
    restarted: bool
    """Whether it has continued at another build."""


Connect = Callable[
    [StreamConfig], Awaitable[StageCall[StreamConfig, StreamRequest, StreamResponse]]
]
OnRecovery = Callable[[Recovery], Awaitable[None]]


@dataclass(frozen=True)
class KeptCheckpoint(Generic[StreamRequest]):
    """A checkpoint, and where it lies in the stream."""

    checkpoint: stage.Checkpoint
    contained: list[StreamRequest]
    """The requests that it contains and the previous one does not."""
    consumed: int
    """Input items that it contains."""
    produced: int
    """Index of the item that follows the results it contains."""


OnCheckpoint = Callable[[KeptCheckpoint[StreamRequest]], Awaitable[None]]


@dataclass(frozen=True)
class _Stall:
    """Results are missing. Times are those of `time.perf_counter`."""

    cause: str
    began: float
    noticed: float


class ResilientStream(Generic[StreamConfig, StreamRequest, StreamResponse]):
    """`open`, then `send` and `receive` concurrently, `end`, `cancel`.

    `receive` performs the reconnection: blocked senders resume only while some task awaits it. The
    stream counts what it has sent and received, from which a call knows whether a result is due.
    """

    def __init__(
        self,
        method: StageMethod[StreamConfig, StreamRequest, StreamResponse],
        connect: Connect[StreamConfig, StreamRequest, StreamResponse],
        recovery_timeout: float,
        on_recovery: OnRecovery,
        live_timeout: float | None = None,
        on_checkpoint: OnCheckpoint[StreamRequest] | None = None,
    ) -> None:
        """
        :param connect: opens a call with a configuration; raises ServiceError.
        :param recovery_timeout: seconds within which a broken stream must continue.
        :param on_recovery: called before the first result after a failure, and after a migration.
        :param live_timeout: seconds that a result may be overdue before another replica is
            preferred; None for a session that is not live: only the call's own limit.
        :param on_checkpoint: called with each checkpoint.
        """
        self.method = method
        self.opened = time.perf_counter()
        self.results = 0
        self.first_result: float | None = None
        self.last_result: float | None = None
        self._connect = connect
        self._recovery_timeout = recovery_timeout
        self._on_recovery = on_recovery
        self._live_timeout = live_timeout
        self._on_checkpoint = on_checkpoint
        self._config: StreamConfig | None = None
        self._checkpoint: stage.Checkpoint | None = None
        self._call: StageCall[StreamConfig, StreamRequest, StreamResponse] | None = None
        self._history: InputHistory[StreamConfig, StreamRequest, StreamResponse] | None = None
        self._acknowledged = 0  # messages of the current call that a checkpoint contains
        self._next = 0  # index of the first item not yet received
        self._failures = 0  # calls that failed since the last result
        self._silences = 0  # calls abandoned because they were silent since the last result
        self._stall: _Stall | None = None
        self._restarted = False  # at another build, since the last result
        self._ended = False
        self._writing = asyncio.Lock()
        self._settled = asyncio.Event()  # cleared while it is undecided which call continues
        self._settled.set()
        self._resending: asyncio.Task[None] | None = None
        self._migration: asyncio.Task[None] | None = None

    @property
    def name(self) -> str:
        """Name of the stage."""
        return self.method.name

    @property
    def info(self) -> stage.StageInfo:
        """Description of the stage that serves the stream; empty before it is open."""
        return stage.StageInfo() if self._call is None else self._call.info

    @property
    def call(self) -> StageCall[StreamConfig, StreamRequest, StreamResponse]:
        """The call that serves the stream now."""
        assert self._call is not None, "the stream is not open"
        return self._call

    @property
    def history(self) -> InputHistory[StreamConfig, StreamRequest, StreamResponse]:
        """The input sent lately."""
        assert self._history is not None, "the stream is not open"
        return self._history

    async def open(self, config: StreamConfig, following: int = 0, consumed: int = 0) -> None:
        """Open the stream.

        :param following: index of the first item that is wanted.
        :param consumed: index of the first input item that will be sent.
        :raises ServiceError: the stage's refusal, or STAGE_UNAVAILABLE.
        """
        config.checkpoints = True
        self._next = following
        self._config = config
        warm_up = _WARM_UP_SECONDS if self._live_timeout is None else _LIVE_WARM_UP_SECONDS
        self._history = InputHistory(self.method, config, consumed, warm_up)
        await self._open_call()
        # No result is due for what came before.
        self.call.sent_until = self.call.received_until = following / self.method.output_rate

    async def send(self, request: StreamRequest) -> None:
        """Send a request; waits while the stage does not accept it or is unavailable.

        :raises ServiceError: the stage's error.
        """
        async with self._writing:
            before = self.history.consumed
            kept = self.history.add(request)
            if kept is None:
                return
            await self._attempt(self.call.send(kept))
            if self.history.consumed > before and self.method.expects_result(request):
                self.call.sent_until = self.history.consumed / self.method.input_rate

    async def end(self) -> None:
        """Send the end of the stream."""
        async with self._writing:
            self._ended = True
            await self._attempt(self.call.end())

    async def receive(self) -> StreamResponse | None:
        """Return the next result, or None after the last.

        :raises ServiceError: the stage's error, or STAGE_UNAVAILABLE after the recovery timeout.
        """
        while True:
            call = self.call
            try:
                response = await call.receive()
            except ServiceError as error:
                await self._settled.wait()
                if call is self._call:
                    await self._recover(error)
                continue
            except asyncio.CancelledError:
                if _is_cancelled() or call is self._call:
                    raise
                continue  # only the previous call was cancelled
            await self._settled.wait()
            if call is not self._call:
                continue  # the new call repeats it
            if response is None:
                await self._report_recovery()
                return None
            if response.HasField("checkpoint"):
                await self._keep(response.checkpoint)
                continue
            first, count = self.method.output_range(response)
            if first + count <= self._next:
                continue  # received before the failure
            if first < self._next:
                self.method.drop_first(response, self._next - first)
            self._next = first + count
            self.call.received_until = self._next / self.method.output_rate
            self.results += 1
            self.last_result = time.perf_counter()
            self.first_result = self.first_result or self.last_result
            await self._report_recovery()
            return response

    def migrate(self) -> None:
        """Continue at another replica if there is one, because this one is draining."""
        if self._migration is None or self._migration.done():
            self._migration = asyncio.create_task(self._migrate())

    def cancel(self) -> None:
        """End the stream at once; its slot becomes free."""
        for task in (self._resending, self._migration):
            if task is not None:
                task.cancel()
        if self._call is not None:
            self._call.replica.streams.discard(self)
            self._call.cancel()

    async def _open_call(self, *, cold: bool = False) -> None:
        """Open a call, and make it the current one.

        :param cold: without a checkpoint, from the beginning of the history.
        :raises ServiceError: it cannot be opened; nothing has changed.
        """
        assert self._config is not None, "the stream is not open"
        if cold:
            config, history = self.history.cold_start()
        else:
            config, history = deepcopy(self._config), self.history
            if self._checkpoint is not None:
                config.resume.CopyFrom(self._checkpoint)
        self.method.skip_delivered(config, self._next)
        call = await self._connect(config)
        if cold:
            self._config, self._history, self._checkpoint = config, history, None
        if self._call is not None and call.info.model != self._call.info.model:
            self._restarted = True
        self._set_deadline(call)
        if self._call is not None:
            call.sent_until = self._call.sent_until
            call.received_until = self._call.received_until
            call.max_overdue = self._call.max_overdue
            self._call.replica.streams.discard(self)
        call.replica.streams.add(self)
        self._call = call

    async def _attempt(self, sending: Awaitable[None]) -> None:
        """Send; if the call fails, the receiver opens another and sends the history."""
        try:
            await sending
        except ServiceError as error:
            if error.reason not in _FAILED:
                raise
        except asyncio.CancelledError:
            if _is_cancelled():
                raise  # otherwise only the previous call was cancelled

    async def _keep(self, checkpoint: stage.Checkpoint) -> None:
        """Keep a checkpoint in place of the requests that it contains."""
        contained, consumed = self.history.checkpoint(checkpoint.messages - self._acknowledged)
        self._acknowledged = checkpoint.messages
        self._checkpoint = checkpoint
        if self._on_checkpoint is not None:
            kept = KeptCheckpoint(checkpoint, contained, consumed, self._next)
            await self._on_checkpoint(kept)

    def _set_deadline(self, call: StageCall[StreamConfig, StreamRequest, StreamResponse]) -> None:
        if self._live_timeout is not None:
            call.set_live_timeout(self._live_timeout * 2**self._silences)

    async def _recover(self, error: ServiceError) -> None:
        """Open another call and start to send it what it lacks."""
        silent, now = isinstance(error, StageSilentError), time.perf_counter()
        if self._stall is None:
            cause = "silent" if silent else "broken"
            self._stall = _Stall(cause, now - self.call.overdue, now)
        self._failures += not silent
        self._silences += silent
        until = self._stall.noticed + self._recovery_timeout
        if error.reason not in _FAILED or self._failures > _MAX_FAILED_CALLS or now > until:
            raise error
        log.warning("event=stream_broken stage=%s %s", self.name, error)
        self.call.replica.mark_unhealthy(silent=silent)
        self.call.cancel()
        await self._writing.acquire()
        try:
            while True:
                try:
                    await self._change_over(cold_allowed=True)
                    break
                except ServiceError as again:
                    late = time.perf_counter() + _RETRY_SECONDS > until
                    if again.reason not in _TEMPORARY or late:
                        raise
                    await asyncio.sleep(_RETRY_SECONDS)
        except BaseException:
            self._writing.release()
            raise

    async def _report_recovery(self) -> None:
        """Report a recovery when the first result after it has arrived."""
        if self._stall is not None:
            stall, self._stall = self._stall, None
            restarted, self._restarted = self._restarted, False
            self._failures = self._silences = 0
            self._set_deadline(self.call)
            seconds = time.perf_counter() - stall.began
            await self._on_recovery(Recovery(self.name, stall.cause, seconds, restarted))

    async def _migrate(self) -> None:
        """Open another call while the current one works, and then abandon that."""
        await self._writing.acquire()
        previous = self.call
        self._settled.clear()
        try:
            if previous.replica.draining:
                live = self._live_timeout is not None
                async with asyncio.timeout(_MIGRATION_SECONDS if live else self._recovery_timeout):
                    await self._change_over()
        except (ServiceError, TimeoutError) as error:  # the draining replica may finish it
            log.info("event=stream_stays stage=%s %s", self.name, error)
        finally:
            self._settled.set()
            if self.call is previous:
                self._writing.release()
        if self.call is not previous:
            log.info("event=stream_moved stage=%s replica=%s", self.name, self.info.replica)
            previous.cancel()
            restarted, self._restarted = self._restarted, False
            await self._on_recovery(Recovery(self.name, "moved", None, restarted))

    async def _change_over(self, *, cold_allowed: bool = False) -> None:
        """Replace the current call; `_writing` is held, from then on by `_resend`.

        :param cold_allowed: whether to start cold if only other builds are available.
        :raises ServiceError: it cannot be opened; nothing has changed.
        """
        try:
            await self._open_call()
        except ServiceError as error:
            if not cold_allowed or error.reason != "CHECKPOINT_MISMATCH":
                raise
            await self._open_call(cold=True)
            log.warning("event=stream_restarted stage=%s model=%s", self.name, self.info.model)
        self._acknowledged = 0
        # Concurrently with receiving, without which the stage would soon accept no more.
        self._resending = asyncio.create_task(self._resend(self.call))

    async def _resend(self, call: StageCall[StreamConfig, StreamRequest, StreamResponse]) -> None:
        """Send what the call lacks; `_writing` is held from before the call was opened."""
        try:
            for request in self.history.pending:
                await call.send(request)
            if self._ended:
                await call.end()
        except ServiceError:
            pass  # `receive` raises the same
        finally:
            self._writing.release()


def _is_cancelled() -> bool:
    """Whether the running task itself is cancelled, and not just a call in it."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
