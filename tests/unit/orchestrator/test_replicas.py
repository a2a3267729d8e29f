"""The choice of a replica for a stream, and timeouts of calls, without a network."""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import grpc
import pytest

from talkingface.contract.errors import ServiceError
from talkingface.contract.portrait import handle_of
from talkingface.orchestrator.config import OrchestratorConfig
from talkingface.orchestrator.stages import pool as stages_module
from talkingface.orchestrator.stages import portraits as portraits_module
from talkingface.orchestrator.stages import replicas as replicas_module
from talkingface.orchestrator.stages.call import StageCall, StageSilentError
from talkingface.orchestrator.stages.methods import ExtractMethod, RenderMethod
from talkingface.orchestrator.stages.pool import Stages
from talkingface.orchestrator.stages.portraits import Portraits, UploadStore
from talkingface.orchestrator.stages.replicas import Replica, Replicas
from talkingface.serving.metrics import Metrics
from talkingface.v1 import audio_features_pb2 as audio_features
from talkingface.v1 import renderer_pb2 as renderer
from talkingface.v1 import renderer_pb2_grpc
from talkingface.v1 import stage_pb2 as stage

DEADLINE = 10.0
FOREVER = 10_000.0
POLL = 0.02


def status(free: int = 4, total: int = 4, **fields: Any) -> stage.GetStatusResponse:
    fields.setdefault("serving", True)
    info = stage.StageInfo(stage="sums", replica="r")
    return stage.GetStatusResponse(
        info=info, slots_total=total, slots_in_use=total - free, **fields
    )


class World:
    """Simulated replicas: the status that each address returns when it is polled."""

    def __init__(self) -> None:
        self.answers: dict[str, stage.GetStatusResponse | None] = {}  # None: no response
        self.polls: dict[str, int] = {}

    def replica(self, address: str) -> Replica:
        made = Replica(address)
        made._stub = cast("Any", _Stub(self, address))
        return made


class _Stub:
    def __init__(self, world: World, address: str) -> None:
        self._world, self._address = world, address

    async def GetStatus(
        self,
        request: Any,
        timeout: float,  # noqa: ASYNC109 - gRPC's
    ) -> stage.GetStatusResponse:
        self._world.polls[self._address] = self._world.polls.get(self._address, 0) + 1
        await asyncio.sleep(0)
        try:
            answer = self._world.answers[self._address]
        except KeyError:
            raise rpc_error(grpc.StatusCode.UNAVAILABLE) from None
        if answer is None:
            await asyncio.sleep(timeout)
            raise rpc_error(grpc.StatusCode.DEADLINE_EXCEEDED)
        return answer


def rpc_error(code: grpc.StatusCode) -> grpc.aio.AioRpcError:
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(), "")


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    made = World()
    monkeypatch.setattr(replicas_module, "Replica", made.replica)
    monkeypatch.setattr(replicas_module, "POLL_SECONDS", POLL)
    return made


@pytest.fixture(autouse=True)
def deadline() -> Iterator[None]:
    began = time.monotonic()
    yield
    assert time.monotonic() - began < DEADLINE


async def until(condition: Callable[[], bool]) -> None:
    """Wait until a condition is true."""
    async with asyncio.timeout(DEADLINE):
        while not condition():  # noqa: ASYNC110 - conditions on several objects
            await asyncio.sleep(POLL / 4)


async def names(replicas: Replicas) -> list[str]:
    return [replica.address for replica in await replicas.candidates()]


async def test_free_slots_decide_the_order_and_silent_replicas_come_last(world: World) -> None:
    world.answers = {"a": status(1), "b": status(3), "c": status(2), "d": status(4, serving=False)}
    replicas = Replicas("sums", "a,b,c,d,e", Metrics("orchestrator"))
    assert await names(replicas) == ["b", "c", "a"]
    assert replicas.slots == 12
    b = (await replicas.candidates())[0]
    c = replicas.other_than(b)
    assert c is not None and c.address == "c"
    b.mark_unhealthy(silent=True)
    assert await names(replicas) == ["c", "a"], "not before a successful poll"
    await b.poll()
    assert await names(replicas) == ["c", "a", "b"], "it responds, but its Triton may not"
    world.answers["c"] = status(0)
    await asyncio.sleep(5 * POLL)
    a = (await replicas.candidates())[0]
    assert a.address == "a"
    assert replicas.other_than(a) is b, "a silent replica is preferred to a full one"
    assert b.recently_silent
    assert replicas.other_than(b) is a
    await replicas.close()


