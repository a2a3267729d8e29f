"""Train the motion generator on recorded and rule-made motion.

    python -m talkingface.motion_gen.training.train --data DIR --speech DIR --encoder FILE.pt
        --out DIR --device cuda --minutes 5 [--init CHECKPOINT]

`--data` is what `prepare` wrote, `--speech` the packed voices of the speech encoder's training (for
the rule teacher), `--encoder` its checkpoint, which stays frozen. Writes generator.pt (the running
mean of the weights) and log.txt. Validation streams are recorded clips that are not trained on;
their lips are compared as in `evaluate`, generated window after window.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from talkingface.audio_features.training.augment import Augmenter
from talkingface.audio_features.training.features import load_encoder
from talkingface.common.motion import MOTION_FPS, Array
from talkingface.motion_gen.contract import GUIDED, HOP, PAST
from talkingface.motion_gen.generator import (
    HEAD_DIM,
    SEEN,
    MotionGenerator,
    Sampler,
    save,
)
from talkingface.motion_gen.performance import (
    ARTICULATION,
    FACE_DIM,
    FACE_INDEX,
    GAZE,
    HEAD,
    PERFORMANCE_DIM,
    ROTATION,
)
from talkingface.motion_gen.session import TEMPERATURE
from talkingface.motion_gen.training import synthesis
from talkingface.motion_gen.training.data import (
    FRAMES,
    PLAN_POOL,
    Chunks,
    Clips,
    Streams,
    Variant,
    join,
    lay_out,
    read_recorded,
    read_teacher,
)

VALIDATION_EVERY = 15  # of the recorded clips
LEARNING_RATE = 7e-4
WARMUP_STEPS = 200
AVERAGING = 0.998
DROP_CONDITION = 0.1
DROP_PAST = 0.4
BLOCKS = 16  # windows of a stretch that share its past
PAST_NOISE = 0.6  # standard deviation in normalised units, drawn from 0 to this
HEAD_NOISE = 0.04  # of that for the head, whose speed the noise would hide
CLOSED_WEIGHT = 4.0  # extra weight of the lip loss where the lips are closed
CLOSED_DECAY = 60.0  # per face width of opening
OPENING_UNIT = 0.02  # face widths
FACE_FLOOR = 0.03
GAZE_SCALE, TURN_SCALE, SHIFT_SCALE = 2.0, 1.0, 0.01


def channel_weights() -> Tensor:
    """(PERFORMANCE_DIM,) weights of the squared error."""
    weights = torch.ones(PERFORMANCE_DIM)
    weights[torch.from_numpy(ARTICULATION)] = 1.5
    for name in ("jawOpen", "mouthClose", "mouthPucker", "mouthFunnel"):
        weights[FACE_INDEX[name]] = 3.0
    for name in ("eyeBlinkLeft", "eyeBlinkRight"):
        weights[FACE_INDEX[name]] = 3.0
    weights[GAZE] = 2.0
    weights[ROTATION] = 4.0
    weights[ROTATION.stop :] = 2.0
    return weights


def set_scale(model: MotionGenerator, variant: Variant) -> None:
    """Normalisation from one variant's frames."""
    face = variant.target[:, PAST:, :FACE_DIM].reshape(-1, FACE_DIM)
    model.mean.copy_(face.mean(0))
    model.scale[:FACE_DIM] = face.std(0).clamp(min=FACE_FLOOR)
    model.scale[GAZE] = GAZE_SCALE
    model.scale[ROTATION] = TURN_SCALE
    model.scale[ROTATION.stop :] = SHIFT_SCALE


