"""The map from predicted lips, small as a mean is, to the size of lively speakers' lips."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from talkingface.motion_gen.windows import PAST, ROWS_PER_FRAME
from talkingface_research.motion_gen.lip_network import LipRegressor
from talkingface_research.motion_gen.training.data import AUDIO_ONLY, RECORDED, Variant
from talkingface_research.motion_gen.training.lip_regression import Log
from talkingface_research.motion_gen.training.lip_shapes import Population, population, transport

SPEAKING = 0.5  # presence of speech from which its lips count
# Constants of this group: by the spread and correlation of lips in validation.
SIZE = 0.95  # of lively speakers' lips
TRANSPORTED = 0.3  # share of the optimal transport in the map to their lips
# Face widths by which lips part more than theirs on average. Predicted openings are spread evenly
# where real ones have a long tail: at the same mean, lips would be closed too often (34 % of the
# time in natural speech; real ones 20 %).
PARTED = 0.03
# Standard deviation of the prediction, in units of the wanted one, from which a component gets all
# of its size.
LEAST_PREDICTED = 0.12
# Leading components that are predicted well; how much the others are enlarged at most.
PREDICTABLE, MOST_LARGER = 2, 3.0


@torch.no_grad()
def predict_lips(lips: LipRegressor, variant: Variant, streams: Tensor) -> tuple[Tensor, Tensor]:
    """Predicted components (S, FRAMES, COMPONENTS) in face widths, and the presence of speech
    (S, FRAMES, 1)."""
    start = ROWS_PER_FRAME * PAST
    parts = []
    for stream in streams.split(64):
        features, speech = variant.features[stream, start:].float(), variant.speech[stream, start:]
        shapes = lips.predictions(features, speech)
        parts.append((shapes.mean(0) * lips.deviation, lips.presence(speech)))
    shape, present = zip(*parts, strict=True)
    return torch.cat(shape), torch.cat(present)


def style(own: Population, wanted: Population) -> tuple[Tensor, Tensor]:
    """The map (K, K) from one population's lips to another's, and the first one's mean.

    Transport alone gives the exact mixture, but what it mixes is in part noise; components that are
    enlarged each by itself keep their timing, but not the mixture. A little of the first keeps
    both.
    """
    # What cannot be predicted from speech is not enlarged without bound.
    least = np.diag((LEAST_PREDICTED * wanted.deviation) ** 2)
    moved = transport(own.covariance + least, wanted.covariance)
    larger = wanted.deviation / own.deviation
    larger[PREDICTABLE:] = np.minimum(larger[PREDICTABLE:], MOST_LARGER)
    matrix = SIZE * (TRANSPORTED * moved + (1 - TRANSPORTED) * np.diag(larger))
    return torch.from_numpy(matrix.astype(np.float32)), torch.from_numpy(own.mean).float()


def parting(wanted: Population, opening: Tensor) -> Tensor:
    """Regression of lively lips' components on their opening: (COMPONENTS,) by face width of it."""
    covariance = torch.from_numpy(wanted.covariance).float()
    return covariance @ opening / (opening @ covariance @ opening)


def set_style(
    lips: LipRegressor, variant: Variant, wanted: Population, opening: Tensor, log: Log
) -> Tensor:
    """Set the map from predicted lips to lips of lively speakers' size.

    :param variant: without augmentation, with many voices
    :param opening: (COMPONENTS,) opening of the inner lips by component
    :return: (N, COMPONENTS) lively components of all its streams
    """
    streams = torch.nonzero(variant.kind == AUDIO_ONLY)[:, 0]
    shape, present = predict_lips(lips, variant, streams)
    matrix, mean = style(population(shape[present[..., 0] > SPEAKING].numpy()), wanted)
    lips.style.copy_(matrix)
    lips.told_mean.copy_(mean)
    lips.lively_mean.copy_(torch.from_numpy(wanted.mean) + PARTED * parting(wanted, opening))
    moved = lips.lively(shape, present)[present[..., 0] > SPEAKING]
    log(**{f"size_{i}": float(value) for i, value in enumerate(moved.std(0))})
    shape, present = predict_lips(lips, variant, torch.arange(variant.streams))
    return lips.lively(shape, present).flatten(0, 1)


def recorded_mouth(
    lips: LipRegressor, variant: Variant, wanted: Population
) -> Callable[[Tensor, Tensor], Tensor]:
    """The recorded speaker's own mouth at lively speakers' size (see `Variant.set_mouths`).

    :return: components (.., COMPONENTS) and presence (.., 1) to coefficients (.., MOUTH_DIM)
    """
    recorded = variant.kind == RECORDED
    voiced = lips.presence(variant.speech[recorded])[..., 0] > SPEAKING
    matrix, mean = style(population(variant.lips[recorded][voiced].numpy()), wanted)

    def mouth(components: Tensor, presence: Tensor) -> Tensor:
        with torch.no_grad():
            return lips.mouth(presence * ((components - mean) @ matrix + lips.lively_mean))

    return mouth
