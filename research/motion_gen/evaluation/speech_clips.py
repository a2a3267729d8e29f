"""Natural speech: clips with video, whose faces are known, and recordings of audio alone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from talkingface.contract.arrays import Float32Array
from talkingface.contract.rates import MOTION_FPS, SAMPLE_RATE
from talkingface_research.motion_gen.evaluation.curves import lagged_correlation
from talkingface_research.motion_gen.evaluation.mouth import measured
from talkingface_research.motion_gen.evaluation.recordings import (
    KNOWN,
    NATURAL,
    OFFSETS,
    OTHERS,
    SAMPLES_PER_FRAME,
    frame_energy,
)
from talkingface_research.motion_gen.training.prepare import (
    MAX_LOST,
    bridge,
    held_out,
    lost_frames,
    to_fps,
)
from talkingface_research.motion_gen.training.track import decode_audio

ADDRESSES = "natural_speech_test"
FILMED_NATURAL = (NATURAL, ADDRESSES)
AUDIO_SUFFIXES = {".wav", ".flac", ".mp3", ".m4a", ".ogg", ".opus", ".mp4", ".mov", ".webm"}
# Milliseconds by which the audio must be delayed to be on the video clock, for clips in which
# loudness does not show it: from the lips that a ridge regression predicts from the audio. For the
# other clips the delay comes from loudness.
DELAYS = {
    "RD_Radio2": -60,
    "RD_Radio34": 40,
    "WDA_AlexandriaOcasioCortez": -120,
    "WDA_EdMarkey0": -50,
}


@dataclass(frozen=True)
class SpeechClip:
    """A clip of natural speech: audio and, if there is video, landmarks."""

    name: str
    audio: Float32Array  # (n,) 16 kHz, on the video clock
    landmarks: Float32Array | None = None  # (T, 478, 3) pixels at `MOTION_FPS`
    delay: float = 0.0  # seconds by which the audio was delayed to be on the video clock

    @property
    def frames(self) -> int:
        """Number of video frames, or as many as the audio is long."""
        if self.landmarks is not None:
            return len(self.landmarks)
        return len(self.audio) // SAMPLES_PER_FRAME

    def first(self, seconds: float) -> SpeechClip:
        """Its first seconds."""
        count = round(seconds * MOTION_FPS)
        landmarks = None if self.landmarks is None else self.landmarks[:count]
        return SpeechClip(
            self.name, self.audio[: round(seconds * SAMPLE_RATE)], landmarks, self.delay
        )


def delayed(audio: Float32Array, milliseconds: float) -> Float32Array:
    """Audio delayed, or advanced if negative, at the same length; filled up with silence."""
    by = round(milliseconds * SAMPLE_RATE / 1000)
    if by >= 0:
        return np.concatenate([np.zeros(by, audio.dtype), audio[: len(audio) - by]])
    return np.concatenate([audio[-by:], np.zeros(-by, audio.dtype)])


def load(name: str, tracking: Path, names: Path) -> list[SpeechClip]:
    """Load the clips of a tracked set that nothing was trained on; none where it does not exist."""
    paths = sorted((tracking / name).glob("*.npz"))
    if name == KNOWN:
        chosen = {clip.stem for clip in held_out(sorted(names.glob("*.mp4")))}
        paths = [path for path in paths if path.stem in chosen]
    return on_one_clock(name, paths)


def training_clips(tracking: Path, names: Path, count: int) -> list[SpeechClip]:
    """Load clips of the known speaker from the training data, evenly spread."""
    every = sorted(names.glob("*.mp4"))
    kept = sorted({clip.stem for clip in every} - {clip.stem for clip in held_out(every)})
    paths = [tracking / KNOWN / f"{stem}.npz" for stem in kept]
    paths = [path for path in paths if path.exists()]
    return on_one_clock(KNOWN, paths[:: max(1, len(paths) // count)][:count])


def on_one_clock(name: str, paths: list[Path]) -> list[SpeechClip]:
    """Load clips and delay their audio to the video clock: GRID's studio has one delay, every
    natural recording its own."""
    clips = [clip for path in paths if (clip := _read(path)) is not None]
    groups = [clips] if name in (KNOWN, OTHERS) else [[clip] for clip in clips]
    out: list[SpeechClip] = []
    for group in groups:
        if not group:
            continue
        known = DELAYS.get(group[0].name)
        by = 1000.0 / MOTION_FPS * _offset(group) if known is None else float(known)
        out += [SpeechClip(c.name, delayed(c.audio, by), c.landmarks, by / 1000) for c in group]
    return out


def load_audio(folder: Path, seconds: float) -> list[SpeechClip]:
    """Load the first seconds of the audio files of a folder."""
    out = []
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in AUDIO_SUFFIXES:
            audio = decode_audio(path)[0].astype(np.float32) / 32768.0
            out.append(SpeechClip(path.stem, audio[: round(seconds * SAMPLE_RATE)]))
    return out


def _read(path: Path) -> SpeechClip | None:
    with np.load(path) as stored:
        if lost_frames(stored["landmarks"]).mean() > MAX_LOST:
            return None
        landmarks = to_fps(bridge(stored["landmarks"]), float(stored["fps"]))
        return SpeechClip(path.stem, stored["audio"].astype(np.float32) / 32768.0, landmarks)


def _offset(clips: list[SpeechClip]) -> int:
    openings = [measured(clip.landmarks)[0] for clip in clips if clip.landmarks is not None]
    return -lagged_correlation(
        [frame_energy(clip.audio) for clip in clips],
        openings,
        [0] * len(clips),
        [-offset for offset in OFFSETS],
    )[1]
