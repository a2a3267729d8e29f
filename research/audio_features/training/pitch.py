"""Fundamental frequency of clean speech: the training labels for pitch and voicing.

Autocorrelation divided by the window's own, with the best path through time (Boersma 1993).
"""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

from talkingface.contract.rates import SAMPLE_RATE

F0_LOW, BINS, PER_OCTAVE = 50.0, 84, 24
RATE = 100  # frames a second
_WINDOW = 768  # samples
_HOP = SAMPLE_RATE // RATE
_FFT = 2048
# Gains and costs are autocorrelations, 0..1.
_VOICING_THRESHOLD = 0.45  # gain of an unvoiced frame
_OCTAVE_BONUS = 0.02  # an octave, for higher pitch
_JUMP_COST = 0.5  # an octave, from frame to frame
_SWITCH_COST = 0.15  # between voiced and unvoiced
_SILENCE_DB = -45.0  # below the 95th percentile of the level, from which a frame is silent


def _strength(audio: NDArray[np.float32]) -> NDArray[np.float32]:
    """Autocorrelation of each frame at each candidate pitch: (frames, BINS)."""
    window = np.hanning(_WINDOW).astype(np.float32)
    own = np.fft.irfft(np.abs(np.fft.rfft(window, _FFT)) ** 2)[:_WINDOW]
    own = np.maximum(own / own[0], 1e-3)
    lags = SAMPLE_RATE / (F0_LOW * 2.0 ** (np.arange(BINS) / PER_OCTAVE))
    whole = np.floor(lags).astype(int)
    part = (lags - whole).astype(np.float32)
    padded = np.pad(audio, _WINDOW // 2)
    frames = len(audio) // _HOP
    out = np.empty((frames, BINS), np.float32)
    for start in range(0, frames, 4000):
        index = np.arange(start, min(frames, start + 4000))[:, None] * _HOP + np.arange(_WINDOW)
        windowed = padded[index]
        windowed = (windowed - windowed.mean(1, keepdims=True)) * window
        auto = np.fft.irfft(np.abs(np.fft.rfft(windowed, _FFT)) ** 2)
        auto = auto[:, :_WINDOW] / (auto[:, :1] + 1e-7) / own
        near = auto[:, whole] * (1 - part) + auto[:, whole + 1] * part
        out[start : start + len(index)] = near
    return out


@numba.njit(cache=True)
def _best_path(gain: NDArray[np.float32], cost: NDArray[np.float32]) -> NDArray[np.uint8]:
    """States (0 = unvoiced) with the highest gain less cost of changes: (frames,)."""
    frames, states = len(gain), len(cost)
    score = np.full(states, np.float32(-1e3))
    score[0] = 0
    back = np.empty((frames, states), np.uint8)
    for i in range(frames):
        new = np.empty(states, np.float32)
        for to in range(states):
            best = 0
            for state in range(1, states):
                if score[state] - cost[state, to] > score[best] - cost[best, to]:
                    best = state
            back[i, to] = best
            new[to] = score[best] - cost[best, to]
            new[to] += gain[i, to - 1] if to else np.float32(_VOICING_THRESHOLD)
        score = new - new.max()
    path = np.empty(frames, np.uint8)
    state = int(score.argmax())
    for i in range(frames - 1, -1, -1):
        path[i] = state
        state = int(back[i, state])
    return path


def track(audio: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Pitch bins at 100 Hz: (frames,), 0 = unvoiced, b = F0_LOW * 2 ** ((b - 1) / PER_OCTAVE) Hz.

    :param audio: (n,) clean speech at 16 kHz
    """
    frames = len(audio) // _HOP
    power = np.square(audio[: frames * _HOP]).reshape(frames, _HOP).mean(1)
    level = 10 * np.log10(power + 1e-10)
    quiet = level < np.percentile(level, 95) + _SILENCE_DB
    gain = _strength(audio) + _OCTAVE_BONUS * np.arange(BINS, dtype=np.float32) / PER_OCTAVE
    gain[quiet] = -1.0
    step = np.abs(np.arange(BINS)[:, None] - np.arange(BINS)[None]) / PER_OCTAVE
    cost = np.zeros((BINS + 1, BINS + 1), np.float32)
    cost[1:, 1:] = _JUMP_COST * step
    cost[0, 1:] = cost[1:, 0] = _SWITCH_COST
    return _best_path(gain, cost)
