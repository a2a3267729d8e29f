"""The orchestrator's side of the three stages: one stream to each, with deadlines and timings."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Self

import grpc

from talkingface.contract.call_status import CallStatus
from talkingface.contract.errors import ServiceError
from talkingface.orchestrator.config import OrchestratorConfig
from talkingface.orchestrator.stages.replicas import POLL_SECONDS, Replica, Replicas
from talkingface.serving.config import MAX_CHUNK_BYTES
from talkingface.serving.metrics import Metrics
from talkingface.v1 import audio_features_pb2 as audio_features
from talkingface.v1 import audio_features_pb2_grpc as audio_features_grpc
from talkingface.v1 import motion_gen_pb2 as motion_gen
from talkingface.v1 import motion_gen_pb2_grpc as motion_gen_grpc
from talkingface.v1 import renderer_pb2 as renderer
from talkingface.v1 import renderer_pb2_grpc as renderer_grpc
from talkingface.v1 import stage_pb2 as stage

log = logging.getLogger(__name__)

# A stage may hold this much more than its look-ahead before it owes a result; where sound comes by
# the clock, a block (40 ms) and what is on its way.
_SLACK_SECONDS = 0.5
_LIVE_SLACK_SECONDS = 0.08
_MAX_TICK_SECONDS = 1.0
_FORGET = 0.99  # what remains with each result of how slow a stage was
# How many times its patience a live session waits for a result where the only other replica fell
# silent itself, or would have to prepare the portrait first, which takes more than a second.
_SUSPECT = 2.0
_UNPREPARED = 4.0
# Within which a stage must take a stream that another replica might take.
_HURRY_SECONDS = 0.4
# A renderer that takes no streams for more polls than these does not prepare portraits either.
_AWAY_POLLS = 4
# Codes that gRPC itself gives when the other side, or the way to it, is gone.
_GONE = (grpc.StatusCode.CANCELLED, grpc.StatusCode.UNKNOWN, grpc.StatusCode.UNAVAILABLE)


def stage_error(name: str, error: grpc.aio.AioRpcError, told: ServiceError) -> ServiceError:
    """What a client is told of a stage's error: the stage's own reason where it gave one.

    :param told: what has been made out of `error`.
    """
    typed = any(key == "grpc-status-details-bin" for key, _ in error.trailing_metadata() or ())
    if not typed and error.code() in _GONE:  # by gRPC, whose text holds addresses
        told = ServiceError("STAGE_UNAVAILABLE", f"{name} cannot be reached")
    told.metadata = {**told.metadata, "stage": name}
    return told


class StageSilentError(ServiceError):
    """STAGE_UNAVAILABLE: nothing has broken off, but no answer comes."""


class StageCall:
    """One call of one stage: `open`, then `send` and `receive` side by side, `end`, `cancel`.

    `sent_until` and `received_until` (seconds of the session) are kept by the user of the call;
    from them it is known whether the stage owes a result, `owing` for how many seconds, and for how
    many it did at its `slowest` of late: where all are slow, nobody is soon called silent.
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
                # The read comes first: without one, a refusal might not be told (`contract.call_status`).
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


# Stub, method and class of the requests of every stage, in the order of the data.
_METHODS: dict[str, tuple[Any, str, Any]] = {
    "audio_features": (
        audio_features_grpc.AudioFeaturesServiceStub, "Extract", audio_features.ExtractRequest
    ),
    "motion_gen": (motion_gen_grpc.MotionGenServiceStub, "Generate", motion_gen.GenerateRequest),
    "renderer": (renderer_grpc.RendererServiceStub, "Render", renderer.RenderRequest),
}  # fmt: skip
# Refusals after which another replica is tried.
_ELSEWHERE = ("NO_CAPACITY", "STAGE_UNAVAILABLE", "DRAINING", "CHECKPOINT_MISMATCH")

# Gives a renderer the portrait that it lacks.
Bring = Callable[[Replica], Awaitable[None]]


