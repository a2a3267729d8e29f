"""A live session on a renderer that becomes slow, and fast again."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import av
import numpy as np

from talkingface.client import (
    OUTPUT_KIND_H264,
    PACING_LIVE,
    Event,
    Media,
    Summary,
    TalkingFace,
    pcm,
)
from talkingface.orchestrator.session.ladder import UP_LOAD
from tests.support.audio import RATE, pcm16
from tests.support.report import record
from tests.support.services import ServiceProcess, until, until_free

FPS = 25
DEADLINE = 240.0  # seconds
# Triton stands still for half of the time, in steps of less than two frames.
STOPPED, RUNNING = 0.06, 0.06  # seconds
# How often the renderer becomes slow and fast again; the wait grows from round to round.
ROUNDS = int(os.environ.get("LADDER_ROUNDS", "1"))
# Within which a step up follows if there is headroom: the longest wait of the first round, and as
# much again. It doubles with each round.
UP_SECONDS = 20.0


@dataclass
class Watched:
    """A session as its client sees it."""

    levels: list[int] = field(default_factory=lambda: [0])  # in effect, one after the other
    reasons: list[Event.LevelReason] = field(default_factory=list)
    indices: list[int] = field(default_factory=list)
    data: list[bytes] = field(default_factory=list)
    samples: int = 0
    summary: Summary = field(default_factory=Summary)


async def watch(messages: AsyncIterator[Any]) -> AsyncIterator[Watched]:
    """The session after each message."""
    watched = Watched()
    async for message in messages:
        match message:
            case Event() if message.kind == Event.KIND_LEVEL_CHANGED:
                watched.levels.append(message.level)
                watched.reasons.append(message.level_reason)
            case Media():
                watched.samples += len(message.audio) // 2
                if message.frame_count:
                    watched.indices.append(message.first_frame)
                    watched.data.append(message.data)
            case Summary():
                watched.summary = message
        yield watched


@contextlib.asynccontextmanager
async def slowed_down(pid: int) -> AsyncIterator[None]:
    """Let a process stand still for half of the time."""

    async def stop_and_go() -> None:
        try:
            while True:
                os.kill(pid, signal.SIGSTOP)
                await asyncio.sleep(STOPPED)
                os.kill(pid, signal.SIGCONT)
                await asyncio.sleep(RUNNING)
        finally:
            os.kill(pid, signal.SIGCONT)

    task = asyncio.create_task(stop_and_go())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


async def until_true(watching: AsyncIterator[Watched], done: Callable[[Watched], bool]) -> Watched:
    """Read on until something is true of the session."""
    async for watched in watching:
        if done(watched):
            return watched
    raise AssertionError("the session has ended")


@contextlib.contextmanager
def mean_render_seconds(renderer: ServiceProcess) -> Iterator[Callable[[], float]]:
    """The mean time that a frame took the renderer since the beginning of the block."""

    def totals(kind: str) -> list[float]:
        sample = f'talkingface_step_seconds_{kind}{{service="renderer",step='
        return [renderer.metric(f'{sample}"{step}"') for step in ("frame_synthesis", "encode")]

    sums, counts = totals("sum"), totals("count")

    def mean() -> float:
        spent = np.subtract(totals("sum"), sums)
        return float(np.sum(spent / np.maximum(np.subtract(totals("count"), counts), 1)))

    yield mean


async def test_a_session_on_a_slow_renderer_steps_down_and_up_again(
    mesh: ServiceProcess,
    renderer_service: ServiceProcess,
    portrait_image: bytes,
    voice: np.ndarray,
) -> None:
    ending = asyncio.Event()

    async def audio() -> AsyncIterator[bytes]:
        while not ending.is_set():
            yield pcm16(voice)
            await asyncio.sleep(len(voice) / RATE)

    overloads = 'talkingface_level_changes_total{level="1",reason="overload"'
    at_levels = "talkingface_sessions_at_level{"
    before = mesh.metric(overloads)
    async with asyncio.timeout(DEADLINE * ROUNDS), TalkingFace(mesh.address) as face:
        portrait = await face.upload_portrait(portrait_image)
        messages = face.animate(
            portrait=portrait.handle,
            audio=audio(),
            audio_format=pcm(RATE),
            output=OUTPUT_KIND_H264,
            pacing=PACING_LIVE,
        )
        watching = watch(messages)
        await until_true(watching, lambda watched: len(watched.indices) > 2 * FPS)
        for number in range(ROUNDS):
            async with slowed_down(renderer_service.triton_pid):
                watched = await until_true(watching, lambda watched: watched.levels[-1] > 0)
            assert watched.reasons[-1] == Event.LEVEL_REASON_OVERLOAD
            frames = len(watched.indices) + round(UP_SECONDS * 2**number * FPS)
            with mean_render_seconds(renderer_service) as mean:
                watched = await until_true(
                    watching,
                    lambda watched: (
                        watched.reasons[-1] == Event.LEVEL_REASON_HEADROOM
                        or watched.indices[-1] > frames  # noqa: B023
                    ),
                )
                seconds = mean()
            if watched.reasons[-1] != Event.LEVEL_REASON_HEADROOM:
                # A machine without headroom: the work of the level above would not fit.
                work = 1 if watched.levels[-1] == 2 else 2
                assert work * seconds * FPS / 2 > 0.8 * UP_LOAD
            record(f"levels {watched.levels}, {1000 * seconds:.0f} ms a frame without the brake")
        assert mesh.metric(at_levels) == 1
        ending.set()
        watched = await until_true(watching, lambda watched: watched.summary.frames > 0)
    assert all(abs(a - b) == 1 for a, b in pairwise(watched.levels)), "one step at a time"
    assert mesh.metric(overloads) > before
    await until(lambda: mesh.metric(at_levels) == 0)
    # Nothing is missing that is not reported, at any level.
    summary = watched.summary
    assert watched.indices == sorted(set(watched.indices))
    assert len(watched.indices) == summary.frames
    seconds = summary.audio_duration.ToMicroseconds() / 1e6
    assert summary.frames + summary.dropped_frames == np.ceil(round(seconds * FPS, 3))
    assert watched.samples == round(seconds * RATE)
    codec = av.CodecContext.create("h264", "r")
    decoded = sum(len(codec.decode(av.Packet(data))) for data in watched.data)
    assert decoded + len(codec.decode(None)) == summary.frames
    record(f"{summary.dropped_frames} of {summary.frames + summary.dropped_frames} frames dropped")
    await until_free(mesh, renderer_service)
