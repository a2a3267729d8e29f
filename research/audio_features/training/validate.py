"""Figures on voices that were never trained on, clean and under fixed conditions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from talkingface.contract.speech_features import (
    ARTICULATION_COLUMNS,
    LOG2_F0,
    PHONE_COLUMNS,
    PHONE_INDEX,
    VOICE_ACTIVITY,
    VOICING,
)
from talkingface_research.audio_features.network import F0_PER_OCTAVE, SpeechEncoder
from talkingface_research.audio_features.training.augment import Augmenter
from talkingface_research.audio_features.training.data import SPEED_STEPS, Streams

CROPS = 8
# About four semitones up and down, tempo and vocal tract with the pitch.
SPEEDS = {"faster and higher": 1.25, "slower and lower": 0.8}


@dataclass
class Row:
    """One voice under one condition; shares in percent."""

    name: str
    phone_error: float  # of rows with a known phone that is not silence
    activity_error: float  # of all rows
    voicing_error: float  # of all rows
    pitch_error: float  # of voiced rows off by more than 20 %
    closure_error: float  # mean |error| of the lip closure track where its target is above 0.5


@dataclass
class Figures:
    """Rows of all voices and conditions."""

    rows: list[Row] = field(default_factory=list)

    @property
    def score(self) -> float:
        """Mean phone error over all conditions; the best checkpoint has the lowest."""
        return sum(row.phone_error for row in self.rows) / len(self.rows)

    def lines(self) -> list[str]:
        head = f"  {'held-out voice':28} phone err  VAD err  voicing err  F0 err  closure err"
        return [head] + [
            f"  {r.name:28} {r.phone_error:8.1f} {r.activity_error:8.1f} {r.voicing_error:12.1f}"
            f" {r.pitch_error:7.1f} {r.closure_error:12.2f}"
            for r in self.rows
        ]


def _noisy(kind: str) -> Callable[[Tensor, Augmenter], Tensor]:
    def apply(audio: Tensor, augmenter: Augmenter) -> Tensor:
        makers = {
            "noise": lambda: augmenter.coloured_noise(*audio.shape),
            "music": lambda: augmenter.music(*audio.shape),
            "babble": lambda: augmenter.babble(audio, len(audio)),
        }
        noise = makers[kind]()
        ratio = audio.square().mean(1, keepdim=True) / noise.square().mean(1, keepdim=True)
        return audio + noise * (0.1 * ratio).sqrt()

    return apply


CONDITIONS: dict[str, Callable[[Tensor, Augmenter], Tensor]] = {
    "clean": lambda audio, _: audio,
    "noise 10 dB": _noisy("noise"),
    "music 10 dB": _noisy("music"),
    "babble 10 dB": _noisy("babble"),
    "room": lambda audio, augmenter: augmenter.colour(audio, 1.0, 3.0, 0.0),
}


@torch.no_grad()
def validate(model: SpeechEncoder, streams: Streams, device: torch.device) -> Figures:
    """Measure all voices of `streams` under all conditions, which are the same at every call."""
    figures = Figures()
    for voice in streams.names:
        for name, condition in CONDITIONS.items():
            figures.rows.append(_row(model, streams, voice, name, condition, 1.0, device))
        clean = CONDITIONS["clean"]
        for name, speed in SPEEDS.items():
            figures.rows.append(_row(model, streams, voice, name, clean, speed, device))
    return figures


def _row(
    model: SpeechEncoder,
    streams: Streams,
    voice: str,
    name: str,
    condition: Callable[[Tensor, Augmenter], Tensor],
    speed: float,
    device: torch.device,
) -> Row:
    steps = round(speed * SPEED_STEPS)
    audio, labels = streams.crops(streams.all_crops(voice, steps, CROPS), steps)
    floor = Augmenter(device, 5)
    noisy = condition(audio, floor) + 1e-4 * floor.normal(*audio.shape)
    features, speech = model.encode(noisy)
    phone = labels.phone
    spoken = phone > PHONE_INDEX["sil"]
    wrong = features[:, :, PHONE_COLUMNS].argmax(2) != phone
    active = phone != PHONE_INDEX["sil"]
    voiced = torch.isfinite(labels.pitch) & active
    both = voiced & (speech[:, :, VOICING] > 0.5)
    octaves = speech[:, :, LOG2_F0] - (
        labels.pitch / F0_PER_OCTAVE + torch.log2(torch.tensor(50.0, device=device))
    )
    closure = torch.nan_to_num(labels.articulation[:, :, 0])
    closed = closure > 0.5
    guess = features[:, :, ARTICULATION_COLUMNS][:, :, 0]

    def share(mask: Tensor, of: Tensor) -> float:
        result: float = 100.0 * (mask & of).sum().item() / max(1, of.sum().item())
        return result

    everything = torch.ones_like(active)
    return Row(
        f"{voice}, {name}",
        share(wrong, spoken),
        share((speech[:, :, VOICE_ACTIVITY] > 0.5) != active, everything),
        share((speech[:, :, VOICING] > 0.5) != voiced, everything),
        share(octaves.abs() > 0.263, both),
        (guess - closure)[closed].abs().mean().item() if closed.any() else 0.0,
    )
