"""A stream to a stage whose calls break, fall silent or migrate: its results stay the same."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import numpy as np
import pytest

from talkingface.contract.errors import ServiceError
from talkingface.contract.motion import MOTION_DIM
from talkingface.contract.picture import View
from talkingface.contract.portrait import handle_of
from talkingface.contract.speech_features import FEATURE_DIM
from talkingface.orchestrator.stages import stream as streams
from talkingface.orchestrator.stages.call import StageSilentError
from talkingface.orchestrator.stages.methods import ExtractMethod, RenderMethod
from talkingface.orchestrator.stages.replicas import Replica
from talkingface.orchestrator.stages.stream import Recovery, ResilientStream
from talkingface.renderer.session import RenderSession
from talkingface.v1 import audio_features_pb2 as audio_features
from talkingface.v1 import media_pb2 as media
from talkingface.v1 import renderer_pb2 as renderer
from talkingface.v1 import stage_pb2 as stage
from talkingface.v1.media_pb2 import FRAMING_CROP

DEADLINE = 10.0
FOREVER = 10_000
GONE = ServiceError("STAGE_UNAVAILABLE", "gone")
SILENT = StageSilentError("STAGE_UNAVAILABLE", "returned no result")
SILENCE = 0.25


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "_RETRY_SECONDS", 0.005)


def chunk(value: int) -> audio_features.ExtractRequest:
    """A request whose audio is one byte."""
    return audio_features.ExtractRequest(audio=bytes([value]))


class SummingCall:
    """A call of a stage that returns, for each message, the sum of all bytes so far.

    It returns a checkpoint after every third result, and fails after `life` responses.
    """

    def __init__(self, life: int = FOREVER, error: ServiceError = GONE) -> None:
        self.info = stage.StageInfo(stage="sums")
        self.sent_until = self.received_until = self.max_overdue = 0.0
        self.overdue = SILENCE if error is SILENT else 0.0
        self.replica = Replica("127.0.0.1:1")
        self.timeouts: list[float] = []
        self.broken = self.cancelled = False
        self._life, self._error = life, error
        self._answers: asyncio.Queue[Any] = asyncio.Queue()
        self._sum = self._row = self._consumed = 0
        self._since_checkpoint = 0

    async def open(self, configuration: Any) -> SummingCall:
        if configuration.HasField("resume"):
            self._sum, self._row = np.frombuffer(configuration.resume.state, np.int64).tolist()
        return self

    def set_live_timeout(self, seconds: float) -> None:
        self.timeouts.append(seconds)

    async def send(self, request: audio_features.ExtractRequest) -> None:
        await self._write()
        for value in request.audio:
            self._sum += value
        self._consumed += 1
        features = audio_features.AudioFeatures(first_row=self._row, rows=1)
        features.embedding = np.int64(self._sum).tobytes()
        self._row += 1
        self._since_checkpoint += 1
        self._answers.put_nowait(audio_features.ExtractResponse(features=features))
        if self._since_checkpoint % 3 == 0:
            state = np.array([self._sum, self._row]).tobytes()
            checkpoint = stage.Checkpoint(messages=self._consumed, state=state)
            self._answers.put_nowait(audio_features.ExtractResponse(checkpoint=checkpoint))

    async def end(self) -> None:
        await self._write()
        self._answers.put_nowait(None)

    async def _write(self) -> None:
        await asyncio.sleep(0)
        if self.broken or self.cancelled:
            raise GONE

    async def receive(self) -> Any:
        if self._life == 0:
            self.broken = True
            raise self._error
        self._life -= 1
        answer = await self._answers.get()
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def cancel(self) -> None:
        self.cancelled = True
        self._answers.put_nowait(asyncio.CancelledError())


Opening = SummingCall | ServiceError


class Sums:
    """A stream that opens these calls, one after the other."""

    def __init__(
        self,
        openings: Iterator[Opening],
        recovery_timeout: float = 5.0,
        silence: float | None = None,
    ) -> None:
        self.calls: list[SummingCall] = []
        self.recoveries: list[Recovery] = []
        self.results: list[int] = []
        self._openings = openings
        self.stream = ResilientStream(
            ExtractMethod(), self._connect, recovery_timeout, self._recovered, silence
        )

    async def _connect(self, configuration: Any) -> Any:
        await asyncio.sleep(0)
        opening = next(self._openings)
        if isinstance(opening, ServiceError):
            raise opening
        self.calls.append(await opening.open(configuration))
        return opening

    async def _recovered(self, recovery: Recovery) -> None:
        assert recovery.name == "audio_features"
        self.recoveries.append(recovery)

    @property
    def causes(self) -> list[str]:
        return [recovery.cause for recovery in self.recoveries]

    async def run(
        self, count: int, meanwhile: Callable[[int], Awaitable[None]] | None = None
    ) -> list[int]:
        """Return the results for a number of messages.

        :param meanwhile: called with each message's number before it is sent.
        """
        await self.stream.open(audio_features.ExtractConfig(session_id="s"))

        async def send() -> None:
            for i in range(count):
                if meanwhile is not None:
                    await meanwhile(i)
                await self.stream.send(chunk(i % 251))
            await self.stream.end()

        async with asyncio.timeout(DEADLINE), asyncio.TaskGroup() as group:
            group.create_task(send())
            while (answer := await self.stream.receive()) is not None:
                assert answer.features.first_row == len(self.results)
                self.results.append(int(np.frombuffer(answer.features.embedding, np.int64)[0]))
        return self.results


def sums_of(count: int) -> list[int]:
    return np.cumsum([i % 251 for i in range(count)]).tolist()


@pytest.mark.parametrize("seed", range(40))
async def test_every_result_is_returned_once_wherever_calls_break(seed: int) -> None:
    rng = np.random.default_rng(seed)
    count = int(rng.integers(1, 60))

    def openings() -> Iterator[Opening]:
        # Few calls in a row fail without a result (`test_input_that_breaks_every_replica...`).
        for _ in range(12):
            yield SummingCall(int(rng.integers(2, 12)), [GONE, SILENT][rng.integers(2)])
            yield from [GONE] * rng.integers(2)
        while True:
            yield SummingCall()

    sums = Sums(openings(), silence=SILENCE)
    assert await sums.run(count) == sums_of(count)
    assert len(sums.recoveries) <= len(sums.calls) - 1


@pytest.mark.parametrize(("error", "cause"), [(GONE, "broken"), (SILENT, "silent")])
async def test_a_recovery_is_reported_with_its_stall(error: ServiceError, cause: str) -> None:
    sums = Sums(iter([SummingCall(5, error), GONE, SummingCall()]))
    await sums.run(20)
    (recovery,) = sums.recoveries
    assert (recovery.cause, recovery.restarted) == (cause, False)
    assert recovery.stall is not None
    assert recovery.stall > 0.005 + (SILENCE if error is SILENT else 0.0), (
        "the time overdue is included"
    )


async def test_input_that_breaks_every_replica_is_given_up() -> None:
    sums = Sums(SummingCall(0) for _ in range(50))
    with pytest.raises(ExceptionGroup) as failure:
        await sums.run(3)
    assert failure.group_contains(ServiceError, match="STAGE_UNAVAILABLE")
    assert len(sums.calls) == 4


async def test_the_timeout_doubles_until_a_result_arrives() -> None:
    calls = [SummingCall(0, SILENT) for _ in range(6)]
    sums = Sums(iter([*calls, SummingCall(1), SummingCall()]), silence=SILENCE)
    assert await sums.run(9) == sums_of(9)
    timeouts = [[SILENCE * 2**i] for i in range(7)]
    timeouts[6].append(SILENCE)  # a result has arrived
    assert [call.timeouts for call in sums.calls] == [*timeouts, [SILENCE, SILENCE]]
    assert sums.causes == ["silent", "broken"]
    assert sums.recoveries[0].stall == pytest.approx(SILENCE, abs=1.0)
    assert all(call.replica.recently_silent for call in calls)
    assert not any(call.replica.recently_silent for call in sums.calls[6:])


@pytest.mark.parametrize("error", [GONE, SILENT])
async def test_an_unavailable_stage_is_given_up(error: ServiceError) -> None:
    def openings() -> Iterator[Opening]:
        yield SummingCall(2, error)
        while True:
            yield ServiceError("STAGE_UNAVAILABLE", "still unavailable")

    with pytest.raises(ExceptionGroup) as failure:
        await Sums(openings(), recovery_timeout=0.3).run(3)
    assert failure.group_contains(ServiceError, match="still unavailable")


async def test_a_stage_whose_replicas_are_all_silent_is_given_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Replicas that accept the stream and return nothing do not keep a session forever."""

    class SlowCall(SummingCall):
        async def receive(self) -> Any:
            await asyncio.sleep(0.05)
            raise SILENT

    sums = Sums((SlowCall() for _ in range(FOREVER)), recovery_timeout=0.3, silence=0.01)
    with pytest.raises(ExceptionGroup) as failure:
        await sums.run(3)
    assert failure.group_contains(StageSilentError)
    assert 4 < len(sums.calls) < 10


