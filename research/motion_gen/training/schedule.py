"""Learning rates over the course of a training."""

from __future__ import annotations

import math

import torch


def linear_decay(step: int, steps: int, warmup_steps: int) -> float:
    """Factor on the learning rate: up over `warmup_steps`, then down to 0 at `steps`.

    :param step: steps done before this one
    """
    return min(1.0, (step + 1) / warmup_steps) * (1 - step / steps)


def cosine_decay(step: int, progress: float, warmup_steps: int) -> tuple[float, float]:
    """Factors on the learning rate, to be multiplied in this order: linear warm-up by steps, half
    a cosine down to 0 by time.

    :param step: steps done before this one
    :param progress: share of the time that is over, 0..1
    """
    return min(1.0, (step + 1) / warmup_steps), 0.5 * (1 + math.cos(math.pi * progress))


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set the learning rate of all parameters."""
    for group in optimizer.param_groups:
        group["lr"] = rate
