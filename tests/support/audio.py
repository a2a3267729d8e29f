"""Speech as the clients of tests send it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import numpy as np

RATE = 16_000  # Hz
CHUNK_SECONDS = 0.04  # of audio in one message


def pcm16(voice: np.ndarray, seconds: float | None = None, rate: int = RATE) -> bytes:
    """Speech as 16-bit samples.

    :param voice: (n,) float in -1..1.
    :param seconds: repeat or cut it to this length.
    :param rate: sample rate in Hz, by which `seconds` are counted.
    """
    samples = voice if seconds is None else np.resize(voice, round(seconds * rate))
    return np.rint(np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes()


async def paced(audio: bytes, interval: float) -> AsyncIterator[bytes]:
    """Chunks of `CHUNK_SECONDS`, one each `interval` seconds; as long is the pace of speech."""
    size = round(RATE * CHUNK_SECONDS) * 2
    began = time.perf_counter()
    for number, first in enumerate(range(0, len(audio), size)):
        await asyncio.sleep(began + number * interval - time.perf_counter())
        yield audio[first : first + size]
