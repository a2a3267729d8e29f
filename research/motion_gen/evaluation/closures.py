"""Whether the lips close for /p b m/ and the lower lip reaches the teeth for /f v/."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from talkingface.contract.rates import MOTION_FPS
from talkingface_research.motion_gen.evaluation.curves import Curve
from talkingface_research.motion_gen.evaluation.phones import Phones

SLACK = 0.06  # seconds before and after the phone
MARGIN = 0.1  # seconds at the end of a clip that do not count
LONGEST = 0.2  # seconds before its end: an aligner lets a first stop begin with the silence before


def reached(
    gap: Curve, phones: Phones, members: Iterable[int], below: float, offset: int = 0
) -> NDArray[np.bool_]:
    """Whether the gap falls under `below` in any frame within `SLACK` of each phone.

    :param gap: (T,) face widths at `MOTION_FPS`
    :param members: phones that count
    :param offset: frames by which the gap comes later than the audio
    """
    times = (np.arange(len(gap)) + 0.5 - offset) / MOTION_FPS
    counted = np.isin(phones.phone, list(members)) & (phones.end < times[-1] - MARGIN)
    start, end = phones.start[counted], phones.end[counted]
    first = np.searchsorted(times, np.maximum(start, end - LONGEST) - SLACK, side="left")
    last = np.searchsorted(times, end + SLACK, side="right")
    return np.array([(gap[a:b] < below).any() for a, b in zip(first, last, strict=True)], bool)


def share_below(gaps: Iterable[Curve], below: float) -> float:
    """Share of all frames with a gap under `below`."""
    return float((np.concatenate(list(gaps)) < below).mean())
