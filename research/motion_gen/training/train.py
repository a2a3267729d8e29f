"""Train the motion generator on recorded, revoiced and rule-made motion.

    python -m talkingface_research.motion_gen.training.train --data DIR --sentences DIR --speech DIR
        --encoder FILE.pt --out DIR --device cpu --minutes 30 [--init CHECKPOINT]

`--data` is what `prepare` wrote; `--sentences` GRID sentences in other voices and the phone times
of the man's own (`NAME.wav`, `NAME.npz`); `--speech` the packed voices of the speech encoder's
training; `--encoder` its checkpoint, which stays frozen.

First the lips that the voice alone tells (`LipRegressor`), then, with those fixed, the transformer.
Writes generator.pt (of the transformer the running mean of the weights) and log.txt. Validation is
on recorded clips and on voices that are not trained on.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from scipy.signal import firwin
from torch import Tensor, nn

from talkingface.contract.motion import Array
from talkingface.contract.rates import MOTION_FPS
from talkingface.contract.speech_features import ENERGY
from talkingface.motion_gen.canonical_motion import (
    CANONICAL_DIM,
    FACE_COLUMNS,
    FACE_DIM,
    FACE_INDEX,
    GAZE,
    HEAD,
    MOUTH,
    ROTATION,
)
from talkingface.motion_gen.mouth_shapes import SHAPE_LIMITS
from talkingface.motion_gen.session import TEMPERATURE
from talkingface.motion_gen.windows import GUIDED, HISTORY_ROWS, PAST, ROWS_PER_FRAME, SPAN
from talkingface.renderer.face.model import FaceModel
from talkingface_research.audio_features.training.augment import Augmenter
from talkingface_research.audio_features.training.data import HELD_OUT
from talkingface_research.audio_features.training.features import load_encoder
from talkingface_research.motion_gen.evaluation.curves import band_passed
from talkingface_research.motion_gen.evaluation.mouth import CLOSED_BELOW
from talkingface_research.motion_gen.evaluation.pipeline import ENCODER, SHIPPED
from talkingface_research.motion_gen.lip_network import (
    COMPONENTS,
    MOUTH_COLUMNS,
    LipRegressor,
    frame_rows,
)
from talkingface_research.motion_gen.network import HEAD_DIM, SEEN, MotionGenerator, Sampler, save
from talkingface_research.motion_gen.training import synthesis
from talkingface_research.motion_gen.training.data import (
    FRAMES,
    PLAN_POOL,
    RECORDED,
    REVOICED,
    TAUGHT,
    Chunks,
    Mouths,
    Streams,
    Variant,
    join,
    lay_out,
    read_recorded,
    read_revoiced,
    read_taught,
)
from talkingface_research.motion_gen.training.lip_shapes import (
    LOWER_LIP,
    UPPER_LIP,
    Population,
    fit_weight,
    jacobian,
    lively,
    population,
    transport,
)

VALIDATION_EVERY = 15  # of the recorded clips
# Voices that nothing here is trained on: the ruler's, and those that validation uses.
NEVER = frozenset(HELD_OUT)
VALIDATION_VOICES = ("slt_hts", "catalan_ona")
REVOICED_VOICES = ("espeak", "flite_awb", "flite_kal16", "flite_slt", "ked", "piper_joe")

LIPS_RATE, LIPS_DECAY = 1e-3, 0.2
LIPS_BATCH = (384, 128, 256)  # frames of each kind
LIPS_WEIGHT = (1.0, 0.3, 0.0)  # of each kind in the loss of the lips
RIDGE = 0.7  # penalty of the ridge a frame; rows have unit variance
RIDGE_LOUD = 0.15  # of telling what goes with loudness, a frame
SEAL_STEPS, SEAL_BATCH, SEAL_MISSED = 1200, (256, 128, 768), 1.25
SLOW_BAND = (0.3, 2.0)  # Hz
LOUD_STREAMS, LOUD_WEIGHT = 4, 0.15
SPEAKING = 0.5  # presence of a voice from which its lips count
SIZE = 0.95  # of lively speakers' lips
TRANSPORTED = 0.3  # share of the optimal transport in the map to their lips
# Face widths by which lips part more than theirs on average. What a voice tells of an opening is
# spread evenly where real openings have a long tail: at the same mean lips would be shut too often
# (34 % of the time in natural speech; real ones 20 %).
PARTED = 0.03
LEAST_TOLD = 0.12  # of their size: what the voice must tell of a component for all of its size
SURE, MOST_LARGER = 2, 3.0  # components that are told well; how much others are enlarged at most
FIT_RATE, FIT_BATCH, FIT_STEPS = 3e-3, 512, 6000
# Cost of a shape in face widths of displacement (of all points, root of the sum of squares), and by
# how much more some of them cost: those that stand for others or that voices seldom make.
SHAPE_COST = 0.02
SHAPE_COSTS = {
    "jawOpen": 0.3, "jawForward": 4.0, "mouthFunnel": 0.6, "mouthPucker": 0.7,
    "mouthRollUpper": 1.2, "mouthRollLower": 1.2, "mouthShrugUpper": 1.0, "mouthShrugLower": 1.2,
    "mouthClose": 1.5, "mouthStretch": 0.6, "mouthSmile": 0.6, "mouthFrown": 2.5,
    "mouthDimple": 1.2, "mouthUpperUp": 0.4, "mouthLowerDown": 0.6, "mouthPress": 1.5,
}  # fmt: skip
CORNERS = (78, 308)

LEARNING_RATE = 7e-4
WARMUP_STEPS = 200
AVERAGING = 0.998
DROP_CONDITION = 0.1
DROP_PAST = 0.3
BLOCKS = 16  # windows of a stretch that share its past
PAST_NOISE = 0.6  # standard deviation in normalised units, drawn from 0 to this
HEAD_NOISE = 0.04  # of that for the head, whose speed the noise would hide
CLOSED_WEIGHT = 4.0  # extra weight of the lip loss where the lips are closed
CLOSED_DECAY = 60.0  # per face width of opening
OPENING_UNIT = 0.02  # face widths
FACE_FLOOR = 0.03
SCALE_STREAMS = 300  # that normalisation is taken from
GAZE_SCALE, TURN_SCALE, SHIFT_SCALE = 2.0, 1.0, 0.01

Say = Callable[..., None]


def emphasis(opening: Tensor) -> Tensor:
    """How much an error of the opening counts where the lips truly open so far."""
    return 1 + CLOSED_WEIGHT * torch.exp(-CLOSED_DECAY * opening.clamp(min=0))


def set_lips_scale(lips: LipRegressor, variant: Variant) -> None:
    """Normalisation of the voice's rows and of the lips' components, from recorded streams."""
    own = variant.kind == RECORDED
    start = HISTORY_ROWS + ROWS_PER_FRAME * PAST
    rows = lips.heard(variant.features[own, start:].float(), variant.speech[own, start:])
    lips.mean.copy_(rows.mean((0, 1)))
    lips.scale.copy_(rows.std((0, 1)) + 0.01)
    lips.deviation.copy_(variant.lips[own, PAST:].flatten(0, 1).std(0))


@torch.no_grad()
def solve_ridge(lips: LipRegressor, variants: list[Variant]) -> None:
    """The vote that is a ridge regression, in closed form from all frames of faces.

    Beside its size, weights cost how far what they tell would go with the loudness of taught voices
    at 0.3-2 Hz (`follows`).
    """
    size = lips.ridge.in_features + 1
    gram, right, bound = (torch.zeros(size, n) for n in (size, COMPONENTS, size))
    count, bounds = 0.0, 0
    start = ROWS_PER_FRAME * PAST
    for variant in variants:
        for kind, weight in ((RECORDED, 1.0), (REVOICED, LIPS_WEIGHT[REVOICED]), (TAUGHT, 0.0)):
            for stream in torch.nonzero(variant.kind == kind)[:, 0].split(32):
                rows = lips.heard(variant.features[stream].float(), variant.speech[stream])
                told = frame_rows(rows[:, start:, MOUTH_COLUMNS], FRAMES)
                told = F.pad(told, (0, 1), value=1.0)
                if kind == TAUGHT:
                    for level in loudness(variant, stream):
                        for one, loud in zip(told, slow(level), strict=True):
                            going = slow(one.T) @ loud / (loud.norm() + 1e-6)
                            bound += torch.outer(going, going) / len(loud)
                            bounds += 1
                    continue
                flat = told.flatten(0, 1)
                gram += weight * flat.T @ flat
                right += (
                    weight * flat.T @ (variant.lips[stream, PAST:] / lips.deviation).flatten(0, 1)
                )
                count += weight * len(flat)
    penalty = RIDGE * torch.eye(size) + RIDGE_LOUD * bound / bounds
    penalty[-1, -1] = 0.0
    solved = torch.linalg.solve((gram + count * penalty).double(), right.double()).float()
    lips.ridge.weight.copy_(solved[:-1].T)
    lips.ridge.bias.copy_(solved[-1])


def loudness(variant: Variant, stream: Tensor) -> tuple[Tensor, Tensor]:
    """Level in dB and amplitude of the voice in each frame of streams: (S, FRAMES) each."""
    first = ROWS_PER_FRAME * PAST + HISTORY_ROWS
    level = variant.speech[stream, first : first + ROWS_PER_FRAME * FRAMES : ROWS_PER_FRAME, ENERGY]
    return level.clamp(-70, 0), 10 ** (level / 20)


def slow(curve: Tensor) -> Tensor:
    """The part of curves (B, T) at 0.3-2 Hz, without their ends."""
    taps = torch.from_numpy(firwin(75, SLOW_BAND, pass_zero=False, fs=MOTION_FPS))
    return F.conv1d(curve[:, None], taps.to(curve)[None, None])[:, 0]


def follows(curve: Tensor, loudness: Tensor) -> Tensor:
    """Squared correlation of curves (B, T) with loudness (B, T) at 0.3-2 Hz, their mean."""
    a, b = slow(curve), slow(loudness)
    a, b = a - a.mean(1, keepdim=True), b - b.mean(1, keepdim=True)
    r = (a * b).mean(1) / (a.square().mean(1) * b.square().mean(1) + 1e-12).sqrt()
    return r.square().mean()


def lips_loss(lips: LipRegressor, batch: Mouths) -> Tensor:
    """Squared error of the components of single frames, in units of their deviation."""
    shapes = lips.votes(batch.features, batch.speech)
    told = shapes[1, :, 0]  # the ridge is solved, not trained
    weight = told.new_tensor(LIPS_WEIGHT)[batch.kind]
    error = (told - batch.lips / lips.deviation).square().mean(1)
    return error @ weight / weight.sum()


def seal_loss(lips: LipRegressor, batch: Mouths) -> Tensor:
    """Cross entropy of the seals of single frames; to miss one costs more than to see one more."""
    logits = lips.seal_logits(batch.features, batch.speech)[:, :, 0]
    truth = batch.seal.expand(len(logits), -1, -1)
    known = ~truth.isnan()
    dearer = logits.new_tensor(SEAL_MISSED)
    return F.binary_cross_entropy_with_logits(logits[known], truth[known], pos_weight=dearer)


def loudness_loss(
    lips: LipRegressor, variant: Variant, opening: Tensor, random: torch.Generator
) -> Tensor:
    """How much the opening follows the loudness of whole streams, which real lips hardly do.

    :param opening: (COMPONENTS,) opening of the inner lips by component
    """
    pick = torch.randint(variant.streams, (LOUD_STREAMS,), generator=random)
    start = ROWS_PER_FRAME * PAST
    features, speech = variant.features[pick, start:].float(), variant.speech[pick, start:]
    shapes = lips.votes(features, speech)
    opened = shapes[1] * lips.deviation @ opening
    level, amplitude = loudness(variant, pick)
    return follows(opened, level) + follows(opened, amplitude)


def train_lips(
    lips: LipRegressor, variants: list[Variant], steps: int, data: Data, say: Say
) -> None:
    """Teach the lips that the voice alone tells."""
    set_lips_scale(lips, variants[0])
    solve_ridge(lips, variants)
    random = torch.Generator(data.device).manual_seed(0)

    def shapes(variant: Variant) -> dict[str, Tensor]:
        return {
            "lips": lips_loss(lips, variant.random_mouths(LIPS_BATCH, random)),
            "loud": LOUD_WEIGHT * loudness_loss(lips, variant, data.component_opening, random),
        }

    def seals(variant: Variant) -> dict[str, Tensor]:
        return {"seal": seal_loss(lips, variant.random_mouths(SEAL_BATCH, random))}

    lips.train()
    descend(lips.shapes, shapes, variants, steps, say)
    descend(lips.seals, seals, variants, SEAL_STEPS, say)
    lips.eval()


def descend(
    network: nn.Module,
    losses_of: Callable[[Variant], dict[str, Tensor]],
    variants: list[Variant],
    steps: int,
    say: Say,
) -> None:
    """Train a network of the lips on the sum of losses."""
    optimizer = torch.optim.AdamW(network.parameters(), lr=LIPS_RATE, weight_decay=LIPS_DECAY)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = LIPS_RATE * min(1.0, (step + 1) / 50) * (1 - step / steps)
        losses = losses_of(variants[step % len(variants)])
        optimizer.zero_grad(set_to_none=True)
        torch.stack(list(losses.values())).sum().backward()
        optimizer.step()
        if (step + 1) % max(1, steps // 4) == 0:
            shown = {f"{name}_loss": float(value.detach()) for name, value in losses.items()}
            say(lips_step=step + 1, **shown)


@torch.no_grad()
def told(lips: LipRegressor, variant: Variant, streams: Tensor) -> tuple[Tensor, Tensor]:
    """What voices tell of the lips, (S, FRAMES, COMPONENTS) in face widths, and their presence."""
    start = ROWS_PER_FRAME * PAST
    parts = []
    for stream in streams.split(64):
        features, speech = variant.features[stream, start:].float(), variant.speech[stream, start:]
        shapes = lips.votes(features, speech)
        parts.append((shapes.mean(0) * lips.deviation, lips.presence(speech)))
    shape, present = zip(*parts, strict=True)
    return torch.cat(shape), torch.cat(present)


def style(own: Population, wanted: Population) -> tuple[Tensor, Tensor]:
    """The map (K, K) from one population's lips to another's, and the first one's mean.

    Transport alone gives the exact mixture, but what it mixes is in part noise; components made
    larger each by itself keep their timing, but not the mixture. A little of the first keeps both.
    """
    # What nobody can tell from a voice is not blown up without end.
    least = np.diag((LEAST_TOLD * wanted.deviation) ** 2)
    moved = transport(own.covariance + least, wanted.covariance)
    larger = wanted.deviation / own.deviation
    larger[SURE:] = np.minimum(larger[SURE:], MOST_LARGER)
    matrix = SIZE * (TRANSPORTED * moved + (1 - TRANSPORTED) * np.diag(larger))
    return torch.from_numpy(matrix.astype(np.float32)), torch.from_numpy(own.mean).float()


def parting(wanted: Population, opening: Tensor) -> Tensor:
    """How lively lips' components go with their opening: (COMPONENTS,) by face width of it."""
    covariance = torch.from_numpy(wanted.covariance).float()
    return covariance @ opening / (opening @ covariance @ opening)


