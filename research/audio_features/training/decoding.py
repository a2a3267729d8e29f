"""Phones from phone times, and along the likeliest path through a reader's probabilities."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from talkingface.contract.speech_features import ROW_SAMPLES
from talkingface_research.audio_features.training.phones import UNKNOWN

Floats = NDArray[np.float32]

CHANGE = 3.0  # log probability that a change of phone costs
LEAST_SURE = 0.5  # mean probability under which a phone counts as unknown


def phones_at(
    phone: NDArray[np.int8], end: NDArray[np.int64], count: int, hop: int
) -> NDArray[np.int8]:
    """The phone at each of `count` times, the first at 0 and `hop` samples apart.

    :param phone: (n,) indices into `PHONES`
    :param end: (n,) their ends in samples; the last phone goes on after its end
    """
    index = np.searchsorted(end, np.arange(count) * hop, side="right")
    found: NDArray[np.int8] = phone[np.minimum(index, len(end) - 1)]
    return found


def likeliest(logs: Floats) -> tuple[NDArray[np.int8], NDArray[np.int64]]:
    """Phones and their ends in samples along the likeliest path (Viterbi 1967).

    A phone is unknown where the mean probability of its rows is under `LEAST_SURE`.

    :param logs: (rows, phones) log probabilities
    """
    score = logs[0].astype(np.float64)
    back = np.zeros(logs.shape, np.int8)
    for i in range(1, len(logs)):
        best = int(score.argmax())
        moved = score[best] - CHANGE > score
        back[i] = np.where(moved, best, np.arange(len(score)))
        score = np.where(moved, score[best] - CHANGE, score) + logs[i]
        score -= score.max()
    path = np.empty(len(logs), np.int8)
    path[-1] = score.argmax()
    for i in range(len(logs) - 1, 0, -1):
        path[i - 1] = back[i, path[i]]
    bounds = np.append(np.flatnonzero(np.diff(path)) + 1, len(path))
    phone, first = [], 0
    for last in bounds:
        name = int(path[first])
        sure = np.exp(logs[first:last, name]).mean() >= LEAST_SURE
        phone.append(name if sure else UNKNOWN)
        first = int(last)
    # A row stands for the time from half a row before it to half a row after.
    return np.array(phone, np.int8), (bounds * ROW_SAMPLES - ROW_SAMPLES // 2).astype(np.int64)
