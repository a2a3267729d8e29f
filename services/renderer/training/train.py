"""Train the inpainter on pairs written by `build_pairs`.

    python -m talkingface.renderer.training.train --data DIR --out DIR --device cuda --minutes 8

`DIR` of the data holds `mouth.npz` and `eye.npz`. Writes `inpainter.pt` (averaged weights) and
`train.log` (figures on held-out identities). The time given is the whole schedule: the rate falls
to zero at its end.
`--perceptual taef2_encoder.pth` adds a perceptual loss, ten times the work: for a GPU.
"""

from __future__ import annotations

import argparse
import copy
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from talkingface.renderer.inpainter import CropNet, Inpainter, composite
from talkingface.renderer.training.augment import prepare
from talkingface.renderer.training.dataset import KINDS, Pairs, load
from talkingface.renderer.training.losses import (
    PerceptualLoss,
    detail,
    weighted_mean,
)

LEARNING_RATE = 6e-4
EMA = 0.995
BLUR = 9  # pixels; detail finer than about this is the guide's business
KEEP_DETAIL, FOLLOW_TARGET = 1.0, 0.1
EYES_PER_MOUTH = 2  # in a batch
EYE_STEPS = 3  # eyes, which lack less, are trained on every n-th step
WINDOW = (64, 96)  # height and width of the part of a mouth's crop that most steps look at
WHOLE = 0.15  # share of the steps that look at the whole crop


@dataclass
class Part:
    """One kind of crop: its network and its pairs."""

    kind: str
    net: CropNet
    train: Pairs
    held_out: Pairs


def region(mask: Tensor) -> Tensor:
    """(B, 1, S, S) weight: 1 where the network is to work (masks, widened), soft around."""
    wide = F.max_pool2d(mask.amax(1, keepdim=True), 7, 1, 3)
    return F.avg_pool2d(wide, 7, 1, 3)