def chunk_loss(
    model: MotionGenerator, chunks: Chunks, opening: Tensor, weights: Tensor
) -> dict[str, Tensor]:
    """Losses of one batch, every block of which is one window; their sum is minimised."""
    count, length = chunks.frames.shape[:2]
    blocks, device = (length - PAST) // HOP, chunks.frames.device
    total = count * blocks
    plan = chunks.conditions["behaviour"][..., 1:]
    # Block n makes the frames from PAST + n HOP on and sees the past tokens from n HOP on.
    seen = HOP * torch.arange(blocks, device=device)[:, None] + torch.arange(SEEN, device=device)
    target = chunks.frames[:, PAST:].reshape(total, HOP, PERFORMANCE_DIM)
    place = chunks.frames[:, PAST - 1 : -1 : HOP, HEAD].reshape(total, HEAD_DIM)
    reference = model.reference(place, plan[:, PAST:].reshape(total, HOP, 2))
    clean = (target - reference) / model.scale

    spoilt = torch.rand(count, 1, 1, device=device) * PAST_NOISE * model.scale
    heads = torch.ones(PERFORMANCE_DIM, device=device)
    heads[HEAD] = HEAD_NOISE
    past = chunks.frames + spoilt * heads * torch.randn_like(chunks.frames)
    valid = chunks.valid[:, :, 1:].reshape(total, SEEN)
    valid = valid * (torch.rand(total, 1, device=device) > DROP_PAST)
    known = (torch.rand(count, 1, device=device) > DROP_CONDITION).float()
    style = (chunks.conditions["style"] * known).repeat_interleave(blocks, dim=0)
    dropped = (torch.rand(total, len(GUIDED), device=device) < DROP_CONDITION).float()
    # More draws at the noisy end, where the sampler decides most.
    t = torch.rand(total, device=device) ** 1.5
    calm = torch.rand(total, 1, 1, device=device) < 0.5
    temperature = torch.where(calm, torch.from_numpy(TEMPERATURE).to(device), 1.0)
    noise = torch.randn_like(clean) * temperature
    noisy = torch.lerp(noise, clean, t[:, None, None])
    with torch.autocast(device.type, torch.bfloat16):
        tokens = model.condition_tokens(chunks.conditions)
        old = model.past_tokens(past, plan, tokens)
        new = {
            name: token[:, PAST:].reshape(total, HOP, token.shape[-1])
            for name, token in tokens.items()
        }
        memory = [
            tuple(
                part[:, :, seen].transpose(1, 2).flatten(0, 1)  # (B, heads, blocks, SEEN, d)
                for part in pair
            )
            for pair in model.memory(old)
        ]
        condition = model.new_tokens(new, dropped, style, place)
        predicted = model.predict(noisy, model.time_embedding(t), condition, memory, valid)
    error = predicted.float() - clean
    flow = (error.square() * weights).mean()

    gap = (error[..., :FACE_DIM] * model.scale[:FACE_DIM]) @ opening
    true = target[..., :FACE_DIM] @ opening
    emphasis = 1 + CLOSED_WEIGHT * torch.exp(-CLOSED_DECAY * true.clamp(min=0))
    lips = (emphasis * (gap / OPENING_UNIT).square()).mean()
    speed = ((error[:, 1:] - error[:, :-1]).square() * weights).mean()
    return {"flow": flow, "lips": lips, "speed": 0.5 * speed}


@torch.no_grad()
def roll_out(model: MotionGenerator, variant: Variant, seed: int, frames: int = FRAMES) -> Tensor:
    """All streams of a variant generated window after window: (S, frames, PERFORMANCE_DIM)."""
    device = variant.target.device
    sampler = Sampler(model)
    sampler.to(device)
    random = torch.Generator(device).manual_seed(seed)
    temperature = torch.from_numpy(TEMPERATURE).to(device)
    count = variant.streams
    stream = torch.arange(count, device=device)
    past = torch.zeros(count, PAST, PERFORMANCE_DIM, device=device)
    valid = torch.zeros(count, PAST, device=device)
    guidance = torch.tensor([[1.5, 0.0, 0.0]], device=device).expand(count, -1)
    made = []
    for first in range(0, frames, HOP):
        chunk = variant.chunks(stream, torch.full_like(stream, first), 1)
        noise = torch.randn(count, HOP, PERFORMANCE_DIM, generator=random, device=device)
        new = sampler(
            **chunk.conditions,
            past=past,
            past_valid=valid,
            noise=noise * temperature,
            guidance=guidance,
        )
        made.append(new)
        past = torch.cat([past, new], 1)[:, HOP:]
        valid = torch.cat([valid, torch.ones_like(valid[:, :HOP])], 1)[:, HOP:]
    return torch.cat(made, 1)


def band_passed(track: Array, low: float = 2.0, high: float = 8.0) -> Array:
    """(..., T) within a band of Hz, by cutting the spectrum."""
    frequency = np.fft.rfftfreq(track.shape[-1], 1 / MOTION_FPS)
    keep = (frequency >= low) & (frequency <= high)
    centred = track - track.mean(-1, keepdims=True)
    passed = np.fft.irfft(np.fft.rfft(centred) * keep, track.shape[-1])
    return passed.astype(np.float32)


def figures(model: MotionGenerator, variant: Variant, opening: Tensor) -> dict[str, float]:
    """How the generated streams compare with the recorded ones."""
    made = roll_out(model, variant, seed=0)
    true = variant.target[:, PAST:]
    lips = [(x[..., :FACE_DIM] @ opening).cpu().numpy() for x in (made, true)]
    first, second = (band_passed(x) for x in lips)
    best = max(
        (float(np.corrcoef(np.roll(first, -lag, 1).ravel(), second.ravel())[0, 1]), lag)
        for lag in (-1, 0, 1, 2)
    )
    step = [float(x[..., ROTATION].diff(dim=1).abs().mean()) for x in (made, true)]
    gaze = made[..., GAZE] - variant.plan[:, PAST:, 1:]
    brows = float((made - true)[..., FACE_INDEX["browInnerUp"]].abs().mean())
    blink = float((made - true)[..., FACE_INDEX["eyeBlinkLeft"]].abs().mean())
    return {
        "r": best[0],
        "lag": float(best[1]),
        "amplitude": float(first.std() / second.std()),
        "head_step": step[0],
        "head_step_true": step[1],
        "head_spread": float(made[..., ROTATION].std()),
        "gaze_error": float(gaze.abs().median()),
        "brow_error": brows,
        "blink_error": blink,
    }


