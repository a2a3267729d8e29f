"""Accuracy of a trained encoder: the figures of the model card.

    python -m talkingface_research.audio_features.training.evaluate --checkpoint encoder.pt
        --data DIR
        [--natural FOLDER] [--tracks FOLDER --grid FOLDER]

1. Held-out synthetic voices, clean and under fixed corruptions (`validate`).
2. FOLDER with natural speech of people not used in training: NAME.wav and NAME.phonemes.json, one
   phone a video frame at 30 frames/s (indices into NATURAL_PHONES).
3. Lips: correlation of the features with the opening of the inner lips in tracked clips
   (TRACKS/SET/NAME.npz: landmarks, audio): the lip opening among the features as it is, and a ridge
   regression from articulation and embedding, trained on one GRID speaker, tested on that
   speaker's held-out clips and on everyone else. Both curves band-passed 2-8 Hz, all clips end to
   end.
"""

from __future__ import annotations

import argparse
import json
import wave
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.signal import butter, sosfiltfilt

from talkingface.contract.rates import ROW_RATE
from talkingface.contract.speech_features import (
    ARTICULATION,
    ARTICULATION_COLUMNS,
    ENERGY,
    FEATURE_DIM,
    PHONE_COLUMNS,
    PHONE_INDEX,
    VOICE_ACTIVITY,
)
from talkingface_research.audio_features.network import SpeechEncoder
from talkingface_research.audio_features.training.features import encode_clips, load_encoder
from talkingface_research.audio_features.training.phones import (
    HELD_OUT_EVERY,
    NATURAL_FPS,
    NATURAL_PHONES,
)

Array = NDArray[np.float64]

CONTEXT_ROWS = (-10, -8, -6, -4, -2, 0)
# Without the phone posteriors, with which a regression from one speaker fits others badly.
LIP_COLUMNS = slice(PHONE_COLUMNS.stop, FEATURE_DIM)
RIDGE = 3000.0  # penalty; columns have unit variance
LIP_OPENING = ARTICULATION_COLUMNS.start + ARTICULATION.index("lip_opening")
MIN_SEEN = 0.9  # share of a clip's frames with a face
LAGS = range(-1, 3)  # frames at 25 frames/s: -40 ... +80 ms


def natural(encoder: SpeechEncoder, folder: Path) -> None:
    """Phone errors on natural recordings; one shift of the labels for each recording."""
    for path in sorted(folder.glob("*.phonemes.json")):
        labels = [NATURAL_PHONES[i] for i in json.loads(path.read_text())]
        phone = np.array([PHONE_INDEX[name] for name in labels])
        with wave.open(str(path.parent / path.name.replace(".phonemes.json", ".wav"))) as file:
            pcm = np.frombuffer(file.readframes(file.getnframes()), np.int16)
        features, speech = (x.numpy() for x in encode_clips(encoder, [pcm / np.float32(32768)])[0])
        guess, active = features[:, PHONE_COLUMNS].argmax(1), speech[:, VOICE_ACTIVITY] > 0.5
        best = (1.0, 0.0, 0)
        for shift in range(-5, 6):  # rows of 20 ms
            row = np.round((np.arange(len(phone)) + 0.5) * ROW_RATE / NATURAL_FPS).astype(int)
            row = np.clip(row + shift, 0, len(guess) - 1)
            spoken = phone > 0
            error = float((guess[row] != phone)[spoken].mean())
            best = min(best, (error, float((active[row] != spoken).mean()), shift))
        print(
            f"  {path.name.split('.')[0]:16} phone error {100 * best[0]:.1f} %, voice activity "
            f"error {100 * best[1]:.1f} % (labels shifted {20 * best[2]} ms)"
        )


class LostFace(ValueError):
    """Too few frames of a clip have tracked lips."""


class Clip:
    """A tracked clip: the encoder's rows at the times of its frames, and the lips."""

    def __init__(self, path: Path, encoder: SpeechEncoder) -> None:
        stored: Mapping[str, NDArray[np.generic]] = np.load(path)
        points = stored["landmarks"][:, :, :2].astype(np.float64) * stored["size"].astype(
            np.float64
        )
        opening = np.linalg.norm(points[:, 13] - points[:, 14], axis=1)
        opening = opening / np.linalg.norm(points[:, 10] - points[:, 152], axis=1)
        frames = np.arange(len(opening))
        seen = np.isfinite(opening)
        if seen.mean() < MIN_SEEN:
            raise LostFace(f"{path.name}: a face in only {100 * seen.mean():.0f} % of its frames")
        self.opening: Array = np.interp(frames, frames[seen], opening[seen])
        pcm = stored["audio"].astype(np.float32) / 32768
        offset = float(stored["video_start"]) - float(stored["audio_start"])
        self.time: Array = np.arange(len(opening)) / float(stored["fps"]) + offset
        features, speech = (x.double().numpy() for x in encode_clips(encoder, [pcm])[0])
        self.features: Array = features
        self.energy: Array = speech[:, ENERGY]
        self.shift = 0.0

    def at(self, values: Array, seconds: float) -> Array:
        """Rows interpolated at the frames' times, shifted by `seconds`."""
        position = np.clip((self.time + seconds + self.shift) * ROW_RATE, 0, len(values) - 1)
        low = np.minimum(position.astype(int), len(values) - 2)
        part = (position - low).reshape(-1, *[1] * (values.ndim - 1))
        return np.asarray(values[low] * (1 - part) + values[low + 1] * part)

    def inputs(self) -> Array:
        """Rows around each frame: (frames, len(CONTEXT_ROWS) * columns)."""
        rows = self.features[:, LIP_COLUMNS]
        return np.concatenate([self.at(rows, row / ROW_RATE) for row in CONTEXT_ROWS], 1)

    @property
    def fps(self) -> float:
        return 1.0 / float(self.time[1] - self.time[0])


