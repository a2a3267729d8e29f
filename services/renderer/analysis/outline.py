"""The outline of a person beyond the borders of a photo."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from talkingface.renderer.arrays import BoolArray, Float32Array, runs
from talkingface.renderer.opencv import cv

# By eye. Reaches are in pixels of the frame; slopes in pixels aside for one outwards.
CUT = 16  # rows inside the border from which an outline's course is extrapolated
LEAST_RUN = 8  # pixels of an outline below which what touches the border is a strand
DOME = (0.2, 0.55)  # height, least and most, over its radius, of what closes a person
SHOULDER = 0.004  # bend of shoulders and necks: pixels aside for one outwards, squared
LEAN, SPREAD = 0.5, (-2.0, 0.5)  # limits of a middle's slope; of an outline's below a face
FALL = (-0.3, 3.0)  # limits of a shoulder's slope sideways
LIKENESS = 0.6  # overlap over union of the two sides' outlines from which one completes the other
TURNING = 12.0  # pixels over which an outline goes over into that of the other side
FAR = 24.0  # distances from an outline are counted up to it
EDGE = 1.2  # standard deviation of the soft edge


class Known(NamedTuple):
    """The rectangle of an image that a photo covers."""

    rows: slice
    columns: slice


def known_rectangle(known: BoolArray) -> Known:
    """The rectangle of True in (H, W)."""
    rows, columns = np.flatnonzero(known.any(1)), np.flatnonzero(known.any(0))
    return Known(slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))


def continue_outline(matte: Float32Array, known: Known, axis: float) -> Float32Array:
    """Continue the opacity (H, W) of a person beyond what is known of it.

    A person that the upper border cuts is closed by a dome; one that the lower border cuts widens
    as it did; at the sides the outline follows that of the other side where both are alike.

    :param axis: column about which the two sides of the person are alike.
    """
    height, width = matte.shape
    out = np.zeros_like(matte)
    out[known] = matte[known]
    left, right = known.columns.start, width - known.columns.stop
    rows = out[known.rows]
    for first, last, flipped, middle in (
        (left, right, rows, axis),
        (right, left, rows[:, ::-1], width - 1 - axis),
    ):
        if first:
            beyond = _sideways(flipped, first, last, middle)
            flipped[:, :first] = beyond[:, ::-1]
    top, bottom = known.rows.start, height - known.rows.stop
    if top:
        out[:top] = _closed(out[top:], top)[::-1]
    if bottom:
        out[height - bottom :] = _widened(out[: height - bottom][::-1], bottom)
    soft = np.minimum(cv.GaussianBlur(out, (0, 0), EDGE), 1)
    out[known] = matte[known]
    outside = np.ones(matte.shape, bool)
    outside[known] = False
    continued: Float32Array = np.where(outside, soft, out)
    return continued


class _Run(NamedTuple):
    """Where a person touches a border, and how that changes on the way out."""

    first: int
    last: int  # one past the last index
    first_slope: float  # indices for one pixel outwards
    last_slope: float


def _touching(inside: Float32Array) -> list[_Run]:
    """The runs of the border's opacity; rows of `inside` count from the border inwards."""
    depth = min(CUT, len(inside) - 1)
    deeper = runs(inside[depth] > 0.5)
    out = []
    for first, last in runs(inside[0] > 0.5):
        if last - first < LEAST_RUN:
            continue
        overlaps = [(min(b, last) - max(a, first), a, b) for a, b in deeper]
        overlap, a, b = max(overlaps, default=(0, first, last))
        if overlap <= 0:
            a, b = first, last
        out.append(_Run(first, last, (first - a) / depth, (last - b) / depth))
    return out


def _spans(starts: Float32Array, ends: Float32Array, width: int) -> Float32Array:
    """Rows (N, W) of opacity, from `starts` (N,) to `ends` (N,)."""
    at = np.arange(width, dtype=np.float32)
    inside = np.minimum(at - starts[:, None] + 1, ends[:, None] - at)
    return np.clip(inside, 0, 1).astype(np.float32)


