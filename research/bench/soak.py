"""The part of a live bench during which the mesh runs: one round of sessions."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import math
import time
from collections.abc import Callable

import numpy as np

from talkingface.client import (
    OUTPUT_KIND_H264,
    OUTPUT_KIND_JPEG,
    OUTPUT_KIND_PNG,
    TalkingFace,
)
from talkingface_research.bench import MAX_SESSIONS, measures
from talkingface_research.bench.conversation import Conversation
from talkingface_research.bench.outcome import LATE_SHARE, Load, Outcome
from talkingface_research.bench.processes import MemoryWatch, cpu_by_program
from talkingface_research.bench.recording import (
    Recording,
    Refusal,
    VideoRequest,
    record,
    time_to_first_frame,
    try_to_open,
)
from talkingface_research.bench.stress import stress

OUTPUTS = {"h264": OUTPUT_KIND_H264, "jpeg": OUTPUT_KIND_JPEG, "png": OUTPUT_KIND_PNG}
_OVERDUE_SECONDS = 0.5  # beyond the usual lag, from which a frame counts as late
_BURST_SECONDS = 2.0  # from one burst of openings to the next
_MEMORY_SECONDS = 10.0  # from one measurement of memory to the next
_PAUSE_SECONDS = 2.0  # between the openings and the soak


class Soak:
    """One round: openings, then sessions side by side."""

    def __init__(
        self,
        options: argparse.Namespace,
        portrait: bytes,
        speech: measures.Samples,
        note: Callable[[str], None],
    ) -> None:
        """
        :param options: of the command line, see `bench live`
        :param note: called with each step
        """
        self._options = options
        self._note = note
        self._portrait = portrait
        self._speech = speech
        self._video = VideoRequest(OUTPUTS[options.output], options.size, options.fps)
        self._outcome = Outcome(options.fps, options.opens)
        self._talks: list[Conversation] = []

    async def measure(self, target: str, services: dict[str, int]) -> Outcome:
        """
        Run all sessions.

        :param services: process ids of the mesh by service; empty where it is not ours
        :raises talkingface.client.TalkingFaceError: the mesh refuses a session within its slots
        """
        options, outcome = self._options, self._outcome
        async with TalkingFace(target) as face:
            handle = (await face.upload_portrait(self._portrait)).handle
            await self._open(face, handle)
            await asyncio.sleep(_PAUSE_SECONDS)
            watch = MemoryWatch(services, _MEMORY_SECONDS)
            watching = asyncio.create_task(watch.run()) if services else None
            used = cpu_by_program(services)
            begin, own = time.perf_counter(), time.process_time()
            with stress(options.stress) as outcome.stress:
                if options.ramp:
                    await self._ramp(face, handle)
                else:
                    self._note(f"{options.sessions} live for {options.seconds:g} s")
                    await self._soak(face, handle)
            outcome.seconds = time.perf_counter() - begin
            outcome.client_cpu = time.process_time() - own
            outcome.cpu = {
                program: seconds - used.get(program, 0.0)
                for program, seconds in cpu_by_program(services).items()
            }
            if watching is not None:
                watching.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await watching
            outcome.memory = watch.samples
        return outcome

    async def _open(self, face: TalkingFace, handle: str) -> None:
        """Measure the time to the first frame. The first session of all, for which the pipeline has
        never run, is not counted."""
        opens = self._options.opens
        self._note(f"opening {opens} sessions one after the other, and {opens // 2} with the file")
        if not opens:
            return
        await time_to_first_frame(face, handle, self._video)
        for _ in range(opens):
            self._outcome.with_handle.append(await time_to_first_frame(face, handle, self._video))
        for _ in range(opens // 2):
            self._outcome.with_image.append(
                await time_to_first_frame(face, self._portrait, self._video)
            )

    def _session(self, face: TalkingFace, handle: str, seconds: float) -> asyncio.Task[None]:
        number = len(self._talks)
        talk = Conversation(self._speech, seconds, seed=number)
        recording = Recording(self._options.fps, talk.trace)
        self._talks.append(talk)
        self._outcome.recordings.append(recording)
        return asyncio.create_task(record(face, handle, self._video, talk, recording))

    async def _soak(self, face: TalkingFace, handle: str) -> None:
        options = self._options
        async with asyncio.TaskGroup() as group:
            for _ in range(options.sessions):
                session = self._session(face, handle, options.seconds)
                group.create_task(_finished(session))
            if options.overload:
                group.create_task(self._overload(face, handle))

    async def _overload(self, face: TalkingFace, handle: str) -> None:
        """Bursts of openings in the second half."""
        end = time.perf_counter() + self._options.seconds
        slots = (await face.capabilities()).limits.max_sessions
        many = max(round(self._options.overload * slots), 1)
        await asyncio.sleep(self._options.seconds / 2)
        self._note(f"overload: {many} openings at once, every {_BURST_SECONDS:g} s")
        while time.perf_counter() < end - _BURST_SECONDS:
            tries = (try_to_open(face, handle, self._video) for _ in range(many))
            refusals: list[Refusal] = await asyncio.gather(*tries)
            self._outcome.refusals += refusals
            await asyncio.sleep(_BURST_SECONDS)

    async def _ramp(self, face: TalkingFace, handle: str) -> None:
        outcome, sessions = self._outcome, list[asyncio.Task[None]]()
        while len(sessions) < MAX_SESSIONS and not outcome.ramp_end:
            sessions.append(self._session(face, handle, math.inf))
            await asyncio.sleep(self._options.ramp)
            recordings = outcome.recordings
            refused = next((r.error for r in recordings if r.error is not None), None)
            if refused is not None:
                outcome.ramp_end = f"session {len(sessions)} was refused: {refused.reason}"
                break
            # Not the first second of the new one.
            load = load_of(recordings, time.perf_counter() - self._options.ramp + 1.0)
            outcome.loads.append(load)
            self._note(f"{load.sessions} sessions: {100 * load.share:.1f} % late")
            if load.share > LATE_SHARE:
                outcome.ramp_end = f"too many late frames with {load.sessions} sessions"
        outcome.ramp_end = outcome.ramp_end or "no more were tried"
        for talk in self._talks:
            talk.stop()
        await asyncio.gather(*sessions)


async def _finished(session: asyncio.Task[None]) -> None:
    await session


def load_of(recordings: list[Recording], begin: float, now: float | None = None) -> Load:
    """Count late frames of sessions since `begin` (`time.perf_counter`).

    Late are frames that were dropped, those that came half a second later than the median, and
    those that should have come half a second ago or earlier.
    """
    now = time.perf_counter() if now is None else now
    frames = late = 0
    gaps = [np.zeros(0)]
    for recording in recordings:
        arrivals = recording.arrivals
        if not len(arrivals):
            late += round((now - begin) * recording.frame_rate)
            continue
        lag = arrivals - recording.presented
        usual = float(np.median(lag))
        recent = np.flatnonzero(arrivals + recording.opened >= begin)
        behind = now - recording.opened - usual - _OVERDUE_SECONDS
        missing = max(math.floor(behind * recording.frame_rate) - int(recording.indices[-1]), 0)
        late += missing
        if not len(recent):
            continue
        first = int(recording.indices[recent[0]])
        dropped = int(recording.indices[-1]) + 1 - first - len(recent)
        overdue = int((lag[recent] > usual + _OVERDUE_SECONDS).sum())
        late += dropped + overdue
        frames += len(recent) - overdue
        gaps.append(np.diff(arrivals[recent]))
    every = np.concatenate(gaps)
    p95 = float(np.percentile(every, 95)) if len(every) else math.nan
    return Load(len(recordings), frames, late, p95)
