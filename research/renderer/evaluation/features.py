"""Lips and eyes of a frame, measured in its pixels at its landmarks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from talkingface.renderer.face.landmarks import IRISES, LIP_CORNERS
from talkingface.renderer.geometry.eyes import RINGS
from talkingface_research.renderer.evaluation.flow import luma
from talkingface_research.renderer.evaluation.readback import MIDDLE_LIPS
from talkingface_research.renderer.evaluation.regions import CHEEKS, CHIN, FOREHEAD, grown, hull

Array = NDArray[np.float32]
Image = NDArray[np.uint8]
cv: Any = cv2  # OpenCV's stubs have no element types

LINE_REACH = 0.05  # face widths above and below the lip line that are sampled
LINE_HALF = 0.025  # face widths above and below it that belong to the line
WHITE_SHARE = 0.3  # share of an eye's pixels, the brightest, that count as its white
LEAST_WHITE = 8  # pixels
LEAST_CHANGE = 4.0  # grey values by which an eye differs from its lid


class Line(NamedTuple):
    """Contrast of the line between closed lips with the lips, in face widths of full contrast."""

    dark: float  # thickness of the dark line, if it were black
    light: float  # thickness of the light line, if it were twice as light as the lips


def opening_in_frame(landmarks: Array) -> float:
    """Gap of the inner lips at their middle in the frame, face widths."""
    marks = landmarks[:, :2]
    gap = np.mean([np.linalg.norm(marks[a] - marks[b]) for a, b in MIDDLE_LIPS])
    return float(gap / np.linalg.norm(marks[CHEEKS[0]] - marks[CHEEKS[1]]))


def lip_line(image: Image, landmarks: Array) -> Line:
    """The line between the lips in the middle of the mouth.

    Luma is sampled on cuts across the line, and compared with that of the lips beside it,
    interpolated from the ends of each cut.
    """
    marks = landmarks[:, :2]
    width = float(np.linalg.norm(marks[CHEEKS[0]] - marks[CHEEKS[1]]))
    down = marks[CHIN] - marks[FOREHEAD]
    down = down / np.linalg.norm(down)
    middles = np.stack([(marks[a] + marks[b]) / 2 for a, b in MIDDLE_LIPS])
    along = marks[LIP_CORNERS[1]] - marks[LIP_CORNERS[0]]
    middles = middles[np.argsort(middles @ along)]
    starts = np.concatenate(
        [middles[i] + s * (middles[i + 1] - middles[i]) for i in (0, 1) for s in _thirds()]
    )
    reach = np.linspace(-LINE_REACH, LINE_REACH, 41, dtype=np.float32)
    positions = starts[:, None] + reach[:, None] * width * down
    positions = np.ascontiguousarray(positions, np.float32)
    grey = cv.GaussianBlur(luma(image), (0, 0), 0.7)
    cuts = cv.remap(grey, positions[..., 0], positions[..., 1], cv.INTER_LINEAR)
    # The landmarks' line is a pixel or two off, so the whole neighbourhood of the line counts.
    upper = np.median(cuts[:, :8], axis=1, keepdims=True)
    lower = np.median(cuts[:, -8:], axis=1, keepdims=True)
    lips = upper + (lower - upper) * np.linspace(0, 1, len(reach))
    contrast = (cuts / np.maximum(lips, 1) - 1)[:, np.abs(reach) <= LINE_HALF]
    step = float(reach[1] - reach[0])
    return Line(
        float(np.maximum(-contrast, 0).sum(axis=1).mean() * step),
        float(np.maximum(contrast, 0).sum(axis=1).mean() * step),
    )


def _thirds() -> Array:
    return np.array([[[0.0]], [[1 / 3]], [[2 / 3]]], np.float32)


def white(image: Image, landmarks: Array, eye: int) -> Array | None:
    """Colour (3,) CIE Lab of an eye's white: the median of the brightest pixels between the lids.

    :param eye: 0 is the subject's right
    :return: None where too little of the eye is visible
    """
    inside = grown(hull(landmarks[list(RINGS[eye]), :2], image.shape), -1) > 0
    if WHITE_SHARE * inside.sum() < LEAST_WHITE:
        return None
    lab = cv.cvtColor(image.astype(np.float32) / 255, cv.COLOR_RGB2Lab)[inside]
    bright = lab[:, 0] >= np.quantile(lab[:, 0], 1 - WHITE_SHARE)
    return np.asarray(np.median(lab[bright], axis=0), np.float32)


def contrast(image: Image, landmarks: Array) -> float:
    """Standard deviation of luma between the lids of both eyes, at `landmarks`."""
    grey = luma(image)
    spreads = []
    for ring in RINGS:
        inside = grown(hull(landmarks[list(ring), :2], image.shape), -1) > 0
        if inside.any():
            spreads.append(float(grey[inside].std()))
    return float(np.mean(spreads)) if spreads else float("nan")


def covered(frames: Mapping[str, Image], rest: tuple[Image, Array], shut: str) -> dict[str, float]:
    """Share of the open eye that lids cover, 0 as at rest, 1 as in the frame `shut`, by frame.

    :param frames: frames by name, in which nothing but the lids moves
    :param rest: frame and landmarks (478, 2+) of the face at rest
    :param shut: name of the frame with closed lids
    """
    if shut not in frames:
        return {}
    image, landmarks = rest
    inside = np.zeros(image.shape[:2], np.uint8)
    for ring in RINGS:
        inside |= hull(landmarks[list(ring), :2], image.shape)
    where = inside > 0
    end = luma(frames[shut])[where]
    whole = float(np.abs(luma(image)[where] - end).mean())
    if whole < LEAST_CHANGE:
        return {}
    return {
        name: 1 - float(np.abs(luma(frame)[where] - end).mean()) / whole
        for name, frame in frames.items()
        if name != shut
    }


def iris_shift(image: Image, rest: Image, landmarks: Array) -> tuple[Array, float]:
    """Shift of the irises from a frame at rest, by template matching.

    :param landmarks: (478, 2+) of the frame at rest; both heads must be in the same position
    :return: (2,) mean shift in pixels, and the correlation of the match, at most 1
    """
    marks = landmarks[:, :2]
    width = float(np.linalg.norm(marks[CHEEKS[0]] - marks[CHEEKS[1]]))
    reach = round(0.06 * width)
    shifts, scores = [], []
    for iris in IRISES:
        radius = float(np.linalg.norm(marks[iris + 1 : iris + 5] - marks[iris], axis=1).mean())
        half = max(round(0.8 * radius), 3)
        x, y = marks[iris].round().astype(int)
        inner = (slice(y - half, y + half + 1), slice(x - half, x + half + 1))
        far = half + reach
        outer = (slice(y - far, y + far + 1), slice(x - far, x + far + 1))
        size = np.array(image.shape[:2])
        if min(x, y) < far or (np.array([y, x]) + far >= size).any():
            continue
        score = cv.matchTemplate(luma(image)[outer], luma(rest)[inner], cv.TM_CCOEFF_NORMED)
        best = np.unravel_index(int(score.argmax()), score.shape)
        shifts.append([best[1] - reach, best[0] - reach])
        scores.append(float(score[best]))
    if not shifts:
        return np.full(2, np.nan, np.float32), float("nan")
    return np.mean(shifts, axis=0).astype(np.float32), float(np.mean(scores))
