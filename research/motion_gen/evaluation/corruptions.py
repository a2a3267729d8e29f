"""Corruptions of speech, deterministic: noise, music, babble, and other pitches and speeds."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import soxr

from talkingface.contract.arrays import Float32Array
from talkingface.contract.rates import SAMPLE_RATE

CHORDS = ((0, 4, 7), (-3, 0, 4), (-7, -3, 0), (-5, -1, 2))  # semitones from C4: C, Am, F, G
C4 = 261.6
BEAT = 0.5  # seconds
GRAIN, SEARCH = 640, 240  # samples of the overlap-add: 40 ms and +-15 ms, by ear


def mixed(speech: Float32Array, other: Float32Array, decibels: float) -> Float32Array:
    """Speech with other audio added, by so many dB weaker than it."""
    under = np.resize(other, len(speech)).astype(np.float32)
    gain = math.sqrt(
        float((speech**2).mean()) / max(float((under**2).mean()), 1e-12) / 10 ** (decibels / 10)
    )
    return speech + np.float32(gain) * under


def noise(samples: int, seed: int = 0) -> Float32Array:
    """Noise whose power falls as 1 / f."""
    rng = np.random.default_rng(seed)
    spectrum = np.fft.rfft(rng.standard_normal(samples))
    spectrum /= np.sqrt(np.maximum(np.arange(len(spectrum)), samples * 50 / SAMPLE_RATE))
    return np.asarray(np.fft.irfft(spectrum, samples), np.float32)


def music(samples: int, seed: int = 0) -> Float32Array:
    """A chord a bar, bass on every beat, snare on every other and hi-hat on the halves."""
    rng = np.random.default_rng(seed)
    out = np.zeros(samples)

    def play(at: float, note: Float32Array) -> None:
        first = int(at * SAMPLE_RATE)
        part = note[: max(0, samples - first)]
        out[first : first + len(part)] += part

    for beat in range(math.ceil(samples / SAMPLE_RATE / BEAT)):
        chord = CHORDS[beat // 4 % len(CHORDS)]
        start = beat * BEAT
        if beat % 4 == 0:
            for semitones in chord:
                play(start, 0.25 * _string(C4 * 2 ** (semitones / 12), 4 * BEAT))
        play(start, 0.5 * _string(C4 / 4 * 2 ** (chord[0] / 12), BEAT))
        for delay, length, level in ((0.0, 0.03, 0.2), (BEAT / 2, 0.03, 0.2)):
            play(start + delay, level * _hit(rng, length))
        if beat % 2:
            play(start, 0.6 * _hit(rng, 0.12))
    return out.astype(np.float32)


def _string(frequency: float, seconds: float) -> Float32Array:
    t = np.arange(int(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    partials = [
        np.exp(-(1 + k) * t) / k * np.sin(2 * math.pi * k * frequency * t)
        for k in range(1, 9)
        if k * frequency < SAMPLE_RATE / 2
    ]
    return np.asarray(sum(partials), np.float32)


def _hit(rng: np.random.Generator, seconds: float) -> Float32Array:
    count = int(4 * seconds * SAMPLE_RATE)
    fade = np.exp(-np.arange(count) / (seconds * SAMPLE_RATE))
    return np.asarray(fade * rng.standard_normal(count), np.float32)


def babble(voices: Sequence[Float32Array]) -> Float32Array:
    """Several people talking at once, equally loud."""
    shortest = min(map(len, voices))
    level = [float(np.sqrt((voice[:shortest] ** 2).mean())) + 1e-9 for voice in voices]
    parts = [voice[:shortest] / one for voice, one in zip(voices, level, strict=True)]
    return np.asarray(sum(parts), np.float32)


def stretched(audio: Float32Array, factor: float) -> Float32Array:
    """Audio that lasts `factor` times as long at the same pitch, by overlap-adding grains where
    they match the previous grain best (WSOLA, Verhelst and Roelands 1993)."""
    window = np.hanning(2 * GRAIN + 1)[:-1]
    count = int(len(audio) * factor / GRAIN)
    padded = np.pad(audio, (GRAIN + SEARCH, 3 * GRAIN + 2 * SEARCH)).astype(float)
    out = np.zeros((count + 2) * GRAIN)
    follow = padded[SEARCH : SEARCH + 2 * GRAIN]
    for i in range(count):
        # Grain i is centred on sample i * GRAIN of the result.
        centre = min(round(i * GRAIN / factor), len(audio))
        around = padded[centre : centre + 2 * GRAIN + 2 * SEARCH]
        at = int(np.correlate(around, follow, "valid").argmax()) if i else SEARCH
        out[i * GRAIN : (i + 2) * GRAIN] += window * around[at : at + 2 * GRAIN]
        follow = padded[centre + at + GRAIN : centre + at + 3 * GRAIN]
    return out[GRAIN:].astype(np.float32)


def shifted(audio: Float32Array, semitones: float) -> Float32Array:
    """Audio at another pitch and formants, at the same length."""
    factor = 2 ** (semitones / 12)
    longer = stretched(audio, factor)
    played: Float32Array = soxr.resample(longer, SAMPLE_RATE * factor, SAMPLE_RATE).astype(
        np.float32
    )
    return np.resize(played, len(audio)) if len(played) < len(audio) else played[: len(audio)]


def kinds(others: Sequence[Float32Array]) -> dict[str, Callable[[Float32Array], Float32Array]]:
    """All corruptions by name.

    :param others: voices for the babble
    """
    return {
        "noise at 10 dB": lambda v: mixed(v, noise(len(v)), 10),
        "music at 10 dB": lambda v: mixed(v, music(len(v)), 10),
        "babble at 10 dB": lambda v: mixed(v, babble(others), 10),
        "voice 4 semitones up": lambda v: shifted(v, 4),
        "voice 4 semitones down": lambda v: shifted(v, -4),
    }
