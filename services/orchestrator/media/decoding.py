"""Decodes the client's audio while it arrives.

`AudioIntake` is what a session uses: it takes bytes and returns checked and counted `AudioChunk`s.
The result does not depend on how the bytes are split, and no more is held in memory than one
message of them decodes to.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import soxr

from talkingface.contract.arrays import Float32Array
from talkingface.contract.errors import ServiceError, invalid_field
from talkingface.contract.rates import SAMPLE_RATE
from talkingface.orchestrator.media.file_decoder import FileDecoder
from talkingface.orchestrator.media.wav import MAX_HEADER, wav_layout
from talkingface.v1 import media_pb2 as media

MIN_RATE, MAX_RATE = 8_000, 48_000  # Hz
MIN_SECONDS, MAX_SECONDS = 0.2, 600.0
# Amplitude beyond which a float sample is not audio in [-1, 1] with some overshoot, but audio in
# another scale.
PEAK_LIMIT = 8.0
# Approximate length of the chunks that audio is processed in, whatever the size of the messages.
_CHUNK_SECONDS = 0.25


@dataclass(frozen=True)
class AudioChunk:
    """Successive audio in two forms.

    Both forms cover the same stretch of audio over the whole session; within one chunk they differ
    by the delay of the resampler.
    """

    source: Float32Array  # (n, 1 or 2) float32 at the rate of the source
    mono_16k: Float32Array  # (m,) float32 in [-1, 1], mono, 16 kHz


class Resampler:
    """Resamples a stream of audio to exactly ceil(n * rate_out / rate_in) samples in total."""

    def __init__(self, rate_in: int, rate_out: int, channels: int) -> None:
        """
        :param rate_in: samples per second of the input.
        :param rate_out: samples per second of the output.
        """
        self._rates = rate_in, rate_out
        self._channels = channels
        self._consumed = 0
        self._produced = 0
        self._stream = (
            None
            if rate_in == rate_out
            else soxr.ResampleStream(rate_in, rate_out, channels, dtype="float32")
        )

    def push(self, samples: Float32Array, *, last: bool = False) -> Float32Array:
        """Resample (n, channels) samples.

        :param last: whether to return what the filter still holds as well.
        """
        self._consumed += len(samples)
        if self._stream is None:
            return samples
        flat = samples[:, 0] if self._channels == 1 else samples
        resampled = self._stream.resample_chunk(np.ascontiguousarray(flat), last=last)
        out: Float32Array = resampled.reshape(-1, self._channels)
        if last:
            rate_in, rate_out = self._rates
            total = math.ceil(self._consumed * rate_out / rate_in)
            missing = total - self._produced - len(out)
            out = np.pad(out, ((0, missing), (0, 0))) if missing > 0 else out[: len(out) + missing]
        self._produced += len(out)
        return out


class Decoder(Protocol):
    """Turns bytes into samples: what `PcmDecoder` and `FileDecoder` have in common."""

    @property
    def rate(self) -> int:
        """Samples per second; 0 while unknown."""

    @property
    def channels(self) -> int:
        """1 or 2; 0 while unknown."""

    def push(self, data: bytes) -> Iterator[Float32Array]:
        """Yield the samples, (n, channels), that the next bytes complete."""

    def end(self) -> Iterator[Float32Array]:
        """Yield the samples that only the end of the bytes completes."""

    def close(self) -> None:
        """Release everything, also before the end. It may be called twice."""


class PcmDecoder:
    """Decodes raw interleaved little-endian samples, split at any byte."""

    def __init__(self, dtype: str, rate: int, channels: int) -> None:
        """
        :param dtype: NumPy name of the sample type.
        :param rate: samples per second.
        """
        self.rate = rate
        self.channels = channels
        self._dtype = np.dtype(dtype)
        self._incomplete = b""  # beginning of the next sample

    def push(self, data: bytes) -> Iterator[Float32Array]:
        """See `Decoder`."""
        data = self._incomplete + data
        sample_bytes = self._dtype.itemsize * self.channels
        whole = len(data) - len(data) % sample_bytes
        self._incomplete = data[whole:]
        step = int(_CHUNK_SECONDS * self.rate) * sample_bytes
        for first in range(0, whole, step):
            samples = np.frombuffer(data[first : min(first + step, whole)], self._dtype)
            chunk = samples.astype(np.float32).reshape(-1, self.channels)
            yield chunk / np.float32(32768) if self._dtype.kind == "i" else chunk

    def end(self) -> Iterator[Float32Array]:
        """See `Decoder`.

        :raises ServiceError: AUDIO_BROKEN if the last sample is incomplete.
        """
        if self._incomplete:
            raise ServiceError(
                "AUDIO_BROKEN",
                f"the audio ends {len(self._incomplete)} bytes into a sample of all channels",
            )
        yield from ()

    def close(self) -> None:
        """See `Decoder`."""


class AnyFileDecoder:
    """Decodes an audio file: plain WAV without FFmpeg, and everything else with it."""

    def __init__(self) -> None:
        self._head = b""
        self._inner: Decoder | None = None
        self._remaining: int | None = None  # bytes of samples in the file; None: all that follow

    @property
    def rate(self) -> int:
        """See `Decoder`."""
        return self._inner.rate if self._inner else 0

    @property
    def channels(self) -> int:
        """See `Decoder`."""
        return self._inner.channels if self._inner else 0

    def push(self, data: bytes) -> Iterator[Float32Array]:
        """See `Decoder`."""
        if self._inner is None:
            self._head += data
            data = self._open(last=False)
        if self._inner is not None:
            if self._remaining is not None:
                data = data[: self._remaining]
                self._remaining -= len(data)
            yield from self._inner.push(data)

    def end(self) -> Iterator[Float32Array]:
        """See `Decoder`."""
        data = self._open(last=True) if self._inner is None else b""
        if self._inner is not None:
            yield from self._inner.push(data)
            # An incomplete last sample of a WAV file is ignored.
            if not isinstance(self._inner, PcmDecoder):
                yield from self._inner.end()

    def close(self) -> None:
        """See `Decoder`."""
        if self._inner is not None:
            self._inner.close()

    def _open(self, *, last: bool) -> bytes:
        """Choose a decoder as soon as the first bytes identify the format.

        :param last: whether no more bytes follow.
        :return: the bytes for the decoder.
        """
        head = self._head
        layout = wav_layout(head)
        if layout is not None and MIN_RATE <= layout.rate <= MAX_RATE and layout.channels in (1, 2):
            self._inner = PcmDecoder(layout.dtype, layout.rate, layout.channels)
            self._remaining = layout.size
            head = head[layout.begin :]
        elif layout is None and head[:4] == b"RIFF" and len(head) < MAX_HEADER and not last:
            return b""
        elif head:
            self._inner = FileDecoder(MIN_RATE, MAX_RATE, MAX_SECONDS, _CHUNK_SECONDS)
        self._head = b""
        return head


# NumPy types of the samples of raw PCM, by encoding.
PCM_DTYPES = {media.AUDIO_ENCODING_PCM_S16LE: "<i2", media.AUDIO_ENCODING_PCM_F32LE: "<f4"}


def sample_bytes(audio_format: media.AudioFormat) -> int:
    """Return the size in bytes of one sample of all channels of raw PCM."""
    return np.dtype(PCM_DTYPES[audio_format.encoding]).itemsize * audio_format.channels


def _decoder(audio_format: media.AudioFormat) -> Decoder:
    """Return the decoder of a format.

    :raises ServiceError: FIELD_INVALID, with the field.
    """
    encoding, rate = audio_format.encoding, audio_format.sample_rate

    def require(true: bool, field: str, message: str) -> None:
        if not true:
            raise invalid_field(f"config.audio.{field}", message)

    if encoding == media.AUDIO_ENCODING_FILE:
        require(rate == 0, "sample_rate", "must be 0 for a file, which states it itself")
        require(
            audio_format.channels == 0, "channels", "must be 0 for a file, which states it itself"
        )
        return AnyFileDecoder()
    require(encoding in PCM_DTYPES, "encoding", "must be stated: PCM_S16LE, PCM_F32LE or FILE")
    require(MIN_RATE <= rate <= MAX_RATE, "sample_rate", f"{rate} is outside 8000..48000")
    require(audio_format.channels in (1, 2), "channels", f"{audio_format.channels} is not 1 or 2")
    return PcmDecoder(PCM_DTYPES[encoding], rate, audio_format.channels)


class AudioIntake:
    """Decodes, checks, resamples and counts the audio of one session.

    `push` and `end` are generators, which decode only as far as they are iterated.
    """

    def __init__(
        self,
        audio_format: media.AudioFormat,
        max_seconds: float = MAX_SECONDS,
        first_sample: int = 0,
    ) -> None:
        """
        :param max_seconds: longest audio that is accepted.
        :param first_sample: index of the first sample to arrive, at the rate of the source.
        :raises ServiceError: FIELD_INVALID if the format is not supported.
        """
        self._max_seconds = max_seconds
        self._decoder = _decoder(audio_format)
        self._blocking = audio_format.encoding == media.AUDIO_ENCODING_FILE
        self._resampler: Resampler | None = None
        self._samples = first_sample

    @property
    def blocking(self) -> bool:
        """Whether iterating over `push` and `end` takes so long that it belongs in a thread."""
        return self._blocking

    @property
    def rate(self) -> int:
        """Samples per second of `AudioChunk.source`; 0 while unknown."""
        return self._decoder.rate

    @property
    def channels(self) -> int:
        """Channels of `AudioChunk.source`; 0 while unknown."""
        return self._decoder.channels

    @property
    def seconds(self) -> float:
        """Length of the audio decoded so far."""
        return self._samples / self.rate if self.rate else 0.0

    def push(self, data: bytes) -> Iterator[AudioChunk]:
        """Decode the next bytes.

        :raises ServiceError: AUDIO_BROKEN, AUDIO_NOT_FINITE or AUDIO_TOO_LONG.
        """
        for samples in self._decoder.push(data):
            yield self._convert(samples)

    def end(self) -> Iterator[AudioChunk]:
        """Decode the rest, after the last bytes.

        :raises ServiceError: as `push`, and AUDIO_TOO_SHORT.
        """
        for samples in self._decoder.end():
            yield self._convert(samples)
        if self._resampler is None or self.seconds < MIN_SECONDS:
            raise ServiceError(
                "AUDIO_TOO_SHORT",
                f"the audio has {self.seconds:.3f} s, less than {MIN_SECONDS:g} s",
            )
        empty = np.zeros((0, self.channels), np.float32)
        tail = self._resampler.push(empty[:, :1], last=True)
        yield AudioChunk(empty, np.clip(tail[:, 0], -1, 1))

    def close(self) -> None:
        """Stop decoding, also before the end."""
        self._decoder.close()

    def _convert(self, samples: Float32Array) -> AudioChunk:
        """Check and count (n, channels) samples, and resample them."""
        if not np.isfinite(samples).all():
            raise ServiceError(
                "AUDIO_NOT_FINITE",
                f"the audio holds samples that are not finite, after {self.seconds:.3f} s",
            )
        if len(samples) and (peak := float(np.abs(samples).max())) > PEAK_LIMIT:
            raise ServiceError(
                "AUDIO_BROKEN",
                f"a sample of {peak:.5g}: floats must lie in [-1, 1]",
            )
        self._samples += len(samples)
        if self.seconds > self._max_seconds:
            raise ServiceError(
                "AUDIO_TOO_LONG",
                f"the audio is longer than {self._max_seconds:g} s",
            )
        if self._resampler is None:
            self._resampler = Resampler(self.rate, SAMPLE_RATE, 1)
        mono = samples.mean(axis=1, keepdims=True, dtype=np.float32)
        return AudioChunk(samples, np.clip(self._resampler.push(mono)[:, 0], -1, 1))
