"""Landmarks and blendshape scores of frames by Google's face landmarker.

The landmarker (`mediapipe >= 1.2` and its `.task` file, as in `training/track`) shares nothing with
the project's models. It is for evaluation only and is not shipped.
"""

from __future__ import annotations

import weakref
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from talkingface.contract.arrays import Float32Array
from talkingface.contract.motion import ARKIT_INDEX, ARKIT_NAMES
from talkingface_research.motion_gen.evaluation.curves import Curve

Image = NDArray[np.uint8]
LANDMARKS = 478


class Landmarker:
    """Blendshape scores and landmarks of frames."""

    def __init__(self, model: Path) -> None:
        import mediapipe
        from mediapipe.tasks.python import BaseOptions, vision

        self._mediapipe: Any = mediapipe
        self._tracker = vision.FaceLandmarker.create_from_options(
            vision.FaceLandmarkerOptions(
                base_options=BaseOptions(model_asset_path=str(model)),
                running_mode=vision.RunningMode.IMAGE,
                output_face_blendshapes=True,
            )
        )
        # Close it before the interpreter unloads the modules that closing needs.
        weakref.finalize(self, self._tracker.close)

    def close(self) -> None:
        """Release the landmarker."""
        self._tracker.close()

    def __call__(self, image: Image) -> Curve | None:
        """Scores (52,) in Apple's order, or None where no face is found."""
        found = self._detect(image).face_blendshapes
        if not found:
            return None
        scores = np.zeros(len(ARKIT_NAMES))
        for category in found[0]:
            if category.category_name in ARKIT_INDEX:
                scores[ARKIT_INDEX[category.category_name]] = category.score
        return scores

    def points(self, image: Image) -> Float32Array:
        """Landmarks (478, 3) in pixels, z in the same scale; NaN where no face is found."""
        found = self._detect(image).face_landmarks
        if not found:
            return np.full((LANDMARKS, 3), np.nan, np.float32)
        height, width = image.shape[:2]
        points = np.array([[p.x, p.y, p.z] for p in found[0]], np.float32)
        return points * np.array([width, height, width], np.float32)

    def _detect(self, image: Image) -> Any:
        frame = self._mediapipe.Image(
            image_format=self._mediapipe.ImageFormat.SRGB, data=np.ascontiguousarray(image)
        )
        return self._tracker.detect(frame)
