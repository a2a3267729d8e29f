"""What passes between the geometry and the inpainting network, and the warm-up of the code."""

from __future__ import annotations

import numpy as np

from talkingface.contract.motion import ARKIT_DIM, ARKIT_INDEX, TONGUE_TIP, YAW, neutral
from talkingface.renderer.arrays import AnyArray, Float32Array, Uint8Image
from talkingface.renderer.face.model import FaceModel, rotation_matrix
from talkingface.renderer.geometry import FRAME, PreparedPortrait, WarpedFrame, paste, prepare
from talkingface.renderer.worker.viewport import PhotoPixels

WARM_UP_YAW = 25.0  # degrees, at which a side counts as hidden
WARM_UP_JAW = 0.4  # jawOpen, at which a seam is drawn where the lips shut


def inpainter_inputs(frame: WarpedFrame) -> dict[str, AnyArray]:
    """Inputs of the model `inpainter` for a frame, without batch dimension."""
    mouth, left, right = frame.crops
    return {
        "mouth": mouth.pixels,
        "eyes": np.stack([left.pixels, right.pixels]),
        "mouth_control": mouth.control,
        "eyes_control": np.stack([left.control, right.control]),
    }


def finish(frame: WarpedFrame, mouth: Float32Array, eyes: Float32Array) -> None:
    """Paste the network's result into the frame, in place.

    :param mouth: residual (128, 128, 4): RGB in [-1, 1], alpha in [0, 1]; where the frame is.
    :param eyes: residuals (2, 64, 64, 4).
    """
    for crop, residual in zip(frame.crops, (mouth, *eyes), strict=True):
        paste(frame.canvas, crop, residual)


def grey_face(yaw: float = 0.0, jaw_open: float = 0.0) -> tuple[Uint8Image, Float32Array]:
    """A grey frame (512, 512, 3), and the mean face's landmarks (478, 3) in it.

    :param yaw: degrees by which the face is turned.
    :param jaw_open: coefficient by which its mouth is open.
    """
    model = FaceModel.load()
    none, expression = np.zeros(len(model.identity), np.float32), np.zeros(ARKIT_DIM, np.float32)
    expression[ARKIT_INDEX["jawOpen"]] = jaw_open
    turned = model.landmarks(none, expression) @ rotation_matrix(0, yaw, 0).T
    points = turned * (200, -200, -200) + 256
    return np.full((FRAME, FRAME, 3), 128, np.uint8), points.astype(np.float32)


def whole_photo(frame: Uint8Image) -> PhotoPixels:
    """A frame (512, 512, 3) as the whole photo, without further detail."""
    return PhotoPixels(np.zeros((0, 0, 3), np.uint8), frame, (0, 0, FRAME))


def grey_portrait() -> PreparedPortrait:
    """Prepare a grey portrait of which one side is hidden, and whose mouth is open."""
    grey, points = grey_face(WARM_UP_YAW, WARM_UP_JAW)
    return prepare(grey, points, np.ones((FRAME, FRAME), np.float32), grey)


def all_moved() -> Float32Array:
    """Motion (60,) in which everything moves, and the hidden side of `grey_portrait` turns up."""
    motion: Float32Array = neutral(1)[0]
    motion[YAW] = -WARM_UP_YAW
    motion[TONGUE_TIP:] = 0.5
    for name in ("jawOpen", "eyeBlinkLeft", "eyeLookUpRight"):
        motion[ARKIT_INDEX[name]] = 0.5
    return motion
