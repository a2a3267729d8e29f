"""The orchestrator's side of the three stages: one stream to each, with deadlines and timings."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc

from talkingface.contract.channel import MAX_CHUNK_BYTES
from talkingface.contract.errors import ServiceError
from talkingface.orchestrator.config import OrchestratorConfig
from talkingface.orchestrator.stages.call import StageCall, StageSilentError, stage_error
from talkingface.orchestrator.stages.replicas import POLL_SECONDS, Replica, Replicas
from talkingface.serving.metrics import Metrics
from talkingface.v1 import audio_features_pb2 as audio_features
from talkingface.v1 import audio_features_pb2_grpc as audio_features_grpc
from talkingface.v1 import motion_gen_pb2 as motion_gen
from talkingface.v1 import motion_gen_pb2_grpc as motion_gen_grpc
from talkingface.v1 import renderer_pb2 as renderer
from talkingface.v1 import renderer_pb2_grpc as renderer_grpc
from talkingface.v1 import stage_pb2 as stage

log = logging.getLogger(__name__)

# How many times its patience a live session waits for a result where the only other replica fell
# silent itself, or would have to prepare the portrait first, which takes more than a second.
_SUSPECT = 2.0
_UNPREPARED = 4.0
# Within which a stage must take a stream that another replica might take.
_HURRY_SECONDS = 0.4
# A renderer that takes no streams for more polls than these does not prepare portraits either.
_AWAY_POLLS = 4


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
