"""Settings, slots, metrics, shared memory and calls of any service."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import urllib.request
from dataclasses import dataclass, fields
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from talkingface.contract.errors import ServiceError
from talkingface.serving.admission import Slots, check_caller
from talkingface.serving.config import (
    AudioFeaturesConfig,
    ConfigError,
    RendererConfig,
    ServiceConfig,
    load,
    setting,
)
from talkingface.serving.metrics import Metrics
from talkingface.serving.server import ServiceHost
from talkingface.serving.triton import shared_memory


@dataclass(frozen=True, kw_only=True)
class _Example(ServiceConfig):
    share: float = setting(0.5, "A share.", low=0, high=1)
    folder: Path | None = setting(None, "A folder.")
    loud: bool = setting(False, "A switch.")


def test_settings_come_from_the_environment() -> None:
    config = load(
        _Example,
        {
            "TALKINGFACE_SLOTS": "7",
            "TALKINGFACE_SHARE": "0.25",
            "TALKINGFACE_FOLDER": "/srv",
            "TALKINGFACE_LOUD": "yes",
            "TALKINGFACE_HOST": "",
        },
    )
    assert (config.slots, config.share, config.folder, config.loud, config.host) == (
        7,
        0.25,
        Path("/srv"),
        True,
        "127.0.0.1",
    )


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("SLOTS", "-1"),
        ("SLOTS", "many"),
        ("SHARE", "nan"),
        ("SHARE", "1.1"),
        ("LOUD", "maybe"),
        ("LOG_LEVEL", "LOUD"),
        ("PORT", "65536"),
    ],
)
def test_bad_settings_are_named(variable: str, value: str) -> None:
    with pytest.raises(
        ConfigError, match=variable.lower() if variable == "LOG_LEVEL" else variable
    ):
        load(_Example, {f"TALKINGFACE_{variable}": value})


def test_every_bad_setting_is_named_at_once() -> None:
    with pytest.raises(ConfigError, match=r"SLOTS.*\n.*SHARE"):
        load(_Example, {"TALKINGFACE_SLOTS": "x", "TALKINGFACE_SHARE": "2"})


def test_a_service_with_a_bad_setting_exits_with_2() -> None:
    environ = os.environ | {"TALKINGFACE_SLOTS": "-1"}
    ended = subprocess.run(
        [sys.executable, "-m", "talkingface.audio_features.server"],
        env=environ,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ended.returncode == 2
    assert ended.stderr.strip() == "configuration: TALKINGFACE_SLOTS='-1' is outside [0, 1024]"


def test_help_lists_every_setting() -> None:
    text = subprocess.run(
        [sys.executable, "-m", "talkingface.renderer.server", "--help"],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    ).stdout
    assert "| TALKINGFACE_SLOTS | 4 | 0..1024 | Streams held at a time" in text
    for field in fields(RendererConfig):
        assert f"| TALKINGFACE_{field.name.upper()} |" in text


def test_ports_of_the_stages_differ() -> None:
    assert load(AudioFeaturesConfig, {}).port != load(RendererConfig, {}).port


def test_metrics_are_served() -> None:
    metrics = Metrics("example")
    metrics.set_slots(1, 4)
    metrics.count("rows", 50)
    metrics.call_ended("Extract", "OK")
    metrics.first_result("Extract", 0.1)
    with metrics.timed("encode"):
        pass
    port, close = metrics.serve("127.0.0.1", 0)
    try:
        text = urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics").read().decode()
    finally:
        close()
    for sample in (
        'talkingface_slots_in_use{service="example"} 1.0',
        'talkingface_slots_total{service="example"} 4.0',
        'talkingface_items_total{kind="rows",service="example"} 50.0',
        'talkingface_calls_total{code="OK",method="Extract",reason="",service="example"} 1.0',
        'talkingface_step_seconds_count{service="example",step="encode"} 1.0',
        'talkingface_first_result_seconds_count{method="Extract",service="example"} 1.0',
        "process_resident_memory_bytes",
    ):
        assert sample in text


def test_slots_are_refused_and_come_back() -> None:
    changes: list[tuple[int, int]] = []
    slots = Slots("example", 1, on_change=lambda *numbers: changes.append(numbers))
    slots.take()
    with pytest.raises(ServiceError) as refused:
        slots.take()
    assert refused.value.reason == "NO_CAPACITY"
    slots.free()
    slots.take()
    slots.total = 0  # streams that run are kept
    assert slots.in_use == 1
    assert changes == [(0, 1), (1, 1), (0, 1), (1, 1), (1, 0)]


def test_one_caller_gets_no_more_than_its_share() -> None:
    slots = Slots("example", 5, per_caller=2)
    for caller in ("a", "a", "", ""):
        slots.take(caller)
    for caller in ("a", ""):
        with pytest.raises(ServiceError, match="QUOTA_EXCEEDED"):
            slots.take(caller)
    slots.take("b")
    with pytest.raises(ServiceError, match="NO_CAPACITY"):
        slots.take("c")
    slots.free("a")
    slots.take("a")


@pytest.mark.parametrize("names", [[""], ["a b"], ["\u00e9"], ["x" * 129], ["a\n"], ["a", "a"]])
def test_a_bad_name_of_a_caller_is_refused(names: list[str]) -> None:
    assert check_caller(["spiffe://mesh/ns/web"], "x-caller") == "spiffe://mesh/ns/web"
    assert check_caller([], "x-caller") == ""
    with pytest.raises(ServiceError) as refused:
        check_caller(names, "x-caller")
    assert list(refused.value.field_violations) == ["metadata.x-caller"]


def test_regions_of_dead_processes_are_swept() -> None:
    script = (
        "from talkingface.serving.triton.shared_memory import Region; import os, signal\n"
        "print(Region('test', 4096).name, flush=True); os.kill(os.getpid(), signal.SIGKILL)"
    )
    dead = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    left = shared_memory.FOLDER / dead.stdout.strip().removeprefix("/")
    living = shared_memory.Region("test", 4096)
    kept = shared_memory.FOLDER / living.name.removeprefix("/")
    # A restarted container has the pid of the one before.
    machine, start = re.findall(r"talkingface-(\w+)-\d+-(\w+)-", kept.name)[0]
    before = kept.with_name(f"talkingface-{machine}-{os.getpid()}-{int(start, 16) - 1:x}-test0")
    before.touch()
    try:
        assert left.exists()
        assert {left.name, before.name} <= set(shared_memory.sweep())
        assert not left.exists()
        assert not before.exists()
        assert kept.exists()
    finally:
        living.close()
    assert not kept.exists()


async def test_unknown_errors_tell_nothing_of_the_inside() -> None:
    host = ServiceHost("example", ServiceConfig())

    class Broken(health_pb2_grpc.HealthServicer):
        async def Check(self, request: object, context: grpc.aio.ServicerContext) -> None:
            async with host.call(context, "Check") as call:
                call.session_id = "s-1"
                call.reserve()
                raise KeyError("secret")

    server = grpc.aio.server()
    health_pb2_grpc.add_HealthServicer_to_server(Broken(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            with pytest.raises(grpc.aio.AioRpcError) as failed:
                await stub.Check(health_pb2.HealthCheckRequest())
    finally:
        await server.stop(0)
    error = ServiceError.from_rpc(failed.value)
    assert (error.reason, dict(error.metadata)) == ("INTERNAL", {"session_id": "s-1"})
    assert "secret" not in str(failed.value)
    assert host.slots.in_use == 0
