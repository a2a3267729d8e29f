"""Finished pictures read back: what a viewer sees of generated motion.

Portraits are prepared and drawn by the renderer's own code with its network, 512 x 512, and every
frame is read by Google's face landmarker (`pictures`). Both take time, so landmarks are kept by the
content of everything that they depend on: the photo, the motion, the renderer's code and models and
the reader's model.
"""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np

from talkingface import renderer
from talkingface.contract.motion import Array
from talkingface_research.motion_gen.evaluation.pictures import Image, Landmarker
from talkingface_research.motion_gen.evaluation.store import keep
from talkingface_research.motion_gen.training.prepare import bridge, lost_frames
from talkingface_research.renderer.evaluation.offline_renderer import (
    INPAINTER,
    Inpainter,
    Painter,
    painter_of,
)

PHOTOS = {".jpg", ".jpeg", ".png", ".webp"}
MOST_LOST = 0.2  # share of frames without a face beyond which a clip says nothing


class FaceLost(ValueError):
    """The reader hardly finds a face in a clip."""


def photos(folder: Path) -> list[Path]:
    """The portraits of a folder, by name."""
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in PHOTOS)


class Studio:
    """Draws and reads; every portrait is prepared once."""

    def __init__(self, landmarker: Path, cache: Path) -> None:
        self._reader_path = landmarker
        self._cache = cache
        self._painters: dict[Path, Painter] = {}
        self.drawn = 0  # frames that were not found in the cache

    @cached_property
    def _reader(self) -> Landmarker:
        return Landmarker(self._reader_path)

    @cached_property
    def _drawing(self) -> bytes:
        root = Path(*renderer.__path__)
        files = sorted(
            path
            for pattern in ("**/*.py", "assets/**/*.npz", "assets/**/*.tflite")
            for path in root.glob(pattern)
        )
        return _digest(*(path.read_bytes() for path in [*files, INPAINTER])).encode()

    def painter(self, photo: Path) -> Painter:
        """Prepared and kept: taking a photo apart takes seconds."""
        if photo not in self._painters:
            path = self._cache / f"portrait-{_digest(photo.read_bytes(), self._drawing)}.pickle"
            if path.exists():
                self._painters[photo] = Painter(pickle.loads(path.read_bytes()), Inpainter())
            else:
                self._painters[photo] = painter_of(photo)
                path.write_bytes(pickle.dumps(self._painters[photo].portrait))
        return self._painters[photo]

    def frames(self, photo: Path, motion: Array) -> list[Image]:
        """Finished frames of motion (T, 58)."""
        paint = self.painter(photo)
        return [paint(frame) for frame in motion]

    def read(self, photo: Path, motion: Array) -> Array:
        """Landmarks (T, 478, 3) in pixels of the finished frames of motion (T, 58).

        :raises FaceLost: more than `MOST_LOST` of the frames show no face to the reader
        """
        key = _digest(
            photo.read_bytes(),
            np.ascontiguousarray(motion, np.float32).tobytes(),
            self._reader_path.read_bytes(),
            self._drawing,
        )
        path = self._cache / f"finished-{key}.npz"
        if not path.exists():
            paint = self.painter(photo)
            found = np.stack([self._reader.points(paint(frame)) for frame in motion])
            self.drawn += len(motion)
            keep(path, landmarks=found)
        with np.load(path) as stored:
            landmarks: Array = stored["landmarks"]
        if lost_frames(landmarks).mean() > MOST_LOST:
            raise FaceLost(f"{photo.name}: a face in too few finished frames")
        return bridge(landmarks)

    def read_all(self, photos_: Sequence[Path], motions: Sequence[Array]) -> list[Array]:
        """`read` of each pair."""
        return [self.read(p, m) for p, m in zip(photos_, motions, strict=True)]


def _digest(*parts: bytes) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(hashlib.sha256(part).digest())
    return digest.hexdigest()[:24]
