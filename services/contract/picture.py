"""The pictures that a session asks for: checked, and how large they become."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from talkingface.contract.errors import invalid_field
from talkingface.contract.limits import (
    DEFAULT_SIZE,
    MAX_FRAME_RATE,
    MAX_PHOTO_SIDE,
    MAX_SIZE,
    MIN_FRAME_RATE,
    MIN_SIZE,
)
from talkingface.v1 import media_pb2 as media
from talkingface.v1.renderer_pb2 import Portrait, RenderConfig
from talkingface.v1.talking_face_pb2 import AnimateConfig

Image = NDArray[np.uint8]

FRAMINGS = (media.FRAMING_CROP, media.FRAMING_PHOTO)


@dataclass(frozen=True)
class View:
    """How the frames of a portrait are to be shown; what the model `frame_synthesis` is told."""

    framing: int  # media.Framing
    width: int  # pixels, even
    height: int
    planar: bool = False  # I420 as video encoders take it, else RGB

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the picture: (H, W, 3), or the planes Y, U, V below each other, (3 / 2 H, W)."""
        if self.planar:
            return self.height * 3 // 2, self.width
        return self.height, self.width, 3

    def to_array(self) -> NDArray[np.int32]:
        """(4,), as the model takes it."""
        return np.array([self.framing, self.width, self.height, self.planar], np.int32)

    @classmethod
    def from_array(cls, values: NDArray[np.int32]) -> View:
        """What `to_array` has made."""
        framing, width, height, planar = (int(value) for value in values)
        return cls(framing, width, height, bool(planar))


def fill_in(config: RenderConfig | AnimateConfig) -> None:
    """Check size, frame rate and framing of a configuration, and put the defaults in.

    :raises ServiceError: FIELD_INVALID.
    """
    if config.framing == media.FRAMING_UNSPECIFIED:
        config.framing = media.FRAMING_CROP
    if config.framing not in FRAMINGS:
        raise invalid_field("config.framing", f"{config.framing} is no framing")
    if config.framing == media.FRAMING_PHOTO:
        if config.HasField("size"):
            raise invalid_field("config.size", "must be absent: the photo tells it")
    elif not config.HasField("size"):
        config.size = DEFAULT_SIZE
    elif not MIN_SIZE <= config.size <= MAX_SIZE or config.size % 2:
        raise invalid_field(
            "config.size", f"{config.size} is no even number in [{MIN_SIZE}, {MAX_SIZE}]"
        )
    if not config.HasField("frame_rate"):
        config.frame_rate = MIN_FRAME_RATE
    elif not MIN_FRAME_RATE <= config.frame_rate <= MAX_FRAME_RATE:
        raise invalid_field(
            "config.frame_rate",
            f"{config.frame_rate} is outside [{MIN_FRAME_RATE}, {MAX_FRAME_RATE}]",
        )


def picture_format(config: RenderConfig | AnimateConfig, portrait: Portrait) -> media.PictureFormat:
    """What the pictures are like.

    :param config: as `fill_in` leaves it.
    """
    width = height = config.size
    if config.framing == media.FRAMING_PHOTO:
        width, height = photo_size(portrait.width, portrait.height)
    return media.PictureFormat(width=width, height=height, frame_rate=config.frame_rate)


def photo_size(width: int, height: int) -> tuple[int, int]:
    """Width and height of the picture of a whole photo, both even."""
    scale = min(1.0, MAX_PHOTO_SIDE / max(width, height))
    return round(width * scale) // 2 * 2, round(height * scale) // 2 * 2
