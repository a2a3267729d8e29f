"""What a GPU's thread does for eyes and mouth, by the device functions of the CPU's loops.

A thread computes a pixel with its quarters. The CPU's lists of pixels by kind only spare it work.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from talkingface.renderer.pixels import drawing as pixels
from talkingface.renderer.pixels import eyes, mouth
from talkingface.renderer.pixels.cuda_kernel import kernel
from talkingface.renderer.pixels.face import largest_around
from talkingface.renderer.pixels.mouth_finding import opening_height
from talkingface.renderer.pixels.targets import device
from talkingface.renderer.pixels.triangles import NONE

_ZERO, _HALF, _ONE = np.float32(0), np.float32(0.5), np.float32(1)
_NO_PIXEL = np.uint32(0)
_FAR = np.int32(1 << 15)  # a row or column behind all others
# Columns of an eye's spans: of its pixels, then of the hull in each of its two rows of quarters.
EYE_SPANS = 6


@kernel
def eye_spans(n, hull, ids, spans):
    """Find which pixels of a row show the hole between the lids, as `eye_loops` does."""
    width = ids.shape[1]
    seen, seen_end = np.int32(width // 2), np.int32(0)
    for k in range(2):
        row = 2 * n + k
        first, end = eyes.hull_span(hull, np.float32(row), width)
        spans[n, 2 + 2 * k], spans[n, 3 + 2 * k] = first, end
        while first < end and ids[row, first] != NONE:
            first += 1
        while end > first and ids[row, end - 1] != NONE:
            end -= 1
        if first < end:
            seen = min(seen, first // 2)
            seen_end = max(seen_end, (end + 1) // 2)
    spans[n, 0], spans[n, 1] = seen, max(seen, seen_end)


@device
def _line_at(lashes, x, y):
    """Opacity of a closing lid's lashes, and of the shadow below them, at a quarter."""
    line = pixels.strokes_at(lashes.strokes, lashes.soft, x, y)
    return max(line, pixels.strokes_at(lashes.shadow, lashes.shadow_soft, x, y))


@device
def _eye_quarter(eye, lashes, table, id, between, x, y):
    """Colour and weight of a quarter of a pixel.

    :param between: whether it lies in the hull of the lids' edges.
    """
    weight = eyes.hole_weight(id) if between else pixels.skin_weight(id)
    colour = eyes.quarter_pixel(eye, table, id, x, y)
    if lashes.strokes.shape[0] > 0:
        line = _line_at(lashes, x, y)
        lid, over = eyes.lid_opacity(eye, np.float32(id != NONE), x, y)
        colour = eyes.lid_pixel(colour, lid, over, line, eye.lash)
        weight = eyes.covers(over, line, weight)
    return colour, weight


@device
def _lid_beside(x, y, eye, lashes, drawn):
    """A pixel of skin beside the hole, under a closing lid."""
    row, column = 2 * y, 2 * x
    u, v = np.float32(column), np.float32(row)
    a, b = drawn.ids[row, column], drawn.ids[row, column + 1]
    c, d = drawn.ids[row + 1, column], drawn.ids[row + 1, column + 1]
    line = _ZERO
    for k in range(4):
        line += _line_at(lashes, u + np.float32(k & 1), v + np.float32(k >> 1))
    line *= np.float32(0.25)
    lid, over = eyes.lid_opacity(eye, eyes.skin_share(a, d), u + _HALF, v + _HALF)
    skin = eyes.skin_pixel(eye, drawn.table, a, d, u, v)
    drawn.pixels[y, x] = eyes.lid_pixel(skin, lid, over, line, eye.lash)
    drawn.weight[y + 1, x + 1] = eyes.covers(over, line, _ZERO)
    drawn.whole[y, x] = pixels.is_whole(a, b, c, d)


@kernel
def eye_pixels(x, y, eye, lashes, drawn, spans):
    """Colour a pixel of an eye, and find its weight."""
    if lashes.strokes.shape[0] > 0 and not spans[y, 0] <= x < spans[y, 1]:
        _lid_beside(x, y, eye, lashes, drawn)
        return
    a, b, c, d = _NO_PIXEL, _NO_PIXEL, _NO_PIXEL, _NO_PIXEL
    wa, wb, wc, wd = _ZERO, _ZERO, _ZERO, _ZERO
    for k in range(4):  # a loop: the code is long
        row, column = 2 * y + (k >> 1), 2 * x + (k & 1)
        first, end = spans[y, 2 + 2 * (k >> 1)], spans[y, 3 + 2 * (k >> 1)]
        id, between = drawn.ids[row, column], first <= column < end
        u, v = np.float32(column), np.float32(row)
        colour, weight = _eye_quarter(eye, lashes, drawn.table, id, between, u, v)
        a, b, c, d = b, c, d, colour
        wa, wb, wc, wd = wb, wc, wd, weight
    drawn.pixels[y, x] = pixels.mean_of(a, b, c, d)
    drawn.weight[y + 1, x + 1] = pixels.weight_of_quarters(wa, wb, wc, wd)
    drawn.whole[y, x] = pixels.is_whole(wa, wb, wc, wd)


@kernel
def merge(x, y, weight, whole, colours, left, top, image, mask):
    """Lay a pixel of a drawing into a frame and its mask, as `drawing.merge`."""
    opacity = largest_around(weight, x, y)
    colour = colours[y, x]
    image[top + y, left + x] = pixels.merged_pixel(
        image[top + y, left + x], colour, opacity, whole[y, x]
    )
    invented = np.uint8(pixels.invented_of(colour, opacity))
    mask[top + y, left + x, 0] = max(mask[top + y, left + x, 0], invented)


