"""Hundreds of malformed, hostile and half-finished calls: no crash, no hang, no leak.

`FUZZ_CASES` sets how many; case i is the same in every run. `make test-long` makes thousands.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import struct
from collections import Counter
from collections.abc import Iterator
from typing import Any

import grpc
import numpy as np
import pytest

from talkingface.client import OUTPUT_KIND_MOTION, Motion, TalkingFace, pcm
from talkingface.contract.call_status import CallStatus
from talkingface.contract.errors import TABLE
from talkingface.v1 import controls_pb2 as controls
from talkingface.v1 import media_pb2 as media
from talkingface.v1 import talking_face_pb2 as talking_face
from talkingface.v1.talking_face_pb2_grpc import TalkingFaceServiceStub
from tests.support.audio import RATE
from tests.support.meshes import Mesh
from tests.support.report import record

CASES = int(os.environ.get("FUZZ_CASES", "800"))
CONCURRENT = 8
SECONDS_PER_CASE = 120.0
Request = talking_face.AnimateRequest
# Reasons that calls like these may be refused with. Any other one is a defect.
EXPECTED = {reason for reason, row in TABLE.items() if row.code.name != "INTERNAL"} - {
    "UNSPECIFIED", "STAGE_UNAVAILABLE", "DRAINING", "CHECKPOINT_MISMATCH"
}  # fmt: skip
NUMBERS = (0, 1, -1, 0.5, 1e-30, 1e30, -1e30, float("nan"), float("inf"), -float("inf"), 25, 90)


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    """A mesh without a renderer."""
    environ = {"TALKINGFACE_SLOTS": "16", "TALKINGFACE_IDLE_TIMEOUT": "5"}
    folder, stages = tmp_path_factory.mktemp("fuzz"), ("audio_features", "motion_gen")
    with Mesh(folder, stages=stages, environ=environ) as mesh:
        yield mesh


def number(rng: random.Random) -> float:
    return rng.choice(NUMBERS) if rng.random() < 0.5 else rng.uniform(-200, 200)


def random_controls(rng: random.Random) -> controls.Controls:
    message = controls.Controls()
    scales = ("head_motion_scale", "mouth_scale", "expressivity")
    for name in ("distance_ratio", "blink_rate", *scales):
        if rng.random() < 0.3:
            setattr(message, name, np.float32(number(rng)).item())
    if rng.random() < 0.3:
        message.gaze_direction.pitch = np.float32(number(rng)).item()
    if rng.random() < 0.3:
        message.emotion.anger = np.float32(number(rng)).item()
        message.emotion.strength = np.float32(number(rng)).item()
    return message


def random_config(rng: random.Random) -> Request:
    """A configuration that is valid but for up to two random fields."""
    pacing: Any = rng.choice([0, 0, 0, 1, 2])
    config: Any = talking_face.AnimateConfig(  # also with numbers that no enum has
        output=OUTPUT_KIND_MOTION,
        audio=media.AudioFormat(
            encoding=media.AUDIO_ENCODING_PCM_S16LE, sample_rate=RATE, channels=1
        ),
        seed=rng.randrange(2**40),
        pacing=pacing,
    )
    for _ in range(rng.choice([0, 0, 1, 1, 2])):
        match rng.randrange(11):
            case 0:
                config.output = rng.choice([0, 1, 2, 3, 4, 9, 1000])
            case 1:
                config.audio.encoding = rng.choice([0, 2, 3, 77])
            case 2:
                config.audio.sample_rate = rng.choice([0, 1, 7999, 8000, 48000, 48001, 2**32 - 1])
            case 3:
                config.audio.channels = rng.choice([0, 2, 3, 2**31])
            case 4:
                config.seed = rng.choice([0, 2**63 - 1, 2**63, 2**64 - 1])
            case 5:
                config.portrait_handle = rng.choice(
                    ["", "sha256:" + "0" * 64, "sha256:" + "g" * 64, "../../etc/passwd", "x" * 5000]
                )
            case 6:
                config.portrait_image = rng.randbytes(rng.choice([0, 1, 100, 50_000]))
            case 7:
                config.controls.CopyFrom(random_controls(rng))
            case 8:
                config.ClearField("audio")
            case 9:
                config.size = rng.choice([0, 255, 513, 1026, 2**32 - 1])
            case 10:
                config.frame_rate = rng.choice([0, 24, 61, 2**32 - 1])
    return Request(config=config)


def random_audio(rng: random.Random) -> bytes:
    match rng.randrange(6):
        case 0:
            return b""
        case 1:
            return rng.randbytes(rng.choice([1, 2, 3, 1001, 6400]))
        case 2:
            return struct.pack("<8f", *[rng.choice(NUMBERS) for _ in range(8)])
        case 3:
            return b"RIFF" + rng.randbytes(60)
        case 4:
            return bytes(rng.choice([2**20, 2**20 + 1])) if rng.random() < 0.03 else bytes(3200)
        case _:
            return b"\x10\x00" * rng.choice([160, 3200, 8000])


def random_message(rng: random.Random) -> Request:
    match rng.randrange(10):
        case 0 | 1 | 2 | 3 | 4:
            return Request(audio=random_audio(rng))
        case 5:
            update = controls.ControlUpdate(controls=random_controls(rng))
            if rng.random() < 0.5:
                update.time.seconds = rng.choice([0, 1, -1, 10**6, 2**40])
                update.time.nanos = rng.choice([0, 5, -5, 2**31 - 1])
            return Request(control=update)
        case 6:
            name = "u" * rng.choice([0, 3, 64, 65, 4000])
            return Request(end_of_utterance=talking_face.EndOfUtterance(id=name))
        case 7:
            return Request(interrupt={})
        case 8:
            return random_config(rng)
        case _:
            return Request()


def sequence(rng: random.Random) -> list[Request]:
    messages = [random_message(rng) for _ in range(rng.randrange(8))]
    if rng.random() < 0.9:
        messages.insert(0, random_config(rng))
    if rng.random() < 0.6:
        messages.append(Request(end_of_audio={}))
    if rng.random() < 0.05:
        messages.append(random_message(rng))
    return messages


async def case(stub: TalkingFaceServiceStub, index: int) -> str:
    """Make one call.

    :return: "OK", "cancelled" or the reason of its error.
    :raises AssertionError: an answer that no client should see.
    """
    rng = random.Random(index)
    messages = sequence(rng)
    cancel_after = rng.choice([None] * 9 + [rng.randrange(4)])

    call = stub.Animate(timeout=SECONDS_PER_CASE)
    status = CallStatus(call)

    async def send() -> None:
        with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
            for message in messages:
                await call.write(message)
            await call.done_writing()

    sender = asyncio.create_task(send())
    try:
        answers = 0
        while await call.read() is not grpc.aio.EOF:
            answers += 1
            if answers == cancel_after:
                return "cancelled"
        return "OK"
    except grpc.aio.AioRpcError as error:
        refusal = await status.error(error)
        missing = refusal.metadata.get("stage") == "renderer"  # this mesh has none
        assert refusal.reason in EXPECTED or missing, f"case {index}: {refusal} ({error.code()})"
        return refusal.reason
    finally:
        sender.cancel()
        call.cancel()


@pytest.mark.timeout(300 + CASES)
async def test_the_mesh_survives_whatever_comes(mesh: Mesh) -> None:
    outcomes: Counter[str] = Counter()
    queue = iter(range(CASES))
    async with grpc.aio.insecure_channel(mesh.target) as channel:
        stub = TalkingFaceServiceStub(channel)
        for index in range(50):  # loads what is loaded once
            outcomes[await case(stub, -1 - index)] += 1
        before = {name: mesh.resident(name) for name in mesh.processes}

        async def work() -> None:
            for index in queue:
                outcomes[await case(stub, index)] += 1

        async with asyncio.TaskGroup() as group:
            for _ in range(CONCURRENT):
                group.create_task(work())
    assert outcomes.total() == CASES + 50
    # The cases do reach every part of a session.
    for reason in ("OK", "cancelled", "FIELD_INVALID", "MESSAGE_ORDER", "AUDIO_TOO_SHORT"):
        assert outcomes[reason] > CASES / 200, outcomes
    mesh.check()
    await mesh.until_idle()
    grown = {name: mesh.resident(name) - size for name, size in before.items()}
    assert max(grown.values()) < 60, f"MiB more: {grown}"
    async with TalkingFace(mesh.target) as face:
        frames = 0
        async for message in face.animate(
            portrait=None, audio=bytes(2 * RATE), audio_format=pcm(RATE), output=OUTPUT_KIND_MOTION
        ):
            frames += len(message.frames) if isinstance(message, Motion) else 0
    assert frames == 25
    growth = {name: round(mib) for name, mib in grown.items()}
    record(f"{dict(outcomes.most_common())}, MiB more: {growth}")
