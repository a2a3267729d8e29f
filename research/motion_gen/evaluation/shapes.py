"""Which shape a mouth shows: lips in the head's own frame, classified by linear discriminants.

All is measured in face widths from the clip's own rest, the mean of the frames in which its mouth
is most closed, so that the resting lips of a photo do not count.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from talkingface.contract.arrays import Float32Array
from talkingface.contract.rates import MOTION_FPS
from talkingface.contract.speech_features import PHONE_INDEX
from talkingface_research.motion_gen.evaluation.classifier import LinearClassifier, train
from talkingface_research.motion_gen.evaluation.curves import Curve
from talkingface_research.motion_gen.evaluation.features import CHIN, LOWER_LIP, UPPER_LIP, in_head
from talkingface_research.motion_gen.evaluation.phones import Phones
from talkingface_research.motion_gen.evaluation.theval import LIPS

RESTING = 15.0  # percentile of the opening below which a mouth is at rest
# What nine of ten /f v/ of GRID's s1 reach within 60 ms, measured on its training clips: how far
# the lower lip's inner edge is below its rest, which is level with the upper teeth, and how far it
# rises off the jaw; face widths.
TEETH_WITHIN, LIFTED_BELOW = 0.018, -0.008
# Monophthongs, and consonants that the lips make, by shape.
SHAPES: dict[str, tuple[str, ...]] = {
    "ee": ("iy",),
    "ah": ("aa", "ae", "ah"),
    "oo": ("uw", "w"),
    "oh": ("ow", "ao"),
    "f": ("f", "v"),
    "m": ("m", "b", "p"),
    "rest": ("sil",),
}
MIDDLE = 0.25  # of a phone's length, left out at either end
LEAST_REST = 0.2  # seconds: a shorter silence is no rest
# Depth is the least accurate coordinate of the landmarker.
WEIGHTS = np.array([1.0, 1.0, 0.25])
COMPONENTS = 10  # principal components of the lips; the others are noise of the landmarker


class Mouth(NamedTuple):
    """A clip's lips from their rest, in face widths; y is downwards."""

    moved: Curve  # (T, points * 3) of lips and chin, weighted
    drop: Curve  # (T,) lower lip's inner edge below its rest
    lift: Curve  # (T,) drop less that of the chin


def mouth(landmarks: Float32Array) -> Mouth:
    """The lips of landmarks (T, 478, 3)."""
    points = in_head(landmarks, [*LIPS, CHIN])
    lower, upper = LIPS.index(LOWER_LIP), LIPS.index(UPPER_LIP)
    opening = np.linalg.norm(points[:, upper] - points[:, lower], axis=1)
    rest = opening <= np.percentile(opening, RESTING)
    moved = points - points[rest].mean(axis=0)
    drop = moved[:, lower, 1]
    return Mouth((moved * WEIGHTS).reshape(len(moved), -1), drop, drop - moved[:, -1, 1])


def expected(phones: Phones, frames: int) -> NDArray[np.int64]:
    """Which of `SHAPES` each frame should show, -1 for none: (frames,).

    A phone counts in its middle half, and at least in one frame.
    """
    of = {PHONE_INDEX[name]: i for i, names in enumerate(SHAPES.values()) for name in names}
    rest = list(SHAPES).index("rest")
    out = np.full(frames, -1, np.int64)
    for phone, start, end in zip(phones.phone, phones.start, phones.end, strict=True):
        shape = of.get(int(phone), -1)
        if shape < 0 or (shape == rest and end - start < LEAST_REST):
            continue
        edge = MIDDLE * (end - start)
        first = int(np.ceil((start + edge) * MOTION_FPS - 0.5))
        last = int(np.floor((end - edge) * MOTION_FPS - 0.5))
        if last < first:
            first = last = int((start + end) / 2 * MOTION_FPS)
        out[max(first, 0) : max(last + 1, 0)] = shape
    return out


class ShapeClassifier:
    """Classifies lips by `SHAPES`; trained on real frames alone."""

    def __init__(self, lips: Sequence[Curve], labels: Sequence[NDArray[np.int64]]) -> None:
        """
        :param lips: `Mouth.moved` of each clip
        :param labels: `expected` of each clip
        """
        moved, label = np.concatenate(lips), np.concatenate(labels)
        self._mean = moved[label >= 0].mean(axis=0)
        _, size, basis = np.linalg.svd(moved[label >= 0] - self._mean, full_matrices=False)
        count = min(COMPONENTS, len(size))
        scale = size[:count] / np.sqrt((label >= 0).sum())
        self._basis = basis[:count].T / np.maximum(scale, 1e-9)
        self._classify: LinearClassifier = train(
            [self._reduced(moved[label == shape]) for shape in range(len(SHAPES))]
        )

    def __call__(self, lips: Curve) -> NDArray[np.int64]:
        """The shape of each frame (T,)."""
        return self._classify(self._reduced(lips))

    def _reduced(self, lips: Curve) -> Curve:
        return np.asarray((lips - self._mean) @ self._basis)


def recalls(predicted: NDArray[np.int64], due: NDArray[np.int64]) -> dict[str, float]:
    """Share of each shape's frames that are classified as that shape.

    Shapes that no frame should show are left out. The mean is the balanced accuracy.

    :param due: `expected` of the same frames
    """
    return {
        name: float((predicted[due == i] == i).mean())
        for i, name in enumerate(SHAPES)
        if (due == i).any()
    }
