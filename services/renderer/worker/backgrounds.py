"""Other backgrounds than the photo's: a colour, an image, or none.

The background of a portrait is one of its layers, which a view replaces when it is loaded: a frame
costs the same. A transparent one has the opacity 0, and the colours of the person's edge continued
outwards: what is blended with them stays the person's own colour, straight, without a fringe.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from talkingface.contract.errors import invalid_field
from talkingface.contract.video import Background, BackgroundKind
from talkingface.renderer.analysis.errors import ImageError
from talkingface.renderer.analysis.photo import decode
from talkingface.renderer.arrays import Float32Array, Uint8Image
from talkingface.renderer.face.pyramid_fill import fill_outside
from talkingface.renderer.geometry import FRAME, PreparedPortrait
from talkingface.renderer.opencv import cv
from talkingface.renderer.pixels.layers import MARGIN
from talkingface.renderer.pixels.packed import channels, pack
from talkingface.renderer.portrait_store import PreparedPortraitStore
from talkingface.renderer.worker.viewport import PhotoPixels

SURE = 0.95  # opacity from which the person's colours are continued outwards; by eye


def background_pixels(
    background: Background, portrait: PreparedPortrait, store: PreparedPortraitStore
) -> Uint8Image:
    """Pixels of a background other than the photo's, (512, 512, 3), or 4 if it is transparent.

    :raises ServiceError: PORTRAIT_NOT_FOUND for an image that is not stored; FIELD_INVALID for one
        that cannot be decoded.
    """
    if background.kind == BackgroundKind.COLOUR:
        return np.full((FRAME, FRAME, 3), background.colour, np.uint8)
    if background.kind == BackgroundKind.TRANSPARENT:
        return np.dstack([_continued(portrait), np.zeros((FRAME, FRAME), np.uint8)])
    try:
        return cover(decode(store.background(background.digest)))
    except ImageError as error:
        raise invalid_field("config.background.image", str(error)) from None


def cover(image: Uint8Image) -> Uint8Image:
    """The middle of an image (H, W, 3), scaled to cover the frame, (512, 512, 3)."""
    height, width = image.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = np.ascontiguousarray(image[top : top + side, left : left + side])
    method = cv.INTER_AREA if side > FRAME else cv.INTER_CUBIC
    covering: Uint8Image = cv.resize(square, (FRAME, FRAME), interpolation=method)
    return covering


def with_background(
    portrait: PreparedPortrait, pixels: PhotoPixels, background: Uint8Image
) -> tuple[PreparedPortrait, PhotoPixels]:
    """A portrait and its photo before another background, (512, 512, 3 or 4).

    Of the photo only the square is changed: views of the whole photo keep their background.
    """
    packed = pack(background)
    layers = replace(portrait.layers, background=packed, near_background=packed)
    colours, opacity = _rear(portrait)
    before = portrait.frame.astype(np.float32)
    # Where the layer is opaque it is the photo.
    person = np.where(opacity[..., None] == 1, before, colours)
    frame = _blend(background[..., :3], person, opacity)
    square = pixels.square
    if len(square):
        # The detail that the photo has beyond its frame, as far as it is the person's.
        size = square.shape[1::-1]
        old, new, share = (
            cv.resize(each, size, interpolation=cv.INTER_CUBIC)
            for each in (before, frame.astype(np.float32), opacity)
        )
        detail = (square - old) * np.clip(share, 0, 1)[..., None]
        square = np.clip(new + detail + 0.5, 0, 255).astype(np.uint8)
    return replace(portrait, frame=frame, layers=layers), replace(pixels, square=square)


def _rear(portrait: PreparedPortrait) -> tuple[Float32Array, Float32Array]:
    """The person's colours (512, 512, 3), 0..255, and opacity (512, 512), 0..1, in the photo."""
    inner = slice(MARGIN, MARGIN + FRAME)
    rear = channels(portrait.layers.rear)[inner, inner].astype(np.float32)
    return rear[..., :3], rear[..., 3] / 255


def _continued(portrait: PreparedPortrait) -> Uint8Image:
    """The colours of the person, continued beyond the edge, (512, 512, 3)."""
    colours, opacity = _rear(portrait)
    half = (FRAME // 2, FRAME // 2)
    small, sure = (
        cv.resize(each, half, interpolation=cv.INTER_AREA)
        for each in (colours, (opacity > SURE).astype(np.float32))
    )
    filled = cv.resize(fill_outside(small, sure), (FRAME, FRAME), interpolation=cv.INTER_LINEAR)
    return np.clip(filled + 0.5, 0, 255).astype(np.uint8)


def _blend(below: Uint8Image, above: Float32Array, opacity: Float32Array) -> Uint8Image:
    """Colours (H, W, 3) over others, by an opacity (H, W)."""
    mixed = below + opacity[..., None] * (above - below)
    return np.clip(mixed + 0.5, 0, 255).astype(np.uint8)
