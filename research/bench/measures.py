"""The figures of a live bench, from arrays: arrival times, presentation times, audio, curves.

Times are in seconds. A moment is a time of arrival at the client, or of sending. A curve has one
value a frame, NaN where the frame was not measured.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Samples = NDArray[np.float32]

REST_SECONDS = 0.5  # before a moment, in which a curve must be at rest
SEARCH_SECONDS = 1.0  # after it, in which a response is looked for
# What a movement must exceed, by eye: robust standard deviations of the curve at rest, and a share
# of the usual opening or of the whole change.
NOISES = 5.0
ONSET_SHARE = 0.15
MOVED_SHARE = 0.1
STEADY = 2  # frames in a row that must agree
REACH_SECONDS = 0.6  # largest lag, either way
GRID = 0.01  # seconds


class Rest(NamedTuple):
    """A curve at rest: its level, and the least rise that counts as a movement."""

    level: float
    least: float


def missing(indices: NDArray[np.int64], rate: float, after: float = 1.0) -> int:
    """Number of frames that did not come, presented at `after` seconds or later.

    :param indices: (n,) numbers of the frames that came, rising
    """
    first = math.ceil(after * rate - 1e-6)
    came = indices[indices >= first]
    return int(came[-1]) + 1 - first - len(came) if len(came) else 0


def gaps(arrivals: Array, after: float = 1.0) -> Array:
    """Intervals between frames, from `after` seconds past the first on."""
    if not len(arrivals):
        return np.zeros(0)
    return np.diff(arrivals[arrivals >= arrivals[0] + after])


def drift(arrivals: Array, presented: Array) -> float:
    """How much later frames arrive at the end than at the beginning, against their presentation.

    A line through the medians of each second, fitted by the median of all slopes (Theil 1950), so
    that neither jitter nor a stall counts. NaN below three seconds.
    """
    lag = arrivals - presented
    seconds = np.floor(presented).astype(int)
    bins = np.unique(seconds)
    if len(bins) < 3:
        return math.nan
    middles = np.array([np.median(lag[seconds == s]) for s in bins])
    above = np.triu_indices(len(bins), 1)
    slopes = (middles[above[1]] - middles[above[0]]) / (bins[above[1]] - bins[above[0]])
    return float(np.median(slopes) * (bins[-1] - bins[0]))


def lateness(lag: Array) -> Array:
    """By how many seconds each frame arrived later than the session's median frame; 0 if earlier.

    :param lag: (n,) arrival minus presentation
    """
    return np.maximum(lag - np.median(lag), 0.0) if len(lag) else np.zeros(0)


def time_by_level(changes: Sequence[tuple[float, int]], until: float) -> dict[int, float]:
    """Seconds that a session spent on each level of the degradation ladder.

    :param changes: (session time, level from then on), rising; a session begins on level 0
    :param until: end of the session in seconds
    """
    seconds: dict[int, float] = {}
    moments = [(0.0, 0), *changes]
    ends = [min(begin, until) for begin, _ in moments[1:]] + [until]
    for (begin, level), end in zip(moments, ends, strict=True):
        seconds[level] = seconds.get(level, 0.0) + max(end - begin, 0.0)
    return seconds


def audio_ahead(indices: Sequence[int], samples: Sequence[int], rate: float, hertz: int) -> Array:
    """How far the audio received reaches beyond the end of each frame, (frames,).

    :param indices: number of the frame of each chunk; -1 where a chunk has audio alone
    :param samples: audio samples in each chunk
    :param rate: frames a second
    :param hertz: sample rate
    """
    total = np.cumsum(samples) / hertz
    number = np.asarray(indices)
    ends = (number + 1) / rate
    return np.asarray((total - ends)[number >= 0])


def at_rest(moments: Array, curve: Array, moment: float, usual: float) -> Rest | None:
    """The curve's rest just before a moment; None where it moves, or was not measured.

    :param usual: usual rise of the curve above rest
    """
    before = curve[(moments > moment - REST_SECONDS) & (moments <= moment)]
    if np.isfinite(before).sum() < 5:
        return None
    level = float(np.nanmedian(before))
    noise = 1.4826 * float(np.nanmedian(np.abs(before - level)))
    least = max(NOISES * noise, ONSET_SHARE * usual)
    return Rest(level, least) if np.nanmax(np.abs(before - level)) <= least else None


def onset(moments: Array, curve: Array, sent: float, rest: Rest) -> float:
    """Time from sending to the arrival of the first of `STEADY` frames in which the curve has risen
    from rest; NaN where it does not within `SEARCH_SECONDS`."""
    return _first(moments, curve > rest.level + rest.least, sent)


def _first(moments: Array, holds: NDArray[np.bool_], sent: float) -> float:
    after = np.flatnonzero((moments > sent) & (moments <= sent + SEARCH_SECONDS))
    for i in after:
        if holds[i : i + STEADY].all() and i + STEADY <= len(holds):
            return float(moments[i] - sent)
    return math.nan


def settled(moments: Array, active: NDArray[np.bool_], sent: float, until: float) -> float:
    """Time from sending to the first arrival after which nothing is active before `until`.

    0 where nothing was active, NaN where something still is at the end.
    """
    inside = np.flatnonzero((moments > sent) & (moments <= until))
    still = inside[active[inside]]
    if not len(still):
        return 0.0
    if still[-1] == inside[-1]:
        return math.nan
    return float(moments[still[-1] + 1] - sent)


class Step(NamedTuple):
    """How a curve went from one level to another."""

    first: float  # from sending to the first frame that has measurably moved
    ninety: float  # from sending to the first frame with 90 % of the change
    change: float  # in the unit of the curve


def step(moments: Array, curve: Array, sent: float, until: float) -> Step | None:
    """The curve's response to a control; None where its ends were not measured or it hardly moved.

    :param until: time of the next control; the curve's level in the 0.4 s before it is the end
    """
    before = curve[(moments > sent - REST_SECONDS) & (moments <= sent)]
    after = curve[(moments > until - 0.4) & (moments <= until)]
    if min(np.isfinite(before).sum(), np.isfinite(after).sum()) < 5:
        return None
    start = float(np.nanmedian(before))
    change = float(np.nanmedian(after)) - start
    noise = 1.4826 * float(np.nanmedian(np.abs(before - start)))
    if abs(change) < 2 * NOISES * noise or change == 0.0:
        return None
    share = (curve - start) / change
    least = max(NOISES * noise / abs(change), MOVED_SHARE)
    return Step(_first(moments, share > least, sent), _first(moments, share >= 0.9, sent), change)


class Lag(NamedTuple):
    """The time by which one curve follows another, and their correlation then (r)."""

    seconds: float
    correlation: float


NO_LAG = Lag(math.nan, math.nan)


def lag(leader: Array, follower: Array, seconds: float, reach: float = REACH_SECONDS) -> Lag:
    """The shift within +-`reach` at which two curves correlate best, with sub-sample precision.

    :param leader: (n,) on a regular grid; NaN in either curve is left out
    :param seconds: from sample to sample
    """
    most = round(reach / seconds)
    if len(leader) < 2 * most + 3:
        return NO_LAG
    shifts = range(-most, most + 1)
    values = np.array([_correlation(leader, follower, shift) for shift in shifts])
    if not np.isfinite(values).any():
        return NO_LAG
    best = int(np.nanargmax(values))
    peak = float(best)
    if 0 < best < len(values) - 1 and np.isfinite(values[best - 1 : best + 2]).all():
        left, middle, right = values[best - 1 : best + 2]
        bend = left - 2 * middle + right
        peak += 0.5 * float((left - right) / bend) if bend < 0 else 0.0
    return Lag((peak - most) * seconds, float(values[best]))


def _correlation(leader: Array, follower: Array, shift: int) -> float:
    first = leader[max(-shift, 0) : len(leader) - max(shift, 0)]
    second = follower[max(shift, 0) : len(follower) + min(shift, 0)]
    known = np.isfinite(first) & np.isfinite(second)
    if known.sum() < 10:
        return math.nan
    a, b = first[known] - first[known].mean(), second[known] - second[known].mean()
    scale = math.sqrt(float((a @ a) * (b @ b)))
    return float(a @ b) / scale if scale > 1e-12 else math.nan


def on_grid(moments: Array, curve: Array, begin: float, end: float) -> Array:
    """The curve every 10 ms as a viewer sees it: each frame until the next one arrives."""
    grid = np.arange(begin, end, GRID)
    last = np.searchsorted(moments, grid, side="right") - 1
    return np.where(last >= 0, curve[np.maximum(last, 0)], np.nan)


def loudness_on_grid(
    samples: NDArray[np.int16], hertz: int, sent: float, begin: float, end: float
) -> Array:
    """Root mean square every 10 ms of an utterance sent in real time from `sent` on, else 0."""
    hop = round(hertz * GRID)
    count = len(samples) // hop
    level = np.sqrt(np.mean(np.square(samples[: count * hop].reshape(count, hop), dtype=float), 1))
    out = np.zeros(len(np.arange(begin, end, GRID)))
    first = round((sent - begin) / GRID)
    inside = np.arange(count) + first
    kept = (inside >= 0) & (inside < len(out))
    out[inside[kept]] = level[kept]
    return out


def find(audio: NDArray[np.int16], pattern: NDArray[np.int16], low: int, high: int) -> int | None:
    """Where in `audio` a pattern begins, within low..high; None where it does not.

    By normalised correlation, whose peak must reach 0.9.
    """
    part = audio[max(low, 0) : high + len(pattern)].astype(np.float64)
    wanted = pattern.astype(np.float64)
    if len(part) < len(wanted):
        return None
    size = 1 << (len(part) + len(wanted)).bit_length()
    spectrum = np.fft.rfft(part, size) * np.conj(np.fft.rfft(wanted, size))
    positions = len(part) - len(wanted) + 1
    product = np.fft.irfft(spectrum, size)[:positions]
    squares = np.concatenate([[0.0], np.cumsum(np.square(part))])
    energy = squares[len(wanted) :] - squares[: -len(wanted)]
    scale = np.sqrt(np.maximum(energy, 1.0) * float(wanted @ wanted))
    score = np.where(scale > 0, product / np.maximum(scale, 1e-9), 0.0)
    best = int(score.argmax())
    return max(low, 0) + best if score[best] >= 0.9 else None


def growth(sizes: Sequence[tuple[float, Mapping[str, float]]], until: float) -> dict[str, float]:
    """Growth in per cent from the second minute to the last one, by name.

    :param sizes: (seconds, size by name); names that are not there all the time are left out
    :param until: end in seconds; below 180 the result is empty
    """
    if until < 180:
        return {}
    early = [values for seconds, values in sizes if 60 <= seconds <= 120]
    late = [values for seconds, values in sizes if until - 60 <= seconds <= until]
    if not early or not late:
        return {}
    names = set.intersection(*(set(values) for values in early + late))

    def middle(values: list[Mapping[str, float]], name: str) -> float:
        return float(np.median([one[name] for one in values]))

    return {name: 100 * (middle(late, name) / middle(early, name) - 1) for name in sorted(names)}
