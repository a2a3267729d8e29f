"""Augmentation of whole batches: rooms, microphones, noise, muting."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from talkingface.contract.rates import SAMPLE_RATE
from talkingface_research.audio_features.network import MEL_BANDS, mel_matrix

_TAIL = 12_800  # samples of a room's impulse response
_KNOTS = 9  # of a frequency response, over 30 Hz to 8 kHz
_TRACTS = 192  # vocal tracts that are drawn once
_BEND_KNOTS = 5  # of a tract's bend over the mel bands
_FRESH_NOISE = 0.3  # probability that a batch makes new noise


def vocal_tracts(seed: int) -> Tensor:
    """Frequency factors of other vocal tracts, longer or shorter as a whole by up to 20 % and bent
    by a few percent from formant to formant: (_TRACTS, MEL_BANDS + 2)."""
    draw = torch.Generator().manual_seed(seed)
    length = 1.2 ** (2 * torch.rand(_TRACTS, 1, generator=draw) - 1)
    bend = 0.03 * torch.randn(_TRACTS, 1, _BEND_KNOTS, generator=draw)
    curve = F.interpolate(bend, MEL_BANDS + 2, mode="linear", align_corners=True)[:, 0]
    return (length * (1.0 + curve.clamp(-0.06, 0.06))).double()


class Augmenter:
    """Random conditions from one generator, so that validation can repeat them."""

    def __init__(self, device: torch.device, seed: int) -> None:
        self.device = device
        self._noise: Tensor | None = None
        self._random = torch.Generator(device).manual_seed(seed)
        self._mels = torch.stack([mel_matrix(warp) for warp in vocal_tracts(seed)]).to(device)

    def uniform(self, *shape: int, low: float = 0.0, high: float = 1.0) -> Tensor:
        draw = torch.rand(*shape, generator=self._random, device=self.device)
        return low + (high - low) * draw

    def normal(self, *shape: int) -> Tensor:
        return torch.randn(*shape, generator=self._random, device=self.device)

    def chance(self, count: int, probability: float) -> Tensor:
        """(count, 1) bool."""
        return self.uniform(count, 1) < probability

    def mels(self, count: int) -> Tensor:
        """Mel filters of random vocal tracts: (count, bands, bins)."""
        index = torch.randint(len(self._mels), (count,), generator=self._random, device=self.device)
        return self._mels[index]

    def tone(self, count: int, bins: int, spread_db: float, band: float) -> Tensor:
        """Smooth random magnitude responses, some cut to a narrow band: (count, bins)."""
        hz = torch.linspace(0, SAMPLE_RATE / 2, bins, device=self.device).clamp(min=30.0)
        position = (torch.log2(hz / 30.0) / math.log2(8000 / 30.0) * (_KNOTS - 1)).clamp(
            0, _KNOTS - 1.001
        )
        knots = self.normal(count, _KNOTS) * spread_db
        low = position.long()
        part = position - low
        decibel = knots[:, low] * (1 - part) + knots[:, low + 1] * part
        high_pass = 60.0 * 2.0 ** self.uniform(count, 1, low=0.0, high=2.7)
        low_pass = 2500.0 * 2.0 ** self.uniform(count, 1, low=0.0, high=1.6)
        cut = 40.0 * (
            torch.log2(high_pass / hz).clamp(0, 2) + torch.log2(hz / low_pass).clamp(0, 2)
        )
        decibel = decibel - cut * self.chance(count, band)
        return 10.0 ** (decibel / 20.0)

    def room(self, count: int, reverb: float) -> Tensor:
        """Impulse responses of synthetic rooms, the direct sound first: (count, _TAIL)."""
        t = torch.arange(_TAIL, device=self.device) / SAMPLE_RATE
        rt60 = self.uniform(count, 1, low=0.12, high=0.8)
        tail = self.normal(count, _TAIL) * torch.exp(-6.9 * t / rt60)
        gap = self.uniform(count, 1, low=0.001, high=0.012)
        tail = tail * (t > gap)
        ratio = 10.0 ** (-self.uniform(count, 1, low=-2.0, high=14.0) / 20.0)
        tail = tail * (ratio / (tail.square().sum(1, keepdim=True).sqrt() + 1e-9))
        tail = tail * self.chance(count, reverb)
        tail[:, 0] = 1.0
        return tail

    def colour(self, audio: Tensor, reverb: float, spread_db: float, band: float) -> Tensor:
        """Apply a random room and a random frequency response."""
        size = audio.shape[1] + _TAIL
        spectrum = torch.fft.rfft(audio, n=size)
        response = torch.fft.rfft(self.room(len(audio), reverb), n=size)
        response = response * self.tone(len(audio), spectrum.shape[1], spread_db, band)
        return torch.fft.irfft(spectrum * response, n=size)[:, : audio.shape[1]]

    def coloured_noise(self, count: int, samples: int) -> Tensor:
        """Noise from rumble to hiss, some of it with a changing level."""
        spectrum = torch.fft.rfft(self.normal(count, samples))
        hz = torch.arange(spectrum.shape[1], device=self.device) * (SAMPLE_RATE / samples)
        slope = self.uniform(count, 1, low=-0.2, high=1.2)
        shape = (hz.clamp(min=40.0) / 1000.0)[None] ** -slope
        shape = shape * self.tone(count, spectrum.shape[1], 4.0, 0.3)
        noise = torch.fft.irfft(spectrum * shape, n=samples)
        t = torch.arange(samples, device=self.device) / SAMPLE_RATE
        rate = 2.0 ** self.uniform(count, 1, low=-2.0, high=4.0)
        phase = self.uniform(count, 1, high=2 * math.pi)
        depth = self.uniform(count, 1) * self.chance(count, 0.5)
        return noise * torch.exp(1.5 * depth * torch.sin(2 * math.pi * rate * t + phase))

    def babble(self, voices: Tensor, count: int) -> Tensor:
        """Several other voices of the batch at once, some of them backwards."""
        total = torch.zeros(count, voices.shape[1], device=self.device)
        for i in range(7):
            pick = torch.randint(len(voices), (count,), generator=self._random, device=self.device)
            voice = voices[pick]
            voice = torch.roll(voice, int(self.uniform(1).item() * voices.shape[1]), 1)
            total += (voice.flip(1) if i % 2 else voice) * (
                self.chance(count, 0.7) * self.uniform(count, 1, low=0.2, high=1.0)
            )
        return total

    def music(self, count: int, samples: int) -> Tensor:
        """Chords that change, plucked or held, with beats of noise."""
        t = torch.arange(samples, device=self.device) / SAMPLE_RATE
        beat = self.uniform(count, 1, low=0.2, high=0.7)
        index = (t / beat).long()
        into = t - index * beat
        decay = self.uniform(count, 1, low=0.0, high=8.0)
        envelope = torch.exp(-decay * into) * (into / 0.01).clamp(max=1.0)
        total = torch.zeros(count, samples, device=self.device)
        beats = int(samples / SAMPLE_RATE / 0.2) + 2
        for _ in range(4):
            note = torch.round(self.uniform(count, beats, low=-20.0, high=24.0)).gather(1, index)
            phase = 2 * math.pi / SAMPLE_RATE * torch.cumsum(220.0 * 2.0 ** (note / 12.0), 1)
            bright = self.uniform(count, 1, low=0.2, high=0.8)
            for harmonic in range(1, 6):
                total += bright ** (harmonic - 1) * torch.sin(harmonic * phase) * envelope
        drum = self.normal(count, samples) * torch.exp(-30.0 * into) * self.chance(count, 0.5)
        return total + 3.0 * drum

    def hum(self, count: int, samples: int) -> Tensor:
        """Mains hum and steady whistles."""
        t = torch.arange(samples, device=self.device) / SAMPLE_RATE
        mains = torch.where(self.chance(count, 0.5), 50.0, 60.0)
        total = torch.zeros(count, samples, device=self.device)
        for harmonic in range(1, 9):
            total += (
                self.uniform(count, 1)
                / harmonic
                * torch.sin(2 * math.pi * harmonic * mains * t + harmonic)
            )
        whistle = 2.0 ** self.uniform(count, 1, low=8.0, high=12.5)
        return total + 0.3 * self.chance(count, 0.4) * torch.sin(2 * math.pi * whistle * t)

    def noise(self, voices: Tensor) -> Tensor:
        """Noise of one kind for each item of the batch, of unit power, in the shape of `voices`.

        Noise costs more than all the rest, so each is used several times, rolled by a random time.
        """
        if self._noise is None or self._noise.shape != voices.shape or self._fresh():
            self._noise = self._make_noise(voices)
        count, samples = voices.shape
        order = torch.randperm(count, generator=self._random, device=self.device)
        return torch.roll(self._noise[order], int(self.uniform(1).item() * samples), 1)

    def _fresh(self) -> bool:
        return bool(self.uniform(1).item() < _FRESH_NOISE)

    def _make_noise(self, voices: Tensor) -> Tensor:
        count, samples = voices.shape
        quarter = -(-count // 4)
        parts = [
            self.coloured_noise(2 * quarter, samples),
            self.babble(voices, quarter),
            self.music(quarter, samples),
            self.hum(max(1, quarter // 3), samples),
        ]
        noise = torch.cat(parts)
        order = torch.randperm(len(noise), generator=self._random, device=self.device)[:count]
        noise = self.colour(noise[order], 0.3, 3.0, 0.1)
        return noise / (noise.square().mean(1, keepdim=True).sqrt() + 1e-9)

    def mute(self, audio: Tensor) -> tuple[Tensor, Tensor]:
        """Mute parts of some voices and all of others: audio, and where it is kept (B, T) at 100
        Hz."""
        count, samples = audio.shape
        frames = torch.arange(samples // 160, device=self.device)
        begin = self.uniform(count, 1, high=len(frames))
        length = self.uniform(count, 1, low=30.0, high=200.0)
        gone = (frames >= begin) & (frames < begin + length) & self.chance(count, 0.12)
        gone = gone | self.chance(count, 0.05)
        keep = ~gone
        return audio * keep.repeat_interleave(160, 1), keep

    def __call__(self, clean: Tensor) -> tuple[Tensor, Tensor]:
        """Apply everything at random strengths.

        :param clean: (B, N)
        :return: augmented audio (B, N) and where the voice is kept (B, N / 160) bool
        """
        count = len(clean)
        voice, keep = self.mute(clean)
        voice = self.colour(voice, 0.4, 5.0, 0.25)
        power = voice.square().mean(1, keepdim=True).sqrt()
        power = torch.where(power > 1e-4, power, 0.03)
        snr = self.uniform(count, 1, low=-2.0, high=32.0)
        loud = power * 10.0 ** (-snr / 20.0) * self.chance(count, 0.8)
        mixed = voice + self.noise(clean) * loud
        # Pauses mostly have a noise floor, and only at times are digital silence.
        floor = 10.0 ** (self.uniform(count, 1, low=-80.0, high=-45.0) / 20.0)
        mixed = mixed + self.normal(*clean.shape) * (power * floor) * self.chance(count, 0.8)
        level = 10.0 ** (self.uniform(count, 1, low=-42.0, high=-12.0) / 20.0)
        mixed = mixed * (level / (mixed.square().mean(1, keepdim=True).sqrt() + 1e-4))
        companded = torch.sign(mixed) * torch.log1p(255 * mixed.abs().clamp(max=1)) / math.log(256)
        companded = torch.round(companded * 127) / 127
        expanded = torch.sign(companded) * (256.0 ** companded.abs() - 1) / 255
        mixed = torch.where(self.chance(count, 0.05), expanded, mixed)
        return mixed.clamp(-1, 1), keep
