"""Fades sound out after an interruption."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]

FADE_SECONDS = 0.04


class AudioFader:
    """Successive sound; from one place on it is faded out, up to another one it is silent."""

    def __init__(self, rate: int) -> None:
        self._fade = round(FADE_SECONDS * rate)
        self._begin = self._end = 0  # samples

    def fade_out(self, begin: int, end: int) -> int:
        """Silence the samples from `begin` to `end`; the first that is silent."""
        silent = begin + self._fade
        self._begin, self._end = begin, max(end, silent)
        return silent

    def apply(self, first: int, sound: Array) -> Array:
        """Sound (n,) or (n, channels) whose first sample is number `first`."""
        if first >= self._end or first + len(sound) <= self._begin:
            return sound
        place = np.arange(first, first + len(sound))
        gain = np.clip(1 - (place - self._begin) / self._fade, 0, 1).astype(np.float32)
        gain[place >= self._end] = 1
        return sound * (gain[:, None] if sound.ndim == 2 else gain)
