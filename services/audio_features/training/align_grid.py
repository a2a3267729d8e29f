"""GRID clips as one more voice: phones by forced alignment of the known words.

    python -m talkingface.audio_features.training.align_grid --grid FOLDER --out DIR

FOLDER holds NAME.mp4 and NAME.align of one speaker (Cooke et al. 2006, CC BY 4.0). Every clip whose
index in sorted order is a multiple of 23 is held out. Needs PyPI's `pocketsphinx` (its English
acoustic model comes with it). Writes grid.wav and grid.npz as `synthesise` does.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
from pocketsphinx import Decoder

from talkingface.audio_features.contract import PHONE_INDEX, SAMPLE_RATE
from talkingface.audio_features.training import phones as tables
from talkingface.audio_features.training.synthesise import Audio, Clip, write_stream

PAUSES = ("sil", "sp")


def read_audio(path: Path) -> Audio:
    """The sound of a media file as 16 kHz mono float32."""
    resampler = av.AudioResampler("flt", "mono", SAMPLE_RATE)
    with av.open(str(path)) as container:
        parts = [
            out.to_ndarray()[0]
            for frame in [*container.decode(audio=0), None]
            for out in resampler.resample(frame)
        ]
    return np.concatenate(parts)


def clips(paths: list[Path]) -> Iterator[Clip]:
    """Aligned clips; one that the aligner cannot follow is left out."""
    decoder = Decoder(samprate=SAMPLE_RATE, lm=None, loglevel="FATAL", backtrace=True)
    for path in paths:
        rows = [line.split() for line in path.with_suffix(".align").read_text().splitlines()]
        words = ["zed" if word == "z" else word for *_, word in rows if word not in PAUSES]
        audio = read_audio(path)
        pcm = np.round(np.clip(audio, -1, 1) * 32767).astype(np.int16).tobytes()
        try:
            for first in (True, False):
                if first:
                    decoder.set_align_text(" ".join(words))
                else:
                    decoder.set_alignment()
                decoder.start_utt()
                decoder.process_raw(pcm, full_utt=True)
                decoder.end_utt()
        except RuntimeError:
            continue
        alignment = decoder.get_alignment()
        if alignment is None:
            continue
        phone: list[int] = []
        end: list[float] = []
        for word in alignment:
            for unit in word:
                name = unit.name.lower()
                phone.append(tables.SILENCES.get(name, PHONE_INDEX.get(name, tables.UNKNOWN)))
                end.append((unit.start + unit.duration) / 100)
        yield Clip(audio, phone, end)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--grid", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=22)
    arguments = parser.parse_args()
    paths = sorted(arguments.grid.glob("*.mp4"))
    kept = [path for i, path in enumerate(paths) if i % tables.HELD_OUT_EVERY]
    order = np.random.default_rng(0).permutation(len(kept))
    kept = [kept[i] for i in order]
    arguments.out.mkdir(parents=True, exist_ok=True)
    write_stream(arguments.out / "grid", clips(kept), 99, arguments.minutes)


if __name__ == "__main__":
    main()
