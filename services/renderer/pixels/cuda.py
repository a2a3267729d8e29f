"""The kernels of a GPU under the names, with the arguments and results of the loops of the CPU."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

from talkingface.renderer.pixels import cuda_drawing as drawing
from talkingface.renderer.pixels import cuda_frame as frame
from talkingface.renderer.pixels.cuda_kernel import Kernel
from talkingface.renderer.pixels.device_array import DeviceArray
from talkingface.renderer.pixels.drawing import Drawing
from talkingface.renderer.pixels.eyes import Eye, Lashes
from talkingface.renderer.pixels.face import FacePixels
from talkingface.renderer.pixels.layers import Clearing, Sources
from talkingface.renderer.pixels.mouth import Lips, Mouth


class Scratch(Protocol):
    """Memory that kernels use between one another."""

    def nearest(self, height: int, width: int) -> DeviceArray:
        """int64 (height, width), `cuda_frame.EMPTY` but during a drawing of triangles."""

    def scratch(self, name: str, shape: tuple[int, ...], dtype: Any) -> DeviceArray:
        """Memory with what was left in it."""


class CudaKernels:
    """Launches kernels, in a stream or into a queue."""

    def __init__(self, launch: Callable[..., None], memory: Scratch) -> None:
        """
        :param launch: called with a `Kernel`, the shape of its threads, and its arguments.
        """
        self._launch: Callable[..., None] = launch
        self._memory = memory

    def draw_triangles(
        self,
        points: Any,
        values: Any,
        corners: Any,
        cull: bool,
        table: Any,
        ids: Any,
        depth: Any,
    ) -> None:
        """As `triangles.draw_triangles`; the depth is not written."""
        nearest = self._memory.nearest(*ids.shape)
        count = corners.shape[:1]
        self._launch(frame.draw, count, points, values, corners, cull, table, nearest)
        self._launch(frame.find_nearest, ids.shape, nearest, ids)

    def attributes_at(self, ids: Any, table: Any, out: Any) -> None:
        """As `triangles.attributes_at`."""
        self._launch(frame.attributes, ids.shape, ids, table, out)

    def clear_pixels(
        self, places: Any, whole: Any, without: Any, clearing: Clearing, out: Any
    ) -> None:
        """As `layers.clear_pixels`."""
        self._launch(frame.clear, places.shape, places, whole, without, clearing, out)

    def compose_rear(self, sources: Sources, flow: Any, hidden: Any, row: Any, out: Any) -> None:
        """As `layers.compose_rear`."""
        rows = self._memory.scratch("rows", (out.shape[0], flow.shape[2], 2), np.float32)
        self._launch(frame.flow_rows, rows.shape[:2], flow, rows)
        self._launch(frame.compose, out.shape, sources, rows, hidden, out)

    def soften(self, shown: Any, scratch: Any, out: Any) -> None:
        """As `face.soften`."""
        self._launch(frame.dilate, out.shape, shown, scratch)
        self._launch(frame.blur_across, out.shape, scratch, shown)
        self._launch(frame.blur_down, out.shape, shown, out)

    def continue_flow(self, layer: FacePixels) -> None:
        """As `face.continue_flow`."""
        arrays = (layer.u, layer.v, layer.opacity, layer.ids)
        self._launch(frame.continue_flow, layer.ids.shape, *arrays)

    def blend_face(self, photo: Any, layer: FacePixels, left: int, top: int, image: Any) -> None:
        """As `face.blend_face`."""
        self._launch(frame.blend_face, layer.ids.shape, photo, layer, left, top, image)

    def write_stretch(
        self, layer: FacePixels, stretch: Any, left: int, top: int, mask: Any
    ) -> None:
        """As `face.write_stretch`."""
        self._launch(frame.write_stretch, layer.ids.shape, layer, stretch, left, top, mask)

    def blend_texture(
        self, texture: Any, layer: FacePixels, left: int, top: int, image: Any
    ) -> None:
        """As `face.blend_texture`."""
        self._launch(frame.blend_texture, layer.ids.shape, texture, layer, left, top, image)

    def share_opacity(self, opacity: Any, share: Any) -> None:
        """As `face.share_opacity`."""
        self._launch(frame.share_opacity, opacity.shape, opacity, share)

    def find_hidden(self, opacity: Any, rows: int, columns: int, out: Any) -> None:
        """As `face.find_hidden`."""
        self._launch(frame.find_hidden, out.shape, opacity, rows, columns, out)

    def draw_eye(
        self,
        eye: Eye,
        lashes: Lashes,
        drawn: Drawing,
        left: int,
        top: int,
        image: Any,
        mask: Any,
    ) -> None:
        """As `eye_loops.draw_eye`."""
        height, width = drawn.whole.shape
        spans = self._memory.scratch("eye", (height, drawing.EYE_SPANS), np.int32)
        self._launch(drawing.eye_spans, (height,), eye.hull, drawn.ids, spans)
        self._launch(drawing.eye_pixels, (height, width), eye, lashes, drawn, spans)
        self._merge(drawn, left, top, image, mask)

    def draw_mouth(
        self, mouth: Mouth, drawn: Drawing, lips: Lips, left: int, top: int, image: Any, mask: Any
    ) -> None:
        """As `mouth_loops.draw_mouth`."""
        height, width = drawn.whole.shape
        spans = self._memory.scratch("mouth", (height, 2), np.int32)
        arrays = (mouth.kinds, drawn.ids, lips, drawn.weights)
        self._launch(drawing.mouth_weights, drawn.ids.shape, *arrays)
        lines = (max(2 * width, height),)
        self._launch(drawing.mouth_edges, lines, drawn.weights, mouth.opening, spans)
        self._launch(drawing.mouth_heights, (2 * width,), mouth.unit, mouth.opening)
        self._launch(drawing.mouth_pixels, (height, width), mouth, drawn, lips, spans)
        self._merge(drawn, left, top, image, mask)

    def _merge(self, drawn: Drawing, left: int, top: int, image: Any, mask: Any) -> None:
        weight = drawn.weight[1:-1, 1:-1]
        arrays = (weight, drawn.whole, drawn.pixels, left, top, image, mask)
        self._launch(drawing.merge, drawn.whole.shape, *arrays)

    def show_photo(self, photo: Any, image: Any) -> None:
        """Pack a photo (H, W, 3)."""
        self._launch(frame.show_photo, image.shape, photo, image)

    def cut_crop(self, image: Any, mask: Any, own: Any, back: Any, out: Any) -> None:
        """As `crops.cut_crop`."""
        self._launch(frame.cut_crop, out.shape, image, mask, own, back, out)

    def find_applied(self, residual: Any) -> tuple[int, int, int, int]:
        """All of a residual (S, S, 4): what it changes is known on the GPU alone."""
        last = residual.shape[0] - 1
        return 0, last, 0, last

    def paste_residual(
        self, residual: Any, edge: Any, matrix: Any, box: tuple[int, int, int, int], image: Any
    ) -> None:
        """As `crops.paste_residual`."""
        left, top, right, bottom = box
        if left < right and top < bottom:
            arrays = (residual, edge, matrix, left, top, image)
            self._launch(frame.paste_residual, (bottom - top, right - left), *arrays)

    def write_i420(self, image: Any, out: Any) -> None:
        """As `planar.write_i420`."""
        self._launch(frame.write_i420, image.shape, image, out)


def all_kernels() -> dict[str, Kernel]:
    """The kernels by name."""
    found = [*vars(frame).values(), *vars(drawing).values()]
    return {kernel.name: kernel for kernel in found if isinstance(kernel, Kernel)}
