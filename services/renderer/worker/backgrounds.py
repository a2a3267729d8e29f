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
from talkingface.renderer.geometry.portrait_layers import PortraitLayers, join_layers
from talkingface.renderer.opencv import cv
from talkingface.renderer.pixels.layers import MARGIN
from talkingface.renderer.pixels.packed import channels, pack
from talkingface.renderer.portrait_store import PreparedPortraitStore
from talkingface.renderer.worker.viewport import PhotoPixels

ESTIMATE_RADII = (90, 6)  # pixels, the paper's
SURE = 0.95  # opacity from which the person's colours are continued outwards; by eye


def background_pixels(
    background: Background, portrait: PreparedPortrait, store: PreparedPortraitStore
) -> Uint8Image:
    """Pixels of a background other than the photo's, (512, 512, 3), or 4 if it is transparent.

    :param portrait: of `cut_out`.
    :raises ServiceError: PORTRAIT_NOT_FOUND for an image that is not stored; FIELD_INVALID for one
        that cannot be decoded.
    """
    if background.kind == BackgroundKind.COLOUR:
        return np.full((FRAME, FRAME, 3), background.colour, np.uint8)
    if background.kind == BackgroundKind.TRANSPARENT:
        return np.dstack([_continued(portrait.layers), np.zeros((FRAME, FRAME), np.uint8)])
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

    :param portrait: of `cut_out`.
    """
    packed = pack(background)
    layers = replace(portrait.layers, background=packed, near_background=packed)
    colours, opacity = _person(layers)
    before = portrait.frame.astype(np.float32)
    frame = _as_bytes(_blend(background[..., :3].astype(np.float32), colours, opacity))
    square = pixels.square
    if len(square):
        # The detail that the photo has beyond its frame, as far as it is the person's.
        size = square.shape[1::-1]
        old, new, share = (
            cv.resize(each, size, interpolation=cv.INTER_CUBIC)
            for each in (before, frame.astype(np.float32), opacity)
        )
        square = _as_bytes(new + (square - old) * np.clip(share, 0, 1)[..., None])
    return replace(portrait, frame=frame, layers=layers), replace(pixels, square=square)


def cut_out(portrait: PreparedPortrait) -> PreparedPortrait:
    """The portrait with a rear layer that another background can be seen behind.

    Before its own background the layer may hold parts of it that the matte leaves doubtful, and the
    photo's colours at its edge. Here it has the opacity of the matte at most, and the person's own
    colours wherever it is not opaque.
    """
    layers = portrait.layers
    rear, without = layers.rear.copy(), layers.rear.copy()
    without.ravel()[layers.jaw_places] = layers.behind_jaw
    matte = cv.copyMakeBorder(portrait.matte, *(MARGIN,) * 4, cv.BORDER_REPLICATE)
    for layer in (channels(rear), channels(without)):
        layer[..., 3] = np.minimum(layer[..., 3], matte)
    inner = (slice(MARGIN, MARGIN + FRAME),) * 2
    opacity = channels(rear)[inner][..., 3].astype(np.float32) / 255
    colours = _as_bytes(foreground_colours(portrait.frame.astype(np.float32), opacity))
    edge = opacity < 1
    channels(rear)[inner][edge, :3] = colours[edge]
    # What is invented behind jaw and cheeks has the person's colours already.
    invented = np.zeros(rear.size, np.bool_)
    invented[layers.jaw_places] = True
    edge &= ~invented.reshape(rear.shape)[inner]
    channels(without)[inner][edge, :3] = colours[edge]
    joined = join_layers(layers.photo, layers.background, layers.near_background, rear, without)
    return replace(portrait, layers=joined)


def foreground_colours(image: Float32Array, opacity: Float32Array) -> Float32Array:
    """The colours (H, W, 3) of what is seen with an opacity (H, W) in an image.

    By Forte and Pitie 2021, "Approximate fast foreground colour estimation".
    """
    share = opacity[..., None]
    person = behind = image
    for radius in ESTIMATE_RADII:
        size = (radius, radius)
        mean = cv.blur(opacity, size)[..., None]
        person = cv.blur(person * share, size) / (mean + 1e-5)
        behind = cv.blur(behind * (1 - share), size) / (1 - mean + 1e-5)
        person = person + share * (image - share * person - (1 - share) * behind)
        person = np.clip(person, 0, 255)
    return person


def _person(layers: PortraitLayers) -> tuple[Float32Array, Float32Array]:
    """The person's colours (512, 512, 3), 0..255, and opacity (512, 512), 0..1, in the photo."""
    inner = (slice(MARGIN, MARGIN + FRAME),) * 2
    rear = channels(layers.rear)[inner].astype(np.float32)
    return rear[..., :3], rear[..., 3] / 255


def _continued(layers: PortraitLayers) -> Uint8Image:
    """The colours of the person, continued beyond the edge, (512, 512, 3)."""
    colours, opacity = _person(layers)
    half = (FRAME // 2, FRAME // 2)
    small, sure = (
        cv.resize(each, half, interpolation=cv.INTER_AREA)
        for each in (colours, (opacity > SURE).astype(np.float32))
    )
    filled = cv.resize(fill_outside(small, sure), (FRAME, FRAME), interpolation=cv.INTER_LINEAR)
    return _as_bytes(filled)


def _blend(below: Float32Array, above: Float32Array, opacity: Float32Array) -> Float32Array:
    """Colours (H, W, 3) over others, by an opacity (H, W)."""
    return below + opacity[..., None] * (above - below)


def _as_bytes(values: Float32Array) -> Uint8Image:
    return np.clip(values + 0.5, 0, 255).astype(np.uint8)
