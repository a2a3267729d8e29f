"""A stream to a stage that breaks, and what its user notices of it: nothing."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest

from talkingface.common.errors import ServiceError
from talkingface.orchestrator import stream as streams
from talkingface.orchestrator.replicas import Replica
from talkingface.orchestrator.stream import StageStream
from talkingface.v1 import audio_features_pb2 as audio_features
from talkingface.v1 import stage_pb2 as stage

DEADLINE = 10.0


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "_PAUSE_SECONDS", 0.005)


class SummingCall:
    """A call of a stage whose rows are running sums of the bytes it was sent, two at a time.

    It makes a checkpoint every third result and breaks after `life` results.
    """

    def __init__(self, life: int, reason: str = "STAGE_UNAVAILABLE") -> None:
        self.info = stage.StageInfo(stage="sums")
        self.sent_until = self.received_until = 0.0
        self.replica = Replica("127.0.0.1:1")
        self._life, self._reason = life, reason
        self._answers: asyncio.Queue[Any] = asyncio.Queue()
        self._sum = self._row = self._taken = self._since = 0
        self._broken = False

    async def open(self, configuration: Any) -> SummingCall:
        if configuration.HasField("resume"):
            self._sum, self._row = np.frombuffer(configuration.resume.state, np.int64).tolist()
        return self

    async def send(self, audio: bytes) -> None:
        await asyncio.sleep(0)
        if self._broken:
            raise ServiceError(self._reason, "gone")
        for value in audio:
            self._sum += value
        self._taken += 1
        features = audio_features.AudioFeatures(first_row=self._row, rows=1)
        features.embedding = np.int64(self._sum).tobytes()
        self._row += 1
        self._since += 1
        self._answers.put_nowait(audio_features.ExtractResponse(features=features))
        if self._since % 3 == 0:
            state = np.array([self._sum, self._row]).tobytes()
            checkpoint = stage.Checkpoint(messages=self._taken, state=state)
            self._answers.put_nowait(audio_features.ExtractResponse(checkpoint=checkpoint))

    async def end(self) -> None:
        await asyncio.sleep(0)
        self._answers.put_nowait(None)

    async def receive(self) -> Any:
        if self._life == 0:
            self._broken = True
            raise ServiceError(self._reason, "gone")
        self._life -= 1
        return await self._answers.get()

    def cancel(self) -> None:
        self._broken = True


async def sums(lives: list[int], count: int, patience: float = 5.0) -> tuple[list[int], list[str]]:
    """What comes out of a stream whose calls live so long each, and the recoveries told."""
    rest = iter(lives)
    told: list[str] = []

    async def connect(configuration: Any) -> Any:
        life = next(rest)
        if life < 0:
            raise ServiceError("STAGE_UNAVAILABLE", "still away")
        return await SummingCall(life).open(configuration)

    async def on_recovery(name: str, seconds: float) -> None:
        told.append(name)

    stream = StageStream("sums", connect, patience, on_recovery)
    await stream.open(audio_features.ExtractConfig(session_id="s"))

    async def send() -> None:
        for i in range(count):
            await stream.send(audio=bytes([i % 251]))
        await stream.end()

    results: list[int] = []
    async with asyncio.timeout(DEADLINE), asyncio.TaskGroup() as group:
        group.create_task(send())
        while (answer := await stream.receive()) is not None:
            assert answer.features.first_row == len(results)
            results.append(int(np.frombuffer(answer.features.embedding, np.int64)[0]))
    return results, told


@pytest.mark.parametrize("seed", range(40))
async def test_wherever_it_breaks_every_result_comes_once(seed: int) -> None:
    rng = np.random.default_rng(seed)
    count = int(rng.integers(1, 60))
    expected, _ = await sums([1000], count)
    assert len(expected) == count
    # Breaks without a single result are few (`test_input_that_breaks...`), absences any.
    lives = [int(v) for _ in range(12) for v in (rng.integers(2, 12), *[-1] * rng.integers(0, 2))]
    results, told = await sums([lives[0] or 2, *lives[1:], 1000, 1000], count)
    assert results == expected
    assert len(told) <= len(lives)


async def test_a_recovery_is_told() -> None:
    _, told = await sums([5, -1, 1000], 20)
    assert told == ["sums"]


async def test_input_that_breaks_every_replica_is_given_up() -> None:
    with pytest.raises(ExceptionGroup) as failure:
        await sums([0] * 50, 3)
    assert failure.group_contains(ServiceError, match="STAGE_UNAVAILABLE")


async def test_a_stage_that_stays_away_is_given_up() -> None:
    with pytest.raises(ExceptionGroup) as failure:
        await sums([2, *[-1] * 1000], 3, patience=0.3)
    assert failure.group_contains(ServiceError, match="still away")


async def test_what_the_client_did_wrong_is_not_tried_again() -> None:
    async def connect(configuration: Any) -> Any:
        return await SummingCall(1, "FIELD_INVALID").open(configuration)

    async def on_recovery(name: str, seconds: float) -> None:
        raise AssertionError("nothing to recover")

    stream = StageStream("sums", connect, 5.0, on_recovery)
    await stream.open(audio_features.ExtractConfig(session_id="s"))
    await stream.send(audio=b"1")
    await stream.receive()
    with pytest.raises(ServiceError, match="FIELD_INVALID"):
        await stream.receive()
