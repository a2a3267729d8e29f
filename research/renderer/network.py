"""The inpainting network: refines mouth and eyes of the warped photo.

The geometry warps the photo's own pixels and draws a plain guide where the photo has none (teeth,
tongue, cavity, lids). The network sees small upright crops of that frame and predicts a residual
and its opacity:

    refined = crop + residual * alpha

Alpha is the drawn mask, slightly widened: where nothing was drawn the frame stays the same, bit for
bit.

A crop has 8 channels, 0..255: RGB of the drawn frame, two masks (drawn, not photographed;
stretched or uncovered by the warp), RGB of the same part of the portrait itself. 6 control numbers
go with it (`MOUTH_CONTROL`, `EYE_CONTROL`).

Two U-Nets (Ronneberger et al. 2015, arXiv 1505.04597) of residual blocks without normalisation, so
that a residual never depends on its batch; both work at half resolution inside (pixel shuffle, Shi
et al. 2016, arXiv 1609.05158). The viewer's left eye is mirrored, so that one network serves both.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

MODEL_NAME = "inpainter"
MOUTH_SIZE, EYE_SIZE = 128, 64
CROP_CHANNELS = 8
RESIDUAL_CHANNELS = 4  # RGB in [-1, 1] of full scale, alpha in [0, 1]
CONTROL_DIM = 6
# Share of a residual that is applied; see the model card.
MOUTH_STRENGTH, EYE_STRENGTH = 0.5, 0.7
# EvalConfig of the crops wherever they come together; "left" is the subject's.
CROPS = ("mouth", "left_eye", "right_eye")
MOUTH_CONTROL = (
    "opening over width",
    "jawOpen",
    "mouthClose",
    "funnel + pucker",
    "smile",
    "yaw/45",
)
EYE_CONTROL = ("blink", "lookDown", "lookIn - lookOut", "lookUp", "squint", "wide")


def _activate(x: Tensor) -> Tensor:
    return F.leaky_relu(x, 0.1)  # plain rectifiers die in so narrow a network


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut, (B, C, H, W) -> the same."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return _activate(x + self.second(_activate(self.first(x))))


def reach(drawn: Tensor) -> Tensor:
    """Where a residual may change the frame: the drawn mask (B, 1, H, W), 0..1, widened by a few
    pixels and soft; exactly 0 beyond."""
    coarse = F.max_pool2d(drawn, 2)
    wide = F.avg_pool2d(F.max_pool2d(coarse, 3, 1, 1), 3, 1, 1)
    return F.interpolate(wide, scale_factor=2.0, mode="bilinear")


class CropNet(nn.Module):
    """U-Net for one kind of crop.

    (B, 8, S, S) in [0, 1] and (B, 6) -> residual (B, 4, S, S): RGB in [-1, 1], and where it is
    applied in [0, 1], by `reach`. S must be divisible by 2 ** len(widths).

    :param strength: share of the residual that is applied
    """

    def __init__(
        self, widths: tuple[int, ...], strength: float, bottleneck_blocks: int = 2
    ) -> None:
        super().__init__()
        self.strength = strength
        self.stem = nn.Conv2d(4 * CROP_CHANNELS, widths[0], 3, padding=1)
        # At the finest level the stem alone encodes: a block there costs as much as all below it.
        self.encoders = nn.ModuleList(
            ResidualBlock(w) if level else nn.Identity() for level, w in enumerate(widths[:-1])
        )
        pairs = list(pairwise(widths))
        self.downs = nn.ModuleList(nn.Conv2d(a, b, 3, 2, padding=1) for a, b in pairs)
        self.control = nn.Sequential(
            nn.Linear(CONTROL_DIM, widths[-1]), nn.LeakyReLU(0.1), nn.Linear(widths[-1], widths[-1])
        )
        self.bottleneck = nn.Sequential(
            *(ResidualBlock(widths[-1]) for _ in range(bottleneck_blocks))
        )
        self.ups = nn.ModuleList(nn.Conv2d(b, a, 1) for a, b in pairs)
        self.decoders = nn.ModuleList(ResidualBlock(w) for w in widths[:-1])
        self.head = nn.Conv2d(widths[0], 12, 3, padding=1)
        with torch.no_grad():
            self.head.weight.mul_(0.1)  # an untrained network changes next to nothing

    def forward(self, crop: Tensor, control: Tensor) -> Tensor:
        x = _activate(self.stem(F.pixel_unshuffle(crop, 2)))
        skips = []
        for encoder, down in zip(self.encoders, self.downs, strict=True):
            x = encoder(x)
            skips.append(x)
            x = _activate(down(x))
        x = self.bottleneck(x + self.control(control)[:, :, None, None])
        for i in reversed(range(len(self.ups))):
            x = F.interpolate(self.ups[i](x), scale_factor=2.0, mode="nearest")
            x = self.decoders[i](x + skips[i])
        colour = F.pixel_shuffle(torch.tanh(self.head(x)), 2)
        return torch.cat([colour, self.strength * reach(crop[:, 3:4])], 1)


class Inpainter(nn.Module):
    """Both networks, in the layout of the Triton model.

    inputs:  mouth uint8 (B, 128, 128, 8), eyes uint8 (B, 2, 64, 64, 8): left, right of the subject,
             mouth_control float32 (B, 6), eyes_control float32 (B, 2, 6)
    outputs: mouth_residual float32 (B, 128, 128, 4), eyes_residual float32 (B, 2, 64, 64, 4)

    :param training: apply residuals in full, not at `MOUTH_STRENGTH` and `EYE_STRENGTH`
    """

    def __init__(self, training: bool = False) -> None:
        super().__init__()
        self.mouth = CropNet((16, 32, 64, 96), 1.0 if training else MOUTH_STRENGTH)
        self.eye = CropNet((16, 32, 48), 1.0 if training else EYE_STRENGTH)

    def forward(
        self, mouth: Tensor, eyes: Tensor, mouth_control: Tensor, eyes_control: Tensor
    ) -> tuple[Tensor, Tensor]:
        mouth_residual = self.mouth(mouth.permute(0, 3, 1, 2).float() / 255, mouth_control)
        both = eyes.permute(0, 1, 4, 2, 3).float() / 255
        # The subject's right eye is mirrored into a left one and its residual mirrored back.
        crops = torch.cat([both[:, 0], both[:, 1].flip(-1)])
        controls = torch.cat([eyes_control[:, 0], eyes_control[:, 1]])
        left, right = self.eye(crops, controls).chunk(2)
        eyes_residual = torch.stack([left, right.flip(-1)], 1)
        return mouth_residual.permute(0, 2, 3, 1), eyes_residual.permute(0, 1, 3, 4, 2)


def composite(crop: Tensor, residual: Tensor) -> Tensor:
    """The refined RGB (B, 3, S, S) from a crop's channels (B, 8, S, S) and its residual."""
    return crop[:, :3] + residual[:, :3] * residual[:, 3:]
