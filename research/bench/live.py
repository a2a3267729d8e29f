"""`talkingface bench live`: how live sessions hold, measured from what a client receives.

Sessions talk, interrupt and steer (`conversation`) while their messages are kept as they come
(`recording`). When all is over, the mesh has ended and nothing is disturbed any more, pictures are
decoded and read (`readings`), each deed is matched with its answer (`findings`), and the table is
made (`outcome`).
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
from talkingface.cli.mesh import STAGES, LocalMesh, log_to
from talkingface.client import (
    OUTPUT_KIND_H264,
    OUTPUT_KIND_JPEG,
    OUTPUT_KIND_PNG,
    OutputKind,
    TalkingFace,
)
from talkingface_research.bench import findings, material, measures
from talkingface_research.bench.conversation import Conversation, utterances
from talkingface_research.bench.outcome import LATE_SHARE, Load, Outcome, plain, tell
from talkingface_research.bench.processes import MemoryWatch, cpu_seconds
from talkingface_research.bench.recording import (
    Pictures,
    Recording,
    Refusal,
    opening,
    record,
    try_to_open,
)

if TYPE_CHECKING:
    from argparse import _SubParsersAction

    from talkingface_research.bench.readings import Curves

OUTPUTS = {"h264": OUTPUT_KIND_H264, "jpeg": OUTPUT_KIND_JPEG, "png": OUTPUT_KIND_PNG}
_MOST_SESSIONS = 64
_OVERDUE_SECONDS = 0.5  # beyond the usual: as late as left out
_BURST_SECONDS = 2.0  # from one burst of openings to the next
_MEMORY_SECONDS = 10.0
_CALM_SECONDS = 2.0  # before the soak


def add_parser(kinds: _SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add this kind of bench to the command line."""
    parser = kinds.add_parser(
        "live",
        help="live sessions: first picture, sound to lips, late frames, drift, memory, overload",
        description="Run live sessions that talk, interrupt and steer, and measure from what comes "
        "back: first picture after open, sound to lips, steering, interruption, late frames, gaps, "
        "drift of pictures, sound and lips, memory and CPU; with bars and whether they are met. "
        "Exit code 0 unless the run itself fails.",
    )
    material.add_arguments(parser)
    parser.add_argument("--target", metavar="HOST:PORT", help="a mesh that is running already")
    parser.add_argument("--sessions", type=_count, default=1, help="side by side; default 1")
    parser.add_argument("--seconds", type=_positive, default=60.0, help="to measure; default 60")
    parser.add_argument("--opens", type=int, default=20, help="sessions opened before; default 20")
    parser.add_argument(
        "--ramp",
        type=_positive,
        metavar="SECONDS",
        help="open another session every so many seconds, until one is refused or more than 1 %% "
        "of the pictures are late; in place of --sessions and --seconds",
    )
    parser.add_argument(
        "--overload",
        type=_positive,
        metavar="FACTOR",
        help="in the second half, try every two seconds to open FACTOR x slots more sessions at "
        "once; a mesh of its own is given as many slots as sessions",
    )
    parser.add_argument(
        "--replicas",
        type=_replicas,
        default={},
        metavar="STAGE=N,..",
        help="of its own mesh's stages; default one each",
    )
    parser.add_argument("--slots", type=_count, help="of its own mesh; default: the services' own")
    parser.add_argument("--size", type=int, default=512, help="of the picture; default 512")
    parser.add_argument("--fps", type=int, default=25, help="pictures a second; default 25")
    parser.add_argument("--output", choices=OUTPUTS, default="h264", help="default h264")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all samples here as well")
    parser.add_argument(
        "--report",
        type=Path,
        metavar="DIR",
        help="write the table and a sheet of pictures here, and curves where matplotlib is there",
    )
    parser.add_argument("--log", type=Path, metavar="FILE", help="append the mesh's log here")
    parser.set_defaults(run=run)


def _count(text: str) -> int:
    if not 1 <= (value := int(text)) <= _MOST_SESSIONS:
        raise argparse.ArgumentTypeError(f"{text} is outside 1..{_MOST_SESSIONS}")
    return value


def _positive(text: str) -> float:
    if not 0 < (value := float(text)) < math.inf:
        raise argparse.ArgumentTypeError(f"{text} is not above 0")
    return value


def _replicas(text: str) -> dict[str, int]:
    replicas = {}
    for part in text.split(","):
        stage, _, number = part.partition("=")
        if stage not in STAGES:
            raise argparse.ArgumentTypeError(f"{stage!r} is none of {', '.join(STAGES)}")
        replicas[stage] = _count(number)
    return replicas


def run(options: argparse.Namespace) -> int:
    """Run the command; the result is the exit code."""
    console = Console(width=None if sys.stdout.isatty() else 110)
    portrait = material.read_portrait(options.portrait)
    voice = material.decode(options.audio.read_bytes())
    try:
        utterances(voice)
    except ValueError as error:
        raise OSError(0, str(error), str(options.audio)) from None
    with ExitStack() as stack:
        bench = _Bench(options, console, portrait, voice)
        if options.target:
            outcome = asyncio.run(bench.measure(options.target, {}))
        else:
            mesh = stack.enter_context(_own_mesh(options, stack, console))
            services = {name: process.pid for name, process in mesh.processes.items()}
            outcome = asyncio.run(bench.measure(mesh.target, services))
    errors = [r.error for r in outcome.recordings if r.error is not None]
    if errors and not any(len(r.indices) for r in outcome.recordings):
        raise errors[0]
    curves = [] if options.ramp else _look(outcome, OUTPUTS[options.output], console)
    report = tell(outcome, _about(options, outcome))
    print(report.markdown())
    if options.json is not None:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(plain(outcome, report), indent=1) + "\n")
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
    slots = options.slots or (options.sessions if options.overload else None)
    if slots is not None:
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
        "pictures": f"{options.output}, {options.size}x{options.size} at {options.fps} a second",
    }


