"""Rendered frames to H.264, JPEG or PNG, one packet a frame."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import cv2

from talkingface.contract.errors import ServiceError, invalid_field
from talkingface.contract.video import QUALITY, Quality
from talkingface.renderer.arrays import Uint8Image
from talkingface.renderer.h264 import H264Encoder, H264Format, H264Kind
from talkingface.v1.media_pb2 import VideoCodec, VideoFormat
from talkingface.v1.renderer_pb2 import RenderConfig

_MAX_KEYFRAME_INTERVAL = 250  # frames, x264's default
_KEYFRAME_SECONDS = 2  # between keyframes where a stream does not say


class Encoder(Protocol):
    """One stream of frames. `encode` may run in any thread, one at a time."""

    planar: bool
    """Whether it expects the planes of I420, (3 / 2 H, W), instead of RGB(A), (H, W, 3 or 4)."""

    def encode(self, image: Uint8Image) -> tuple[bytes, bool]:
        """Encode a frame.

        :return: the packet, and whether decoding can begin with it.
        """

    def repeat(self) -> tuple[bytes, bool]:
        """Encode the last frame once more; at least one must have been encoded."""


class ImageEncoder:
    """Each frame as an image file of its own."""

    planar = False

    def __init__(self, extension: str, options: list[int]) -> None:
        """
        :param extension: file extension that names the format for OpenCV
        :param options: options of `cv2.imencode`
        """
        self._extension = extension
        self._options = options
        self._data = b""  # the last frame

    def encode(self, image: Uint8Image) -> tuple[bytes, bool]:
        self._data = _encode_image(self._extension, image, self._options)
        return self.repeat()

    def repeat(self) -> tuple[bytes, bool]:
        assert self._data, "nothing to repeat"
        return self._data, True


def make_encoder(
    config: RenderConfig,
    picture: VideoFormat,
    h264: H264Kind = H264Kind.X264,
    on_fallback: Callable[[], None] | None = None,
) -> Encoder:
    """Make the encoder that a stream asks for.

    :param h264: encoder of H.264
    :param on_fallback: see `H264Encoder`
    :raises ServiceError: FIELD_INVALID.
    """
    default = _KEYFRAME_SECONDS * picture.frame_rate
    interval = _in_range(config, "keyframe_interval", Quality(1, _MAX_KEYFRAME_INTERVAL, default))
    if config.codec == VideoCodec.VIDEO_CODEC_H264:
        crf = _in_range(config, "quality", QUALITY[VideoCodec.VIDEO_CODEC_H264])
        form = H264Format(picture.width, picture.height, picture.frame_rate, crf, interval)
        return H264Encoder(form, h264, on_fallback)
    if config.codec == VideoCodec.VIDEO_CODEC_JPEG:
        quality = _in_range(config, "quality", QUALITY[VideoCodec.VIDEO_CODEC_JPEG])
        return ImageEncoder(".jpg", [cv2.IMWRITE_JPEG_QUALITY, quality])
    if config.codec == VideoCodec.VIDEO_CODEC_PNG:  # compressed fast rather than small
        return ImageEncoder(".png", [cv2.IMWRITE_PNG_COMPRESSION, 1])
    raise invalid_field("config.codec", "must be H264, JPEG or PNG")


def _in_range(config: RenderConfig, name: str, limits: Quality) -> int:
    low, high, default = limits
    if not config.HasField(name):
        return default
    value: int = getattr(config, name)
    if not low <= value <= high:
        raise invalid_field(f"config.{name}", f"{value} is outside [{low}, {high}]")
    return value


def _encode_image(extension: str, image: Uint8Image, options: list[int]) -> bytes:
    swapped = cv2.COLOR_RGBA2BGRA if image.shape[2] == 4 else cv2.COLOR_RGB2BGR
    done, data = cv2.imencode(extension, cv2.cvtColor(image, swapped), options)
    if not done:
        raise ServiceError("INTERNAL", f"cannot encode {extension}")
    return data.tobytes()
