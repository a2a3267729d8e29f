"""A synthetic sung scale: pulses through formants (Peterson and Barney 1952, men)."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from scipy.signal import lfilter

from talkingface.contract.arrays import Float32Array
from talkingface.contract.rates import SAMPLE_RATE
from talkingface_research.motion_gen.evaluation.curves import Curve

# Formants in Hz, and how far the jaw is open, 1 = most.
VOWELS: dict[str, tuple[tuple[float, float, float], float]] = {
    "aa": ((730, 1090, 2440), 1.0),
    "eh": ((530, 1840, 2480), 0.65),
    "iy": ((270, 2290, 3010), 0.3),
    "ao": ((570, 840, 2410), 0.75),
    "uw": ((300, 870, 2240), 0.2),
}
SCALE = (0, 2, 4, 5, 7, 9, 11, 12, 11, 9, 7, 5, 4, 2, 0)  # semitones, up and down
LOWEST = 131.0  # Hz, C3
NOTE, BREATH = 0.6, 0.12  # seconds
BANDWIDTHS = (60.0, 90.0, 120.0)  # Hz
VIBRATO, VIBRATO_DEPTH = 5.5, 0.015  # Hz, share of the pitch


class Note(NamedTuple):
    """One note of the song."""

    vowel: str
    start: float  # seconds
    end: float
    openness: float


def scale() -> tuple[Float32Array, list[Note]]:
    """The song and its notes; successive notes have different vowels, all equally loud."""
    rng = np.random.default_rng(0)
    parts, notes = [np.zeros(int(0.5 * SAMPLE_RATE))], []
    names = list(VOWELS)
    at = 0.5
    for i, semitones in enumerate(SCALE):
        name = names[i % len(names)]
        formants, openness = VOWELS[name]
        note = _vowel(LOWEST * 2 ** (semitones / 12), formants, rng)
        parts += [note, np.zeros(int(BREATH * SAMPLE_RATE))]
        notes.append(Note(name, at, at + NOTE, openness))
        at += NOTE + BREATH
    return np.concatenate([*parts, parts[0]]).astype(np.float32), notes


def _vowel(pitch: float, formants: tuple[float, ...], rng: np.random.Generator) -> Curve:
    t = np.arange(int(NOTE * SAMPLE_RATE)) / SAMPLE_RATE
    phase = np.cumsum(pitch * (1 + VIBRATO_DEPTH * np.sin(2 * math.pi * VIBRATO * t)) / SAMPLE_RATE)
    pulses = np.diff(np.floor(phase), prepend=0.0) + 0.003 * rng.standard_normal(len(t))
    signal = lfilter([1.0], [1.0, -0.96], pulses)  # the glottis: -12 dB an octave, +6 at the lips
    for frequency, bandwidth in zip(formants, BANDWIDTHS, strict=True):
        radius = math.exp(-math.pi * bandwidth / SAMPLE_RATE)
        turn = 2 * radius * math.cos(2 * math.pi * frequency / SAMPLE_RATE)
        signal = lfilter([1 - turn + radius**2], [1.0, -turn, radius**2], signal)
    signal -= signal.mean()
    fade = np.clip(np.minimum(t, NOTE - t) / 0.04, 0, 1)
    return np.asarray(0.1 * fade * signal / np.sqrt((signal**2).mean()), float)
