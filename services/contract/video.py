"""Size, frame rate, framing, background and quality of the video that a session asks for."""

from __future__ import annotations

import hashlib
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
MAX_BACKGROUND_BYTES = 1 << 20  # of the file of an image
_DIGEST_WORDS = 8  # int32 of a SHA-256


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


class BackgroundKind(IntEnum):
    """What is seen behind the person: numbers of the fields of `media.Background`."""

    PHOTO = media.Background.PHOTO_FIELD_NUMBER
    COLOUR = media.Background.COLOUR_FIELD_NUMBER
    IMAGE = media.Background.IMAGE_FIELD_NUMBER
    TRANSPARENT = media.Background.TRANSPARENT_FIELD_NUMBER


@dataclass(frozen=True)
class Background:
    """What is seen behind the person."""

    kind: BackgroundKind = BackgroundKind.PHOTO
    colour: tuple[int, int, int] = (0, 0, 0)  # RGB; of COLOUR
    digest: bytes = b""  # (32,) of the stored file; of IMAGE

    @classmethod
    def from_message(cls, message: media.Background) -> Background:
        """Convert a message that `fill_in` has checked."""
        match message.WhichOneof("kind"):
            case "colour":
                colour = message.colour
                rgb = (colour.red, colour.green, colour.blue)
                return cls(BackgroundKind.COLOUR, colour=rgb)
            case "image":
                return cls(BackgroundKind.IMAGE, digest=background_digest(message.image))
            case "transparent":
                return cls(BackgroundKind.TRANSPARENT)
        return cls()

    def to_array(self) -> Int32Array:
        """Return the kind, and a colour or a digest, (9,)."""
        data = bytes(self.colour) if self.kind == BackgroundKind.COLOUR else self.digest
        words = np.frombuffer(data.ljust(4 * _DIGEST_WORDS, b"\0"), np.int32)
        return np.concatenate([[self.kind], words]).astype(np.int32)

    @classmethod
    def from_array(cls, values: Int32Array) -> Background:
        """Convert what `to_array` returned back.

        :raises ValueError: no such kind.
        """
        kind, data = BackgroundKind(int(values[0])), values[1:].tobytes()
        if kind == BackgroundKind.COLOUR:
            return cls(kind, colour=(data[0], data[1], data[2]))
        return cls(kind, digest=data) if kind == BackgroundKind.IMAGE else cls(kind)


def background_digest(image: bytes) -> bytes:
    """Return the digest (32,) under which the file of a background is stored.

    It differs from that of a portrait with the same bytes.
    """
    return hashlib.sha256(b"background\0" + image).digest()


@dataclass(frozen=True)
class View:
    """What rendered frames show, and their pixels: input of the model `frame_synthesis`."""

    framing: int  # media.Framing
    width: int  # pixels, even
    height: int
    planar: bool = False  # I420, the input of video encoders, else RGB
    background: Background = Background()

    @property
    def transparent(self) -> bool:
        """Whether frames have an opacity: RGBA, or the opacity as luma right of the colours."""
        return self.background.kind == BackgroundKind.TRANSPARENT

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of a frame: (H, W, 3 or 4), or the planes Y, U, V below each other, (3 / 2 H, W).

        Planes of a transparent view have twice its width.
        """
        if self.planar:
            return self.height * 3 // 2, self.width * (1 + self.transparent)
        return self.height, self.width, 3 + self.transparent

    def to_array(self) -> Int32Array:
        """Return the model's input, (13,)."""
        own = np.array([self.framing, self.width, self.height, self.planar], np.int32)
        return np.concatenate([own, self.background.to_array()])

    @classmethod
    def from_array(cls, values: Int32Array) -> View:
        """Convert what `to_array` returned back to a view."""
        framing, width, height, planar = (int(value) for value in values[:4])
        return cls(framing, width, height, bool(planar), Background.from_array(values[4:]))


def fill_in(config: RenderConfig | AnimateConfig) -> None:
    """Check size, rate, framing and background of a configuration, and fill in the defaults.

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
    _fill_in_background(config)


def _fill_in_background(config: RenderConfig | AnimateConfig) -> None:
    """Check the background of a configuration; default: the photo's.

    :raises ServiceError: FIELD_INVALID.
    """
    background = config.background
    kind = background.WhichOneof("kind")
    if kind is None or kind == "photo":
        background.photo.SetInParent()
        return
    if config.framing == media.FRAMING_PHOTO:
        raise invalid_field("config.background", "must be that of the photo with FRAMING_PHOTO")
    if kind == "colour":
        for name in ("red", "green", "blue"):
            value = getattr(background.colour, name)
            if value > 255:
                raise invalid_field(f"config.background.colour.{name}", f"{value} is above 255")
    if kind == "image" and not 0 < len(background.image) <= MAX_BACKGROUND_BYTES:
        raise invalid_field(
            "config.background.image",
            f"has {len(background.image)} bytes, not 1 to {MAX_BACKGROUND_BYTES}",
        )
    if kind == "transparent" and _is_jpeg(config):
        raise invalid_field("config.background.transparent", "is impossible for JPEG")


def _is_jpeg(config: RenderConfig | AnimateConfig) -> bool:
    if isinstance(config, RenderConfig):
        return config.codec == media.VIDEO_CODEC_JPEG
    return config.output == media.OUTPUT_KIND_JPEG


def _is_png(config: RenderConfig | AnimateConfig) -> bool:
    if isinstance(config, RenderConfig):
        return config.codec == media.VIDEO_CODEC_PNG
    return config.output == media.OUTPUT_KIND_PNG


def frame_size(config: RenderConfig | AnimateConfig, portrait: Portrait) -> tuple[int, int]:
    """Return width and height of what a frame shows.

    :param config: a configuration that `fill_in` has completed
    :param portrait: whose photo decides the size with FRAMING_PHOTO
    """
    if config.framing == media.FRAMING_PHOTO:
        return photo_size(portrait.width, portrait.height)
    return config.size, config.size


def video_format(config: RenderConfig | AnimateConfig, portrait: Portrait) -> media.VideoFormat:
    """Return size as coded and frame rate of the video; parameters as in `frame_size`."""
    width, height = frame_size(config, portrait)
    if config.background.HasField("transparent") and not _is_png(config):
        width *= 2  # H.264, with the opacity on the right
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
