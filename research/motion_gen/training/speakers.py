"""The mean mouth of many speakers in a sentence: a prior for the lips of the recorded speaker.

One speaker's lips have habits that cannot be predicted from speech. `grid_mouth_features` holds the
mouths of 33 speakers of the GRID corpus who say sentences of the same 51 words. In units of each
speaker's own spread, words are resampled to a common time and averaged with the same word between
the same neighbours. The mean of 32 speakers correlates with the lips of the 33rd, who is not in it:
opening r 0.79, width 0.66, lower lip 0.71, chin 0.63 (printed by `prepare`). The upper lip is not
changed.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from talkingface.contract.arrays import Float32Array
from talkingface.contract.rates import MOTION_FPS
from talkingface_research.motion_gen.training.lip_shapes import Floats, measures

ALIGN_RATE = 25_000  # units of the corpus' word times a second
PAUSES = ("sil", "sp")
WORDS = 6  # of every sentence
COLUMNS = 6  # of the features
POINTS = 12  # of a word's common time
MAX_DEVIATION = 4.0  # standard deviations, at which features are clipped
MIN_COUNT = 6  # of a word between its neighbours; else the word alone counts
VIDEO_DELAY = 0.02  # seconds, half a frame, by which the video is behind the word times
MEASURES = ("opening", "width", "lower lip", "chin")
PRIOR = 0.5  # share of the way from the speaker's own lips to the mean of all

Context = tuple[int, str]


def word_spans(path: Path) -> Floats:
    """Start and end of the words of a corpus' `.align` file: (words, 2) seconds."""
    rows = [line.split() for line in path.read_text().splitlines()]
    spans = [(float(start), float(end)) for start, end, word in rows if word not in PAUSES]
    return np.array(spans).reshape(-1, 2) / ALIGN_RATE


def _contexts(transcript: str) -> list[tuple[Context, Context]]:
    """Of each word: its index, itself and its neighbours; its index and itself. Each letter of a
    transcript (`bbaf2n`) stands for a word."""
    bounded = f" {transcript} "
    return [((i, bounded[i : i + 3]), (i, word)) for i, word in enumerate(transcript)]


class Speakers:
    """Mean mouths of words between their neighbours, (POINTS, COLUMNS) standard deviations."""

    def __init__(self, path: Path, without: str) -> None:
        """
        :param path: `feat` (N, COLUMNS), `seg` (S, 4) clip, first frame, frames and word of it, and
            `clip` names split/speaker/transcript
        :param without: the speaker that the prior is for
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
        words: dict[Context, list[Floats]] = defaultdict(list)
        for clip, some in parts.items():
            _, speaker, transcript = names[clip].split("/")
            if speaker == without or len(some) != len(transcript):
                continue
            middle, spread = scale[speaker]
            for contexts, part in zip(_contexts(transcript), some, strict=True):
                if len(part) > 1:
                    even = _resampled((part - middle) / spread, POINTS).clip(
                        -MAX_DEVIATION, MAX_DEVIATION
                    )
                    for context in contexts:
                        words[context].append(even)
        self._mean = {
            context: np.mean(some, 0)
            for context, some in words.items()
            if len(some) >= (MIN_COUNT if len(context[1]) > 1 else 1)
        }

    def mouth(self, transcript: str, spans: Floats, frames: int) -> Floats:
        """Their mean mouth in a sentence: (frames, COLUMNS), NaN outside its words.

        :param spans: (words, 2) seconds
        """
        out = np.full((frames, COLUMNS), np.nan)
        for (near, alone), (start, end) in zip(_contexts(transcript), spans, strict=True):
            mean = self._mean.get(near, self._mean.get(alone))
            if mean is None:
                continue
            start, end = start - VIDEO_DELAY, end - VIDEO_DELAY
            first, last = int(np.ceil(max(start, 0.0) * MOTION_FPS)), int(end * MOTION_FPS)
            index = np.arange(first, min(last + 1, frames))
            position = (index / MOTION_FPS - start) / (end - start) * (POINTS - 1)
            for column in range(COLUMNS):
                out[index, column] = np.interp(position, np.arange(POINTS), mean[:, column])
        return out


def _resampled(curves: Float32Array, count: int) -> Floats:
    at = np.linspace(0, len(curves) - 1, count)
    return np.stack([np.interp(at, np.arange(len(curves)), c) for c in curves.T], 1)


def towards_mean(
    lips: dict[str, Float32Array], speakers: Speakers, grid: Path
) -> dict[str, Float32Array]:
    """A speaker's displacements moved half-way to the mean of all speakers in the same words.

    The mean curves are mapped to the speaker's measures by a regression and to the speaker's size,
    and reached by the most likely change of the speaker's lips.

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
    predicted = x @ turn
    for i, name in enumerate(MEASURES):
        print(f"32 speakers' {name}: r {np.corrcoef(predicted[:, i], y[:, i])[0, 1]:.2f}")
    turn = turn * (y.std(0) / predicted.std(0))

    out = dict(lips)
    for name, curves in theirs.items():
        wanted = (curves - middle[:COLUMNS]) @ turn + middle[COLUMNS:]
        missing = np.nan_to_num(wanted - own[name])
        out[name] = (lips[name] + PRIOR * missing @ change.T).astype(np.float32)
    return out
