"""Train the inpainter on pairs written by `build_pairs`.

    python -m talkingface.renderer.training.train --data DIR --out DIR --device cuda --minutes 8

`DIR` of the data holds `mouth.npz`, `eye.npz` and `taef2_encoder.pth` (perceptual loss). Writes
`inpainter.pt` (the averaged weights that did best on held-out identities), `last.pt` and
`train.log`. The time given is the whole schedule: the rate falls to zero at its end, and for its
last half a patch critic joins the losses.
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
    PatchCritic,
    PerceptualLoss,
    detail,
    weighted_mean,
)

LEARNING_RATE = 6e-4
CRITIC_RATE = 2e-4
CRITIC_START = 0.5  # share of the time
CRITIC_WEIGHT = 0.03
EMA = 0.998
BASE_WEIGHT = 0.03  # of a pixel that no mask touches, relative to one in a mask
EYES_PER_MOUTH = 2  # in a batch


@dataclass
class Part:
    """One kind of crop: its network, critic and pairs."""

    kind: str
    net: CropNet
    critic: PatchCritic
    train: Pairs
    held_out: Pairs


def region(mask: Tensor) -> Tensor:
    """(B, 1, S, S) weight: 1 where the network is to work (masks, widened), soft around."""
    wide = F.max_pool2d(mask.amax(1, keepdim=True), 7, 1, 3)
    return F.avg_pool2d(wide, 7, 1, 3)


def losses(
    perceptual: PerceptualLoss, crop: Tensor, residual: Tensor, target: Tensor
) -> tuple[Tensor, Tensor]:
    """(loss, refined picture (B, 3, S, S))."""
    refined = composite(crop, residual)
    where = region(crop[:, 3:5])
    weight = BASE_WEIGHT + where
    loss = weighted_mean((refined - target).abs(), weight)
    loss = loss + weighted_mean((detail(refined) - detail(target)).abs(), weight)
    loss = loss + 0.12 * perceptual(refined, target, weight)
    # Away from the masks the photo is right: nothing is to be applied there.
    applied = (residual[:, :3] * residual[:, 3:]).abs() + 0.02 * residual[:, 3:]
    return loss + weighted_mean(applied, 1 - where), refined


@torch.no_grad()
def validate(part: Part, net: CropNet, perceptual: PerceptualLoss) -> dict[str, float]:
    """Held-out figures under the drawn mask: L1 (of 255) and perceptual distance, bare guide
    (`*_guide`) and network."""
    sums = dict.fromkeys(("l1_guide", "l1", "perceptual_guide", "perceptual"), 0.0)
    batches = torch.arange(len(part.held_out)).split(64)
    for index in batches:
        crop, target, control = prepare(part.held_out.batch(index), part.kind, augment=False)
        refined = composite(crop, net(crop, control)).clamp(0, 1)
        weight = crop[:, 3:4]
        for name, picture in (("_guide", crop[:, :3]), ("", refined)):
            sums["l1" + name] += 255 * float(weighted_mean((picture - target).abs(), weight))
            sums["perceptual" + name] += float(perceptual(picture, target, weight))
    return {name: value / len(batches) for name, value in sums.items()}


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

    def __init__(self, data: Path, device: str, init: Path | None, batch: int) -> None:
        self.device = device
        self.batch = {"mouth": batch, "eye": batch * EYES_PER_MOUTH}
        self.model = Inpainter().to(device)
        if init:
            self.model.load_state_dict(torch.load(init, map_location=device)["model"])
        self.average = copy.deepcopy(self.model).requires_grad_(False)
        self.perceptual = PerceptualLoss(data / "taef2_encoder.pth").to(device)
        nets = {"mouth": self.model.mouth, "eye": self.model.eye}
        self.parts = [
            Part(kind, nets[kind], PatchCritic().to(device), *load(data / f"{kind}.npz", device))
            for kind in KINDS
        ]
        critics = nn.ModuleList(part.critic for part in self.parts)
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), LEARNING_RATE, betas=(0.9, 0.99), weight_decay=1e-3
        )
        self.critic_optimizer = torch.optim.Adam(
            critics.parameters(), CRITIC_RATE, betas=(0.5, 0.99)
        )
        self.odds = [odds(part.kind, part.train) for part in self.parts]

    def step(self, done: float) -> float:
        """One update at the share `done` of the time; the summed loss."""
        rate = min(1.0, done / 0.02) * 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))
        for group in self.optimizer.param_groups:
            group["lr"] = LEARNING_RATE * max(rate, 1e-3)
        critical = done > CRITIC_START
        total = torch.zeros((), device=self.device)
        judged = []
        for part, weights in zip(self.parts, self.odds, strict=True):
            index = torch.multinomial(weights, self.batch[part.kind], replacement=True)
            crop, target, control = prepare(part.train.batch(index), part.kind, augment=True)
            with self.autocast():
                residual = part.net(crop, control)
                loss, refined = losses(self.perceptual, crop, residual.float(), target)
            if critical:
                ramp = min(1.0, (done - CRITIC_START) / 0.1)
                part.critic.requires_grad_(False)
                with self.autocast():
                    score = part.critic(refined, crop[:, 3:5]).float()
                part.critic.requires_grad_(True)
                where = F.adaptive_avg_pool2d(
                    region(crop[:, 3:5]), (score.shape[-2], score.shape[-1])
                )
                loss = loss - CRITIC_WEIGHT * ramp * weighted_mean(score, where)
                judged.append((part, refined.detach(), target, crop[:, 3:5], where))
            total = total + loss
        self.optimizer.zero_grad(set_to_none=True)
        total.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        if judged:
            self._train_critics(judged)
        with torch.no_grad():
            for mean, value in zip(self.average.parameters(), self.model.parameters(), strict=True):
                mean.lerp_(value, 1 - EMA)
        return float(total.detach())

    def _train_critics(self, judged: list[tuple[Part, Tensor, Tensor, Tensor, Tensor]]) -> None:
        """Hinge loss where the network works."""
        loss = torch.zeros((), device=self.device)
        for part, refined, target, mask, where in judged:
            loss = loss + weighted_mean(F.relu(1 - part.critic(target, mask)), where)
            loss = loss + weighted_mean(F.relu(1 + part.critic(refined, mask)), where)
        self.critic_optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.critic_optimizer.step()

    def autocast(self) -> torch.autocast:
        """Half precision on the GPU."""
        return torch.autocast(self.device, torch.bfloat16, enabled=self.device == "cuda")

    def figures(self) -> dict[str, float]:
        """Held-out figures of the averaged network, named `kind/figure`."""
        nets = {"mouth": self.average.mouth, "eye": self.average.eye}
        return {
            f"{part.kind}/{name}": value
            for part in self.parts
            for name, value in validate(part, nets[part.kind], self.perceptual).items()
        }


def run(trainer: Trainer, out: Path, minutes: float, log: TextIO) -> None:
    """Train for `minutes`; keeps the best averaged weights and the last ones."""
    start, steps, best, recent = time.monotonic(), 0, math.inf, 0.0
    next_report = 0.0
    while True:
        done = (time.monotonic() - start) / (60 * minutes)
        if done >= next_report or done >= 1:
            figures = trainer.figures()
            line = f"{done:5.2f} step {steps} loss {recent:.4f} " + " ".join(
                f"{name} {value:.3f}" for name, value in figures.items()
            )
            print(line, flush=True)
            print(line, file=log, flush=True)
            state = {"model": trainer.average.state_dict(), "figures": figures, "steps": steps}
            torch.save(state, out / "last.pt")
            # The critic trades perceptual distance for texture, so the last weights are wanted
            # unless they have overfitted.
            merit = figures["mouth/perceptual"] + figures["eye/perceptual"]
            if merit < best * 1.02:
                best = min(best, merit)
                torch.save(state, out / "inpainter.pt")
            next_report = done + 0.05
        if done >= 1:
            return
        loss = trainer.step(done)
        recent = loss if steps == 0 else 0.98 * recent + 0.02 * loss
        steps += 1


def main() -> None:
    parser = argparse.ArgumentParser(description="train the inpainter")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--minutes", type=float, default=8)
    parser.add_argument("--init", type=Path, help="checkpoint to go on from")
    parser.add_argument("--batch", type=int, default=32, help="mouths in a batch")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(options.seed)
    torch.backends.cudnn.benchmark = True
    torch.backends.cuda.matmul.allow_tf32 = True
    torch.backends.cudnn.allow_tf32 = True
    trainer = Trainer(options.data, options.device, options.init, options.batch)
    counts = {p.kind: (len(p.train), len(p.held_out)) for p in trainer.parts}
    with (options.out / "train.log").open("w") as log:
        print(f"pairs (train, held out): {counts}", flush=True)
        run(trainer, options.out, options.minutes, log)


if __name__ == "__main__":
    main()
