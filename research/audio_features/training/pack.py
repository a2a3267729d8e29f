"""Streams of all voices as one training set: audio and labels.

    python -m talkingface_research.audio_features.training.pack --corpus DIR --out DIR [--kbps 13]

Writes labels.npz with NAME/phone, NAME/end (samples) and NAME/pitch (see `pitch`), and beside it
links to the wave files or, with --kbps, compressed NAME.opus (needs ffmpeg's libopus).
"""

from __future__ import annotations

import argparse
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from talkingface_research.audio_features.training.pitch import track
from talkingface_research.audio_features.training.synthesise import read_wave


def audio_path(folder: Path, name: str) -> Path:
    """Path of the audio of a packed stream."""
    packed = folder / f"{name}.opus"
    return packed if packed.exists() else folder / f"{name}.wav"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--kbps", type=float, help="compress by Opus; waves by default")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    labels: dict[str, NDArray[Any]] = {}
    for path in sorted(arguments.corpus.glob("*.wav")):
        if arguments.kbps:
            opus = arguments.out / f"{path.stem}.opus"
            command = ["ffmpeg", "-loglevel", "error", "-y", "-i", str(path), "-c:a", "libopus"]
            command += ["-application", "audio", "-b:a", f"{arguments.kbps}k", str(opus)]
            subprocess.run(command, check=True)
        else:
            (arguments.out / path.name).unlink(missing_ok=True)
            (arguments.out / path.name).symlink_to(path.resolve())
        stored = np.load(path.with_suffix(".npz"))
        labels[f"{path.stem}/phone"] = stored["phone"]
        labels[f"{path.stem}/end"] = stored["end"]
        labels[f"{path.stem}/pitch"] = track(read_wave(path))
        print(path.stem, flush=True)
    np.savez_compressed(arguments.out / "labels.npz", **labels)


if __name__ == "__main__":
    main()
