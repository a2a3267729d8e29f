"""Audio for the speech encoder, cut where the encoder's hops end."""

from __future__ import annotations

import numpy as np

from talkingface.contract.arrays import Float32Array
from talkingface.contract.speech_features import CHUNK_SAMPLES


class HopBuffer:
    """Holds samples back until they complete a hop, before which the encoder cannot use them.

    Audio that arrives in small chunks then costs one message per hop instead of one per chunk, and
    no result is later.
    """

    def __init__(self, first_sample: int) -> None:
        """
        :param first_sample: index of the first sample to be pushed, at 16 kHz
        """
        self._held = np.zeros(0, np.float32)
        self._begin = first_sample  # index of the first sample that is held

    def push(self, samples: Float32Array) -> Float32Array:
        """Append samples (n,), and return those up to the end of the last complete hop (m,)."""
        joined: Float32Array = np.concatenate([self._held, samples])
        end = self._begin + len(joined)
        count = max(end - end % CHUNK_SAMPLES - self._begin, 0)
        self._held = joined[count:]
        self._begin += count
        return joined[:count]

    def end(self) -> Float32Array:
        """Return the samples that are still held (n,); no more follow."""
        return self._held