def set_style(
    lips: LipRegressor, variant: Variant, wanted: Population, opening: Tensor, say: Say
) -> Tensor:
    """The map from what the voice tells to lips of lively speakers' size.

    :param variant: undisturbed, with many voices
    :param opening: (COMPONENTS,) opening of the inner lips by component
    :return: (N, COMPONENTS) lively components of all that its voices tell
    """
    streams = torch.nonzero(variant.kind == TAUGHT)[:, 0]
    shape, present = told(lips, variant, streams)
    matrix, mean = style(population(shape[present[..., 0] > SPEAKING].numpy()), wanted)
    lips.style.copy_(matrix)
    lips.told_mean.copy_(mean)
    lips.lively_mean.copy_(torch.from_numpy(wanted.mean) + PARTED * parting(wanted, opening))
    moved = lips.lively(shape, present)[present[..., 0] > SPEAKING]
    say(**{f"size_{i}": float(value) for i, value in enumerate(moved.std(0))})
    shape, present = told(lips, variant, torch.arange(variant.streams))
    return lips.lively(shape, present).flatten(0, 1)


def train_fit(lips: LipRegressor, wanted: Tensor, data: Data, steps: int, say: Say) -> None:
    """Teach `MouthFit` to reproduce displacements by bounded coefficients.

    :param wanted: (N, COMPONENTS) lively components
    """
    weight = torch.from_numpy(fit_weight().astype(np.float32))
    moves = torch.from_numpy(jacobian().astype(np.float32)) * weight[:, None]
    basis = torch.from_numpy(data.man.basis.astype(np.float32)) * weight
    cost = torch.tensor([SHAPE_COSTS.get(name, 1.0) for name in SHAPE_LIMITS]) * SHAPE_COST
    lips.fit.unit.copy_(wanted.std(0))
    spread = wanted.std(0)
    random = torch.Generator().manual_seed(0)
    optimizer = torch.optim.AdamW(lips.fit.parameters(), lr=FIT_RATE, weight_decay=1e-4)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = FIT_RATE * min(1.0, (step + 1) / 100) * (1 - step / steps)
        pick = torch.randint(len(wanted), (FIT_BATCH,), generator=random)
        # Real mouths and those about them, smaller and larger.
        size = 1.6 * torch.rand(FIT_BATCH, 1, generator=random)
        target = size * wanted[pick]
        target = target + 0.3 * spread * torch.randn(target.shape, generator=random)
        free = lips.fit.unbounded(target)
        shapes = torch.minimum(free.clamp(min=0), lips.fit.limit)
        missed = shapes @ moves.T - target @ basis
        # Beyond its limits a shape would feel no gradient.
        beyond = (free - shapes).square().sum(1)
        loss = (missed.square().sum(1) + (cost * shapes).square().sum(1) + 1e-3 * beyond).mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        shapes = lips.fit(wanted)
        missed = shapes @ moves.T - wanted @ basis
    say(
        fit_error=float(missed.square().sum(1).mean().sqrt()),
        fit_moved=float((wanted @ basis).square().sum(1).mean().sqrt()),
        **{
            name: float(value)
            for name, value in zip(SHAPE_LIMITS, shapes.quantile(0.95, 0), strict=True)
        },
    )


