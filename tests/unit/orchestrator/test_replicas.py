"""Which replica of a stage takes a stream, and when one that is silent is given up; no network."""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

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
    """What the replicas at each address answer when they are asked how they are."""

    def __init__(self) -> None:
        self.answers: dict[str, stage.GetStatusResponse | None] = {}  # None: silence
        self.asked: dict[str, int] = {}

    def replica(self, address: str) -> Replica:
        made = Replica(address)
        made._stub = _Stub(self, address)
        return made


class _Stub:
    def __init__(self, world: World, address: str) -> None:
        self._world, self._address = world, address

    async def GetStatus(
        self,
        request: Any,
        timeout: float,  # noqa: ASYNC109 - gRPC's
    ) -> stage.GetStatusResponse:
        self._world.asked[self._address] = self._world.asked.get(self._address, 0) + 1
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


async def names(replicas: Replicas) -> list[str]:
    return [replica.address for replica in await replicas.candidates()]


async def test_the_emptiest_is_tried_first_and_who_fell_silent_last(world: World) -> None:
    world.answers = {"a": status(1), "b": status(3), "c": status(2), "d": status(4, serving=False)}
    replicas = Replicas("sums", "a,b,c,d,e", Metrics("orchestrator"))
    assert await names(replicas) == ["b", "c", "a"]
    assert replicas.slots == 12
    b = (await replicas.candidates())[0]
    assert replicas.other_than(b).address == "c"
    b.mark_unhealthy(silent=True)
    assert await names(replicas) == ["c", "a"], "not before it is heard of"
    await b.poll()
    assert await names(replicas) == ["c", "a", "b"], "it answers, but its Triton may not"
    world.answers["c"] = status(0)
    await asyncio.sleep(5 * POLL)
    a = (await replicas.candidates())[0]
    assert a.address == "a"
    assert replicas.other_than(a) is b, "who fell silent is better than who is full"
    assert b.recently_silent
    assert replicas.other_than(b) is a
    await replicas.close()