async def test_streams_opened_concurrently_are_spread(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replicas_module, "POLL_SECONDS", FOREVER)
    world.answers = {"a": status(4), "b": status(4), "c": status(4)}
    replicas = Replicas("sums", "a,b,c", Metrics("orchestrator"))
    chosen: list[str] = []

    async def open_stream() -> None:
        replica = (await replicas.candidates())[0]
        with replica.opening():
            await asyncio.sleep(0.01)
            chosen.append(replica.address)

    await asyncio.gather(*(open_stream() for _ in range(9)))
    assert sorted(chosen) == [*"aaabbbccc"]
    assert [replica.free for replica in await replicas.candidates()] == [1, 1, 1]
    await replicas.close()


async def test_a_refused_stream_does_not_count_and_a_status_replaces_the_count(
    world: World,
) -> None:
    world.answers["a"] = status(2)
    replica = world.replica("a")
    await replica.poll()
    with replica.opening():
        assert replica.free == 1
    assert replica.free == 1
    with pytest.raises(ServiceError), replica.opening():
        assert replica.free == 0
        raise ServiceError("NO_CAPACITY", "full")
    assert replica.free == 1
    world.answers["a"] = status(1)
    polling = asyncio.create_task(replica.poll())
    await asyncio.sleep(0)  # the poll has begun
    with replica.opening():
        pass  # its response may not include this stream
    await polling
    assert replica.free == 0
    await replica.poll()
    assert replica.free == 1


async def test_a_silent_replica_delays_no_other(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = asyncio.all_tasks()
    monkeypatch.setattr(replicas_module, "_START_SECONDS", 0.1)
    monkeypatch.setattr(replicas_module, "_POLL_TIMEOUT", FOREVER)
    world.answers = {"a": None, "b": status(2)}
    replicas = Replicas("sums", "a,b", Metrics("orchestrator"))
    await replicas.start()
    async with asyncio.timeout(DEADLINE):
        (b,) = await replicas.candidates()
        b.mark_unhealthy()  # the first to respond is used, whatever the others do
        assert await replicas.candidates() == [b]
    await replicas.close()
    for task in asyncio.all_tasks() - before:  # polls that would never end
        task.cancel()


async def test_each_replica_is_polled_independently(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = asyncio.all_tasks()
    monkeypatch.setattr(replicas_module, "_POLL_TIMEOUT", 0.5)
    world.answers = {"a": status(), "b": status()}
    replicas = Replicas("sums", "a,b", Metrics("orchestrator"))
    await replicas.start()
    world.answers["a"] = None
    await asyncio.sleep(1.0)
    assert world.polls["b"] > 2 * world.polls["a"]
    assert await names(replicas) == ["b"]
    await replicas.close()
    assert asyncio.all_tasks() <= before


async def test_no_serving_replica_is_an_error(world: World) -> None:
    replicas = Replicas("sums", "a,b", Metrics("orchestrator"))
    with pytest.raises(ServiceError, match="no replica of sums is serving"):
        await replicas.candidates()
    assert replicas.info is None
    assert replicas.slots == 0
    world.answers["b"] = status()
    assert await names(replicas) == ["b"]
    await replicas.close()


async def test_streams_are_asked_to_migrate_while_their_replica_drains(world: World) -> None:
    class Stream:
        moves = 0

        def migrate(self) -> None:
            self.moves += 1

    world.answers["a"] = status(serving=False, draining=True)
    replica, stream = world.replica("a"), Stream()
    replica.streams.add(stream)
    for _ in range(3):
        await replica.poll()
    assert stream.moves == 3, "another replica may have a free slot only later"
    assert replica.draining


async def test_names_are_looked_up_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replicas_module, "_RESOLVE_SECONDS", POLL)
    hosts = ["10.0.0.1", "10.0.0.2"]

    async def getaddrinfo(host: str, port: str, **_: Any) -> list[Any]:
        if not hosts:
            raise socket.gaierror("no such name")
        return [(socket.AF_INET, 0, 0, "", (name, int(port))) for name in hosts]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)
    world.answers = {f"10.0.0.{i}:7": status(i) for i in range(1, 4)}
    metrics = Metrics("orchestrator")
    replicas = Replicas("sums", "dns:///sums:7", metrics)
    assert await names(replicas) == ["10.0.0.2:7", "10.0.0.1:7"]

    class Stream:
        def migrate(self) -> None:
            raise AssertionError("no replica drains")

    (await replicas.candidates())[0].streams.add(Stream())
    hosts[:] = ["10.0.0.3"]
    await asyncio.sleep(10 * POLL)
    assert await names(replicas) == ["10.0.0.3:7", "10.0.0.2:7"], "kept while it has a stream"
    polls = world.polls["10.0.0.1:7"]
    hosts.clear()
    await asyncio.sleep(10 * POLL)
    assert len(await names(replicas)) == 2, "the known addresses may still be valid"
    assert world.polls["10.0.0.1:7"] == polls
    labels = {"service": "orchestrator", "stage": "sums"}
    assert metrics.registry.get_sample_value("talkingface_replicas_serving", labels) == 2
    await replicas.close()


