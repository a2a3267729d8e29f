"""Replaces features by silence after an interruption, for audio that was sent but not yet shown.

The playout buffer runs a little ahead of the clock (`AHEAD_SECONDS`). That much audio cannot be
recalled from the speech encoder, but it need be neither heard nor seen: the audio that has not been
sent to the client is faded out (`media.fading`), and the rows that have not been sent to the motion
generator are replaced by silence, so that the mouth closes with the next motion that is made.
"""

from __future__ import annotations

import numpy as np

from talkingface.contract.speech_features import ENERGY, SPEECH_DIM, VOICE_ACTIVITY
from talkingface.v1 import audio_features_pb2 as audio_features

_SILENT_DBFS = -100.0
# Probability of speech and energy below which a row counts as silence.
_QUIET_PROBABILITY, _QUIET_DBFS = 0.1, -60.0


class FeatureMuter:
    """Replaces rows of the speech encoder before a given one by silence.

    Silence is the last silent row of the encoder itself; before the first one, it is zeros, as
    before the beginning of a stream.
    """

    def __init__(self, first_row: int = 0) -> None:
        """
        :param first_row: index of the first row to arrive.
        """
        self._next_row = first_row
        self._until = 0
        self._embedding = b""
        prosody = np.zeros(SPEECH_DIM, "<f4")
        prosody[ENERGY] = _SILENT_DBFS
        self._prosody = prosody.tobytes()

    def mute(self, until: int) -> int:
        """Replace the rows to come before row `until`.

        :return: index of the first row to come.
        """
        self._until = until
        return self._next_row

    def apply(self, message: audio_features.AudioFeatures) -> audio_features.AudioFeatures:
        """Return the next rows for the motion generator."""
        rows = message.rows
        self._next_row = message.first_row + rows
        width = len(message.embedding) // max(rows, 1)
        step = 4 * SPEECH_DIM
        count = min(max(self._until - message.first_row, 0), rows)
        if not count:
            last = np.frombuffer(message.prosody[-step:], "<f4")
            if rows and last[VOICE_ACTIVITY] < _QUIET_PROBABILITY and last[ENERGY] < _QUIET_DBFS:
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