class Stages:
    """The three stages and their replicas."""

    def __init__(self, config: OrchestratorConfig, metrics: Metrics | None = None) -> None:
        self.config = config
        self.metrics = metrics or Metrics("orchestrator")
        self._replicas = {
            name: Replicas(name, getattr(config, f"{name}_target"), self.metrics)
            for name in _METHODS
        }

    async def start(self) -> None:
        """Begin to ask the replicas how they are; returns when those that answer have."""
        await asyncio.gather(*(replicas.start() for replicas in self._replicas.values()))

    async def close(self) -> None:
        """End the connections, and with them all streams."""
        for replicas in self._replicas.values():
            await replicas.close()

    @property
    def slots(self) -> int:
        """Sessions that the stages carry, as far as they are heard of."""
        slots = [r.slots for r in self._replicas.values() if r.info is not None]
        return min(slots, default=0)

    def check_room(self, pictures: bool) -> None:
        """Refuse a session that will not find room, before anything is done for it.

        :param pictures: whether it needs a renderer.
        :raises ServiceError: NO_CAPACITY.
        """
        for name, replicas in self._replicas.items():
            if replicas.full and (pictures or name != "renderer"):
                raise ServiceError(
                    "NO_CAPACITY", f"all slots of {name} are taken", metadata={"stage": name}
                )

    def infos(self) -> list[stage.StageInfo]:
        """What the stages say of themselves, as far as they are heard of."""
        infos = (replicas.info for replicas in self._replicas.values())
        return [info for info in infos if info is not None]

    async def open(
        self, name: str, configuration: Any, bring: Bring | None = None, *, live: bool = False
    ) -> StageCall:
        """A call of a stage: at the emptiest replica, or the next one that takes it.

        :param bring: called where a renderer lacks the portrait, which is then tried again; for a
            live session, which cannot wait for it, after those that have the portrait.
        :raises ServiceError: what the stage refuses with; NO_CAPACITY where all replicas are full.
        """
        refusal: ServiceError | None = None
        portrait = configuration.portrait_handle if name == "renderer" else ""
        waiting = deque((replica, False) for replica in await self._replicas[name].candidates())
        while waiting:
            replica, lacks = waiting.popleft()
            within = self.config.stage_open_timeout
            if waiting:
                within = min(within, _HURRY_SECONDS)
            try:
                if lacks:
                    assert bring is not None
                    await bring(replica)
                call = await self._call(name, replica, portrait).open(configuration, within)
                if portrait:
                    replica.has(portrait)
                return call
            except ServiceError as error:
                if error.reason == "PORTRAIT_NOT_FOUND" and bring is not None and not lacks:
                    (waiting.append if live else waiting.appendleft)((replica, True))
                else:
                    refusal = _refused(replica, error, refusal)
        assert refusal is not None, "there is at least one candidate"
        raise refusal

    def other_than(self, name: str, replica: Replica, portrait: str = "") -> Replica | None:
        """Where a stream of this replica could go on; see `Replicas`."""
        return self._replicas[name].other_than(replica, portrait)

    def _elsewhere(self, name: str, replica: Replica, portrait: str) -> float | None:
        """See `StageCall`: the better somebody is prepared, the sooner the stream goes there."""
        other = self.other_than(name, replica, portrait)
        if other is None:
            return None
        if portrait and portrait not in other.portraits:
            return _UNPREPARED
        return _SUSPECT if other.suspect else 1.0

    def _call(self, name: str, replica: Replica, portrait: str = "") -> StageCall:
        stub, method, requests = _METHODS[name]
        return StageCall(
            name,
            getattr(stub(replica.channel), method),
            requests,
            self.config,
            replica,
            lambda: self._elsewhere(name, replica, portrait),
        )

    async def prepare_portrait(self, image: bytes) -> renderer.Portrait:
        """Have a portrait prepared by the emptiest renderer, or the next one that does it.

        :raises ServiceError: what the renderer refuses with, or STAGE_UNAVAILABLE.
        """
        refusal: ServiceError | None = None
        for replica in await self._replicas["renderer"].candidates():
            try:
                return await self.prepare_portrait_at(replica, image)
            except ServiceError as error:
                refusal = _refused(replica, error, refusal)
        assert refusal is not None, "there is at least one candidate"
        raise refusal

    async def prepare_portrait_at(self, replica: Replica, image: bytes) -> renderer.Portrait:
        """Have one renderer prepare a portrait.

        :raises ServiceError: what the renderer refuses with, or STAGE_UNAVAILABLE.
        """

        async def pieces() -> AsyncIterator[renderer.PreparePortraitRequest]:
            for first in range(0, max(1, len(image)), MAX_CHUNK_BYTES):
                piece = image[first : first + MAX_CHUNK_BYTES]
                yield renderer.PreparePortraitRequest(data=piece)

        call = asyncio.ensure_future(
            renderer_grpc.RendererServiceStub(replica.channel).PreparePortrait(
                pieces(), timeout=self.config.portrait_timeout
            )
        )
        away = 0
        try:
            while not (await asyncio.wait([call], timeout=POLL_SECONDS))[0]:
                away = 0 if replica.serving else away + 1
                if away > _AWAY_POLLS:
                    raise StageSilentError("STAGE_UNAVAILABLE", "the renderer does not answer")
            response = call.result()
        except grpc.aio.AioRpcError as error:
            raise stage_error("renderer", error, ServiceError.from_rpc(error)) from None
        finally:
            call.cancel()
        portrait: renderer.Portrait = response.portrait
        replica.has(portrait.handle)
        return portrait


def _refused(replica: Replica, error: ServiceError, before: ServiceError | None) -> ServiceError:
    """Take note of a refusal after which another replica is tried.

    :param before: what others have refused with.
    :return: what is told if nobody does it.
    :raises ServiceError: `error`, where no other would do it either.
    """
    if error.reason not in _ELSEWHERE:
        raise error
    if error.reason == "STAGE_UNAVAILABLE":
        replica.lost(silent=isinstance(error, StageSilentError))
    return error if before is None or error.reason == "NO_CAPACITY" else before
