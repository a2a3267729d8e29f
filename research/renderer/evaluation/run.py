"""One command, one table: how the renderer's pictures compare with photos and with real video."""

from __future__ import annotations

import multiprocessing
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from talkingface.contract.errors import ServiceError
from talkingface_research.renderer.evaluation import clip, cost, portrait_run, worst
from talkingface_research.renderer.evaluation.face_recognition import Recogniser
from talkingface_research.renderer.evaluation.offline_renderer import Inpainter
from talkingface_research.renderer.evaluation.sections import (
    clips,
    detail,
    expression,
    features,
    identity,
    warp_artifacts,
)
from talkingface_research.renderer.evaluation.sections import cost as costs
from talkingface_research.report import Report, Row

TITLES = {
    "generated": "ours",
    "bare": "bare warp",
    "static": "static portrait",
    "real": "real",
    "other": "another person",
    "shuffled": "shuffled",
}
PHOTOS, VIDEOS = (".jpg", ".jpeg", ".png", ".webp"), (".mp4", ".mpg", ".mov", ".mkv", ".webm")
# In a folder of more files than this all but every n-th file by name may have been trained on.
SMALL = 50
HELD_OUT_PHOTOS, HELD_OUT_CLIPS = 12, 23
SIZES = (512, 1024)  # pixels whose cost is measured
TIMED_PORTRAITS = 5


@dataclass(frozen=True)
class Order:
    """What is to be measured."""

    portraits: Sequence[Path]  # files and folders
    videos: Sequence[Path]
    report: Path
    limit: int | None = None  # portraits
    clips: int = 4  # of a folder


def held_out(places: Iterable[Path], endings: Sequence[str], every: int) -> list[list[Path]]:
    """Files on which nothing was trained, by place."""
    out = []
    for place in places:
        if place.is_file():
            out.append([place])
            continue
        files = sorted(path for path in place.iterdir() if path.suffix.lower() in endings)
        out.append(files[::every] if len(files) > SMALL else files)
    return out


def run(order: Order, jobs: int = 1) -> Report:
    """Measure everything and write `table.md`, `table.json` and the sheets.

    :param jobs: processes side by side; cost is measured alone, at the end.
    :raises ServiceError: NO_FACE, where none of the portraits is usable.
    :raises ModuleNotFoundError: a package of the extra `evaluation` is missing.
    """
    Recogniser()  # at once, not first in a process of the pool
    order.report.mkdir(parents=True, exist_ok=True)
    report = Report(TITLES, {"inpainter": f"model.onnx sha256 {Inpainter().digest[:16]}"})
    began = time.monotonic()
    places = held_out(order.portraits, PHOTOS, HELD_OUT_PHOTOS)
    photos = [photo for found in places for photo in found][: order.limit]
    scenes = [
        scene
        for found in held_out(order.videos, VIDEOS, HELD_OUT_CLIPS)
        for scene in found[:: max(len(found) // order.clips, 1)][: order.clips]
    ]

    def tell(what: str) -> None:
        print(f"{what} after {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)

    with _pool(jobs) as pool:
        replays = pool.map(partial(clip.replay, report=order.report), scenes)
        sittings = pool.map(partial(portrait_run.sit, report=order.report), photos)
        played = _usable(replays, report)
        tell("clips")
        sat = _usable(sittings, report)
        tell("portraits")
    if not sat:
        raise ServiceError("NO_FACE", f"none of the {len(photos)} portraits is usable")
    report.about["portraits"], report.about["clips"] = len(sat), len(played)
    parts: list[tuple[str, Callable[[], list[Row]]]] = [
        ("identity", lambda: identity.measure(sat, played)),
        ("expression", lambda: expression.measure(sat)),
        ("tears", lambda: warp_artifacts.measure(sat)),
        ("mouth and eyes", lambda: features.measure(sat)),
        ("detail", lambda: detail.measure(sat)),
        ("real clips played again", lambda: clips.measure(played)),
        ("cost", lambda: _cost(photos)),
    ]
    for name, measure in parts:
        if rows := measure():
            report.add(name, rows)
        report.write(order.report)
    worst.draw(sat, order.report)
    tell("all")
    return report


def _pool(jobs: int) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn"))


def _usable(found: Iterable[Any], report: Report) -> list[Any]:
    """Those that were not refused; the others are named in the report."""
    kept = []
    for one in found:
        if one.refused:
            report.about[f"refused {one.name}"] = one.refused
        else:
            kept.append(one)
    return kept


def _cost(photos: list[Path]) -> list[Row]:
    """Each kind of work in a new process."""
    with _pool(1) as pool:
        preparation = pool.submit(cost.preparing, photos[:TIMED_PORTRAITS]).result()
    if preparation is None:
        return []
    drawings = {}
    for size in SIZES:
        with _pool(1) as pool:
            work = pool.submit(cost.drawing, preparation.portrait, preparation.pixels, size)
            drawings[size] = work.result()
    return costs.measure(preparation, drawings)
