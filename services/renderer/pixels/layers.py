"""Background, rear layer and face, laid over one another."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from talkingface.renderer.arrays import (
    BoolArray,
    Float32Array,
    Index,
    Int32Array,
    Pixel,
    Real,
    Uint8Array,
    Uint32Array,
)
from talkingface.renderer.pixels.packed import bilinear, mix, weight_of
from talkingface.renderer.pixels.targets import device, loop

SOLID = 254  # opacity of the rear layer from which nothing shines through; 255 is the photo itself
MARGIN = 96  # pixels by which the rear layer reaches beyond the frame

# By eye.
STRAND_REACH = np.float32(6)  # pixels of motion at which the photo's own background has faded out
# Heights over which a cheek that has turned to the viewer stays in the rear layer, face widths
# above the turning point; face widths from the middle from which it stays, and over how many.
CHEEK_LOW, CHEEK_HIGH = np.float32(-0.22), np.float32(-0.08)
CHEEK_ASIDE, CHEEK_FADE = np.float32(0.1), np.float32(0.1)

TILE, TILE_ROWS = 32, 4  # pixels that are treated alike
TILE_CELLS = 8  # of the flow, in a row of a tile
BLOCK = 8  # pixels of the rear layer along a side, of which the opacity's limits are known
HIDDEN, EMPTY, PHOTO, MIXED = 0, 1, 2, 3

_OPACITY = np.uint32(24)  # bits below a packed pixel's opacity
_COLOURS, _SOLID = np.uint32(0x00FFFFFF), np.uint32(SOLID) << _OPACITY
_OPAQUE = np.uint32(0xFF000000)
_PHOTO = np.uint32(255)  # opacity of pixels that are nothing but the photo
CELL = 4  # pixels of the frame for a cell of the flow, along a side
_MARGIN = np.float32(MARGIN)


class Clearing(NamedTuple):
    """How jaw and cheeks are removed from the rear layer."""

    weight: Real  # 0..1
    turned: tuple[Real, Real]  # how far the viewer's left, right side turned to the viewer, 0..1
    across: tuple[Real, Real, Real]  # affine function of a pixel: face widths right of the middle
    up: tuple[Real, Real, Real]  # ... and upwards


class Sources(NamedTuple):
    """The images of a portrait that a frame is made of, packed."""

    photo: Uint32Array  # (1024, 1024) the frame at twice its size
    background: Uint32Array  # (512, 512)
    near: Uint32Array  # (512, 512) background with the photo's own pixels right up to the matte
    rear: Uint32Array  # (704, 704) hair, neck, shoulders; jaw and cheeks removed as far as need be
    least_opaque: Uint8Array  # (88, 88) limits of the opacity in blocks of `rear`
    most_opaque: Uint8Array


@device
def _removed(clearing: Clearing, x: Real, y: Real) -> Real:
    """How much of jaw and cheeks is removed at a pixel of the rear layer, 0..1."""
    zero, one = np.float32(0), np.float32(1)
    aside = clearing.across[0] * x + clearing.across[1] * y + clearing.across[2]
    height = clearing.up[0] * x + clearing.up[1] * y + clearing.up[2]
    kept = clearing.turned[0] if aside < 0 else clearing.turned[1]
    kept *= min(max((height - CHEEK_LOW) / (CHEEK_HIGH - CHEEK_LOW), zero), one)
    kept *= min(max((abs(aside) - CHEEK_ASIDE) / CHEEK_FADE, zero), one)
    return clearing.weight * (one - kept)


@device
def cleared_pixel(whole: Pixel, without: Pixel, clearing: Clearing, x: Real, y: Real) -> Pixel:
    """A packed pixel of the rear layer with jaw and cheeks removed as far as need be."""
    part = weight_of(_removed(clearing, x, y))
    pixel = mix(whole, without, part)
    if part > 0 and pixel > (_SOLID | _COLOURS):
        pixel = (pixel & _COLOURS) | _SOLID  # no longer the photo itself
    return pixel


@loop
def clear_pixels(
    places: Int32Array,
    whole: Uint32Array,
    without: Uint32Array,
    clearing: Clearing,
    out: Uint32Array,
) -> None:
    """Write the rear layer (H, W) where it differs without jaw and cheeks.

    :param places: (N,) of these pixels, row by row.
    :param whole: (N,) and `without`, their colours with and without jaw and cheeks.
    """
    width = np.int32(out.shape[1])
    flat = out.reshape(-1)
    for n in range(len(places)):
        y = places[n] // width
        x = places[n] - y * width
        flat[np.uint32(places[n])] = cleared_pixel(
            whole[n], without[n], clearing, np.float32(x), np.float32(y)
        )


@device
def between(values: Float32Array, x: int) -> Real:
    """Interpolate values (CELLS,) at a pixel; beyond the outermost centres they go on evenly."""
    first = min(max((x - CELL // 2) >> 2, 0), len(values) - 2)
    part = (np.float32(x - CELL * first) - np.float32(1.5)) / np.float32(CELL)
    low = values[first]
    return low + part * (values[first + 1] - low)


@device
def distance(u: Real, v: Real, x: Index, y: Index) -> Real:
    """How far a pixel has moved, pixels."""
    dx, dy = u - np.float32(x), v - np.float32(y)
    return math.sqrt(dx * dx + dy * dy)


@device
def background_pixel(background: Pixel, near: Pixel, moved: Real) -> Pixel:
    """What is seen behind the rear layer.

    The background is invented around the person, to be clear of strands of hair that the matte
    misses; `near` keeps the photo there, strands and all, and serves where these hardly move.
    """
    keep = max(np.float32(1) - moved / STRAND_REACH, np.float32(0))
    return mix(background, near, weight_of(keep))


@device
def sharp_pixel(photo: Uint32Array, u: Real, v: Real) -> Pixel:
    """The photo's colour at u, v, from the photo at twice its size."""
    return bilinear(photo, np.float32(2) * u, np.float32(2) * v)