# --- opening a stream


class FakeCall:
    """Replaces a `StageCall`, with a scripted response."""

    def __init__(self, log: list[tuple[str, float]], replica: Replica, answer: Any) -> None:
        self.replica = replica
        self._log, self._answer = log, answer
        self.ended: list[Callable[[], Any]] = []

    async def open(self, configuration: Any, within: float) -> FakeCall:
        self._log.append((self.replica.address, within))
        await asyncio.sleep(0)
        answer = self._answer(configuration)
        if answer is not None:
            raise answer
        return self

    def on_end(self, callback: Callable[[], Any]) -> None:
        self.ended.append(callback)

    def cancel(self) -> None:
        for callback in self.ended:
            callback()


class FakeStages(Stages):
    """Stages with scripted renderers a, b and c, each with portraits of its own."""

    def __init__(self) -> None:
        target = "a,b,c"
        super().__init__(OrchestratorConfig(renderer_target=target, stage_open_timeout=5.0))
        self.tried: list[tuple[str, float]] = []
        self.refusals: dict[str, ServiceError] = {}
        self.has: dict[str, set[str]] = {name: set() for name in "abc"}
        self.prepared: list[str] = []
        self.prepared_at: list[float] = []

    def _call(self, method: Any, replica: Replica, portrait: str = "") -> Any:
        def answer(configuration: Any) -> ServiceError | None:
            if replica.address in self.refusals:
                return self.refusals[replica.address]
            if configuration.portrait_handle not in self.has[replica.address]:
                return ServiceError("PORTRAIT_NOT_FOUND", "unknown")
            return None

        return FakeCall(self.tried, replica, answer)

    async def prepare_portrait_at(self, replica: Replica, image: bytes) -> renderer.Portrait:
        await asyncio.sleep(0)
        self.prepared.append(replica.address)
        self.prepared_at.append(time.monotonic())
        if replica.address in self.refusals:
            raise self.refusals[replica.address]
        self.has[replica.address].add(handle_of(image))
        replica.add_portrait(handle_of(image))
        return renderer.Portrait(handle=handle_of(image))


IMAGE = b"photo"
CONFIG = renderer.RenderConfig(session_id="s", portrait_handle=handle_of(IMAGE))
RENDER = RenderMethod(25)
QUICK = stages_module._QUICK_OPEN_SECONDS


@pytest.fixture
def stages(world: World) -> FakeStages:
    world.answers = {"a": status(3), "b": status(2), "c": status(1)}
    return FakeStages()


@pytest.fixture
def portraits(stages: FakeStages, tmp_path: Path) -> Portraits:
    store = UploadStore(tmp_path, 1 << 30)
    store.put(IMAGE, renderer.Portrait(handle=handle_of(IMAGE)))
    return Portraits(stages, store)


