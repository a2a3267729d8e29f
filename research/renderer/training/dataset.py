"""The training pairs of the inpainter on disk and in memory.

One `.npz` file for each kind of crop ("mouth", "eye"), each with

- `strips` uint8 [bytes]: WebP images one after the other; each is a strip of four S x S tiles:
  drawn crop, target, portrait's crop, masks (drawn, stretched, 0);
- `ends` int64 [n]: where each strip ends;
- `control` float32 [n, 6]: control numbers;
- `source` uint8 [n]: 0 photographs, 1 video (another frame of the clip);
- `held_out` bool [n]: never trained on.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from talkingface_research.renderer.training.agreement import agreed, in_light_of

KINDS = ("mouth", "eye")
PHOTO, VIDEO = 0, 1
QUALITY = {"mouth": 93, "eye": 93}


@dataclass(frozen=True)
class Pair:
    """One training pair; images uint8 (S, S, 3) RGB, mask uint8 (S, S, 2), control float32 (6,)."""

    drawn: NDArray[np.uint8]
    mask: NDArray[np.uint8]
    portrait: NDArray[np.uint8]
    target: NDArray[np.uint8]
    control: NDArray[np.float32]
    source: int
    held_out: bool


def write(path: Path, pairs: list[Pair], quality: int) -> None:
    """Pack pairs of one kind into `path`."""
    blobs = []
    for pair in pairs:
        masks = np.concatenate([pair.mask, np.zeros_like(pair.mask[..., :1])], -1)
        strip = np.concatenate([pair.drawn, pair.target, pair.portrait, masks], 1)
        done, blob = cv2.imencode(".webp", strip[..., ::-1], [cv2.IMWRITE_WEBP_QUALITY, quality])
        if not done:
            raise OSError("WebP encoding failed")
        blobs.append(blob.reshape(-1))
    np.savez(
        path,
        strips=np.concatenate(blobs),
        ends=np.cumsum([len(blob) for blob in blobs], dtype=np.int64),
        control=np.stack([pair.control for pair in pairs]).astype(np.float32),
        source=np.array([pair.source for pair in pairs], np.uint8),
        held_out=np.array([pair.held_out for pair in pairs], np.bool_),
    )


@dataclass(frozen=True)
class Pairs:
    """Pairs of one kind as tensors on one device: images uint8 (n, 3, S, S), mask (n, 2, S, S)."""

    drawn: Tensor
    target: Tensor
    wanted: Tensor  # training target; see `agreement`
    portrait: Tensor
    mask: Tensor
    agreement: Tensor  # float32 (n,) 0..1, share of the drawn area that agrees
    control: Tensor  # float32 (n, 6)
    source: Tensor  # int64 (n,)

    def __len__(self) -> int:
        return len(self.drawn)

    def batch(self, index: Tensor) -> Pairs:
        """The rows `index`."""
        return Pairs(
            self.drawn[index],
            self.target[index],
            self.wanted[index],
            self.portrait[index],
            self.mask[index],
            self.agreement[index],
            self.control[index],
            self.source[index],
        )


def load(path: Path, device: str) -> tuple[Pairs, Pairs]:
    """Read (training pairs, held-out pairs) of a file written by `write`.

    `wanted` is a mouth's target where it agrees with the drawing, and an eye's without its light.
    """
    with np.load(path) as data:
        strips, ends = data["strips"], data["ends"]
        control, source, held_out = data["control"], data["source"], data["held_out"]
    images = []
    for start, end in zip(np.concatenate([[0], ends[:-1]]), ends, strict=True):
        strip = cv2.imdecode(strips[start:end], cv2.IMREAD_COLOR)[..., ::-1]
        side = strip.shape[0]
        images.append(strip.reshape(side, 4, side, 3).transpose(1, 3, 0, 2))
    tiles = np.stack(images)  # (n, 4, 3, S, S)

    def pick(rows: NDArray[np.bool_]) -> Pairs:
        def move(array: NDArray[np.generic]) -> Tensor:
            return torch.from_numpy(np.ascontiguousarray(array)).to(device)

        chosen = tiles[rows]
        drawn, target, mask = move(chosen[:, 0]), move(chosen[:, 1]), move(chosen[:, 3, :2])
        wanted, agreement = torch.empty_like(target), torch.ones(len(chosen), device=device)
        for part in torch.arange(len(chosen)).split(64):
            area = mask[part, :1].float() / 255
            images = drawn[part].float() / 255, target[part].float() / 255, area
            if path.stem == "mouth":
                model, share = agreed(*images)
                total = area.sum((1, 2, 3)).clamp(min=1e-3)
                agreement[part] = (area * share).sum((1, 2, 3)) / total
            else:
                model = in_light_of(*images)
            wanted[part] = (255 * model + 0.5).to(torch.uint8)
        return Pairs(
            drawn=drawn,
            target=target,
            wanted=wanted,
            portrait=move(chosen[:, 2]),
            mask=mask,
            agreement=agreement,
            control=move(control[rows]),
            source=move(source[rows].astype(np.int64)),
        )

    return pick(~held_out), pick(held_out)
