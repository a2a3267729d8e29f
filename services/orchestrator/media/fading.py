"""Fades audio out after an interruption."""

from __future__ import annotations

import numpy as np

from talkingface.contract.arrays import Float32Array

FADE_SECONDS = 0.04  # by ear


class AudioFader:
    """Fades successive audio out from one sample on, and silences it up to another one."""

    def __init__(self, rate: int) -> None:
        """
        :param rate: samples per second.
        """
        self._fade = round(FADE_SECONDS * rate)
        self._begin = self._end = 0  # samples

    def fade_out(self, begin: int, end: int) -> int:
        """Fade out from sample `begin` on, with silence up to sample `end`.

        :return: index of the first silent sample.
        """
        silent = begin + self._fade
        self._begin, self._end = begin, max(end, silent)
        return silent

    def apply(self, first: int, audio: Float32Array) -> Float32Array:
        """Return the next audio, (n,) or (n, channels), faded.

        :param first: index of its first sample.
        """
        if first >= self._end or first + len(audio) <= self._begin:
            return audio
        index = np.arange(first, first + len(audio))
        gain = np.clip(1 - (index - self._begin) / self._fade, 0, 1).astype(np.float32)
        gain[index >= self._end] = 1
        return audio * (gain[:, None] if audio.ndim == 2 else gain)
