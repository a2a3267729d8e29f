"""Reads the header of plain WAV files.

They are decoded without FFmpeg, which reads 64 KiB of them before it returns audio.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

# Bytes within which the samples of a plain file must begin.
MAX_HEADER = 4096

_PCM, _FLOAT, _EXTENSIBLE = 1, 3, 0xFFFE
_DTYPES = {(_PCM, 16): "<i2", (_FLOAT, 32): "<f4"}
_OPEN_ENDED = (0, 0xFFFFFFFF)  # sizes written by programs that do not know the length yet


@dataclass(frozen=True)
class WavLayout:
    """Position and format of the samples."""

    dtype: str  # NumPy name of the sample type
    rate: int  # samples per second
    channels: int
    begin: int  # offset of the first sample, in bytes
    size: int | None  # size of the samples, in bytes; None: up to the end of the file


def wav_layout(head: bytes) -> WavLayout | None:
    """Return the layout of a WAV file, given its first bytes.

    :return: None if there are too few bytes, or if the samples are neither 16-bit nor float.
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
