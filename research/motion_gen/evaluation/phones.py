"""Phone times: exact, labelled, aligned or recognised by the speech encoder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from talkingface.contract.arrays import Float32Array
from talkingface.contract.rates import ROW_RATE, SAMPLE_RATE
from talkingface.contract.speech_features import PHONE_COLUMNS, PHONE_INDEX
from talkingface_research.audio_features.training.phones import NATURAL_FPS, NATURAL_PHONES
from talkingface_research.motion_gen.evaluation.curves import Curve

LABEL_SHIFTS = np.arange(-0.16, 0.161, 0.02)  # seconds

BILABIAL = tuple(PHONE_INDEX[name] for name in "pbm")
LABIODENTAL = tuple(PHONE_INDEX[name] for name in "fv")
SILENCE = PHONE_INDEX["sil"]


class Phones(NamedTuple):
    """Successive phones of a stream, without gaps."""

    phone: NDArray[np.int8]  # (n,) indices into `PHONES`, -1 = unknown
    end: NDArray[np.float64]  # (n,) seconds

    @property
    def start(self) -> NDArray[np.float64]:
        """(n,) seconds."""
        return np.concatenate([[0.0], self.end[:-1]])

    def between(self, first: float, last: float) -> Phones:
        """Those within an interval of time, counted from its beginning."""
        inside = (self.start < last) & (self.end > first)
        return Phones(self.phone[inside], np.minimum(self.end[inside], last) - first)


def from_frames(phone: NDArray[np.int64], rate: float) -> Phones:
    """Runs of equal phones in a sequence of `rate` frames a second."""
    last = np.flatnonzero(np.append(np.diff(phone) != 0, True))
    return Phones(phone[last].astype(np.int8), (last + 1) / rate)


def recognised(features: Float32Array) -> Phones:
    """The phones that the speech encoder finds most likely in each row (n, 128)."""
    return from_frames(features[:, PHONE_COLUMNS].argmax(axis=1), ROW_RATE)


def labelled(path: Path, level: Curve) -> Phones:
    """The labels of a natural recording, shifted so that its silences match the audio best.

    :param path: `NAME.phonemes.json`, one index into `NATURAL_PHONES` for each 1/30 s
    :param level: (frames,) level in dB at 100 frames a second
    """
    phones = from_frames(
        np.array([PHONE_INDEX.get(NATURAL_PHONES[i], -1) for i in json.loads(path.read_text())]),
        NATURAL_FPS,
    )
    times = (np.arange(len(level)) + 0.5) / 100

    def fit(shift: float) -> float:
        index = np.searchsorted(phones.end + shift, times, side="right")
        spoken = phones.phone[np.minimum(index, len(phones.phone) - 1)] != SILENCE
        return float(np.corrcoef(spoken, np.maximum(level, level.max() - 50))[0, 1])

    return Phones(phones.phone, phones.end + max(LABEL_SHIFTS, key=fit))


def aligned(clip: Path) -> Phones | None:
    """Phones of a GRID clip by forced alignment of its known words (`NAME.align`, pocketsphinx);
    None where the alignment fails."""
    from talkingface_research.audio_features.training import align_grid
    from talkingface_research.audio_features.training.aligner import Aligner, AlignmentError

    try:  # a new aligner, since it adapts to the audio of earlier clips
        found = align_grid.clip(Aligner(), clip)
    except AlignmentError:
        return None
    return Phones(np.array(found.phone, np.int8), np.array(found.end, float))


def packed(labels: Path, voice: str) -> Phones:
    """Exact phones of a synthetic voice of the packed corpus (`labels.npz`)."""
    with np.load(labels) as stored:
        return Phones(stored[f"{voice}/phone"], stored[f"{voice}/end"] / SAMPLE_RATE)
