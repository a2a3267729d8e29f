"""GRID clips as one more voice: phones by forced alignment of the known words.

    python -m talkingface_research.audio_features.training.align_grid --grid FOLDER --out DIR

FOLDER holds NAME.mp4 and NAME.align of one speaker (Cooke et al. 2006, CC BY 4.0). Every clip whose
index in sorted order is a multiple of 23 is held out. Writes grid.wav and grid.npz as `synthesise`
does for GRID sentences.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from talkingface_research.audio_features.training.aligner import Aligner, AlignmentError, read_audio
from talkingface_research.audio_features.training.phones import HELD_OUT_EVERY
from talkingface_research.audio_features.training.synthesise import Clip, write_stream

PAUSES = ("sil", "sp")


def clip(aligner: Aligner, path: Path) -> Clip:
    """Align the clip NAME.mp4.

    :raises AlignmentError: there is no alignment
    """
    rows = [line.split() for line in path.with_suffix(".align").read_text().splitlines()]
    words = ["zed" if word == "z" else word for *_, word in rows if word not in PAUSES]
    return aligner.align(read_audio(path), words)[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--grid", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    paths = sorted(arguments.grid.glob("*.mp4"))
    kept = [path for i, path in enumerate(paths) if i % HELD_OUT_EVERY]
    order = np.random.default_rng(0).permutation(len(kept))
    aligner = Aligner()
    clips: dict[str, Clip] = {}
    for i in order:
        try:
            clips[kept[i].stem] = clip(aligner, kept[i])
        except AlignmentError as error:
            print(f"left out: {kept[i].stem}: {error}", flush=True)
    arguments.out.mkdir(parents=True, exist_ok=True)
    write_stream(arguments.out / "grid", iter(clips.values()), 99, names=list(clips))


if __name__ == "__main__":
    main()