def recorded_mouth(
    lips: LipRegressor, variant: Variant, wanted: Population
) -> Callable[[Tensor, Tensor], Tensor]:
    """The recorded man's own mouth as large as lively speakers' (see `Variant.dress`).

    :return: components (.., COMPONENTS) and presence (.., 1) to coefficients (.., MOUTH_DIM)
    """
    recorded = variant.kind == RECORDED
    voiced = lips.presence(variant.speech[recorded])[..., 0] > SPEAKING
    matrix, mean = style(population(variant.lips[recorded][voiced].numpy()), wanted)

    @torch.no_grad()
    def mouth(components: Tensor, presence: Tensor) -> Tensor:
        return lips.mouth(presence * ((components - mean) @ matrix + lips.lively_mean))

    return mouth


@torch.no_grad()
def set_mouth_scale(lips: LipRegressor, wanted: Tensor) -> None:
    """How large coefficients are that the transformer sees and adds to."""
    mouth = lips.mouth(wanted)
    lips.mouth_mean.copy_(mouth.mean(0))
    lips.mouth_scale.copy_(mouth.std(0).clamp(min=FACE_FLOOR))


@torch.no_grad()
def lips_figures(lips: LipRegressor, variant: Variant, data: Data) -> dict[str, float]:
    """How the voice's lips compare with the true ones, by kind of stream."""
    features, speech = variant.features.float(), variant.speech
    made = lips(features, speech)[0][:, PAST:]
    true, held = variant.own_mouth[:, PAST:], variant.seal[:, PAST:].nan_to_num()
    kind, out = variant.kind, {}
    for name, map_ in (("opening", data.opening[MOUTH]), ("width", data.width[MOUTH])):
        for label, number in (("", RECORDED), ("_voice", REVOICED)):
            own = kind == number
            first, second = (band_passed((x[own] @ map_).T.cpu().numpy()) for x in (made, true))
            r = float(np.corrcoef(first.ravel(), second.ravel())[0, 1])
            out[f"{name}{label}"] = r
            out[f"{name}{label}_spread"] = float(first.std() / second.std())
    lip = (made @ data.opening[MOUTH]).cpu()
    for label, number in (("", RECORDED), ("_taught", TAUGHT)):
        own = kind == number
        closed = lip[own] < CLOSED_BELOW
        near = F.max_pool1d(closed[:, None].float(), 3, 1, 1)[:, 0] > 0
        wanted = (held[own, :, 0] > 0.9).cpu()
        out[f"closed{label}"] = float(near[wanted].float().mean())
        out[f"shut{label}"] = float(closed.float().mean())
        out[f"wanted{label}"] = float(wanted.float().mean())
    return out


