"""The images that the frames of a portrait are made of, packed for the pixel functions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from talkingface.renderer.arrays import Int32Array, Uint8Array, Uint8Image, Uint32Array
from talkingface.renderer.opencv import cv
from talkingface.renderer.pixels.layers import BLOCK
from talkingface.renderer.pixels.packed import channels, pack


@dataclass(frozen=True)
class PortraitLayers:
    """Packed images (H, W) uint32, see `pixels.packed`."""

    photo: Uint32Array  # (1024, 1024) the portrait's frame at twice its size
    background: Uint32Array  # (512, 512)
    near_background: Uint32Array  # the same with the photo's own pixels right up to the matte
    rear: Uint32Array  # (704, 704) hair, neck, shoulders, with the matte, beyond the frame
    jaw_places: Int32Array  # (N,) pixels of `rear`, row by row, that show jaw and cheeks
    jaw: Uint32Array  # (N,) these pixels
    behind_jaw: Uint32Array  # (N,) what is seen there without jaw and cheeks
    # Limits of the opacity in blocks of `rear`, (88, 88); the least is 0 where the jaw is.
    least_opaque: Uint8Array
    most_opaque: Uint8Array

    @property
    def transparent(self) -> bool:
        """Whether the background has no opacity, so that the frame's is less than 255 there."""
        return bool(self.background[0, 0] >> np.uint32(24) == 0)


def portrait_layers(
    frame: Uint8Image,
    background: Uint8Image,
    near_background: Uint8Image,
    rear: Uint8Image,
    rear_without_face: Uint8Image,
) -> PortraitLayers:
    """Pack the images of a portrait.

    :param frame: (512, 512, 3), like the two backgrounds.
    :param rear: (704, 704, 4), with jaw and cheeks.
    :param rear_without_face: (704, 704, 4), the same behind them.
    """
    return join_layers(
        pack(upsample2x(frame)),
        pack(background),
        pack(near_background),
        pack(rear),
        pack(rear_without_face),
    )


def join_layers(
    photo: Uint32Array,
    background: Uint32Array,
    near_background: Uint32Array,
    rear: Uint32Array,
    without: Uint32Array,
) -> PortraitLayers:
    """Compare the packed rear layers with and without jaw and cheeks, and join all layers."""
    places = np.flatnonzero(rear != without).astype(np.int32)
    jaw, behind_jaw = rear.ravel()[places], without.ravel()[places]
    least = channels(rear)[..., 3].copy()
    least.ravel()[places] = 0
    most = np.maximum(channels(rear)[..., 3], channels(without)[..., 3])
    return PortraitLayers(
        photo,
        background,
        near_background,
        rear,
        places,
        jaw,
        behind_jaw,
        _blocks(least).min((1, 3)),
        _blocks(most).max((1, 3)),
    )


def _blocks(image: Uint8Array) -> Uint8Array:
    """An image (H, W) as (H / BLOCK, BLOCK, W / BLOCK, BLOCK)."""
    height, width = image.shape
    return image.reshape(height // BLOCK, BLOCK, width // BLOCK, BLOCK)


def upsample2x(photo: Uint8Image) -> Uint8Image:
    """A photo at twice its size, every second pixel its own.

    Interpolated linearly it is nearly as sharp as the photo interpolated cubically.
    """
    double = np.array([[0.5, 0, 0], [0, 0.5, 0]], np.float32)
    size = (2 * photo.shape[1], 2 * photo.shape[0])
    flags = cv.INTER_CUBIC | cv.WARP_INVERSE_MAP
    large: Uint8Image = cv.warpAffine(
        photo, double, size, flags=flags, borderMode=cv.BORDER_REFLECT_101
    )
    return large
