"""The rule teacher: mouth motion from phones with exact times.

Dominance functions after Cohen and Massaro (1993), D(tau) = alpha exp(-theta |tau|), give jaw,
rounding and spread; on top come JALI's rules (Edwards et al. 2016): /m b p/ always close,
/f v/ bring the lip to the teeth, tongue-only consonants do not move the lips, lip-heavy phones
dominate their neighbours, onset 120 ms before the apex. Mouth gestures lead the audio by `LEAD`,
which is 0 as in the recordings.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from talkingface.contract.arrays import Float32Array
from talkingface.contract.motion import ARKIT_DIM, ARKIT_INDEX
from talkingface.contract.rates import MOTION_FPS
from talkingface.contract.speech_features import PHONE_INDEX, PHONES

LEAD = 0.0  # seconds
REACH = 0.45  # seconds from a phone, beyond which it has no effect
RISE, FALL = 0.08, 0.06  # seconds of a closure

# phone: jaw, pucker, funnel, spread, teeth (lower lip down, upper lip up); weight on jaw, on lips
_TABLE = """
sil 0 0 0 0 0 .5 .5
aa .92 0 0 0 .25 1 .6
ae .85 0 0 .25 .35 1 .6
ah .60 0 0 .05 .2 .8 .4
ao .75 .1 .45 0 .1 1 .9
aw .80 .25 .2 0 .15 1 .7
ay .80 0 0 .2 .25 1 .6
eh .60 0 0 .25 .3 1 .6
er .40 .1 .4 0 .15 .8 .8
ey .48 0 0 .45 .3 1 .7
ih .38 0 0 .3 .25 .8 .6
iy .28 0 0 .6 .35 .9 .8
ow .55 .5 .25 0 .05 1 1
oy .58 .3 .35 .1 .1 1 .9
uh .38 .2 .35 0 .1 .8 .8
uw .25 .85 .15 0 0 1 1.2
b .08 0 0 0 0 .8 .3
p .08 0 0 0 0 .8 .3
m .08 0 0 0 0 .8 .3
f .12 0 0 .05 0 .8 .4
v .14 0 0 .05 0 .8 .4
w .18 .9 .1 0 0 .9 1.3
r .28 .1 .45 0 .1 .7 .8
sh .14 .15 .65 0 .25 1 1.1
zh .14 .15 .65 0 .25 1 1.1
ch .14 .1 .6 0 .25 1 1.1
jh .14 .1 .6 0 .25 1 1.1
s .08 0 0 .25 .3 1.1 .35
z .09 0 0 .25 .3 1.1 .35
t .12 0 0 .1 .15 .9 .15
d .14 0 0 .1 .15 .9 .15
n .14 0 0 .1 .12 .9 .15
l .28 0 0 .05 .2 .6 .12
th .25 0 0 .1 .2 .7 .2
dh .25 0 0 .1 .2 .6 .15
k .22 0 0 .05 .1 .6 .1
g .22 0 0 .05 .1 .6 .1
ng .22 0 0 .05 .1 .6 .1
hh .40 0 0 0 .1 .2 .1
y .22 0 0 .4 .25 .6 .4
"""
GESTURES = ("jaw", "pucker", "funnel", "spread", "teeth")
TARGETS = np.zeros((len(PHONES), len(GESTURES)))
WEIGHTS = np.zeros((len(PHONES), len(GESTURES)))
for _line in _TABLE.split("\n"):
    if _line:
        _name, *_numbers = _line.split()
        TARGETS[PHONE_INDEX[_name]] = [float(v) for v in _numbers[:5]]
        WEIGHTS[PHONE_INDEX[_name]] = float(_numbers[6])
        WEIGHTS[PHONE_INDEX[_name], 0] = float(_numbers[5])
DIPHTHONG_ENDS = {"aw": "uw", "ay": "iy", "ey": "iy", "ow": "uw", "oy": "iy"}

BILABIAL = np.array([PHONE_INDEX[name] for name in ("b", "p", "m")])
LABIODENTAL = np.array([PHONE_INDEX[name] for name in ("f", "v")])


def _pulse(times: Float32Array, start: Float32Array, end: NDArray[np.float64]) -> Float32Array:
    """The highest of raised-cosine pulses that are 1 from start to end: (T,)."""
    out = np.zeros(len(times), np.float32)
    for begin, finish in zip(start, end, strict=True):
        first, last = np.searchsorted(times, [begin - RISE, finish + FALL])
        t = times[first:last]
        away = np.maximum((begin - t) / RISE, (t - finish) / FALL).clip(0, 1)
        out[first:last] = np.maximum(out[first:last], 0.5 + 0.5 * np.cos(np.pi * away))
    return out


def gestures(
    phone: NDArray[np.int8], end: NDArray[np.float64], frames: int
) -> dict[str, Float32Array]:
    """Gesture tracks in [0, 1] by name (`GESTURES`, "closure", "labiodental"), each (frames,).

    :param phone: (n,) indices into `PHONES`; -1 = unknown, without effect
    :param end: (n,) end times in seconds
    """
    start = np.concatenate([[0.0], end[:-1]])
    parts = []
    for index, begin, finish in zip(phone, start, end, strict=True):
        if index < 0 or finish <= begin:
            continue
        name = PHONES[index]
        if name in DIPHTHONG_ENDS:
            middle = begin + 0.55 * (finish - begin)
            parts.append((index, begin, middle))
            parts.append((PHONE_INDEX[DIPHTHONG_ENDS[name]], middle, finish))
        else:
            parts.append((index, begin, finish))
    times = np.arange(frames) / MOTION_FPS + LEAD
    total = np.full((frames, len(GESTURES)), 1e-6)
    summed = np.zeros((frames, len(GESTURES)))
    for index, begin, finish in parts:
        first, last = np.searchsorted(times, [begin - REACH, finish + REACH])
        t = times[first:last, None]
        # Full dominance within the phone's middle half, less with distance; short phones have less.
        length = finish - begin
        away = np.maximum(np.maximum(begin + 0.25 * length - t, t - finish + 0.25 * length), 0)
        theta = 18.0 * np.sqrt(0.09 / max(length, 0.03)) if index else 18.0
        dominance = WEIGHTS[index] * np.exp(-theta * away)
        total[first:last] += dominance
        summed[first:last] += dominance * TARGETS[index]
    tracks = dict(zip(GESTURES, (summed / total).T, strict=True))
    index = np.array([part[0] for part in parts], int)
    begin, finish = (np.array([part[i] for part in parts]) for i in (1, 2))
    for name, members in (("closure", BILABIAL), ("labiodental", LABIODENTAL)):
        chosen = np.isin(index, members)
        length = (finish - begin)[chosen]
        apex = begin[chosen] + 0.15 * length
        # At least one frame must see the lips closed.
        release = np.maximum(finish[chosen] - 0.2 * length, apex + 1.2 / MOTION_FPS)
        tracks[name] = _pulse(times, apex, release)
    tracks["labiodental"] *= 1 - tracks["closure"]
    return tracks


def animate(
    phone: NDArray[np.int8],
    end: NDArray[np.float64],
    frames: int,
    amplitude: float = 1.0,
    vigour: float = 1.0,
) -> Float32Array:
    """ARKit coefficients of the mouth for a phone sequence.

    :param amplitude: factor on the jaw, calibrated on real openings
    :param vigour: factor on lip shapes, a speaking style
    :return: (frames, ARKIT_DIM) float32
    """
    track = gestures(phone, end, frames)
    closed, bite = track["closure"], track["labiodental"]
    free = (1 - closed) * (1 - 0.8 * bite)
    jaw = 0.46 * amplitude * track["jaw"]
    pucker, funnel = vigour * track["pucker"], vigour * track["funnel"]
    spread = vigour * track["spread"] * free
    teeth = vigour * track["teeth"] * free
    out = np.zeros((frames, ARKIT_DIM), np.float32)

    def put(names: str, value: Float32Array) -> None:
        for name in names.split():
            out[:, ARKIT_INDEX[name]] = np.clip(value, 0, 1)

    put("jawOpen", jaw)
    put("mouthClose", jaw * np.maximum(closed, 0.6 * bite))
    put("mouthPucker", 0.7 * pucker)
    put("mouthFunnel", 0.6 * funnel)
    put("mouthStretchLeft mouthStretchRight", 0.45 * spread)
    put("mouthSmileLeft mouthSmileRight", 0.2 * spread)
    put("mouthLowerDownLeft mouthLowerDownRight", 0.5 * teeth)
    put("mouthUpperUpLeft mouthUpperUpRight", 0.35 * teeth + 0.2 * bite)
    put("mouthRollLower", 0.15 * closed + 0.5 * bite)
    put("mouthRollUpper", 0.12 * closed)
    put("mouthPressLeft mouthPressRight", 0.25 * closed)
    return out
