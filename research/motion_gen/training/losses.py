"""Losses of the lip regressor and of the transformer."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from scipy.signal import firwin
from torch import Tensor

from talkingface.contract.rates import MOTION_FPS
from talkingface.contract.speech_features import ENERGY
from talkingface.motion_gen.canonical_motion import CANONICAL_DIM, FACE_DIM, HEAD, ROTATION
from talkingface.motion_gen.session import TEMPERATURE
from talkingface.motion_gen.windows import GUIDED, HISTORY_ROWS, PAST, ROWS_PER_FRAME, SPAN
from talkingface_research.motion_gen.lip_network import LipRegressor
from talkingface_research.motion_gen.network import HEAD_DIM, VISIBLE_PAST, MotionGenerator
from talkingface_research.motion_gen.training.data import FRAMES, Chunks, LipFrames, Variant

# Weights and noise of this file are chosen by the validation figures of short trainings.
LIPS_WEIGHT = (1.0, 0.3, 0.0)  # of each kind of stream in the loss of the lip components
MISSED_SEAL = 1.25  # cost of a closure that is missed, over that of a false one
LOUD_STREAMS = 4  # whole streams a step in the loss of loudness
SLOW_BAND = (0.3, 2.0)  # Hz: slower than syllables (`curves.SYLLABLES`)

DROP_CONDITION = 0.1  # probability, for classifier-free guidance
DROP_PAST = 0.3  # probability that a window sees no past frames
PAST_NOISE = 0.6  # standard deviation in normalised units, drawn from 0 to this
HEAD_NOISE = 0.04  # of that for the head, whose speed the noise would hide
CLOSED_WEIGHT = 4.0  # extra weight of the lip loss where the lips are closed
CLOSED_DECAY = 60.0  # per face width of opening
OPENING_UNIT = 0.02  # face widths


def loudness(variant: Variant, stream: Tensor) -> tuple[Tensor, Tensor]:
    """Level in dB and amplitude of the speech in each frame of streams: (S, FRAMES) each."""
    first = ROWS_PER_FRAME * PAST + HISTORY_ROWS
    level = variant.speech[stream, first : first + ROWS_PER_FRAME * FRAMES : ROWS_PER_FRAME, ENERGY]
    return level.clamp(-70, 0), 10 ** (level / 20)


def slow(curve: Tensor) -> Tensor:
    """The part of curves (B, T) within `SLOW_BAND`, without their ends."""
    taps = torch.from_numpy(firwin(75, SLOW_BAND, pass_zero=False, fs=MOTION_FPS))
    return F.conv1d(curve[:, None], taps.to(curve)[None, None])[:, 0]


def slow_correlation(curve: Tensor, loudness: Tensor) -> Tensor:
    """Squared correlation of curves (B, T) with loudness (B, T) within `SLOW_BAND`, their mean."""
    a, b = slow(curve), slow(loudness)
    a, b = a - a.mean(1, keepdim=True), b - b.mean(1, keepdim=True)
    r = (a * b).mean(1) / (a.square().mean(1) * b.square().mean(1) + 1e-12).sqrt()
    return r.square().mean()


def lips_loss(lips: LipRegressor, batch: LipFrames) -> Tensor:
    """Squared error of the components of single frames, in units of their deviation."""
    shapes = lips.predictions(batch.features, batch.speech)
    predicted = shapes[1, :, 0]  # the ridge is solved, not trained
    weight = predicted.new_tensor(LIPS_WEIGHT)[batch.kind]
    error = (predicted - batch.lips / lips.deviation).square().mean(1)
    return error @ weight / weight.sum()


def seal_loss(lips: LipRegressor, batch: LipFrames) -> Tensor:
    """Cross entropy of the seals of single frames; a missed one costs `MISSED_SEAL`."""
    logits = lips.seal_logits(batch.features, batch.speech)[:, :, 0]
    truth = batch.seal.expand(len(logits), -1, -1)
    known = ~truth.isnan()
    missed = logits.new_tensor(MISSED_SEAL)
    return F.binary_cross_entropy_with_logits(logits[known], truth[known], pos_weight=missed)


def loudness_loss(
    lips: LipRegressor, variant: Variant, opening: Tensor, random: torch.Generator
) -> Tensor:
    """How much the opening follows the loudness of whole streams, which real lips hardly do.

    :param opening: (COMPONENTS,) opening of the inner lips by component
    """
    pick = torch.randint(variant.streams, (LOUD_STREAMS,), generator=random)
    start = ROWS_PER_FRAME * PAST
    features, speech = variant.features[pick, start:].float(), variant.speech[pick, start:]
    shapes = lips.predictions(features, speech)
    opened = shapes[1] * lips.deviation @ opening
    level, amplitude = loudness(variant, pick)
    return slow_correlation(opened, level) + slow_correlation(opened, amplitude)


def closed_weight(opening: Tensor) -> Tensor:
    """Weight of an error of the opening where the true one is `opening`, in face widths."""
    return 1 + CLOSED_WEIGHT * torch.exp(-CLOSED_DECAY * opening.clamp(min=0))


def channel_weights() -> Tensor:
    """(CANONICAL_DIM,) weights of the squared error."""
    weights = torch.ones(CANONICAL_DIM)
    weights[ROTATION.stop :] = 2.0
    return weights


def chunk_loss(
    model: MotionGenerator, chunks: Chunks, opening: Tensor, weights: Tensor
) -> dict[str, Tensor]:
    """Losses of one batch, all windows of its chunks at once; their sum is minimised.

    :param opening: (FACE_DIM,) opening of the inner lips by face column
    :param weights: from `channel_weights`
    """
    count, length = chunks.frames.shape[:2]
    windows, device = (length - PAST) // SPAN, chunks.frames.device
    total = count * windows
    plan = chunks.conditions["behaviour"][..., 1:]
    with torch.no_grad():
        mouth, seal = model.lips(chunks.conditions["features"], chunks.conditions["speech"])
    # Window n makes the frames from PAST + n SPAN on and sees the past tokens from n SPAN on.
    first = SPAN * torch.arange(windows, device=device)[:, None]
    visible = first + torch.arange(VISIBLE_PAST, device=device)
    target = chunks.frames[:, PAST:].reshape(total, SPAN, CANONICAL_DIM)
    last_head = chunks.frames[:, PAST - 1 : -1 : SPAN, HEAD].reshape(total, HEAD_DIM)
    reference = model.reference(
        last_head,
        plan[:, PAST:].reshape(total, SPAN, 2),
        mouth[:, PAST:].reshape(total, SPAN, mouth.shape[-1]),
    )
    clean = (target - reference) / model.scale

    noise_size = torch.rand(count, 1, 1, device=device) * PAST_NOISE * model.scale
    heads = torch.ones(CANONICAL_DIM, device=device)
    heads[HEAD] = HEAD_NOISE
    past = chunks.frames + noise_size * heads * torch.randn_like(chunks.frames)
    valid = chunks.valid[:, :, 1:].reshape(total, VISIBLE_PAST)
    valid = valid * (torch.rand(total, 1, device=device) > DROP_PAST)
    dropped = (torch.rand(total, len(GUIDED), device=device) < DROP_CONDITION).float()
    # More draws at the noisy end, where the sampler decides most.
    t = torch.rand(total, device=device) ** 1.5
    # Half of the noise has the temperature of the sampler.
    tempered = torch.rand(total, 1, 1, device=device) < 0.5
    temperature = torch.where(tempered, torch.from_numpy(TEMPERATURE).to(device), 1.0)
    noise = torch.randn_like(clean) * temperature
    noisy = torch.lerp(noise, clean, t[:, None, None])
    with torch.autocast(device.type, torch.bfloat16):
        tokens = model.condition_tokens(chunks.conditions, mouth, seal)
        old = model.past_tokens(past, mouth, plan, tokens)
        new = {
            name: token[:, PAST:].reshape(total, SPAN, token.shape[-1])
            for name, token in tokens.items()
        }
        memory = [
            tuple(
                part[:, :, visible].transpose(1, 2).flatten(0, 1)
                for part in pair  # (B, heads, windows, VISIBLE_PAST, d)
            )
            for pair in model.memory(old)
        ]
        condition = model.new_tokens(new, dropped, last_head)
        predicted = model.predict(noisy, model.time_embedding(t), condition, memory, valid)
    error = predicted.float() - clean
    flow = (error.square() * weights).mean()

    gap = (error[..., :FACE_DIM] * model.scale[:FACE_DIM]) @ opening
    true = target[..., :FACE_DIM] @ opening
    lips = (closed_weight(true) * (gap / OPENING_UNIT).square()).mean()
    speed = ((error[:, 1:] - error[:, :-1]).square() * weights).mean()
    return {"flow": flow, "lips": lips, "speed": 0.5 * speed}
