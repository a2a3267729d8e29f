"""How much of a photo's border is seen in frames that reach beyond it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from talkingface.renderer.analysis import AnalysedPortrait
from talkingface_research.renderer.evaluation.flow import luma, sample

Array = NDArray[np.float32]
Image = NDArray[np.uint8]
Mask = NDArray[np.bool_]
cv: Any = cv2  # OpenCV's stubs have no element types

WINDOW = 48  # pixels of a border that are judged together
NEAR = (3.0, 10.0)  # pixels from a border at which lines are compared with it
STRIP = (2.0, 18.0)  # pixels from a border, of the strips that are compared
DETAIL_SIGMA = 3.0  # pixels: of the Gaussian whose residual is detail
LEAST = 40  # pixels of a border that give a figure


class Border(NamedTuple):
    """A straight line in a portrait's frame beyond which nothing of the photo was known."""

    axis: int  # 0: a position in x, 1: in y
    position: float  # pixels
    outward: int  # -1 or 1


def photo_borders(analysed: AnalysedPortrait) -> list[Border]:
    """The photo's four borders in its frame's pixels; some may lie outside."""
    height, width = analysed.photo.shape[:2]
    scale = float(analysed.to_photo[0, 0])
    x0, y0 = (float(v) for v in analysed.to_photo[:, 2])
    return [
        Border(0, -x0 / scale - 0.5, -1),
        Border(1, -y0 / scale - 0.5, -1),
        Border(0, (width - 1 - x0) / scale + 0.5, 1),
        Border(1, (height - 1 - y0) / scale + 0.5, 1),
    ]


def seams(image: Image, source: Array, border: Border, where: Mask) -> list[tuple[float, float]]:
    """Step across each window of a border, and across lines parallel to it, grey values.

    :param image: (H, W, 3) a frame.
    :param source: (H, W, 2) pixel of the portrait's frame that each pixel comes from.
    :param where: (H, W) pixels that count.
    """
    axis, position, outward = border
    image, source, where = (_across(one, axis) for one in (image, source, where))
    beyond = outward * (source[..., axis] - position)
    step = np.abs(np.diff(image.astype(np.float32), axis=1)).mean(-1)
    valid = where[:, 1:] & where[:, :-1]
    crossing = valid & (np.sign(beyond[:, 1:]) != np.sign(beyond[:, :-1]))
    crossing &= np.abs(np.diff(beyond, axis=1)) < 3
    away = np.abs(beyond[:, 1:] + beyond[:, :-1]) / 2
    near = valid & (away > NEAR[0]) & (away < NEAR[1])
    out = []
    for first in range(0, len(step), WINDOW):
        rows = slice(first, first + WINDOW)
        if crossing[rows].sum() >= min(LEAST, WINDOW // 2) and near[rows].sum() >= LEAST:
            out.append(
                (float(step[rows][crossing[rows]].mean()), float(step[rows][near[rows]].mean()))
            )
    return out


def _across(array: NDArray[Any], axis: int) -> NDArray[Any]:
    """An array whose second dimension is that of a border's position."""
    return array if axis == 0 else np.ascontiguousarray(array.swapaxes(0, 1))


def _detail(image: NDArray[Any]) -> Array:
    grey = luma(image)
    return np.asarray(grey - cv.GaussianBlur(grey, (0, 0), DETAIL_SIGMA), np.float32)


def strips(
    image: Image, frame: Image, source: Array, border: Border, where: Mask
) -> tuple[float, float] | None:
    """Correlation of detail beyond a border with that mirrored from inside; its amplitude over it.

    :param image: (H, W, 3) what is beyond the border.
    :param frame: (H, W, 3) the portrait's frame, from which the inside is taken.
    :param source: as in `seams`, and so is `where`.
    :return: None where the border is not in sight.
    """
    axis, position, outward = border
    beyond = outward * (source[..., axis] - position)
    strip = where & (beyond > STRIP[0]) & (beyond < STRIP[1])
    mirrored = source.copy()
    mirrored[..., axis] = 2 * position - source[..., axis]
    inside = (mirrored > 0).all(-1) & (mirrored < np.array(frame.shape[1::-1]) - 1).all(-1)
    strip &= inside
    if strip.sum() < LEAST * (STRIP[1] - STRIP[0]) / 2:
        return None
    there = _detail(image)[strip]
    here = sample(_detail(frame), mirrored)[strip]
    amplitude = float(here.std())
    if amplitude < 0.5:
        return None
    product = float(((there - there.mean()) * (here - here.mean())).mean())
    return product / max(float(there.std()) * amplitude, 1e-3), float(there.std()) / amplitude


def shown_borders(borders: Sequence[Border], size: int) -> list[Border]:
    """The photo's borders, and those of the frame where the photo goes on beyond it."""
    out = list(borders)
    for axis, position, outward in borders:
        limit = -0.5 if outward < 0 else size - 0.5
        if outward * (position - limit) > 1:
            out.append(Border(axis, limit, outward))
    return out


def along(borders: Sequence[Border], border: Border, source: Array) -> Mask:
    """Where the photo is known on the inner side of a border: not beyond its corners."""
    inside = np.ones(source.shape[:2], bool)
    for other in borders:
        if other.axis != border.axis:
            inside &= other.outward * (source[..., other.axis] - other.position) < 0
    return inside
