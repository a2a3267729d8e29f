"""One call of a stage, with its deadlines."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Self

import grpc

from talkingface.contract.call_status import CallStatus, is_connection_lost
from talkingface.contract.errors import ServiceError
from talkingface.orchestrator.config import OrchestratorConfig
from talkingface.orchestrator.stages.replicas import Replica
from talkingface.v1 import stage_pb2 as stage

# A stage may hold this much more than its look-ahead before it owes a result; where sound comes by
# the clock, a block (40 ms) and what is on its way.
_SLACK_SECONDS = 0.5
_LIVE_SLACK_SECONDS = 0.08
_MAX_TICK_SECONDS = 1.0
_FORGET = 0.99  # what remains with each result of how slow a stage was


def stage_error(name: str, error: grpc.aio.AioRpcError, told: ServiceError) -> ServiceError:
    """What a client is told of a stage's error: the stage's own reason where it gave one.

    :param told: what has been made out of `error`.
    """
    if is_connection_lost(error):  # told by gRPC, whose text holds addresses
        told = ServiceError("STAGE_UNAVAILABLE", f"{name} cannot be reached")
    told.metadata = {**told.metadata, "stage": name}
    return told


class StageSilentError(ServiceError):
    """STAGE_UNAVAILABLE: nothing has broken off, but no answer comes."""


class StageCall:
    """One call of one stage: `open`, then `send` and `receive` side by side, `end`, `cancel`.

    `sent_until` and `received_until` (seconds of the session) are kept by the stream that uses the
    call; from them it is known whether the stage owes a result, and `owing` for how many seconds.
    `slowest` is the recent maximum of that: it raises the patience, so that a slow cluster is not
    taken for a silent replica.
    """

    def __init__(
        self,
        name: str,
        method: Any,
        requests: Any,
        config: OrchestratorConfig,
        replica: Replica,
        elsewhere: Callable[[], float | None],
    ) -> None:
        """
        :param method: the stub's bidirectional method.
        :param requests: class of its messages, with the fields `config` and `end`.
        :param replica: whose method it is.
        :param elsewhere: how many times its patience the call waits for a result before another
            replica is preferred; None: there is none that could go on.
        """
        self.name = name
        self.replica = replica
        self.info = stage.StageInfo()
        self.sent_until = 0.0
        self.received_until = 0.0
        self.owing = 0.0
        self.slowest = 0.0
        self._requests = requests
        self._config = config
        self._elsewhere = elsewhere
        self._patience = config.stage_timeout
        self._slack = _SLACK_SECONDS
        self._call = method()
        self._status = CallStatus(self._call)
        self._ended = False
        self._writing = asyncio.Lock()
        self._sending: asyncio.Future[Any] | None = None

    async def open(self, configuration: Any, within: float) -> Self:
        """Take the call: send the configuration, wait until the stage holds a slot.

        :param within: seconds that this may take.
        :raises ServiceError: what the stage refuses with, or STAGE_UNAVAILABLE. It is over then.
        """
        try:
            with self.replica.opening():
                await self._open(configuration, within)
        except BaseException:
            self.cancel()
            raise
        self.on_end(self.replica.ended)
        return self

    async def _open(self, configuration: Any, within: float) -> None:
        try:
            async with asyncio.timeout(within):
                # The read comes first: without one, a refusal might not arrive (see `CallStatus`).
                reading = asyncio.ensure_future(self._guard(self._call.read()))
                try:
                    await self.send(config=configuration)
                except ServiceError:
                    pass  # the read tells why
                except BaseException:
                    reading.cancel()
                    raise
                answer = await reading
        except TimeoutError:
            raise self._silent("did not take the stream in time") from None
        if answer is grpc.aio.EOF or answer.WhichOneof("payload") != "started":
            raise self._unavailable("did not say that it had started")
        self.info = answer.started

    def hurry(self, patience: float) -> None:
        """Owe results at the pace of the clock, and no longer than so many seconds where another
        replica could give them."""
        self._patience = min(patience, self._config.stage_timeout)
        self._slack = _LIVE_SLACK_SECONDS

    async def send(self, **payload: Any) -> None:
        """Send a message; waits while the stage does not take it.

        :raises ServiceError: the stage's error.
        """
        async with self._writing:
            self._sending = asyncio.ensure_future(
                self._guard(self._call.write(self._requests(**payload)))
            )
            await self._sending

    async def end(self) -> None:
        """Say that no more messages come."""
        await self.send(end={})
        self._ended = True
        await self._guard(self._call.done_writing())

    async def receive(self) -> Any | None:
        """The next result, or None after the last.

        :raises ServiceError: the stage's error, or STAGE_UNAVAILABLE when it owes a result for
            longer than `stage_timeout`.
        """
        tick = min(self._patience / 8, _MAX_TICK_SECONDS)
        self.owing = 0.0
        reading = asyncio.ensure_future(self._guard(self._call.read()))
        try:
            # Counted by turns of the loop, and not by the clock: when this process itself stood
            # still, the results lie here unread.
            while not (await asyncio.wait([reading], timeout=tick))[0]:
                self.owing = self.owing + tick if self._owes() else 0.0
                if self.owing > self._patience and self.owing > self._limit():
                    raise self._silent(f"gave no result for {self.owing:.2g} s")
            answer = reading.result()
            self.slowest = max(self.owing, _FORGET * self.slowest)
        finally:
            reading.cancel()
        if answer is grpc.aio.EOF:
            return None
        return answer

    def on_end(self, callback: Callable[[], Any]) -> None:
        """Have something called when the call is over, however it ends."""
        self._call.add_done_callback(lambda _: callback())

    def cancel(self) -> None:
        """Give the stream up; its slot becomes free."""
        self._call.cancel()
        if self._sending is not None:  # over a dead connection gRPC itself would not let it go
            self._sending.cancel()

    def _owes(self) -> bool:
        ahead = self.sent_until - self.received_until
        return self._ended or ahead > self.info.look_ahead_ms / 1000 + self._slack

    def _limit(self) -> float:
        """Seconds for which a result may be owed."""
        times, most = self._elsewhere(), self._config.stage_timeout
        if times is None:
            return most
        return min(times * (self._patience + min(2 * self.slowest, self._patience)), most)

    def _unavailable(self, problem: str, kind: type[ServiceError] = ServiceError) -> ServiceError:
        return kind("STAGE_UNAVAILABLE", f"{self.name} {problem}", metadata={"stage": self.name})

    def _silent(self, problem: str) -> ServiceError:
        return self._unavailable(problem, StageSilentError)

    async def _guard(self, operation: Any) -> Any:
        """Await an operation of gRPC; its failures become `ServiceError`."""
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
