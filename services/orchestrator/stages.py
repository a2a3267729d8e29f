"""The orchestrator's side of the three stages: one stream to each, with deadlines and timings."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Self

import grpc

from talkingface.common.config import MAX_CHUNK_BYTES
from talkingface.common.errors import ServiceError
from talkingface.common.rpc import CallStatus
from talkingface.orchestrator.config import OrchestratorConfig
from talkingface.orchestrator.replicas import Replica, Replicas
from talkingface.v1 import audio_features_pb2 as audio_features
from talkingface.v1 import audio_features_pb2_grpc as audio_features_grpc
from talkingface.v1 import motion_gen_pb2 as motion_gen
from talkingface.v1 import motion_gen_pb2_grpc as motion_gen_grpc
from talkingface.v1 import renderer_pb2 as renderer
from talkingface.v1 import renderer_pb2_grpc as renderer_grpc
from talkingface.v1 import stage_pb2 as stage

log = logging.getLogger(__name__)

# A stage may hold this much more than its look-ahead before it owes a result.
_SLACK_SECONDS = 0.5
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


class StageCall:
    """One call of one stage: `open`, then `send` and `receive` side by side, `end`, `cancel`.

    `sent_until` and `received_until` (seconds of the session) are kept by the user of the call;
    from them it is known whether the stage owes a result.
    """

    def __init__(
        self, name: str, method: Any, requests: Any, config: OrchestratorConfig, replica: Replica
    ) -> None:
        """
        :param method: the stub's bidirectional method.
        :param requests: class of its messages, with the fields `config` and `end`.
        :param replica: whose method it is.
        """
        self.name = name
        self.replica = replica
        self.info = stage.StageInfo()
        self.sent_until = 0.0
        self.received_until = 0.0
        self._requests = requests
        self._config = config
        self._call = method()
        self._status = CallStatus(self._call)
        self._ended = False
        self._writing = asyncio.Lock()

    async def open(self, configuration: Any) -> Self:
        """Take the call: send the configuration, wait until the stage holds a slot.

        :raises ServiceError: what the stage refuses with, or STAGE_UNAVAILABLE. It is over then.
        """
        try:
            await self._open(configuration)
        except BaseException:
            self.cancel()
            raise
        self.replica.opened()
        return self

    async def _open(self, configuration: Any) -> None:
        try:
            async with asyncio.timeout(self._config.stage_open_timeout):
                # The read comes first: without one, a refusal might not be told (`common.rpc`).
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
            raise self._unavailable("did not take the stream in time") from None
        if answer is grpc.aio.EOF or answer.WhichOneof("payload") != "started":
            raise self._unavailable("did not say that it had started")
        self.info = answer.started

    async def send(self, **payload: Any) -> None:
        """Send a message; waits while the stage does not take it.

        :raises ServiceError: the stage's error.
        """
        async with self._writing:
            await self._guard(self._call.write(self._requests(**payload)))

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
        patience = self._config.stage_timeout
        owing_since: float | None = None
        reading = asyncio.ensure_future(self._guard(self._call.read()))
        try:
            while not (await asyncio.wait([reading], timeout=patience / 4))[0]:
                now = time.perf_counter()
                if not self._owes():
                    owing_since = None
                elif owing_since is None:
                    owing_since = now
                elif now - owing_since > patience:
                    raise self._unavailable(f"gave no result for {patience:g} s")
            answer = reading.result()
        finally:
            reading.cancel()
        if answer is grpc.aio.EOF:
            return None
        return answer

    def cancel(self) -> None:
        """Give the stream up; its slot becomes free."""
        self._call.cancel()

    def _owes(self) -> bool:
        ahead = self.sent_until - self.received_until
        return self._ended or ahead > self.info.look_ahead_ms / 1000 + _SLACK_SECONDS

    def _unavailable(self, problem: str) -> ServiceError:
        return ServiceError(
            "STAGE_UNAVAILABLE", f"{self.name} {problem}", metadata={"stage": self.name}
        )

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

    def __init__(self, config: OrchestratorConfig) -> None:
        self._config = config
        self._replicas = {
            name: Replicas(name, getattr(config, f"{name}_target")) for name in _METHODS
        }

    async def close(self) -> None:
        """End the connections, and with them all streams."""
        for replicas in self._replicas.values():
            await replicas.close()

    def infos(self) -> list[stage.StageInfo]:
        """What the stages say of themselves, as far as they are heard of."""
        infos = (replicas.info for replicas in self._replicas.values())
        return [info for info in infos if info is not None]

    async def open(self, name: str, configuration: Any, bring: Bring | None = None) -> StageCall:
        """A call of a stage: at the emptiest replica, or the next one that takes it.

        :param bring: called where a renderer lacks the portrait, which is then tried again.
        :raises ServiceError: what the stage refuses with; NO_CAPACITY where all replicas are full.
        """
        refusal: ServiceError | None = None
        for replica in await self._replicas[name].candidates():
            for brought in (False, True):
                try:
                    return await self._call(name, replica).open(configuration)
                except ServiceError as error:
                    if error.reason == "PORTRAIT_NOT_FOUND" and bring is not None and not brought:
                        await bring(replica)
                        continue
                    if error.reason == "STAGE_UNAVAILABLE":
                        replica.lost()
                    elif error.reason not in _ELSEWHERE:
                        raise
                    if refusal is None or error.reason == "NO_CAPACITY":
                        refusal = error
                    break
        assert refusal is not None, "there is at least one candidate"
        raise refusal

    def _call(self, name: str, replica: Replica) -> StageCall:
        stub, method, requests = _METHODS[name]
        call = getattr(stub(replica.channel), method)
        return StageCall(name, call, requests, self._config, replica)

    async def prepare_portrait(
        self, image: bytes, replica: Replica | None = None
    ) -> renderer.Portrait:
        """Have a renderer prepare a portrait.

        :param replica: which; None takes the emptiest.
        :raises ServiceError: what the renderer refuses with, or STAGE_UNAVAILABLE.
        """

        async def pieces() -> AsyncIterator[renderer.PreparePortraitRequest]:
            for first in range(0, max(1, len(image)), MAX_CHUNK_BYTES):
                piece = image[first : first + MAX_CHUNK_BYTES]
                yield renderer.PreparePortraitRequest(data=piece)

        if replica is None:
            replica = (await self._replicas["renderer"].candidates())[0]
        try:
            response = await renderer_grpc.RendererServiceStub(replica.channel).PreparePortrait(
                pieces(), timeout=self._config.portrait_timeout
            )
        except grpc.aio.AioRpcError as error:
            raise stage_error("renderer", error, ServiceError.from_rpc(error)) from None
        portrait: renderer.Portrait = response.portrait
        return portrait
