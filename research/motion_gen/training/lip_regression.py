"""Training of the lip regressor: its ridge in closed form, its networks by gradient descent."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from talkingface.motion_gen.windows import PAST, ROWS_PER_FRAME
from talkingface_research.motion_gen.lip_network import (
    COMPONENTS,
    MOUTH_COLUMNS,
    LipRegressor,
    frame_rows,
)
from talkingface_research.motion_gen.training.data import (
    AUDIO_ONLY,
    FRAMES,
    RECORDED,
    REVOICED,
    Variant,
)
from talkingface_research.motion_gen.training.losses import (
    LIPS_WEIGHT,
    lips_loss,
    loudness,
    loudness_loss,
    seal_loss,
    slow,
)
from talkingface_research.motion_gen.training.normalisation import set_lips_scale
from talkingface_research.motion_gen.training.schedule import linear_decay, set_rate

RATE, DECAY, WARMUP_STEPS = 1e-3, 0.2, 50
LIPS_BATCH = (384, 128, 256)  # frames of each kind (`data.KINDS`)
SEAL_STEPS, SEAL_BATCH = 1200, (256, 128, 768)
LOUD_WEIGHT = 0.15  # of the loss of loudness
RIDGE = 0.7  # penalty a frame; rows have unit variance
RIDGE_LOUD = 0.15  # penalty of following the loudness, a frame

Log = Callable[..., None]


def train_lips(
    lips: LipRegressor,
    variants: list[Variant],
    steps: int,
    component_opening: Tensor,
    log: Log,
) -> None:
    """Train all that predicts lips and their seals from speech rows.

    :param steps: of the network of the components; the seals' have `SEAL_STEPS`
    :param component_opening: (COMPONENTS,) opening of the inner lips by component
    """
    set_lips_scale(lips, variants[0])
    solve_ridge(lips, variants)
    random = torch.Generator(variants[0].target.device).manual_seed(0)

    def shapes(variant: Variant) -> dict[str, Tensor]:
        return {
            "lips": lips_loss(lips, variant.random_lip_frames(LIPS_BATCH, random)),
            "loud": LOUD_WEIGHT * loudness_loss(lips, variant, component_opening, random),
        }

    def seals(variant: Variant) -> dict[str, Tensor]:
        return {"seal": seal_loss(lips, variant.random_lip_frames(SEAL_BATCH, random))}

    lips.train()
    descend(lips.shapes, shapes, variants, steps, log)
    descend(lips.seals, seals, variants, SEAL_STEPS, log)
    lips.eval()


@torch.no_grad()
def solve_ridge(lips: LipRegressor, variants: list[Variant]) -> None:
    """Solve the ridge regression in closed form, on all frames of faces.

    In addition to their size, weights cost how far the prediction follows the loudness of
    audio-only streams within `losses.SLOW_BAND` (`losses.slow_correlation`).
    """
    size = lips.ridge.in_features + 1
    gram, right, loud_penalty = (torch.zeros(size, n) for n in (size, COMPONENTS, size))
    count, curves = 0.0, 0
    start = ROWS_PER_FRAME * PAST
    for variant in variants:
        for kind, weight in ((RECORDED, 1.0), (REVOICED, LIPS_WEIGHT[REVOICED]), (AUDIO_ONLY, 0.0)):
            for stream in torch.nonzero(variant.kind == kind)[:, 0].split(32):
                rows = lips.normalised_rows(
                    variant.features[stream].float(), variant.speech[stream]
                )
                inputs = frame_rows(rows[:, start:, MOUTH_COLUMNS], FRAMES)
                inputs = F.pad(inputs, (0, 1), value=1.0)
                if kind == AUDIO_ONLY:
                    for level in loudness(variant, stream):
                        for one, loud in zip(inputs, slow(level), strict=True):
                            going = slow(one.T) @ loud / (loud.norm() + 1e-6)
                            loud_penalty += torch.outer(going, going) / len(loud)
                            curves += 1
                    continue
                flat = inputs.flatten(0, 1)
                gram += weight * flat.T @ flat
                right += (
                    weight * flat.T @ (variant.lips[stream, PAST:] / lips.deviation).flatten(0, 1)
                )
                count += weight * len(flat)
    penalty = RIDGE * torch.eye(size) + RIDGE_LOUD * loud_penalty / curves
    penalty[-1, -1] = 0.0
    solved = torch.linalg.solve((gram + count * penalty).double(), right.double()).float()
    lips.ridge.weight.copy_(solved[:-1].T)
    lips.ridge.bias.copy_(solved[-1])


def descend(
    network: nn.Module,
    losses_of: Callable[[Variant], dict[str, Tensor]],
    variants: list[Variant],
    steps: int,
    log: Log,
) -> None:
    """Minimise the sum of losses over a network's parameters."""
    optimizer = torch.optim.AdamW(network.parameters(), lr=RATE, weight_decay=DECAY)
    for step in range(steps):
        set_rate(optimizer, RATE * linear_decay(step, steps, WARMUP_STEPS))
        losses = losses_of(variants[step % len(variants)])
        optimizer.zero_grad(set_to_none=True)
        torch.stack(list(losses.values())).sum().backward()
        optimizer.step()
        if (step + 1) % max(1, steps // 4) == 0:
            shown = {f"{name}_loss": float(value.detach()) for name, value in losses.items()}
            log(lips_step=step + 1, **shown)
