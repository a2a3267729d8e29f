"""Audio files decoded while their bytes still arrive.

FFmpeg asks for bytes when it wants them, a session gives them when they come. So FFmpeg runs in a
thread of its own that takes turns with the caller: `push` hands over bytes and returns samples
until the thread asks for more. Only one of the two runs at a time, and the thread ends with the
file, at an error, or at `close`.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator

import av
import numpy as np
from av.audio.resampler import AudioResampler
from numpy.typing import NDArray

from talkingface.contract.errors import ServiceError

Array = NDArray[np.float32]

# Bytes that decide the format, and bytes given to FFmpeg at a time: a few kilobytes of a hostile
# file can decode to minutes.
_HEAD = 12
_PIECE = 4096
# Beyond these a file is broken, and bringing it down would cost seconds.
_MAX_FILE_RATE = 192_000
_MAX_FILE_CHANNELS = 8
_PATIENCE = 0.1  # seconds between looks at whether the session is over


def file_format(head: bytes) -> str | None:
    """FFmpeg's name for the container that `head`, the first 12 bytes, belongs to.

    FFmpeg's own guess is not used: it also knows play lists, which open other files.
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
    """The session is over: leave the thread."""


class FileDecoder:
    """A WAV, MP3, FLAC or Ogg file, cut anywhere. Samples come as (n, 1 or 2) float32.

    More than two channels are mixed to two, rates above `max_rate` are brought down to it.
    """

    def __init__(
        self, min_rate: int, max_rate: int, max_seconds: float, block_seconds: float
    ) -> None:
        self.rate = 0
        self.channels = 0
        self._min_rate, self._max_rate = min_rate, max_rate
        self._max_seconds, self._block_seconds = max_seconds, block_seconds
        self._head = b""
        self._buffer = b""
        # None: the file ends.
        self._bytes: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        # A block; None: more bytes are wanted; an error; True: the file is decoded.
        self._out: queue.Queue[Array | ServiceError | bool | None] = queue.Queue(maxsize=2)
        self._ended = False
        self._finished = False
        self._closed = False
        self._thread: threading.Thread | None = None

    def push(self, data: bytes) -> Iterator[Array]:
        """The samples that became known with the next bytes.

        :raises ServiceError: AUDIO_BROKEN or AUDIO_TOO_LONG.
        """
        if self._thread is None:
            self._head += data
            if len(self._head) < _HEAD:
                return
            data = self._head
            self._start()
            yield from self._turn()
        for first in range(0, len(data), _PIECE):
            if self._finished:
                return
            self._bytes.put(data[first : first + _PIECE])
            yield from self._turn()

    def end(self) -> Iterator[Array]:
        """The samples that only the end of the file reveals.

        :raises ServiceError: as `push`.
        """
        if self._thread is None:
            if self._head:
                raise ServiceError("AUDIO_BROKEN", "the audio file ends in its first bytes")
            return
        if not self._finished:
            self._bytes.put(None)
            yield from self._turn()

    def close(self) -> None:
        """End the thread, wherever it is, within `_PATIENCE`; a `push` in another thread ends."""
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

    def _turn(self) -> Iterator[Array]:
        """What the thread says until it asks for more bytes or is done."""
        while not self._closed:
            try:
                said = self._out.get(timeout=_PATIENCE)
            except queue.Empty:
                continue
            if said is None:
                return
            if isinstance(said, np.ndarray):
                yield said
                continue
            self._finished = True
            if isinstance(said, ServiceError):
                raise said
            return

    # From here on: the thread's side.

    def _say(self, what: Array | ServiceError | bool | None) -> None:
        while not self._closed:
            try:
                return self._out.put(what, timeout=_PATIENCE)
            except queue.Full:
                continue
        raise _Closed

    def read(self, size: int) -> bytes:
        """Called by FFmpeg: at most `size` bytes, none at the end of the file."""
        while not self._buffer and not self._ended:
            self._say(None)
            got = self._bytes.get()
            if self._closed:
                raise _Closed
            if got is None:
                self._ended = True
            else:
                self._buffer = got
        piece, self._buffer = self._buffer[:size], self._buffer[size:]
        return piece

    def _run(self, name: str) -> None:
        try:
            try:
                self._decode(name)
                self._say(True)
            except ServiceError as error:
                self._say(error)
            except (av.FFmpegError, ValueError, MemoryError) as error:
                text = f"the {name} file cannot be decoded: {error}"
                self._say(ServiceError("AUDIO_BROKEN", text))
        except _Closed:
            return

    def _decode(self, name: str) -> None:
        # The format is known: one frame is enough to tell rate and channels.
        options = {"probesize": "4096", "analyzeduration": "0"}
        with av.open(self, mode="r", format=name, options=options, buffer_size=_PIECE) as container:
            if not container.streams.audio:
                raise ServiceError("AUDIO_BROKEN", f"the {name} file holds no audio")
            stream = container.streams.audio[0]
            resampler: AudioResampler | None = None
            samples = 0
            held: list[Array] = []
            for frame in container.decode(stream):
                if resampler is None:
                    resampler = self._open(frame)
                for part in resampler.resample(frame):
                    block = np.array(part.to_ndarray(), np.float32).reshape(-1, self.channels)
                    samples += len(block)
                    if samples > self._max_seconds * self.rate:
                        raise ServiceError(
                            "AUDIO_TOO_LONG",
                            f"the audio is longer than {self._max_seconds:g} s",
                        )
                    held.append(block)
                if sum(map(len, held)) >= self._block_seconds * self.rate:
                    self._say(np.concatenate(held))
                    held = []
            if resampler is not None:
                held += [
                    np.array(part.to_ndarray(), np.float32).reshape(-1, self.channels)
                    for part in resampler.resample(None)
                ]
            if held:
                self._say(np.concatenate(held))

    def _open(self, frame: av.AudioFrame) -> AudioResampler:
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