def channel_weights() -> Tensor:
    """(CANONICAL_DIM,) weights of the squared error."""
    weights = torch.ones(CANONICAL_DIM)
    weights[ROTATION.stop :] = 2.0
    return weights


@torch.no_grad()
def set_scale(model: MotionGenerator, variant: Variant) -> None:
    """Normalisation of the differences that the transformer makes, from one variant's frames."""
    some = torch.nonzero(variant.kind != TAUGHT)[:SCALE_STREAMS, 0]
    lips, _ = model.lips(variant.features[some].float(), variant.speech[some])
    face = variant.target[some, :, :FACE_DIM]
    model.mean.copy_(face[:, PAST:].mean((0, 1)))
    left = (face - model.face(lips))[:, PAST:]
    model.scale[:FACE_DIM] = left.std((0, 1)).clamp(min=FACE_FLOOR)
    model.scale[GAZE] = GAZE_SCALE
    model.scale[ROTATION] = TURN_SCALE
    model.scale[ROTATION.stop :] = SHIFT_SCALE


def chunk_loss(
    model: MotionGenerator, chunks: Chunks, opening: Tensor, weights: Tensor
) -> dict[str, Tensor]:
    """Losses of one batch, every block of which is one window; their sum is minimised."""
    count, length = chunks.frames.shape[:2]
    blocks, device = (length - PAST) // SPAN, chunks.frames.device
    total = count * blocks
    plan = chunks.conditions["behaviour"][..., 1:]
    with torch.no_grad():
        mouth, seal = model.lips(chunks.conditions["features"], chunks.conditions["speech"])
    # Block n makes the frames from PAST + n SPAN on and sees the past tokens from n SPAN on.
    seen = SPAN * torch.arange(blocks, device=device)[:, None] + torch.arange(SEEN, device=device)
    target = chunks.frames[:, PAST:].reshape(total, SPAN, CANONICAL_DIM)
    place = chunks.frames[:, PAST - 1 : -1 : SPAN, HEAD].reshape(total, HEAD_DIM)
    reference = model.reference(
        place,
        plan[:, PAST:].reshape(total, SPAN, 2),
        mouth[:, PAST:].reshape(total, SPAN, mouth.shape[-1]),
    )
    clean = (target - reference) / model.scale

    spoilt = torch.rand(count, 1, 1, device=device) * PAST_NOISE * model.scale
    heads = torch.ones(CANONICAL_DIM, device=device)
    heads[HEAD] = HEAD_NOISE
    past = chunks.frames + spoilt * heads * torch.randn_like(chunks.frames)
    valid = chunks.valid[:, :, 1:].reshape(total, SEEN)
    valid = valid * (torch.rand(total, 1, device=device) > DROP_PAST)
    dropped = (torch.rand(total, len(GUIDED), device=device) < DROP_CONDITION).float()
    # More draws at the noisy end, where the sampler decides most.
    t = torch.rand(total, device=device) ** 1.5
    calm = torch.rand(total, 1, 1, device=device) < 0.5
    temperature = torch.where(calm, torch.from_numpy(TEMPERATURE).to(device), 1.0)
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
                part[:, :, seen].transpose(1, 2).flatten(0, 1)  # (B, heads, blocks, SEEN, d)
                for part in pair
            )
            for pair in model.memory(old)
        ]
        condition = model.new_tokens(new, dropped, place)
        predicted = model.predict(noisy, model.time_embedding(t), condition, memory, valid)
    error = predicted.float() - clean
    flow = (error.square() * weights).mean()

    gap = (error[..., :FACE_DIM] * model.scale[:FACE_DIM]) @ opening
    true = target[..., :FACE_DIM] @ opening
    lips = (emphasis(true) * (gap / OPENING_UNIT).square()).mean()
    speed = ((error[:, 1:] - error[:, :-1]).square() * weights).mean()
    return {"flow": flow, "lips": lips, "speed": 0.5 * speed}


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


