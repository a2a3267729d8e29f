"""A linear classifier, and its features for emotions: mean coefficients of windows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from talkingface.contract.arrays import Float32Array
from talkingface.contract.motion import ARKIT_DIM, ARKIT_NAMES
from talkingface.contract.rates import MOTION_FPS
from talkingface_research.motion_gen.evaluation.curves import Curve

WINDOW = 2 * MOTION_FPS  # frames that are classified together
# All but the direction of the gaze, which is independent of emotion.
COLUMNS = [i for i, name in enumerate(ARKIT_NAMES) if not name.startswith("eyeLook")]
SHRINK = 0.02**2  # least variance of a coefficient


def windows(motion: Float32Array) -> Curve:
    """Mean coefficients of each window of `WINDOW` frames: (n, coefficients)."""
    count = len(motion) // WINDOW
    cut = motion[: count * WINDOW, :ARKIT_DIM][:, COLUMNS].reshape(count, WINDOW, -1)
    return np.asarray(cut.mean(axis=1), float)


@dataclass(frozen=True)
class LinearClassifier:
    """Scores of a class: x @ weights + bias."""

    weights: Curve  # (features, classes)
    bias: Curve  # (classes,)

    def __call__(self, features: Curve) -> NDArray[np.int64]:
        """The most likely class of each row."""
        return np.asarray((features @ self.weights + self.bias).argmax(axis=1))


def train(samples: Sequence[Curve]) -> LinearClassifier:
    """Linear discriminant analysis with a shrunk common covariance.

    :param samples: (n, features) of each class
    """
    means = np.stack([one.mean(axis=0) for one in samples])
    rest = np.concatenate([one - one.mean(axis=0) for one in samples])
    covariance = rest.T @ rest / len(rest) + SHRINK * np.eye(rest.shape[1])
    weights = np.linalg.solve(covariance, means.T)
    return LinearClassifier(weights, -0.5 * (means.T * weights).sum(axis=0))