async def test_an_error_of_the_client_is_not_retried() -> None:
    wrong = ServiceError("FIELD_INVALID", "wrong")
    sums = Sums(iter([SummingCall(1, wrong)]))
    with pytest.raises(ExceptionGroup) as failure:
        await sums.run(3)
    assert failure.group_contains(ServiceError, match="FIELD_INVALID")
    assert not sums.recoveries


def drain(call: SummingCall) -> None:
    """Let the replica of a call start to drain."""
    call.replica.status = stage.GetStatusResponse(draining=True)
    for stream in list(call.replica.streams):
        stream.migrate()


@pytest.mark.parametrize("seed", range(20))
async def test_it_migrates_from_a_draining_replica(seed: int) -> None:
    rng = np.random.default_rng(seed)
    # Some of the others have no free slot, some break.
    lives = rng.integers(2, 30, 8)
    others = [FULL if rng.integers(3) == 0 else SummingCall(int(life)) for life in lives]
    sums = Sums(iter([SummingCall(), *others, SummingCall(), SummingCall()]))
    chosen = set(rng.integers(1, 60, 5).tolist())

    async def meanwhile(i: int) -> None:
        if i in chosen:
            drain(sums.calls[-1])
        await asyncio.sleep(0)

    assert await sums.run(60, meanwhile) == sums_of(60)
    await asyncio.sleep(0)  # the last migration ends
    holders = [call for call in sums.calls if call.replica.streams]
    assert holders == [sums.calls[-1]], "a stream belongs to one replica"
    assert all(call.cancelled for call in sums.calls[:-1])
    assert not sums.calls[-1].cancelled
    assert set(sums.causes) <= {"moved", "broken"}
    assert len(sums.recoveries) <= len(sums.calls) - 1
    assert all((r.stall is None) == (r.cause == "moved") for r in sums.recoveries)
    sums.stream.cancel()
    assert sums.calls[-1].cancelled
    assert not sums.calls[-1].replica.streams


