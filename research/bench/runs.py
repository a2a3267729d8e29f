"""Single runs of a bench: one stage alone, or a whole session; how long each frame took."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Callable
from typing import Any, NamedTuple

import numpy as np

from talkingface.client import OUTPUT_KIND_H264, Media, Summary, TalkingFace, pcm
from talkingface.contract.rates import MOTION_FPS, SAMPLE_RATE
from talkingface.contract.stage_streams import StreamConfig, StreamRequest, StreamResponse
from talkingface.orchestrator.stages.call import StageCall
from talkingface.orchestrator.stages.methods import ExtractMethod, GenerateMethod, RenderMethod
from talkingface.orchestrator.stages.pool import Stages
from talkingface.v1 import audio_features_pb2 as audio_features
from talkingface.v1 import media_pb2 as media
from talkingface.v1 import motion_gen_pb2 as motion_gen
from talkingface.v1 import renderer_pb2 as renderer
from talkingface_research.bench.measures import Samples

_LIVE_SAMPLES = SAMPLE_RATE // MOTION_FPS  # audio of one frame: a chunk of a live client


class Run(NamedTuple):
    """One run: times in seconds."""

    first: float  # from the first input to the first result
    times: list[float]  # intervals or lags, one a frame
    frames: int
    seconds: float  # from the first input to the last result
    side_by_side: int = 1  # runs of which this is the mean


class StageBench:
    """Drives each stage alone; the results of one stage are the input of the next."""

    def __init__(self, stages: Stages, samples: Samples) -> None:
        self._stages = stages
        self._samples = samples
        self._features: list[motion_gen.GenerateRequest] = []
        self._motion: list[renderer.RenderRequest] = []

    async def audio_features(self) -> Run:
        chunks = np.array_split(self._samples, math.ceil(len(self._samples) / 4000))
        messages = [
            audio_features.ExtractRequest(audio=chunk.astype("<f4").tobytes()) for chunk in chunks
        ]
        config = audio_features.ExtractConfig(session_id="bench")
        call = await self._stages.open(ExtractMethod(), config)
        results, run = await _drive(call, messages, lambda r: r.features.rows / 2)
        self._features = [
            motion_gen.GenerateRequest(features=result.features) for result in results
        ]
        return run

    async def motion_gen(self) -> Run:
        config = motion_gen.GenerateConfig(session_id="bench", seed=1)
        call = await self._stages.open(GenerateMethod(), config)
        results, run = await _drive(call, self._features, lambda r: len(r.motion.frames))
        self._motion = [renderer.RenderRequest(motion=result.motion) for result in results]
        return run

    async def renderer(self, handle: str, fields: dict[str, Any]) -> Run:
        config = renderer.RenderConfig(
            session_id="bench", portrait_handle=handle, codec=media.VIDEO_CODEC_H264, **fields
        )
        call = await self._stages.open(RenderMethod(config.frame_rate or MOTION_FPS), config)
        return (await _drive(call, self._motion, lambda r: 1))[1]


async def _drive(
    call: StageCall[StreamConfig, StreamRequest, StreamResponse],
    messages: list[StreamRequest],
    frames_of: Callable[[Any], float],
) -> tuple[list[Any], Run]:
    """Send all messages as fast as the stage accepts them; return its results and their times."""

    async def send() -> None:
        for message in messages:
            await call.send(message)
        await call.end()

    begin = time.perf_counter()
    sender = asyncio.create_task(send())
    results: list[Any] = []
    times: list[float] = []
    frames = first = 0.0
    last = begin
    while (result := await call.receive()) is not None:
        now = time.perf_counter()
        count = frames_of(result)
        first = first or now - begin
        times += [(now - last) / count] * math.ceil(count)
        last = now
        frames += count
        results.append(result)
    await sender
    return results, Run(first, times, round(frames), last - begin)


async def offline(face: TalkingFace, portrait: bytes, audio: bytes) -> Run:
    """Run one session as fast as the mesh works."""
    begin = last = time.perf_counter()
    first, times, frames = 0.0, [], 0
    async for message in face.animate(portrait=portrait, audio=audio, seed=1):
        if isinstance(message, Media) and message.frame_count:
            now = time.perf_counter()
            first = first or now - begin
            times += [(now - last) / message.frame_count] * message.frame_count
            last = now
            frames += message.frame_count
    return Run(first, times, frames, last - begin)


async def offline_together(face: TalkingFace, portrait: bytes, audio: bytes, sessions: int) -> Run:
    """Run several offline sessions side by side."""
    runs = await asyncio.gather(*(offline(face, portrait, audio) for _ in range(sessions)))
    return Run(
        float(np.mean([run.first for run in runs])),
        [interval for run in runs for interval in run.times],
        runs[0].frames,
        float(np.mean([run.seconds for run in runs])),
        sessions,
    )


async def live(face: TalkingFace, portrait: bytes, samples: Samples) -> Run:
    """Send audio in real time; times are lags from the end of a frame's audio to the frame."""
    pcm16 = np.rint(samples * 32767).astype("<i2")
    begin = 0.0

    async def microphone() -> AsyncIterator[bytes]:
        nonlocal begin
        begin = time.perf_counter()
        for i in range(0, len(pcm16), _LIVE_SAMPLES):
            chunk = pcm16[i : i + _LIVE_SAMPLES]
            due = begin + (i + len(chunk)) / SAMPLE_RATE
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            yield chunk.tobytes()

    first, lags = 0.0, []
    async for message in face.animate(
        portrait=portrait,
        audio=microphone(),
        audio_format=pcm(SAMPLE_RATE),
        output=OUTPUT_KIND_H264,
        seed=1,
    ):
        if isinstance(message, Media):
            now = time.perf_counter() - begin
            first = first or now
            lags.append(now - (message.first_frame + 1) / MOTION_FPS)
        elif isinstance(message, Summary):
            frames = message.frames
    return Run(first, lags, frames, now)