def refusal(reason: str) -> ServiceError:
    return ServiceError(reason, "refused")


async def test_refused_streams_try_the_next_replica_and_wait_longest_for_the_last(
    stages: FakeStages,
) -> None:
    for name in "abc":
        stages.has[name].add(CONFIG.portrait_handle)
    stages.refusals = {"a": StageSilentError("STAGE_UNAVAILABLE", "-"), "b": refusal("DRAINING")}
    call = await stages.open(RENDER, CONFIG)
    assert call.replica.address == "c"
    assert stages.tried == [("a", QUICK), ("b", QUICK), ("c", 5.0)]
    stages.refusals["c"] = refusal("NO_CAPACITY")
    with pytest.raises(ServiceError, match="NO_CAPACITY"):
        await stages.open(RENDER, CONFIG)
    assert [name for name, _ in stages.tried[3:]] == ["b", "c"], "one is unhealthy"
    stages.refusals["b"] = refusal("FIELD_INVALID")
    with pytest.raises(ServiceError, match="FIELD_INVALID"):
        await stages.open(RENDER, CONFIG)
    await stages.close()


@pytest.mark.parametrize("live", [False, True])
async def test_a_live_session_prefers_the_renderer_with_its_portrait(
    stages: FakeStages, portraits: Portraits, live: bool
) -> None:
    stages.has["c"].add(CONFIG.portrait_handle)
    call = await portraits.open_renderer(RENDER, CONFIG, live=live)
    assert call.replica.address == ("c" if live else "a")
    assert stages.prepared == ([] if live else ["a"])
    call.cancel()
    # No renderer with a free slot has it: the one with the most free slots prepares it.
    stages.refusals = {name: refusal("NO_CAPACITY") for name in ("a", "c")}
    call = await portraits.open_renderer(RENDER, CONFIG, live=live)
    assert call.replica.address == "b"
    assert stages.prepared[-1] == "b"
    call.cancel()
    await stages.close()


async def test_a_portrait_is_prepared_by_the_first_renderer_that_accepts(
    stages: FakeStages,
) -> None:
    stages.refusals = {"a": refusal("STAGE_UNAVAILABLE"), "b": refusal("NO_CAPACITY")}
    assert (await stages.prepare_portrait(IMAGE)).handle == handle_of(IMAGE)
    assert stages.prepared == ["a", "b", "c"]
    stages.refusals["c"] = refusal("NO_FACE")
    with pytest.raises(ServiceError, match="NO_FACE"):
        await stages.prepare_portrait(IMAGE)
    stages.refusals["b"] = stages.refusals["c"] = refusal("NO_CAPACITY")
    with pytest.raises(ServiceError, match="NO_CAPACITY"):
        await stages.prepare_portrait(IMAGE)
    await stages.close()


async def test_the_timeout_is_shorter_the_better_another_replica_is_prepared(
    stages: FakeStages,
) -> None:
    a, b, c = await stages._replicas["renderer"].candidates()
    need = CONFIG.portrait_handle

    def elsewhere() -> tuple[Any, float | None]:
        return stages.other_than("renderer", a, need), stages._elsewhere("renderer", a, need)

    assert elsewhere() == (b, stages_module._UNPREPARED_FACTOR)
    c.add_portrait(need)
    assert elsewhere() == (c, 1.0)
    c.mark_unhealthy(silent=True)
    assert elsewhere() == (b, stages_module._UNPREPARED_FACTOR)
    await c.poll()
    assert elsewhere() == (c, stages_module._SILENT_FACTOR)
    b.mark_unhealthy()
    c.mark_unhealthy()
    assert elsewhere() == (None, None)
    await stages.close()


