"""A ridge regression from the encoder's rows onto a face: what linear algebra makes of the sound.

It hears the very rows that a motion frame hears and is taught by the known speaker's training
clips, so it says how much of a face is in the rows before any network is asked.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from talkingface.contract.speech_features import PHONE_COLUMNS
from talkingface.motion_gen.windows import EXTRA_ROWS, HISTORY_ROWS, ROWS_PER_FRAME
from talkingface_research.motion_gen.evaluation.curves import Curve
from talkingface_research.motion_gen.evaluation.pipeline import Rows

ALPHA = 3e4


def window(rows: Rows, frames: int) -> Curve:
    """What each frame hears, without the phone posteriors: (frames, rows * columns)."""
    columns = np.concatenate([rows.features[:, PHONE_COLUMNS.stop :], rows.speech], axis=1)
    heard = np.arange(-HISTORY_ROWS, ROWS_PER_FRAME + EXTRA_ROWS)
    at = ROWS_PER_FRAME * np.arange(frames)[:, None] + heard
    inside = np.clip(at, 0, len(columns) - 1)
    return np.asarray(columns[inside].reshape(frames, -1), float)


class Ridge:
    """Linear, with columns brought to one size first."""

    def __init__(
        self, windows: Sequence[Curve], targets: Sequence[Curve], alpha: float = ALPHA
    ) -> None:
        """
        :param windows: `window` of each clip
        :param targets: (frames, n) of each clip
        """
        heard, shown = np.concatenate(windows), np.concatenate(targets)
        self._mean, self._size = heard.mean(axis=0), heard.std(axis=0) + 1e-6
        heard = (heard - self._mean) / self._size
        self._rest = shown.mean(axis=0)
        square = heard.T @ heard + alpha * np.eye(heard.shape[1])
        self._weights = np.linalg.solve(square, heard.T @ (shown - self._rest))

    def __call__(self, heard: Curve) -> Curve:
        """(frames, n) of a clip's `window`."""
        return np.asarray((heard - self._mean) / self._size @ self._weights + self._rest)
