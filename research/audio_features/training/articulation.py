"""Positions of lips, jaw and tongue during phones: targets by rule.

Each phone has a target and a dominance for every articulator; a track is the mean of the targets
weighted by dominance, which decays exponentially before and after the phone (Cohen & Massaro
1993). Bilabials always close the lips and labiodentals bring the lip to the teeth, whatever their
neighbours; tongue consonants leave the lips to their neighbours (Edwards et al. 2016).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from talkingface.contract.rates import SAMPLE_RATE
from talkingface.contract.speech_features import ARTICULATION, PHONE_INDEX, PHONES
from talkingface_research.audio_features.training.phones import UNKNOWN

RATE = 100  # frames a second
_DECAY_PER_SECOND = 18.0
# Closures are strong but short: they hardly extend beyond their phone.
_CLOSURE_DOMINANCE, _CLOSURE_DECAY_PER_SECOND = 8.0, 80.0
_NEIGHBOURS = 5  # phones before and after that have an effect
_DIPHTHONG_SPLIT = 0.55  # of its length, where the second vowel begins

# phone: closure, teeth, jaw, opening, rounding, spread; tongue tip, tongue back
_TARGETS = """
sil 0 0 0 0 0 0 0 0
aa 0 0 1 1 0 0 0 .2
ae 0 0 .9 .9 0 .5 0 0
ah 0 0 .6 .6 0 .1 0 0
ao 0 0 .8 .65 .6 0 0 .4
eh 0 0 .65 .65 0 .5 0 0
er 0 0 .35 .3 .45 0 .3 .3
ih 0 0 .4 .4 0 .6 0 0
iy 0 0 .25 .3 0 1 0 0
ow 0 0 .5 .35 .8 0 0 .4
uh 0 0 .4 .3 .5 0 0 .4
uw 0 0 .25 .15 1 0 0 .5
b 1 0 .1 0 0 0 0 0
ch 0 0 .15 .3 .6 0 1 0
d 0 0 .2 .25 0 .2 1 0
dh 0 0 .25 .3 0 .2 .8 0
f 0 1 .15 .05 0 .1 0 0
g 0 0 .3 .35 0 .1 0 1
hh 0 0 .4 .4 0 .1 0 0
jh 0 0 .15 .3 .6 0 1 0
k 0 0 .3 .35 0 .1 0 1
l 0 0 .35 .35 0 .1 1 0
m 1 0 .1 0 0 0 0 0
n 0 0 .25 .3 0 .2 1 0
ng 0 0 .35 .4 0 .1 0 1
p 1 0 .1 0 0 0 0 0
r 0 0 .3 .25 .55 0 .4 .2
s 0 0 .08 .25 0 .45 .9 0
sh 0 0 .12 .3 .65 0 .8 0
t 0 0 .2 .25 0 .2 1 0
th 0 0 .25 .3 0 .2 .8 0
v 0 1 .15 .05 0 .1 0 0
w .1 0 .2 .1 1 0 0 .5
y 0 0 .2 .3 0 .7 .3 0
z 0 0 .08 .25 0 .45 .9 0
zh 0 0 .12 .3 .65 0 .8 0
"""
_DIPHTHONGS = {
    "aw": ("aa", "uh"),
    "ay": ("aa", "ih"),
    "ey": ("eh", "iy"),
    "oy": ("ao", "ih"),
}
_VOWELS = ["aa", "ae", "ah", "ao", "eh", "er", "ih", "iy", "ow", "uh", "uw", "aw", "ay", "ey", "oy"]
_TONGUE_ONLY = ["d", "g", "hh", "k", "l", "n", "ng", "t", "th", "dh"]


def _table() -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Targets, dominances and decays per second: each (phones, articulators)."""
    target = np.zeros((len(PHONES), len(ARTICULATION)), np.float32)
    dominance = np.ones_like(target)
    decay = np.full_like(target, _DECAY_PER_SECOND)
    for line in _TARGETS.strip().splitlines():
        name, *values = line.split()
        target[PHONE_INDEX[name]] = [float(value) for value in values]
    lips = slice(2, 6)
    for name in _TONGUE_ONLY:
        dominance[PHONE_INDEX[name], lips] = 0.25
    for name in _VOWELS:
        dominance[PHONE_INDEX[name], 6:] = 0.4
    for name in "pbmfvw":
        dominance[PHONE_INDEX[name], 4:] = 0.2
        dominance[PHONE_INDEX[name], :4] = _CLOSURE_DOMINANCE
        decay[PHONE_INDEX[name], :4] = _CLOSURE_DECAY_PER_SECOND
    dominance[PHONE_INDEX["w"], 4] = 2.0
    for name in ("s", "z", "sh", "zh", "ch", "jh"):
        dominance[PHONE_INDEX[name], 2] = 3.0
    return target, dominance, decay


def tracks(phone: NDArray[np.int8], end: NDArray[np.int64]) -> NDArray[np.float32]:
    """Articulator tracks at 100 Hz: (frames, len(ARTICULATION)), NaN inside unknown phones.

    :param phone: (S,) indices into PHONES, -1 = unknown
    :param end: (S,) end of each phone in samples at 16 kHz
    """
    target, dominance, decay = _table()
    start = np.concatenate([[0], end[:-1]])
    index: list[int] = []
    begins: list[float] = []
    ends: list[float] = []
    for p, a, b in zip(phone, start / SAMPLE_RATE, end / SAMPLE_RATE, strict=True):
        first, second = _DIPHTHONGS.get(PHONES[p], (None, None)) if p != UNKNOWN else (None, None)
        if first is not None and second is not None:
            middle = a + _DIPHTHONG_SPLIT * (b - a)
            index += [PHONE_INDEX[first], PHONE_INDEX[second]]
            begins += [a, middle]
            ends += [middle, b]
        else:
            index.append(int(p))
            begins.append(a)
            ends.append(b)
    segment, begin, finish = np.array(index), np.array(begins), np.array(ends)
    unknown = segment == UNKNOWN
    goal = np.where(unknown[:, None], 0, target[segment])
    weight = np.where(unknown[:, None], 0, dominance[segment])
    t = np.arange(int(end[-1]) // (SAMPLE_RATE // RATE)) / RATE
    here = np.minimum(np.searchsorted(finish, t, side="right"), len(segment) - 1)
    total = np.zeros((len(t), len(ARTICULATION)))
    norm = np.full_like(total, 1e-9)
    for offset in range(-_NEIGHBOURS, _NEIGHBOURS + 1):
        other = np.clip(here + offset, 0, len(segment) - 1)
        away = np.maximum(0, np.maximum(begin[other] - t, t - finish[other]))
        pull = weight[other] * np.exp(-decay[segment[other]] * away[:, None])
        pull *= (here + offset == other)[:, None]
        total += pull * goal[other]
        norm += pull
    out = (total / norm).astype(np.float32)
    out[unknown[here]] = np.nan
    return out
