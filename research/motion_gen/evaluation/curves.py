"""Curves at `MOTION_FPS`: bands, lags, correlations of clips laid end to end."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.signal import butter, sosfiltfilt

from talkingface.contract.rates import MOTION_FPS

Curve = NDArray[np.float64]

SYLLABLES = (2.0, 8.0)  # Hz: the band in which a mouth follows speech
LAGS = (-1, 0, 1, 2)  # frames: -40..+80 ms, positive = generated lips late


def band_passed(track: ArrayLike, band: tuple[float, float] = SYLLABLES) -> Curve:
    """The part of a curve (T, ...) within a band in Hz, without shift in time."""
    sections = butter(3, band, "bandpass", fs=MOTION_FPS, output="sos")
    passed: Curve = sosfiltfilt(sections, np.asarray(track, float), axis=0)
    return passed


def shifted(track: ArrayLike, frames: int, length: int) -> Curve:
    """A curve (n,) delayed by `frames`, its ends repeated, cut to `length`."""
    values = np.asarray(track, float)
    return values[np.clip(np.arange(length) - frames, 0, len(values) - 1)]


def pooled(tracks: Iterable[ArrayLike], band: tuple[float, float] = SYLLABLES) -> Curve:
    """The bands of all clips, end to end."""
    return np.concatenate([band_passed(track, band) for track in tracks])


def correlation(first: ArrayLike, second: ArrayLike) -> float:
    """Pearson's r; 0 where one of the curves does not move."""
    a, b = np.asarray(first, float), np.asarray(second, float)
    if min(a.std(), b.std()) < 1e-9:
        return 0.0
    return float(np.corrcoef(a, b)[0, 1])


def lagged_correlation(
    made: Sequence[ArrayLike],
    real: Sequence[ArrayLike],
    offsets: Sequence[int],
    lags: Iterable[int] = LAGS,
) -> tuple[float, int]:
    """The best pooled correlation over lags common to all clips, and its lag in frames.

    :param made: a curve a clip, on the clock of its audio
    :param real: the same on the clock of its video
    :param offsets: frames by which each clip's audio is ahead of its video
    """
    truth = pooled(real)
    scores = {
        lag: correlation(
            pooled(
                shifted(m, offset - lag, len(np.asarray(r)))
                for m, r, offset in zip(made, real, offsets, strict=True)
            ),
            truth,
        )
        for lag in lags
    }
    best = max(scores, key=scores.__getitem__)
    return scores[best], best


def spread(tracks: Iterable[ArrayLike]) -> float:
    """Standard deviation of the clips' syllable band."""
    return float(pooled(tracks).std())


def bootstrap(
    made: Sequence[ArrayLike],
    real: Sequence[ArrayLike],
    lag: int = 0,
    draws: int = 1000,
    band: tuple[float, float] = SYLLABLES,
) -> tuple[float, float]:
    """Bootstrap 95 % interval over clips of the pooled correlation at one lag in frames.

    :param made: a curve a clip, on the clock of `real`
    """
    sums = []
    for m, r in zip(made, real, strict=True):
        truth = band_passed(r, band)
        track = band_passed(shifted(m, -lag, len(truth)), band)
        parts = (track, truth, track**2, truth**2, track * truth)
        sums.append([float(len(truth)), *(float(part.sum()) for part in parts)])
    clips = np.array(sums)
    drawn = np.random.default_rng(0).integers(len(clips), size=(draws, len(clips)))
    n, x, y, xx, yy, xy = clips[drawn].sum(axis=1).T
    size = np.sqrt(np.maximum((xx - x**2 / n) * (yy - y**2 / n), 1e-20))
    low, high = np.percentile((xy - x * y / n) / size, [2.5, 97.5])
    return float(low), float(high)
