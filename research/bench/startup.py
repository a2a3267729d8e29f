"""`talkingface bench start`: how long a mesh takes to start and to open a session, and its size.

A cold start begins without numba's compiled kernels and Python's bytecode, like the first one after
an installation; a warm start finds both. The files themselves are in the page cache either way.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from rich.console import Console

import talkingface
from talkingface.client import OUTPUT_KIND_H264, TalkingFace
from talkingface_research.bench import inputs, machine
from talkingface_research.bench.other_work import OtherWork, text_of
from talkingface_research.bench.packages import disk_of
from talkingface_research.bench.processes import memory_of
from talkingface_research.bench.recording import VideoRequest, time_to_first_frame
from talkingface_research.bench.rows import TITLES, figure, spread, worst_of
from talkingface_research.bench.trees import THIS, Tree, caches, mesh_of
from talkingface_research.report import Bar, Report

# Bars of the rows, in seconds and milliseconds.
_COLD, _WARM, _OPENED = Bar(high=30), Bar(high=5), Bar(high=100)
_VIDEO = VideoRequest(OUTPUT_KIND_H264, size=512, frame_rate=25)


def run(options: argparse.Namespace) -> int:
    """Run the command; the result is the exit code."""
    console = Console(width=None if sys.stdout.isatty() else 110)

    def note(what: str) -> None:
        console.print(what, style="dim")

    portrait = inputs.read_portrait(options.portrait)
    before = machine.measure()
    reports = []
    with OtherWork() as others:
        for number in range(options.rounds):
            note(f"round {number + 1} of {options.rounds}")
            reports.append(measure(THIS, portrait, options.opens, note))
    after = machine.measure()
    about = {
        "version": talkingface.__version__,
        "cpus": os.cpu_count(),
        "rounds": options.rounds,
        **machine.header(before, after),
        "other programs": text_of(others.cores),
    }
    report = worst_of(reports, about)
    print(report.markdown())
    if options.json is not None:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        result = {**report.json(), "machine": machine.as_json(before, after)}
        result["machine"]["other_cores"] = others.cores
        options.json.write_text(json.dumps(result, indent=1) + "\n")
    return 0


def measure(tree: Tree, portrait: bytes, opens: int, note: Callable[[str], None]) -> Report:
    """Measure a tree once: start its mesh twice, and open sessions.

    :param opens: sessions that are opened one after the other
    :param note: called with each step
    :raises talkingface.cli.mesh.MeshError: a mesh has not started
    """
    with tempfile.TemporaryDirectory(prefix="talkingface-bench-") as name:
        folder = Path(name)
        settings = {
            "TALKINGFACE_PORTRAIT_STORE": str(folder / "portraits"),
            "TALKINGFACE_UPLOAD_STORE": str(folder / "uploads"),
            **caches(folder / "caches"),
        }
        note("cold start")
        with mesh_of(tree, settings) as cold:
            pass
        note("warm start")
        with mesh_of(tree, settings) as warm:
            note(f"opening {opens} sessions")
            prepared, first = asyncio.run(_open(warm.target, portrait, opens))
            memory = [memory_of(service, pid) for service, pid in warm.services.items()]
    disk = disk_of(tree.root)
    packages = f"{disk.packages} packages, and the source"
    if disk.absent:
        packages += f"; not installed here: {', '.join(disk.absent)}"
    report = Report(TITLES)
    rows = [
        figure("start of the mesh, cold", cold.start_seconds, "s", _COLD, 1),
        figure("start of the mesh, warm", warm.start_seconds, "s", _WARM, 1),
        figure("CPU of a cold start", cold.start_cpu, "s", digits=1),
        figure("CPU of a warm start", warm.start_cpu, "s", digits=1),
        figure("preparation of a new portrait", prepared, "s", digits=2),
        spread("first frame after open, warm portrait", first, _OPENED),
    ]
    report.add("start", rows)
    rows = [
        figure("memory of all processes (RSS)", sum(entry.rss for entry in memory), "MiB"),
        figure("memory of all processes (PSS)", sum(entry.pss for entry in memory), "MiB"),
        figure("packages of a mesh on disk", disk.mebibytes, "MiB", note=packages),
    ]
    report.add("size", rows)
    return report


async def _open(target: str, portrait: bytes, opens: int) -> tuple[float, list[float]]:
    """Seconds to prepare a portrait, and to the first frame of each session. The first session of
    all, for which the pipeline has never run, is not counted."""
    async with TalkingFace(target) as face:
        begin = time.perf_counter()
        handle = (await face.upload_portrait(portrait)).handle
        prepared = time.perf_counter() - begin
        await time_to_first_frame(face, handle, _VIDEO)
        return prepared, [await time_to_first_frame(face, handle, _VIDEO) for _ in range(opens)]
