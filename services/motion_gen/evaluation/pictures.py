"""A portrait drawn by the renderer's own code and read back by Google's face landmarker.

The landmarker (`mediapipe >= 1.2` and its `.task` file, as in `training/track`) shares nothing with
the project's models. Both are for measuring only and are not shipped.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from talkingface import renderer
from talkingface.common.motion import ARKIT_INDEX, ARKIT_NAMES, Array
from talkingface.motion_gen.evaluation.curves import Curve
from talkingface.renderer.geometry import Portrait, render
from talkingface.renderer.preparation import PortraitPreparation
from talkingface.renderer.store import unpack
from talkingface.renderer.synthesis import finish, inpainter_inputs

Image = NDArray[np.uint8]
INPAINTER = Path(*renderer.__path__) / "model_repository" / "inpainter" / "1" / "model.onnx"


class Painter:
    """Frames of one portrait, as the services draw them."""

    def __init__(self, portrait: Path) -> None:
        _, arrays = PortraitPreparation().prepare(portrait.read_bytes())
        self._portrait = unpack(Portrait, arrays)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self._inpainter = onnxruntime.InferenceSession(
            str(INPAINTER), options, providers=["CPUExecutionProvider"]
        )

    def __call__(self, motion: Array) -> Image:
        """One motion frame (58,) as RGB (512, 512, 3)."""
        frame = render(self._portrait, motion)
        inputs = inpainter_inputs(self._portrait, frame)
        mouth, eyes = self._inpainter.run(
            ["mouth_residual", "eyes_residual"], {k: v[None] for k, v in inputs.items()}
        )
        return finish(frame, mouth[0], eyes[0])


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
