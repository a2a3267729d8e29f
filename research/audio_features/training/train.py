"""Train the speech encoder on the packed voices.

    python -m talkingface_research.audio_features.training.train --data DIR --out DIR --device cuda
        --minutes 5 [--init CHECKPOINT]

One network learns phones, articulation, voice activity, voicing and pitch at once, from augmented
voices: other speed, pitch and vocal tract, rooms, microphones, noise, pauses. Its embedding must
also predict the phones around, the clean spectrum, Whisper's rows and lips. The voices in HELD_OUT
are for validation only. Writes encoder.pt (best) and log.txt.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from talkingface.contract.speech_features import (
    ARTICULATION,
    DELAY_ROWS,
    EMBEDDING_DIM,
    PHONE_INDEX,
    PHONES,
)
from talkingface.motion_gen.windows import HISTORY_ROWS, RECEPTIVE_ROWS
from talkingface_research.audio_features.network import (
    F0_BINS,
    MEL_BANDS,
    VOICE_FLAGS,
    SpeechEncoder,
)
from talkingface_research.audio_features.training.augment import Augmenter
from talkingface_research.audio_features.training.data import (
    CONTEXT,
    HELD_OUT,
    LIPS,
    Labels,
    Streams,
)
from talkingface_research.audio_features.training.features import load_encoder
from talkingface_research.audio_features.training.validate import validate

SPEEDS = range(30, 57)  # of crops, in units of 1 / SPEED_STEPS
GROUPS = 8  # of a batch, one speed each
WARM_UP = 0.04  # share of the time over which the learning rate rises
MEAN_STEPS = 300  # of the running mean of the weights
# Cost of missed closures (lips on lips, lip on teeth) over that of false ones: they are short, and
# an open mouth in a bilabial is conspicuous.
CLOSURE_WEIGHT = 2.5
# Rows relative to the present one whose phones the embedding must predict.
CONTEXT_ROWS = (-4, -2, 0, 2)
NASALS = [PHONE_INDEX[p] for p in ("m", "n", "ng")]
# Rows before and after its own that lips are predicted from, as in the motion generator.
LIP_ROWS = (HISTORY_ROWS, RECEPTIVE_ROWS - HISTORY_ROWS - 1)
SONORANTS = [i for i, p in enumerate(PHONES) if p[0] in "aeiou" or p in ("l", "r", "w", "y")]


class Probe(nn.Module):
    """Predictions from the embedding; used in training only."""

    def __init__(self) -> None:
        super().__init__()
        self.phones = nn.Conv1d(EMBEDDING_DIM, len(CONTEXT_ROWS) * len(PHONES), 1)
        self.spectrum = nn.Conv1d(EMBEDDING_DIM, MEL_BANDS, 1)
        self.whisper = nn.Conv1d(EMBEDDING_DIM, CONTEXT, 1)
        self.lips = nn.Conv1d(EMBEDDING_DIM + len(ARTICULATION), LIPS, sum(LIP_ROWS) + 1)


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    return (values * mask).sum() / mask.sum().clamp(min=1)


def losses(
    model: SpeechEncoder,
    probe: Probe,
    noisy: Tensor,
    clean: Tensor,
    labels: Labels,
    mel: Tensor,
    weights: Tensor,
) -> dict[str, Tensor]:
    """Weighted losses by name; their sum is minimised."""
    hidden, _, _ = model.trunk(noisy, model.initial_state(len(noisy)), mel)
    phones = model.phones(hidden)[:, :, DELAY_ROWS:].float()
    moves = model.articulation(hidden)[:, :, DELAY_ROWS:].float()
    voice = model.voice(hidden)[:, :, DELAY_ROWS:].float()
    embedding = model.embedding_norm(model.embedding(hidden))[:, :, DELAY_ROWS:]
    rows = phones.shape[2]

    phone = labels.phone[:, :rows]
    known = (phone >= 0).float()
    target = labels.articulation[:, :rows].transpose(1, 2)
    pitch = labels.pitch[:, :rows]
    voiced = torch.isfinite(pitch) & (phone != PHONE_INDEX["sil"])
    total = {
        "phone": F.cross_entropy(phones, phone, weights, ignore_index=-1, label_smoothing=0.05)
    }
    finite = torch.isfinite(target)
    # Cross entropy, since the absolute error is least for the median, and closures are rare.
    closing = torch.ones(len(ARTICULATION), 1, device=moves.device)
    closing[:2] = CLOSURE_WEIGHT
    error = F.binary_cross_entropy_with_logits(
        moves, torch.nan_to_num(target), pos_weight=closing, reduction="none"
    )
    stress = torch.tensor([2.0, 2.0, 1.0, 1.5, 1.0, 0.7, 0.4, 0.4], device=error.device)
    total["articulation"] = 1.5 * masked_mean(error * stress[:, None], finite)

    nasal = torch.isin(phone, torch.tensor(NASALS, device=phone.device))
    sonorant = torch.isin(phone, torch.tensor(SONORANTS, device=phone.device))
    flags = torch.stack([phone != PHONE_INDEX["sil"], voiced, nasal, sonorant], 1).float()
    mask = torch.stack([torch.ones_like(known), torch.ones_like(known), known, known], 1)
    flag_error = F.binary_cross_entropy_with_logits(voice[:, :VOICE_FLAGS], flags, reduction="none")
    total["flags"] = 1.2 * masked_mean(flag_error, mask)

    inside = voiced & (pitch >= 0) & (pitch <= F0_BINS - 1)
    bins = torch.arange(F0_BINS, device=pitch.device)[:, None]
    soft = torch.exp(-0.5 * ((bins - torch.nan_to_num(pitch)[:, None]) / 0.7) ** 2)
    soft = soft / soft.sum(1, keepdim=True).clamp(min=1e-6)
    pitch_error = -(soft * F.log_softmax(voice[:, VOICE_FLAGS:], 1)).sum(1)
    total["pitch"] = 0.25 * masked_mean(pitch_error, inside.float())

    around = probe.phones(embedding).float().unflatten(1, (len(CONTEXT_ROWS), len(PHONES)))
    context = []
    for i, shift in enumerate(CONTEXT_ROWS):
        wanted = torch.roll(phone, -shift, 1).clone()
        wanted[:, :4] = -1
        wanted[:, -4:] = -1
        context.append(F.cross_entropy(around[:, i], wanted, weights, ignore_index=-1))
    total["context"] = 0.5 * torch.stack(context).mean()
    with torch.no_grad(), torch.autocast(noisy.device.type, enabled=False):
        padded = F.pad(clean, (model.front.history_samples, 0))
        empty = torch.zeros(len(clean), model.front.mean_size, device=clean.device)
        spectra, _, _ = model.front(padded, empty, mel)
        # Frame 2 i + 1 of the padded signal is the centre of row i.
        spectrum = spectra[:, MEL_BANDS : 2 * MEL_BANDS, 1::2][:, :, :rows]
    guess = probe.spectrum(embedding).float()
    total["spectrum"] = 0.1 * (guess - spectrum).abs().mean()
    whisper = labels.context[:, :rows].transpose(1, 2)
    error = (probe.whisper(embedding).float() - torch.nan_to_num(whisper)).square()
    total["whisper"] = 0.5 * masked_mean(error, torch.isfinite(whisper))
    tracked = labels.lips[:, :rows].transpose(1, 2)
    predicted = probe.lips(F.pad(torch.cat([embedding, torch.sigmoid(moves)], 1), LIP_ROWS)).float()
    error = (predicted - torch.nan_to_num(tracked)).square()
    total["lips"] = 1.0 * masked_mean(error, torch.isfinite(tracked))
    return total


def batch(
    streams: Streams, augmenter: Augmenter, size: int, rng: np.random.Generator
) -> tuple[Tensor, Tensor, Labels]:
    """Augmented audio, clean audio and labels of one step."""
    crops, parts = [], []
    groups = min(GROUPS, size)
    for _ in range(groups):
        steps = int(rng.choice(SPEEDS))
        start = streams.random_crops(size // groups, steps, rng)
        audio, labels = streams.crops(start, steps)
        crops.append(audio)
        parts.append(labels)
    clean = torch.cat(crops)
    labels = Labels(
        torch.cat([p.phone for p in parts]),
        torch.cat([p.articulation for p in parts]),
        torch.cat([p.pitch for p in parts]),
        torch.cat([p.context for p in parts]),
        torch.cat([p.lips for p in parts]),
    )
    noisy, keep = augmenter(clean)
    kept = keep[:, ::2]
    labels.phone = torch.where(kept, labels.phone, PHONE_INDEX["sil"])
    labels.articulation = torch.where(kept[:, :, None], labels.articulation, 0.0)
    labels.pitch = torch.where(kept, labels.pitch, torch.nan)
    # Where the audio is muted, the labels of lips and of Whisper do not hold.
    labels.context = torch.where(kept[:, :, None], labels.context, torch.nan)
    labels.lips = torch.where(kept[:, :, None], labels.lips, torch.nan)
    return noisy, clean * keep.repeat_interleave(160, 1), labels


@torch.no_grad()
def unfold_norms(trained: SpeechEncoder, model: SpeechEncoder, audio: Tensor) -> None:
    """Set the weights of `model` from an encoder whose batch norms are folded into its
    convolutions: the same function in eval mode, with the norms' statistics from `audio` (B, N)."""
    weights = trained.state_dict()
    pairs = [("first", "first_norm"), ("embedding", "embedding_norm")]
    for i in range(len(model.blocks)):
        pairs += [(f"blocks.{i}.dilated", f"blocks.{i}.norm1")]
        pairs += [(f"blocks.{i}.pointwise", f"blocks.{i}.norm2")]
    found: dict[str, tuple[Tensor, Tensor]] = {}
    hooks = [
        trained.get_submodule(name).register_forward_hook(
            lambda _module, _inputs, out, name=name: found.update(
                {name: (out.mean((0, 2)), out.var((0, 2)))}
            )
        )
        for name, _ in pairs
    ]
    trained(audio, trained.initial_state(len(audio)))
    for hook in hooks:
        hook.remove()
    for convolution, norm in pairs:
        mean, variance = found[convolution]
        bias = weights.pop(f"{convolution}.bias")
        if convolution == "embedding":
            weights[f"{convolution}.bias"] = bias
            weights[f"{norm}.running_mean"] = torch.zeros_like(mean)
            weights[f"{norm}.running_var"] = torch.ones_like(variance)
            continue
        weights[f"{norm}.weight"] = (variance + 1e-5).sqrt()
        weights[f"{norm}.bias"] = mean
        weights[f"{norm}.running_mean"] = mean - bias
        weights[f"{norm}.running_var"] = variance
    missing, unexpected = model.load_state_dict(weights, strict=False)
    assert not unexpected, unexpected
    assert all(name.endswith("num_batches_tracked") for name in missing), missing


