"""A canvas in a GPU's memory, and the portraits that stay there."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import numpy as np

from talkingface.renderer.arrays import AnyArray, Uint8Image
from talkingface.renderer.geometry.canvas import Canvas
from talkingface.renderer.geometry.frame import FRAME
from talkingface.renderer.pixels.cuda import CudaKernels
from talkingface.renderer.pixels.cuda_frame import EMPTY_BYTE
from talkingface.renderer.pixels.device_array import DeviceArray, like
from talkingface.renderer.pixels.drawing import Drawing
from talkingface.renderer.pixels.gpu import CommandQueue, Gpu

_NO_PIXELS: Any = DeviceArray(0, (0, 0), np.uint32)
_NO_VALUES: Any = DeviceArray(0, (0, 0), np.float32)


class ResidentArrays:
    """Arrays of portraits in a GPU's memory; those unused for longest go when it is full."""

    def __init__(self, gpu: Gpu, max_bytes: int) -> None:
        """
        :param max_bytes: that `trim` leaves.
        """
        self._gpu, self._max_bytes = gpu, max_bytes
        self._stream = gpu.stream()
        # By identity; the array of the host is kept, so that no other gets the same.
        self._arrays: OrderedDict[int, tuple[AnyArray, DeviceArray]] = OrderedDict()
        self.nbytes = 0

    def __len__(self) -> int:
        return len(self._arrays)

    def __call__(self, array: AnyArray) -> DeviceArray:
        """The copy of an array, which must never change."""
        key = id(array)
        found = self._arrays.get(key)
        if found is not None:
            self._arrays.move_to_end(key)
            return found[1]
        contiguous = np.ascontiguousarray(array)
        copy = like(contiguous, self._gpu.allocate(contiguous.nbytes))
        self._gpu.to_device(self._stream, copy.pointer, contiguous)
        self._gpu.wait(self._stream)  # other streams are going to use it
        self._arrays[key] = array, copy
        self.nbytes += copy.nbytes
        return copy

    def trim(self) -> None:
        """Free arrays until the rest is within the limit; no frame may be under way."""
        while self.nbytes > self._max_bytes and self._arrays:
            _, (_, copy) = self._arrays.popitem(last=False)
            self._gpu.free(copy.pointer)
            self.nbytes -= copy.nbytes


