"""Which shape a mouth shows: lips in the head's own frame, told apart by linear discriminants.

All is measured about the clip's own rest, the mean of the frames in which its mouth is most shut,
in face widths, so that a photo's own lips do not count.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from talkingface.contract.motion import Array
from talkingface.contract.rates import MOTION_FPS
from talkingface.contract.speech_features import PHONE_INDEX
from talkingface_research.motion_gen.evaluation.curves import Curve
from talkingface_research.motion_gen.evaluation.features import CHIN, LOWER_LIP, UPPER_LIP, in_head
from talkingface_research.motion_gen.evaluation.phones import Phones
from talkingface_research.motion_gen.evaluation.reader import Reader, train
from talkingface_research.motion_gen.evaluation.theval import LIPS

RESTING = 15.0  # percentile of the opening below which a mouth is at rest
# What nine of ten /f v/ of GRID's s1 reach within 60 ms, read from its training clips: how far the
# lower lip's inner edge is below its rest, which is level with the upper teeth, and how far it
# rises off the jaw.
TEETH_WITHIN, LIFTED_BELOW = 0.018, -0.008
# Vowels that stand still and consonants that the lips make.
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
# The reader's depth is its weakest coordinate.
WEIGHTS = np.array([1.0, 1.0, 0.25])
COMPONENTS = 10  # principal components of the lips; what is beyond is noise of the reader


class Mouth(NamedTuple):
    """A clip's lips about their rest, in face widths; y is downwards."""

    moved: Curve  # (T, points * 3) of lips and chin, weighted
    drop: Curve  # (T,) lower lip's inner edge below its rest
    lift: Curve  # (T,) the same less what the chin has gone down


def mouth(landmarks: Array) -> Mouth:
    """The lips of landmarks (T, 478, 3)."""
    points = in_head(landmarks, [*LIPS, CHIN])
    lower, upper = LIPS.index(LOWER_LIP), LIPS.index(UPPER_LIP)
    opening = np.linalg.norm(points[:, upper] - points[:, lower], axis=1)
    rest = opening <= np.percentile(opening, RESTING)
    moved = points - points[rest].mean(axis=0)
    drop = moved[:, lower, 1]
    return Mouth((moved * WEIGHTS).reshape(len(moved), -1), drop, drop - moved[:, -1, 1])


def shown(phones: Phones, frames: int) -> NDArray[np.int64]:
    """Which of `SHAPES` each frame should show, -1 where none is due: (frames,).

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


class Classifier:
    """Tells `SHAPES` from lips; taught by real frames alone."""

    def __init__(self, lips: Sequence[Curve], labels: Sequence[NDArray[np.int64]]) -> None:
        """
        :param lips: `Mouth.moved` of each clip
        :param labels: `shown` of each clip
        """
        moved, label = np.concatenate(lips), np.concatenate(labels)
        self._mean = moved[label >= 0].mean(axis=0)
        _, size, basis = np.linalg.svd(moved[label >= 0] - self._mean, full_matrices=False)
        count = min(COMPONENTS, len(size))
        scale = size[:count] / np.sqrt((label >= 0).sum())
        self._basis = basis[:count].T / np.maximum(scale, 1e-9)
        self._read: Reader = train(
            [self._seen(moved[label == shape]) for shape in range(len(SHAPES))]
        )

    def __call__(self, lips: Curve) -> NDArray[np.int64]:
        """The shape of each frame (T,)."""
        return self._read(self._seen(lips))

    def _seen(self, lips: Curve) -> Curve:
        return np.asarray((lips - self._mean) @ self._basis)


def recalls(told: NDArray[np.int64], due: NDArray[np.int64]) -> dict[str, float]:
    """Share of each shape's frames that are told as that shape; shapes that are never due are left
    out. Their mean is the balanced accuracy."""
    return {
        name: float((told[due == i] == i).mean())
        for i, name in enumerate(SHAPES)
        if (due == i).any()
    }
