"""From the bytes of a photo to a prepared portrait: analysis, fit, layers."""

from __future__ import annotations

import numpy as np

from talkingface.contract.errors import ServiceError
from talkingface.contract.portrait import handle_of
from talkingface.contract.video import photo_size
from talkingface.renderer.analysis import (
    AnalysedPortrait,
    FaceAnalyser,
    PortraitError,
    PortraitReason,
)
from talkingface.renderer.analysis.matting import inpaint_background
from talkingface.renderer.geometry import prepare
from talkingface.renderer.portrait_store import GREY_FACE, PHOTO, PORTRAIT, Arrays, pack
from talkingface.renderer.worker.frame_synthesis import grey_face, whole_photo
from talkingface.renderer.worker.viewport import photo_pixels
from talkingface.v1.renderer_pb2 import Box, Portrait

_REASONS = {
    PortraitReason.NOT_AN_IMAGE: "IMAGE_BROKEN",
    PortraitReason.UNSUPPORTED_FORMAT: "IMAGE_FORMAT",
}


class PortraitPreparation:
    """Holds the networks of the face analysis."""

    def __init__(self) -> None:
        self._analyser = FaceAnalyser()

    def warm_up(self) -> tuple[Portrait, Arrays]:
        """Prepare a grey face, so that all kernels are compiled or loaded.

        :return: as `prepare`, under the handle `GREY_FACE`.
        """
        frame, points = grey_face()
        height, width = frame.shape[:2]
        matte = np.zeros((height, width), np.float32)
        matte[100:, 100:-100] = 1
        background = inpaint_background(frame, matte, np.zeros_like(matte))
        prepared = prepare(frame, points, matte, background)
        arrays = pack(prepared, PORTRAIT) | pack(whole_photo(frame), PHOTO)
        return Portrait(handle=GREY_FACE, width=width, height=height), arrays

    def prepare(self, content: bytes) -> tuple[Portrait, Arrays]:
        """Prepare a JPEG, PNG or WebP file.

        :return: the message for clients, and what the portrait's frames need, as named arrays.
        :raises ServiceError: a photo that cannot be used, with the reason.
        """
        try:
            analysed = self._analyser.analyse(content)
        except PortraitError as error:
            details = {name: str(value) for name, value in error.details.items()}
            reason = _REASONS.get(error.reason, error.reason.value)
            raise ServiceError(reason, str(error), details) from error
        prepared = prepare(
            analysed.frame,
            analysed.landmarks,
            analysed.matte,
            analysed.background,
            analysed.surroundings,
        )
        size = photo_size(*analysed.photo_size)
        pixels = photo_pixels(analysed.photo, analysed.frame, analysed.to_photo, size)
        arrays = pack(prepared, PORTRAIT) | pack(pixels, PHOTO)
        return _message(handle_of(content), analysed), arrays


def _message(handle: str, analysed: AnalysedPortrait) -> Portrait:
    matrix = analysed.to_photo
    width, height = analysed.photo_size
    points = analysed.landmarks[:, :2] @ matrix[:, :2].T + matrix[:, 2]
    points *= width / analysed.photo.shape[1]
    (left, top), (right, bottom) = points.min(axis=0), points.max(axis=0)
    return Portrait(
        handle=handle,
        width=width,
        height=height,
        face=Box(left=left, top=top, width=right - left, height=bottom - top),
        yaw=float(np.round(analysed.rotation[1], 1)),
        completed_share=float(np.round(analysed.pad_mask.mean(), 3)),
    )
