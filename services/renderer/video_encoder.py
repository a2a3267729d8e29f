"""Rendered frames to H.264, JPEG or PNG, one packet a frame."""

from __future__ import annotations

from fractions import Fraction
from typing import Protocol

import av
import cv2

from talkingface.contract.errors import ServiceError, invalid_field
from talkingface.contract.video import QUALITY, Quality
from talkingface.renderer.arrays import Uint8Image
from talkingface.v1.media_pb2 import VideoCodec, VideoFormat
from talkingface.v1.renderer_pb2 import RenderConfig

_MAX_KEYFRAME_INTERVAL = 250  # frames, x264's default
_KEYFRAME_SECONDS = 2  # between keyframes where a stream does not say


class Encoder(Protocol):
    """One stream of frames. `encode` may run in any thread, one at a time."""

    planar: bool
    """Whether it expects the planes of I420, (3 / 2 H, W), instead of RGB, (H, W, 3)."""

    def encode(self, image: Uint8Image) -> tuple[bytes, bool]:
        """Encode a frame.

        :return: the packet, and whether decoding can begin with it.
        """

    def repeat(self) -> tuple[bytes, bool]:
        """Encode the last frame once more; at least one must have been encoded."""


class H264Encoder:
    """Annex B access units without B-frames or delay, SPS and PPS before every IDR.

    One thread, so that the same frames give the same bytes. BT.601 matrix, limited range, tagged.
    """

    planar = True

    def __init__(
        self, width: int, height: int, frame_rate: int, crf: int, keyframe_interval: int
    ) -> None:
        codec = av.CodecContext.create("libx264", "w")
        assert isinstance(codec, av.VideoCodecContext)
        codec.width, codec.height = width, height
        codec.pix_fmt = "yuv420p"
        codec.framerate = Fraction(frame_rate)
        codec.time_base = Fraction(1, frame_rate)
        codec.thread_count = 1
        codec.gop_size = keyframe_interval
        codec.color_range = 1  # limited
        codec.colorspace = 6  # SMPTE 170M, the matrix of BT.601
        codec.color_primaries = 1  # BT.709, as sRGB
        codec.color_trc = 13  # sRGB
        codec.options = {
            "preset": "superfast",
            "tune": "zerolatency",
            "profile": "high",
            "crf": str(crf),
            "x264-params": f"keyint={keyframe_interval}:min-keyint={keyframe_interval}:scenecut=0"
            ":open-gop=0:repeat-headers=1:annexb=1:threads=1:sliced-threads=0",
        }
        self._codec = codec
        self._frame: av.VideoFrame | None = None  # the last one
        self._index = 0

    def encode(self, image: Uint8Image) -> tuple[bytes, bool]:
        self._frame = av.VideoFrame.from_ndarray(image, format="yuv420p")
        return self.repeat()

    def repeat(self) -> tuple[bytes, bool]:
        assert self._frame is not None, "nothing to repeat"
        self._frame.pts = self._index
        self._index += 1
        packets = self._codec.encode(self._frame)
        if len(packets) != 1:
            raise RuntimeError(f"x264 returned {len(packets)} packets for a frame")
        return bytes(packets[0]), packets[0].is_keyframe


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


def make_encoder(config: RenderConfig, picture: VideoFormat) -> Encoder:
    """Make the encoder that a stream asks for.

    :raises ServiceError: FIELD_INVALID.
    """
    default = _KEYFRAME_SECONDS * picture.frame_rate
    interval = _in_range(config, "keyframe_interval", Quality(1, _MAX_KEYFRAME_INTERVAL, default))
    if config.codec == VideoCodec.VIDEO_CODEC_H264:
        crf = _in_range(config, "quality", QUALITY[VideoCodec.VIDEO_CODEC_H264])
        return H264Encoder(picture.width, picture.height, picture.frame_rate, crf, interval)
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
    done, data = cv2.imencode(extension, cv2.cvtColor(image, cv2.COLOR_RGB2BGR), options)
    if not done:
        raise ServiceError("INTERNAL", f"cannot encode {extension}")
    return data.tobytes()
