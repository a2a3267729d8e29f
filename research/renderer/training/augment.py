"""Augmentation of training pairs on their device.

Light, colour, position and grain change in drawn crop, portrait and targets alike. Only the guide
inside the drawn mask changes alone, because the network has to correct it, and the portrait's crop
is sometimes replaced.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from talkingface_research.renderer.training.dataset import PHOTO, Pairs

# Shares of a batch: portraits that are the moved target, that are blotted out; soft images.
MOVED, BLIND, SOFT = 0.2, 0.2, 0.25
GUIDE_LIGHT = {"mouth": 0.12, "eye": 0.06}  # largest change of the guide's light, natural logarithm


def _uniform(count: int, low: float, high: float, device: torch.device) -> Tensor:
    return torch.rand(count, 1, 1, 1, device=device) * (high - low) + low


def _warp(x: Tensor, theta: Tensor, size: tuple[int, int] | None = None) -> Tensor:
    """Resample (B, C, H, W); `size` (h, w) keeps only that window about the middle."""
    height, width = size or x.shape[-2:]
    share = theta.new_tensor([width / x.shape[-1], height / x.shape[-2], 1.0])
    grid = F.affine_grid(theta * share, [*x.shape[:2], height, width], align_corners=False)
    return F.grid_sample(x, grid, mode="bilinear", padding_mode="border", align_corners=False)


def _similarity(count: int, turn: float, zoom: float, shift: float, device: torch.device) -> Tensor:
    """Random similarities (count, 2, 3) for `affine_grid`: up to `turn` radians, `zoom` relative
    scale and `shift` of the side."""
    angle = (torch.rand(count, device=device) * 2 - 1) * turn
    scale = 1 + (torch.rand(count, device=device) * 2 - 1) * zoom
    move = (torch.rand(count, 2, device=device) * 2 - 1) * shift * 2
    cos, sin = torch.cos(angle) * scale, torch.sin(angle) * scale
    rows = torch.stack([cos, -sin, move[:, 0], sin, cos, move[:, 1]], 1)
    return rows.view(count, 2, 3)


def _recolour(images: list[Tensor]) -> list[Tensor]:
    """The same random exposure, gamma, tint, saturation and colour rotation for all images."""
    first = images[0]
    count, device = len(first), first.device
    gamma = torch.exp(_uniform(count, -0.45, 0.45, device))
    gain = torch.exp(_uniform(count, -0.3, 0.2, device))
    tint = torch.exp(torch.randn(count, 3, 1, 1, device=device) * 0.1)
    saturation = _uniform(count, 0.0, 1.6, device)
    grey = torch.tensor([0.299, 0.587, 0.114], device=device).view(1, 3, 1, 1)
    mixing = torch.eye(3, device=device) + torch.randn(count, 3, 3, device=device) * 0.06
    mixing = mixing / mixing.sum(2, keepdim=True)
    plain = torch.rand(count, 1, 1, 1, device=device) < 0.2
    out = []
    for image in images:
        x = (image.clamp(1e-3, 1) ** gamma) * gain * tint
        x = torch.einsum("bij,bjhw->bihw", mixing, x)
        luma = (x * grey).sum(1, keepdim=True)
        x = luma + (x - luma) * saturation
        out.append(torch.where(plain, image, x.clamp(0, 1)))
    return out


def prepare(
    pairs: Pairs, kind: str, augment: bool, window: tuple[int, int] | None = None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Crop (B, 8, H, W), the target and the photograph (B, 3, H, W) in [0, 1], control.

    :param window: keep only the middle (H, W) of the augmented images
    """
    drawn, target = pairs.drawn.float() / 255, pairs.target.float() / 255
    wanted = pairs.wanted.float() / 255
    portrait, mask = pairs.portrait.float() / 255, pairs.mask.float() / 255
    control = pairs.control
    if not augment:
        return torch.cat([drawn, mask, portrait], 1), wanted, target, control
    count, device = len(drawn), drawn.device

    # Some portraits show the target's teeth, moved so that they give their look but not their
    # position; some show nothing of use.
    draw = torch.rand(count, 1, 1, 1, device=device)
    if kind == "mouth":
        photograph = (pairs.source == PHOTO).view(-1, 1, 1, 1)
        moved = _warp(target, _similarity(count, 0.2, 0.25, 0.1, device))
        portrait = torch.where(photograph & (draw < MOVED), moved, portrait)
    portrait = torch.where(draw > 1 - BLIND, _blind(portrait, mask[:, :1]), portrait)

    # The guide in another light than the face.
    light = torch.exp(_uniform(count, -1, 1, device) * GUIDE_LIGHT[kind])
    tint = torch.exp(torch.randn(count, 3, 1, 1, device=device) * 0.06)
    drawn = drawn + mask[:, :1] * ((drawn * light * tint).clamp(0, 1) - drawn)

    drawn, wanted, target, portrait = _recolour([drawn, wanted, target, portrait])
    stack = torch.cat([drawn, wanted, target, portrait, mask], 1)
    stack = _warp(stack, _similarity(count, 0.12, 0.12, 0.05, device), window)
    if kind == "mouth":  # eyes are not symmetric and must not be mirrored
        flip = torch.rand(count, device=device) < 0.5
        stack = torch.where(flip.view(-1, 1, 1, 1), stack.flip(-1), stack)
        control = control.clone()
        control[:, 5] = torch.where(flip, -control[:, 5], control[:, 5])  # yaw
    small = F.interpolate(F.avg_pool2d(stack, 2), scale_factor=2.0, mode="bilinear")
    soft = torch.rand(count, 1, 1, 1, device=device) < SOFT
    stack = torch.where(soft, small, stack)
    drawn, wanted, target, portrait, mask = stack.split([3, 3, 3, 3, 2], 1)
    noise = torch.randn_like(drawn) * _uniform(count, 0, 0.02, device)
    crop = torch.cat([drawn + noise, mask, portrait + noise], 1)
    return crop, wanted + noise, target + noise, control


def _blind(portrait: Tensor, drawn_mask: Tensor) -> Tensor:
    """Replace the area of the drawn mask by the mean colour around it."""
    wide = F.max_pool2d(drawn_mask, 9, 1, 4)
    around = (portrait * (1 - wide)).sum((2, 3), keepdim=True)
    around = around / (1 - wide).sum((2, 3), keepdim=True).clamp(min=1)
    return portrait * (1 - wide) + around * wide
