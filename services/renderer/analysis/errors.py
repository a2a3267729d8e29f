"""Why a photo cannot be animated."""

from __future__ import annotations

from enum import StrEnum


class PortraitReason(StrEnum):
    """Reason codes; stable, clients may rely on them."""

    NOT_AN_IMAGE = "NOT_AN_IMAGE"
    UNSUPPORTED_FORMAT = "UNSUPPORTED_FORMAT"
    IMAGE_TOO_LARGE = "IMAGE_TOO_LARGE"
    NO_FACE = "NO_FACE"
    SEVERAL_FACES = "SEVERAL_FACES"
    FACE_TOO_SMALL = "FACE_TOO_SMALL"
    FACE_TURNED = "FACE_TURNED"
    TOO_DARK = "TOO_DARK"


class PortraitError(ValueError):
    """A portrait was rejected: `str()` describes what was found, `details` has the numbers."""

    def __init__(self, reason: PortraitReason, message: str, **details: object) -> None:
        super().__init__(message)
        self.reason = reason
        self.details = details


class ImageError(PortraitError):
    """The bytes are not an image that can be used."""


class FaceError(PortraitError):
    """The image was read, but shows no face that can be used."""
