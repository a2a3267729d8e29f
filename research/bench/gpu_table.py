"""The table of `talkingface bench gpu`."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from talkingface_research.bench.gpu_frames import Difference, Throughput
from talkingface_research.bench.gpu_monitor import Usage
from talkingface_research.bench.gpu_sessions import MAX_LATENESS, Step
from talkingface_research.bench.processes import Program
from talkingface_research.bench.rows import TITLES, figure, spread
from talkingface_research.report import Bar, Report, Row

_ONE_LEVEL = Bar(high=1)  # grey levels
_SESSIONS = Bar(low=100)  # of 512x512 at 25 FPS, on one H200 with 16 cores
_CPU_MS = Bar(high=6)  # of all processes, a frame
_LATE = Bar(high=1000 * MAX_LATENESS)
_NEARLY_ALL = 0.9  # of a resource, from which it is named as the limit, by eye


@dataclass
class Results:
    """All that was measured."""

    difference: Difference
    throughput: Sequence[tuple[Throughput, Usage | None]]
    capacity: Mapping[str, float] = field(default_factory=dict)  # streams by stage
    steps: Sequence[Step] = ()

    @property
    def encoder(self) -> str:
        """The encoder of H.264 that the sessions reported."""
        found = {held.encoder for step in self.steps for held in step.sessions} - {""}
        return ", ".join(sorted(found)) or "unknown"

    @property
    def best(self) -> Step | None:
        """The step with the most sessions that were held."""
        held = [step for step in self.steps if step.held]
        return max(held, key=lambda step: len(step.sessions), default=None)


def tabulate(results: Results, about: Mapping[str, object], on_gpu: bool) -> Report:
    """Make the table.

    :param about: its header
    :param on_gpu: whether the bars, which are a GPU's, judge the figures
    """
    report = Report(TITLES, dict(about))
    report.add("frames of the device and of the CPU", difference_rows(results.difference))
    report.add(
        "frames a second of frame_synthesis, 512x512",
        [row for done, gpu in results.throughput for row in throughput_rows(done, gpu)],
    )
    alone = [
        figure(f"streams that {stage} carries alone", streams, digits=1, higher_is_better=True)
        for stage, streams in results.capacity.items()
    ]
    report.add("capacity", alone)
    report.add("live sessions at 25 FPS", session_rows(results, on_gpu))
    if results.throughput:
        report.add("where a frame's time goes in Triton", time_rows(results.throughput))
    step = results.best or next(iter(results.steps), None)
    if step is not None:
        title = f"CPU of a frame, all processes, {len(step.sessions)} live sessions"
        report.add(title, cpu_rows(step.cpu, step.frames, _CPU_MS if on_gpu else None))
    return report


def difference_rows(difference: Difference) -> list[Row]:
    """How far the frames of two devices are apart."""
    frames = f"{difference.frames} frames; largest: {difference.worst}"
    return [
        figure("largest difference", difference.largest, "grey levels", _ONE_LEVEL, 0, frames),
        figure("values that differ by more than one", 100 * difference.share, "%", digits=4),
        figure("mean difference", difference.mean, "grey levels", digits=4),
    ]


def throughput_rows(done: Throughput, gpu: Usage | None) -> list[Row]:
    """Frames a second for so many requests at a time."""
    frames = done.times["frame_synthesis"]
    note = f"{_ratio(frames.frames, frames.runs):.1f} frames in a batch"
    if gpu is not None:
        note += f"; GPU busy {100 * gpu.busy:.0f} %, {gpu.memory:.0f} MiB"
    what = f"{done.callers} requested at a time"
    return [
        figure(what, done.fps, "FPS", digits=1, note=note, higher_is_better=True),
        spread(f"{what}: from request to frame", done.latencies),
    ]


def session_rows(results: Results, on_gpu: bool) -> list[Row]:
    """Sessions held, what limits them, and each step."""
    best = len(results.best.sessions) if results.best else 0
    bar = _SESSIONS if on_gpu else None
    last = max(results.steps, key=lambda step: len(step.sessions), default=None)
    note = "" if last is None else limits_of(last)
    rows = [figure("sessions held", best, "", bar, note=note, higher_is_better=True)]
    for step in sorted(results.steps, key=lambda step: len(step.sessions)):
        what = f"{len(step.sessions)} sessions: lateness"
        rows.append(spread(what, step.lateness, _LATE, note=note_of(step), judged="p99"))
    return rows


def note_of(step: Step) -> str:
    """What else is to be known of a step."""
    parts = [f"{step.missing} frames missing", f"{step.degraded} sessions degraded"]
    if step.errors:
        parts.append(f"{len(step.errors)} ended by {', '.join(sorted(set(step.errors)))}")
    parts += [f"{name} {used:.1f} of {total:g}" for name, used, total in resources(step)]
    return "; ".join(parts)


def resources(step: Step) -> list[tuple[str, float, float]]:
    """Name, use and total of what can limit sessions."""
    seconds = max(step.seconds, 1e-9)
    cores = float(os.cpu_count() or 1)
    mesh = sum(step.cpu.values()) / seconds
    found = [("cores of mesh and clients", mesh + step.client_cpu / seconds, cores)]
    for program, used in step.cpu.items():
        # The renderer's service has threads that encode beside its event loop.
        if program.name == "service" and program.service != "renderer":
            found.append((f"cores of {program.service}'s event loop", used / seconds, 1.0))
        # On a GPU one process prepares all frames, in one thread.
        elif program.name == "model frame_synthesis" and step.gpu is not None:
            found.append(("cores of frame_synthesis", used / seconds, 1.0))
    if step.gpu is not None:
        found.append(("share of the GPU's time", step.gpu.busy, 1.0))
        found.append(("share of its encoder's time", step.gpu.encoder, 1.0))
    return found


def limits_of(step: Step) -> str:
    """What limits the largest step, in words."""
    shares = sorted(((used / total, name) for name, used, total in resources(step)), reverse=True)
    nearly = [f"{name} ({100 * share:.0f} %)" for share, name in shares if share >= _NEARLY_ALL]
    count = len(step.sessions)
    if step.held:
        return f"{count} were held, no more were tried"
    if nearly:
        return f"{count} were limited by {' and '.join(nearly)}"
    share, name = shares[0]
    return f"{count} were limited by latency: the fullest is {name} ({100 * share:.0f} %)"


def time_rows(throughput: Sequence[tuple[Throughput, Usage | None]]) -> list[Row]:
    """Triton's times of a frame, for one request at a time and for the most."""
    rows = []
    ends = {done.callers: done for done, _ in (throughput[0], throughput[-1])}
    for callers, done in ends.items():
        for model, times in done.times.items():
            note = f"{_ratio(times.frames, times.runs):.1f} frames in a run"
            parts = {
                "waits": times.queue,
                "input": times.input,
                "computes": times.compute,
                "output": times.output,
            }
            for part, seconds in parts.items():
                runs = times.frames if part == "waits" else times.runs
                unit = "ms a frame" if part == "waits" else "ms a run"
                value = 1000 * _ratio(seconds, runs)
                what = f"{callers} at a time: {model} {part}"
                rows.append(figure(what, value, unit, digits=2, note=note))
        cpu = 1000 * _ratio(sum(done.cpu.values()), done.times["frame_synthesis"].frames)
        rows.append(figure(f"{callers} at a time: CPU of the Triton", cpu, "ms a frame", digits=2))
    return rows


def cpu_rows(cpu: Mapping[Program, float], frames: int, bar: Bar | None) -> list[Row]:
    """CPU milliseconds of a frame by process, and of all."""
    rows = [
        figure(f"{program.service}: {program.name}", 1000 * _ratio(used, frames), "ms", digits=2)
        for program, used in cpu.items()
    ]
    total = 1000 * _ratio(sum(cpu.values()), frames)
    return [*rows, figure("all processes", total, "ms", bar, 2)]


def _ratio(value: float, count: float) -> float:
    return value / count if count else math.nan
