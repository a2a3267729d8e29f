"""The streaming speech encoder: mono 16 kHz waveform to 50 Hz speech features.

A log-mel and low-frequency spectrum front end inside the network, so that callers cannot compute it
differently; its spectra are normalised by a running, loudness-weighted mean, since what a
microphone and a room add is constant and speech is not. Then a causal residual network of dilated
convolutions (van den Oord et al. 2016; Bai et al. 2018). The whole state of a stream is one flat
vector, zero at its start; the same `forward` runs one chunk (streaming) or a whole clip (training),
and both give the same rows.

A stream's rows must not depend on the other streams of its batch. Therefore there are only
convolutions, which ONNX Runtime computes row by row (a recurrent layer's products change with the
batch), sums over channels only as matrix products, and transcendental functions only on tensors
whose size a row is a multiple of 16, since the last few elements of a vector loop are rounded
differently.

Names of parameters stay as they are: checkpoints and the exported model hold them.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from talkingface.contract.rates import SAMPLE_RATE
from talkingface.contract.speech_features import (
    ARTICULATION,
    CHUNK_ROWS,
    CHUNK_SAMPLES,
    DELAY_ROWS,
    EMBEDDING_DIM,
    PHONES,
    ROW_SAMPLES,
    SPEECH_DIM,
)

FRAME_SAMPLES = 160  # hop of the spectra, 10 ms
WINDOW_SAMPLES = 640  # of energy and pitch lines
MEL_WINDOW_SAMPLES = 400
FFT_SIZE = 512
MEL_BANDS = 64
MEL_LOW, MEL_HIGH = 60.0, 7600.0  # Hz
PITCH_LINES = 60  # frequencies of the low spectrum, from 50 Hz
PITCH_SPACING = 12.5  # Hz
LOG_FLOOR = 1e-9  # power
MEAN_SECONDS = 2.0  # time constant of the running mean
# The running mean starts at this log power, with the weight of a short quiet frame.
MEAN_PRIOR = -10.0
MEAN_PRIOR_WEIGHT = 2e-3

F0_LOW, F0_BINS, F0_PER_OCTAVE = 50.0, 84, 24  # Hz
# Voice activity, voicing, nasal, sonorant; the last two are used in training alone.
VOICE_FLAGS = 4
INPUT_DIM = 2 * MEL_BANDS + PITCH_LINES
FIRST_KERNEL = 6
ENCODE_CHUNKS = 100  # that `encode` runs at once


def mel_matrix(warp: Tensor | None = None) -> Tensor:
    """Triangular mel filters of unit peak over DFT power bins: (MEL_BANDS, FFT_SIZE / 2 + 1).

    :param warp: (MEL_BANDS + 2,) factors on the filters' corner frequencies, to simulate another
        vocal tract in training; filters stay below the Nyquist frequency
    """

    def to_mel(hz: float) -> float:
        return 2595.0 * math.log10(1.0 + hz / 700.0)

    mels = torch.linspace(to_mel(MEL_LOW), to_mel(MEL_HIGH), MEL_BANDS + 2, dtype=torch.float64)
    edges = 700.0 * (10.0 ** (mels / 2595.0) - 1.0)
    if warp is not None:
        edges = (edges * warp).clamp(max=SAMPLE_RATE / 2)
    bins = torch.arange(FFT_SIZE // 2 + 1, dtype=torch.float64) * (SAMPLE_RATE / FFT_SIZE)
    low, centre, high = edges[:-2], edges[1:-1], edges[2:]
    rise = (bins[:, None] - low) / (centre - low).clamp(min=1.0)
    fall = (high - bins[:, None]) / (high - centre).clamp(min=1.0)
    return torch.minimum(rise, fall).clamp(min=0.0).T.float().contiguous()


def _hann(samples: int) -> Tensor:
    """A centred Hann window under which a full-scale sine has power 1."""
    window = torch.sin(math.pi * (torch.arange(samples, dtype=torch.float64) + 0.5) / samples) ** 2
    return window * (2.0 / window.sum())


def _windowed_waves(hz: Tensor, window: int) -> Tensor:
    """Cosines and sines under a centred Hann window: (2 * len(hz), 1, window); a full-scale
    sine of one of the frequencies has power 1."""
    t = torch.arange(window, dtype=torch.float64) - (window - 1) / 2
    hann = _hann(window)
    phase = 2.0 * math.pi * hz[:, None] * t / SAMPLE_RATE
    return torch.cat([torch.cos(phase) * hann, torch.sin(phase) * hann])[:, None].float()


class FrontEnd(nn.Module):
    """Waveform to normalised log spectra at 100 Hz and energy in dBFS."""

    history_samples = WINDOW_SAMPLES - FRAME_SAMPLES
    mean_size = MEL_BANDS + 1

    dft: Tensor
    hann: Tensor
    mel: Tensor
    lines: Tensor
    centring: Tensor
    averaging: Tensor
    energy_window: Tensor

    def __init__(self) -> None:
        super().__init__()
        bins = torch.arange(FFT_SIZE // 2 + 1, dtype=torch.float64) * (SAMPLE_RATE / FFT_SIZE)
        self.register_buffer("dft", _windowed_waves(bins, MEL_WINDOW_SAMPLES), persistent=False)
        self.register_buffer("hann", _hann(MEL_WINDOW_SAMPLES).float(), persistent=False)
        self.register_buffer("mel", mel_matrix(), persistent=False)
        hz = 50.0 + PITCH_SPACING * torch.arange(PITCH_LINES, dtype=torch.float64)
        self.register_buffer("lines", _windowed_waves(hz, WINDOW_SAMPLES), persistent=False)
        # Matrix products, since ONNX Runtime's mean over channels depends on the batch's size.
        self.register_buffer("centring", torch.eye(PITCH_LINES) - 1.0 / PITCH_LINES, False)
        averaging = torch.full((MEL_BANDS, MEL_BANDS), 1.0 / MEL_BANDS)
        self.register_buffer("averaging", averaging, False)
        t = torch.arange(WINDOW_SAMPLES, dtype=torch.float64) + 0.5
        hann = torch.sin(math.pi * t / WINDOW_SAMPLES) ** 2
        hann = (hann / hann.sum()).float().expand(CHUNK_ROWS, 1, -1)
        self.register_buffer("energy_window", hann.clone(), False)

    def forward(
        self, samples: Tensor, mean_state: Tensor, mel: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """
        :param samples: (B, history_samples + 160 * F), F even
        :param mean_state: (B, MEL_BANDS + 1) weighted sum of log spectra, sum of weights
        :param mel: (B, MEL_BANDS, FFT_SIZE / 2 + 1) other filters for each row (augmentation)
        :return: spectra (B, INPUT_DIM, F), energy in dBFS (B, F / 2), the next mean state
        """
        audio = samples[:, None]
        margin = (WINDOW_SAMPLES - MEL_WINDOW_SAMPLES) // 2
        if self.training:  # the same by a fast transform, which is not in the exported graph
            frames = samples[:, margin:-margin].unfold(1, MEL_WINDOW_SAMPLES, FRAME_SAMPLES)
            waves = torch.fft.rfft(frames * self.hann, n=FFT_SIZE)
            power = torch.view_as_real(waves).square().sum(-1).transpose(1, 2)
        else:
            filtered = F.conv1d(audio[:, :, margin:-margin], self.dft, stride=FRAME_SAMPLES)
            real, imaginary = filtered.chunk(2, 1)
            power = real * real + imaginary * imaginary
        bands = torch.matmul(self.mel if mel is None else mel, power)
        log_mel = torch.log(bands + LOG_FLOOR).transpose(1, 2)

        real, imaginary = F.conv1d(audio, self.lines, stride=FRAME_SAMPLES).chunk(2, 1)
        log_lines = torch.log(real * real + imaginary * imaginary + LOG_FLOOR)
        log_lines = torch.matmul(self.centring, log_lines)

        # Running mean as one product with a lower triangular matrix of decays.
        count = log_mel.shape[1]
        weight = torch.exp(0.5 * torch.matmul(log_mel, self.averaging))
        weighted = torch.cat([weight * log_mel, weight[:, :, :1]], 2)
        steps = torch.arange(count, dtype=torch.float32, device=samples.device)
        decay = -1.0 / (MEAN_SECONDS * SAMPLE_RATE / FRAME_SAMPLES)
        lag = steps[:, None] - steps[None]
        matrix = torch.exp(decay * lag.clamp(min=0.0)) * (lag >= 0.0).float()
        sums = torch.matmul(matrix, weighted)
        sums = sums + torch.exp(decay * (steps + 1.0))[:, None] * mean_state[:, None]
        mean = (sums[:, :, :-1] + MEAN_PRIOR_WEIGHT * MEAN_PRIOR) / (
            sums[:, :, -1:] + MEAN_PRIOR_WEIGHT
        )

        raw = (log_mel - MEAN_PRIOR) * 0.25
        relative = (log_mel - mean) * 0.5
        spectra = torch.cat([raw, relative], 2).transpose(1, 2)
        spectra = torch.cat([spectra, log_lines * 0.5], 1)

        second = audio[:, :, FRAME_SAMPLES:]  # every second frame is a row's centre
        square = F.conv1d(second * second, self.energy_window, stride=ROW_SAMPLES)
        energy = 10.0 * torch.log10(square + 1e-10)[:, 0]
        return spectra, energy, sums[:, -1]


class ResidualBlock(nn.Module):
    """Causal dilated convolution, then a pointwise one, around an identity path."""

    def __init__(self, channels: int, dilation: int) -> None:
        super().__init__()
        self.history = 2 * dilation
        self.dilated = nn.Conv1d(channels, channels, 3, dilation=dilation, bias=False)
        self.norm1: nn.Module = nn.BatchNorm1d(channels)
        self.pointwise = nn.Conv1d(channels, channels, 1, bias=False)
        self.norm2: nn.Module = nn.BatchNorm1d(channels)

    def forward(self, x: Tensor, history: Tensor) -> tuple[Tensor, Tensor]:
        joined = torch.cat([history, x], 2)
        y = F.relu(self.norm1(self.dilated(joined)))
        y = F.relu(x + self.norm2(self.pointwise(y)))
        return y, joined[:, :, -self.history :]


class SpeechEncoder(nn.Module):
    """The encoder (see the module's docstring); `forward` is the exported graph."""

    log2_f0: Tensor

    def __init__(
        self, channels: int = 256, dilations: tuple[int, ...] = (1, 2, 4, 8, 1, 2, 4, 8)
    ) -> None:
        super().__init__()
        self.front = FrontEnd()
        self.first = nn.Conv1d(INPUT_DIM, channels, FIRST_KERNEL, stride=2, bias=False)
        self.first_norm: nn.Module = nn.BatchNorm1d(channels)
        self.blocks = nn.ModuleList(ResidualBlock(channels, d) for d in dilations)
        self.phones = nn.Conv1d(channels, len(PHONES), 1)
        self.articulation = nn.Conv1d(channels, len(ARTICULATION), 1)
        self.embedding = nn.Conv1d(channels, EMBEDDING_DIM, 1)
        self.embedding_norm: nn.Module = nn.BatchNorm1d(EMBEDDING_DIM, affine=False)
        self.voice = nn.Conv1d(channels, VOICE_FLAGS + F0_BINS, 1)
        octaves = torch.arange(F0_BINS, dtype=torch.float32) / F0_PER_OCTAVE
        self.register_buffer("log2_f0", math.log2(F0_LOW) + octaves[None], False)
        self.state_shapes: list[tuple[int, ...]] = [
            (self.front.history_samples,),
            (self.front.mean_size,),
            (INPUT_DIM, FIRST_KERNEL - 2),
            *((channels, 2 * d) for d in dilations),
            (DELAY_ROWS,),
        ]
        self.state_size = sum(math.prod(shape) for shape in self.state_shapes)

    def initial_state(self, batch: int = 1) -> Tensor:
        """The state before a stream's first sample: (batch, state_size), zero."""
        return torch.zeros(batch, self.state_size, device=self.first.weight.device)

    def trunk(
        self, pcm: Tensor, state: Tensor, mel: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Hidden rows and energy; see `forward` for shapes.

        :return: hidden (B, channels, rows), energy in dBFS (B, rows), next state
        """
        sizes = [math.prod(shape) for shape in self.state_shapes]
        parts = [
            part.reshape(-1, *shape)
            for part, shape in zip(torch.split(state, sizes, 1), self.state_shapes, strict=True)
        ]
        samples = torch.cat([parts[0], pcm], 1)
        with torch.autocast(pcm.device.type, enabled=False):
            spectra, energy, mean = self.front(samples, parts[1], mel)
        following = [samples[:, -self.front.history_samples :], mean]
        spectra = torch.cat([parts[2], spectra], 2)
        following.append(spectra[:, :, 2 - FIRST_KERNEL :])
        x = F.relu(self.first_norm(self.first(spectra)))
        for block, history in zip(self.blocks, parts[3:-1], strict=True):
            x, history = block(x, history)
            following.append(history)
        # The network sees DELAY_ROWS rows ahead; energy is delayed as much to match it.
        energy = torch.cat([parts[-1], energy], 1)
        following.append(energy[:, -DELAY_ROWS:])
        following = [part.float().flatten(1) for part in following]
        return x, energy[:, :-DELAY_ROWS], torch.cat(following, 1)

    def forward(self, pcm: Tensor, state: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """
        :param pcm: (B, 640 * K) samples in [-1, 1] at 16 kHz; K = 1 in the exported graph
        :param state: (B, state_size), zero at the start of a stream
        :return: features (B, 2 K, 128): phone posteriors, articulation in [0, 1], embedding of
            unit variance; speech (B, 2 K, 4): voice activity, energy in dBFS, log2 of F0 in Hz
            (0 where unvoiced), voicing; next state. The first row is that of 60 ms before the
            first sample of `pcm`.
        """
        hidden, energy, following = self.trunk(pcm, state)
        features = torch.cat(
            [
                torch.softmax(self.phones(hidden), 1),
                torch.sigmoid(self.articulation(hidden)),
                self.embedding_norm(self.embedding(hidden)),
            ],
            1,
        )
        voice = self.voice(hidden)
        flags = torch.sigmoid(voice[:, :VOICE_FLAGS])
        activity, voicing = flags[:, :1], flags[:, 1:2]
        log2_f0 = torch.matmul(self.log2_f0, torch.softmax(voice[:, VOICE_FLAGS:], 1))
        log2_f0 = log2_f0 * (voicing > 0.5).float()
        speech = torch.cat([activity, energy[:, None], log2_f0, voicing], 1)
        return features.transpose(1, 2), speech.transpose(1, 2), following

    @torch.no_grad()
    def encode(self, pcm: Tensor) -> tuple[Tensor, Tensor]:
        """Encode whole clips of any length, `ENCODE_CHUNKS` at once: the same rows as of a stream.

        :param pcm: (B, N) samples
        :return: features (B, ceil(N / 320), 128), speech (B, ceil(N / 320), 4)
        """
        rows = -(-pcm.shape[1] // ROW_SAMPLES)
        chunks = -(-(rows + DELAY_ROWS) // CHUNK_ROWS)
        pcm = F.pad(pcm, (0, chunks * CHUNK_SAMPLES - pcm.shape[1]))
        state = self.initial_state(len(pcm))
        parts = []
        for part in pcm.split(ENCODE_CHUNKS * CHUNK_SAMPLES, 1):
            features, speech, state = self(part, state)
            parts.append(torch.cat([features, speech], 2))
        joined = torch.cat(parts, 1)[:, DELAY_ROWS : DELAY_ROWS + rows]
        return joined[:, :, :-SPEECH_DIM], joined[:, :, -SPEECH_DIM:]


def _folded(convolution: nn.Module, norm: nn.Module) -> nn.Conv1d:
    assert isinstance(convolution, nn.Conv1d)
    assert isinstance(norm, nn.BatchNorm1d)
    return fuse_conv_bn_eval(convolution, norm)


def fold_norms(model: SpeechEncoder) -> SpeechEncoder:
    """Batch norms melted into the convolutions before them; the same function in eval mode."""
    model.first = _folded(model.first, model.first_norm)
    model.embedding = _folded(model.embedding, model.embedding_norm)
    model.first_norm = model.embedding_norm = nn.Identity()
    for block in model.blocks:
        assert isinstance(block, ResidualBlock)
        block.dilated = _folded(block.dilated, block.norm1)
        block.pointwise = _folded(block.pointwise, block.norm2)
        block.norm1 = block.norm2 = nn.Identity()
    return model
