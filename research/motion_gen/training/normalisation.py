"""Normalisation of what the networks see and make, from training data."""

from __future__ import annotations

import torch
from torch import Tensor

from talkingface.motion_gen.canonical_motion import FACE_DIM, GAZE, ROTATION
from talkingface.motion_gen.windows import HISTORY_ROWS, PAST, ROWS_PER_FRAME
from talkingface_research.motion_gen.lip_network import LipRegressor
from talkingface_research.motion_gen.network import MotionGenerator
from talkingface_research.motion_gen.training.data import AUDIO_ONLY, RECORDED, Variant

LEAST_SCALE = 0.03  # of a face coefficient, so that those that hardly move do not count too much
SCALE_STREAMS = 300  # at most, for the transformer's normalisation
# Of the transformer's differences, by eye: degrees, degrees, face widths and log ratio.
GAZE_SCALE, TURN_SCALE, SHIFT_SCALE = 2.0, 1.0, 0.01


def set_lips_scale(lips: LipRegressor, variant: Variant) -> None:
    """Set the normalisation of speech rows and of lip components, from recorded streams."""
    own = variant.kind == RECORDED
    start = HISTORY_ROWS + ROWS_PER_FRAME * PAST
    rows = lips.normalised_rows(variant.features[own, start:].float(), variant.speech[own, start:])
    lips.mean.copy_(rows.mean((0, 1)))
    lips.scale.copy_(rows.std((0, 1)) + 0.01)
    lips.deviation.copy_(variant.lips[own, PAST:].flatten(0, 1).std(0))


@torch.no_grad()
def set_mouth_scale(lips: LipRegressor, wanted: Tensor) -> None:
    """Set the normalisation of the mouth coefficients that the transformer sees.

    :param wanted: (N, COMPONENTS) lively components
    """
    mouth = lips.mouth(wanted)
    lips.mouth_mean.copy_(mouth.mean(0))
    lips.mouth_scale.copy_(mouth.std(0).clamp(min=LEAST_SCALE))


@torch.no_grad()
def set_scale(model: MotionGenerator, variant: Variant) -> None:
    """Set the normalisation of the differences that the transformer makes."""
    some = torch.nonzero(variant.kind != AUDIO_ONLY)[:SCALE_STREAMS, 0]
    lips, _ = model.lips(variant.features[some].float(), variant.speech[some])
    face = variant.target[some, :, :FACE_DIM]
    model.mean.copy_(face[:, PAST:].mean((0, 1)))
    left = (face - model.face(lips))[:, PAST:]
    model.scale[:FACE_DIM] = left.std((0, 1)).clamp(min=LEAST_SCALE)
    model.scale[GAZE] = GAZE_SCALE
    model.scale[ROTATION] = TURN_SCALE
    model.scale[ROTATION.stop :] = SHIFT_SCALE
