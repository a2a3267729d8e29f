"""Real lips with any voice: tracked motion moved to the phone times of another voice.

A synthetic voice says the sentence of a recorded clip. Both have phone times, so the recorded face
follows the new voice by a piecewise linear map of its time to the recording's, with knots at the
phones that both have (the visual dubbing of Bregler et al. 1997, with one clip for each sentence).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

from talkingface.contract.arrays import Float32Array
from talkingface.contract.rates import MOTION_FPS, SAMPLE_RATE
from talkingface.contract.speech_features import PHONE_INDEX

SILENCE = PHONE_INDEX["sil"]
GAP, VOWEL_FOR_VOWEL, OTHER = 1.0, 0.5, 1.2  # costs of edits
VOWEL_NAMES = (
    "aa", "ae", "ah", "ao", "aw", "ay", "eh", "er", "ey", "ih", "iy", "ow", "oy", "uh", "uw",
)  # fmt: skip
VOWELS = frozenset(PHONE_INDEX[name] for name in VOWEL_NAMES)
MIN_SLOPE, MAX_SLOPE = 0.3, 3.0  # limits of recorded time over new time for a usable clip


@dataclass(frozen=True)
class Sentence:
    """One sentence: its clip's name, audio (n,) int16, phones (k,) and their ends in seconds."""

    clip: str
    audio: NDArray[np.int16]
    phone: NDArray[np.int8]
    end: NDArray[np.float64]

    @property
    def spans(self) -> tuple[NDArray[np.int8], NDArray[np.float64]]:
        """Phones without silence, and their start and end, (m, 2) seconds."""
        start = np.concatenate([[0.0], self.end[:-1]])
        spoken = (self.phone > SILENCE) & (self.end > start)
        return self.phone[spoken], np.stack([start, self.end], 1)[spoken]


def read_sentences(folder: Path, voice: str) -> list[Sentence]:
    """Read the sentences of one voice of the speech encoder's corpus (NAME.wav, NAME.npz)."""
    audio, rate = soundfile.read(folder / f"{voice}.wav", dtype="int16")
    if rate != SAMPLE_RATE:
        raise ValueError(f"{voice}.wav has {rate} Hz")
    with np.load(folder / f"{voice}.npz") as stored:
        clip, begin = stored["clip"], stored["begin"]
        phone, end = stored["phone"], stored["end"]
    bounds = [*begin, len(audio)]
    out = []
    for name, first, last in zip(clip, bounds, bounds[1:], strict=False):
        own = (end > first) & (end <= last)
        out.append(
            Sentence(str(name), audio[first:last], phone[own], (end[own] - first) / SAMPLE_RATE)
        )
    return out


def matched(first: NDArray[np.int8], second: NDArray[np.int8]) -> list[tuple[int, int]]:
    """Index pairs of phones that correspond, by the cheapest edits."""
    rows, columns = len(first), len(second)
    cost = np.empty((rows + 1, columns + 1))
    cost[:, 0], cost[0] = GAP * np.arange(rows + 1), GAP * np.arange(columns + 1)

    def change(i: int, j: int) -> float:
        a, b = int(first[i]), int(second[j])
        if a == b:
            return 0.0
        return VOWEL_FOR_VOWEL if a in VOWELS and b in VOWELS else OTHER

    for i in range(rows):
        for j in range(columns):
            cost[i + 1, j + 1] = min(
                cost[i, j] + change(i, j), cost[i, j + 1] + GAP, cost[i + 1, j] + GAP
            )
    pairs = []
    i, j = rows, columns
    while i and j:
        if cost[i, j] == cost[i - 1, j - 1] + change(i - 1, j - 1):
            i, j = i - 1, j - 1
            if change(i, j) < OTHER:
                pairs.append((i, j))
        elif cost[i, j] == cost[i - 1, j] + GAP:
            i -= 1
        else:
            j -= 1
    return pairs[::-1]


def time_map(new: Sentence, recorded: Sentence) -> tuple[Float32Array, Float32Array] | None:
    """Knots (times of the new voice, times of the recording); None where they hardly match."""
    (phone, span), (own_phone, own_span) = new.spans, recorded.spans
    pairs = matched(phone, own_phone)
    if len(pairs) < 0.7 * max(len(phone), len(own_phone)):
        return None
    knots: list[tuple[float, float]] = []
    for i, j in pairs:
        for theirs, own in zip(span[i], own_span[j], strict=True):
            if not knots or (theirs > knots[-1][0] + 5e-3 and own > knots[-1][1]):
                knots.append((float(theirs), float(own)))
    slope = (knots[-1][1] - knots[0][1]) / (knots[-1][0] - knots[0][0])
    if not MIN_SLOPE < slope < MAX_SLOPE:
        return None
    # Before the first phone and after the last one, both times run at the same speed.
    knots = [
        (knots[0][0] - 10.0, knots[0][1] - 10.0),
        *knots,
        (knots[-1][0] + 10.0, knots[-1][1] + 10.0),
    ]
    at, to = np.array(knots, np.float64).T
    return at, to


def revoice(
    track: Float32Array, knots: tuple[Float32Array, Float32Array], frames: int, lead: float = 0.0
) -> Float32Array:
    """A recorded track (T, D) at the times that a new voice's frames correspond to: (frames, D).

    :param lead: seconds by which the recording's audio is ahead of its video
    """
    position = (np.interp(np.arange(frames) / MOTION_FPS, *knots) + lead) * MOTION_FPS
    position = np.clip(position, 0, len(track) - 1)
    low = np.minimum(position.astype(int), len(track) - 2)
    part = (position - low)[:, None]
    moved: Float32Array = (track[low] * (1 - part) + track[low + 1] * part).astype(np.float32)
    return moved
