"""Size, frame rate, framing and quality of the video that a session asks for."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

import numpy as np

from talkingface.contract.arrays import Int32Array
from talkingface.contract.errors import invalid_field
from talkingface.contract.rates import MOTION_FPS
from talkingface.v1 import media_pb2 as media
from talkingface.v1.renderer_pb2 import Portrait, RenderConfig
from talkingface.v1.talking_face_pb2 import AnimateConfig

MIN_SIZE, MAX_SIZE, DEFAULT_SIZE = 256, 1024, 512  # pixels, both sides of a crop; even
MAX_PHOTO_SIDE = 1920  # pixels, longer side of the frame with FRAMING_PHOTO
MIN_FRAME_RATE, MAX_FRAME_RATE = MOTION_FPS, 60  # frames a second

FRAMINGS = (media.FRAMING_CROP, media.FRAMING_PHOTO)


class RenderLevel(IntEnum):
    """How much of a frame is rendered, see renderer.proto: the lower, the more a level costs."""

    FULL = 0
    HALF_RESOLUTION = 1
    HALF_RATE = 2


class Quality(NamedTuple):
    """Range, both ends included, and default of a codec's quality setting."""

    low: int
    high: int
    default: int


# CRF of x264 (lower is better), quality of JPEG (higher is better); PNG has none.
QUALITY = {
    media.VIDEO_CODEC_H264: Quality(10, 40, 20),
    media.VIDEO_CODEC_JPEG: Quality(50, 100, 92),
}


@dataclass(frozen=True)
class View:
    """Framing, size and pixel format of rendered frames: input of the model `frame_synthesis`."""

    framing: int  # media.Framing
    width: int  # pixels, even
    height: int
    planar: bool = False  # I420, the input of video encoders, else RGB

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of a frame: (H, W, 3), or the planes Y, U, V below each other, (3 / 2 H, W)."""
        if self.planar:
            return self.height * 3 // 2, self.width
        return self.height, self.width, 3

    def to_array(self) -> Int32Array:
        """Return the model's input, (4,)."""
        return np.array([self.framing, self.width, self.height, self.planar], np.int32)

    @classmethod
    def from_array(cls, values: Int32Array) -> View:
        """Convert what `to_array` returned back to a view."""
        framing, width, height, planar = (int(value) for value in values)
        return cls(framing, width, height, bool(planar))


def fill_in(config: RenderConfig | AnimateConfig) -> None:
    """Check size, frame rate and framing of a configuration, and fill in the defaults.

    :raises ServiceError: FIELD_INVALID.
    """
    if config.framing == media.FRAMING_UNSPECIFIED:
        config.framing = media.FRAMING_CROP
    if config.framing not in FRAMINGS:
        raise invalid_field("config.framing", f"{config.framing} is not a framing")
    if config.framing == media.FRAMING_PHOTO:
        if config.HasField("size"):
            raise invalid_field("config.size", "must be absent: the photo decides it")
    elif not config.HasField("size"):
        config.size = DEFAULT_SIZE
    elif not MIN_SIZE <= config.size <= MAX_SIZE or config.size % 2:
        raise invalid_field(
            "config.size", f"{config.size} is not an even number in [{MIN_SIZE}, {MAX_SIZE}]"
        )
    if not config.HasField("frame_rate"):
        config.frame_rate = MIN_FRAME_RATE
    elif not MIN_FRAME_RATE <= config.frame_rate <= MAX_FRAME_RATE:
        raise invalid_field(
            "config.frame_rate",
            f"{config.frame_rate} is outside [{MIN_FRAME_RATE}, {MAX_FRAME_RATE}]",
        )


def video_format(config: RenderConfig | AnimateConfig, portrait: Portrait) -> media.VideoFormat:
    """Return size and frame rate of the video.

    :param config: a configuration that `fill_in` has completed
    :param portrait: whose photo decides the size with FRAMING_PHOTO
    """
    width = height = config.size
    if config.framing == media.FRAMING_PHOTO:
        width, height = photo_size(portrait.width, portrait.height)
    return media.VideoFormat(width=width, height=height, frame_rate=config.frame_rate)


def photo_size(width: int, height: int) -> tuple[int, int]:
    """Return width and height of the frames of a whole photo, both even.

    :param width: pixels of the photo
    :param height: likewise
    """
    scale = min(1.0, MAX_PHOTO_SIDE / max(width, height))
    return round(width * scale) // 2 * 2, round(height * scale) // 2 * 2


def frame_count(motion_frames: int, rate: int) -> int:
    """Return the number of video frames that start before the end of the motion.

    :param motion_frames: number of motion frames
    :param rate: video frames a second
    """
    return -(-motion_frames * rate // MOTION_FPS)