def figures(model: MotionGenerator, variant: Variant, opening: Tensor) -> dict[str, float]:
    """How the generated streams compare with the true ones."""
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


class Data:
    """Streams of all kinds, and variants of them."""

    def __init__(self, args: argparse.Namespace, device: torch.device) -> None:
        self.device = device
        self.rng = np.random.default_rng(args.seed)
        self.man = read_recorded(args.data, args.sentences)
        recorded = self.man.clips
        self.lively = lively(args.lively, self.man.basis)
        basis = torch.from_numpy(self.man.basis.astype(np.float32))
        self.component_opening = basis[:, 3 * UPPER_LIP + 1] - basis[:, 3 * LOWER_LIP + 1]
        self.opening = torch.from_numpy(self.man.opening).to(device)
        self.width = torch.from_numpy(width_map()).to(device)
        held = range(0, len(recorded), VALIDATION_EVERY)
        self.recorded = recorded.pick([i for i in range(len(recorded)) if i not in held])
        self.unseen = recorded.pick(list(held))
        self.revoiced = read_revoiced(
            args.sentences, list(REVOICED_VOICES), self.man, self.recorded
        )
        without = NEVER | set(VALIDATION_VOICES)
        self.taught = read_taught(args.speech, without, args.teacher_minutes)
        # Validation: unseen clips of the man, and all that unknown voices say.
        known = {clip.split("/")[0] for clip in self.taught.name} | NEVER
        self.unknown = (
            read_revoiced(args.sentences, [VALIDATION_VOICES[0]], self.man, recorded),
            read_taught(args.speech, frozenset(known), 2.0),
        )
        print(
            f"recorded {len(self.recorded)} clips, revoiced {len(self.revoiced)}, taught "
            f"{len(self.taught)}; validation {len(self.unseen)}, "
            f"{len(self.unknown[0])}, {len(self.unknown[1])}",
            flush=True,
        )
        self.plans = synthesis.plan_behaviour(self.rng, PLAN_POOL)
        self.encoder = load_encoder(args.encoder, args.device)
        self.augmenter = Augmenter(device, args.seed)

    def variant(self, disturbed: bool, revoiced: int, taught: int) -> Variant:
        """All recorded clips and so many of the others, chosen anew."""
        some = [int(i) for i in self.rng.permutation(len(self.revoiced))[:revoiced]]
        parts = [
            lay_out(self.recorded, RECORDED, self.rng),
            lay_out(self.revoiced.pick(some), REVOICED, self.rng),
        ]
        if taught:
            some = [int(i) for i in self.rng.permutation(len(self.taught))[:taught]]
            parts.append(lay_out(self.taught.pick(some), TAUGHT, self.rng))
        return self._hear(join(parts), self.augmenter if disturbed else None)

    def validation(self) -> Variant:
        """Unseen clips and unknown voices as they are."""
        rng = np.random.default_rng(0)
        voices, taught = self.unknown
        parts = [
            lay_out(self.unseen, RECORDED, rng),
            lay_out(voices.pick(list(range(0, len(voices), 4))), REVOICED, rng),
            lay_out(taught, TAUGHT, rng),
        ]
        return self._hear(join(parts), None)

    def _hear(self, streams: Streams, augmenter: Augmenter | None) -> Variant:
        return Variant(streams, self.encoder, augmenter, self.plans, self.rng, self.device)


