"""`talkingface bench live`: live sessions, measured from what a client receives.

Sessions talk, interrupt and change controls (`conversation`) while their messages are recorded
(`recording`). After the mesh has ended, so that nothing disturbs it, frames are decoded and
measured (`frame_measurements`), each act is matched with its response (`analysis`), and the table
is made (`outcome`).
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import math
import os
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from rich.console import Console

import talkingface
from talkingface.cli.mesh import LocalMesh, log_to
from talkingface.client import (
    OUTPUT_KIND_H264,
    OUTPUT_KIND_JPEG,
    OUTPUT_KIND_PNG,
    OutputKind,
    TalkingFace,
)
from talkingface_research.bench import MAX_SESSIONS, analysis, inputs, measures
from talkingface_research.bench.conversation import Conversation, find_utterances
from talkingface_research.bench.outcome import LATE_SHARE, Load, Outcome, as_json, tabulate
from talkingface_research.bench.processes import MemoryWatch, cpu_seconds
from talkingface_research.bench.recording import (
    Recording,
    Refusal,
    VideoRequest,
    record,
    time_to_first_frame,
    try_to_open,
)

if TYPE_CHECKING:
    from talkingface_research.bench.frame_measurements import Curves

OUTPUTS = {"h264": OUTPUT_KIND_H264, "jpeg": OUTPUT_KIND_JPEG, "png": OUTPUT_KIND_PNG}
_OVERDUE_SECONDS = 0.5  # beyond the usual lag, from which a frame counts as late
_BURST_SECONDS = 2.0  # from one burst of openings to the next
_MEMORY_SECONDS = 10.0  # from one measurement of memory to the next
_PAUSE_SECONDS = 2.0  # between the openings and the soak


def run(options: argparse.Namespace) -> int:
    """Run the command; the result is the exit code."""
    console = Console(width=None if sys.stdout.isatty() else 110)
    portrait = inputs.read_portrait(options.portrait)
    speech = inputs.decode(options.audio.read_bytes())
    try:
        find_utterances(speech)
    except ValueError as error:
        raise OSError(0, str(error), str(options.audio)) from None
    with ExitStack() as stack:
        bench = _Bench(options, console, portrait, speech)
        if options.target:
            outcome = asyncio.run(bench.measure(options.target, {}))
        else:
            mesh = stack.enter_context(_own_mesh(options, stack, console))
            services = {name: process.pid for name, process in mesh.processes.items()}
            outcome = asyncio.run(bench.measure(mesh.target, services))
    errors = [r.error for r in outcome.recordings if r.error is not None]
    if errors and not any(len(r.indices) for r in outcome.recordings):
        raise errors[0]
    curves = [] if options.ramp else _analyse(outcome, OUTPUTS[options.output], console)
    report = tabulate(outcome, _about(options, outcome))
    print(report.markdown())
    if options.json is not None:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(as_json(outcome, report), indent=1) + "\n")
    if options.report is not None:
        from talkingface_research.bench import plots  # loads networks

        options.report.mkdir(parents=True, exist_ok=True)
        report.write(options.report)
        plots.draw(options.report, outcome, curves, OUTPUTS[options.output])
    return 0


def _own_mesh(options: argparse.Namespace, stack: ExitStack, console: Console) -> LocalMesh:
    stores = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="talkingface-bench-")))
    environ = {
        "TALKINGFACE_PORTRAIT_STORE": str(stores / "portraits"),
        "TALKINGFACE_UPLOAD_STORE": str(stores / "uploads"),
    }
    slots = options.slots or (options.sessions if options.overload else max(4, options.sessions))
    environ["TALKINGFACE_SLOTS"] = str(slots)
    console.print("starting the mesh", style="dim")
    on_line = options.log and log_to(options.log)
    return LocalMesh(environ=environ, replicas=options.replicas, on_line=on_line)


def _about(options: argparse.Namespace, outcome: Outcome) -> dict[str, object]:
    replicas = ", ".join(f"{n} x {stage}" for stage, n in options.replicas.items())
    mesh = options.target or f"its own on this machine{replicas and ', with '}{replicas}"
    return {
        "version": talkingface.__version__,
        "mesh": mesh,
        "cpus": os.cpu_count(),
        "sessions": len(outcome.recordings),
        "seconds": round(outcome.seconds, 1),
        "frames": f"{options.output}, {options.size}x{options.size} at {options.fps} a second",
    }


def _analyse(outcome: Outcome, output: OutputKind, console: Console) -> list[Curves]:
    """Measure the frames of all sessions, and analyse them."""
    from talkingface_research.bench import frame_measurements  # loads networks

    curves = []
    for recording in outcome.recordings:
        wanted = analysis.frames_to_measure(recording)
        console.print(f"measuring {wanted.sum()} of {len(wanted)} frames", style="dim")
        measured = frame_measurements.measure_frames(recording.with_frames, output, wanted)
        outcome.analyses.append(analysis.analyse(recording, measured))
        curves.append(measured)
    return curves


class _Bench:
    """The part during which the mesh runs."""

    def __init__(
        self,
        options: argparse.Namespace,
        console: Console,
        portrait: bytes,
        speech: measures.Samples,
    ) -> None:
        self._options = options
        self._console = console
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
            used = {name: cpu_seconds([pid]) for name, pid in services.items()}
            begin, own = time.perf_counter(), time.process_time()
            if options.ramp:
                await self._ramp(face, handle)
            else:
                self._print(f"{options.sessions} live for {options.seconds:g} s")
                await self._soak(face, handle)
            outcome.seconds = time.perf_counter() - begin
            outcome.client_cpu = time.process_time() - own
            outcome.cpu = {n: cpu_seconds([pid]) - used[n] for n, pid in services.items()}
            if watching is not None:
                watching.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await watching
            outcome.memory = watch.samples
        return outcome

    def _print(self, what: str) -> None:
        self._console.print(what, style="dim")

    async def _open(self, face: TalkingFace, handle: str) -> None:
        """Measure the time to the first frame. The first session of all, for which the pipeline has
        never run, is not counted."""
        opens = self._options.opens
        self._print(f"opening {opens} sessions one after the other, and {opens // 2} with the file")
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
        self._print(f"overload: {many} openings at once, every {_BURST_SECONDS:g} s")
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
            self._print(f"{load.sessions} sessions: {100 * load.share:.1f} % late")
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
