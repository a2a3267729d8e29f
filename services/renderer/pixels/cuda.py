"""The kernels of a GPU: the same names, arguments and results as the loops of the CPU.

Each thread computes one pixel or one triangle, by the same device functions. What the loops leave
out because it cannot be seen is computed here. Needs numba-cuda where a GPU is; numba's simulator
serves the tests.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from typing import Any

import numba.cuda
import numpy as np

from talkingface.renderer.pixels import crops, face, layers, planar, triangles

cuda: Any = numba.cuda  # its functions have no types

_BLOCK = (32, 8)  # threads: 32 neighbours of a row read memory together
_LINE = 128  # threads along a list


class Kernel:
    """A kernel over the pixels of an image, or over the rows of a list."""

    def __init__(self, body: Callable[..., None], over: str) -> None:
        """
        :param body: what a thread does, called with x and y, or with an index, and the arguments.
        :param over: name of the argument whose first axes are the grid of threads.
        """
        self.name = body.__name__
        names = list(inspect.signature(body).parameters)
        self.flat = names[0] == "n"
        self._over = names.index(over) - (1 if self.flat else 2)
        self.python = _line(body) if self.flat else _grid(body)
        self._compiled: Any = None

    def __call__(self, *args: Any) -> None:
        """Launch the kernel in the current thread's default stream."""
        if self._compiled is None:
            self._compiled = cuda.jit(self.python, fastmath=True)
        shape = args[self._over].shape
        if self.flat:
            self._compiled[math.ceil(shape[0] / _LINE), _LINE](shape[0], args)
            return
        height, width = shape[:2]
        grid = (math.ceil(width / _BLOCK[0]), math.ceil(height / _BLOCK[1]))
        self._compiled[grid, _BLOCK](width, height, args)


def _grid(body: Callable[..., None]) -> Callable[..., None]:
    inner = cuda.jit(body, device=True, fastmath=True)

    def thread(width: int, height: int, args: Any) -> None:
        x, y = cuda.grid(2)
        if x < width and y < height:
            inner(x, y, *args)

    return thread


def _line(body: Callable[..., None]) -> Callable[..., None]:
    inner = cuda.jit(body, device=True, fastmath=True)

    def thread(count: int, args: Any) -> None:
        n = cuda.grid(1)
        if n < count:
            inner(n, *args)

    return thread


def kernel(over: str) -> Callable[[Callable[..., None]], Kernel]:
    """Make a kernel of the body of a thread; see `Kernel`."""
    return lambda body: Kernel(body, over)


_STEPS = np.float32(1 << 20)  # of depth, to a pixel: it is compared as a whole number
_NOTHING = np.int64(-(1 << 62))


@kernel(over="out")
def fill(x, y, value, out):
    """Write the same value at all pixels of an image (H, W)."""
    out[y, x] = value


@kernel(over="corners")
def _draw(n, points, values, corners, cull, table, nearest):
    """Draw one triangle; the nearest keeps its pixels."""
    a, b, c = corners[n, 0], corners[n, 1], corners[n, 2]
    height, width = nearest.shape
    top, bottom = triangles.rows_of(points, a, b, c, height)
    left, right = triangles.columns_of(points, a, b, c, width)
    row = table[n]
    if top > bottom or left > right:
        return
    if not triangles.write_row(row, points, values, a, b, c, cull):
        return
    edges = triangles.edges_of(row)
    for y in range(top, bottom + 1):
        first, last = triangles.span_of(row, edges, np.float32(y), left, right)
        for x in range(first, last + 1):
            depth = triangles.depth_at(row, np.float32(x), np.float32(y))
            # The first of equally near triangles wins, in whatever order the threads run.
            key = (np.int64(depth * _STEPS) << 31) - np.int64(n)
            cuda.atomic.max(nearest, (y, x), key)


@kernel(over="ids")
def _find_nearest(x, y, nearest, ids, depth):
    key = nearest[y, x]
    if key == _NOTHING:
        ids[y, x] = triangles.NONE
        depth[y, x] = np.float32(-np.inf)
    else:
        whole = (key + ((np.int64(1) << 31) - 1)) >> 31
        ids[y, x] = np.int32((whole << 31) - key)
        depth[y, x] = np.float32(whole) / _STEPS


def draw_triangles(points, values, corners, cull, table, ids, depth):
    """As `triangles.draw_triangles`."""
    nearest = cuda.device_array(ids.shape, np.int64)
    fill(_NOTHING, nearest)
    _draw(points, values, corners, cull, table, nearest)
    _find_nearest(nearest, ids, depth)


@kernel(over="ids")
def attributes_at(x, y, ids, table, out):
    """As `triangles.attributes_at`."""
    triangles.write_attributes(ids[y, x], table, x, y, out)


@kernel(over="places")
def clear_pixels(n, places, whole, without, clearing, out):
    """As `layers.clear_pixels`."""
    y = places[n] // np.int32(out.shape[1])
    x = places[n] - y * np.int32(out.shape[1])
    out[y, x] = layers.cleared_pixel(whole[n], without[n], clearing, np.float32(x), np.float32(y))


