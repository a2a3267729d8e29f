"""Blinks in a track of lid closure: when, how long, how fast."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.signal import find_peaks, peak_widths
from scipy.stats import kstest

from talkingface.contract.arrays import Float32Array
from talkingface.contract.motion import ARKIT_INDEX
from talkingface.contract.rates import MOTION_FPS
from talkingface_research.motion_gen.evaluation.curves import Curve

HEIGHT, PROMINENCE = 0.45, 0.35  # of full closure, by eye
APART = 4  # frames
# Depths below the peak, as shares of its height, at which duration and flanks are measured.
FOOT, SHOULDER = 0.9, 0.2
LIDS = [ARKIT_INDEX["eyeBlinkLeft"], ARKIT_INDEX["eyeBlinkRight"]]


@dataclass(frozen=True)
class Blinks:
    """Blinks of one stream, (n,) each; times in seconds."""

    start: Curve
    duration: Curve  # at a tenth of the height
    closing: Curve  # from a tenth to eight tenths of the height
    opening: Curve
    depth: Curve  # greatest closure, 0..1

    @property
    def intervals(self) -> Curve:
        """(n - 1,) from one start to the next."""
        return np.diff(self.start)


def lids(motion: Float32Array) -> Curve:
    """Mean closure of both lids: (T,)."""
    return np.asarray(motion[:, LIDS].mean(axis=1), float)


def find(closure: Curve) -> Blinks:
    """The blinks of a track (T,) at `MOTION_FPS`; crossings are interpolated between frames."""
    # Repeated ends, so that a blink at the edge has both its flanks.
    padded = np.concatenate([closure[:1], closure, closure[-1:]])
    peaks, _ = find_peaks(
        padded, height=HEIGHT, prominence=PROMINENCE, distance=APART, plateau_size=(1, None)
    )
    _, _, first, last = peak_widths(padded, peaks, FOOT)
    _, _, shut, ajar = peak_widths(padded, peaks, SHOULDER)
    return Blinks(
        (first - 1) / MOTION_FPS,
        (last - first) / MOTION_FPS,
        (shut - first) / MOTION_FPS,
        (last - ajar) / MOTION_FPS,
        padded[peaks],
    )


def rate(found: Sequence[Blinks], seconds: float) -> float:
    """Blinks a minute."""
    return 60.0 * sum(len(one.start) for one in found) / seconds


def lognormal_distance(intervals: Curve) -> tuple[float, float]:
    """Kolmogorov-Smirnov distance of intervals from the log-normal distribution fitted to them, and
    the distance that 5 % of true log-normal samples exceed (Lilliefors; Stephens 1974)."""
    logs = np.log(intervals)
    n = len(logs)
    distance = kstest((logs - logs.mean()) / logs.std(ddof=1), "norm").statistic
    return float(distance), 0.895 / (np.sqrt(n) - 0.01 + 0.85 / np.sqrt(n))
