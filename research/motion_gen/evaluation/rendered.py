"""Landmarks of rendered frames: what a viewer sees of generated motion.

Portraits are prepared and rendered by the renderer's own code with its network, 512 x 512, and
Google's face landmarker (`landmarker`) detects the landmarks of every frame. Both take time, so
landmarks are cached by the content of everything that they depend on: the photo, the motion, the
renderer's code and models and the landmarker's model.
"""

from __future__ import annotations

import hashlib
import pickle
from functools import cached_property
from pathlib import Path

import numpy as np

from talkingface import renderer
from talkingface.contract.arrays import Float32Array
from talkingface_research.motion_gen.evaluation.landmarker import Image, Landmarker
from talkingface_research.motion_gen.evaluation.store import save_arrays
from talkingface_research.motion_gen.training.prepare import bridge, lost_frames
from talkingface_research.renderer.evaluation.offline_renderer import (
    INPAINTER,
    Inpainter,
    OfflineRenderer,
    renderer_of,
)

PHOTOS = {".jpg", ".jpeg", ".png", ".webp"}
MAX_LOST = 0.2  # share of frames without a face, beyond which a clip is not measured


class FaceLost(ValueError):
    """The landmarker finds a face in too few frames of a clip."""


def photos(folder: Path) -> list[Path]:
    """The portraits of a folder, by name."""
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in PHOTOS)


class Readback:
    """Renders motion and detects landmarks; every portrait is prepared once."""

    def __init__(self, landmarker: Path, cache: Path) -> None:
        self._landmarker_path = landmarker
        self._cache = cache
        self._renderers: dict[Path, OfflineRenderer] = {}
        self.rendered = 0  # frames that were not in the cache

    @cached_property
    def _landmarker(self) -> Landmarker:
        return Landmarker(self._landmarker_path)

    @cached_property
    def _renderer_digest(self) -> bytes:
        root = Path(*renderer.__path__)
        files = sorted(
            path
            for pattern in ("**/*.py", "assets/**/*.npz", "assets/**/*.tflite")
            for path in root.glob(pattern)
        )
        return _digest(*(path.read_bytes() for path in [*files, INPAINTER])).encode()

    def renderer(self, photo: Path) -> OfflineRenderer:
        """The prepared portrait of a photo, cached, since preparation takes seconds."""
        if photo not in self._renderers:
            path = (
                self._cache
                / f"portrait-{_digest(photo.read_bytes(), self._renderer_digest)}.pickle"
            )
            if path.exists():
                self._renderers[photo] = OfflineRenderer(
                    pickle.loads(path.read_bytes()), Inpainter()
                )
            else:
                self._renderers[photo] = renderer_of(photo)
                path.write_bytes(pickle.dumps(self._renderers[photo].portrait))
        return self._renderers[photo]

    def frames(self, photo: Path, motion: Float32Array) -> list[Image]:
        """Rendered frames of motion (T, 60)."""
        render = self.renderer(photo)
        return [render(frame) for frame in motion]

    def landmarks(self, photo: Path, motion: Float32Array) -> Float32Array:
        """Landmarks (T, 478, 3) in pixels of the rendered frames of motion (T, 60).

        :raises FaceLost: no face is found in more than `MAX_LOST` of the frames
        """
        key = _digest(
            photo.read_bytes(),
            np.ascontiguousarray(motion, np.float32).tobytes(),
            self._landmarker_path.read_bytes(),
            self._renderer_digest,
        )
        path = self._cache / f"landmarks-{key}.npz"
        if not path.exists():
            render = self.renderer(photo)
            found = np.stack([self._landmarker.points(render(frame)) for frame in motion])
            self.rendered += len(motion)
            save_arrays(path, landmarks=found)
        with np.load(path) as stored:
            landmarks: Float32Array = stored["landmarks"]
        if lost_frames(landmarks).mean() > MAX_LOST:
            raise FaceLost(f"{photo.name}: a face in too few rendered frames")
        return bridge(landmarks)


def _digest(*parts: bytes) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(hashlib.sha256(part).digest())
    return digest.hexdigest()[:24]
