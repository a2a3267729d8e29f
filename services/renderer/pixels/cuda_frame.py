"""What a GPU's thread does for a frame: triangles, layers, face, crops, planes.

Each thread computes one pixel or one triangle, by the device functions of the CPU's loops. What
these leave out because it cannot be seen is computed here.
"""

from __future__ import annotations

import numpy as np

from talkingface.renderer.pixels import crops, face, layers, packed, planar, triangles
from talkingface.renderer.pixels.cuda_kernel import cuda, kernel

_STEPS = np.float32(1 << 20)  # of depth, to a pixel: it is compared as a whole number
EMPTY = np.int64(-0x7F7F7F7F7F7F7F80)  # no triangle so far: eight bytes of EMPTY_BYTE
EMPTY_BYTE = 0x80


@cuda.jit(device=True)
def keep_largest(values, y, x, value):
    """Write a number to an image (H, W) of int64 if it is larger, whatever other threads do."""
    cuda.atomic.max(values, (y, x), value)


@kernel
def draw(n, points, values, corners, cull, table, nearest):
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
            keep_largest(nearest, y, x, (np.int64(depth * _STEPS) << 31) - np.int64(n))


@kernel
def find_nearest(x, y, nearest, ids):
    """Write the nearest triangle of a pixel, and empty `nearest` for the next drawing."""
    key = nearest[y, x]
    nearest[y, x] = EMPTY
    if key == EMPTY:
        ids[y, x] = triangles.NONE
    else:
        whole = (key + ((np.int64(1) << 31) - 1)) >> 31
        ids[y, x] = np.int32((whole << 31) - key)


@kernel
def attributes(x, y, ids, table, out):
    """As `triangles.attributes_at`."""
    triangles.write_attributes(ids[y, x], table, x, y, out)


@kernel
def clear(n, places, whole, without, clearing, out):
    """As `layers.clear_pixels`."""
    y = places[n] // np.int32(out.shape[1])
    x = places[n] - y * np.int32(out.shape[1])
    out[y, x] = layers.cleared_pixel(whole[n], without[n], clearing, np.float32(x), np.float32(y))


@kernel
def flow_rows(x, y, flow, rows):
    """Interpolate a flow (2, CELLS, CELLS) down to the rows of the frame, (H, CELLS, 2)."""
    for k in range(2):
        rows[y, x, k] = layers.between(flow[k, :, x], y)


@kernel
def compose(x, y, sources, rows, hidden, out):
    """A pixel of `layers.compose_rear`."""
    if hidden[y // layers.TILE_ROWS, x // layers.TILE]:
        return
    u, v = layers.between(rows[y, :, 0], x), layers.between(rows[y, :, 1], x)
    moved = layers.distance(u, v, x, y)
    below = layers.background_pixel(sources.background[y, x], sources.near[y, x], moved)
    rear = layers.layer_pixel(sources.rear, u, v)
    out[y, x] = layers.rear_pixel(rear, layers.sharp_pixel(sources.photo, u, v), below)


@kernel
def dilate(x, y, values, out):
    """The largest value around a pixel."""
    out[y, x] = face.largest_around(values, x, y)


@kernel
def blur_across(x, y, values, out):
    """The blur of a row."""
    out[y, x] = face.blurred_across(values, x, y)


@kernel
def blur_down(x, y, values, out):
    """The blur of a column."""
    out[y, x] = face.blurred_down(values, x, y)


@kernel
def continue_flow(x, y, u, v, opacity, ids):
    """As `face.continue_flow`."""
    # Threads read where there are triangles and write where there are none.
    if ids[y, x] == triangles.NONE and opacity[y, x] > 0:
        u[y, x], v[y, x] = face.continued(u, v, ids, x, y)


@kernel
def blend_face(x, y, photo, layer, left, top, image):
    """As `face.blend_face`."""
    opacity = layer.opacity[y, x]
    if opacity > 0:
        below = image[top + y, left + x]
        image[top + y, left + x] = face.face_pixel(
            photo, below, layer.u[y, x], layer.v[y, x], opacity
        )


@kernel
def write_stretch(x, y, layer, stretch, left, top, mask):
    """As `face.write_stretch`."""
    t = layer.ids[y, x]
    if t != triangles.NONE:
        mask[top + y, left + x, 1] = face.stretch_at(layer.opacity[y, x], stretch[t])


@kernel
def blend_texture(x, y, texture, layer, left, top, image):
    """As `face.blend_texture`."""
    opacity = layer.opacity[y, x]
    if opacity > 0:
        below = image[top + y, left + x]
        image[top + y, left + x] = face.texture_pixel(
            texture, below, layer.u[y, x], layer.v[y, x], opacity
        )


@kernel
def share_opacity(x, y, opacity, share):
    """As `face.share_opacity`."""
    opacity[y, x], share[y, x] = face.shared(opacity[y, x], share[y, x])


@kernel
def find_hidden(x, y, opacity, rows, columns, out):
    """As `face.find_hidden`."""
    out[y, x] = face.is_hidden(opacity, rows, columns, x, y)


@kernel
def show_photo(x, y, photo, image):
    """Pack a pixel of a photo (H, W, 3)."""
    image[y, x] = packed.opaque_pixel(photo[y, x, 0], photo[y, x, 1], photo[y, x, 2])


@kernel
def cut_crop(x, y, image, mask, own, back, out):
    """As `crops.cut_crop`."""
    u, v = crops.mapped(back, np.float32(x), np.float32(y))
    colour, seen = crops.crop_pixel(image, mask, u, v)
    out[y, x] = crops.joined(colour, seen, own[y, x, 0], own[y, x, 1], own[y, x, 2])


@kernel
def paste_residual(x, y, residual, edge, matrix, left, top, image):
    """As `crops.paste_residual`, in a box at `left`, `top`."""
    x, y = left + x, top + y
    u, v = crops.mapped(matrix, np.float32(x), np.float32(y))
    image[y, x] = crops.pasted_pixel(image[y, x], residual, edge, u, v)


@kernel
def write_i420(x, y, image, out):
    """As `planar.write_i420`."""
    out[y, x] = planar.luma_of(image[y, x])
    if x % 2 == 0 and y % 2 == 0:
        planar.write_chroma(image, x // 2, y // 2, out)