def shading(picture: Tensor, weight: Tensor) -> Tensor:
    """The picture (B, C, H, W) without detail, blurred inside the weight (B, 1, H, W) alone."""

    def blur(x: Tensor) -> Tensor:
        for _ in range(2):
            x = F.avg_pool2d(x, BLUR, 1, BLUR // 2, count_include_pad=False)
        return x

    return blur(picture * weight) / (blur(weight) + 1e-4)


def losses(
    perceptual: PerceptualLoss | None, crop: Tensor, residual: Tensor, target: Tensor
) -> Tensor:
    """What a refined crop is judged by.

    Where exactly a tooth stands cannot be known, and the mean of all possibilities is a grey
    smear. So the target teaches light and colour, without detail; the detail is the guide's own,
    with a little of the target's.
    """
    refined = composite(crop, residual)
    where = region(crop[:, 3:5])
    loss = weighted_mean(shading(refined - target, where).abs(), where)
    inner = 1 - F.max_pool2d(1 - crop[:, 3:4], 3, 1, 1)
    loss = loss + KEEP_DETAIL * weighted_mean((detail(refined) - detail(crop[:, :3])).abs(), inner)
    loss = loss + FOLLOW_TARGET * weighted_mean((refined - target).abs(), where)
    if perceptual is not None:
        loss = loss + 0.12 * perceptual(refined, target, where)
    # Away from the masks the photo is right: nothing is to be applied there.
    return loss + weighted_mean((residual[:, :3] * residual[:, 3:]).abs(), 1 - where)


@torch.no_grad()
def validate(part: Part, net: CropNet) -> dict[str, float]:
    """Held-out error under the drawn mask, of 255: of colours (`l1`) and of the same without
    detail (`shading`), for the network's picture and for the bare guide (`*_guide`)."""
    sums: dict[str, float] = {}
    area = 0.0
    for index in torch.arange(len(part.held_out)).split(64):
        crop, target, control = prepare(part.held_out.batch(index), part.kind, augment=False)
        refined = composite(crop, net(crop, control)).clamp(0, 1)
        weight = crop[:, 3:4]
        area += float(weight.sum())
        for name, picture in (("_guide", crop[:, :3]), ("", refined)):
            for figure, error in (
                ("l1", picture - target),
                ("shading", shading(picture - target, weight)),
            ):
                total = float((error.abs().mean(1, keepdim=True) * weight).sum())
                sums[figure + name] = sums.get(figure + name, 0.0) + 255 * total
    return {name: value / area for name, value in sums.items()}


def odds(kind: str, pairs: Pairs) -> Tensor:
    """How often each pair is drawn, (n,).

    Open mouths teach more than shut ones. The videos are soft, so photographs lead in the mouth;
    but only the videos show shut lids.
    """
    video = pairs.source == 1
    if kind == "mouth":
        area = (pairs.mask[:, 0].float() / 255).sum((1, 2))
        return (0.1 + (area / 300).clamp(max=1)) * torch.where(video, 0.4, 1.0)
    return torch.where(video, 1 + 5 * (pairs.control[:, 0] > 0.35).float(), 0.5)


class Trainer:
    """Everything that a training run holds."""

    def __init__(
        self,
        data: Path,
        device: str,
        init: Path | None,
        batch: int,
        perceptual: Path | None,
        kinds: list[str],
    ) -> None:
        self.device, self.steps = device, 0
        self.batch = {"mouth": batch, "eye": batch * EYES_PER_MOUTH}
        self.model = Inpainter().to(device)
        if init:
            self.model.load_state_dict(torch.load(init, map_location=device)["model"])
        self.average = copy.deepcopy(self.model).requires_grad_(False)
        self.perceptual = PerceptualLoss(perceptual).to(device) if perceptual else None
        nets = {"mouth": self.model.mouth, "eye": self.model.eye}
        self.parts = [Part(kind, nets[kind], *load(data / f"{kind}.npz", device)) for kind in kinds]
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), LEARNING_RATE, betas=(0.9, 0.99), weight_decay=1e-3
        )
        self.odds = [odds(part.kind, part.train) for part in self.parts]

    def step(self, done: float) -> float:
        """One update at the share `done` of the time; the summed loss."""
        rate = min(1.0, done / 0.02) * 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))
        for group in self.optimizer.param_groups:
            group["lr"] = LEARNING_RATE * max(rate, 1e-3)
        total = torch.zeros((), device=self.device)
        for part, weights in zip(self.parts, self.odds, strict=True):
            if part.kind == "eye" and self.steps % EYE_STEPS:
                continue
            index = torch.multinomial(weights, self.batch[part.kind], replacement=True)
            window = WINDOW if part.kind == "mouth" and torch.rand(()) > WHOLE else None
            crop, target, control = prepare(
                part.train.batch(index), part.kind, augment=True, window=window
            )
            with self.autocast():
                residual = part.net(crop, control)
                loss = losses(self.perceptual, crop, residual.float(), target)
            total = total + loss
        self.optimizer.zero_grad(set_to_none=True)
        total.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        with torch.no_grad():
            for mean, value in zip(self.average.parameters(), self.model.parameters(), strict=True):
                mean.lerp_(value, 1 - EMA)
        self.steps += 1
        return float(total.detach())

    def autocast(self) -> torch.autocast:
        """Half precision on the GPU."""
        return torch.autocast(self.device, torch.bfloat16, enabled=self.device == "cuda")

    def figures(self) -> dict[str, float]:
        """Held-out figures of the averaged network, named `kind/figure`."""
        nets = {"mouth": self.average.mouth, "eye": self.average.eye}
        return {
            f"{part.kind}/{name}": value
            for part in self.parts
            for name, value in validate(part, nets[part.kind]).items()
        }


def run(trainer: Trainer, out: Path, minutes: float, log: TextIO) -> None:
    """Train for `minutes`."""
    start, recent = time.monotonic(), 0.0
    next_report = 0.0
    while True:
        done = (time.monotonic() - start) / (60 * minutes)
        if done >= next_report or done >= 1:
            figures = trainer.figures()
            line = f"{done:5.2f} step {trainer.steps} loss {recent:.4f} " + " ".join(
                f"{name} {value:.2f}" for name, value in figures.items()
            )
            print(line, flush=True)
            print(line, file=log, flush=True)
            state = {"model": trainer.average.state_dict(), "figures": figures}
            torch.save(state, out / "inpainter.pt")
            next_report = done + 0.05
        if done >= 1:
            return
        loss = trainer.step(done)
        recent = loss if recent == 0 else 0.98 * recent + 0.02 * loss


def main() -> None:
    parser = argparse.ArgumentParser(description="train the inpainter")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--minutes", type=float, default=8)
    parser.add_argument("--init", type=Path, help="checkpoint to go on from")
    parser.add_argument("--batch", type=int, default=32, help="mouths in a batch")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--perceptual", type=Path, help="taef2_encoder.pth")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(options.seed)
    torch.backends.cudnn.benchmark = True
    torch.backends.cuda.matmul.allow_tf32 = True
    torch.backends.cudnn.allow_tf32 = True
    trainer = Trainer(
        options.data, options.device, options.init, options.batch, options.perceptual, options.kinds
    )
    counts = {p.kind: (len(p.train), len(p.held_out)) for p in trainer.parts}
    with (options.out / "train.log").open("w") as log:
        print(f"pairs (train, held out): {counts}", flush=True)
        run(trainer, options.out, options.minutes, log)


if __name__ == "__main__":
    main()
