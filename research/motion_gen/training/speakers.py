"""What many people's mouths do in a sentence: a prior for the lips of the one who was filmed.

One man's lips have habits that no voice tells. `grid_mouth_features` holds what 33 speakers of the
GRID corpus do while they say sentences of the same 51 words. Each in units of his or her own
spread, a word is moved to a common time and averaged with the same word between the same
neighbours: the mean of 32 people follows the opening of the 33rd's lips, whom it does not contain,
with r 0.79 (width 0.66, lower lip 0.71, chin 0.63: `prepare` prints it). His upper lip is left to
him.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from talkingface.contract.motion import Array
from talkingface.contract.rates import MOTION_FPS
from talkingface_research.motion_gen.training.lip_shapes import Floats, measures

ALIGN_RATE = 25_000  # units of the corpus' word times a second
PAUSES = ("sil", "sp")
WORDS = 6  # of every sentence
COLUMNS = 6  # of the features
PLACES = 12  # of a word's common time
FAREST = 4.0  # standard deviations
FEWEST = 6  # times that a word must be heard between its neighbours, else they do not count
# The pictures are half a frame late against the word times.
LATE = 0.02  # seconds
MEASURES = ("opening", "width", "lower lip", "chin")
PRIOR = 0.5  # of the way from the man's own lips to what everybody's do

Context = tuple[int, str]


def word_spans(path: Path) -> Floats:
    """Start and end of the words of a corpus' `.align` file: (words, 2) seconds."""
    rows = [line.split() for line in path.read_text().splitlines()]
    spans = [(float(start), float(end)) for start, end, word in rows if word not in PAUSES]
    return np.array(spans).reshape(-1, 2) / ALIGN_RATE


def _contexts(transcript: str) -> list[tuple[Context, Context]]:
    """Of each word: its place, itself and its neighbours; its place and itself. Each letter of a
    transcript (`bbaf2n`) stands for a word."""
    bounded = f" {transcript} "
    return [((i, bounded[i : i + 3]), (i, word)) for i, word in enumerate(transcript)]


class Speakers:
    """Mean mouths of words between their neighbours, (PLACES, COLUMNS) standard deviations."""

    def __init__(self, path: Path, without: str) -> None:
        """
        :param path: `feat` (N, COLUMNS), `seg` (S, 4) clip, first frame, frames and word of it, and
            `clip` names split/speaker/transcript
        :param without: the speaker whom the prior is for
        """
        with np.load(path) as stored:
            features = stored["feat"].astype(np.float32)
            segments, names = stored["seg"], stored["clip"]
        parts: dict[int, list[NDArray[np.float32]]] = defaultdict(list)
        own: dict[str, list[NDArray[np.float32]]] = defaultdict(list)
        for clip, first, count, _ in segments:
            part = features[first : first + count]
            parts[int(clip)].append(part)
            own[names[clip].split("/")[1]].append(part)
        scale = {
            speaker: (np.median(every := np.concatenate(some), 0), every.std(0) + 1e-6)
            for speaker, some in own.items()
        }
        heard: dict[Context, list[Floats]] = defaultdict(list)
        for clip, some in parts.items():
            _, speaker, transcript = names[clip].split("/")
            if speaker == without or len(some) != len(transcript):
                continue
            middle, spread = scale[speaker]
            for contexts, part in zip(_contexts(transcript), some, strict=True):
                if len(part) > 1:
                    even = _resampled((part - middle) / spread, PLACES).clip(-FAREST, FAREST)
                    for context in contexts:
                        heard[context].append(even)
        self._mean = {
            context: np.mean(some, 0)
            for context, some in heard.items()
            if len(some) >= (FEWEST if len(context[1]) > 1 else 1)
        }

    def mouth(self, transcript: str, spans: Floats, frames: int) -> Floats:
        """What they do in a sentence: (frames, COLUMNS), NaN outside its words.

        :param spans: (words, 2) seconds
        """
        out = np.full((frames, COLUMNS), np.nan)
        for (near, alone), (start, end) in zip(_contexts(transcript), spans, strict=True):
            mean = self._mean.get(near, self._mean.get(alone))
            if mean is None:
                continue
            start, end = start - LATE, end - LATE
            first, last = int(np.ceil(max(start, 0.0) * MOTION_FPS)), int(end * MOTION_FPS)
            index = np.arange(first, min(last + 1, frames))
            place = (index / MOTION_FPS - start) / (end - start) * (PLACES - 1)
            for column in range(COLUMNS):
                out[index, column] = np.interp(place, np.arange(PLACES), mean[:, column])
        return out


def _resampled(curves: Array, count: int) -> Floats:
    at = np.linspace(0, len(curves) - 1, count)
    return np.stack([np.interp(at, np.arange(len(curves)), c) for c in curves.T], 1)


def towards_everybody(lips: dict[str, Array], speakers: Speakers, grid: Path) -> dict[str, Array]:
    """A man's displacements drawn half-way to what all speakers' mouths do in the same words.

    The speakers' curves are turned into his measures by a regression, brought to his size, and
    reached by the change of his lips that is likeliest for him.

    :param lips: displacements (T, 135) by transcript
    :param grid: folder of `TRANSCRIPT.align`
    """
    every = np.concatenate(list(lips.values())).astype(float)
    # Measures are linear in displacements: (135, measures).
    units = measures(np.eye(every.shape[1], dtype=np.float32))
    measured = np.stack([units[name] for name in MEASURES], 1)
    spread = np.cov(every.T)
    noise = 0.05 * np.diag(np.diag(measured.T @ spread @ measured))
    change = spread @ measured @ np.linalg.inv(measured.T @ spread @ measured + noise)

    theirs, own = {}, {}
    for name, moved in lips.items():
        spans = word_spans(grid / f"{name}.align")
        if len(spans) == len(name):
            theirs[name] = speakers.mouth(name, spans, len(moved))
            own[name] = moved @ measured
    both = np.concatenate([np.concatenate([theirs[n], own[n]], 1) for n in theirs])
    both = both[np.isfinite(both).all(1)]
    middle = both.mean(0)
    x, y = np.split(both - middle, [COLUMNS], 1)
    turn = np.linalg.lstsq(x, y, rcond=None)[0]
    told = x @ turn
    for i, name in enumerate(MEASURES):
        print(f"32 speakers' {name}: r {np.corrcoef(told[:, i], y[:, i])[0, 1]:.2f}")
    turn = turn * (y.std(0) / told.std(0))

    out = dict(lips)
    for name, curves in theirs.items():
        wanted = (curves - middle[:COLUMNS]) @ turn + middle[COLUMNS:]
        missing = np.nan_to_num(wanted - own[name])
        out[name] = (lips[name] + PRIOR * missing @ change.T).astype(np.float32)
    return out