@kernel
def mouth_weights(x, y, kinds, ids, lips, weights):
    """Find whether a quarter shows the mouth's inside, as `mouth_finding.find_inside`."""
    id, box = ids[y, x], lips.box
    weights[y, x] = pixels.skin_weight(id)
    if y < box[1] or y > box[3] or x < np.int64(box[0]) or x > np.int64(box[2]):
        return
    if id == NONE or kinds[id] == mouth.OUTSIDE:
        return
    state, count = np.int32(0), lips.outline.shape[0]
    u, v = np.float32(x), np.float32(y)
    for n in range(count):
        after = (n + 1) % count
        edge = (
            lips.outline[n, 0],
            lips.outline[n, 1],
            lips.outline[after, 0],
            lips.outline[after, 1],
        )
        state = mouth.beside_edge(edge, lips.reach, u, v, state)
    weights[y, x] = _ONE if state != 0 else pixels.NOTHING


@kernel
def mouth_edges(n, weights, opening, spans):
    """Find where the inside begins and ends in a column of quarters, and in a row of pixels."""
    height, width = weights.shape
    if n < width:
        first: Any = np.float32(_FAR)
        last: Any = np.float32(-1)
        for y in range(height):
            if weights[y, n] == _ONE:
                first, last = min(first, np.float32(y)), np.float32(y)
        opening[0, n], opening[1, n] = first, last
    if n < spans.shape[0]:
        left: Any = _FAR
        end: Any = np.int32(0)
        for x in range(width):
            if weights[2 * n, x] == _ONE or weights[2 * n + 1, x] == _ONE:
                left, end = min(left, np.int32(x // 2)), np.int32(x // 2 + 1)
        spans[n, 0], spans[n, 1] = min(left, end), end


@kernel
def mouth_heights(n, unit, opening):
    """Measure how high the mouth is open around a column of quarters."""
    opening[2, n] = opening_height(opening, n, unit)


@device
def _inside_pixel(scene, table, id, x, y):
    """A quarter that shows the mouth's inside."""
    t, kind = np.uint32(id), scene.kinds[id]
    if kind == mouth.UPPER:
        return mouth.tooth_pixel(scene, mouth.UPPER_TEETH, True, table, t, x, y)
    if kind == mouth.LOWER:
        return mouth.tooth_pixel(scene, mouth.LOWER_TEETH, False, table, t, x, y)
    if kind == mouth.TONGUE:
        return mouth.tongue_pixel(scene, table, t, x, y)
    return mouth.wall_pixel(scene, table, t, x, y)


@device
def _mouth_quarter(scene, table, id, weight, x, y):
    """Colour and weight of a quarter of a pixel."""
    if weight == _ONE:
        return _inside_pixel(scene, table, id, x, y), weight
    t = pixels.triangle_or_any(id)
    seen = mouth.lip_weight(scene, table, t, x, y) if weight == _ZERO else weight
    return mouth.lip_pixel(scene, table, t, x, y), seen


@device
def _lips_beside(x, y, scene, drawn):
    """A pixel of skin beside the mouth's inside."""
    row, column = 2 * y, 2 * x
    u, v, table = np.float32(column), np.float32(row), drawn.table
    whole = pixels.is_whole(
        drawn.weights[row, column],
        drawn.weights[row, column + 1],
        drawn.weights[row + 1, column],
        drawn.weights[row + 1, column + 1],
    )
    t = pixels.triangle_or_any(drawn.ids[row, column])
    seen = mouth.lip_weight(scene, table, t, u + _HALF, v + _HALF)
    one = mouth.lip_pixel(scene, table, t, u, v)
    t = pixels.triangle_or_any(drawn.ids[row + 1, column + 1])
    other = mouth.lip_pixel(scene, table, t, u + _ONE, v + _ONE)
    drawn.weight[y + 1, x + 1] = seen if whole > 0 else _ZERO
    drawn.whole[y, x] = whole
    drawn.pixels[y, x] = pixels.middle_of(one, other)


@device
def _mouth_within(x, y, scene, drawn):
    """A pixel that shows the mouth's inside, or lies between such pixels of its row."""
    a, b, c, d = _NO_PIXEL, _NO_PIXEL, _NO_PIXEL, _NO_PIXEL
    wa, wb, wc, wd = _ZERO, _ZERO, _ZERO, _ZERO
    for k in range(4):  # a loop: the code is long
        row, column = 2 * y + (k >> 1), 2 * x + (k & 1)
        id, weight = drawn.ids[row, column], drawn.weights[row, column]
        u, v = np.float32(column), np.float32(row)
        colour, weight = _mouth_quarter(scene, drawn.table, id, weight, u, v)
        a, b, c, d = b, c, d, colour
        wa, wb, wc, wd = wb, wc, wd, weight
    drawn.pixels[y, x] = pixels.mean_of(a, b, c, d)
    drawn.weight[y + 1, x + 1] = pixels.weight_of_quarters(wa, wb, wc, wd)
    drawn.whole[y, x] = pixels.is_whole(wa, wb, wc, wd)


@kernel
def mouth_pixels(x, y, scene, drawn, lips, spans):
    """Colour a pixel of a mouth, and find its weight."""
    if spans[y, 0] <= x < spans[y, 1]:
        _mouth_within(x, y, scene, drawn)
    else:
        _lips_beside(x, y, scene, drawn)
    if lips.strokes.shape[0] > 0:
        line = pixels.strokes_at(lips.strokes, lips.soft, np.float32(x), np.float32(y))
        drawn.pixels[y, x] = mouth.seam_pixel(drawn.pixels[y, x], scene.seam, line)
