"""Streams of all voices as one small training set: Ogg/Opus audio and labels.

    python -m talkingface.audio_features.training.pack --corpus DIR --out DIR [--kbps 13]

Writes NAME.opus and labels.npz with NAME/phone, NAME/end (samples) and NAME/pitch (see `pitch`).
Needs ffmpeg's libopus.
"""

from __future__ import annotations

import argparse
import subprocess
from pathlib import Path

import numpy as np

from talkingface.audio_features.training.pitch import track
from talkingface.audio_features.training.synthesise import read_wave


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--kbps", type=float, default=13)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    labels: dict[str, np.ndarray] = {}
    for path in sorted(arguments.corpus.glob("*.wav")):
        opus = arguments.out / f"{path.stem}.opus"
        command = ["ffmpeg", "-loglevel", "error", "-y", "-i", str(path), "-c:a", "libopus"]
        command += ["-application", "audio", "-b:a", f"{arguments.kbps}k", str(opus)]
        subprocess.run(command, check=True)
        stored = np.load(path.with_suffix(".npz"))
        labels[f"{path.stem}/phone"] = stored["phone"]
        labels[f"{path.stem}/end"] = stored["end"]
        labels[f"{path.stem}/pitch"] = track(read_wave(path))
        print(path.stem, opus.stat().st_size, flush=True)
    np.savez_compressed(arguments.out / "labels.npz", **labels)


if __name__ == "__main__":
    main()