async def test_streams_opened_side_by_side_are_spread(
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
    await asyncio.sleep(0)  # asked ...
    with replica.opening():
        pass  # ... and opened before the answer, which may not know of it
    await polling
    assert replica.free == 0
    await replica.poll()
    assert replica.free == 1


async def test_a_silent_replica_holds_up_nobody(
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
        b.mark_unhealthy()  # the first that is back is taken, whatever the others do
        assert await replicas.candidates() == [b]
    await replicas.close()
    for task in asyncio.all_tasks() - before:  # polls that would never end
        task.cancel()


async def test_replicas_are_asked_each_on_its_own(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = asyncio.all_tasks()
    monkeypatch.setattr(replicas_module, "_POLL_TIMEOUT", 0.5)
    world.answers = {"a": status(), "b": status()}
    replicas = Replicas("sums", "a,b", Metrics("orchestrator"))
    await replicas.start()
    world.answers["a"] = None
    await asyncio.sleep(1.0)
    assert world.asked["b"] > 2 * world.asked["a"]
    assert await names(replicas) == ["b"]
    await replicas.close()
    assert asyncio.all_tasks() <= before


async def test_where_nobody_serves_that_is_told(world: World) -> None:
    replicas = Replicas("sums", "a,b", Metrics("orchestrator"))
    with pytest.raises(ServiceError, match="no replica of sums is serving"):
        await replicas.candidates()
    assert replicas.info is None
    assert replicas.slots == 0
    world.answers["b"] = status()
    assert await names(replicas) == ["b"]
    await replicas.close()


async def test_streams_are_told_to_move_as_long_as_their_replica_drains(world: World) -> None:
    class Stream:
        moves = 0

        def migrate(self) -> None:
            self.moves += 1

    world.answers["a"] = status(serving=False, draining=True)
    replica, stream = world.replica("a"), Stream()
    replica.streams.add(stream)
    for _ in range(3):
        await replica.poll()
    assert stream.moves == 3, "there may be room elsewhere only later"
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
            raise AssertionError("nobody drains")

    (await replicas.candidates())[0].streams.add(Stream())
    hosts[:] = ["10.0.0.3"]
    await asyncio.sleep(10 * POLL)
    assert await names(replicas) == ["10.0.0.3:7", "10.0.0.2:7"], "kept while it holds a stream"
    asked = world.asked["10.0.0.1:7"]
    hosts.clear()
    await asyncio.sleep(10 * POLL)
    assert len(await names(replicas)) == 2, "what was known may still hold"
    assert world.asked["10.0.0.1:7"] == asked
    labels = {"service": "orchestrator", "stage": "sums"}
    assert metrics.registry.get_sample_value("talkingface_replicas_serving", labels) == 2
    await replicas.close()


# --- opening a stream at one of them


class FakeCall:
    """What `Stages._call` makes, by the script of its replica's address."""

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
    """Stages whose renderers a, b and c answer by script, and have portraits of their own."""

    def __init__(self) -> None:
        target = "a,b,c"
        super().__init__(OrchestratorConfig(renderer_target=target, stage_open_timeout=5.0))
        self.tried: list[tuple[str, float]] = []
        self.refusals: dict[str, ServiceError] = {}
        self.has: dict[str, set[str]] = {name: set() for name in "abc"}
        self.prepared: list[str] = []

    def _call(self, method: Any, replica: Replica, portrait: str = "") -> Any:
        def answer(configuration: Any) -> ServiceError | None:
            if replica.address in self.refusals:
                return self.refusals[replica.address]
            if configuration.portrait_handle not in self.has[replica.address]:
                return ServiceError("PORTRAIT_NOT_FOUND", "not here")
            return None

        return FakeCall(self.tried, replica, answer)

    async def prepare_portrait_at(self, replica: Replica, image: bytes) -> renderer.Portrait:
        await asyncio.sleep(0)
        self.prepared.append(replica.address)
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
    return ServiceError(reason, "not I")


async def test_the_next_one_is_tried_and_the_last_one_waited_for(stages: FakeStages) -> None:
    for name in "abc":
        stages.has[name].add(CONFIG.portrait_handle)
    stages.refusals = {"a": StageSilentError("STAGE_UNAVAILABLE", "-"), "b": refusal("DRAINING")}
    call = await stages.open(RENDER, CONFIG)
    assert call.replica.address == "c"
    assert stages.tried == [("a", QUICK), ("b", QUICK), ("c", 5.0)]
    stages.refusals["c"] = refusal("NO_CAPACITY")
    with pytest.raises(ServiceError, match="NO_CAPACITY"):
        await stages.open(RENDER, CONFIG)
    assert [name for name, _ in stages.tried[3:]] == ["b", "c"], "one is lost"
    stages.refusals["b"] = refusal("FIELD_INVALID")
    with pytest.raises(ServiceError, match="FIELD_INVALID"):
        await stages.open(RENDER, CONFIG)
    await stages.close()


@pytest.mark.parametrize("live", [False, True])
async def test_a_live_session_goes_where_its_portrait_is(
    stages: FakeStages, portraits: Portraits, live: bool
) -> None:
    stages.has["c"].add(CONFIG.portrait_handle)
    call = await portraits.open_renderer(RENDER, CONFIG, live=live)
    assert call.replica.address == ("c" if live else "a")
    assert stages.prepared == ([] if live else ["a"])
    call.cancel()
    # Nobody has it who has room: the emptiest with room is given it.
    stages.refusals = {name: refusal("NO_CAPACITY") for name in ("a", "c")}
    call = await portraits.open_renderer(RENDER, CONFIG, live=live)
    assert call.replica.address == "b"
    assert stages.prepared[-1] == "b"
    call.cancel()
    await stages.close()


async def test_a_portrait_is_prepared_where_that_can_be_done(stages: FakeStages) -> None:
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


async def test_a_stream_goes_sooner_where_more_is_prepared(stages: FakeStages) -> None:
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


async def test_a_portrait_is_not_waited_for_where_nobody_answers(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended: list[str] = []

    class Stub:
        def __init__(self, channel: Any) -> None:
            pass

        async def PreparePortrait(self, pieces: Any, **_: Any) -> renderer.PreparePortraitResponse:
            try:
                assert [piece.data async for piece in pieces] == [IMAGE]
                await asyncio.sleep(FOREVER if len(ended) < 1 else 3 * POLL)
            finally:
                ended.append("")
            portrait = renderer.Portrait(handle=handle_of(IMAGE))
            return renderer.PreparePortraitResponse(portrait=portrait)

    monkeypatch.setattr(stages_module.renderer_grpc, "RendererServiceStub", Stub)
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


async def test_another_renderer_stands_by(
    stages: FakeStages,
    portraits: Portraits,
    world: World,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    before = asyncio.all_tasks()
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(portraits_module, "_STAND_BY_SECONDS", POLL)
    stages.has["a"].add(CONFIG.portrait_handle)
    call = await portraits.open_renderer(RENDER, CONFIG, live=True)
    assert call.replica.address == "a"
    await asyncio.sleep(5 * POLL)
    assert stages.prepared == ["b"], "once, at the emptiest other one"
    b = stages.other_than("renderer", call.replica)
    assert b is not None
    b.mark_unhealthy()
    await asyncio.sleep(5 * POLL)
    assert stages.prepared in (["b"], ["b", "c"]), "it was not heard of for a moment"
    del world.answers["b"], world.answers["c"]
    await asyncio.sleep(5 * POLL)
    stages.prepared.clear()
    world.answers["b"] = status()
    await asyncio.sleep(5 * POLL)
    assert stages.prepared == ["b"], "it may be another process, without the portrait"
    del world.answers["b"]
    world.answers["c"] = status()
    stages.refusals["c"] = refusal("NO_CAPACITY")
    await asyncio.sleep(20 * POLL)
    assert 2 < len(stages.prepared) < 8, "tried more and more seldom"
    assert set(stages.prepared[1:]) == {"c"}
    assert "portrait_does_not_stand_by" in caplog.text
    call.cancel()
    await asyncio.sleep(POLL)
    told = len(stages.prepared)
    await asyncio.sleep(10 * POLL)
    assert len(stages.prepared) == told, "it ends with the session"
    await stages.close()
    assert asyncio.all_tasks() <= before


# --- a call that falls silent


class FakeRpc:
    """A bidirectional call of gRPC: nothing comes but what is put into `answers`."""

    def __init__(self) -> None:
        self.answers: asyncio.Queue[Any] = asyncio.Queue()

    def add_done_callback(self, callback: Any) -> None:
        pass

    async def read(self) -> Any:
        return await self.answers.get()

    async def write(self, message: Any) -> None:
        await asyncio.sleep(0)


class Silence:
    """A call of the speech encoder that takes all and says nothing, opened."""

    def __init__(self, config: OrchestratorConfig) -> None:
        self.rpc = FakeRpc()
        self.elsewhere: float | None = None
        self.replica = Replica("a")
        method = ExtractMethod()
        method.call = lambda channel: self.rpc  # type: ignore[assignment]
        self.call = StageCall(method, config, self.replica, lambda: self.elsewhere)

    async def open(self) -> StageCall[Any, Any, Any]:
        started = stage.StageInfo(look_ahead_ms=100)
        self.rpc.answers.put_nowait(audio_features.ExtractResponse(started=started))
        return await self.call.open(audio_features.ExtractConfig(), 1.0)

    async def until_given_up(self) -> float:
        began = time.perf_counter()
        with pytest.raises(StageSilentError, match="gave no result"):
            await self.call.receive()
        return time.perf_counter() - began


async def test_silence_is_borne_where_nobody_else_could_speak() -> None:
    silence = Silence(OrchestratorConfig(stage_timeout=0.6))
    call = await silence.open()
    call.set_live_timeout(0.1)
    call.sent_until = 1.0
    assert await silence.until_given_up() > 0.5


async def test_silence_is_not_borne_where_somebody_else_could_speak() -> None:
    silence = Silence(OrchestratorConfig(stage_timeout=FOREVER / 100))
    silence.elsewhere = 1.0
    call = await silence.open()
    call.set_live_timeout(0.1)
    call.sent_until = 1.0
    assert 0.08 < await silence.until_given_up() < DEADLINE / 4
    assert 0.1 < call.overdue < 0.2
    silence.elsewhere = 2.0
    assert 0.18 < await silence.until_given_up() < DEADLINE / 4
    assert call.overdue > 0.2


async def test_a_stage_that_is_slow_anyway_is_not_soon_called_silent() -> None:
    silence = Silence(OrchestratorConfig(stage_timeout=FOREVER / 100))
    call = await silence.open()
    call.set_live_timeout(0.1)
    call.sent_until = 1.0
    receiving = asyncio.create_task(call.receive())
    await asyncio.sleep(0.4)  # there is nowhere to go
    silence.rpc.answers.put_nowait(audio_features.ExtractResponse(features={}))
    await receiving
    assert call.max_overdue > 0.1
    silence.elsewhere = 1.0
    await silence.until_given_up()
    assert 0.2 < call.overdue < 0.3, "twice its patience at most"
    for _ in range(500):  # it is quick now
        silence.rpc.answers.put_nowait(audio_features.ExtractResponse(features={}))
        await call.receive()
    await silence.until_given_up()
    assert 0.1 < call.overdue < 0.2


async def test_who_owes_nothing_may_be_silent() -> None:
    silence = Silence(OrchestratorConfig(stage_timeout=5.0))
    silence.elsewhere = 1.0
    call = await silence.open()
    call.set_live_timeout(0.05)
    call.sent_until = 0.17  # less than its look-ahead and a block

    async def later() -> None:
        await asyncio.sleep(0.3)
        silence.rpc.answers.put_nowait(audio_features.ExtractResponse(features={}))

    async with asyncio.timeout(DEADLINE):
        _, answer = await asyncio.gather(later(), call.receive())
    assert answer.WhichOneof("payload") == "features"
    assert call.overdue == 0


async def test_an_offline_session_waits_longer() -> None:
    silence = Silence(OrchestratorConfig(stage_timeout=0.5))
    silence.elsewhere = 4.0
    call = await silence.open()
    call.sent_until, call.max_overdue = 10.0, 1.0
    await silence.until_given_up()
    assert 0.5 < call.overdue < 0.6


async def test_time_in_which_this_process_stood_still_is_not_held_against_a_stage() -> None:
    silence = Silence(OrchestratorConfig(stage_timeout=5.0))
    silence.elsewhere = 1.0
    call = await silence.open()
    call.set_live_timeout(0.2)
    call.sent_until = 1.0
    receiving = asyncio.create_task(call.receive())
    for _ in range(3):
        await asyncio.sleep(0.01)
        time.sleep(0.3)  # noqa: ASYNC251 - that is the point
    silence.rpc.answers.put_nowait(audio_features.ExtractResponse(features={}))
    assert (await receiving).WhichOneof("payload") == "features"


async def test_a_stage_that_does_not_take_the_stream_is_told_from_one_that_is_gone() -> None:
    silence = Silence(OrchestratorConfig())
    silence.rpc.cancel = lambda: None
    with pytest.raises(StageSilentError, match="did not take the stream in time"):
        await silence.call.open(audio_features.ExtractConfig(), 0.05)
    assert silence.replica.free == 0