async def test_a_preparation_is_abandoned_when_its_renderer_does_not_respond(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended: list[str] = []

    class Stub:
        def __init__(self, channel: Any) -> None:
            pass

        async def PreparePortrait(
            self, requests: Any, **_: Any
        ) -> renderer.PreparePortraitResponse:
            try:
                assert [request.data async for request in requests] == [IMAGE]
                await asyncio.sleep(FOREVER if len(ended) < 1 else 3 * POLL)
            finally:
                ended.append("")
            portrait = renderer.Portrait(handle=handle_of(IMAGE))
            return renderer.PreparePortraitResponse(portrait=portrait)

    monkeypatch.setattr(renderer_pb2_grpc, "RendererServiceStub", Stub)
    monkeypatch.setattr(stages_module, "POLL_SECONDS", POLL)
    monkeypatch.setattr(replicas_module, "_POLL_TIMEOUT", POLL)
    world.answers = {"a": status(3), "b": status(2)}
    stages = Stages(OrchestratorConfig(renderer_target="a,b"))
    a, b = await stages._replicas["renderer"].candidates()
    preparing = asyncio.create_task(stages.prepare_portrait(IMAGE))
    await asyncio.sleep(2 * POLL)
    world.answers["a"] = None
    async with asyncio.timeout(DEADLINE):
        await preparing
    assert len(ended) == 2
    assert a.recently_silent
    assert b.portraits == {handle_of(IMAGE)}
    assert not a.portraits
    await stages.close()


async def test_a_standby_renderer_prepares_the_portrait(
    stages: FakeStages,
    portraits: Portraits,
    world: World,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    tasks = asyncio.all_tasks()
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(portraits_module, "_STANDBY_SECONDS", POLL)
    stages.has["a"].add(CONFIG.portrait_handle)
    call = await portraits.open_renderer(RENDER, CONFIG, live=True)
    assert call.replica.address == "a"
    await until(lambda: bool(stages.prepared))
    await asyncio.sleep(5 * POLL)
    assert stages.prepared == ["b"], "once, at the other one with the most free slots"
    b = stages.other_than("renderer", call.replica)
    assert b is not None
    b.mark_unhealthy()
    await asyncio.sleep(5 * POLL)
    assert stages.prepared in (["b"], ["b", "c"]), "it was unhealthy for a moment"
    del world.answers["b"], world.answers["c"]
    await until(lambda: stages.other_than("renderer", call.replica) is None and not b.portraits)
    stages.prepared.clear()
    world.answers["b"] = status()
    await until(lambda: bool(stages.prepared))
    assert stages.prepared == ["b"], "it may have restarted, without the portrait"
    del world.answers["b"]
    world.answers["c"] = status()
    stages.refusals["c"] = refusal("NO_CAPACITY")
    await until(lambda: stages.prepared.count("c") >= 4)
    pauses = [after - before for before, after in pairwise(stages.prepared_at[-4:])]
    assert all(pause > factor * POLL for pause, factor in zip(pauses, (1.9, 3.9, 7.9), strict=True))
    assert set(stages.prepared[1:]) == {"c"}
    assert "standby_failed" in caplog.text
    call.cancel()
    await asyncio.sleep(POLL)
    prepared = len(stages.prepared)
    await asyncio.sleep(10 * POLL)
    assert len(stages.prepared) == prepared, "it ends with the session"
    await stages.close()
    assert asyncio.all_tasks() <= tasks


# --- a call whose results are overdue


class FakeRpc:
    """A bidirectional call of gRPC that returns what is put into `answers`."""

    def __init__(self) -> None:
        self.answers: asyncio.Queue[Any] = asyncio.Queue()

    def add_done_callback(self, callback: Any) -> None:
        pass

    async def read(self) -> Any:
        return await self.answers.get()

    async def write(self, message: Any) -> None:
        await asyncio.sleep(0)

    def cancel(self) -> None:
        pass


class SilentCall:
    """A call of the speech encoder that accepts all input and returns no results."""

    def __init__(self, config: OrchestratorConfig) -> None:
        self.rpc = FakeRpc()
        self.elsewhere: float | None = None
        self.replica = Replica("a")
        method = ExtractMethod()
        setattr(method, "call", lambda channel: self.rpc)  # noqa: B010 - a method
        self.call = StageCall(method, config, self.replica, lambda: self.elsewhere)

    async def open(self) -> StageCall[Any, Any, Any]:
        started = stage.StageInfo(look_ahead_ms=100)
        self.rpc.answers.put_nowait(audio_features.ExtractResponse(started=started))
        return await self.call.open(audio_features.ExtractConfig(), 1.0)

    async def until_timeout(self) -> float:
        began = time.perf_counter()
        with pytest.raises(StageSilentError, match="returned no result"):
            await self.call.receive()
        return time.perf_counter() - began


async def test_an_overdue_result_is_awaited_if_no_other_replica_could_continue() -> None:
    silent = SilentCall(OrchestratorConfig(stage_timeout=0.6))
    call = await silent.open()
    call.set_live_timeout(0.1)
    call.sent_until = 1.0
    assert await silent.until_timeout() > 0.5


async def test_an_overdue_result_is_soon_abandoned_if_another_replica_could_continue() -> None:
    silent = SilentCall(OrchestratorConfig(stage_timeout=FOREVER / 100))
    silent.elsewhere = 1.0
    call = await silent.open()
    call.set_live_timeout(0.1)
    call.sent_until = 1.0
    assert 0.08 < await silent.until_timeout() < DEADLINE / 4
    assert 0.1 < call.overdue < 0.2
    silent.elsewhere = 2.0
    assert 0.18 < await silent.until_timeout() < DEADLINE / 4
    assert call.overdue > 0.2


async def test_a_slow_stage_gets_more_time() -> None:
    silent = SilentCall(OrchestratorConfig(stage_timeout=FOREVER / 100))
    call = await silent.open()
    call.set_live_timeout(0.1)
    call.sent_until = 1.0
    receiving = asyncio.create_task(call.receive())
    await asyncio.sleep(0.4)  # no other replica could continue
    silent.rpc.answers.put_nowait(audio_features.ExtractResponse(features={}))
    await receiving
    assert call.max_overdue > 0.1
    silent.elsewhere = 1.0
    await silent.until_timeout()
    assert 0.2 < call.overdue < 0.3, "twice the timeout at most"
    for _ in range(500):  # it is fast again
        silent.rpc.answers.put_nowait(audio_features.ExtractResponse(features={}))
        await call.receive()
    await silent.until_timeout()
    assert 0.1 < call.overdue < 0.2


async def test_no_result_is_overdue_without_enough_input() -> None:
    silent = SilentCall(OrchestratorConfig(stage_timeout=5.0))
    silent.elsewhere = 1.0
    call = await silent.open()
    call.set_live_timeout(0.05)
    call.sent_until = 0.17  # less than its look-ahead and a chunk

    async def later() -> None:
        await asyncio.sleep(0.3)
        silent.rpc.answers.put_nowait(audio_features.ExtractResponse(features={}))

    async with asyncio.timeout(DEADLINE):
        _, answer = await asyncio.gather(later(), call.receive())
    assert answer is not None and answer.HasField("features")
    assert call.overdue == 0


async def test_an_offline_session_waits_longer() -> None:
    silent = SilentCall(OrchestratorConfig(stage_timeout=0.5))
    silent.elsewhere = 4.0
    call = await silent.open()
    call.sent_until, call.max_overdue = 10.0, 1.0
    await silent.until_timeout()
    assert 0.5 < call.overdue < 0.6


async def test_a_suspension_of_this_process_does_not_count_as_silence() -> None:
    silent = SilentCall(OrchestratorConfig(stage_timeout=5.0))
    silent.elsewhere = 1.0
    call = await silent.open()
    call.set_live_timeout(0.2)
    call.sent_until = 1.0
    receiving = asyncio.create_task(call.receive())
    for _ in range(3):
        await asyncio.sleep(0.01)
        time.sleep(0.3)  # noqa: ASYNC251 - suspends this process
    silent.rpc.answers.put_nowait(audio_features.ExtractResponse(features={}))
    response = await receiving
    assert response is not None and response.HasField("features")


async def test_a_stage_that_does_not_accept_the_stream_in_time_is_silent() -> None:
    silent = SilentCall(OrchestratorConfig())
    with pytest.raises(StageSilentError, match="did not accept the stream in time"):
        await silent.call.open(audio_features.ExtractConfig(), 0.05)
    assert silent.replica.free == 0