class CudaCanvas(Canvas):
    """A frame in the making on a GPU; for frames that are neither traced nor pinned.

    All its work is queued: `queue.submit` starts it, `queue.wait` waits for it, after which the
    next frame may begin.
    """

    def __init__(self, gpu: Gpu, resident: ResidentArrays, side: int = FRAME) -> None:
        """
        :param resident: shared by all canvases of the GPU.
        """
        self._gpu = gpu
        self._resident = resident
        self.queue = CommandQueue(gpu)
        self._scratch: dict[str, DeviceArray] = {}
        self._retired: list[int] = []  # memory that commands in the queue may still use
        super().__init__(side)
        self.kernels = CudaKernels(self.queue.launch, self)
        self._crops: tuple[DeviceArray, DeviceArray] | None = None

    @property
    def mask_pairs(self) -> Any:
        """As `Canvas.mask_pairs`."""
        mask: Any = self.mask
        return DeviceArray(mask.pointer, mask.shape[:2], np.uint16)

    def cut_into(self, mouth: DeviceArray, eyes: DeviceArray) -> None:
        """Let the next frame's crops be written to these arrays, see `Canvas.crops`."""
        self._crops = mouth, eyes

    def crops(self) -> tuple[Any, Any]:
        """As `Canvas.crops`."""
        if self._crops is None:
            raise RuntimeError("a canvas on a GPU has been given no memory for crops")
        return self._crops

    def clear(self) -> None:
        """As `Canvas.clear`."""
        for target in (self._in_gpu(self.hidden), self._in_gpu(self.mask)):
            self.queue.fill(target, 0)

    def show(self, photo: Uint8Image) -> None:
        """As `Canvas.show`."""
        self.kernels.show_photo(self.resident(photo), self.image)
        self.queue.fill(self._in_gpu(self.mask), 0)

    def plane(self, index: int, height: int, width: int) -> Any:
        """As `Canvas.plane`."""
        start = self._in_gpu(self._planes).pointer + 4 * index * self.side * self.side
        return DeviceArray(start, (height, width), np.float32)

    def planes(self, first: int, count: int, height: int, width: int) -> Any:
        """As `Canvas.planes`."""
        start = self._in_gpu(self._planes).pointer + 4 * first * self.side * self.side
        return DeviceArray(start, (count, height, width), np.float32)

    def upload(self, array: AnyArray) -> Any:
        """As `Canvas.upload`."""
        return self.queue.upload(array)

    def resident(self, array: AnyArray) -> Any:
        """As `Canvas.resident`."""
        return self._resident(array)

    def openings(self, width: int) -> Any:
        """As `Canvas.openings`."""
        return self.scratch("openings", (3, width), np.float32)

    def nearest(self, height: int, width: int) -> DeviceArray:
        """As `Scratch.nearest`."""
        found = self._scratch.get("nearest")
        nearest = self.scratch("nearest", (height, width), np.int64)
        if self._scratch["nearest"] is not found:
            self.queue.fill_now(self._scratch["nearest"], EMPTY_BYTE)
        return nearest

    def scratch(self, name: str, shape: tuple[int, ...], dtype: Any) -> DeviceArray:
        """As `Scratch.scratch`."""
        wanted = DeviceArray(0, shape, dtype)
        memory = self._scratch.get(name)
        if memory is None or memory.nbytes < wanted.nbytes:
            if memory is not None:
                self._retired.append(memory.pointer)
            # A region grows with what is drawn: not pixel by pixel.
            size = 1 << max(wanted.nbytes - 1, 1).bit_length()
            memory = self._scratch[name] = DeviceArray(self._gpu.allocate(size), (size,), np.uint8)
        return DeviceArray(memory.pointer, shape, dtype)

    def discard(self) -> None:
        """Drop a frame that could not be planned to its end."""
        self.queue.discard()
        self._rear_of = None  # the copy of its rear layer may be among what is dropped
        self.wait()

    def wait(self) -> None:
        """Wait until the frame is done, and prepare for the next one.

        :raises RuntimeError: a kernel or copy has failed.
        """
        self.queue.wait()
        for pointer in self._retired:
            self._gpu.free(pointer)
        self._retired.clear()

    def drawing(self, rows: int, columns: int, table: Any) -> Any:
        """As `Canvas.drawing`; what a GPU does not need of it is empty."""
        height, width = rows // 2, columns // 2
        fine, coarse, border = rows * columns, height * width, (height + 2) * (width + 2)
        start = self.scratch("drawing", (2 * fine + 2 * coarse + border,), np.float32).pointer
        ids: Any = DeviceArray(start, (rows, columns), np.int32)
        start += 4 * fine
        weights: Any = DeviceArray(start, (rows, columns), np.float32)
        start += 4 * fine
        whole: Any = DeviceArray(start, (height, width), np.float32)
        start += 4 * coarse
        pixels: Any = DeviceArray(start, (height, width), np.uint32)
        start += 4 * coarse
        weight: Any = DeviceArray(start, (height + 2, width + 2), np.float32)
        values, packed = _NO_VALUES, _NO_PIXELS
        return Drawing(ids, table, weights, packed, values, weight, whole, values, pixels, packed)

    @staticmethod
    def _in_gpu(array: Any) -> DeviceArray:
        """An array of this canvas; those of `Canvas` have the types of the host's."""
        assert isinstance(array, DeviceArray)
        return array

    def _empty(self, shape: tuple[int, ...], dtype: Any) -> Any:
        empty = DeviceArray(0, shape, dtype)
        return DeviceArray(self._gpu.allocate(empty.nbytes), shape, dtype)

    def _zeros(self, shape: tuple[int, ...], dtype: Any) -> Any:
        zeros = self._empty(shape, dtype)
        self.queue.fill_now(zeros, 0)
        return zeros

    def _copy(self, array: AnyArray, target: Any) -> Any:
        source = self.resident(array)
        if target.shape != source.shape:
            target = self.scratch("rear", source.shape, source.dtype)
        self.queue.copy(target, source)
        return target
