"""Phone times of real speech whose words are known: forced alignment by pocketsphinx.

Words may be given by their pronunciation, so that speech in other languages is aligned with the
nearest phones of the English acoustic model that comes with PyPI's `pocketsphinx`.
"""

from __future__ import annotations

import re
import subprocess
import unicodedata
from collections.abc import Sequence
from pathlib import Path

import av
import numpy as np
from pocketsphinx import Decoder

from talkingface.contract.rates import SAMPLE_RATE
from talkingface.contract.speech_features import PHONE_INDEX
from talkingface_research.audio_features.training import phones as tables
from talkingface_research.audio_features.training.synthesise import Audio, Clip

Pronunciation = tuple[str, ...]

_NASAL = "\N{COMBINING TILDE}"


class AlignmentError(RuntimeError):
    """The audio does not match the words."""


def read_audio(path: Path) -> Audio:
    """The audio of a media file as 16 kHz mono float32; empty where it has none."""
    resampler = av.AudioResampler("flt", "mono", SAMPLE_RATE)
    with av.open(str(path)) as container:
        parts = [np.zeros(0, np.float32)]
        parts += [
            out.to_ndarray()[0]
            for frame in [*container.decode(audio=0), None]
            for out in resampler.resample(frame)
        ]
    return np.concatenate(parts)


def pronounce(text: str, language: str) -> list[Pronunciation]:
    """The words of a text, each as symbols of the international phonetic alphabet, by espeak-ng;
    diphthongs and affricates joined, stress, length and palatalisation left out."""
    command = ["espeak-ng", "-v", language, "-q", "--ipa", text]
    spoken = subprocess.run(command, capture_output=True, check=True, text=True).stdout
    words: list[Pronunciation] = []
    for word in re.sub(r"\([^)]*\)", "", spoken).split():
        symbols: list[str] = []
        for symbol in unicodedata.normalize("NFD", word):
            if symbol == _NASAL and symbols:
                symbols[-1] += symbol
            elif unicodedata.category(symbol) in ("Ll", "Lo"):
                if symbols and symbols[-1] + symbol in tables.IPA_PAIRS:
                    symbols[-1] += symbol
                else:
                    symbols.append(symbol)
        if symbols:
            words.append(tuple(symbols))
    return words


class Aligner:
    """One decoder, whose dictionary grows with the words that `entry` adds."""

    def __init__(self) -> None:
        self._decoder = Decoder(samprate=SAMPLE_RATE, lm=None, loglevel="FATAL", backtrace=True)
        self._names: dict[Pronunciation, str] = {}
        self._pronounced: dict[str, Pronunciation] = {}

    def entry(self, pronunciation: Pronunciation) -> str:
        """The dictionary's name for a word given by its symbols.

        :raises KeyError: a symbol without a neighbour in ARPAbet
        """
        if pronunciation not in self._names:
            name = f"word{len(self._names)}"
            nearest = [tables.IPA_NEAREST[symbol][0].upper() for symbol in pronunciation]
            self._decoder.add_word(name, " ".join(nearest), True)
            self._names[pronunciation] = name
            self._pronounced[name] = pronunciation
        return self._names[pronunciation]

    def align(self, audio: Audio, words: Sequence[str]) -> tuple[Clip, float]:
        """The clip with its phones, and the mean acoustic score a second.

        :param words: entries of the English dictionary or of `entry`
        :raises AlignmentError: there is no alignment
        """
        pcm = np.round(np.clip(audio, -1, 1) * 32767).astype(np.int16).tobytes()
        try:
            for first in (True, False):
                if first:
                    self._decoder.set_align_text(" ".join(words))
                else:
                    self._decoder.set_alignment()
                self._decoder.start_utt()
                self._decoder.process_raw(pcm, full_utt=True)
                self._decoder.end_utt()
        except RuntimeError as error:
            raise AlignmentError(str(error)) from error
        alignment = self._decoder.get_alignment()
        if alignment is None:
            raise AlignmentError("no path through the words")
        phone: list[int] = []
        end: list[float] = []
        score = 0.0
        for word in alignment:
            symbols = self._pronounced.get(word.name)
            for i, unit in enumerate(word):
                if symbols is not None:
                    phone.append(tables.IPA_NEAREST[symbols[i]][1])
                else:
                    name = unit.name.lower()
                    phone.append(tables.SILENCES.get(name, PHONE_INDEX.get(name, tables.UNKNOWN)))
                end.append((unit.start + unit.duration) / 100)
                score += unit.score
        return Clip(audio, phone, end), score / end[-1]
