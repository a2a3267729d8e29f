"""Silence after an interruption: for what was sent to the stages and has not been shown yet.

The feed runs a little ahead of the clock (`live.AHEAD_SECONDS`). That much of the voice cannot be
called back from the speech encoder, but it need be neither heard nor seen: the sound that has not
gone out is faded, and the rows that the motion generator has not been given yet are made those of
silence, so that the mouth closes with the next motion that is made.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from talkingface.contract.speech_features import ENERGY, SPEECH_DIM, VOICE_ACTIVITY
from talkingface.v1 import audio_features_pb2 as audio_features

Array = NDArray[np.float32]

FADE_SECONDS = 0.04
_SILENT_DBFS = -100.0
_QUIET_VOICE, _QUIET_DBFS = 0.1, -60.0  # rows below both are rows of silence


class SoundHush:
    """Successive sound; from one place on it is faded out, up to another one it is silent."""

    def __init__(self, rate: int) -> None:
        self._fade = round(FADE_SECONDS * rate)
        self._begin = self._end = 0  # samples

    def hush(self, begin: int, end: int) -> int:
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


class RowHush:
    """Successive rows of the speech encoder; up to one of them they are those of silence.

    Silence is what the encoder itself has last made of it; before it has heard any, it is zeros,
    as before the beginning of a stream.
    """

    def __init__(self, first_row: int = 0) -> None:
        """
        :param first_row: that comes.
        """
        self.given = first_row
        self._until = 0
        self._embedding = b""
        prosody = np.zeros(SPEECH_DIM, "<f4")
        prosody[ENERGY] = _SILENT_DBFS
        self._prosody = prosody.tobytes()

    def hush(self, until: int) -> int:
        """Silence the rows not given yet that lie before `until`; the first of them."""
        self._until = until
        return self.given

    def apply(self, message: audio_features.AudioFeatures) -> audio_features.AudioFeatures:
        """The next rows, as the motion generator is to hear them."""
        rows = message.rows
        self.given = message.first_row + rows
        width = len(message.embedding) // max(rows, 1)
        step = 4 * SPEECH_DIM
        count = min(max(self._until - message.first_row, 0), rows)
        if not count:
            last = np.frombuffer(message.prosody[-step:], "<f4")
            if rows and last[VOICE_ACTIVITY] < _QUIET_VOICE and last[ENERGY] < _QUIET_DBFS:
                self._embedding = message.embedding[-width:]
                self._prosody = message.prosody[-step:]
            return message
        silence = self._embedding or bytes(width)
        return audio_features.AudioFeatures(
            first_row=message.first_row,
            rows=rows,
            embedding=silence * count + message.embedding[count * width :],
            prosody=self._prosody * count + message.prosody[count * step :],
        )