FULL = ServiceError("NO_CAPACITY", "full")


async def test_a_stream_migrates_once() -> None:
    sums = Sums(iter([SummingCall(), SummingCall()]))
    await sums.stream.open(audio_features.ExtractConfig(session_id="s"))
    drain(sums.calls[0])
    await asyncio.sleep(0.02)
    sums.stream.migrate()  # too late: the draining replica is another one
    await asyncio.sleep(0.02)
    call: Any = sums.stream.call
    assert call is sums.calls[1]
    assert not sums.calls[1].cancelled


async def test_a_slow_migration_is_abandoned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "_MIGRATION_SECONDS", 0.02)
    first = SummingCall()

    async def connect(configuration: Any) -> Any:
        if not first.replica.draining:
            return await first.open(configuration)
        await asyncio.sleep(FOREVER)

    async def recovered(recovery: Recovery) -> None:
        raise AssertionError("it has not migrated")

    stream = ResilientStream(ExtractMethod(), connect, 5.0, recovered, SILENCE)
    await stream.open(audio_features.ExtractConfig(session_id="s"))
    drain(first)
    await stream.send(chunk(ord("7")))
    async with asyncio.timeout(DEADLINE):
        answer = await stream.receive()
    assert answer is not None
    assert np.frombuffer(answer.features.embedding, np.int64)[0] == ord("7")
    assert first.replica.streams == {stream}
    stream.cancel()


