"""Encodes a stream of audio as AAC-LC."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import av
import numpy as np
from av.audio.codeccontext import AudioCodecContext

from talkingface.contract.arrays import Float32Array
from talkingface.orchestrator.media.decoding import Resampler
from talkingface.orchestrator.media.mp4 import AudioTrack, Sample

_FRAME_SAMPLES = 1024  # of an AAC frame
_BITS_PER_CHANNEL = 96_000  # per second


class AacEncoder:
    """Encodes 1 or 2 channels at 44.1 kHz (for sources of that family) or 48 kHz.

    AAC begins with a priming frame that lies before the audio. Edit lists that hide it are ignored
    by many players of fragmented files, which then play the audio late; so the frame is omitted,
    and instead the first 21 ms fade in. The durations of the AAC frames add up to that of the
    audio.
    """

    def __init__(self, rate: int, channels: int) -> None:
        """
        :param rate: samples per second of the input.
        """
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
        self._held = np.zeros((0, channels), np.float32)  # less than one AAC frame
        self._consumed = 0  # samples passed to the encoder
        self._produced = 0  # ticks of the AAC frames returned
        self._priming = True
        self.track = AudioTrack(aac_rate, channels, bytes(context.extradata or b""))

    def push(self, audio: Float32Array) -> list[Sample]:
        """Encode (n, channels) samples in [-1, 1]."""
        return self._encode(self._resampler.push(audio))

    def end(self) -> list[Sample]:
        """Return the AAC frames that are still held back."""
        empty = np.zeros((0, self.track.channels), np.float32)
        samples = self._encode(self._resampler.push(empty, last=True), last=True)
        return samples + self._samples(self._context.encode(None))

    def _encode(self, audio: Float32Array, *, last: bool = False) -> list[Sample]:
        held = np.concatenate([self._held, audio])
        whole = len(held) if last else len(held) - len(held) % _FRAME_SAMPLES
        self._held = held[whole:]
        samples: list[Sample] = []
        for first in range(0, whole, _FRAME_SAMPLES):
            planes = np.ascontiguousarray(held[first : min(first + _FRAME_SAMPLES, whole)].T)
            frame = av.AudioFrame.from_ndarray(planes, format="fltp", layout=self._layout)
            frame.sample_rate = self.track.rate
            frame.pts = self._consumed
            self._consumed += planes.shape[1]
            samples += self._samples(self._context.encode(frame))
        return samples

    def _samples(self, packets: Iterable[av.Packet[Any]]) -> list[Sample]:
        samples = []
        for packet in packets:
            if self._priming:
                self._priming = False
                continue
            duration = min(_FRAME_SAMPLES, self._consumed - self._produced)
            self._produced += duration
            samples.append(Sample(bytes(packet), duration))
        return samples
