"""Can a classifier tell made mouths from photographed ones?

    python -m talkingface_research.renderer.evaluation.real_or_made --portraits SFHQ --out DIR

All open mouths of the photos are shut and opened again (`open_mouth`). A small convolutional
network learns to tell the pictures of one from those of the other, in five folds by portrait; the
area under its ROC curve on portraits that it has not seen is the figure: 0.5 where it guesses, 1
where it is always right. Prints that of the portraits that no network of the renderer was trained
on as well, and writes a sheet of pairs, the most obvious first. Needs torch.
"""

from __future__ import annotations

import argparse
import multiprocessing
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from talkingface.renderer.analysis import PortraitError, decode
from talkingface_research.renderer.evaluation import contact_sheets
from talkingface_research.renderer.evaluation.models import models
from talkingface_research.renderer.evaluation.offline_renderer import prepare_analysed
from talkingface_research.renderer.evaluation.open_mouth import (
    OPEN,
    MouthLight,
    OpenMouth,
    gap,
    measure,
)
from talkingface_research.renderer.evaluation.run import HELD_OUT_PHOTOS, PHOTOS

Array = NDArray[np.float32]

FOLDS, EPOCHS, BATCH, RATE = 5, 40, 32, 1e-3
SHIFT = 4  # pixels by which pictures are moved in training
COLUMNS, SHOWN = 8, 64  # pairs in a row of the sheet; of how many
TILE = (192, 256)  # width and height of a pair on it, pixels


class Classifier(nn.Module):
    """Pictures (B, 3, 64, 96) in [0, 1] -> how made they look (B,)."""

    def __init__(self) -> None:
        super().__init__()
        widths = (3, 24, 48, 96, 96)
        self.layers = nn.ModuleList(nn.Conv2d(a, b, 3, 2, padding=1) for a, b in pairwise(widths))
        self.norms = nn.ModuleList(nn.BatchNorm2d(w) for w in widths[1:])
        self.head = nn.Linear(2 * widths[-1], 1)

    def forward(self, x: Tensor) -> Tensor:
        x = x - x.mean((2, 3), keepdim=True)
        for layer, norm in zip(self.layers, self.norms, strict=True):
            x = F.leaky_relu(norm(layer(x)), 0.1)
        pooled = torch.cat([x.mean((2, 3)), x.amax((2, 3))], 1)
        score: Tensor = self.head(F.dropout(pooled, 0.3, self.training))[:, 0]
        return score


def area_under_curve(made: Array, real: Array) -> float:
    """Probability that a made picture looks more made than a real one."""
    higher = (made[:, None] > real).mean() + 0.5 * (made[:, None] == real).mean()
    return float(higher)


