"""The stage services over gRPC, each with its real Triton: streams, refusals, faults."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import Message
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from talkingface.contract.call_status import CallStatus
from talkingface.contract.channel import CLIENT_OPTIONS
from talkingface.contract.errors import ServiceError
from talkingface.contract.messages import features_arrays, features_message, motion_array
from talkingface.contract.motion import DISTANCE
from talkingface.serving.health import check as health
from talkingface.serving.server import LIVENESS
from talkingface.v1 import (
    audio_features_pb2_grpc,
    motion_gen_pb2_grpc,
)
from talkingface.v1.audio_features_pb2 import ExtractConfig, ExtractRequest
from talkingface.v1.controls_pb2 import Controls, ControlUpdate, Gaze
from talkingface.v1.motion_gen_pb2 import GenerateConfig, GenerateRequest
from talkingface.v1.stage_pb2 import GetStatusRequest, MeasureCapacityRequest
from talkingface.v1.stage_pb2_grpc import StageStatusServiceStub
from tests.support.services import (
    ServiceProcess,
    StreamClient,
    running_service,
    until,
    until_free,
)


@pytest.fixture
async def extract(audio_features_service: ServiceProcess) -> AsyncIterator[StreamClient]:
    """Client of `Extract`."""
    async with grpc.aio.insecure_channel(audio_features_service.address, CLIENT_OPTIONS) as channel:
        yield StreamClient(audio_features_pb2_grpc.AudioFeaturesServiceStub(channel).Extract)


@pytest.fixture
async def generate(motion_gen_service: ServiceProcess) -> AsyncIterator[StreamClient]:
    """Client of `Generate`."""
    async with grpc.aio.insecure_channel(motion_gen_service.address, CLIENT_OPTIONS) as channel:
        yield StreamClient(motion_gen_pb2_grpc.MotionGenServiceStub(channel).Generate)


EXTRACT_CONFIG = ExtractRequest(config=ExtractConfig(session_id="test-1"))
EXTRACT_END = ExtractRequest(end=Empty())
GENERATE_CONFIG = GenerateRequest(config=GenerateConfig(session_id="test-1", seed=5))
GENERATE_END = GenerateRequest(end=Empty())


def audio(samples: np.ndarray) -> ExtractRequest:
    """A message of samples."""
    return ExtractRequest(audio=samples.astype("<f4").tobytes())


def rows(first: int, count: int) -> GenerateRequest:
    """A message of features: the rows `first` ... of an endless made-up sequence."""
    features = np.stack([np.sin(np.arange(128) * (first + i + 1) / 40) for i in range(count)])
    prosody = np.stack([[0.9, -20, 7, 0.8] for _ in range(count)])
    return GenerateRequest(
        features=features_message(first, features.astype(np.float32), prosody.astype(np.float32))
    )


async def features_of(client: StreamClient, voice: np.ndarray, chunk: int) -> np.ndarray:
    """All features (n, 132) of a voice sent in chunks."""
    chunks = [audio(voice[i : i + chunk]) for i in range(0, len(voice), chunk)]
    answers = await client.exchange([EXTRACT_CONFIG, *chunks, EXTRACT_END])
    assert answers[0].started.stage == "audio_features"
    assert answers[0].started.model.startswith("speech_encoder@")
    table: list[np.ndarray] = []
    for answer in answers[1:]:
        table.extend(np.hstack(features_arrays(answer.features, len(table))))
    return np.array(table)


async def motion_of(client: StreamClient, count: int, chunk: int, *extra: Message) -> np.ndarray:
    """All motion (n, 60) for `count` rows sent in chunks."""
    chunks = [rows(i, min(chunk, count - i)) for i in range(0, count, chunk)]
    answers = await client.exchange([GENERATE_CONFIG, *extra, *chunks, GENERATE_END])
    assert answers[0].started.stage == "motion_gen"
    motion: list[np.ndarray] = []
    for answer in answers[1:]:
        motion.extend(motion_array(answer.motion, len(motion)))
    return np.array(motion)


# --- results


async def test_features_do_not_depend_on_chunks_or_neighbours(
    extract: StreamClient, voice: np.ndarray
) -> None:
    whole = await features_of(extract, voice, 32_000)
    assert whole.shape == (100, 132)
    assert np.isfinite(whole).all()
    others = await asyncio.gather(
        features_of(extract, voice, 1280),
        features_of(extract, voice, 777),
        features_of(extract, voice[::-1], 5000),
    )
    assert np.array_equal(whole, others[0])
    assert np.array_equal(whole, others[1])
    assert not np.array_equal(whole, others[2])


async def test_features_flow_before_the_audio_ends(
    extract: StreamClient, voice: np.ndarray
) -> None:
    call = extract.method()
    await call.write(EXTRACT_CONFIG)
    assert (await call.read()).started.look_ahead_ms == 80
    await call.write(audio(voice[:4000]))
    async with asyncio.timeout(60):
        assert (await call.read()).features.first_row == 0
    call.cancel()


async def test_motion_does_not_depend_on_chunks_or_neighbours(generate: StreamClient) -> None:
    whole = await motion_of(generate, 61, 61)
    assert whole.shape == (31, 60)
    others = await asyncio.gather(motion_of(generate, 61, 4), motion_of(generate, 61, 13))
    assert np.array_equal(whole, others[0])
    assert np.array_equal(whole, others[1])


async def test_a_control_acts_from_its_time_on(generate: StreamClient) -> None:
    plain = await motion_of(generate, 60, 60)
    farther = ControlUpdate(time=Duration(nanos=400_000_000), controls=Controls(distance_ratio=1.5))
    moved = await motion_of(generate, 60, 4, GenerateRequest(control=farther))
    changed = np.flatnonzero((moved != plain).any(axis=1))
    assert changed[0] == 10  # 0.4 s
    assert moved[-1, DISTANCE] - plain[-1, DISTANCE] > 0.4


# --- refusals

BIG = bytes((1 << 20) + 4)

BAD_EXTRACTS = {
    "no message": ([], "MESSAGE_ORDER", ""),
    "audio first": ([audio(np.zeros(10))], "MESSAGE_ORDER", ""),
    "empty message": ([ExtractRequest()], "MESSAGE_ORDER", ""),
    "no session id": (
        [ExtractRequest(config=ExtractConfig())],
        "FIELD_INVALID",
        "config.session_id",
    ),
    "bad session id": (
        [ExtractRequest(config=ExtractConfig(session_id="a b"))],
        "FIELD_INVALID",
        "config.session_id",
    ),
    "two configs": ([EXTRACT_CONFIG, EXTRACT_CONFIG], "MESSAGE_ORDER", ""),
    "not finite": ([EXTRACT_CONFIG, audio(np.array([0, np.nan]))], "AUDIO_NOT_FINITE", ""),
    "half a float": ([EXTRACT_CONFIG, ExtractRequest(audio=b"abc")], "FIELD_INVALID", "audio"),
    "too large": ([EXTRACT_CONFIG, ExtractRequest(audio=BIG)], "MESSAGE_TOO_LARGE", ""),
    "no end": ([EXTRACT_CONFIG, audio(np.zeros(9000))], "MESSAGE_ORDER", ""),
}


@pytest.mark.parametrize("case", BAD_EXTRACTS)
async def test_bad_audio_is_refused(
    extract: StreamClient, audio_features_service: ServiceProcess, case: str
) -> None:
    await extract.check_refusal(*BAD_EXTRACTS[case])
    assert audio_features_service.slots_in_use() == 0


def control(**fields: Any) -> GenerateRequest:
    """An update of controls."""
    return GenerateRequest(control=ControlUpdate(controls=Controls(**fields)))


BAD_GENERATES = {
    "features first": ([rows(0, 1)], "MESSAGE_ORDER", ""),
    "seed too large": (
        [GenerateRequest(config=GenerateConfig(session_id="a", seed=2**63))],
        "FIELD_INVALID",
        "config.seed",
    ),
    "bad control at the start": (
        [
            GenerateRequest(
                config=GenerateConfig(session_id="a", controls=Controls(distance_ratio=9))
            )
        ],
        "FIELD_INVALID",
        "config.controls.distance_ratio",
    ),
    "bad control later": (
        [GENERATE_CONFIG, control(gaze_direction=Gaze(pitch=90))],
        "FIELD_INVALID",
        "control.controls.gaze_direction.pitch",
    ),
    "not a number": (
        [GENERATE_CONFIG, control(mouth_scale=float("nan"))],
        "FIELD_INVALID",
        "control.controls.mouth_scale",
    ),
    "time before the start": (
        [GENERATE_CONFIG, GenerateRequest(control=ControlUpdate(time=Duration(seconds=-1)))],
        "FIELD_INVALID",
        "control.time",
    ),
    "a gap": ([GENERATE_CONFIG, rows(0, 4), rows(8, 4)], "MESSAGE_ORDER", ""),
}


@pytest.mark.parametrize("case", BAD_GENERATES)
async def test_bad_motion_input_is_refused(
    generate: StreamClient, motion_gen_service: ServiceProcess, case: str
) -> None:
    await generate.check_refusal(*BAD_GENERATES[case])
    assert motion_gen_service.slots_in_use() == 0


# --- life of a stream


async def test_one_stream_too_many_is_refused_at_once(
    extract: StreamClient, audio_features_service: ServiceProcess, voice: np.ndarray
) -> None:
    calls = [extract.method() for _ in range(4)]
    for call in calls:
        await call.write(EXTRACT_CONFIG)
        assert (await call.read()).HasField("started")
    assert audio_features_service.slots_in_use() == 4
    with pytest.raises(ServiceError) as refused:  # while the others hold all slots
        await extract.exchange([EXTRACT_CONFIG])
    assert (refused.value.reason, refused.value.retryable) == ("NO_CAPACITY", True)
    # The streams that hold the slots are served all the same.
    await calls[0].write(audio(voice))
    assert (await calls[0].read()).HasField("features")
    for call in calls:
        call.cancel()
    await until_free(audio_features_service)


async def test_a_client_that_goes_away_frees_its_slot(
    extract: StreamClient,
    generate: StreamClient,
    audio_features_service: ServiceProcess,
    motion_gen_service: ServiceProcess,
    voice: np.ndarray,
) -> None:
    for client, service, messages in (
        (extract, audio_features_service, [EXTRACT_CONFIG, *[audio(np.tile(voice, 5))] * 10]),
        (generate, motion_gen_service, [GENERATE_CONFIG, rows(0, 500)]),
    ):
        task = asyncio.create_task(client.exchange(messages))
        await until(lambda service=service: service.slots_in_use() == 1)  # type: ignore[misc]
        task.cancel()
        await until_free(service)


# --- the service around


async def test_health_reflection_and_metrics(audio_features_service: ServiceProcess) -> None:
    address = audio_features_service.address
    assert health(address) == "SERVING"
    async with grpc.aio.insecure_channel(address) as channel:
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        request = reflection_pb2.ServerReflectionRequest(list_services="")
        async for answer in stub.ServerReflectionInfo(iter([request])):
            names = {service.name for service in answer.list_services_response.service}
    assert {"talkingface.v1.AudioFeaturesService", "grpc.health.v1.Health"} <= names
    assert audio_features_service.metric("talkingface_ready{") == 1
    assert audio_features_service.metric("talkingface_slots_total{") == 4


async def test_capacity_is_measured_on_request_and_takes_no_slot(
    audio_features_service: ServiceProcess, extract: StreamClient, voice: np.ndarray
) -> None:
    async with grpc.aio.insecure_channel(audio_features_service.address) as channel:
        stub = StageStatusServiceStub(channel)
        interrupted = stub.MeasureCapacity(MeasureCapacityRequest(), timeout=60)
        await interrupted.wait_for_connection()
        interrupted.cancel()
        answer = await stub.MeasureCapacity(MeasureCapacityRequest(), timeout=60)
        assert answer.streams > 0
        status = await stub.GetStatus(GetStatusRequest(), timeout=60)
    assert (status.slots_total, status.slots_in_use) == (4, 0)
    answers = await extract.exchange([EXTRACT_CONFIG, audio(voice), EXTRACT_END])
    assert sum(answer.features.rows for answer in answers) == len(voice) // 320


def test_a_port_in_use_is_reported(
    audio_features_service: ServiceProcess, service_logs: Path
) -> None:
    port = audio_features_service.address.rpartition(":")[2]
    log = service_logs / "taken.log"
    service = ServiceProcess("talkingface.audio_features.server", log, port=port)
    assert service.process.wait(60) == 1
    assert f"event=cannot_listen host=127.0.0.1 port={port}" in service.log


async def liveness(channel: grpc.aio.Channel) -> str:
    """The status that a liveness probe gets."""
    request = health_pb2.HealthCheckRequest(service=LIVENESS)
    answer = await health_pb2_grpc.HealthStub(channel).Check(request)
    return health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)


# --- faults, on a service of their own


@pytest.fixture(scope="module")
def faulty_service(service_logs: Path) -> Iterator[ServiceProcess]:
    """A speech encoder that waits for a silent client for a second."""
    yield from running_service(
        "talkingface.audio_features.server", service_logs / "faulty.log", idle_timeout="1"
    )


@pytest.fixture
async def faulty_channel(faulty_service: ServiceProcess) -> AsyncIterator[grpc.aio.Channel]:
    """A connection to it."""
    async with grpc.aio.insecure_channel(faulty_service.address, CLIENT_OPTIONS) as channel:
        yield channel


async def error_of(call: grpc.aio.StreamStreamCall) -> ServiceError:
    """The error that a call ends with, whatever it answers before."""
    status = CallStatus(call)
    with pytest.raises(grpc.aio.AioRpcError) as ended:
        while await call.read() is not grpc.aio.EOF:
            pass
    return await status.error(ended.value)


async def test_a_silent_client_times_out(faulty_channel: grpc.aio.Channel) -> None:
    call = audio_features_pb2_grpc.AudioFeaturesServiceStub(faulty_channel).Extract()
    await call.write(EXTRACT_CONFIG)
    began = time.monotonic()
    async with asyncio.timeout(60):
        assert (await error_of(call)).reason == "IDLE_TIMEOUT"
    assert time.monotonic() - began > 0.9  # never before its time


async def test_a_dead_triton_is_reported_and_started_again(
    faulty_service: ServiceProcess, faulty_channel: grpc.aio.Channel, voice: np.ndarray
) -> None:
    stub = audio_features_pb2_grpc.AudioFeaturesServiceStub(faulty_channel)
    client = StreamClient(stub.Extract)
    before = await features_of(client, voice, 4000)
    call = stub.Extract()
    await call.write(EXTRACT_CONFIG)
    await call.read()
    os.kill(faulty_service.triton_pid, signal.SIGKILL)
    await call.write(audio(voice))
    error = await error_of(call)
    assert (error.reason, error.retryable) == ("STAGE_UNAVAILABLE", True)
    # The watcher looks twice a second; Triton needs longer than that to load.
    await until(lambda: health(faulty_service.address) == "NOT_SERVING")
    assert await liveness(faulty_channel) == "SERVING"
    with pytest.raises(ServiceError, match="STAGE_UNAVAILABLE"):
        await client.exchange([EXTRACT_CONFIG])
    await asyncio.to_thread(faulty_service.wait_until_serving)
    assert np.array_equal(await features_of(client, voice, 4000), before)


async def test_draining_lets_a_stream_finish(
    faulty_service: ServiceProcess, faulty_channel: grpc.aio.Channel, voice: np.ndarray
) -> None:
    stub = audio_features_pb2_grpc.AudioFeaturesServiceStub(faulty_channel)
    call = stub.Extract()
    await call.write(EXTRACT_CONFIG)
    await call.read()
    faulty_service.process.send_signal(signal.SIGTERM)
    await until(lambda: health(faulty_service.address) == "NOT_SERVING")
    with pytest.raises(ServiceError) as refused:
        await StreamClient(stub.Extract).exchange([EXTRACT_CONFIG])
    assert (refused.value.reason, refused.value.retryable) == ("DRAINING", True)
    await call.write(audio(voice))
    await call.write(EXTRACT_END)
    count = 0
    while (answer := await call.read()) is not grpc.aio.EOF:
        count += answer.features.rows
    assert count == 100
    assert await asyncio.to_thread(faulty_service.process.wait, 60) == 0
