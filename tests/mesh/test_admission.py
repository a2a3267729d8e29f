"""Admission: overload, quotas, time limits, clients that vanish, drains."""

from __future__ import annotations

import asyncio
import hashlib
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from talkingface.client import TalkingFace
from talkingface.contract.call_status import CallStatus
from talkingface.contract.channel import CLIENT_OPTIONS
from talkingface.contract.errors import ServiceError
from talkingface.serving.health import check as health
from talkingface.serving.server import LIVENESS
from talkingface.v1 import audio_features_pb2 as audio_features
from talkingface.v1 import media_pb2 as media
from talkingface.v1 import stage_pb2 as stage
from talkingface.v1 import talking_face_pb2 as talking_face
from talkingface.v1.audio_features_pb2_grpc import AudioFeaturesServiceStub
from talkingface.v1.stage_pb2_grpc import StageStatusServiceStub
from talkingface.v1.talking_face_pb2_grpc import TalkingFaceServiceStub
from tests.support.audio import RATE, pcm16
from tests.support.report import record
from tests.support.services import ServiceProcess, until, until_free

SLOTS = 4  # of the stages, and of an orchestrator
OVERLOAD = 10
CALLER = "x-talkingface-caller"

Request = talking_face.AnimateRequest
Start = Callable[..., ServiceProcess]
END = Request(end_of_audio={})


def config(**fields: Any) -> Request:
    """The first message of a session without frames."""
    pcm = media.AudioFormat(encoding=media.AUDIO_ENCODING_PCM_S16LE, sample_rate=RATE, channels=1)
    fields = {"audio": pcm, "output": media.OUTPUT_KIND_MOTION, "seed": 3, **fields}
    return Request(config=talking_face.AnimateConfig(**fields))


@pytest.fixture(scope="module")
def speech(voice: np.ndarray) -> bytes:
    return pcm16(voice)


class Session:
    """One call of `Animate`, message by message."""

    def __init__(self, stub: TalkingFaceServiceStub, caller: str | None = None) -> None:
        metadata = None if caller is None else ((CALLER, caller),)
        self.call = stub.Animate(metadata=metadata)
        self.digest = hashlib.sha256()
        self.frames = 0
        self.arrivals: list[float] = []
        self.draining: talking_face.Event | None = None
        self._status = CallStatus(self.call)

    async def read(self) -> talking_face.AnimateResponse | None:
        """The next answer; None at the end.

        :raises ServiceError: the error that the session ends with.
        """
        try:
            answer = await self.call.read()
        except grpc.aio.AioRpcError as error:
            raise await self._status.error(error) from None
        if answer is grpc.aio.EOF:
            return None
        for frame in answer.motion.frames:
            self.digest.update(frame.SerializeToString(deterministic=True))
            self.frames += 1
        if answer.motion.frames:
            self.arrivals.append(time.perf_counter())
        if answer.event.kind == talking_face.Event.KIND_DRAINING:
            self.draining = answer.event
        return answer

    async def send(self, *requests: Request) -> None:
        """Send; where the call has ended, `read` reports it."""
        try:
            for request in requests:
                await self.call.write(request)
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            pass

    async def open(self, first: Request | None = None) -> None:
        """Begin: afterwards the session holds its slots.

        :raises ServiceError: the refusal.
        """
        sending = asyncio.create_task(self.send(first or config()))
        answer = await self.read()
        assert answer is not None and answer.HasField("started")
        await sending

    async def rest(self, *requests: Request) -> str:
        """Send these and read to the end.

        :return: a hash of all motion.
        """
        sending = asyncio.create_task(self.send(*requests))
        while await self.read() is not None:
            pass
        await sending
        return self.digest.hexdigest()


async def ended(session: Session, *requests: Request) -> ServiceError:
    """The error that a session ends with."""
    with pytest.raises(ServiceError) as error:
        async with asyncio.timeout(100):
            await session.rest(*requests)
    return error.value


@asynccontextmanager
async def stub_of(service: ServiceProcess) -> AsyncIterator[TalkingFaceServiceStub]:
    async with grpc.aio.insecure_channel(service.address, CLIENT_OPTIONS) as channel:
        yield TalkingFaceServiceStub(channel)


