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

MIN_SIDE = 64
# Of larger photos not all is kept: decoding must not take more memory than all the rest.
WORKING_PIXELS = 4096 * 3072
_ORIENTATION = 0x0112  # EXIF
_REDUCIBLE = {"1": "L", "P": "RGBA", "I;16": "I"}  # instead of modes that Pillow cannot reduce
FORMATS = ("JPEG", "MPO", "PNG", "WEBP")  # MPO: a JPEG with a second picture, as phones write it
_BACKDROP = (192, 192, 192)  # seen through the transparent parts of a picture


@dataclass(frozen=True)
class Photo:
    """An upright picture; a very large one is reduced."""

    pixels: Uint8Image  # (H, W, 3) RGB
    width: int  # of the upright file
    height: int


def decode(content: bytes) -> Uint8Image:
    """The pixels of `read_photo`."""
    return read_photo(content).pixels


def read_photo(content: bytes) -> Photo:
    """Decode JPEG, PNG or WebP, honour its EXIF turn and colour profile.

    Grey, palette, 16-bit and CMYK pictures become 8-bit RGB; of an animation the first picture is
    taken; transparent parts show light grey. Beyond `WORKING_PIXELS` the sides are divided by the
    smallest whole number that suffices.

    :raises ImageError: NOT_AN_IMAGE, UNSUPPORTED_FORMAT or IMAGE_TOO_LARGE (more than `MAX_BYTES`
        or `MAX_PIXELS`; the size is checked before any pixel is decoded).
    """
    if len(content) > MAX_BYTES:
        raise ImageError(
            PortraitReason.IMAGE_TOO_LARGE,
            f"the file has {len(content) / 2**20:.1f} MB, at most {MAX_BYTES // 2**20} are taken",
            bytes=len(content),
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            picture = Image.open(io.BytesIO(content))
    except Image.DecompressionBombError as error:
        raise ImageError(PortraitReason.IMAGE_TOO_LARGE, str(error)) from None
    except UnidentifiedImageError:
        raise ImageError(
            PortraitReason.NOT_AN_IMAGE, f"the {len(content)} bytes are no picture of a known form"
        ) from None
    except (OSError, ValueError, SyntaxError, EOFError, struct.error) as error:
        raise ImageError(PortraitReason.NOT_AN_IMAGE, f"unreadable picture: {error}") from None
    with picture:
        if picture.format not in FORMATS:
            raise ImageError(
                PortraitReason.UNSUPPORTED_FORMAT,
                f"the picture is {picture.format}; JPEG, PNG and WebP are taken",
                format=picture.format,
            )
        width, height = picture.size
        if width * height > MAX_PIXELS:
            raise ImageError(
                PortraitReason.IMAGE_TOO_LARGE,
                f"the picture has {width}x{height} pixels, at most "
                f"{MAX_PIXELS // 10**6} million are taken",
                width=width,
                height=height,
            )
        if min(width, height) < MIN_SIDE:
            raise ImageError(
                PortraitReason.NOT_AN_IMAGE,
                f"the picture has {width}x{height} pixels, at least {MIN_SIDE} a side are needed",
                width=width,
                height=height,
            )
        try:
            return _upright(picture)
        except (OSError, ValueError, SyntaxError, EOFError, struct.error) as error:
            raise ImageError(PortraitReason.NOT_AN_IMAGE, f"broken picture: {error}") from None


def _upright(picture: Image.Image) -> Photo:
    size = picture.size
    if (divisor := _divisor(picture)) > 1:
        picture.draft(None, (size[0] // divisor, size[1] // divisor))  # a JPEG is decoded smaller
    if picture.getexif().get(_ORIENTATION, 1) > 4:
        size = size[::-1]
    ImageOps.exif_transpose(picture, in_place=True)
    if (divisor := _divisor(picture)) > 1:
        if picture.mode in _REDUCIBLE:
            picture = picture.convert(_REDUCIBLE[picture.mode])
        picture = picture.reduce(divisor)
    return Photo(np.asarray(_to_srgb(picture)), *size)


def _divisor(picture: Image.Image) -> int:
    return math.ceil(math.sqrt(picture.width * picture.height / WORKING_PIXELS))


def _to_srgb(picture: Image.Image) -> Image.Image:
    """Any mode that the accepted formats can have, to RGB in the sRGB colour space."""
    if picture.mode.startswith("I") or picture.mode == "F":
        values = np.asarray(picture, np.float32) / 257
        picture = Image.fromarray(np.clip(values + 0.5, 0, 255).astype(np.uint8))
    if picture.mode in ("P", "PA", "LA", "La", "RGBa") or "transparency" in picture.info:
        picture = picture.convert("RGBA")
    profile = picture.info.get("icc_profile")
    alpha = picture.getchannel("A") if picture.mode == "RGBA" else None
    if profile and picture.mode in ("RGB", "RGBA", "CMYK"):
        colours = picture.convert("RGB") if alpha else picture
        try:
            picture = ImageCms.profileToProfile(  # type: ignore[assignment]
                colours,
                ImageCms.ImageCmsProfile(io.BytesIO(profile)),
                ImageCms.createProfile("sRGB"),
                outputMode="RGB",
            )
        except (ImageCms.PyCMSError, OSError):
            picture = colours  # a damaged profile says nothing: the values are taken as sRGB
    if picture.mode != "RGB":
        picture = picture.convert("RGB")
    if alpha:
        picture = Image.composite(picture, Image.new("RGB", picture.size, _BACKDROP), alpha)
    return picture