@kernel(over="rows")
def _flow_rows(x, y, flow, rows):
    """Interpolate a flow (2, CELLS, CELLS) down to the rows of the frame, (H, CELLS, 2)."""
    for k in range(2):
        rows[y, x, k] = layers.between(flow[k, :, x], y)


@kernel(over="out")
def _compose(x, y, sources, rows, hidden, out):
    if hidden[y // layers.TILE_ROWS, x // layers.TILE]:
        return
    u, v = layers.between(rows[y, :, 0], x), layers.between(rows[y, :, 1], x)
    moved = layers.distance(u, v, x, y)
    below = layers.background_pixel(sources.background[y, x], sources.near[y, x], moved)
    rear = layers.layer_pixel(sources.rear, u, v)
    out[y, x] = layers.rear_pixel(rear, layers.sharp_pixel(sources.photo, u, v), below)


def compose_rear(sources, flow, hidden, row, out):
    """As `layers.compose_rear`."""
    rows = cuda.device_array((out.shape[0], flow.shape[2], 2), np.float32)
    _flow_rows(flow, rows)
    _compose(sources, rows, hidden, out)


@kernel(over="out")
def _dilate(x, y, values, out):
    out[y, x] = face.largest_around(values, x, y)


@kernel(over="out")
def _blur_across(x, y, values, out):
    out[y, x] = face.blurred_across(values, x, y)


@kernel(over="out")
def _blur_down(x, y, values, out):
    out[y, x] = face.blurred_down(values, x, y)


def soften(shown, scratch, out):
    """As `face.soften`."""
    _dilate(shown, scratch)
    _blur_across(scratch, shown)
    _blur_down(shown, out)


@kernel(over="ids")
def _continue(x, y, u, v, opacity, ids):
    # Threads read where there are triangles and write where there are none.
    if ids[y, x] == triangles.NONE and opacity[y, x] > 0:
        u[y, x], v[y, x] = face.continued(u, v, ids, x, y)


def continue_flow(layer):
    """As `face.continue_flow`."""
    _continue(layer.u, layer.v, layer.opacity, layer.ids)


@kernel(over="ids")
def _blend_face(x, y, photo, u, v, opacity, ids, left, top, image):
    if opacity[y, x] > 0:
        below = image[top + y, left + x]
        image[top + y, left + x] = face.face_pixel(photo, below, u[y, x], v[y, x], opacity[y, x])


def blend_face(photo, layer, left, top, image):
    """As `face.blend_face`."""
    _blend_face(photo, layer.u, layer.v, layer.opacity, layer.ids, left, top, image)


@kernel(over="ids")
def _write_stretch(x, y, opacity, ids, stretch, left, top, mask):
    if ids[y, x] != triangles.NONE:
        mask[top + y, left + x, 1] = face.stretch_at(opacity[y, x], stretch[ids[y, x]])


def write_stretch(layer, stretch, left, top, mask):
    """As `face.write_stretch`."""
    _write_stretch(layer.opacity, layer.ids, stretch, left, top, mask)


@kernel(over="ids")
def _blend_texture(x, y, texture, u, v, opacity, ids, left, top, image):
    if opacity[y, x] > 0:
        below = image[top + y, left + x]
        image[top + y, left + x] = face.texture_pixel(
            texture, below, u[y, x], v[y, x], opacity[y, x]
        )


def blend_texture(texture, layer, left, top, image):
    """As `face.blend_texture`."""
    _blend_texture(texture, layer.u, layer.v, layer.opacity, layer.ids, left, top, image)


@kernel(over="opacity")
def share_opacity(x, y, opacity, share):
    """As `face.share_opacity`."""
    opacity[y, x], share[y, x] = face.shared(opacity[y, x], share[y, x])


@kernel(over="out")
def _find_hidden(x, y, opacity, rows, columns, out):
    out[y, x] = face.is_hidden(opacity, rows, columns, x, y)


def find_hidden(opacity, rows, columns, out):
    """As `face.find_hidden`."""
    _find_hidden(opacity, rows, columns, out)


@kernel(over="out")
def cut_crop(x, y, image, mask, own, back, out):
    """As `crops.cut_crop`."""
    u, v = crops.mapped(back, np.float32(x), np.float32(y))
    colour, seen = crops.crop_pixel(image, mask, u, v)
    out[y, x] = crops.joined(colour, seen, own[y, x, 0], own[y, x, 1], own[y, x, 2])


@kernel(over="image")
def paste_residual(x, y, residual, edge, matrix, box, image):
    """As `crops.paste_residual`."""
    if box[0] <= x < box[2] and box[1] <= y < box[3]:
        u, v = crops.mapped(matrix, np.float32(x), np.float32(y))
        image[y, x] = crops.pasted_pixel(image[y, x], residual, edge, u, v)


@kernel(over="image")
def write_i420(x, y, image, out):
    """As `planar.write_i420`."""
    out[y, x] = planar.luma_of(image[y, x])
    if x % 2 == 0 and y % 2 == 0:
        planar.write_chroma(image, x // 2, y // 2, out)
