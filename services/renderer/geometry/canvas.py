"""The memory in which a frame is made, used again by every frame."""

from __future__ import annotations

from typing import Any

import numpy as np

from talkingface.renderer.arrays import (
    AnyArray,
    BoolArray,
    Float32Array,
    Uint8Image,
    Uint16Array,
    Uint32Array,
    Uint64Array,
)
from talkingface.renderer.geometry.frame import EYE_CROP, FRAME, MOUTH_CROP
from talkingface.renderer.geometry.portrait_layers import PortraitLayers
from talkingface.renderer.pixels import cpu
from talkingface.renderer.pixels.drawing import Drawing
from talkingface.renderer.pixels.layers import TILE, TILE_ROWS, Clearing, Sources
from talkingface.renderer.pixels.packed import pack

_PLANES = 10  # of 32 bits a pixel, that the layers of a frame need at a time
_DRAWING_PLANES = 12  # of 32 bits a quarter that a drawing needs, four of them for lists


class Canvas:
    """One frame in the making, and scratch memory; for one thread at a time."""

    kernels: Any = cpu
    """The loops that draw on it."""

    def __init__(self, side: int = FRAME) -> None:
        """
        :param side: pixels of the frame along a side.
        """
        self.side = side
        self.image: Uint32Array = self._empty((side, side), np.uint32)  # packed
        self.mask: Uint8Image = self._empty((side, side, 2), np.uint8)  # as in `Crop`
        self.hidden: BoolArray = self._empty((side // TILE_ROWS, side // TILE), np.bool_)
        self._planes: Float32Array = self._empty((_PLANES, side * side), np.float32)
        self._drawing: Float32Array = np.empty(0, np.float32)
        self._tables: dict[tuple[int, int], Float32Array] = {}
        self._rear: Uint32Array = self._empty((0, 0), np.uint32)
        self._rear_of: PortraitLayers | None = None

    @property
    def mask_pairs(self) -> Uint16Array:
        """The mask with its two bytes in one number, (H, W); the same memory."""
        pairs: Uint16Array = self.mask.view(np.uint16)[..., 0]
        return pairs

    def clear(self) -> None:
        """Begin a new frame; all of its image is going to be written."""
        self.hidden[:] = False
        self.mask[:] = 0

    def show(self, photo: Uint8Image) -> None:
        """Write a photo (H, W, 3) instead of a frame, of which nothing is drawn."""
        self.image[:] = pack(photo)
        self.mask[:] = 0

    def crops(self) -> tuple[Uint64Array, Uint64Array]:
        """Memory of a frame's crops: mouth (128, 128), eyes (2, 64, 64), 8 bytes a pixel."""
        mouth = np.empty((MOUTH_CROP, MOUTH_CROP), np.uint64)
        return mouth, np.empty((2, EYE_CROP, EYE_CROP), np.uint64)

    def upload(self, array: AnyArray) -> AnyArray:
        """An array of this frame as the kernels take it."""
        return np.ascontiguousarray(array)

    def resident(self, array: AnyArray) -> AnyArray:
        """An array of all frames of a portrait, or of all portraits, as the kernels take it."""
        return array

    def plane(self, index: int, height: int, width: int) -> Float32Array:
        """Scratch memory (height, width), with what was left in it."""
        plane: Float32Array = self._planes[index, : height * width].reshape(height, width)
        return plane

    def planes(self, first: int, count: int, height: int, width: int) -> Float32Array:
        """Scratch memory (count, height, width), which begins with a plane."""
        flat = self._planes[first : first + count].reshape(-1)
        planes: Float32Array = flat[: count * height * width].reshape(count, height, width)
        return planes

    def drawing(self, rows: int, columns: int, table: Float32Array) -> Drawing:
        """Memory of eyes or mouth in a region of so many quarters; the frame's planes stay.

        :param table: of the region's triangles.
        """
        size = (rows + 4) * (columns + 4)
        if self._drawing.size < _DRAWING_PLANES * size:
            self._drawing = np.empty(_DRAWING_PLANES * size, np.float32)
        planes = self._drawing[: _DRAWING_PLANES * size].reshape(_DRAWING_PLANES, size)
        height, width = rows // 2, columns // 2
        fine, border = planes[:4, : rows * columns], planes[7, : (height + 2) * (width + 2)]
        ids, weights, quarters, line = (p.reshape(rows, columns) for p in fine)
        coarse = planes[4:7, : height * width]
        whole, opacity, pixels = (p.reshape(height, width) for p in coarse)
        return Drawing(
            ids.view(np.int32),
            table,
            weights,
            quarters.view(np.uint32),
            line,
            border.reshape(height + 2, width + 2),
            whole,
            opacity,
            pixels.view(np.uint32),
            planes[8:].view(np.uint32),
        )

    def openings(self, width: int) -> Float32Array:
        """Memory for `Mouth.opening` in a region of so many columns."""
        return np.empty((3, width), np.float32)

    def table(self, rows: int, columns: int) -> Float32Array:
        """Scratch memory (rows, columns) for a table of triangles."""
        if (rows, columns) not in self._tables:
            # Rows of triangles that are not drawn are read, if not used: they must be numbers.
            self._tables[rows, columns] = self._zeros((rows, columns), np.float32)
        return self._tables[rows, columns]

    def sources(self, layers: PortraitLayers, clearing: Clearing) -> Sources:
        """The images that a frame is made of, jaw and cheeks removed from the rear layer."""
        if self._rear_of is not layers:
            self._rear, self._rear_of = self._copy(layers.rear, self._rear), layers
        resident = self.resident
        self.kernels.clear_pixels(
            resident(layers.jaw_places),
            resident(layers.jaw),
            resident(layers.behind_jaw),
            clearing,
            self._rear,
        )
        return Sources(
            resident(layers.photo),
            resident(layers.background),
            resident(layers.near_background),
            self._rear,
            resident(layers.least_opaque),
            resident(layers.most_opaque),
        )

    def _empty(self, shape: tuple[int, ...], dtype: Any) -> Any:
        return np.empty(shape, dtype)

    def _zeros(self, shape: tuple[int, ...], dtype: Any) -> Any:
        return np.zeros(shape, dtype)

    def _copy(self, array: AnyArray, target: AnyArray) -> AnyArray:
        """A copy of an array; `target` may hold it."""
        return array.copy()