def phone_weights(streams: Streams) -> Tensor:
    """Weights of phones in the loss: the inverse square root of their frequency."""
    known = streams.phone[streams.phone >= 0].long()
    count = torch.bincount(known, minlength=len(PHONES)).float().clamp(min=1)
    weight = (count.sum() / count).sqrt().clamp(max=20.0)
    return weight * (count.sum() / (weight * count).sum())


def train(arguments: argparse.Namespace) -> None:
    device = torch.device(arguments.device)
    out: Path = arguments.out
    out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(arguments.seed)
    torch.backends.cudnn.allow_tf32 = False  # the front end's spectra need full precision
    torch.backends.cudnn.benchmark = True
    begin = time.monotonic()
    log = (out / "log.txt").open("a")

    def log_line(text: str) -> None:
        line = f"[{time.monotonic() - begin:6.0f} s] {text}"
        print(line, flush=True)
        log.write(line + "\n")
        log.flush()

    with np.load(arguments.data / "labels.npz") as stored:
        names = sorted({key.rsplit("/", 1)[0] for key in stored})
    streams = Streams(arguments.data, [n for n in names if n not in HELD_OUT], device)
    held_out = Streams(arguments.data, [n for n in names if n in HELD_OUT], device)
    log_line(
        f"{streams.hours:.2f} h of {len(streams.names)} voices, {held_out.hours:.2f} h held out"
    )

    shape = {"channels": arguments.channels}
    model = SpeechEncoder(**shape).to(device)
    probe = Probe().to(device)
    if arguments.init:
        audio = streams.crops(streams.random_crops(64, SPEEDS[10], np.random.default_rng(0)), 40)[0]
        unfold_norms(load_encoder(arguments.init, device), model, audio)
    averaging = get_ema_multi_avg_fn(1 - 1 / MEAN_STEPS)
    kept = AveragedModel(model, multi_avg_fn=averaging, use_buffers=True)
    parameters = [*model.parameters(), *probe.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=0.0, betas=(0.9, 0.98), weight_decay=0.02)
    weights = phone_weights(streams)
    augmenter = Augmenter(device, arguments.seed)
    rng = np.random.default_rng(arguments.seed)
    limit = arguments.minutes * 60
    best, step, next_check = math.inf, 0, 1 / arguments.checks
    started = time.monotonic()
    while (progress := (time.monotonic() - started) / limit) < 1.0:
        rate = arguments.rate * min(1.0, (progress + 1e-3) / WARM_UP)
        rate *= 0.5 * (1 + math.cos(math.pi * progress))
        for group in optimizer.param_groups:
            group["lr"] = rate
        noisy, clean, labels = batch(streams, augmenter, arguments.batch, rng)
        with torch.autocast(device.type, dtype=torch.bfloat16):
            parts = losses(model, probe, noisy, clean, labels, augmenter.mels(len(noisy)), weights)
        loss = torch.stack(list(parts.values())).sum()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 2.0)
        optimizer.step()
        kept.update_parameters(model)
        step += 1
        if step % arguments.report == 0:
            figures = " ".join(f"{name} {part.item():.3f}" for name, part in parts.items())
            log_line(f"step {step} {100 * progress:.0f} % loss {loss.item():.3f}: {figures}")
        if progress >= next_check:
            next_check += 1 / arguments.checks
            best = check(kept.module, held_out, device, shape, out, best, log_line)
    check(kept.module, held_out, device, shape, out, best, log_line)
    log_line(f"{step} steps of {arguments.batch} crops")


def check(
    model: SpeechEncoder,
    held_out: Streams,
    device: torch.device,
    shape: dict[str, int],
    out: Path,
    best: float,
    log_line: Callable[[str], None],
) -> float:
    """Validate; save the model if it is the best so far."""
    figures = validate(model.eval(), held_out, device)
    for line in figures.lines():
        log_line(line)
    if figures.score < best:
        torch.save({"arguments": shape, "model": model.state_dict()}, out / "encoder.pt")
    result: float = min(best, figures.score)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--init", type=Path)
    parser.add_argument("--batch", type=int, default=96)
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--channels", type=int, default=256)
    parser.add_argument("--checks", type=int, default=10, help="validations on the way")
    parser.add_argument("--report", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    train(parser.parse_args())


if __name__ == "__main__":
    main()
