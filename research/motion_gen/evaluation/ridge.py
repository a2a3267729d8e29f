"""A ridge regression from the encoder's rows to a face, as a baseline for networks.

It has the same input rows as a motion frame and is trained on the known speaker's training clips,
so it shows how much of a face is linear in the rows.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from talkingface.contract.speech_features import PHONE_COLUMNS
from talkingface.motion_gen.windows import EXTRA_ROWS, HISTORY_ROWS, ROWS_PER_FRAME
from talkingface_research.motion_gen.evaluation.curves import Curve
from talkingface_research.motion_gen.evaluation.pipeline import Rows

ALPHA = 3e4  # penalty; columns have unit variance


def window(rows: Rows, frames: int) -> Curve:
    """Input rows of each frame, without the phone posteriors: (frames, rows * columns)."""
    columns = np.concatenate([rows.features[:, PHONE_COLUMNS.stop :], rows.speech], axis=1)
    context = np.arange(-HISTORY_ROWS, ROWS_PER_FRAME + EXTRA_ROWS)
    at = ROWS_PER_FRAME * np.arange(frames)[:, None] + context
    inside = np.clip(at, 0, len(columns) - 1)
    return np.asarray(columns[inside].reshape(frames, -1), float)


class Ridge:
    """Linear regression on normalised columns."""

    def __init__(
        self, windows: Sequence[Curve], targets: Sequence[Curve], alpha: float = ALPHA
    ) -> None:
        """
        :param windows: `window` of each clip
        :param targets: (frames, n) of each clip
        """
        inputs, outputs = np.concatenate(windows), np.concatenate(targets)
        self._mean, self._size = inputs.mean(axis=0), inputs.std(axis=0) + 1e-6
        inputs = (inputs - self._mean) / self._size
        self._rest = outputs.mean(axis=0)
        square = inputs.T @ inputs + alpha * np.eye(inputs.shape[1])
        self._weights = np.linalg.solve(square, inputs.T @ (outputs - self._rest))

    def __call__(self, inputs: Curve) -> Curve:
        """(frames, n) of a clip's `window`."""
        return np.asarray((inputs - self._mean) / self._size @ self._weights + self._rest)
