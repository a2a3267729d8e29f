"""Audio as the client sends it, decoded as it comes.

`AudioIntake` is what a session uses: bytes in, `Sound` out, checked and counted. The result does
not depend on how the bytes are cut, and no more is held in memory than one piece of them decodes
to.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import soxr
from numpy.typing import NDArray

from talkingface.contract.errors import ServiceError, invalid_field
from talkingface.contract.rates import SAMPLE_RATE
from talkingface.orchestrator.media.file_decoder import FileDecoder
from talkingface.orchestrator.media.wav import MAX_HEADER, wav_layout
from talkingface.v1 import media_pb2 as media

Array = NDArray[np.float32]

MIN_RATE, MAX_RATE = 8_000, 48_000
MIN_SECONDS, MAX_SECONDS = 0.2, 600.0
# A float sample beyond this is no audio in [-1, 1] with some overshoot but another scale.
PEAK_LIMIT = 8.0
# Samples are handed on in pieces of about this length, whatever the messages.
_BLOCK_SECONDS = 0.25


@dataclass(frozen=True)
class Sound:
    """Successive sound, in two forms of the same moments (their lengths differ by delay)."""

    original: Array  # (n, 1 or 2) float32 at the rate of the source
    voice: Array  # (m,) float32 in [-1, 1], mono, 16 kHz


class Resampler:
    """A stream of sound at another rate: exactly ceil(n * rate_out / rate_in) samples in all."""

    def __init__(self, rate_in: int, rate_out: int, channels: int) -> None:
        self._rates = rate_in, rate_out
        self._channels = channels
        self._taken = 0
        self._given = 0
        self._stream = (
            None
            if rate_in == rate_out
            else soxr.ResampleStream(rate_in, rate_out, channels, dtype="float32")
        )

    def push(self, block: Array, *, last: bool = False) -> Array:
        """Convert (n, channels) samples; with `last` also what the filter still holds."""
        self._taken += len(block)
        if self._stream is None:
            return block
        flat = block[:, 0] if self._channels == 1 else block
        out = self._stream.resample_chunk(np.ascontiguousarray(flat), last=last)
        out = out.reshape(-1, self._channels)
        if last:
            rate_in, rate_out = self._rates
            missing = math.ceil(self._taken * rate_out / rate_in) - self._given - len(out)
            out = np.pad(out, ((0, missing), (0, 0))) if missing > 0 else out[: len(out) + missing]
        self._given += len(out)
        return out


class Decoder(Protocol):
    """Bytes to samples: what `PcmDecoder` and `FileDecoder` have in common."""

    @property
    def rate(self) -> int:
        """Samples a second; 0 while unknown."""

    @property
    def channels(self) -> int:
        """1 or 2; 0 while unknown."""

    def push(self, data: bytes) -> Iterator[Array]:
        """The samples, (n, channels), that became known with the next bytes."""

    def end(self) -> Iterator[Array]:
        """The samples that only the end of the bytes reveals."""

    def close(self) -> None:
        """Give everything back, also in the middle. Calling it twice is fine."""


class PcmDecoder:
    """Raw interleaved little-endian samples, cut anywhere."""

    def __init__(self, dtype: str, rate: int, channels: int) -> None:
        self.rate = rate
        self.channels = channels
        self._dtype = np.dtype(dtype)
        self._rest = b""

    def push(self, data: bytes) -> Iterator[Array]:
        """See `Decoder`."""
        data = self._rest + data
        sample_bytes = self._dtype.itemsize * self.channels
        whole = len(data) - len(data) % sample_bytes
        self._rest = data[whole:]
        step = int(_BLOCK_SECONDS * self.rate) * sample_bytes
        for first in range(0, whole, step):
            samples = np.frombuffer(data[first : min(first + step, whole)], self._dtype)
            block = samples.astype(np.float32).reshape(-1, self.channels)
            yield block / np.float32(32768) if self._dtype.kind == "i" else block

    def end(self) -> Iterator[Array]:
        """See `Decoder`.

        :raises ServiceError: AUDIO_BROKEN when the last sample is not whole.
        """
        if self._rest:
            raise ServiceError(
                "AUDIO_BROKEN",
                f"the audio ends {len(self._rest)} bytes into a sample of all channels",
            )
        yield from ()

    def close(self) -> None:
        """See `Decoder`."""


class AnyFileDecoder:
    """An audio file: a plain WAV is read here, everything else by FFmpeg."""

    def __init__(self) -> None:
        self._head = b""
        self._inner: Decoder | None = None
        self._left: int | None = None  # bytes of samples still to come

    @property
    def rate(self) -> int:
        """See `Decoder`."""
        return self._inner.rate if self._inner else 0

    @property
    def channels(self) -> int:
        """See `Decoder`."""
        return self._inner.channels if self._inner else 0

    def push(self, data: bytes) -> Iterator[Array]:
        """See `Decoder`."""
        if self._inner is None:
            self._head += data
            data = self._open(last=False)
        if self._inner is not None:
            if self._left is not None:
                data = data[: self._left]
                self._left -= len(data)
            yield from self._inner.push(data)

    def end(self) -> Iterator[Array]:
        """See `Decoder`."""
        data = self._open(last=True) if self._inner is None else b""
        if self._inner is not None:
            yield from self._inner.push(data)
            if not isinstance(self._inner, PcmDecoder):  # a cut off sample of a WAV is left out
                yield from self._inner.end()

    def close(self) -> None:
        """See `Decoder`."""
        if self._inner is not None:
            self._inner.close()

    def _open(self, *, last: bool) -> bytes:
        """Choose a decoder as soon as the first bytes tell which; the bytes that it gets."""
        head = self._head
        layout = wav_layout(head)
        if layout is not None and MIN_RATE <= layout.rate <= MAX_RATE and layout.channels in (1, 2):
            self._inner = PcmDecoder(layout.dtype, layout.rate, layout.channels)
            self._left = layout.size
            head = head[layout.begin :]
        elif layout is None and head[:4] == b"RIFF" and len(head) < MAX_HEADER and not last:
            return b""
        elif head:
            self._inner = FileDecoder(MIN_RATE, MAX_RATE, MAX_SECONDS, _BLOCK_SECONDS)
        self._head = b""
        return head


# Samples of raw PCM, by encoding.
PCM_DTYPES = {media.AUDIO_ENCODING_PCM_S16LE: "<i2", media.AUDIO_ENCODING_PCM_F32LE: "<f4"}


def sample_bytes(audio_format: media.AudioFormat) -> int:
    """Bytes of a sample of all channels of raw sound."""
    return np.dtype(PCM_DTYPES[audio_format.encoding]).itemsize * audio_format.channels


def _decoder(audio_format: media.AudioFormat) -> Decoder:
    """:raises ServiceError: FIELD_INVALID, with the field."""
    encoding, rate = audio_format.encoding, audio_format.sample_rate

    def require(true: bool, field: str, message: str) -> None:
        if not true:
            raise invalid_field(f"config.audio.{field}", message)

    if encoding == media.AUDIO_ENCODING_FILE:
        require(rate == 0, "sample_rate", "must be 0 for a file: the file tells it")
        require(audio_format.channels == 0, "channels", "must be 0 for a file: the file tells it")
        return AnyFileDecoder()
    require(encoding in PCM_DTYPES, "encoding", "must be stated: PCM_S16LE, PCM_F32LE or FILE")
    require(MIN_RATE <= rate <= MAX_RATE, "sample_rate", f"{rate} is outside 8000..48000")
    require(audio_format.channels in (1, 2), "channels", f"{audio_format.channels} is not 1 or 2")
    return PcmDecoder(PCM_DTYPES[encoding], rate, audio_format.channels)


class AudioIntake:
    """The audio of one session: decodes, checks, resamples and counts.

    `push` and `end` are generators: what they have not been asked for yet is not decoded yet.
    """

    def __init__(
        self,
        audio_format: media.AudioFormat,
        max_seconds: float = MAX_SECONDS,
        first_sample: int = 0,
    ) -> None:
        """
        :param first_sample: number of the first sample that comes.
        :raises ServiceError: FIELD_INVALID when the format is not one that is served.
        """
        self._max_seconds = max_seconds
        self._decoder = _decoder(audio_format)
        self._blocking = audio_format.encoding == media.AUDIO_ENCODING_FILE
        self._resampler: Resampler | None = None
        self._samples = first_sample

    @property
    def blocking(self) -> bool:
        """Whether `push` and `end` take long enough to be called in a thread."""
        return self._blocking

    @property
    def rate(self) -> int:
        """Samples a second of `Sound.original`; 0 while unknown."""
        return self._decoder.rate

    @property
    def channels(self) -> int:
        """Channels of `Sound.original`; 0 while unknown."""
        return self._decoder.channels

    @property
    def seconds(self) -> float:
        """Length of the audio decoded so far."""
        return self._samples / self.rate if self.rate else 0.0

    def push(self, data: bytes) -> Iterator[Sound]:
        """Decode the next bytes.

        :raises ServiceError: AUDIO_BROKEN, AUDIO_NOT_FINITE or AUDIO_TOO_LONG.
        """
        for block in self._decoder.push(data):
            yield self._take(block)

    def end(self) -> Iterator[Sound]:
        """Decode what is left: no more bytes come.

        :raises ServiceError: as `push`, and AUDIO_TOO_SHORT.
        """
        for block in self._decoder.end():
            yield self._take(block)
        if self._resampler is None or self.seconds < MIN_SECONDS:
            raise ServiceError(
                "AUDIO_TOO_SHORT",
                f"the audio has {self.seconds:.3f} s, less than {MIN_SECONDS:g} s",
            )
        nothing = np.zeros((0, self.channels), np.float32)
        tail = self._resampler.push(nothing[:, :1], last=True)
        yield Sound(nothing, np.clip(tail[:, 0], -1, 1))

    def close(self) -> None:
        """Stop decoding, also in the middle."""
        self._decoder.close()

    def _take(self, block: Array) -> Sound:
        if not np.isfinite(block).all():
            raise ServiceError(
                "AUDIO_NOT_FINITE",
                f"the audio holds samples that are not finite, after {self.seconds:.3f} s",
            )
        if len(block) and (peak := float(np.abs(block).max())) > PEAK_LIMIT:
            raise ServiceError(
                "AUDIO_BROKEN",
                f"a sample of {peak:.5g}: floats must lie in [-1, 1]",
            )
        self._samples += len(block)
        if self.seconds > self._max_seconds:
            raise ServiceError(
                "AUDIO_TOO_LONG",
                f"the audio is longer than {self._max_seconds:g} s",
            )
        if self._resampler is None:
            self._resampler = Resampler(self.rate, SAMPLE_RATE, 1)
        mono = block.mean(axis=1, keepdims=True, dtype=np.float32)
        return Sound(block, np.clip(self._resampler.push(mono)[:, 0], -1, 1))