@pytest.fixture(scope="module")
def start(
    tmp_path_factory: pytest.TempPathFactory,
    audio_features_service: ServiceProcess,
    motion_gen_service: ServiceProcess,
) -> Iterator[Start]:
    """Starts an orchestrator without a renderer."""
    folder = tmp_path_factory.mktemp("admission")
    running: list[ServiceProcess] = []

    def start(**settings: str) -> ServiceProcess:
        service = ServiceProcess(
            "talkingface.orchestrator.server",
            folder / f"orchestrator{len(running)}.log",
            **{
                "slots": str(SLOTS),
                "audio_features_target": audio_features_service.address,
                "motion_gen_target": motion_gen_service.address,
                "renderer_target": "127.0.0.1:1",
                "upload_store": str(folder),
                **settings,
            },
        )
        running.append(service)
        service.wait_until_serving()
        return service

    yield start
    for service in running:
        service.process.kill()
        service.process.wait(10)


@pytest.fixture(scope="module")
def orchestrator(start: Start) -> ServiceProcess:
    """An orchestrator for all tests that need no settings of their own."""
    return start()


@pytest.fixture
async def stub(orchestrator: ServiceProcess) -> AsyncIterator[TalkingFaceServiceStub]:
    async with stub_of(orchestrator) as stub:
        yield stub


@pytest.fixture(scope="module")
def stages(
    audio_features_service: ServiceProcess, motion_gen_service: ServiceProcess
) -> list[ServiceProcess]:
    return [audio_features_service, motion_gen_service]


def record_distribution(name: str, seconds: list[float]) -> None:
    """Record percentiles in milliseconds."""
    p50, p95, top = np.percentile(seconds, [50, 95, 100]) * 1000
    record(f"{name}: {len(seconds)}, p50 {p50:.1f} p95 {p95:.1f} max {top:.1f} ms")


# --- overload


async def status_of(service: ServiceProcess) -> stage.GetStatusResponse:
    async with grpc.aio.insecure_channel(service.address) as channel:
        return await StageStatusServiceStub(channel).GetStatus(stage.GetStatusRequest(), timeout=5)


@pytest.mark.parametrize("slots", [SLOTS, 4 * SLOTS], ids=["in the orchestrator", "in the stages"])
async def test_overload_is_refused_and_disturbs_nobody(
    start: Start, stages: list[ServiceProcess], speech: bytes, slots: int
) -> None:
    """The last free slot is in the orchestrator, or in the stages."""
    orchestrator = start(slots=str(slots))
    half = len(speech) // 2
    async with stub_of(orchestrator) as stub:
        alone = Session(stub)
        await alone.open()
        reference = await alone.rest(Request(audio=speech), END)
        assert alone.frames == 50
        live = Session(stub)
        await live.open(config(pacing=talking_face.PACING_LIVE))
        live_rest = asyncio.create_task(live.rest())
        sessions = [Session(stub)]
        await sessions[0].open()
        await sessions[0].send(Request(audio=speech[:half]))
        await asyncio.sleep(0.3)
        refusals: list[ServiceError] = []
        waits: list[float] = []

        async def one_more(stub: TalkingFaceServiceStub) -> None:
            session, began = Session(stub), time.perf_counter()
            try:
                await session.open()
            except ServiceError as error:
                waits.append(time.perf_counter() - began)
                refusals.append(error)
            else:
                sessions.append(session)
                await session.send(Request(audio=speech[:half]))

        # From several connections, as many clients would.
        async with stub_of(orchestrator) as second, stub_of(orchestrator) as third:
            stubs = stub, second, third
            async with asyncio.timeout(100):
                await asyncio.gather(
                    *(one_more(stubs[i % len(stubs)]) for i in range(OVERLOAD * SLOTS))
                )
                record_distribution("refused at once", waits)
                await asyncio.sleep(0.6)  # by now the orchestrator knows which stages are full
                known = len(waits)
                for i in range(OVERLOAD):
                    await one_more(stubs[i % len(stubs)])
            assert len(sessions) == SLOTS - 1
            # The stages report their status nevertheless.
            began = time.perf_counter()
            for service in stages:
                status = await status_of(service)
                assert (status.slots_in_use, status.slots_total) == (SLOTS, SLOTS)
            asked = (time.perf_counter() - began) / len(stages)
            hashes = await asyncio.gather(
                *(session.rest(Request(audio=speech[half:]), END) for session in sessions)
            )
            await live.send(END)
            await live_rest
    assert set(hashes) == {reference}
    assert {error.reason for error in refusals} == {"NO_CAPACITY"}
    assert all(error.retry_delay is not None for error in refusals)
    assert orchestrator.metric('talkingface_calls_total{code="RESOURCE_EXHAUSTED"') == len(refusals)
    await until_free(orchestrator, *stages)
    record_distribution("refused one after the other", waits[known:])
    record_distribution("between messages of a live session", list(np.diff(live.arrivals)))
    record(f"GetStatus with a new connection: {asked * 1000:.1f} ms")