def _look(outcome: Outcome, output: OutputKind, console: Console) -> list[Curves]:
    """Read the pictures of all sessions, and find what there is to find."""
    from talkingface_research.bench import readings  # loads networks

    curves = []
    for recording in outcome.recordings:
        wanted = findings.wanted(recording)
        console.print(f"looking at {wanted.sum()} of {len(wanted)} pictures", style="dim")
        read = readings.read(recording.shown, output, wanted)
        outcome.findings.append(findings.study(recording, read))
        curves.append(read)
    return curves


class _Bench:
    """The part during which the mesh runs."""

    def __init__(
        self,
        options: argparse.Namespace,
        console: Console,
        portrait: bytes,
        voice: measures.Samples,
    ) -> None:
        self._options = options
        self._console = console
        self._portrait = portrait
        self._voice = voice
        self._pictures = Pictures(OUTPUTS[options.output], options.size, options.fps)
        self._outcome = Outcome(options.fps, options.opens)
        self._talks: list[Conversation] = []

    async def measure(self, target: str, services: dict[str, int]) -> Outcome:
        """
        :param services: process ids of the mesh by service; empty where it is elsewhere.
        :raises talkingface.client.TalkingFaceError: the mesh refuses what it must not.
        """
        options, outcome = self._options, self._outcome
        async with TalkingFace(target) as face:
            handle = (await face.upload_portrait(self._portrait)).handle
            await self._open(face, handle)
            await asyncio.sleep(_CALM_SECONDS)
            watch = MemoryWatch(services, _MEMORY_SECONDS)
            watching = asyncio.create_task(watch.run()) if services else None
            used = {name: cpu_seconds([pid]) for name, pid in services.items()}
            begin, own = time.perf_counter(), time.process_time()
            if options.ramp:
                await self._ramp(face, handle)
            else:
                self._say(f"{options.sessions} live for {options.seconds:g} s")
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

    def _say(self, what: str) -> None:
        self._console.print(what, style="dim")

    async def _open(self, face: TalkingFace, handle: str) -> None:
        """The first one, for which the pipeline has never run, is not counted."""
        opens = self._options.opens
        self._say(f"opening {opens} sessions one after the other, and {opens // 2} with the file")
        if not opens:
            return
        await opening(face, handle, self._pictures)
        for _ in range(opens):
            self._outcome.with_handle.append(await opening(face, handle, self._pictures))
        for _ in range(opens // 2):
            self._outcome.with_image.append(await opening(face, self._portrait, self._pictures))

    def _session(self, face: TalkingFace, handle: str, seconds: float) -> asyncio.Task[None]:
        number = len(self._talks)
        talk = Conversation(self._voice, seconds, seed=number)
        recording = Recording(self._options.fps, talk.diary)
        self._talks.append(talk)
        self._outcome.recordings.append(recording)
        return asyncio.create_task(record(face, handle, self._pictures, talk, recording))

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
        self._say(f"overload: {many} openings at once, every {_BURST_SECONDS:g} s")
        while time.perf_counter() < end - _BURST_SECONDS:
            tries = (try_to_open(face, handle, self._pictures) for _ in range(many))
            refusals: list[Refusal] = await asyncio.gather(*tries)
            self._outcome.refusals += refusals
            await asyncio.sleep(_BURST_SECONDS)

    async def _ramp(self, face: TalkingFace, handle: str) -> None:
        outcome, sessions = self._outcome, list[asyncio.Task[None]]()
        while len(sessions) < _MOST_SESSIONS and not outcome.ramp_end:
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
            self._say(f"{load.sessions} sessions: {100 * load.share:.1f} % late")
            if load.share > LATE_SHARE:
                outcome.ramp_end = f"too many late pictures with {load.sessions} sessions"
        outcome.ramp_end = outcome.ramp_end or "no more were tried"
        for talk in self._talks:
            talk.stop()
        await asyncio.gather(*sessions)


async def _finished(session: asyncio.Task[None]) -> None:
    await session


def load_of(recordings: list[Recording], begin: float, now: float | None = None) -> Load:
    """How the sessions went since `begin` (`time.perf_counter`).

    Late are the pictures that were left out, those that came half a second later than half of all
    do, and those that should have come by now and half a second ago.
    """
    now = time.perf_counter() if now is None else now
    pictures = late = 0
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
        owed = max(math.floor(behind * recording.frame_rate) - int(recording.indices[-1]), 0)
        late += owed
        if not len(recent):
            continue
        first = int(recording.indices[recent[0]])
        left_out = int(recording.indices[-1]) + 1 - first - len(recent)
        overdue = int((lag[recent] > usual + _OVERDUE_SECONDS).sum())
        late += left_out + overdue
        pictures += len(recent) - overdue
        gaps.append(np.diff(arrivals[recent]))
    every = np.concatenate(gaps)
    p95 = float(np.percentile(every, 95)) if len(every) else math.nan
    return Load(len(recordings), pictures, late, p95)