def scores(pictures: Tensor, folds: Array) -> Array:
    """How made each picture looks to a classifier that has not seen its portrait, (2, N).

    :param pictures: (2, N, 3, 64, 96) in [0, 1]: photographed and made.
    :param folds: (N,) of each portrait.
    """
    out = np.zeros(pictures.shape[:2], np.float32)
    for fold in range(FOLDS):
        torch.manual_seed(fold)
        net = Classifier()
        seen = torch.from_numpy(np.flatnonzero(folds != fold))
        optimizer = torch.optim.AdamW(net.parameters(), RATE, weight_decay=1e-2)
        steps = EPOCHS * -(-2 * len(seen) // BATCH)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, steps)
        for _ in range(steps):
            rows = seen[torch.randint(len(seen), (BATCH // 2,))]
            batch = _changed(pictures[:, rows].flatten(0, 1))
            wanted = torch.arange(2).repeat_interleave(len(rows)).float()
            loss = F.binary_cross_entropy_with_logits(net(batch), wanted)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        net.eval()
        hidden = np.flatnonzero(folds == fold)
        with torch.no_grad():
            batch = pictures[:, hidden].flatten(0, 1)
            found = net(batch) + net(batch.flip(-1))
        out[:, hidden] = found.reshape(2, -1).numpy()
    return out


def _changed(pictures: Tensor) -> Tensor:
    """Pictures moved, mirrored, and in other light."""
    count = len(pictures)
    padded = F.pad(pictures, (SHIFT,) * 4, mode="replicate")
    moved = torch.stack([
        image[:, j : j + pictures.shape[2], i : i + pictures.shape[3]]
        for image, (j, i) in zip(padded, torch.randint(2 * SHIFT + 1, (count, 2)), strict=True)
    ])  # fmt: skip
    moved = torch.where(torch.rand(count, 1, 1, 1) < 0.5, moved.flip(-1), moved)
    return moved * torch.exp(0.2 * torch.randn(count, 1, 1, 1))


def _mouth(path: Path) -> OpenMouth | None:
    analyser, content = models().analyser, path.read_bytes()
    try:
        marks = analyser.landmarks(decode(content))
        if marks is None or gap(marks) < OPEN:
            return None
        analysed = analyser.analyse(content)
    except PortraitError:
        return None
    return measure(analysed.frame, analysed.landmarks, prepare_analysed(analysed))


def mouths(folders: Iterable[Path], jobs: int) -> tuple[list[str], list[bool], list[OpenMouth]]:
    """Names, whether they were held out of all training, and mouths of the photos in folders."""
    photos = [
        (path, number % HELD_OUT_PHOTOS == 0)
        for folder in folders
        for number, path in enumerate(
            sorted(p for p in folder.iterdir() if p.suffix.lower() in PHOTOS)
        )
    ]
    with ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
        found = list(pool.map(_mouth, [path for path, _ in photos], chunksize=4))
    kept = [(p.stem, out, m) for (p, out), m in zip(photos, found, strict=True) if m is not None]
    return [k[0] for k in kept], [k[1] for k in kept], [k[2] for k in kept]


def _light_rows(lights: Sequence[MouthLight]) -> str:
    values = np.array([(one.brightest, 100 * one.light, one.yellow) for one in lights])
    middle, low, high = (np.quantile(values, q, axis=0) for q in (0.5, 0.1, 0.9))
    return "; ".join(
        f"{m:.2f} ({a:.2f}..{b:.2f})" for m, a, b in zip(middle, low, high, strict=True)
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="tell made mouths from photographed ones")
    parser.add_argument("--portraits", type=Path, nargs="+", required=True)
    parser.add_argument("--out", type=Path, required=True, help="where the sheet is written")
    parser.add_argument("--jobs", type=int, default=1)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    names, held_out, found = mouths(options.portraits, options.jobs)
    np.savez(
        options.out / "mouths.npz",
        photo=[m.photo for m in found],
        made=[m.made for m in found],
        held_out=held_out,
        names=names,
    )
    pictures = torch.from_numpy(np.stack([[m.photo for m in found], [m.made for m in found]]))
    pictures = pictures.permute(0, 1, 4, 2, 3).float() / 255
    folds = np.arange(len(found)) % FOLDS
    real, made = scores(pictures, folds.astype(np.float32))
    held = np.array(held_out)
    print(f"{len(found)} open mouths, {held.sum()} of them held out of all training")
    print(f"area under the curve {area_under_curve(made, real):.3f}, "
          f"held out {area_under_curve(made[held], real[held]):.3f}")  # fmt: skip
    print("brightest tenth over cheek; light, %; b* (p10..p90)")
    print(f"  photographed {_light_rows([m.photo_light for m in found])}")
    print(f"  made         {_light_rows([m.made_light for m in found])}")
    print(f"gap of the made mouth over the photo's: {np.median([m.gap for m in found]):.2f}")
    order = np.argsort(real - made)[:SHOWN]
    tiles = [
        contact_sheets.label(
            cv2.resize(np.concatenate([found[i].photo, found[i].made]), TILE).astype(np.uint8),
            f"{names[i]} {made[i] - real[i]:.1f}",
        )
        for i in order
    ]
    contact_sheets.write(options.out / "pairs.png", contact_sheets.grid(tiles, COLUMNS))


if __name__ == "__main__":
    main()
