"""What may stand between a voice and the encoder, the same every time."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import soxr

from talkingface.contract.motion import Array
from talkingface.contract.rates import SAMPLE_RATE

CHORDS = ((0, 4, 7), (-3, 0, 4), (-7, -3, 0), (-5, -1, 2))  # semitones from C4: C, Am, F, G
C4 = 261.6
BEAT = 0.5  # seconds
GRAIN, SEARCH = 640, 240  # samples of the overlap-add: 40 ms and +-15 ms


def mixed(voice: Array, other: Array, decibels: float) -> Array:
    """Another sound under a voice, this far below it in power."""
    under = np.resize(other, len(voice)).astype(np.float32)
    gain = math.sqrt(
        float((voice**2).mean()) / max(float((under**2).mean()), 1e-12) / 10 ** (decibels / 10)
    )
    return voice + np.float32(gain) * under


def noise(samples: int, seed: int = 0) -> Array:
    """Noise whose power falls as 1 / f."""
    rng = np.random.default_rng(seed)
    spectrum = np.fft.rfft(rng.standard_normal(samples))
    spectrum /= np.sqrt(np.maximum(np.arange(len(spectrum)), samples * 50 / SAMPLE_RATE))
    return np.asarray(np.fft.irfft(spectrum, samples), np.float32)


def music(samples: int, seed: int = 0) -> Array:
    """A chord a bar, bass on every beat, snare on every other and hi-hat on the halves."""
    rng = np.random.default_rng(seed)
    out = np.zeros(samples)

    def play(at: float, sound: Array) -> None:
        first = int(at * SAMPLE_RATE)
        part = sound[: max(0, samples - first)]
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


def _string(frequency: float, seconds: float) -> Array:
    t = np.arange(int(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    partials = [
        np.exp(-(1 + k) * t) / k * np.sin(2 * math.pi * k * frequency * t)
        for k in range(1, 9)
        if k * frequency < SAMPLE_RATE / 2
    ]
    return np.asarray(sum(partials), np.float32)


def _hit(rng: np.random.Generator, seconds: float) -> Array:
    count = int(4 * seconds * SAMPLE_RATE)
    fade = np.exp(-np.arange(count) / (seconds * SAMPLE_RATE))
    return np.asarray(fade * rng.standard_normal(count), np.float32)


def babble(voices: Sequence[Array]) -> Array:
    """Several people talking at once, equally loud."""
    shortest = min(map(len, voices))
    level = [float(np.sqrt((voice[:shortest] ** 2).mean())) + 1e-9 for voice in voices]
    parts = [voice[:shortest] / one for voice, one in zip(voices, level, strict=True)]
    return np.asarray(sum(parts), np.float32)


def stretched(sound: Array, factor: float) -> Array:
    """The sound, lasting `factor` times as long at the same pitch, by overlap-adding grains where
    they fit their forerunner best (WSOLA, Verhelst and Roelands 1993)."""
    window = np.hanning(2 * GRAIN + 1)[:-1]
    count = int(len(sound) * factor / GRAIN)
    padded = np.pad(sound, (GRAIN + SEARCH, 3 * GRAIN + 2 * SEARCH)).astype(float)
    out = np.zeros((count + 2) * GRAIN)
    follow = padded[SEARCH : SEARCH + 2 * GRAIN]
    for i in range(count):
        # Grain i is centred on sample i * GRAIN of the result.
        centre = min(round(i * GRAIN / factor), len(sound))
        around = padded[centre : centre + 2 * GRAIN + 2 * SEARCH]
        at = int(np.correlate(around, follow, "valid").argmax()) if i else SEARCH
        out[i * GRAIN : (i + 2) * GRAIN] += window * around[at : at + 2 * GRAIN]
        follow = padded[centre + at + GRAIN : centre + at + 3 * GRAIN]
    return out[GRAIN:].astype(np.float32)


def shifted(sound: Array, semitones: float) -> Array:
    """The sound at another pitch and formants, as long as it was."""
    factor = 2 ** (semitones / 12)
    longer = stretched(sound, factor)
    played: Array = soxr.resample(longer, SAMPLE_RATE * factor, SAMPLE_RATE).astype(np.float32)
    return np.resize(played, len(sound)) if len(played) < len(sound) else played[: len(sound)]


def kinds(others: Sequence[Array]) -> dict[str, Callable[[Array], Array]]:
    """All disturbances by name.

    :param others: voices for the babble
    """
    return {
        "noise at 10 dB": lambda v: mixed(v, noise(len(v)), 10),
        "music at 10 dB": lambda v: mixed(v, music(len(v)), 10),
        "babble at 10 dB": lambda v: mixed(v, babble(others), 10),
        "voice 4 semitones up": lambda v: shifted(v, 4),
        "voice 4 semitones down": lambda v: shifted(v, -4),
    }
