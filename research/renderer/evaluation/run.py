"""The table of all sections: how rendered frames compare with photos and with real video."""

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
from talkingface_research.renderer.evaluation import cost, portrait_run, reenactment, worst_cases
from talkingface_research.renderer.evaluation.face_recognition import FaceRecognition
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
# Of a folder with more files than this, only every n-th by name was held out of all training.
SMALL = 50
HELD_OUT_PHOTOS, HELD_OUT_CLIPS = 12, 23  # n, as in `training.build_pairs` and `prepare`
SIZES = (512, 1024)  # pixels whose cost is measured
TIMED_PORTRAITS = 5


@dataclass(frozen=True)
class EvalConfig:
    """Inputs of one evaluation."""

    portraits: Sequence[Path]  # files and folders
    videos: Sequence[Path]
    report: Path
    limit: int | None = None  # portraits
    clips: int = 4  # of a folder


def held_out(paths: Iterable[Path], endings: Sequence[str], every: int) -> list[list[Path]]:
    """Files on which nothing was trained, by path of a file or folder."""
    out = []
    for path in paths:
        if path.is_file():
            out.append([path])
            continue
        files = sorted(file for file in path.iterdir() if file.suffix.lower() in endings)
        out.append(files[::every] if len(files) > SMALL else files)
    return out


def run(config: EvalConfig, jobs: int = 1) -> Report:
    """Measure everything and write `table.md`, `table.json` and the contact sheets.

    :param jobs: processes; cost is measured alone, at the end
    :raises ServiceError: NO_FACE, where none of the portraits is usable
    :raises ModuleNotFoundError: a package of the extra `research` is missing
    """
    FaceRecognition()  # raises here, not first in a process of the pool
    config.report.mkdir(parents=True, exist_ok=True)
    report = Report(TITLES, {"inpainter": f"model.onnx sha256 {Inpainter().digest[:16]}"})
    began = time.monotonic()
    folders = held_out(config.portraits, PHOTOS, HELD_OUT_PHOTOS)
    photos = [photo for files in folders for photo in files][: config.limit]
    videos = [
        video
        for files in held_out(config.videos, VIDEOS, HELD_OUT_CLIPS)
        for video in files[:: max(len(files) // config.clips, 1)][: config.clips]
    ]

    def log(what: str) -> None:
        print(f"{what} after {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)

    with _pool(jobs) as pool:
        reenactments = pool.map(partial(reenactment.reenact, report=config.report), videos)
        measured = pool.map(partial(portrait_run.measure_portrait, report=config.report), photos)
        reenacted = _usable(reenactments, report)
        log("clips")
        portraits = _usable(measured, report)
        log("portraits")
    if not portraits:
        raise ServiceError("NO_FACE", f"none of the {len(photos)} portraits is usable")
    report.about["portraits"], report.about["clips"] = len(portraits), len(reenacted)
    parts: list[tuple[str, Callable[[], list[Row]]]] = [
        ("identity", lambda: identity.measure(portraits, reenacted)),
        ("expression", lambda: expression.measure(portraits)),
        ("warp artifacts", lambda: warp_artifacts.measure(portraits)),
        ("mouth and eyes", lambda: features.measure(portraits)),
        ("detail", lambda: detail.measure(portraits)),
        ("reenacted clips", lambda: clips.measure(reenacted)),
        ("cost", lambda: _cost(photos)),
    ]
    for name, measure in parts:
        if rows := measure():
            report.add(name, rows)
        report.write(config.report)
    worst_cases.draw(portraits, config.report)
    log("all")
    return report


def _pool(jobs: int) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn"))


def _usable(found: Iterable[Any], report: Report) -> list[Any]:
    """Those that were not refused; the others are listed in the report."""
    kept = []
    for one in found:
        if one.refused:
            report.about[f"refused {one.name}"] = one.refused
        else:
            kept.append(one)
    return kept


def _cost(photos: list[Path]) -> list[Row]:
    """Measure each kind of work in a new process."""
    with _pool(1) as pool:
        preparation = pool.submit(cost.measure_preparation, photos[:TIMED_PORTRAITS]).result()
    if preparation is None:
        return []
    renderings = {}
    for size in SIZES:
        with _pool(1) as pool:
            work = pool.submit(
                cost.measure_rendering, preparation.portrait, preparation.pixels, size
            )
            renderings[size] = work.result()
    return costs.measure(preparation, renderings)