def tracked(paths: list[Path], encoder: SpeechEncoder) -> list[Clip]:
    """The clips with a face in nearly all frames; the others are printed."""
    clips = []
    for path in paths:
        try:
            clips.append(Clip(path, encoder))
        except LostFace as lost:
            print(f"  left out: {lost}")
    return clips


def band(curve: Array, fps: float) -> Array:
    """The part of a curve between 2 and 8 Hz."""
    sos = butter(2, [2.0, 8.0], "bandpass", fs=fps, output="sos")
    return np.asarray(sosfiltfilt(sos, curve))


def pooled(pairs: list[tuple[Array, Array, float]]) -> tuple[float, int]:
    """Correlation of (guess, truth, frames/s) laid end to end, and the one lag of all."""
    best = (-1.0, 0)
    for lag in LAGS:
        left, right = [], []
        for guess, truth, fps in pairs:
            a, b = band(guess, fps), band(truth, fps)
            step = round(lag * fps / 25)
            span = slice(3, len(a) - 3)
            left.append(np.roll(a, step)[span])
            right.append(b[span])
        r = float(np.corrcoef(np.concatenate(left), np.concatenate(right))[0, 1])
        best = max(best, (r, lag))
    return best


def fix_offset(clip: Clip) -> None:
    """Set a recording's offset between audio and video, by the best lag of its energy."""
    truth = band(clip.opening, clip.fps)
    scores = {}
    for shift in np.arange(-0.32, 0.33, 0.04):
        clip.shift = float(shift)
        scores[clip.shift] = np.corrcoef(band(clip.at(clip.energy, 0), clip.fps), truth)[0, 1]
    clip.shift = max(scores, key=lambda s: scores[s])


def lips(encoder: SpeechEncoder, tracks: Path, grid: Path) -> None:
    """Print correlations of the regression and of the lip opening as it is, with loudness alone and
    the regression on shifted clips as baselines."""
    paths = sorted((tracks / "grid_s1").glob("*.npz"))
    # Clips are held out by their index among all clips, tracked or not, as in `align_grid`.
    held_out = {p.stem for p in sorted(grid.glob("*.mp4"))[::HELD_OUT_EVERY]}
    training = tracked([p for p in paths if p.stem not in held_out], encoder)
    x = np.concatenate([clip.inputs() for clip in training])
    y = np.concatenate([clip.opening for clip in training])
    mean, scale, level = x.mean(0), x.std(0) + 1e-3, y.mean()
    z = (x - mean) / scale
    weights = np.linalg.solve(z.T @ z + RIDGE * np.eye(z.shape[1]), z.T @ (y - level))
    sets = {
        "held-out clips of the speaker": [p for p in paths if p.stem in held_out],
        "other GRID speakers": sorted((tracks / "grid_other_speakers").glob("*.npz")),
        **{p.stem: [p] for p in sorted((tracks / "public_domain_speech").glob("*.npz"))},
    }
    for name, members in sets.items():
        clips = tracked(members, encoder)
        if len(members) == 1:
            fix_offset(clips[0])
        guesses = [(c.inputs() - mean) / scale @ weights + level for c in clips]
        truths = [c.opening for c in clips]
        turned = [np.roll(g, len(g) // 2) for g in guesses]
        row = {
            "ridge": guesses,
            "lip opening": [c.at(c.features[:, LIP_OPENING], 0) for c in clips],
            "loudness": [c.at(c.energy, 0) for c in clips],
            "shuffled": [np.resize(g, len(t)) for g, t in zip(turned, truths, strict=True)],
        }
        texts = []
        for kind, curves in row.items():
            triples = [(g, c.opening, c.fps) for g, c in zip(curves, clips, strict=True)]
            r, lag = pooled(triples)
            texts.append(f"{kind} r {r:.2f} ({40 * lag:+d} ms)")
        print(f"  {name:32} " + ", ".join(texts))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--natural", type=Path)
    parser.add_argument("--tracks", type=Path)
    parser.add_argument("--grid", type=Path, help="the clips that TRACKS/grid_s1 was tracked from")
    arguments = parser.parse_args()
    encoder = load_encoder(arguments.checkpoint, "cpu")
    if arguments.data:
        from talkingface_research.audio_features.training.data import HELD_OUT, Streams
        from talkingface_research.audio_features.training.validate import validate

        cpu = torch.device("cpu")
        figures = validate(encoder, Streams(arguments.data, list(HELD_OUT), cpu), cpu)
        print("\n".join(figures.lines()))
    if arguments.natural:
        natural(encoder, arguments.natural)
    if arguments.tracks:
        if arguments.grid is None:
            parser.error("--tracks needs --grid")
        lips(encoder, arguments.tracks, arguments.grid)


if __name__ == "__main__":
    main()
