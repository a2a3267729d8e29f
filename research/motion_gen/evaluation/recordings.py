"""Tracked recordings of real people talking that nothing was trained on, at `MOTION_FPS`.

`--tracking` holds what `training/track` wrote, one folder a set: `grid_s1` (only every 23rd clip is
used: the others are training data), `grid_other_speakers`, `public_domain_speech`.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from talkingface.contract.arrays import Float32Array
from talkingface.contract.motion import PITCH
from talkingface.contract.rates import MOTION_FPS, SAMPLE_RATE
from talkingface.renderer.face import fitting
from talkingface_research.motion_gen.evaluation import mouth
from talkingface_research.motion_gen.evaluation.curves import Curve, lagged_correlation, shifted
from talkingface_research.motion_gen.evaluation.phones import Phones, aligned, labelled
from talkingface_research.motion_gen.evaluation.store import save_arrays
from talkingface_research.motion_gen.training.prepare import bridge, held_out, to_fps

KNOWN, OTHERS, NATURAL = "grid_s1", "grid_other_speakers", "public_domain_speech"
SETS = {
    KNOWN: "known speaker, held-out clips",
    OTHERS: "other GRID speakers",
    NATURAL: "natural speech",
}
OFFSETS = range(-6, 10)  # frames by which a recording's audio may be ahead of its video
SAMPLES_PER_FRAME = SAMPLE_RATE // MOTION_FPS
# Source files of the fit, whose content is part of the cache key.
_FIT = [Path(fitting.__file__).with_name(f"{name}.py") for name in ("camera", "fitting", "solver")]
QUICK = 8  # clips of a set with --quick


@dataclass
class Recording:
    """One clip; curves and motion are on the video clock."""

    name: str
    audio: Float32Array  # (n,) 16 kHz
    opening: Curve  # (T,) measured on the landmarks, face widths
    width: Curve  # (T,)
    motion: Float32Array  # (T, 60) fitted to the landmarks
    offset: int = 0  # frames by which the audio is ahead of the video
    phones: Phones | None = None  # on the audio clock

    @property
    def frames(self) -> int:
        """Number of video frames."""
        return len(self.opening)

    @property
    def energy(self) -> Curve:
        """(audio frames,) root mean square, on the audio clock."""
        return frame_energy(self.audio)

    @property
    def video_energy(self) -> Curve:
        """(T,) root mean square on the video clock."""
        return shifted(self.energy, self.offset, self.frames)


def frame_energy(audio: Float32Array, samples: int = SAMPLES_PER_FRAME) -> Curve:
    """Root mean square of each frame of audio: (n // samples,)."""
    frames = len(audio) // samples
    cut = np.asarray(audio[: frames * samples], float).reshape(frames, samples)
    return np.asarray(np.sqrt((cut**2).mean(axis=1)))


def decibels(energy: Curve) -> Curve:
    """Level of a root mean square."""
    return np.asarray(20 * np.log10(energy + 1e-6), float)


def load(name: str, tracking: Path, names: Path, cache: Path, quick: bool) -> list[Recording]:
    """The recordings of a set, each with its offset and, where they are known, its phones.

    :param names: folder of grid_s1's videos and word times; their order decides what is held out.
        Phone labels of the natural recordings are in a folder next to it, named as their set
    :param cache: folder for fits and alignments
    """
    paths = sorted((tracking / name).glob("*.npz"))
    if name == KNOWN:
        chosen = {clip.stem for clip in held_out(sorted(names.glob("*.mp4")))}
        paths = [path for path in paths if path.stem in chosen]
    if quick and len(paths) > QUICK:
        paths = paths[:: len(paths) // QUICK][:QUICK]
    if not paths:
        raise FileNotFoundError(2, "no tracked clips", str(tracking / name))
    clips = [_read(path) for path in paths]
    people = [list(range(len(clips)))] if name == KNOWN else [[i] for i in range(len(clips))]
    motions: dict[int, Float32Array] = {}
    for person in people:  # a person's clips are fitted together
        fitted = _fit([clips[i][1] for i in person], [paths[i] for i in person], cache)
        motions.update(zip(person, fitted, strict=True))
    found = []
    for i, (path, (audio, landmarks)) in enumerate(zip(paths, clips, strict=True)):
        opening, width = mouth.measured(landmarks)
        found.append(Recording(path.stem, audio, opening, width, motions[i]))
    # One recording set-up has one offset. It cannot be found from the three seconds of one clip:
    # words of even rhythm match a syllable later as well.
    for group in [[one] for one in found] if name == NATURAL else [found]:
        offset = audio_offset(group)
        for one in group:
            one.offset = offset
    for one in found:
        one.phones = _phones(name, one, names, cache)
    return found


def audio_offset(clips: list[Recording]) -> int:
    """The delay of the audio in frames at which its energy matches the lips best."""
    return -lagged_correlation(
        [clip.energy for clip in clips],
        [clip.opening for clip in clips],
        [0] * len(clips),
        [-offset for offset in OFFSETS],
    )[1]


def _read(path: Path) -> tuple[Float32Array, Float32Array]:
    with np.load(path) as stored:
        landmarks = to_fps(bridge(stored["landmarks"]), float(stored["fps"]))
        return stored["audio"].astype(np.float32) / 32768.0, landmarks


def _fit(clips: list[Float32Array], paths: list[Path], cache: Path) -> list[Float32Array]:
    """Motion frames of one person's clips: the 3D fit, with its pose smoothed as in training.

    Unlike in training, no resting face is subtracted: a clip that starts in mid-word has none.
    """
    from scipy.signal import savgol_filter

    digest = hashlib.sha256()
    for path in (*_FIT, *paths):
        digest.update(path.read_bytes())
    stored = cache / f"motion-{digest.hexdigest()[:24]}.npz"
    if not stored.exists():
        identity, lids = fitting.estimate_person(
            np.concatenate([c[::12] for c in clips]), frames=240
        )
        motions = []
        for clip in clips:
            motion = fitting.track(clip, identity, lids).motion()
            motion[:, PITCH:] = savgol_filter(motion[:, PITCH:], 7, 2, axis=0)
            motions.append(motion)
        save_arrays(stored, **{f"clip_{i}": motion for i, motion in enumerate(motions)})
    with np.load(stored) as arrays:
        return [arrays[f"clip_{i}"] for i in range(len(clips))]


def _phones(name: str, clip: Recording, names: Path, cache: Path) -> Phones | None:
    if name == NATURAL:
        labels = names.parent / NATURAL / f"{clip.name}.phonemes.json"
        level = decibels(frame_energy(clip.audio, SAMPLE_RATE // 100))
        return labelled(labels, level) if labels.exists() else None
    if name != KNOWN:
        return None
    stored = cache / f"phones-{clip.name}.npz"
    if not stored.exists():
        phones = aligned(names / f"{clip.name}.mp4")
        if phones is None:
            return None
        save_arrays(stored, phone=phones.phone, end=phones.end)
    with np.load(stored) as arrays:
        return Phones(arrays["phone"], arrays["end"])