async def test_a_stream_cancelled_during_a_migration_releases_everything() -> None:
    before = asyncio.all_tasks()
    sums = Sums(iter([SummingCall(), SummingCall()]))
    await sums.stream.open(audio_features.ExtractConfig(session_id="s"))
    drain(sums.calls[0])
    await asyncio.sleep(0)  # the migration has begun
    sums.stream.cancel()
    await asyncio.sleep(0.02)
    assert all(call.cancelled and not call.replica.streams for call in sums.calls)
    assert asyncio.all_tasks() <= before


OTHER_BUILD = ServiceError("CHECKPOINT_MISMATCH", "another build")


class RowCall(SummingCall):
    """A call whose rows hold their own index, two for each 40 ms of audio."""

    def __init__(self, build: str, life: int = FOREVER) -> None:
        super().__init__(life)
        self.build = self.info.model = build
        self.start = 0

    async def open(self, configuration: Any) -> RowCall:
        if configuration.HasField("resume"):
            if configuration.resume.model != self.build:
                raise OTHER_BUILD
            self._row = int(configuration.resume.state)
        else:
            self.start = configuration.start_frame
            self._row = 2 * self.start
        return self

    async def send(self, request: audio_features.ExtractRequest) -> None:
        await self._write()
        self._consumed += 1
        rows = len(request.audio) // 4 // 320
        features = audio_features.AudioFeatures(first_row=self._row, rows=rows)
        index = np.arange(self._row, self._row + rows, dtype=np.float32)
        features.embedding = np.repeat(index, FEATURE_DIM).tobytes()
        self._row += rows
        self._answers.put_nowait(audio_features.ExtractResponse(features=features))
        if self._consumed % 25 == 0:
            checkpoint = stage.Checkpoint(
                messages=self._consumed, model=self.build, state=str(self._row).encode()
            )
            self._answers.put_nowait(audio_features.ExtractResponse(checkpoint=checkpoint))


@pytest.mark.parametrize("live", [False, True])
@pytest.mark.parametrize("life", [1, 20, 27, 60, 130])
async def test_a_stream_starts_cold_if_only_another_build_is_left(live: bool, life: int) -> None:
    calls = [RowCall("a", life), RowCall("b"), RowCall("b", 3), RowCall("c")]
    opened: list[RowCall] = []
    recoveries: list[Recovery] = []

    async def connect(configuration: Any) -> Any:
        await asyncio.sleep(0)
        call = calls[0]
        await call.open(configuration)
        opened.append(calls.pop(0))
        return call

    async def recovered(recovery: Recovery) -> None:
        recoveries.append(recovery)

    stream = ResilientStream(ExtractMethod(), connect, 5.0, recovered, SILENCE if live else None)
    await stream.open(audio_features.ExtractConfig(session_id="s"))

    async def send() -> None:
        for _ in range(150):
            await stream.send(audio_features.ExtractRequest(audio=bytes(2 * 320 * 4)))
            await asyncio.sleep(0)
        await stream.end()

    rows: list[float] = []
    async with asyncio.timeout(DEADLINE), asyncio.TaskGroup() as group:
        group.create_task(send())
        while (answer := await stream.receive()) is not None:
            assert answer.features.first_row == len(rows)
            rows += np.frombuffer(answer.features.embedding, "<f4")[::FEATURE_DIM].tolist()
    assert rows == list(range(300)), "without a gap, and none twice"
    assert [call.build for call in opened] == ["a", "b"]
    (recovery,) = recoveries
    assert recovery.restarted
    repeated = 2 * opened[1].start
    assert repeated <= life * 2
    if live and life > 60:
        assert repeated > 0, (
            "a live session repeats a second before the checkpoint, and what follows it"
        )
    stream.cancel()