async def test_parallel_opens_of_a_stage_take_its_slots_and_no_more(
    audio_features_service: ServiceProcess,
) -> None:
    outcomes: Counter[str] = Counter()
    waits: list[float] = []
    calls = []
    async with grpc.aio.insecure_channel(audio_features_service.address) as channel:
        stub = AudioFeaturesServiceStub(channel)

        async def open_one(index: int) -> None:
            began = time.perf_counter()
            call = stub.Extract()
            calls.append(call)
            status = CallStatus(call)
            try:
                reading = asyncio.ensure_future(call.read())
                first = audio_features.ExtractConfig(session_id=f"s{index}")
                await call.write(audio_features.ExtractRequest(config=first))
                assert (await reading).HasField("started")
                outcomes["started"] += 1
            except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
                with pytest.raises(grpc.aio.AioRpcError) as refused:
                    await reading
                outcomes[(await status.error(refused.value)).reason] += 1
                waits.append(time.perf_counter() - began)

        await asyncio.gather(*(open_one(index) for index in range(OVERLOAD * SLOTS)))
        assert outcomes == {"started": SLOTS, "NO_CAPACITY": (OVERLOAD - 1) * SLOTS}
        for call in calls:
            call.cancel()
        await until_free(audio_features_service)
    record_distribution("refused by a stage", waits)


async def test_a_client_that_sends_nothing_holds_no_slot_for_long(
    start: Start, speech: bytes
) -> None:
    orchestrator = start(slots="1")
    async with stub_of(orchestrator) as stub:
        idle = Session(stub)
        await idle.call.wait_for_connection()
        reading = asyncio.create_task(idle.read())
        await until(lambda: orchestrator.slots_in_use() == 1)
        assert (await ended(Session(stub))).reason == "NO_CAPACITY"  # not even a message was read
        await until_free(orchestrator)
        quick = Session(stub)
        await quick.open()
        await idle.send(config())
        with pytest.raises(ServiceError, match="NO_CAPACITY"):
            await reading
        await quick.rest(Request(audio=speech), END)
        late = Session(stub)
        reading = asyncio.create_task(late.read())
        await asyncio.sleep(1.5)
        await late.send(config())
        assert (await reading).HasField("started")  # type: ignore[union-attr]
        late.call.cancel()


async def test_uploads_have_slots_of_their_own(start: Start, speech: bytes) -> None:
    orchestrator = start(slots="1", upload_slots="2")
    async with stub_of(orchestrator) as stub:
        uploads = [stub.UploadPortrait() for _ in range(2)]
        for upload in uploads:
            await upload.write(talking_face.UploadPortraitRequest(data=b"half a portrait"))
        await asyncio.sleep(0.2)
        third = stub.UploadPortrait()
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await third
        refusal = ServiceError.from_rpc(refused.value)
        assert (refusal.reason, refusal.retryable) == ("NO_CAPACITY", True)
        session = Session(stub)
        await session.open()
        await session.rest(Request(audio=speech), END)
        assert session.frames == 50
        uploads[0].cancel()

        async def reason() -> str:
            upload = stub.UploadPortrait()
            await upload.done_writing()
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await upload
            return ServiceError.from_rpc(refused.value).reason

        async with asyncio.timeout(60):
            while (last := await reason()) == "NO_CAPACITY":  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        assert last == "STAGE_UNAVAILABLE"  # there is no renderer


# --- quotas


