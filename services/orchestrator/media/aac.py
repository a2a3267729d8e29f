"""AAC-LC encoding of a stream of sound."""

from __future__ import annotations

from collections.abc import Iterable

import av
import numpy as np
from av.audio.codeccontext import AudioCodecContext
from numpy.typing import NDArray

from talkingface.orchestrator.media.decoding import Resampler
from talkingface.orchestrator.media.mp4 import AudioTrack, Sample

Array = NDArray[np.float32]

_BLOCK = 1024
_BITS_PER_CHANNEL = 96_000


class AacEncoder:
    """Encodes 1 or 2 channels at 44.1 kHz (for sources of that family) or 48 kHz.

    AAC begins with a block of priming that lies before the sound. Edit lists that hide it are
    ignored by many players of fragmented files, which then play the sound late; so the block is
    left out, and instead the first 21 ms fade in. The durations of the blocks sum to the sound's.
    """

    def __init__(self, rate: int, channels: int) -> None:
        aac_rate = 44_100 if 44_100 % rate == 0 else 48_000
        self._layout = "mono" if channels == 1 else "stereo"
        self._resampler = Resampler(rate, aac_rate, channels)
        context = av.CodecContext.create("aac", "w")
        assert isinstance(context, AudioCodecContext)
        context.sample_rate = aac_rate
        context.layout = self._layout
        context.format = "fltp"
        context.bit_rate = _BITS_PER_CHANNEL * channels
        context.open()
        self._context = context
        self._held = np.zeros((0, channels), np.float32)
        self._taken = 0  # samples given to the encoder
        self._given = 0  # ticks of the blocks returned
        self._priming = True
        self.track = AudioTrack(aac_rate, channels, bytes(context.extradata or b""))

    def push(self, block: Array) -> list[Sample]:
        """Encode (n, channels) samples in [-1, 1]."""
        return self._encode(self._resampler.push(block))

    def end(self) -> list[Sample]:
        """The blocks that are still held back."""
        nothing = np.zeros((0, self.track.channels), np.float32)
        samples = self._encode(self._resampler.push(nothing, last=True), last=True)
        return samples + self._samples(self._context.encode(None))

    def _encode(self, block: Array, *, last: bool = False) -> list[Sample]:
        held = np.concatenate([self._held, block])
        whole = len(held) if last else len(held) - len(held) % _BLOCK
        self._held = held[whole:]
        samples: list[Sample] = []
        for first in range(0, whole, _BLOCK):
            planes = np.ascontiguousarray(held[first : min(first + _BLOCK, whole)].T)
            frame = av.AudioFrame.from_ndarray(planes, format="fltp", layout=self._layout)
            frame.sample_rate = self.track.rate
            frame.pts = self._taken
            self._taken += planes.shape[1]
            samples += self._samples(self._context.encode(frame))
        return samples

    def _samples(self, packets: Iterable[av.Packet]) -> list[Sample]:
        samples = []
        for packet in packets:
            if self._priming:
                self._priming = False
                continue
            duration = min(_BLOCK, self._taken - self._given)
            self._given += duration
            samples.append(Sample(bytes(packet), duration))
        return samples
