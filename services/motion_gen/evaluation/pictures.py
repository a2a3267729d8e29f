"""A drawn portrait read back by Google's face landmarker.

The landmarker (`mediapipe >= 1.2` and its `.task` file, as in `training/track`) shares nothing with
the project's models. It is for measuring only and is not shipped.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from talkingface.common.motion import ARKIT_INDEX, ARKIT_NAMES
from talkingface.motion_gen.evaluation.curves import Curve

Image = NDArray[np.uint8]


class Landmarker:
    """Blendshape scores of pictures."""

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

    def close(self) -> None:
        """Give the landmarker back."""
        self._tracker.close()

    def __call__(self, image: Image) -> Curve | None:
        """Scores (52,) in Apple's order, or None where no face is found."""
        picture = self._mediapipe.Image(
            image_format=self._mediapipe.ImageFormat.SRGB, data=np.ascontiguousarray(image)
        )
        found = self._tracker.detect(picture).face_blendshapes
        if not found:
            return None
        scores = np.zeros(len(ARKIT_NAMES))
        for category in found[0]:
            if category.category_name in ARKIT_INDEX:
                scores[ARKIT_INDEX[category.category_name]] = category.score
        return scores