def width_map() -> Array:
    """Distance of the mouth's inner corners in face widths by face column: (FACE_DIM,)."""
    shapes = FaceModel.load().landmark_expressions[FACE_COLUMNS]
    right, left = CORNERS
    wide: Array = (shapes[:, left, 0] - shapes[:, right, 0]).astype(np.float32)
    return wide


def train(args: argparse.Namespace) -> None:
    began = time.monotonic()
    torch.manual_seed(args.seed)
    device = torch.device(args.device)
    args.out.mkdir(parents=True, exist_ok=True)
    log = (args.out / "log.txt").open("a")

    def say(**fields: float) -> None:
        shown = {name: round(value, 4) for name, value in fields.items()}
        line = json.dumps({"seconds": round(time.monotonic() - began), **shown})
        print(line, flush=True)
        log.write(line + "\n")
        log.flush()

    data = Data(args, device)
    unseen = data.validation()
    say(validation_streams=unseen.streams)
    variants = []
    for i in range(args.variants):
        variants.append(data.variant(i % 2 == 1, args.revoiced, args.taught))
        say(variant=i, streams=variants[-1].streams)
    model = MotionGenerator()
    if args.init:
        checkpoint = torch.load(args.init, map_location="cpu", weights_only=True)
        model.load_state_dict(checkpoint["weights"])
    model.to(device)
    if args.lips_steps:
        train_lips(model.lips, variants, args.lips_steps, data, say)
        wanted = set_style(model.lips, variants[0], data.lively, data.component_opening, say)
        train_fit(model.lips, wanted, data, FIT_STEPS, say)
        set_mouth_scale(model.lips, wanted)
    mouth = recorded_mouth(model.lips, variants[0], data.lively)
    for variant in (*variants, unseen):
        variant.dress(model.lips, mouth)
    if args.lips_steps:
        say(**lips_figures(model.lips, unseen, data))
        save(model, str(args.out / "lips.pt"))
    model.lips.requires_grad_(False)
    if not args.init:
        set_scale(model, variants[0])
    learnt = [parameter for parameter in model.parameters() if parameter.requires_grad]
    averaged = torch.optim.swa_utils.AveragedModel(
        model, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(AVERAGING)
    )
    weights = channel_weights().to(device)
    optimizer = torch.optim.AdamW(learnt, lr=0.0, betas=(0.9, 0.98), weight_decay=0.01)
    random = torch.Generator(device).manual_seed(args.seed)
    sums: dict[str, float] = {}
    step = 0
    end = began + 60 * args.minutes
    start = time.monotonic()
    next_figures = start + (end - start) / args.reports
    while (now := time.monotonic()) < end:
        progress = (now - start) / (end - start)
        warmth = min(1.0, (step + 1) / WARMUP_STEPS)
        rate = args.rate * warmth * 0.5 * (1 + math.cos(math.pi * progress))
        for group in optimizer.param_groups:
            group["lr"] = rate
        batch = variants[step % len(variants)].random_chunks(args.batch, BLOCKS, random)
        losses = chunk_loss(model, batch, data.opening, weights)
        loss = torch.stack(list(losses.values())).sum()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(learnt, 1.0)
        optimizer.step()
        averaged.update_parameters(model)
        step += 1
        if step % 50 == 0:
            for name, value in losses.items():
                sums[name] = float(value.detach())
        if now >= next_figures:
            next_figures += (end - start) / args.reports
            mean_model = averaged.module.eval()
            say(step=step, **sums, **figures(mean_model, unseen, data.opening))
            save(mean_model, str(args.out / "generator.pt"), step=step)
    mean_model = averaged.module.eval()
    say(step=step, **sums, **figures(mean_model, unseen, data.opening))
    save(mean_model, str(args.out / "generator.pt"), step=step)
    log.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--sentences", type=Path, required=True)
    parser.add_argument("--speech", type=Path, required=True)
    parser.add_argument("--encoder", type=Path, default=SHIPPED[ENCODER])
    parser.add_argument("--lively", type=Path, required=True, help="statistics of lively lips")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--init", type=Path)
    parser.add_argument("--rate", type=float, default=LEARNING_RATE)
    parser.add_argument("--batch", type=int, default=32, help="stretches of 16 windows")
    parser.add_argument("--lips-steps", type=int, default=4000, help="0 = keep those of --init")
    parser.add_argument("--variants", type=int, default=2, help="every second one is disturbed")
    parser.add_argument("--revoiced", type=int, default=500, help="clips in a variant")
    parser.add_argument("--taught", type=int, default=400, help="streams in a variant")
    parser.add_argument("--teacher-minutes", type=float, default=10.0, help="of each voice")
    parser.add_argument("--reports", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    train(parser.parse_args())


if __name__ == "__main__":
    main()
