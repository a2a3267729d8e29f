"""Live sessions in growing number over a whole mesh, held by clients in processes of their own."""

from __future__ import annotations

import asyncio
import itertools
import math
import os
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from typing import NamedTuple

import numpy as np

from talkingface.client import (
    OUTPUT_KIND_H264,
    PACING_LIVE,
    Event,
    Media,
    Started,
    TalkingFace,
    TalkingFaceError,
    pcm,
)
from talkingface.contract.rates import MOTION_FPS, SAMPLE_RATE
from talkingface_research.bench import measures
from talkingface_research.bench.gpu_monitor import Monitor, Usage
from talkingface_research.bench.processes import Program, cpu_by_program

MAX_LATENESS = 0.04  # seconds at p99: one frame
_CHUNK = SAMPLE_RATE // MOTION_FPS * 2  # bytes of audio that are sent at a time: a frame's
_PER_CLIENT = 16  # sessions held by one process, which takes about half a core for them
_SETTLED_SECONDS = 1.0  # after which a session's frames count
_OPEN_SECONDS = 2.0  # within which the sessions of a step open, one after the other
_LEEWAY_SECONDS = 20.0  # beyond a step's length, within which its sessions must have ended


@dataclass
class Held:
    """One session as received."""

    lags: list[float] = field(default_factory=list)  # arrival minus presentation, seconds
    indices: list[int] = field(default_factory=list)  # of the frames
    level: int = 0  # the lowest to which it was degraded
    error: str = ""
    encoder: str = ""  # of H.264

    @property
    def lateness(self) -> list[float]:
        """Seconds by which each frame came later than the median one, after the first second."""
        lags = np.array(self.lags)[np.array(self.indices) >= _SETTLED_SECONDS * MOTION_FPS]
        return [float(late) for late in measures.lateness(lags)]

    @property
    def missing(self) -> int:
        """Frames that are missing after the first second."""
        return measures.missing(np.array(self.indices, np.int64), MOTION_FPS, _SETTLED_SECONDS)


@dataclass(frozen=True)
class Step:
    """So many sessions side by side."""

    sessions: Sequence[Held]
    seconds: float
    cpu: Mapping[Program, float]  # CPU seconds
    client_cpu: float
    gpu: Usage | None

    @property
    def lateness(self) -> list[float]:
        """Of all frames of all sessions, in seconds."""
        return [late for session in self.sessions for late in session.lateness]

    @property
    def frames(self) -> int:
        """Frames received."""
        return sum(len(session.indices) for session in self.sessions)

    @property
    def missing(self) -> int:
        """Frames missing after the first second of each session."""
        return sum(session.missing for session in self.sessions)

    @property
    def degraded(self) -> int:
        """Sessions that were rendered below the full level."""
        return sum(session.level > 0 for session in self.sessions)

    @property
    def errors(self) -> list[str]:
        """Errors that ended sessions."""
        return [session.error for session in self.sessions if session.error]

    @property
    def held(self) -> bool:
        """Whether all sessions were served in full and in time."""
        late = self.lateness
        if not late or self.missing or self.degraded or self.errors:
            return False
        return float(np.percentile(late, 99)) <= MAX_LATENESS


class Clients(NamedTuple):
    """What the clients of a step need to know."""

    target: str
    handle: str  # of the portrait
    audio: bytes  # int16 at 16 kHz
    seconds: float  # of each session


async def ramp(
    clients: Clients,
    services: Mapping[str, int],
    first: int,
    most: int,
    left: Callable[[], float],
    note: Callable[[str], None],
) -> list[Step]:
    """Hold growing numbers of sessions: twice as many as long as they are held, then halfway.

    :param services: process ids of the mesh by service
    :param first: sessions of the first step
    :param most: sessions of the last
    :param left: seconds that are left; a step that does not fit is not begun
    """
    steps: list[Step] = []
    good, bad, count = 0, most + 1, first
    while good < count < bad and left() > clients.seconds + _OPEN_SECONDS + 5:
        note(f"{count} live sessions for {clients.seconds:g} s")
        steps.append(await hold(clients, services, count))
        good, bad = (count, bad) if steps[-1].held else (good, count)
        count = min(2 * count, most) if bad > most else (good + bad) // 2
        if good and bad - good <= max(1, good // 8):
            break
    return steps


async def hold(clients: Clients, services: Mapping[str, int], count: int) -> Step:
    """Hold so many sessions side by side."""
    loop = asyncio.get_running_loop()
    shares = [list(share) for share in np.array_split(range(count), math.ceil(count / _PER_CLIENT))]
    with ProcessPoolExecutor(len(shares), get_context("spawn")) as pool:
        # The processes import the client before the sessions begin.
        await asyncio.gather(*(loop.run_in_executor(pool, os.getpid) for _ in shares))
        used, begin = cpu_by_program(services), time.perf_counter()
        async with Monitor() as monitor:
            tasks = [
                loop.run_in_executor(pool, _hold_share, clients, [int(n) for n in share], count)
                for share in shares
            ]
            results = await asyncio.gather(*tasks)
        seconds = time.perf_counter() - begin
        cpu = {p: value - used.get(p, 0.0) for p, value in cpu_by_program(services).items()}
    sessions = [session for held, _ in results for session in held]
    return Step(sessions, seconds, cpu, sum(own for _, own in results), monitor.usage)


def _hold_share(clients: Clients, numbers: list[int], count: int) -> tuple[list[Held], float]:
    """Hold some of the sessions, in a process of its own; with its CPU seconds."""
    used = time.process_time()

    async def run() -> list[Held]:
        async with TalkingFace(clients.target) as face:
            return await asyncio.gather(*(_session(face, clients, n, count) for n in numbers))

    return asyncio.run(run()), time.process_time() - used


async def _session(face: TalkingFace, clients: Clients, number: int, count: int) -> Held:
    held = Held()
    await asyncio.sleep(_OPEN_SECONDS * number / count)
    try:
        async with asyncio.timeout(clients.seconds + _LEEWAY_SECONDS):
            await _receive(face, clients, number, held)
    except TalkingFaceError as error:
        held.error = error.reason or str(error)
    except TimeoutError:
        held.error = "did not end in time"
    return held


async def _receive(face: TalkingFace, clients: Clients, number: int, held: Held) -> None:
    begin = time.perf_counter()
    async for message in face.animate(
        portrait=clients.handle,
        audio=_speech(clients, number),
        audio_format=pcm(SAMPLE_RATE),
        output=OUTPUT_KIND_H264,
        pacing=PACING_LIVE,
        seed=number,
    ):
        match message:
            case Started():
                held.encoder = next(
                    (info.video_encoder for info in message.stages if info.video_encoder), ""
                )
            case Media() if message.frame_count:
                now = time.perf_counter() - begin
                held.indices.append(message.first_frame)
                held.lags.append(now - message.first_frame / MOTION_FPS)
            case Event() if message.kind == Event.KIND_LEVEL_CHANGED:
                held.level = max(held.level, message.level)


async def _speech(clients: Clients, number: int) -> AsyncIterator[bytes]:
    """The recording in real time, over and over, begun elsewhere by each session."""
    begin = time.perf_counter()
    chunks = len(clients.audio) // _CHUNK
    for sent in itertools.count():
        due = (sent + 1) / MOTION_FPS
        if due > clients.seconds:
            return
        await asyncio.sleep(max(0.0, begin + due - time.perf_counter()))
        first = (sent + 37 * number) % chunks * _CHUNK
        yield clients.audio[first : first + _CHUNK]
