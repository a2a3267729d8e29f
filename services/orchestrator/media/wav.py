"""Plain WAV files, read without FFmpeg, which looks at 64 KiB of them before it hands out sound."""

from __future__ import annotations

import struct
from dataclasses import dataclass

# Where the samples of a file must begin for it to be plain.
MAX_HEADER = 4096

_PCM, _FLOAT, _EXTENSIBLE = 1, 3, 0xFFFE
_DTYPES = {(_PCM, 16): "<i2", (_FLOAT, 32): "<f4"}
_OPEN_ENDED = (0, 0xFFFFFFFF)  # sizes that a writer states who does not know the end


@dataclass(frozen=True)
class WavLayout:
    """Where the samples lie, and what they are."""

    dtype: str
    rate: int
    channels: int
    begin: int  # byte of the first sample
    size: int | None  # bytes of samples; None: to the end of the file


def wav_layout(head: bytes) -> WavLayout | None:
    """The layout of a WAV file by its first bytes.

    :return: None where they do not tell: too few of them, or no 16-bit or float samples.
    """
    if head[:4] != b"RIFF" or head[8:12] != b"WAVE":
        return None
    position = 12
    form: tuple[str, int, int] | None = None
    while position + 8 <= len(head):
        kind, size = struct.unpack_from("<4sI", head, position)
        position += 8
        if kind == b"data":
            if form is None:
                return None
            return WavLayout(*form, position, None if size in _OPEN_ENDED else size)
        if kind == b"fmt " and size >= 16 and position + size <= len(head):
            tag, channels, rate, _, _, bits = struct.unpack_from("<HHIIHH", head, position)
            if tag == _EXTENSIBLE and size >= 40:
                tag = struct.unpack_from("<H", head, position + 24)[0]
            if (tag, bits) not in _DTYPES:
                return None
            form = _DTYPES[tag, bits], rate, channels
        position += size + size % 2
    return None
