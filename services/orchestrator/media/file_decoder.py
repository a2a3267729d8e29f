"""Decodes audio files while their bytes still arrive.

FFmpeg pulls bytes when it needs them, whereas a session receives them when they arrive. So FFmpeg
runs in a thread of its own that alternates with the caller: `push` hands over bytes and returns
samples until the thread asks for more. Only one of the two runs at a time, and the thread ends with
the file, at an error, or at `close`.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from typing import TypeAlias

import av
import numpy as np
from av.audio.resampler import AudioResampler

from talkingface.contract.arrays import Float32Array
from talkingface.contract.errors import ServiceError

_HEAD_BYTES = 12  # that identify the format
# Bytes passed to FFmpeg at a time: a few kilobytes of a malicious file can decode to minutes.
_READ_BYTES = 4096
# Limits beyond which a file counts as broken, because resampling or mixing it would take seconds.
_MAX_FILE_RATE = 192_000  # Hz
_MAX_FILE_CHANNELS = 8
_POLL_SECONDS = 0.1  # between checks whether the session is closed


def file_format(head: bytes) -> str | None:
    """Return FFmpeg's name of the container that starts with `head`, its first 12 bytes.

    FFmpeg's own detection is not used because it also recognises playlists, which open other files.
    """
    if head[:4] in (b"RIFF", b"RF64") and head[8:12] == b"WAVE":
        return "wav"
    if head[:4] == b"fLaC":
        return "flac"
    if head[:4] == b"OggS":
        return "ogg"
    # An ID3 tag, or the 11 set bits of an MPEG audio frame of layer III.
    if head[:3] == b"ID3" or (head[:1] == b"\xff" and len(head) > 1 and head[1] & 0xE6 == 0xE2):
        return "mp3"
    return None


class _Closed(Exception):
    """Ends the thread because the session is closed."""


# What the thread passes to the caller: samples, an error, None to ask for more bytes, or True after
# the whole file has been decoded.
_Output: TypeAlias = Float32Array | ServiceError | bool | None


class FileDecoder:
    """Decodes a WAV, MP3, FLAC or Ogg file, split at any byte, to (n, 1 or 2) float32 samples.

    More than two channels are mixed to two, and rates above `max_rate` are resampled to it.
    """

    def __init__(
        self, min_rate: int, max_rate: int, max_seconds: float, chunk_seconds: float
    ) -> None:
        """
        :param min_rate: lowest sample rate that is accepted, in Hz.
        :param max_rate: highest sample rate that is returned, in Hz.
        :param max_seconds: longest audio that is accepted.
        :param chunk_seconds: approximate length of the chunks that are returned.
        """
        self.rate = 0
        self.channels = 0
        self._min_rate, self._max_rate = min_rate, max_rate
        self._max_seconds, self._chunk_seconds = max_seconds, chunk_seconds
        self._head = b""
        self._buffer = b""
        # None: the file ends.
        self._bytes: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._output: queue.Queue[_Output] = queue.Queue(maxsize=2)
        self._ended = False
        self._finished = False
        self._closed = False
        self._thread: threading.Thread | None = None

    def push(self, data: bytes) -> Iterator[Float32Array]:
        """Yield the samples that the next bytes complete.

        :raises ServiceError: AUDIO_BROKEN or AUDIO_TOO_LONG.
        """
        if self._thread is None:
            self._head += data
            if len(self._head) < _HEAD_BYTES:
                return
            data = self._head
            self._start()
            yield from self._run_thread()
        for first in range(0, len(data), _READ_BYTES):
            if self._finished:
                return
            self._bytes.put(data[first : first + _READ_BYTES])
            yield from self._run_thread()

    def end(self) -> Iterator[Float32Array]:
        """Yield the samples that only the end of the file completes.

        :raises ServiceError: as `push`.
        """
        if self._thread is None:
            if self._head:
                raise ServiceError("AUDIO_BROKEN", "the audio file ends in its first bytes")
            return
        if not self._finished:
            self._bytes.put(None)
            yield from self._run_thread()

    def close(self) -> None:
        """End the thread within `_POLL_SECONDS`, and with it a `push` in another thread."""
        self._closed = True
        self._bytes.put(None)

    def _start(self) -> None:
        name = file_format(self._head)
        if name is None:
            raise ServiceError("AUDIO_BROKEN", "the audio is no WAV, MP3, FLAC or Ogg file")
        self._thread = threading.Thread(
            target=self._run, args=(name,), name="audio-decoder", daemon=True
        )
        self._thread.start()

    def _run_thread(self) -> Iterator[Float32Array]:
        """Yield what the thread decodes until it asks for more bytes or has finished."""
        while not self._closed:
            try:
                output = self._output.get(timeout=_POLL_SECONDS)
            except queue.Empty:
                continue
            if output is None:
                return
            if isinstance(output, np.ndarray):
                yield output
                continue
            self._finished = True
            if isinstance(output, ServiceError):
                raise output
            return

    # The methods below run in the thread.

    def _put(self, output: _Output) -> None:
        while not self._closed:
            try:
                return self._output.put(output, timeout=_POLL_SECONDS)
            except queue.Full:
                continue
        raise _Closed

    def read(self, size: int) -> bytes:
        """Return at most `size` bytes to FFmpeg, and none at the end of the file."""
        while not self._buffer and not self._ended:
            self._put(None)
            data = self._bytes.get()
            if self._closed:
                raise _Closed
            if data is None:
                self._ended = True
            else:
                self._buffer = data
        result, self._buffer = self._buffer[:size], self._buffer[size:]
        return result

    def _run(self, name: str) -> None:
        try:
            try:
                self._decode(name)
                self._put(True)
            except ServiceError as error:
                self._put(error)
            except (av.FFmpegError, ValueError, MemoryError) as error:
                text = f"the {name} file cannot be decoded: {error}"
                self._put(ServiceError("AUDIO_BROKEN", text))
        except _Closed:
            return

    def _decode(self, name: str) -> None:
        # The format is known, so that one frame is enough to determine rate and channels.
        options = {"probesize": "4096", "analyzeduration": "0"}
        with av.open(
            self, mode="r", format=name, options=options, buffer_size=_READ_BYTES
        ) as container:
            if not container.streams.audio:
                raise ServiceError("AUDIO_BROKEN", f"the {name} file holds no audio")
            stream = container.streams.audio[0]
            resampler: AudioResampler | None = None
            samples = 0
            held: list[Float32Array] = []
            for frame in container.decode(stream):
                if resampler is None:
                    resampler = self._open(frame)
                for part in resampler.resample(frame):
                    decoded = np.array(part.to_ndarray(), np.float32).reshape(-1, self.channels)
                    samples += len(decoded)
                    if samples > self._max_seconds * self.rate:
                        raise ServiceError(
                            "AUDIO_TOO_LONG",
                            f"the audio is longer than {self._max_seconds:g} s",
                        )
                    held.append(decoded)
                if sum(map(len, held)) >= self._chunk_seconds * self.rate:
                    self._put(np.concatenate(held))
                    held = []
            if resampler is not None:
                held += [
                    np.array(part.to_ndarray(), np.float32).reshape(-1, self.channels)
                    for part in resampler.resample(None)
                ]
            if held:
                self._put(np.concatenate(held))

    def _open(self, frame: av.AudioFrame) -> AudioResampler:
        """Set rate and channels by the first decoded frame, and return the resampler."""
        rate, channels = frame.sample_rate, frame.layout.nb_channels
        if not self._min_rate <= rate <= _MAX_FILE_RATE:
            raise ServiceError(
                "AUDIO_BROKEN",
                f"the file has {rate} samples a second, not {self._min_rate} to {_MAX_FILE_RATE}",
            )
        if not 1 <= channels <= _MAX_FILE_CHANNELS:
            raise ServiceError("AUDIO_BROKEN", f"the file has {channels} channels")
        self.channels = min(2, channels)
        self.rate = min(rate, self._max_rate)
        layout = "mono" if self.channels == 1 else "stereo"
        return AudioResampler(format="flt", layout=layout, rate=self.rate)
