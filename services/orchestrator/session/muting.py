"""Silence after an interruption: for what was sent to the stages and has not been shown yet.

The playout buffer runs a little ahead of the clock (`AHEAD_SECONDS`). That much of the voice cannot
be called back from the speech encoder, but it need be neither heard nor seen: the sound that has
not gone out is faded (`media.fading`), and the rows that the motion generator has not been given
yet are made those of silence, so that the mouth closes with the next motion that is made.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from talkingface.contract.speech_features import ENERGY, SPEECH_DIM, VOICE_ACTIVITY
from talkingface.v1 import audio_features_pb2 as audio_features

Array = NDArray[np.float32]

_SILENT_DBFS = -100.0
_QUIET_VOICE, _QUIET_DBFS = 0.1, -60.0  # rows below both are rows of silence


class FeatureMuter:
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

    def mute(self, until: int) -> int:
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