class Data:
    """Streams of both kinds, and variants of them that are renewed as training goes on."""

    def __init__(self, args: argparse.Namespace, device: torch.device) -> None:
        self.device = device
        self.rng = np.random.default_rng(args.seed)
        recorded, opening = read_recorded(args.data)
        self.opening = torch.from_numpy(opening).to(device)
        held = range(0, len(recorded.face), VALIDATION_EVERY)
        chosen = [i for i in range(len(recorded.face)) if i not in held]
        self.recorded, self.unseen = _pick(recorded, chosen), _pick(recorded, list(held))
        self.taught = read_teacher(args.speech, args.seed, args.teacher_minutes)
        print(
            f"{len(self.recorded.face)} recorded clips, {len(self.unseen.face)} for validation, "
            f"{len(self.taught.face)} taught streams",
            flush=True,
        )
        self.plans = synthesis.plan_behaviour(self.rng, PLAN_POOL)
        self.encoder = load_encoder(args.encoder, args.device)
        self.augmenter = Augmenter(device, args.seed)

    def variant(self) -> Variant:
        """All training streams in a new arrangement."""
        recorded = lay_out(self.recorded, 0, self.rng)
        taught = lay_out(_pick(self.taught, self._some(len(recorded.audio))), 1, self.rng)
        return self._hear(join([recorded, taught]), self.augmenter, behave=True)

    def validation(self) -> Variant:
        """Unseen recorded clips as they are, with behaviour."""
        return self._hear(lay_out(self.unseen, 0, np.random.default_rng(0)), None, behave=True)

    def _some(self, count: int) -> list[int]:
        count = min(count, len(self.taught.face))
        return [int(i) for i in self.rng.choice(len(self.taught.face), count, replace=False)]

    def _hear(self, streams: Streams, augmenter: Augmenter | None, behave: bool) -> Variant:
        return Variant(streams, self.encoder, augmenter, self.plans, self.rng, self.device, behave)


def _pick(clips: Clips, index: list[int]) -> Clips:
    return Clips(
        [clips.audio[i] for i in index],
        [clips.face[i] for i in index],
        [clips.head[i] for i in index],
    )


def train(args: argparse.Namespace) -> None:
    began = time.monotonic()
    torch.manual_seed(args.seed)
    torch.set_float32_matmul_precision("high")
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
    variants = [data.variant()]
    say(first_variant=1, streams=variants[0].streams)
    model = MotionGenerator()
    if args.init:
        checkpoint = torch.load(args.init, map_location="cpu", weights_only=True)
        model.load_state_dict(checkpoint["weights"])
        model.to(device)
    else:
        model.to(device)
        set_scale(model, variants[0])
    averaged = torch.optim.swa_utils.AveragedModel(
        model, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(AVERAGING)
    )
    weights = channel_weights().to(device)
    optimizer = torch.optim.AdamW(
        model.parameters(),
        lr=0.0,
        betas=(0.9, 0.98),
        weight_decay=0.01,
        fused=device.type == "cuda",
    )
    random = torch.Generator(device).manual_seed(args.seed)
    sums: dict[str, float] = {}
    step = 0
    end = began + 60 * args.minutes
    start = time.monotonic()
    next_figures = start + (end - start) / args.reports
    next_variant = start
    while (now := time.monotonic()) < end:
        if now >= next_variant and step:
            if len(variants) == args.variants:
                variants.pop(0)
            variants.append(data.variant())
            next_variant = time.monotonic() + args.renew
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
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
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
    parser.add_argument("--speech", type=Path, required=True)
    parser.add_argument("--encoder", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--init", type=Path)
    parser.add_argument("--rate", type=float, default=LEARNING_RATE)
    parser.add_argument("--batch", type=int, default=32, help="stretches of 16 windows")
    parser.add_argument("--variants", type=int, default=8, help="variants held at a time")
    parser.add_argument("--renew", type=float, default=25.0, help="seconds between new variants")
    parser.add_argument("--teacher-minutes", type=float, default=20.0, help="of each voice")
    parser.add_argument("--reports", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    train(parser.parse_args())


if __name__ == "__main__":
    main()
