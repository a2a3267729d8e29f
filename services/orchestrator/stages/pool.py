"""The three stages: which replica gets a call, and which one prepares a portrait."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial

import grpc

from talkingface.contract.channel import MAX_CHUNK_BYTES
from talkingface.contract.errors import ServiceError
from talkingface.contract.stage_streams import StreamConfig, StreamRequest, StreamResponse
from talkingface.orchestrator.config import OrchestratorConfig
from talkingface.orchestrator.stages.call import StageCall, StageSilentError, stage_error
from talkingface.orchestrator.stages.methods import StageMethod
from talkingface.orchestrator.stages.replicas import POLL_SECONDS, Replica, Replicas
from talkingface.serving.metrics import Metrics
from talkingface.v1 import renderer_pb2 as renderer
from talkingface.v1 import renderer_pb2_grpc as renderer_grpc
from talkingface.v1 import stage_pb2 as stage

log = logging.getLogger(__name__)

# Multiples of its timeout that a live session waits for a result if the only other replica was
# silent itself recently, or would have to prepare the portrait first, which takes over a second.
_SILENT_FACTOR = 2.0
_UNPREPARED_FACTOR = 4.0
# Seconds within which a stage must accept a stream that another replica could accept.
_QUICK_OPEN_SECONDS = 0.4
# Consecutive failed polls after which the preparation of a portrait counts as failed, too.
_MAX_FAILED_POLLS = 4

_NAMES = ("audio_features", "motion_gen", "renderer")  # in the order of the data
# Reasons of a refusal after which another replica is tried.
_ELSEWHERE = ("NO_CAPACITY", "STAGE_UNAVAILABLE", "DRAINING", "CHECKPOINT_MISMATCH")

# Makes a renderer prepare the portrait that it lacks.
PreparePortrait = Callable[[Replica], Awaitable[None]]


class Stages:
    """The three stages and their replicas."""

    def __init__(self, config: OrchestratorConfig, metrics: Metrics | None = None) -> None:
        """
        :param metrics: metrics of the service; None to discard them.
        """
        self.config = config
        self.metrics = metrics or Metrics("orchestrator")
        self._replicas = {
            name: Replicas(name, getattr(config, f"{name}_target"), self.metrics) for name in _NAMES
        }

    async def start(self) -> None:
        """Start to poll the replicas; return when those that respond have been polled."""
        await asyncio.gather(*(replicas.start() for replicas in self._replicas.values()))

    async def close(self) -> None:
        """Close the connections, and with them all streams."""
        for replicas in self._replicas.values():
            await replicas.close()

    @property
    def slots(self) -> int:
        """Sessions that the stages have slots for, as far as their replicas respond."""
        slots = [r.slots for r in self._replicas.values() if r.info is not None]
        return min(slots, default=0)

    @property
    def measurable(self) -> list[Replicas]:
        """The stages, in the order of the data."""
        return list(self._replicas.values())

    def check_capacity(self, *, renders: bool) -> None:
        """Refuse a session for which a stage has no slot, before anything is done for it.

        :param renders: whether it needs a renderer.
        :raises ServiceError: NO_CAPACITY.
        """
        for name, replicas in self._replicas.items():
            if replicas.full and (renders or name != "renderer"):
                raise ServiceError(
                    "NO_CAPACITY", f"all slots of {name} are taken", metadata={"stage": name}
                )

    def infos(self) -> list[stage.StageInfo]:
        """Return the descriptions of the stages of which a replica responds."""
        infos = (replicas.info for replicas in self._replicas.values())
        return [info for info in infos if info is not None]

    async def open(
        self,
        method: StageMethod[StreamConfig, StreamRequest, StreamResponse],
        config: StreamConfig,
        prepare: PreparePortrait | None = None,
        *,
        live: bool = False,
    ) -> StageCall[StreamConfig, StreamRequest, StreamResponse]:
        """Open a call of a stage: at the replica with the most free slots, or the next one.

        :param config: configuration of the stream.
        :param prepare: called if a renderer lacks the portrait, which is then tried again; for a
            live session, which cannot wait for it, after those that have the portrait.
        :raises ServiceError: the refusal of the stage: CHECKPOINT_MISMATCH if any replica is of
            another build than the checkpoint and none accepts it.
        """
        refusal: ServiceError | None = None
        portrait = method.portrait(config)
        candidates = await self._replicas[method.name].candidates()
        waiting = deque((replica, False) for replica in candidates)
        while waiting:
            replica, unprepared = waiting.popleft()
            within = self.config.stage_open_timeout
            if waiting:
                within = min(within, _QUICK_OPEN_SECONDS)
            try:
                if unprepared:
                    assert prepare is not None
                    await prepare(replica)
                call = await self._call(method, replica, portrait).open(config, within)
                if portrait:
                    replica.add_portrait(portrait)
                return call
            except ServiceError as error:
                lacks_portrait = error.reason == "PORTRAIT_NOT_FOUND" and prepare is not None
                if lacks_portrait and not unprepared:
                    (waiting.append if live else waiting.appendleft)((replica, True))
                else:
                    refusal = _refused(replica, error, refusal)
        assert refusal is not None, "there is at least one candidate"
        raise refusal

    def other_than(self, name: str, replica: Replica, portrait: str = "") -> Replica | None:
        """Return a replica at which a stream of this one could continue; see `Replicas`."""
        return self._replicas[name].other_than(replica, portrait)

    def _elsewhere(self, name: str, replica: Replica, portrait: str) -> float | None:
        """See `StageCall`: the better another replica is prepared, the sooner it is preferred."""
        other = self.other_than(name, replica, portrait)
        if other is None:
            return None
        if portrait and portrait not in other.portraits:
            return _UNPREPARED_FACTOR
        return _SILENT_FACTOR if other.recently_silent else 1.0

    def _call(
        self,
        method: StageMethod[StreamConfig, StreamRequest, StreamResponse],
        replica: Replica,
        portrait: str = "",
    ) -> StageCall[StreamConfig, StreamRequest, StreamResponse]:
        elsewhere = partial(self._elsewhere, method.name, replica, portrait)
        return StageCall(method, self.config, replica, elsewhere)

    async def prepare_portrait(self, image: bytes) -> renderer.Portrait:
        """Let the renderer with the most free slots, or the next one, prepare a portrait.

        :param image: file of the portrait.
        :raises ServiceError: the renderer's refusal, or STAGE_UNAVAILABLE.
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
        """Let a renderer prepare a portrait.

        :param image: file of the portrait.
        :raises ServiceError: the renderer's refusal, or STAGE_UNAVAILABLE.
        """

        async def requests() -> AsyncIterator[renderer.PreparePortraitRequest]:
            for first in range(0, max(1, len(image)), MAX_CHUNK_BYTES):
                data = image[first : first + MAX_CHUNK_BYTES]
                yield renderer.PreparePortraitRequest(data=data)

        call = asyncio.ensure_future(
            renderer_grpc.RendererServiceStub(replica.channel).PreparePortrait(
                requests(), timeout=self.config.portrait_timeout
            )
        )
        failed_polls = 0
        try:
            while not (await asyncio.wait([call], timeout=POLL_SECONDS))[0]:
                failed_polls = 0 if replica.serving else failed_polls + 1
                if failed_polls > _MAX_FAILED_POLLS:
                    raise StageSilentError("STAGE_UNAVAILABLE", "the renderer does not respond")
            response = call.result()
        except grpc.aio.AioRpcError as error:
            raise stage_error("renderer", error, ServiceError.from_rpc(error)) from None
        finally:
            call.cancel()
        portrait: renderer.Portrait = response.portrait
        replica.add_portrait(portrait.handle)
        return portrait


# Of several refusals, one with the first of these reasons is raised: it says what can be done.
_PRECEDENCE = ("CHECKPOINT_MISMATCH", "NO_CAPACITY")


def _refused(replica: Replica, error: ServiceError, before: ServiceError | None) -> ServiceError:
    """Note a refusal after which another replica is tried.

    :param before: the refusal to raise so far.
    :return: the refusal to raise if no replica accepts.
    :raises ServiceError: `error`, if no other replica would accept either.
    """
    if error.reason not in _ELSEWHERE:
        raise error
    if error.reason == "STAGE_UNAVAILABLE":
        replica.mark_unhealthy(silent=isinstance(error, StageSilentError))
    if before is None:
        return error
    for reason in _PRECEDENCE:
        if reason in (before.reason, error.reason):
            return error if error.reason == reason else before
    return before