async def test_a_migration_never_starts_cold() -> None:
    """A session ends at the old build if that can still finish it."""
    calls = iter([RowCall("a"), RowCall("b")])

    async def connect(configuration: Any) -> Any:
        return await next(calls).open(configuration)

    async def recovered(recovery: Recovery) -> None:
        raise AssertionError("it stays")

    stream = ResilientStream(ExtractMethod(), connect, 5.0, recovered)
    await stream.open(audio_features.ExtractConfig(session_id="s"))
    first = stream.call
    for _ in range(30):
        await stream.send(audio_features.ExtractRequest(audio=bytes(2 * 320 * 4)))
    for _ in range(30):
        await stream.receive()
    drain(first)  # type: ignore[arg-type]
    await asyncio.sleep(0.02)
    assert stream.call is first
    stream.cancel()


class RenderCall(SummingCall):
    """A call of a renderer that returns frames from `first_frame` on."""

    def __init__(self, life: int) -> None:
        super().__init__(life)
        self.first = 0

    async def open(self, configuration: Any) -> RenderCall:
        self.first = configuration.first_frame
        for index in range(self.first, self.first + 50):
            frame = media.EncodedFrame(index=index)
            self._answers.put_nowait(renderer.RenderResponse(frame=frame))
        return self


async def test_frames_that_have_arrived_are_not_rendered_again() -> None:
    calls = [RenderCall(3), RenderCall(4), RenderCall(5)]
    rest = iter(calls)

    async def connect(configuration: Any) -> Any:
        return await next(rest).open(configuration)

    async def recovered(recovery: Recovery) -> None:
        pass

    stream = ResilientStream(RenderMethod(25), connect, 5.0, recovered)
    await stream.open(renderer.RenderConfig(session_id="s"))
    responses = [await stream.receive() for _ in range(12)]
    indices = [response.frame.index for response in responses if response is not None]
    assert indices == list(range(12))
    assert [call.first for call in calls] == [0, 3, 7]
    stream.cancel()


@pytest.mark.parametrize("rate", [25, 40, 60])
@pytest.mark.parametrize("seed", range(8))
def test_a_renderer_resumes_at_the_first_missing_frame(rate: int, seed: int) -> None:
    """From any checkpoint, with any number of later frames that had arrived."""
    rng = np.random.default_rng(seed)
    view = View(FRAMING_CROP, 512, 512)
    motion = rng.random((40, MOTION_DIM), np.float32)
    seen = rng.random(20) < 0.8  # pairs of frames, some of them dropped
    image = {"image": np.zeros(view.shape, np.uint8)}
    cut = int(rng.integers(0, 20))

    def push(session: RenderSession, pairs: range) -> None:
        for i in pairs:
            session.push(motion[2 * i : 2 * i + 2], rendered=bool(seen[i]))

    def frames(session: RenderSession, most: int) -> dict[int, np.ndarray]:
        made: dict[int, np.ndarray] = {}
        while len(made) < most and (request := session.next_request()) is not None:
            made[session.accept(image).index] = request["motion"]
        return made

    whole = RenderSession(handle_of(b"photo"), view, rate)
    push(whole, range(cut))
    begun = frames(whole, int(rng.integers(0, 100)))
    state = whole.snapshot()
    push(whole, range(cut, 20))
    whole.end()
    rest = frames(whole, 1000)
    came = int(rng.integers(0, len(rest) + 1))
    first = max([*begun, *list(rest)[:came]], default=-1) + 1

    resumed = RenderSession(handle_of(b"photo"), view, rate, first)
    resumed.restore(state)
    push(resumed, range(cut, 20))
    resumed.end()
    again = frames(resumed, 1000)
    assert list(again) == list(rest)[came:]
    assert all(np.array_equal(again[i], rest[i]) for i in again)
