"""The frame of 512x512 pixels: where it lies in a photo, and how it is cut out."""

from __future__ import annotations

import numpy as np

from talkingface.renderer.arrays import Float32Array, Uint8Image
from talkingface.renderer.face.pyramid_fill import fill_outside
from talkingface.renderer.opencv import cv

FRAME = 512  # pixels a side
# By eye, as all that follows but `TIGHT_FACE_SHARE`.
FACE_SHARE = 0.5  # the face's larger side over the frame's, where the photo leaves room for it
MAX_FACE_SHARE = 0.64  # the same at most, to stay inside a tightly cut photo
FACE_HEIGHT = 0.49  # height of the face's centre in the frame, over the frame's
MAX_FRAME_SHIFT = 0.08  # of the frame's side, to leave the photo less
# The same two in photos that the frame would leave nevertheless. Measured on 8 cut portraits: at
# 0.84 the chin of a mouth opened to 0.8 stays 11 pixels inside the frame, at 0.88 it leaves it; at
# both no face is lost or less like its photo in hard poses than at 0.64.
TIGHT_FACE_SHARE, TIGHT_FRAME_SHIFT = 0.84, 0.14
SIDES = 13  # of the frame that are tried between both
BEYOND = 0.5  # pixels of the frame from which one lies beyond the photo
PAD_FADING = ((6, 2.0), (16, 5.0), (32, 12.0))  # pixels beyond the photo, blur reached there
PAD_BLUR = 6  # standard deviation, pixels, of the smooth continuation beyond the photo
PAD_SMOOTH, PAD_SMOOTH_FROM = 60, 0.1  # pixels over which it replaces the mirror image; its start


def frame_square(box: tuple[float, float, float, float], width: int, height: int) -> Float32Array:
    """Place the 512x512 frame in the photo: (2, 3), frame pixel -> photo pixel.

    A square around the face's box; in a tightly cut photo it is made smaller, down to
    `MAX_FACE_SHARE`, and moved by up to `MAX_FRAME_SHIFT` to leave the photo less; where that is
    not enough, down to `TIGHT_FACE_SHARE` and by up to `TIGHT_FRAME_SHIFT`.

    :param box: x0, y0, x1, y1 of the face, and width and height of the photo, in pixels.
    """
    square = _loose_square(box, width, height)
    if not _leaves(square, width, height):
        return square
    face = max(box[2] - box[0], box[3] - box[1])
    largest = float(square[0, 0]) * FRAME
    for side in np.linspace(largest, min(face / TIGHT_FACE_SHARE, largest), SIDES):
        square = _square(box, float(side), TIGHT_FRAME_SHIFT, width, height)
        if not _leaves(square, width, height):
            break
    return square


def is_tight(box: tuple[float, float, float, float], width: int, height: int) -> bool:
    """Whether the photo is cut so tightly that the usual frame would reach beyond it.

    :param box: as in `frame_square`, and so are `width` and `height`.
    """
    return _leaves(_loose_square(box, width, height), width, height)


def _loose_square(box: tuple[float, float, float, float], width: int, height: int) -> Float32Array:
    """The frame of a photo that is not cut tightly, as in `frame_square`."""
    face = max(box[2] - box[0], box[3] - box[1])
    side = min(face / FACE_SHARE, max(face / MAX_FACE_SHARE, min(width, height)))
    return _square(box, side, MAX_FRAME_SHIFT, width, height)


def _square(
    box: tuple[float, float, float, float], side: float, shift: float, width: int, height: int
) -> Float32Array:
    """A square of `side` pixels about a face, moved by up to `shift` of it to leave the photo less.

    :param box: as in `frame_square`, and so is what is returned.
    """
    origin = []
    for low, high, share, limit in (
        (box[0], box[2], 0.5, width),
        (box[1], box[3], FACE_HEIGHT, height),
    ):
        wanted = (low + high) / 2 - share * side
        inside = np.clip(wanted, 0, limit - side) if side <= limit else (limit - side) / 2
        reach = shift * side
        origin.append(float(np.clip(inside, wanted - reach, wanted + reach)))
    scale = side / FRAME
    return np.array([[scale, 0, origin[0]], [0, scale, origin[1]]], np.float32)


def _leaves(to_photo: Float32Array, width: int, height: int) -> bool:
    """Whether a frame reaches beyond a photo of width x height pixels."""
    return bool((_beyond(to_photo, width, height, FRAME) > BEYOND).any())


def _beyond(to_photo: Float32Array, width: int, height: int, size: int) -> Float32Array:
    """Distance beyond the photo in frame pixels, (size, size)."""
    scale, (x0, y0) = float(to_photo[0, 0]), to_photo[:, 2]
    grid = np.arange(size, dtype=np.float32) * scale
    beyond_x = np.maximum(np.maximum(-(grid + x0), grid + x0 - (width - 1)), 0) / scale
    beyond_y = np.maximum(np.maximum(-(grid + y0), grid + y0 - (height - 1)), 0) / scale
    beyond: Float32Array = np.maximum(beyond_x[None, :], beyond_y[:, None])
    return beyond


def cut_frame(
    photo: Uint8Image, to_photo: Float32Array, margin: int = 0
) -> tuple[Uint8Image, Float32Array]:
    """Cut out the frame (512, 512, 3) and its pad mask (512, 512), 1 where it is beyond the photo.

    Beyond the photo its mirror image blurs into a smooth continuation, so that neither a streak
    nor a second head nor a kaleidoscope shows.

    :param margin: pixels around the frame that are cut out with it.
    """
    scale, (x0, y0) = float(to_photo[0, 0]), to_photo[:, 2]
    x0, y0 = x0 - margin * scale, y0 - margin * scale
    if scale > 1:  # reduce by averaging first: warpAffine only samples
        photo = cv.resize(photo, None, fx=1 / scale, fy=1 / scale, interpolation=cv.INTER_AREA)
        x0, y0 = x0 / scale, y0 / scale
        scale = 1.0
    height, width = photo.shape[:2]
    matrix = np.array([[scale, 0, x0], [0, scale, y0]], np.float32)
    flags = cv.INTER_CUBIC | cv.WARP_INVERSE_MAP
    side = FRAME + 2 * margin
    frame = cv.warpAffine(
        photo, matrix, (side, side), flags=flags, borderMode=cv.BORDER_REFLECT_101
    )
    distance = _beyond(matrix, width, height, side)
    pad_mask = (distance > BEYOND).astype(np.float32)
    return (_padded(frame, distance, pad_mask) if pad_mask.any() else frame), pad_mask


def _padded(frame: Uint8Image, distance: Float32Array, pad_mask: Float32Array) -> Uint8Image:
    """Blur what is beyond the photo: the further out, the more, and the more of a continuation.

    :param distance: (512, 512) pixels beyond the photo.
    """
    smooth = fill_outside(frame.astype(np.float32), 1 - pad_mask)
    smooth = cv.GaussianBlur(smooth, (0, 0), PAD_BLUR)
    padded = frame.astype(np.float32)
    for reach, spread in PAD_FADING:
        weight = np.clip(distance / reach, 0, 1)[..., None]
        padded += weight * (cv.GaussianBlur(frame, (0, 0), spread) - padded)
    weight = np.clip(distance / PAD_SMOOTH - PAD_SMOOTH_FROM, 0, 1)[..., None]
    padded += weight * (smooth - padded)
    return np.clip(padded + 0.5, 0, 255).astype(np.uint8)