def _closed(inside: Float32Array, length: int) -> Float32Array:
    """Rows (length, W) beyond the border, outwards: every run closed by a conic section.

    The square of the half width is a quadratic function of the distance that goes on with the
    outline's slope and ends at the dome's top.
    """
    width = inside.shape[1]
    away = np.arange(1, length + 1, dtype=np.float32)
    out = np.zeros((length, width), np.float32)
    for run in _touching(inside):
        radius = (run.last - run.first) / 2
        narrowing = (run.first_slope - run.last_slope) / 2
        height = radius / max(2 * narrowing, 1e-3)
        height = min(max(height, DOME[0] * radius), DOME[1] * radius)
        slope = min(max(narrowing, -0.5), radius / (2 * height))
        bend = (radius**2 - 2 * radius * slope * height) / height**2
        half = np.sqrt(np.maximum(radius**2 - 2 * radius * slope * away - bend * away**2, 0))
        half[away >= height] = 0
        lean = float(np.clip((run.first_slope + run.last_slope) / 2, -LEAN, LEAN))
        middle = (run.first + run.last) / 2 + lean * height * (1 - np.exp(-away / height))
        starts = np.full(length, -1.0) if run.first == 0 else middle - half
        ends = np.full(length, width + 1.0) if run.last == width else middle + half
        span = _spans(starts.astype(np.float32), ends.astype(np.float32), width)
        out = np.maximum(out, span * (half > 0)[:, None])
    return out


def _widened(inside: Float32Array, length: int) -> Float32Array:
    """Rows (length, W) below the border, downwards: every run goes on, and widens."""
    width = inside.shape[1]
    away = np.arange(1, length + 1, dtype=np.float32)
    out = np.zeros((length, width), np.float32)
    for run in _touching(inside):
        first = float(np.clip(run.first_slope, *SPREAD))
        last = float(np.clip(-run.last_slope, *SPREAD))
        starts = run.first + first * away - SHOULDER * away**2
        ends = run.last - last * away + SHOULDER * away**2
        if run.first == 0:
            starts[:] = -1
        if run.last == width:
            ends[:] = width + 1
        out = np.maximum(out, _spans(starts, ends, width))
    return out


def _sideways(side: Float32Array, first: int, last: int, axis: float) -> Float32Array:
    """Columns (H, first) beyond the left border of `side` (H, W), outwards.

    :param first: columns that are not known at the left; `last`, at the right.
    :param axis: as in `continue_outline`.
    """
    height, width = side.shape
    away = np.arange(1, first + 1)
    border = side[:, first]
    mirrored = np.round(2 * axis - first + np.arange(first + 1)).astype(int)
    if 0 <= mirrored[0] < width - last:
        other = side[:, np.minimum(mirrored, width - last - 1)]
        moved = _first_row(border) - _first_row(other[:, 0])
        other = np.roll(np.pad(other, ((height, height), (0, 0)), mode="edge"), moved, 0)
        other = other[height : 2 * height]
        both = np.minimum(border, other[:, 0]).sum()
        if both > LIKENESS * np.maximum(border, other[:, 0]).sum():
            own = _signed_distance(border[:, None])
            weight = np.exp(-away / TURNING)[None]
            distance = weight * own + (1 - weight) * _signed_distance(other)[:, 1:]
            opacity: Float32Array = np.clip(distance + 0.5, 0, 1).astype(np.float32)
            return opacity
    return _falling(np.ascontiguousarray(side[:, first:].T), first).T


def _first_row(column: Float32Array) -> int:
    inside = np.flatnonzero(column > 0.5)
    return int(inside[0]) if len(inside) else len(column)


def _signed_distance(columns: Float32Array) -> Float32Array:
    """Pixels along each column (H, N) from the outline, > 0 inside, up to `FAR`."""
    inside = (columns > 0.5).astype(np.uint8)
    at = np.arange(len(columns), dtype=np.float32)[:, None]
    out = np.empty(columns.shape, np.float32)
    for n in range(columns.shape[1]):
        ends = np.flatnonzero(np.diff(inside[:, n])) + 0.5
        distance = np.abs(at - ends).min(1) if len(ends) else np.full(len(columns), FAR)
        out[:, n] = np.where(inside[:, n], 1, -1) * np.minimum(distance, FAR)
    return out


def _falling(inside: Float32Array, length: int) -> Float32Array:
    """Rows (length, W) beyond a side, outwards: what reaches the lower end falls, the rest closes.

    :param inside: (H, W) from the border inwards, the photo's columns as rows.
    """
    width = inside.shape[1]
    away = np.arange(1, length + 1, dtype=np.float32)
    closing = inside.copy()
    out = np.zeros((length, width), np.float32)
    for run in _touching(inside):
        if run.last == width:
            slope = float(np.clip(run.first_slope, *FALL))
            starts = run.first + slope * away + SHOULDER * away**2
            out = np.maximum(out, _spans(starts, np.full(length, width + 1.0), width))
            closing[0, run.first : run.last] = 0
    return np.maximum(out, _closed(closing, length))
