"""Training of `MouthFit`: bounded coefficients that reproduce displacements of the lips."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from talkingface.motion_gen.mouth_shapes import SHAPE_LIMITS
from talkingface_research.motion_gen.lip_network import LipRegressor
from talkingface_research.motion_gen.training.lip_regression import Log
from talkingface_research.motion_gen.training.lip_shapes import Floats, fit_weight, jacobian
from talkingface_research.motion_gen.training.schedule import linear_decay, set_rate

RATE, BATCH, STEPS, WARMUP_STEPS = 3e-3, 512, 6000, 100
# Cost of a shape in face widths of displacement (of all points, root of the sum of squares), and
# factors on it, by eye: shapes that stand in for others or that voices seldom make cost more.
SHAPE_COST = 0.02
SHAPE_COSTS = {
    "jawOpen": 0.3, "jawForward": 4.0, "mouthFunnel": 0.6, "mouthPucker": 0.7,
    "mouthRollUpper": 1.2, "mouthRollLower": 1.2, "mouthShrugUpper": 1.0, "mouthShrugLower": 1.2,
    "mouthClose": 1.5, "mouthStretch": 0.6, "mouthSmile": 0.6, "mouthFrown": 2.5,
    "mouthDimple": 1.2, "mouthUpperUp": 0.4, "mouthLowerDown": 0.6, "mouthPress": 1.5,
}  # fmt: skip


def train_mouth_fit(lips: LipRegressor, wanted: Tensor, components: Floats, log: Log) -> None:
    """Train `lips.fit` to reproduce displacements by bounded coefficients.

    :param wanted: (N, COMPONENTS) lively components
    :param components: (COMPONENTS, 135) displacements that they stand for
    """
    weight = torch.from_numpy(fit_weight().astype(np.float32))
    moves = torch.from_numpy(jacobian().astype(np.float32)) * weight[:, None]
    basis = torch.from_numpy(components.astype(np.float32)) * weight
    cost = torch.tensor([SHAPE_COSTS.get(name, 1.0) for name in SHAPE_LIMITS]) * SHAPE_COST
    lips.fit.unit.copy_(wanted.std(0))
    spread = wanted.std(0)
    random = torch.Generator().manual_seed(0)
    optimizer = torch.optim.AdamW(lips.fit.parameters(), lr=RATE, weight_decay=1e-4)
    for step in range(STEPS):
        set_rate(optimizer, RATE * linear_decay(step, STEPS, WARMUP_STEPS))
        pick = torch.randint(len(wanted), (BATCH,), generator=random)
        # Real mouths and those about them, smaller and larger.
        size = 1.6 * torch.rand(BATCH, 1, generator=random)
        target = size * wanted[pick]
        target = target + 0.3 * spread * torch.randn(target.shape, generator=random)
        free = lips.fit.unbounded(target)
        shapes = torch.minimum(free.clamp(min=0), lips.fit.limit)
        missed = shapes @ moves.T - target @ basis
        # Beyond its limits a shape would have no gradient.
        beyond = (free - shapes).square().sum(1)
        loss = (missed.square().sum(1) + (cost * shapes).square().sum(1) + 1e-3 * beyond).mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        shapes = lips.fit(wanted)
        missed = shapes @ moves.T - wanted @ basis
    log(
        fit_error=float(missed.square().sum(1).mean().sqrt()),
        fit_moved=float((wanted @ basis).square().sum(1).mean().sqrt()),
        **{
            name: float(value)
            for name, value in zip(SHAPE_LIMITS, shapes.quantile(0.95, 0), strict=True)
        },
    )
