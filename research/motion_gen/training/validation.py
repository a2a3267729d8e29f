"""Figures on validation streams: of the lip regressor, and of whole generated streams."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from talkingface.motion_gen.canonical_motion import (
    CANONICAL_DIM,
    FACE_INDEX,
    GAZE,
    MOUTH,
    ROTATION,
)
from talkingface.motion_gen.session import TEMPERATURE
from talkingface.motion_gen.windows import GUIDED, PAST, SPAN
from talkingface_research.motion_gen.evaluation.curves import band_passed
from talkingface_research.motion_gen.evaluation.mouth import CLOSED_BELOW
from talkingface_research.motion_gen.lip_network import LipRegressor
from talkingface_research.motion_gen.network import MotionGenerator, Sampler
from talkingface_research.motion_gen.training.data import (
    AUDIO_ONLY,
    FRAMES,
    RECORDED,
    REVOICED,
    Variant,
)

SEALED = 0.9  # of a seal's track, from which the lips should be closed


@torch.no_grad()
def lips_figures(
    lips: LipRegressor, variant: Variant, opening: Tensor, width: Tensor
) -> dict[str, float]:
    """How the predicted lips compare with the true ones, by kind of stream.

    :param opening: (FACE_DIM,) opening of the inner lips by face column
    :param width: (FACE_DIM,) width of the mouth by face column
    :return: correlation and spread of opening and width; shares of closures that are closed, and of
        frames that are closed and should be
    """
    features, speech = variant.features.float(), variant.speech
    made = lips(features, speech)[0][:, PAST:]
    true, seal = variant.own_mouth[:, PAST:], variant.seal[:, PAST:].nan_to_num()
    kind, out = variant.kind, {}
    for name, map_ in (("opening", opening[MOUTH]), ("width", width[MOUTH])):
        for label, number in (("", RECORDED), ("_voice", REVOICED)):
            own = kind == number
            first, second = (band_passed((x[own] @ map_).T.cpu().numpy()) for x in (made, true))
            r = float(np.corrcoef(first.ravel(), second.ravel())[0, 1])
            out[f"{name}{label}"] = r
            out[f"{name}{label}_spread"] = float(first.std() / second.std())
    lip = (made @ opening[MOUTH]).cpu()
    for label, number in (("", RECORDED), ("_audio_only", AUDIO_ONLY)):
        own = kind == number
        closed = lip[own] < CLOSED_BELOW
        near = F.max_pool1d(closed[:, None].float(), 3, 1, 1)[:, 0] > 0
        wanted = (seal[own, :, 0] > SEALED).cpu()
        out[f"closed{label}"] = float(near[wanted].float().mean())
        out[f"shut{label}"] = float(closed.float().mean())
        out[f"wanted{label}"] = float(wanted.float().mean())
    return out


@torch.no_grad()
def roll_out(model: MotionGenerator, variant: Variant, seed: int, frames: int = FRAMES) -> Tensor:
    """All streams of a variant generated window after window: (S, frames, CANONICAL_DIM)."""
    device = variant.target.device
    sampler = Sampler(model)
    sampler.to(device)
    random = torch.Generator(device).manual_seed(seed)
    temperature = torch.from_numpy(TEMPERATURE).to(device)
    count = variant.streams
    stream = torch.arange(count, device=device)
    past = torch.zeros(count, PAST, CANONICAL_DIM, device=device)
    valid = torch.zeros(count, PAST, device=device)
    guidance = torch.zeros(count, len(GUIDED), device=device)
    made = []
    for first in range(0, frames, SPAN):
        chunk = variant.chunks(stream, torch.full_like(stream, first), 1)
        noise = torch.randn(count, SPAN, CANONICAL_DIM, generator=random, device=device)
        new = sampler(
            **chunk.conditions,
            past=past,
            past_valid=valid,
            noise=noise * temperature,
            guidance=guidance,
        )
        made.append(new)
        past = torch.cat([past, new], 1)[:, SPAN:]
        valid = torch.cat([valid, torch.ones_like(valid[:, :SPAN])], 1)[:, SPAN:]
    return torch.cat(made, 1)


def generator_figures(
    model: MotionGenerator, variant: Variant, opening: Tensor
) -> dict[str, float]:
    """How the generated streams compare with the true ones.

    :param opening: (FACE_DIM,) opening of the inner lips by face column
    """
    made = roll_out(model, variant, seed=0)
    true = variant.target[:, PAST:]
    out = {}
    for label, number in (("", RECORDED), ("_voice", REVOICED)):
        own = variant.kind == number
        first, second = (
            band_passed((x[own] @ opening[MOUTH]).T.cpu().numpy())
            for x in (made[..., MOUTH], variant.own_mouth[:, PAST:])
        )
        out[f"r{label}"] = float(np.corrcoef(first.ravel(), second.ravel())[0, 1])
        out[f"spread{label}"] = float(first.std() / second.std())
    step = [float(x[..., ROTATION].diff(dim=1).abs().mean()) for x in (made, true)]
    gaze = made[..., GAZE] - variant.plan[:, PAST:, 1:]

    def error(name: str) -> float:
        return float((made - true)[..., FACE_INDEX[name]].abs().mean())

    return {
        **out,
        "head_step": step[0],
        "head_step_true": step[1],
        "head_spread": float(made[..., ROTATION].std()),
        "gaze_error": float(gaze.abs().median()),
        "brow_error": error("browInnerUp"),
        "blink_error": error("eyeBlinkLeft"),
        "smile_error": error("mouthSmileLeft"),
    }
