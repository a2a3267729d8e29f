"""How the head moves: amount, spectrum, and coherence with the speech."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.signal import csd, welch

from talkingface.contract.arrays import Float32Array
from talkingface.contract.motion import PITCH, ROLL
from talkingface.contract.rates import MOTION_FPS
from talkingface_research.motion_gen.evaluation.curves import Curve

BANDS = ((0.0, 0.3), (0.3, 1.0), (1.0, 2.0), (2.0, 5.0))  # Hz
SPECTRUM_FRAMES = 256
# The band in which the heads of some 4000 speakers follow their speech (PLoS Comput Biol 1010273).
VOICE_BAND = (1.0, 2.0)
COHERENCE_FRAMES = 64
FAR = 3 * MOTION_FPS  # frames by which audio is shifted, at least, to be unrelated to the head
DRAWS = 40  # of shifted audio


def angles(motion: Float32Array) -> Curve:
    """Pitch, yaw, roll in degrees: (T, 3)."""
    return np.asarray(motion[:, PITCH : ROLL + 1], float)


def step(tracks: Sequence[Curve]) -> float:
    """Mean change of an angle from frame to frame, degrees."""
    return float(np.concatenate([np.abs(np.diff(track, axis=0)) for track in tracks]).mean())


def spectrum(tracks: Sequence[Curve]) -> tuple[Curve, Curve]:
    """Frequencies in Hz and the power density of all three angles, degrees^2 / Hz."""
    total, weight = np.zeros(1), 0
    for track in tracks:
        frequency, power = welch(
            track, MOTION_FPS, nperseg=min(SPECTRUM_FRAMES, len(track)), axis=0,
            nfft=SPECTRUM_FRAMES,
        )  # fmt: skip
        total = total + len(track) * power.sum(axis=1)
        weight += len(track)
    return frequency, total / weight


def band_shares(tracks: Sequence[Curve]) -> Curve:
    """Shares of the power below 5 Hz in each of `BANDS`."""
    frequency, power = spectrum(tracks)
    shares = np.array([power[(frequency >= a) & (frequency < b)].sum() for a, b in BANDS])
    return np.asarray(shares / shares.sum())


def coherence(tracks: Sequence[Curve], levels: Sequence[Curve]) -> float:
    """Coherence of the level of the speech with the speed of the angle that follows it most, mean
    over `VOICE_BAND`, 0..1.

    :param tracks: angles (T, 3) a clip
    :param levels: dB (T,) a clip, on the same clock
    """
    cross: Curve | complex = 0j
    voice: Curve | float = 0.0
    turn: Curve | float = 0.0
    for track, level in zip(tracks, levels, strict=True):
        count = min(len(track), len(level))
        speed = np.diff(track[:count], axis=0).T
        loud = level[: count - 1] - level.mean()
        form = {"fs": MOTION_FPS, "nperseg": COHERENCE_FRAMES}
        frequency, one = csd(loud[None], speed, **form)
        cross = cross + len(loud) * one
        voice = voice + len(loud) * welch(loud, **form)[1]
        turn = turn + len(loud) * welch(speed, **form)[1]
    inside = (frequency >= VOICE_BAND[0]) & (frequency <= VOICE_BAND[1])
    found = np.abs(cross) ** 2 / (voice * turn + 1e-20)
    return float(np.asarray(found)[:, inside].mean(axis=1).max())


def chance_coherence(
    tracks: Sequence[Curve], levels: Sequence[Curve], seed: int = 0
) -> tuple[float, float]:
    """Mean and 95th percentile of the coherence with the levels rolled to other times."""
    rng = np.random.default_rng(seed)
    draws = [
        coherence(
            tracks,
            [np.roll(level, rng.integers(FAR, max(len(level) - FAR, FAR + 1))) for level in levels],
        )
        for _ in range(DRAWS)
    ]
    return float(np.mean(draws)), float(np.percentile(draws, 95))
