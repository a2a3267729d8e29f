"""Figures of a trained inpainter on the held-out pairs, compared with the bare drawing.

    python -m talkingface_research.renderer.training.evaluate --data DIR --checkpoint inpainter.pt

Residuals are applied at `MOUTH_STRENGTH` and `EYE_STRENGTH`, as in use. Errors are of 255, under
the drawn mask: of colours (`l1`), of light and colour without detail (`shading`), of colours
against the training target (`wanted`, see `agreement`). `perceptual` is the distance in the
features of an image codec (`--perceptual taef2_encoder.pth`). `sharpness` is the strength of the
finest detail over that of the target, 1 when equal.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from torch import Tensor

from talkingface_research.renderer.network import CropNet, Inpainter, composite
from talkingface_research.renderer.training.augment import prepare
from talkingface_research.renderer.training.dataset import KINDS, PHOTO, Pairs, load
from talkingface_research.renderer.training.losses import PerceptualLoss, detail, shading

# Held-out groups: (name, index of `control`, from, to), by the mouth's opening and by the lids.
GROUPS = {
    "mouth": (("narrow", 0, -9.0, 0.1), ("middle", 0, 0.1, 0.3), ("wide", 0, 0.3, 9.0)),
    "eye": (("gaze", 0, -9.0, 0.2), ("half shut", 0, 0.2, 0.7), ("shut", 0, 0.7, 9.0)),
}


@torch.no_grad()
def figures(
    net: CropNet, kind: str, pairs: Pairs, perceptual: PerceptualLoss | None = None
) -> dict[str, float]:
    """Mean errors of refined crops, and of the bare drawing (`*_guide`)."""
    sums: dict[str, float] = {}
    weights = {"l1": 0.0, "perceptual": 0.0}

    def add(name: str, value: Tensor | float) -> None:
        sums[name] = sums.get(name, 0.0) + float(value)

    for index in torch.arange(len(pairs)).split(32):
        crop, wanted, target, control = prepare(pairs.batch(index), kind, augment=False)
        refined = composite(crop, net(crop, control)).clamp(0, 1)
        weight = crop[:, 3:4]
        weights["l1"] += float(weight.sum())
        weights["perceptual"] += len(index)
        add("fine_target", (detail(target).abs().mean(1, keepdim=True) * weight).sum())
        for name, image in (("_guide", crop[:, :3]), ("", refined)):
            for figure, error in (
                ("l1", image - target),
                ("shading", shading(image - target, weight)),
                ("wanted", image - wanted),
            ):
                add(figure + name, 255 * (error.abs().mean(1, keepdim=True) * weight).sum())
            add("fine" + name, (detail(image).abs().mean(1, keepdim=True) * weight).sum())
            if perceptual is not None:
                add("perceptual" + name, len(index) * perceptual(image, target, weight))
    out = {}
    for suffix in ("_guide", ""):
        for figure in ("l1", "shading", "wanted", "perceptual"):
            if figure + suffix in sums:
                total = weights["perceptual" if figure == "perceptual" else "l1"]
                out[figure + suffix] = sums[figure + suffix] / max(total, 1e-6)
        out["sharpness" + suffix] = sums["fine" + suffix] / max(sums["fine_target"], 1e-6)
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description="figures of the inpainter on held-out pairs")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--perceptual", type=Path, help="taef2_encoder.pth")
    options = parser.parse_args()
    torch.set_num_threads(1)
    model = Inpainter()
    model.load_state_dict(torch.load(options.checkpoint, map_location="cpu")["model"])
    nets = {"mouth": model.mouth, "eye": model.eye}
    perceptual = PerceptualLoss(options.perceptual) if options.perceptual else None
    for kind in KINDS:
        _, held_out = load(options.data / f"{kind}.npz", "cpu")
        for source in ("photo", "video"):
            of_source = (held_out.source == PHOTO) == (source == "photo")
            for group, number, low, high in (("all", 0, -9.0, 9.0), *GROUPS[kind]):
                value = held_out.control[:, number]
                rows = of_source & (value >= low) & (value < high)
                if rows.sum() < 3:
                    continue
                found = figures(nets[kind], kind, held_out.batch(rows.nonzero()[:, 0]), perceptual)
                text = "  ".join(
                    f"{name} {found[name + '_guide']:.2f} -> {found[name]:.2f}"
                    for name in ("l1", "shading", "wanted", "perceptual", "sharpness")
                    if name in found
                )
                print(f"{kind:5} {source:5} {group:9} n={int(rows.sum()):3}  {text}", flush=True)


if __name__ == "__main__":
    main()
