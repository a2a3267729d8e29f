"""The packed training set on the training device, cut into labelled crops."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import torch
from numpy.typing import NDArray
from torch import Tensor

from talkingface.contract.rates import SAMPLE_RATE
from talkingface_research.audio_features.network import F0_PER_OCTAVE
from talkingface_research.audio_features.training import articulation
from talkingface_research.audio_features.training.decoding import phones_at
from talkingface_research.audio_features.training.pack import audio_path

LABEL_RATE = 100
LABEL_SAMPLES = SAMPLE_RATE // LABEL_RATE
# A crop of n source samples is played back in CROP_SAMPLES; the ratio is a multiple of 1 / 40.
CROP_SAMPLES = 96_000
SPEED_STEPS = 40
# Voices that are never trained on, by name.
HELD_OUT = ("flite_rms", "italian_lp", "reading_en")
# Shares of the training crops by prefix of the voices' names; the rest are synthetic voices.
# `grid` is the recorded speaker, `grid_VOICE` that speaker's sentences in another voice.
SHARES = {"grid_": 0.15, "grid": 0.15, "prompts": 0.15, "dialogues": 0.35, "": 0.2}
CONTEXT, CONTEXT_STEP = 64, 1 / 32  # columns of Whisper's rows (`teach`), step of their int8
LIPS = 8  # components
NO_CONTEXT = -128  # in a column of the context


@dataclass
class Labels:
    """Rows at 50 Hz of a batch of crops."""

    phone: Tensor  # (B, T) int64, -1 = unknown
    articulation: Tensor  # (B, T, 8), NaN = unknown
    pitch: Tensor  # (B, T) bins above F0_LOW, NaN = unvoiced
    context: Tensor  # (B, T, CONTEXT) Whisper's rows, NaN = unknown
    lips: Tensor  # (B, T, LIPS) standard deviations, NaN = unknown


def read_audio(folder: Path, name: str, samples: int = -1) -> NDArray[np.int16]:
    """The audio of a packed stream at 16 kHz.

    :param samples: maximum number; all where negative
    :raises ValueError: it has another sample rate
    """
    pcm, rate = soundfile.read(audio_path(folder, name), samples, dtype="int16")
    if rate != SAMPLE_RATE:
        raise ValueError(f"{name} decodes to {rate} Hz")
    return np.asarray(pcm)


class Streams:
    """All voices, one after another, in the memory of one device."""

    def __init__(self, folder: Path, names: list[str], device: torch.device) -> None:
        stored = np.load(folder / "labels.npz")
        audio, phone, pitch, moves, context, lips = [], [], [], [], [], []
        self.names = names
        self.starts: list[int] = []
        self.frames: list[int] = []
        position = 0
        for name in names:
            pcm = read_audio(folder, name)
            track = stored[f"{name}/pitch"]
            # Whole rows, of two label frames each.
            frames = min(len(track), len(pcm) // LABEL_SAMPLES) // 2 * 2
            end = stored[f"{name}/end"]
            audio.append(pcm[: frames * LABEL_SAMPLES])
            phone.append(phones_at(stored[f"{name}/phone"], end, frames, LABEL_SAMPLES))
            pitch.append(track[:frames])
            moves.append(articulation.tracks(stored[f"{name}/phone"], end)[:frames])
            rows = np.full((frames // 2, CONTEXT), NO_CONTEXT, np.int8)
            if f"{name}/context" in stored:
                known = stored[f"{name}/context"][: frames // 2]
                rows[: len(known)] = known
            context.append(rows)
            shapes = np.full((frames // 2, LIPS), np.nan, np.float16)
            if f"{name}/lips" in stored:
                tracked = stored[f"{name}/lips"][: frames // 2]
                shapes[: len(tracked)] = tracked
            lips.append(shapes)
            self.starts.append(position)
            self.frames.append(frames)
            position += frames
        self.audio = torch.from_numpy(np.concatenate(audio)).to(device)
        self.phone = torch.from_numpy(np.concatenate(phone)).to(device)
        self.pitch = torch.from_numpy(np.concatenate(pitch)).to(device)
        self.articulation = torch.from_numpy(np.concatenate(moves)).half().to(device)
        self.context = torch.from_numpy(np.concatenate(context)).to(device)
        self.lips = torch.from_numpy(np.concatenate(lips)).to(device)

    @property
    def hours(self) -> float:
        return len(self.audio) / SAMPLE_RATE / 3600

    def crops(self, start: Tensor, speed_steps: int) -> tuple[Tensor, Labels]:
        """Crops resampled to another speed, pitch and length of the vocal tract together.

        :param start: (B,) first label frames
        :param speed_steps: speed in units of 1 / SPEED_STEPS
        :return: audio (B, CROP_SAMPLES) and its labels
        """
        speed = speed_steps / SPEED_STEPS
        source = CROP_SAMPLES * speed_steps // SPEED_STEPS
        device = self.audio.device
        index = (start * LABEL_SAMPLES)[:, None] + torch.arange(source, device=device)
        audio = self.audio[index].float() / 32768.0
        if source != CROP_SAMPLES:
            # Band-limited resampling by cutting or padding the spectrum.
            audio = torch.fft.irfft(torch.fft.rfft(audio), n=CROP_SAMPLES) * (1.0 / speed)
        rows = torch.arange(CROP_SAMPLES // (2 * LABEL_SAMPLES), device=device)
        frame = start[:, None] + torch.round(2.0 * speed * rows).long()
        raw = self.pitch[frame].float()
        pitch = raw - 1.0 + pitch_shift(speed)
        pitch = torch.where(raw > 0, pitch, torch.nan)
        row = frame // 2
        context = self.context[row]
        context = torch.where(context == NO_CONTEXT, torch.nan, context.float() * CONTEXT_STEP)
        return audio, Labels(
            self.phone[frame].long(),
            self.articulation[frame].float(),
            pitch,
            context,
            self.lips[row].float(),
        )

    def random_crops(self, count: int, speed_steps: int, rng: np.random.Generator) -> Tensor:
        """First frames of crops: the kinds of voices by SHARES, the voices of one kind by the
        square root of their length."""
        need = CROP_SAMPLES * speed_steps // SPEED_STEPS // LABEL_SAMPLES + 2
        weight = np.sqrt(np.maximum(np.array(self.frames) - need, 0))
        kind = np.array(
            [next(i for i, k in enumerate(SHARES) if n.startswith(k)) for n in self.names]
        )
        for index, share in enumerate(SHARES.values()):
            if weight[kind == index].sum() > 0:
                weight[kind == index] *= share / weight[kind == index].sum()
        voice = rng.choice(len(self.names), count, p=weight / weight.sum())
        start = [self.starts[v] + int(rng.integers(self.frames[v] - need)) for v in voice]
        return torch.tensor(start, device=self.audio.device)

    def all_crops(self, name: str, speed_steps: int, limit: int) -> Tensor:
        """First frames of adjoining crops of one voice, at most `limit`."""
        v = self.names.index(name)
        length = CROP_SAMPLES * speed_steps // SPEED_STEPS // LABEL_SAMPLES + 2
        count = min(limit, self.frames[v] // length)
        return self.starts[v] + length * torch.arange(count, device=self.audio.device)


def pitch_shift(speed: float) -> float:
    """Bins by which faster playback raises the pitch."""
    return F0_PER_OCTAVE * float(np.log2(speed))
