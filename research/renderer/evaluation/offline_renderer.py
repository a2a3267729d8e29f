"""Portraits prepared and rendered without servers, by the services' own code."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from talkingface import renderer
from talkingface.renderer.analysis import AnalysedPortrait, FaceAnalyser
from talkingface.renderer.geometry import PreparedPortrait, WarpedFrame, prepare, render
from talkingface.renderer.worker.frame_synthesis import finish, inpainter_inputs

Array = NDArray[np.float32]
Image = NDArray[np.uint8]
INPAINTER = Path(*renderer.__path__) / "model_repository" / "inpainter" / "1" / "model.onnx"


@dataclass(frozen=True)
class RenderedFrame:
    """One frame before and after the network."""

    warped: WarpedFrame
    bare: Image  # (512, 512, 3) by geometry alone
    image: Image  # (512, 512, 3) with the network's residuals


class Inpainter:
    """The network on one core, by ONNX Runtime."""

    def __init__(self, path: Path = INPAINTER) -> None:
        self.digest = hashlib.sha256(path.read_bytes()).hexdigest()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"]
        )

    def __call__(self, frame: WarpedFrame) -> tuple[Array, Array]:
        """Residuals of mouth and eyes."""
        inputs = {k: v[None] for k, v in inpainter_inputs(frame).items()}
        mouth, eyes = self._session.run(["mouth_residual", "eyes_residual"], inputs)
        return mouth[0], eyes[0]


class OfflineRenderer:
    """Renders one portrait as the services do."""

    def __init__(self, portrait: PreparedPortrait, inpainter: Inpainter) -> None:
        self.portrait = portrait
        self._inpainter = inpainter

    def render(self, motion: Array, traced: bool = False) -> RenderedFrame:
        """Render one motion frame (60,); `traced` as in `geometry.render`."""
        frame = render(self.portrait, motion, traced=traced)
        bare = frame.image
        finish(frame, *self._inpainter(frame))
        return RenderedFrame(frame, bare, frame.image)

    def __call__(self, motion: Array) -> Image:
        """Render one motion frame (60,) to RGB (512, 512, 3)."""
        return self.render(motion).image


def prepare_analysed(analysed: AnalysedPortrait) -> PreparedPortrait:
    """Prepare an analysed photo."""
    return prepare(
        analysed.frame,
        analysed.landmarks,
        analysed.matte,
        analysed.background,
        analysed.surroundings,
    )


def renderer_of(photo: Path) -> OfflineRenderer:
    """A renderer of the photo in a file."""
    return OfflineRenderer(
        prepare_analysed(FaceAnalyser().analyse(photo.read_bytes())), Inpainter()
    )
