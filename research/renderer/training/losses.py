"""Losses of the inpainter, and the networks in them."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class EncoderBlock(nn.Module):
    """Residual block of TAESD."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Sequential(
            nn.Conv2d(64, 64, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(64, 64, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(64, 64, 3, padding=1),
        )

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.conv(x) + x)


class PerceptualLoss(nn.Module):
    """Distance in the feature space of an image codec.

    The first three scales (1, 1/2, 1/4) of the encoder of TAEF2 (madebyollin, MIT), each
    normalised over its channels as in LPIPS (Zhang et al. 2018, arXiv 1801.03924).
    """

    def __init__(self, weights: Path) -> None:
        super().__init__()
        down = [nn.Conv2d(64, 64, 3, 2, padding=1, bias=False) for _ in range(2)]
        blocks = [EncoderBlock() for _ in range(7)]
        self.layers = nn.ModuleList(
            [nn.Conv2d(3, 64, 3, padding=1), blocks[0], down[0], *blocks[1:4], down[1], *blocks[4:]]
        )
        state = torch.load(weights, map_location="cpu")
        kept = {f"layers.{k}": v for k, v in state.items() if int(k.split(".")[0]) < 10}
        self.load_state_dict(kept)
        self.requires_grad_(False).eval()

    def _features(self, x: Tensor) -> list[Tensor]:
        found = []
        for index, layer in enumerate(self.layers):
            x = layer(x)
            if index in (1, 5, 9):
                found.append(x / (x.square().mean(1, keepdim=True) + 1e-3).sqrt())
        return found

    def forward(self, image: Tensor, target: Tensor, weight: Tensor) -> Tensor:
        """Mean distance of (B, 3, S, S) images under `weight` (B, 1, S, S)."""
        total = image.new_zeros(())
        with torch.no_grad():
            wanted = self._features(target)
        for a, b in zip(self._features(image), wanted, strict=True):
            local = F.adaptive_avg_pool2d(weight, (a.shape[-2], a.shape[-1]))
            total = total + weighted_mean((a - b).abs().float(), local)
        return total


def weighted_mean(values: Tensor, weight: Tensor) -> Tensor:
    """Mean of (B, C, H, W) under the weight (B, 1, H, W)."""
    return (values * weight).sum() / (weight.sum() * values.shape[1]).clamp(min=1)


def detail(x: Tensor) -> Tensor:
    """Differences to the right and lower neighbour, (B, C, H, W) -> (B, 2 C, H, W)."""
    right = F.pad(x[..., :, 1:] - x[..., :, :-1], (0, 1, 0, 0))
    below = F.pad(x[..., 1:, :] - x[..., :-1, :], (0, 0, 0, 1))
    return torch.cat([right, below], 1)


def shading(image: Tensor, weight: Tensor, size: int = 9) -> Tensor:
    """The image (B, C, H, W) without detail finer than about `size` pixels, blurred inside the
    weight (B, 1, H, W) alone."""

    def blur(x: Tensor) -> Tensor:
        for _ in range(2):
            x = F.avg_pool2d(x, (1, size), 1, (0, size // 2), count_include_pad=False)
            x = F.avg_pool2d(x, (size, 1), 1, (size // 2, 0), count_include_pad=False)
        return x

    return blur(image * weight) / (blur(weight) + 1e-4)


class PatchDiscriminator(nn.Module):
    """Discriminates photographs from the network's crops, patch by patch (Isola et al. 2017,
    arXiv 1611.07004), with spectral normalisation (Miyato et al. 2018, arXiv 1802.05957).

    Sees the crop and the drawn mask, (B, 4, H, W) -> (B, 1, H / 4, W / 4), and the features
    of its layers.
    """

    def __init__(self, width: int = 48) -> None:
        super().__init__()
        norm = nn.utils.parametrizations.spectral_norm
        self.layers = nn.ModuleList(
            [
                norm(nn.Conv2d(4, width, 4, 2, padding=1)),
                norm(nn.Conv2d(width, 2 * width, 4, 2, padding=1)),
                norm(nn.Conv2d(2 * width, 2 * width, 3, padding=1)),
            ]
        )
        self.head = norm(nn.Conv2d(2 * width, 1, 3, padding=1))

    def forward(self, image: Tensor, mask: Tensor) -> tuple[Tensor, list[Tensor]]:
        x = torch.cat([image, mask], 1)
        features = []
        for layer in self.layers:
            x = F.leaky_relu(layer(x), 0.2)
            features.append(x)
        return self.head(x), features
