"""Contact sheets: images in a grid, each with its name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]
cv: Any = cv2  # OpenCV's stubs have no element types

TILE = 256  # pixels


def tile(image: Image, name: str) -> Image:
    """An image at tile size with its name at the top."""
    small = cv.resize(image, (TILE, TILE), interpolation=cv.INTER_AREA)
    return _write_on(small, name, 15)


def label(image: Image, text: str) -> Image:
    """A tile with a text at the bottom."""
    return _write_on(image, text, TILE - 8)


def _write_on(image: Image, text: str, height: int) -> Image:
    for colour, thick in (((0, 0, 0), 3), ((255, 255, 0), 1)):
        cv.putText(
            image, text, (5, height), cv.FONT_HERSHEY_SIMPLEX, 0.42, colour, thick, cv.LINE_AA
        )
    return np.asarray(image, np.uint8)


def grid(tiles: Sequence[Image], columns: int) -> Image:
    """Tiles row by row, the last row filled up with grey."""
    rows = -(-len(tiles) // columns)
    grey = np.full_like(tiles[0], 128)
    full = [*tiles, *[grey] * (rows * columns - len(tiles))]
    return np.concatenate(
        [np.concatenate(full[i : i + columns], 1) for i in range(0, len(full), columns)]
    )


def write(path: Path, image: Image) -> None:
    """Write an RGB image in the format of the file name's suffix.

    :raises OSError: it cannot be written
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if not cv.imwrite(str(path), image[..., ::-1], [cv.IMWRITE_JPEG_QUALITY, 92]):
        raise OSError(0, "cannot write the image", str(path))


def read(path: Path) -> Image:
    """Read an RGB image."""
    return np.ascontiguousarray(cv.imread(str(path), cv.IMREAD_COLOR)[..., ::-1])
