"""Batches of frames on a GPU, without a way over the host but for what is finished."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from talkingface.contract.video import RenderLevel
from talkingface.renderer.arrays import AnyArray, Uint8Array, Uint8Image
from talkingface.renderer.geometry import FRAME, HALF, WarpedFrame
from talkingface.renderer.geometry.cuda_canvas import CudaCanvas, ResidentArrays
from talkingface.renderer.geometry.frame import EYE_CROP, MOUTH_CROP
from talkingface.renderer.pixels.device_array import DeviceArray
from talkingface.renderer.pixels.gpu import Gpu
from talkingface.renderer.worker.devices import OUTPUTS, FrameRequest, Tensors
from talkingface.renderer.worker.frame_synthesis import finish
from talkingface.renderer.worker.viewport import Canvases, Viewer

# Portraits in a GPU's memory: 12 MB each with their reduced versions, so that one instance holds
# those of 170 sessions. Beside them a frame of a batch takes 30 MB.
RESIDENT_BYTES = 2 << 30


@dataclass(frozen=True)
class _Drawn:
    """A frame of a batch on a GPU."""

    viewer: Viewer
    frame: WarpedFrame
    canvas: CudaCanvas | None  # None: drawn on the CPU


class _GpuCanvases(Canvases):
    """What one frame of a batch is drawn on, and the memory that its pixels return to."""

    def __init__(self, gpu: Gpu, resident: ResidentArrays) -> None:
        full, half = CudaCanvas(gpu, resident), CudaCanvas(gpu, resident, HALF)
        self.full, self.half, self.queues = full, half, (full.queue, half.queue)
        pixels = FRAME * FRAME
        self.planes = DeviceArray(gpu.allocate(pixels * 3 // 2), (FRAME * 3 // 2, FRAME), np.uint8)
        self.host: Uint8Array = gpu.pinned(4 * pixels)


class GpuDevice:
    """Frames drawn by a GPU, each on a canvas and in a stream of its own.

    Views that show detail of the photo, or the whole photo, are drawn on the CPU; only the network
    runs on the GPU for them. Views of other sizes are drawn on the GPU and resized on the CPU.
    """

    cache_bytes = 2 << 30  # portraits of 10 MB: those of as many sessions as `RESIDENT_BYTES`

    def __init__(self, gpu: Gpu, resident_bytes: int = RESIDENT_BYTES) -> None:
        """
        :param resident_bytes: of portraits in the GPU's memory.
        """
        self._gpu = gpu
        self._resident = ResidentArrays(gpu, resident_bytes)
        self._stream = gpu.stream()
        self._canvases: list[_GpuCanvases] = []
        self._cpu_canvases: list[Canvases] = []
        self._rows = 0  # of the crops' memory
        self._mouth = self._eyes = DeviceArray(0, (0, 0, 0), np.uint64)
        self._drawn: list[_Drawn] = []

    @property
    def launches(self) -> int:
        """Kernels launched so far."""
        return sum(queue.launches for c in self._canvases for queue in c.queues)

    @property
    def uploads(self) -> int:
        """Copies of frames' data to the GPU so far."""
        return sum(queue.uploads for c in self._canvases for queue in c.queues)

    def render(self, requests: Sequence[FrameRequest]) -> tuple[Tensors, list[ValueError | None]]:
        """As `Device.render`; images of crops are in the GPU's memory, controls in the host's."""
        self._resident.trim()
        self._reserve(len(requests))
        self._drawn = []
        errors: list[ValueError | None] = []
        for request in requests:
            try:
                self._drawn.append(self._draw(request, len(self._drawn)))
                errors.append(None)
            except ValueError as error:
                errors.append(error)
        for drawn in self._drawn:
            if drawn.canvas is not None:
                drawn.canvas.wait()
        self._gpu.wait(self._stream)
        rows = len(self._drawn)
        if rows == 0:
            return {}, errors
        controls = [[crop.control for crop in drawn.frame.crops] for drawn in self._drawn]
        both = np.array(controls, np.float32)
        return {
            "mouth": _bytes_of(self._mouth[:rows]),
            "eyes": _bytes_of(self._eyes[:rows]),
            "mouth_control": np.ascontiguousarray(both[:, 0]),
            "eyes_control": np.ascontiguousarray(both[:, 1:]),
        }, errors

    def finish(self, outputs: Tensors) -> list[Uint8Image]:
        """As `Device.finish`; outputs are in the memory of the GPU or of the host."""
        mouths, eyes = (outputs[name] for name in OUTPUTS)
        for row, drawn in enumerate(self._drawn):
            if drawn.canvas is None:
                finish(drawn.frame, self._on_host(mouths[row]), self._on_host(eyes[row]))
                continue
            canvas = drawn.canvas
            residuals = (self._on_gpu(canvas, part[row]) for part in (mouths, eyes))
            finish(drawn.frame, *residuals)
            self._fetch(row, drawn, canvas)
            canvas.queue.submit()
        for drawn in self._drawn:
            if drawn.canvas is not None:
                drawn.canvas.wait()
        return [self._image(row, drawn) for row, drawn in enumerate(self._drawn)]

    def _reserve(self, rows: int) -> None:
        """Allocate what a batch of so many frames needs."""
        while len(self._canvases) < rows:
            self._canvases.append(_GpuCanvases(self._gpu, self._resident))
        if rows > self._rows:
            for array in (self._mouth, self._eyes) if self._rows else ():
                self._gpu.free(array.pointer)
            mouth, eyes = (rows, MOUTH_CROP, MOUTH_CROP), (rows, 2, EYE_CROP, EYE_CROP)
            self._mouth, self._eyes = (
                DeviceArray(self._gpu.allocate(8 * int(np.prod(shape))), shape, np.uint64)
                for shape in (mouth, eyes)
            )
            self._rows = rows

    def _draw(self, request: FrameRequest, row: int) -> _Drawn:
        """Draw a frame whose crops are a row of the batch.

        :raises ValueError: its motion cannot be drawn.
        """
        viewer, motion, level = request
        if viewer.traced:
            return self._draw_on_cpu(request, row)
        canvases = self._canvases[row]
        canvas: Any = canvases.full if level == RenderLevel.FULL else canvases.half
        canvas.cut_into(self._mouth[row], self._eyes[row])
        try:
            frame = viewer.render(motion, level, canvases)
        except BaseException:
            canvas.discard()
            raise
        canvas.queue.submit()
        return _Drawn(viewer, frame, canvas)

    def _draw_on_cpu(self, request: FrameRequest, row: int) -> _Drawn:
        while len(self._cpu_canvases) <= row:
            self._cpu_canvases.append(Canvases())
        frame = request.viewer.render(request.motion, request.level, self._cpu_canvases[row])
        for target, crop in zip((self._mouth[row], *self._eyes[row]), frame.crops, strict=True):
            self._gpu.to_device(self._stream, target.pointer, crop.packed)
        return _Drawn(request.viewer, frame, None)

    def _on_gpu(self, canvas: CudaCanvas, residual: Any) -> Any:
        if isinstance(residual, DeviceArray):
            return residual
        return canvas.queue.upload(residual)

    def _on_host(self, residual: Any) -> AnyArray:
        if isinstance(residual, DeviceArray):
            host = np.empty(residual.shape, residual.dtype)
            self._gpu.to_host(self._stream, host, residual.pointer)
            self._gpu.wait(self._stream)
            return host
        return np.asarray(residual)

    def _fetch(self, row: int, drawn: _Drawn, canvas: CudaCanvas) -> None:
        """Queue the copy of a finished frame to the host, as planes if these are its view."""
        canvases, image = self._canvases[row], canvas.image
        if drawn.viewer.shows_planes and canvas.side == FRAME:
            canvas.kernels.write_i420(image, canvases.planes)
            canvas.queue.to_host(canvases.host[: canvases.planes.nbytes], canvases.planes)
        else:
            source: Any = image
            canvas.queue.to_host(canvases.host[: image.nbytes], source)

    def _image(self, row: int, drawn: _Drawn) -> Uint8Image:
        canvas, host = drawn.canvas, self._canvases[row].host
        if canvas is None:
            return drawn.viewer.show(drawn.frame)
        side = canvas.side
        if drawn.viewer.shows_planes and side == FRAME:
            return host[: side * side * 3 // 2].reshape(side * 3 // 2, side)
        pixels = host[: 4 * side * side].view(np.uint32).reshape(side, side)
        return drawn.viewer.show(replace(drawn.frame, pixels=pixels))


def _bytes_of(crops: DeviceArray) -> DeviceArray:
    """Crops of packed pixels as the network takes them, with an axis of their eight channels."""
    return DeviceArray(crops.pointer, (*crops.shape, 8), np.uint8)
