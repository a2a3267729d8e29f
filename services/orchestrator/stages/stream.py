"""A session's stream to a stage, which outlives the replica that serves it.

The stage sends a checkpoint about once a second. What was sent after the last one is held here;
when the call breaks, another is opened, at another replica or at the same one when it is back, it
is given checkpoint and messages, and what it then says for the second time is left out. The results
are the same as if nothing had happened.

A stage may also fall silent: its process or its Triton stands still, or the way to it is cut. A
live session gives such a call up soon where another replica can go on with it. Should that have
been hasty, because all are slow, the next one is given twice the time, until a result has come.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from talkingface.contract.errors import ServiceError
from talkingface.orchestrator.stages.call import StageCall, StageSilentError
from talkingface.orchestrator.stages.checkpoints import items_after
from talkingface.v1 import stage_pb2 as stage

log = logging.getLogger(__name__)

# What breaks a call that can go on elsewhere, and what may pass while it is opened there.
_BROKEN = ("STAGE_UNAVAILABLE", "DRAINING")
_PASSING = (*_BROKEN, "NO_CAPACITY", "CHECKPOINT_MISMATCH")
_PAUSE_SECONDS = 0.1
_FUTILE = 3  # calls that break off without a single result: the input breaks them

_MOVE_SECONDS = 0.5  # that the opening of a call may hold up a live one that could go on

Connect = Callable[[Any], Awaitable[StageCall]]
# Told the name of the stage, the cause ("broken", "silent" or "moved") and for how many seconds no
# results came; None where none were missed.
OnRecovery = Callable[[str, str, float | None], Awaitable[None]]
# Told a checkpoint, the messages that it contains and the one before did not, and the number of the
# item that follows the results before it.
OnCheckpoint = Callable[[stage.Checkpoint, list[dict[str, Any]], int], Awaitable[None]]


@dataclass(frozen=True)
class _Stall:
    """Results are missing."""

    cause: str
    began: float  # on the clock of `time.perf_counter`
    noticed: float


class ResilientStream:
    """`open`, then `send` and `receive` side by side, `end`, `cancel`.

    `receive` performs the reconnection: blocked senders go on only while some task awaits it. The
    stream itself counts how far it has got, so that a call knows whether its stage owes a result.
    """

    def __init__(
        self,
        name: str,
        connect: Connect,
        patience: float,
        on_recovery: OnRecovery,
        silence: float | None = None,
        on_checkpoint: OnCheckpoint | None = None,
        *,
        rates: tuple[int, int],
    ) -> None:
        """
        :param connect: opens a call with a configuration; raises ServiceError.
        :param patience: seconds within which a broken stream must go on.
        :param on_recovery: called with the first result after a break, and after a move.
        :param silence: seconds without a result that is owed after which another replica is
            preferred; None: only the call's own limit.
        :param on_checkpoint: called with each checkpoint.
        :param rates: items a second of what the stage takes (samples, rows or motion frames) and
            of what it gives (rows, motion frames or pictures).
        """
        self.name = name
        self.opened = time.perf_counter()
        self.results = 0
        self.first_result: float | None = None
        self.last_result: float | None = None
        self._connect = connect
        self._patience = patience
        self._on_recovery = on_recovery
        self._silence = silence
        self._on_checkpoint = on_checkpoint
        self._input_rate, self._output_rate = rates
        self._configuration: Any = None
        self._checkpoint: stage.Checkpoint | None = None
        self._call: StageCall | None = None
        self._held: deque[dict[str, Any]] = deque()  # sent since the checkpoint
        self._dropped = 0  # of those that the present call was sent
        self._taken = 0  # number of the item that follows those sent
        self._next = 0  # index of the first item not yet received
        self._breaks = 0  # since the last result
        self._silences = 0  # ... and calls given up for silence
        self._stall: _Stall | None = None
        self._ended = False
        self._writing = asyncio.Lock()
        self._settled = asyncio.Event()  # cleared while it is not known which call goes on
        self._settled.set()
        self._resending: asyncio.Task[None] | None = None
        self._moving: asyncio.Task[None] | None = None

    @property
    def info(self) -> stage.StageInfo:
        """Who serves the stream; empty before it is open."""
        return stage.StageInfo() if self._call is None else self._call.info

    @property
    def call(self) -> StageCall:
        """The call that serves the stream now."""
        assert self._call is not None, "the stream is not open"
        return self._call

    @property
    def held(self) -> list[dict[str, Any]]:
        """The messages sent since the last checkpoint."""
        return list(self._held)

    async def open(self, configuration: Any, first: int = 0, taken: int = 0) -> None:
        """Take the stream.

        :param first: number of the first item that is wanted.
        :param taken: number of the first item that will be sent.
        :raises ServiceError: what the stage refuses with, or STAGE_UNAVAILABLE.
        """
        configuration.checkpoints = True
        self._next, self._taken = first, taken
        self._configuration = configuration
        await self._take_up()
        # Nothing is owed for what came before.
        self.call.sent_until = self.call.received_until = first / self._output_rate

    async def send(self, **payload: Any) -> None:
        """Send a message; waits while the stage does not take it, or is away.

        :raises ServiceError: the stage's error.
        """
        async with self._writing:
            self._held.append(payload)
            before, self._taken = self._taken, items_after(payload, self._taken)
            await self._try(self.call.send(**payload))
            if (
                self._taken > before and "dropped_motion" not in payload
            ):  # for which nothing is given
                self.call.sent_until = self._taken / self._input_rate

    async def end(self) -> None:
        """Say that no more messages come."""
        async with self._writing:
            self._ended = True
            await self._try(self.call.end())

    async def receive(self) -> Any | None:
        """The next result, or None after the last.

        :raises ServiceError: the stage's error, or STAGE_UNAVAILABLE when it is away too long.
        """
        while True:
            call = self.call
            try:
                answer = await call.receive()
            except ServiceError as error:
                await self._settled.wait()
                if call is self._call:
                    await self._recover(error)
                continue
            except asyncio.CancelledError:
                if _cancelled() or call is self._call:
                    raise
                continue  # it was the call that was left
            await self._settled.wait()
            if call is not self._call:
                continue  # the other call says it again
            if answer is None:
                await self._go_on()
                return None
            if answer.WhichOneof("payload") == "checkpoint":
                contained = self._keep(answer.checkpoint)
                if self._on_checkpoint is not None:
                    await self._on_checkpoint(answer.checkpoint, contained, self._next)
                continue
            first, count = _place(answer)
            if first < self._next:
                continue  # told before the break
            self._next = first + count
            self.call.received_until = self._next / self._output_rate
            self.results += 1
            self.last_result = time.perf_counter()
            self.first_result = self.first_result or self.last_result
            await self._go_on()
            return answer

    def move(self) -> None:
        """Go on at another replica, if there is one: this one is leaving."""
        if self._moving is None or self._moving.done():
            self._moving = asyncio.create_task(self._move())

    def cancel(self) -> None:
        """Give the stream up; its slot becomes free."""
        for task in (self._resending, self._moving):
            if task is not None:
                task.cancel()
        if self._call is not None:
            self._call.replica.streams.discard(self)
            self._call.cancel()

    async def _take_up(self) -> None:
        """Open a call, and make it the present one.

        :raises ServiceError: it cannot be opened; nothing has changed.
        """
        configuration = self._configuration
        if self._checkpoint is not None:  # into a copy: a message keeps what it has ever held
            configuration = type(configuration)()
            configuration.CopyFrom(self._configuration)
            configuration.resume.CopyFrom(self._checkpoint)
        if self.name == "renderer":  # pictures are dear: it makes none that have come already
            configuration.first_frame = self._next
        call = await self._connect(configuration)
        self._hurry(call)
        if self._call is not None:
            call.sent_until = self._call.sent_until
            call.received_until = self._call.received_until
            call.slowest = self._call.slowest
            self._call.replica.streams.discard(self)
        call.replica.streams.add(self)
        self._call = call

    async def _try(self, sending: Awaitable[None]) -> None:
        """Send; where the call is broken, the receiver opens another and sends all that is held."""
        try:
            await sending
        except ServiceError as error:
            if error.reason not in _BROKEN:
                raise
        except asyncio.CancelledError:
            if _cancelled():
                raise  # else it was the call that was left

    def _keep(self, checkpoint: stage.Checkpoint) -> list[dict[str, Any]]:
        """Hold a checkpoint in place of the messages that it contains, which are returned."""
        contained = [self._held.popleft() for _ in range(checkpoint.messages - self._dropped)]
        self._dropped = checkpoint.messages
        self._checkpoint = checkpoint
        return contained

    def _hurry(self, call: StageCall) -> None:
        if self._silence is not None:
            call.hurry(self._silence * 2**self._silences)

    async def _recover(self, error: ServiceError) -> None:
        """Open another call and begin to send it what it lacks."""
        silent, now = isinstance(error, StageSilentError), time.perf_counter()
        if self._stall is None:
            cause = "silent" if silent else "broken"
            self._stall = _Stall(cause, now - self.call.owing, now)
        self._breaks += not silent
        self._silences += silent
        until = self._stall.noticed + self._patience
        if error.reason not in _BROKEN or self._breaks > _FUTILE or now > until:
            raise error
        log.warning("event=stream_broken stage=%s %s", self.name, error)
        self.call.replica.lost(silent=silent)
        self.call.cancel()
        await self._writing.acquire()
        try:
            while True:
                try:
                    await self._change_over()
                    break
                except ServiceError as again:
                    late = time.perf_counter() + _PAUSE_SECONDS > until
                    if again.reason not in _PASSING or late:
                        raise
                    await asyncio.sleep(_PAUSE_SECONDS)
        except BaseException:
            self._writing.release()
            raise

    async def _go_on(self) -> None:
        """A result has come."""
        if self._stall is not None:
            stall, self._stall = self._stall, None
            self._breaks = self._silences = 0
            self._hurry(self.call)
            await self._on_recovery(self.name, stall.cause, time.perf_counter() - stall.began)

    async def _move(self) -> None:
        """Open another call while this one lives, and then leave it."""
        await self._writing.acquire()
        left = self.call
        self._settled.clear()
        try:
            if left.replica.leaving:
                live = self._silence is not None
                async with asyncio.timeout(_MOVE_SECONDS if live else self._patience):
                    await self._change_over()
        except (ServiceError, TimeoutError) as error:  # nobody else has room: it may finish it
            log.info("event=stream_stays stage=%s %s", self.name, error)
        finally:
            self._settled.set()
            if self.call is left:
                self._writing.release()
        if self.call is not left:
            log.info("event=stream_moved stage=%s replica=%s", self.name, self.info.replica)
            left.cancel()
            await self._on_recovery(self.name, "moved", None)

    async def _change_over(self) -> None:
        """Another call in place of the present one; `_writing` is held, and by `_resend` then.

        :raises ServiceError: it cannot be opened; nothing has changed.
        """
        await self._take_up()
        self._dropped = 0
        # Side by side with receiving, without which the stage would soon take no more.
        self._resending = asyncio.create_task(self._resend(self.call))

    async def _resend(self, call: StageCall) -> None:
        """Send what is held; `_writing` is held from before the call was opened."""
        try:
            for payload in list(self._held):
                await call.send(**payload)
            if self._ended:
                await call.end()
        except ServiceError:
            pass  # the receiver is told the same
        finally:
            self._writing.release()


def _cancelled() -> bool:
    """Whether the running task is, and not just a call in it."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _place(answer: Any) -> tuple[int, int]:
    """Index of a result's first item, and how many it holds."""
    match answer.WhichOneof("payload"):
        case "features":
            return answer.features.first_row, answer.features.rows
        case "motion":
            frames = answer.motion.frames
            return (frames[0].index if frames else 0), len(frames)
        case _:
            return answer.frame.index, 1