@device
def layer_pixel(layer: Uint32Array, u: Real, v: Real) -> Pixel:
    """The rear layer's colour and opacity at u, v of the photo."""
    return bilinear(layer, u + _MARGIN, v + _MARGIN)


@device
def rear_pixel(rear: Pixel, sharp: Pixel, below: Pixel) -> Pixel:
    """A pixel of the rear layer over what is `below`; the `sharp` photo where it is only that.

    Its own opacity is that of both together: 255 unless that of `below` is less.
    """
    opacity = rear >> _OPACITY
    over = mix(below, rear | _OPAQUE, opacity + (opacity >> np.uint32(7)))
    return sharp if opacity == _PHOTO else over


@device
def tile_kind(sources: Sources, flow: Float32Array, j: int, n: int) -> int:
    """What the pixels of a tile can show: EMPTY, PHOTO or MIXED.

    :param j: row of cells, and n, column of tiles.
    """
    cells = flow.shape[2]
    top, bottom = max(j - 1, 0), min(j + 1, cells - 1)
    left, right = max(n * TILE_CELLS - 1, 0), min((n + 1) * TILE_CELLS, cells - 1)
    u_low, u_high = np.float32(np.inf), np.float32(-np.inf)
    v_low, v_high = u_low, u_high
    for y in range(top, bottom + 1):
        for x in range(left, right + 1):
            u_low, u_high = min(u_low, flow[0, y, x]), max(u_high, flow[0, y, x])
            v_low, v_high = min(v_low, flow[1, y, x]), max(v_high, flow[1, y, x])
    if top == 0 or left == 0 or bottom == cells - 1 or right == cells - 1:
        # Half a cell at the frame's border lies beyond the outermost centres.
        half_u, half_v = (u_high - u_low) / np.float32(2), (v_high - v_low) / np.float32(2)
        u_low, u_high = u_low - half_u, u_high + half_u
        v_low, v_high = v_low - half_v, v_high + half_v
    reach = np.float32(1.5)  # pixels that interpolation adds
    last = np.int32(sources.most_opaque.shape[0] - 1)
    a: Index = min(max(np.int32(u_low + _MARGIN - reach) // BLOCK, 0), last)
    b: Index = min(max(np.int32(u_high + _MARGIN + reach) // BLOCK, 0), last)
    c: Index = min(max(np.int32(v_low + _MARGIN - reach) // BLOCK, 0), last)
    d: Index = min(max(np.int32(v_high + _MARGIN + reach) // BLOCK, 0), last)
    least, most = np.uint8(255), np.uint8(0)
    for y in range(c, d + 1):
        for x in range(a, b + 1):
            least = min(least, sources.least_opaque[y, x])
            most = max(most, sources.most_opaque[y, x])
    if most == 0:
        return EMPTY
    return PHOTO if least == _PHOTO else MIXED


@loop
def _row_flow(values: Float32Array, row: Float32Array) -> None:
    """Write values (CELLS,) at all pixels of a row (W,), four of them between two centres."""
    half, last = CELL // 2, len(row)
    for x in range(half):
        row[x] = between(values, x)
        row[last - 1 - x] = between(values, last - 1 - x)
    for i in range(len(values) - 1):
        low, step = values[i], values[i + 1] - values[i]
        for k in range(CELL):
            part = (np.float32(k) + np.float32(0.5)) / np.float32(CELL)
            row[CELL * i + half + k] = low + part * step


# Rows are cut out first: an index that begins at 0 lets the compiler vectorise a loop.
@loop
def _fill_background(
    background: Uint32Array,
    near: Uint32Array,
    u: Float32Array,
    v: Float32Array,
    x: int,
    y: int,
    out: Uint32Array,
) -> None:
    for k in range(len(out)):
        moved = distance(u[k], v[k], x + k, y)
        out[k] = background_pixel(background[k], near[k], moved)


@loop
def _fill_photo(photo: Uint32Array, u: Float32Array, v: Float32Array, out: Uint32Array) -> None:
    for k in range(len(out)):
        out[k] = sharp_pixel(photo, u[k], v[k])


@loop
def _fill_layer(
    layer: Uint32Array, u: Float32Array, v: Float32Array, out: Uint32Array
) -> tuple[Index, Index]:
    """Return the least and the largest opacity."""
    least, most = _PHOTO, np.uint32(0)
    for k in range(len(out)):
        out[k] = layer_pixel(layer, u[k], v[k])
        opacity = out[k] >> _OPACITY
        least, most = min(least, opacity), max(most, opacity)
    return least, most


@loop
def _combine(layer: Uint32Array, sharp: Uint32Array, out: Uint32Array) -> None:
    """Lay the rear layer over what is in `out`."""
    for k in range(len(out)):
        out[k] = rear_pixel(layer[k], sharp[k], out[k])


@loop
def compose_rear(
    sources: Sources, flow: Float32Array, hidden: BoolArray, row: Float32Array, out: Uint32Array
) -> None:
    """Write rear layer over background, (H, W).

    Each pixel is that of `rear_pixel`; what cannot be seen of it is left out, tile by tile.

    :param flow: (2, CELLS, CELLS) pixel of the photo for each cell.
    :param hidden: (CELLS, W / TILE) tiles that the face hides; they are left alone.
    :param row: (2, W) scratch.
    """
    height, width = out.shape
    kinds = np.empty(width // TILE, np.uint8)
    cells = np.empty(flow.shape[2], np.float32)
    layer, sharp = np.empty(TILE, np.uint32), np.empty(TILE, np.uint32)
    for y in range(height):
        if y % TILE_ROWS == 0:
            j = y // TILE_ROWS
            for n in range(len(kinds)):
                kinds[n] = HIDDEN if hidden[j, n] else tile_kind(sources, flow, j, n)
        for k in range(2):
            for i in range(len(cells)):
                cells[i] = between(flow[k, :, i], y)
            _row_flow(cells, row[k])
        for n in range(len(kinds)):
            kind = kinds[n]
            if kind == HIDDEN:
                continue
            start, end = n * TILE, (n + 1) * TILE
            u, v, line = row[0, start:end], row[1, start:end], out[y, start:end]
            if kind == MIXED:
                least, most = _fill_layer(sources.rear, u, v, layer)
                if most == 0:
                    kind = EMPTY
                elif least == _PHOTO:
                    kind = PHOTO
                elif most == _PHOTO:
                    _fill_photo(sources.photo, u, v, sharp)
            if kind == PHOTO:
                _fill_photo(sources.photo, u, v, line)
                continue
            background, near = sources.background[y, start:end], sources.near[y, start:end]
            _fill_background(background, near, u, v, start, y, line)
            if kind == MIXED:
                _combine(layer, sharp, line)
