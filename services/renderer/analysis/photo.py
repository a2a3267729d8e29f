"""From the bytes of a client's file to upright sRGB pixels."""

from __future__ import annotations

import io
import math
import struct
import warnings
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError

from talkingface.contract.portrait import MAX_BYTES, MAX_PIXELS
from talkingface.renderer.analysis.errors import ImageError, PortraitReason
from talkingface.renderer.arrays import Uint8Image

MIN_SIDE = 64  # pixels
# Larger photos are reduced: decoding must not take more memory than everything else.
WORKING_PIXELS = 4096 * 3072
_ORIENTATION = 0x0112  # EXIF tag
_REDUCIBLE = {"1": "L", "P": "RGBA", "I;16": "I"}  # instead of modes that Pillow cannot reduce
FORMATS = ("JPEG", "MPO", "PNG", "WEBP")  # MPO: a JPEG with a second image, as phones write it
_BACKDROP = (192, 192, 192)  # RGB behind the transparent parts of an image


@dataclass(frozen=True)
class Photo:
    """An upright image; a very large one is reduced."""

    pixels: Uint8Image  # (H, W, 3) RGB
    width: int  # of the upright file
    height: int


def decode(content: bytes) -> Uint8Image:
    """Return the pixels of `read_photo`."""
    return read_photo(content).pixels


def read_photo(content: bytes) -> Photo:
    """Decode JPEG, PNG or WebP, and apply its EXIF orientation and colour profile.

    Grey, palette, 16-bit and CMYK images become 8-bit RGB; an animation gives its first image;
    transparent parts show light grey. Beyond `WORKING_PIXELS` the sides are divided by the smallest
    whole number that suffices.

    :raises ImageError: NOT_AN_IMAGE, UNSUPPORTED_FORMAT or IMAGE_TOO_LARGE (more than `MAX_BYTES`
        or `MAX_PIXELS`; the size is checked before any pixel is decoded).
    """
    with _open(content) as image:
        _check(image)
        try:
            return _upright(image)
        except (OSError, ValueError, SyntaxError, EOFError, struct.error) as error:
            raise ImageError(PortraitReason.NOT_AN_IMAGE, f"broken image: {error}") from None


def _open(content: bytes) -> Image.Image:
    """Read the header of an image file.

    :raises ImageError: NOT_AN_IMAGE or IMAGE_TOO_LARGE.
    """
    if len(content) > MAX_BYTES:
        raise ImageError(
            PortraitReason.IMAGE_TOO_LARGE,
            f"the file has {len(content) / 2**20:.1f} MB, the limit is {MAX_BYTES // 2**20}",
            bytes=len(content),
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            return Image.open(io.BytesIO(content))
    except Image.DecompressionBombError as error:
        raise ImageError(PortraitReason.IMAGE_TOO_LARGE, str(error)) from None
    except UnidentifiedImageError:
        raise ImageError(
            PortraitReason.NOT_AN_IMAGE, f"the {len(content)} bytes are no image of a known format"
        ) from None
    except (OSError, ValueError, SyntaxError, EOFError, struct.error) as error:
        raise ImageError(PortraitReason.NOT_AN_IMAGE, f"unreadable image: {error}") from None


def _check(image: Image.Image) -> None:
    """:raises ImageError: a format or a size that is not accepted."""
    if image.format not in FORMATS:
        raise ImageError(
            PortraitReason.UNSUPPORTED_FORMAT,
            f"the image is {image.format}; JPEG, PNG and WebP are accepted",
            format=image.format,
        )
    width, height = image.size
    if width * height > MAX_PIXELS:
        limit = f"at most {MAX_PIXELS // 10**6} million are accepted"
        raise ImageError(
            PortraitReason.IMAGE_TOO_LARGE,
            f"the image has {width}x{height} pixels, {limit}",
            width=width,
            height=height,
        )
    if min(width, height) < MIN_SIDE:
        raise ImageError(
            PortraitReason.NOT_AN_IMAGE,
            f"the image has {width}x{height} pixels, at least {MIN_SIDE} a side are needed",
            width=width,
            height=height,
        )


def _upright(image: Image.Image) -> Photo:
    """Reduce and turn an opened image."""
    size = image.size
    if (divisor := _divisor(image)) > 1:
        image.draft(None, (size[0] // divisor, size[1] // divisor))  # a JPEG is decoded smaller
    if image.getexif().get(_ORIENTATION, 1) > 4:
        size = size[::-1]
    ImageOps.exif_transpose(image, in_place=True)
    if (divisor := _divisor(image)) > 1:
        if image.mode in _REDUCIBLE:
            image = image.convert(_REDUCIBLE[image.mode])
        image = image.reduce(divisor)
    return Photo(np.asarray(_to_srgb(image)), *size)


def _divisor(image: Image.Image) -> int:
    """What the sides must be divided by to stay within `WORKING_PIXELS`."""
    return math.ceil(math.sqrt(image.width * image.height / WORKING_PIXELS))


def _to_srgb(image: Image.Image) -> Image.Image:
    """Convert any mode that the accepted formats can have to RGB in the sRGB colour space."""
    if image.mode.startswith("I") or image.mode == "F":
        values = np.asarray(image, np.float32) / 257
        image = Image.fromarray(np.clip(values + 0.5, 0, 255).astype(np.uint8))
    if image.mode in ("P", "PA", "LA", "La", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
    profile = image.info.get("icc_profile")
    alpha = image.getchannel("A") if image.mode == "RGBA" else None
    if profile and image.mode in ("RGB", "RGBA", "CMYK"):
        colours = image.convert("RGB") if alpha else image
        try:
            image = ImageCms.profileToProfile(  # type: ignore[assignment]
                colours,
                ImageCms.ImageCmsProfile(io.BytesIO(profile)),
                ImageCms.createProfile("sRGB"),
                outputMode="RGB",
            )
        except (ImageCms.PyCMSError, OSError):
            image = colours  # a damaged profile is ignored: the values count as sRGB
    if image.mode != "RGB":
        image = image.convert("RGB")
    if alpha:
        image = Image.composite(image, Image.new("RGB", image.size, _BACKDROP), alpha)
    return image
