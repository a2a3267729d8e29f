"""One command, one table: how the renderer's pictures compare with the photo and with real video."""

from __future__ import annotations

import multiprocessing
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from talkingface.common.report import Report
from talkingface.renderer.evaluation.painter import Inpainter
from talkingface.renderer.evaluation.sections import detail, expression, features, identity, tears
from talkingface.renderer.evaluation.sitting import sit

TITLES = {
    "generated": "ours",
    "bare": "bare warp",
    "static": "static portrait",
    "real": "real video",
    "other": "another person",
    "shuffled": "shuffled",
}
PHOTOS = (".jpg", ".jpeg", ".png", ".webp")
# A folder of more files than this was trained on, but for every n-th file by name.
SMALL = 50
HELD_OUT_PHOTOS, HELD_OUT_CLIPS = 12, 23


@dataclass(frozen=True)
class Order:
    """What is to be measured."""

    portraits: Sequence[Path]
    videos: Sequence[Path]
    report: Path
    limit: int | None = None


def held_out(folders: Sequence[Path], endings: Sequence[str], every: int) -> list[Path]:
    """Files of folders on which nothing was trained."""
    out: list[Path] = []
    for folder in folders:
        files = sorted(path for path in folder.iterdir() if path.suffix.lower() in endings)
        out += files[::every] if len(files) > SMALL else files
    return out


def run(order: Order, jobs: int = 1) -> Report:
    """Measure everything and write table and sheets.

    :param jobs: processes
    """
    order.report.mkdir(parents=True, exist_ok=True)
    report = Report(TITLES, {"inpainter": f"model.onnx sha256 {Inpainter().digest[:16]}"})
    began = time.monotonic()
    photos = held_out(order.portraits, PHOTOS, HELD_OUT_PHOTOS)[: order.limit]
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=context) as pool:
        found = list(pool.map(partial(sit, report=order.report), photos))
    sittings = [one for one in found if not one.refused]
    report.about["portraits"] = len(sittings)
    for one in found:
        if one.refused:
            report.about[f"refused {one.name}"] = one.refused
    for part in (identity, expression, tears, features, detail):
        report.add(part.__name__.rpartition(".")[2], part.measure(sittings))
    print(f"done after {time.monotonic() - began:.0f} s", file=sys.stderr)
    report.write(order.report)
    return report