@pytest.fixture(scope="module")
def shared_out(start: Start) -> ServiceProcess:
    """An orchestrator where a caller may hold half the slots."""
    return start(caller_slots=str(SLOTS // 2))


@pytest.mark.parametrize("caller", ["web@example.org", None], ids=["named", "nameless"])
async def test_a_caller_has_its_share_and_no_more(
    shared_out: ServiceProcess, stages: list[ServiceProcess], caller: str | None
) -> None:
    async with stub_of(shared_out) as stub:
        outcomes: Counter[str] = Counter()
        sessions = [Session(stub, caller) for _ in range(OVERLOAD)]

        async def open_one(session: Session) -> None:
            try:
                await session.open()
                outcomes["started"] += 1
            except ServiceError as error:
                assert error.code is grpc.StatusCode.RESOURCE_EXHAUSTED
                assert error.retry_delay is not None
                outcomes[error.reason] += 1

        await asyncio.gather(*(open_one(session) for session in sessions))
        share = SLOTS // 2
        assert outcomes == {"started": share, "QUOTA_EXCEEDED": OVERLOAD - share}
        other = Session(stub, "another")
        await other.open()
        can = await stub.GetCapabilities(talking_face.GetCapabilitiesRequest())
        assert can.limits.max_sessions_per_caller == share
    await until_free(shared_out, *stages)


async def test_every_kind_of_end_releases_the_share(
    shared_out: ServiceProcess, stages: list[ServiceProcess], speech: bytes
) -> None:
    async def finish(session: Session) -> None:
        await session.rest(Request(audio=speech), END)

    async def cancel(session: Session) -> None:
        session.call.cancel()

    async def misuse(session: Session) -> None:
        assert (await ended(session, config())).reason == "MESSAGE_ORDER"

    async def close(session: Session) -> None:
        await session.call.done_writing()
        assert (await ended(session)).reason == "MESSAGE_ORDER"

    async with stub_of(shared_out) as stub:
        for end in (finish, cancel, misuse, close):
            sessions = [Session(stub, "one") for _ in range(SLOTS // 2)]
            for session in sessions:
                await session.open()
            assert (await ended(Session(stub, "one"))).reason == "QUOTA_EXCEEDED"
            for session in sessions:
                await end(session)
            await until_free(shared_out, *stages)
        for bad in ("two words", "x" * 129, ""):
            error = await ended(Session(stub, bad))
            assert list(error.field_violations) == [f"metadata.{CALLER}"]
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await stub.SelfTest(talking_face.SelfTestRequest(), metadata=((CALLER, bad),))
            assert ServiceError.from_rpc(refused.value).reason == "FIELD_INVALID"
    assert not shared_out.slots_in_use()


# --- time limits


async def test_sessions_end_at_their_time(start: Start, speech: bytes) -> None:
    orchestrator = start(session_seconds="4", live_idle_timeout="2", idle_timeout="30")
    async with stub_of(orchestrator) as stub:
        limits = (await stub.GetCapabilities(talking_face.GetCapabilitiesRequest())).limits
        assert (limits.session_time.seconds, limits.live_idle_timeout.seconds) == (4, 2)
        began = time.perf_counter()
        trickling, silent, talking = Session(stub), Session(stub), Session(stub)
        live = config(pacing=talking_face.PACING_LIVE)
        await trickling.open()
        await silent.open(live)
        await talking.open(live)

        async def trickle(session: Session) -> None:
            for i in range(100):  # for at least five seconds
                await session.send(Request(audio=speech[i * 640 : i * 640 + 640]))
                await asyncio.sleep(0.05)

        async def after(session: Session) -> tuple[str, float]:
            error = await ended(session)
            assert error.code is grpc.StatusCode.DEADLINE_EXCEEDED
            return error.reason, time.perf_counter() - began

        talk = [asyncio.create_task(trickle(session)) for session in (trickling, talking)]
        ends = await asyncio.gather(*map(after, (trickling, silent, talking)))
        await asyncio.gather(*talk)
    assert [reason for reason, _ in ends] == ["SESSION_TIMEOUT", "IDLE_TIMEOUT", "SESSION_TIMEOUT"]
    for (_, seconds), least in zip(ends, (4, 2, 4), strict=True):
        assert seconds > least - 0.2
    assert trickling.frames and silent.frames and talking.frames
    record(f"ended after {[round(seconds, 2) for _, seconds in ends]} s")
    assert not orchestrator.slots_in_use()


# --- clients that vanish

CLIENT = """
import asyncio, sys
from talkingface.client import *

async def main():
    async def audio():
        while True:
            yield bytes(6400)
            await asyncio.sleep(0.1)

    async with TalkingFace(sys.argv[1]) as face:
        async for message in face.animate(
            portrait=sys.argv[3] or None, audio=audio(), audio_format=pcm(16000),
            output=OUTPUT_KIND_FMP4 if sys.argv[3] else OUTPUT_KIND_MOTION,
            pacing=PACING_LIVE if sys.argv[2] == "live" else PACING_OFFLINE,
        ):
            if isinstance(message, Motion | Media):
                print("moves", flush=True)

asyncio.run(main())
"""


@contextmanager
def client_process(
    service: ServiceProcess, pacing: str, handle: str = ""
) -> Iterator[subprocess.Popen[bytes]]:
    """A client as a process of its own, whose session has begun."""
    client = subprocess.Popen(
        [sys.executable, "-c", CLIENT, service.address, pacing, handle], stdout=subprocess.PIPE
    )
    try:
        assert client.stdout is not None and client.stdout.readline() == b"moves\n"
        yield client
    finally:
        client.kill()
        client.wait(10)


@pytest.mark.parametrize("pacing", ["live", "offline"])
async def test_a_killed_client_frees_all_slots_also_where_all_is_busy(
    orchestrator: ServiceProcess, stages: list[ServiceProcess], speech: bytes, pacing: str
) -> None:
    services = [orchestrator, *stages]
    async with stub_of(orchestrator) as stub:
        with client_process(orchestrator, pacing) as client:
            busy = [Session(stub) for _ in range(SLOTS - 1)]
            for session in busy:
                await session.open()
            work = [
                asyncio.create_task(session.rest(*[Request(audio=speech * 4)] * 5, END))
                for session in busy
            ]
            assert [service.slots_in_use() for service in services] == [SLOTS] * 3
            client.send_signal(signal.SIGKILL)
            began = time.perf_counter()
            await until(lambda: all(service.slots_in_use() < SLOTS for service in services))
            record(f"free {(time.perf_counter() - began) * 1000:.0f} ms after the kill")
        assert all(session.frames < 1000 for session in busy), "the others are busy to the end"
        for task in work:
            task.cancel()


async def test_a_killed_client_frees_the_renderer_as_well(
    mesh: ServiceProcess,
    stages: list[ServiceProcess],
    renderer_service: ServiceProcess,
    portrait_file: Path,
) -> None:
    services = [mesh, *stages, renderer_service]
    async with TalkingFace(mesh.address) as face:
        handle = (await face.upload_portrait(portrait_file)).handle
    with client_process(mesh, "live", handle) as client:
        assert [service.slots_in_use() for service in services] == [1] * 4
        client.send_signal(signal.SIGKILL)
        record(f"free {await until_free(*services) * 1000:.0f} ms after the kill")


# --- drain


async def liveness(service: ServiceProcess) -> str:
    async with grpc.aio.insecure_channel(service.address) as channel:
        request = health_pb2.HealthCheckRequest(service=LIVENESS)
        answer = await health_pb2_grpc.HealthStub(channel).Check(request)
    return health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)


async def test_the_end_of_a_drain_is_reported(start: Start, speech: bytes) -> None:
    orchestrator = start(drain_timeout="4")
    async with stub_of(orchestrator) as stub:
        session, upload = Session(stub), stub.UploadPortrait()
        await session.open()
        await upload.write(talking_face.UploadPortraitRequest(data=b"half a portrait"))
        await session.send(Request(audio=speech[:32000]))
        await asyncio.sleep(0.2)
        orchestrator.process.send_signal(signal.SIGTERM)
        while session.draining is None:
            assert await session.read() is not None
        assert 0 < session.draining.deadline.ToMilliseconds() / 1000 <= 4
        assert health(orchestrator.address) == "NOT_SERVING"
        assert await liveness(orchestrator) == "SERVING"
        assert (await ended(Session(stub))).reason == "DRAINING"
        for refused in (stub.UploadPortrait(), stub.SelfTest(talking_face.SelfTestRequest())):
            with pytest.raises(grpc.aio.AioRpcError) as raised:
                await refused
            assert ServiceError.from_rpc(raised.value).reason == "DRAINING"
        assert (await ended(session)).reason == "DRAINING"  # it has not ended in time
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await upload
        assert ServiceError.from_rpc(raised.value).reason == "DRAINING"
    assert await asyncio.to_thread(orchestrator.process.wait, 60) == 0


async def test_a_stage_reports_the_end_of_its_drain(service_logs: Path) -> None:
    encoder = ServiceProcess(
        "talkingface.audio_features.server", service_logs / "drained.log", drain_timeout="1"
    )
    try:
        encoder.wait_until_serving()
        async with grpc.aio.insecure_channel(encoder.address) as channel:
            call = AudioFeaturesServiceStub(channel).Extract()
            first = audio_features.ExtractConfig(session_id="s")
            await call.write(audio_features.ExtractRequest(config=first))
            await call.read()
            encoder.process.send_signal(signal.SIGTERM)
            with pytest.raises(grpc.aio.AioRpcError) as raised:
                await call.read()
        assert ServiceError.from_rpc(raised.value).reason == "DRAINING"
        assert await asyncio.to_thread(encoder.process.wait, 60) == 0
    finally:
        encoder.process.kill()


def test_an_idle_service_shuts_down_at_once(start: Start) -> None:
    orchestrator = start(drain_timeout="600")  # longer than `stop` waits
    assert orchestrator.stop() == 0


def test_a_service_can_be_shut_down_while_it_starts(service_logs: Path) -> None:
    for i, sign in enumerate(("event=listening", "triton")):
        service = ServiceProcess(
            "talkingface.motion_gen.server",
            service_logs / f"starting{i}.log",
            drain_timeout="600",
            log_level="DEBUG",
        )
        try:
            while sign not in service.log:
                assert service.process.poll() is None
                time.sleep(0.01)
            children = Path(f"/proc/{service.process.pid}/task/{service.process.pid}/children")
            pids = children.read_text().split()
            assert service.stop() == 0
            assert "event=stopped" in service.log
            assert "event=serving" not in service.log
            assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
        finally:
            service.process.kill()


# --- slots that are measured


async def test_slots_are_measured_and_followed(start: Start, service_logs: Path) -> None:
    encoder, generator = (
        ServiceProcess(
            f"talkingface.{name}.server", service_logs / f"{name}_measured.log", slots=slots
        )
        for name, slots in (("audio_features", "3"), ("motion_gen", "0"))
    )
    try:
        for service in (encoder, generator):
            service.wait_until_serving()
        status = await status_of(generator)
        assert status.slots_total == generator.metric("talkingface_slots_total{") >= 1
        assert f"event=measured slots={status.slots_total} " in generator.log
        orchestrator = start(
            slots="0",
            audio_features_target=encoder.address,
            motion_gen_target=generator.address,
        )
        expected = min(3, status.slots_total)
        await until_total(orchestrator, expected)
        async with stub_of(orchestrator) as stub:
            can = await stub.GetCapabilities(talking_face.GetCapabilitiesRequest())
            assert can.limits.max_sessions == expected
        encoder.stop()
        await until_total(orchestrator, status.slots_total)
    finally:
        for service in (encoder, generator):
            service.process.kill()


async def test_a_machine_that_the_stages_share_is_measured_and_followed(
    start: Start, renderer_service: ServiceProcess
) -> None:
    orchestrator = start(slots="0", shared_machine="true", renderer_target=renderer_service.address)
    await until(lambda: "event=capacity" in orchestrator.log)
    (measured,) = re.findall(r"event=capacity sessions=(\d+)", orchestrator.log)
    held = min(int(measured), SLOTS)
    await until_total(orchestrator, held)
    async with stub_of(orchestrator) as stub:
        sessions = [Session(stub) for _ in range(held)]
        for session in sessions:
            await session.open()
        with pytest.raises(ServiceError, match="NO_CAPACITY"):
            await Session(stub).open()
        for session in sessions:
            session.call.cancel()


async def until_total(service: ServiceProcess, total: int) -> None:
    await until(lambda: service.metric("talkingface_slots_total{") == total)
