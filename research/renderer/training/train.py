"""Train the inpainter on pairs written by `build_pairs`.

    python -m talkingface_research.renderer.training.train --data DIR --out DIR --device cuda
        --minutes 8

`DIR` of the data holds `mouth.npz` and `eye.npz`. Writes `inpainter.pt` (averaged weights) and
`train.log` (figures on held-out identities). `--minutes` is the whole schedule: the rate falls
to zero at its end.

Begin without `--perceptual` (with it, an untrained network learns to change nothing), then continue
with `--init` and `--perceptual taef2_encoder.pth --adversarial 0.05`.
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

from talkingface_research.renderer.network import CropNet, Inpainter, composite
from talkingface_research.renderer.training.augment import prepare
from talkingface_research.renderer.training.dataset import KINDS, VIDEO, Pairs, load
from talkingface_research.renderer.training.evaluate import figures
from talkingface_research.renderer.training.losses import (
    PatchDiscriminator,
    PerceptualLoss,
    detail,
    shading,
    weighted_mean,
)

LEARNING_RATE = 6e-4
EMA = 0.995
EYES_PER_MOUTH = 1.5  # in a batch
WINDOW = {"mouth": (64, 96), "eye": (48, 64)}  # height and width of training crops, pixels
PERCEPTUAL_SIDE = 64  # width of the part of a crop in the perceptual loss, pixels
# Weights of the losses.
LIGHT, COLOUR, DETAIL, PERCEPTUAL, MATCHING = 1.0, 0.5, 0.5, 0.12, 0.5
CLASSES = (60.0, 200.0, 450.0, 800.0, 1300.0)  # drawn pixels; mouths of all sizes equally often
ROUND = 0.35  # sum of funnel and pucker from which lips count as rounded


@dataclass
class Part:
    """One kind of crop: its network, its pairs, and their sampling weights."""

    kind: str
    net: CropNet
    train: Pairs
    held_out: Pairs
    odds: Tensor
    discriminator: PatchDiscriminator


def odds(kind: str, pairs: Pairs) -> Tensor:
    """Sampling weights of pairs, (n,).

    Small and wide, plain and rounded mouths come equally often, and so do closed, half-closed and
    moved eyes. Videos are soft, so they weigh less than photographs.
    """
    video = pairs.source == VIDEO
    if kind == "mouth":
        area = (pairs.mask[:, 0].float() / 255).sum((1, 2))
        group = torch.bucketize(area, area.new_tensor(CLASSES))
        group = 2 * group + (pairs.control[:, 3] > ROUND).long()
    else:
        group = torch.bucketize(
            pairs.control[:, 0].contiguous(), pairs.control.new_tensor([0.2, 0.7])
        )
    group = 2 * group + video.long()
    counts = torch.bincount(group)[group].float()
    # Small groups are not repeated so often that they would be memorised.
    weight = 1 / counts.clamp(min=25)
    if kind == "mouth":
        weight = weight * torch.where(area < CLASSES[0], 0.3, 1.0)
        # Low agreement: a tongue put out, a hand before the mouth.
        weight = weight * (pairs.agreement - 0.15).clamp(0, 0.4)
    return weight * torch.where(video, 0.35, 1.0)


def losses(
    crop: Tensor, residual: Tensor, target: Tensor, perceptual: PerceptualLoss | None
) -> Tensor:
    """The sum of losses of a refined crop, without that of the discriminator."""
    refined, where = composite(crop, residual), residual[:, 3:].detach()
    error = refined - target
    loss = LIGHT * weighted_mean(shading(error, where).abs(), where)
    loss = loss + COLOUR * weighted_mean(error.abs(), where)
    loss = loss + DETAIL * weighted_mean(detail(error).abs(), where)
    if perceptual is not None:
        # On part of the batch and of the window: it costs ten times the rest.
        count = max(len(crop) * 3 // 8, 1)
        left = int(torch.randint(0, max(crop.shape[-1] - PERCEPTUAL_SIDE, 0) + 1, ()))
        part = (slice(count), slice(None), slice(None), slice(left, left + PERCEPTUAL_SIDE))
        with torch.autocast(crop.device.type, torch.bfloat16):
            loss = loss + PERCEPTUAL * perceptual(refined[part], target[part], where[part])
    return loss


class Trainer:
    """The state of a training run."""

    def __init__(
        self,
        data: Path,
        device: str,
        init: Path | None,
        batch: int,
        perceptual: Path | None,
        adversarial: float,
        kinds: list[str],
    ) -> None:
        self.device, self.steps, self.adversarial = device, 0, adversarial
        self.batch = {"mouth": batch, "eye": int(batch * EYES_PER_MOUTH)}
        self.model = Inpainter(training=True).to(device)
        if init:
            self.model.load_state_dict(torch.load(init, map_location=device)["model"])
        self.average = copy.deepcopy(self.model).requires_grad_(False)
        self.perceptual = PerceptualLoss(perceptual).to(device) if perceptual else None
        nets = {"mouth": self.model.mouth, "eye": self.model.eye}
        self.parts = []
        for kind in kinds:
            train, held_out = load(data / f"{kind}.npz", device)
            discriminator = PatchDiscriminator().to(device)
            self.parts.append(
                Part(kind, nets[kind], train, held_out, odds(kind, train), discriminator)
            )
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), LEARNING_RATE, betas=(0.9, 0.99), weight_decay=1e-3
        )
        self.discriminator_optimizer = torch.optim.Adam(
            [p for part in self.parts for p in part.discriminator.parameters()],
            LEARNING_RATE / 2,
            betas=(0.5, 0.99),
        )

    def step(self, done: float) -> float:
        """Do one update at the share `done` of the time, and return the loss."""
        rate = min(1.0, done / 0.02) * 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))
        for group in self.optimizer.param_groups:
            group["lr"] = LEARNING_RATE * max(rate, 1e-3)
        part = self.parts[self.steps % len(self.parts)]
        index = torch.multinomial(part.odds, self.batch[part.kind], replacement=True)
        pairs = part.train.batch(index)
        crop, wanted, target, control = prepare(pairs, part.kind, True, WINDOW[part.kind])
        residual = part.net(crop, control)
        loss = losses(crop, residual, wanted, self.perceptual)
        if self.adversarial:
            loss = loss + self.adversarial * self.adversarial_loss(
                part, pairs, crop, residual, wanted, target
            )
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(part.net.parameters(), 1.0)
        self.optimizer.step()
        with torch.no_grad():
            for mean, value in zip(self.average.parameters(), self.model.parameters(), strict=True):
                mean.lerp_(value, 1 - EMA)
        self.steps += 1
        return float(loss.detach())

    def adversarial_loss(
        self,
        part: Part,
        pairs: Pairs,
        crop: Tensor,
        residual: Tensor,
        wanted: Tensor,
        target: Tensor,
    ) -> Tensor:
        """Update the discriminator, and return the loss of the network by it. Hinge losses."""
        where = residual[:, 3:].detach()
        drawn, mask = crop[:, :3], crop[:, 3:4]
        # Outside the drawn area both are the drawing, so that the warp does not give the answer.
        # Videos are too soft to be examples.
        real, model = (drawn + where * (x - drawn) for x in (target, wanted))
        made = composite(crop, residual)
        sharp = (pairs.source != VIDEO).float().view(-1, 1, 1, 1)
        local = F.avg_pool2d(where, 4) * sharp
        truth, _ = part.discriminator(real, mask)
        fake, _ = part.discriminator(made.detach(), mask)
        discriminator_loss = weighted_mean(F.relu(1 - truth), local) + weighted_mean(
            F.relu(1 + fake), local
        )
        self.discriminator_optimizer.zero_grad(set_to_none=True)
        discriminator_loss.backward()
        self.discriminator_optimizer.step()
        score, found = part.discriminator(made, mask)
        with torch.no_grad():
            _, like = part.discriminator(model, mask)
        loss = -weighted_mean(score, local)
        for a, b in zip(found, like, strict=True):
            area = F.adaptive_avg_pool2d(where * sharp, (a.shape[-2], a.shape[-1]))
            loss = loss + MATCHING * weighted_mean((a - b).abs(), area)
        return loss


def run(trainer: Trainer, out: Path, minutes: float, log: TextIO) -> None:
    """Train for `minutes`."""
    start, recent = time.monotonic(), 0.0
    next_report = 0.0
    nets = {"mouth": trainer.average.mouth, "eye": trainer.average.eye}
    while True:
        done = (time.monotonic() - start) / (60 * minutes)
        if done >= next_report or done >= 1:
            found = {
                f"{part.kind}/{name}": value
                for part in trainer.parts
                for name, value in figures(nets[part.kind], part.kind, part.held_out).items()
            }
            line = f"{done:5.2f} step {trainer.steps} loss {recent:.4f} " + " ".join(
                f"{name} {value:.2f}" for name, value in found.items()
            )
            print(line, flush=True)
            print(line, file=log, flush=True)
            torch.save({"model": trainer.average.state_dict()}, out / "inpainter.pt")
            next_report = done + 0.1
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
    parser.add_argument("--init", type=Path, help="checkpoint to start from")
    parser.add_argument("--batch", type=int, default=32, help="mouths in a batch")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--perceptual", type=Path, help="taef2_encoder.pth")
    parser.add_argument("--adversarial", type=float, default=0.0, help="the discriminator's weight")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(options.seed)
    torch.backends.cudnn.benchmark = True
    torch.backends.cuda.matmul.allow_tf32 = True
    torch.backends.cudnn.allow_tf32 = True
    trainer = Trainer(
        options.data,
        options.device,
        options.init,
        options.batch,
        options.perceptual,
        options.adversarial,
        options.kinds,
    )
    counts = {p.kind: (len(p.train), len(p.held_out)) for p in trainer.parts}
    with (options.out / "train.log").open("w") as log:
        print(f"pairs (train, held out): {counts}", flush=True)
        run(trainer, options.out, options.minutes, log)


if __name__ == "__main__":
    main()
