"""Doubtful parts of the matte, decided by their colours."""

from __future__ import annotations

import numpy as np

from talkingface.renderer.arrays import Float32Array, Uint8Image
from talkingface.renderer.face.pyramid_fill import fill_outside
from talkingface.renderer.geometry.rear_layer import SURE
from talkingface.renderer.geometry.surface import smoothstep
from talkingface.renderer.opencv import cv

# By eye. Colours in levels 0..255, reaches in pixels.
ALIKE, APART = (28, 10), (30, 60)  # difference from the background over which it is, or is not, it
DOUBTFUL = (0.97, 0.8)  # opacity over which a pixel counts as doubtful
PERSON_NEAR, PERSON_REACH = (0.9, 0.7), 15  # opacity about a sleeve; side of the square searched
SLEEVE, BESIDE = (0.1, 0.25), (0.1, 0.3)  # opacity over which a pixel may be the person's
BODY_LIKENESS = 0.7  # difference from the body's colour over that from the background's, at most


def refine_matte(
    frame: Uint8Image, matte: Float32Array, background: Uint8Image, chin: float
) -> Float32Array:
    """Decide the doubtful parts of a matte (512, 512) by whether they look like the background.

    Parts that look like it become background: as parts of the person they would move along as a
    ghost. Larger parts below row `chin` that do not (a dark sleeve) become the person's; strands of
    hair stay as they are.
    """
    apart = np.abs(frame.astype(np.int16) - background).max(-1).astype(np.float32)
    alike = smoothstep(*ALIKE, cv.blur(apart, (5, 5)))
    doubtful = smoothstep(*DOUBTFUL, matte)
    settled = matte * (1 - alike * doubtful)
    near = cv.dilate(matte, np.ones((PERSON_REACH, PERSON_REACH), np.uint8))
    sleeve = smoothstep(*PERSON_NEAR, near) * smoothstep(*SLEEVE, matte)
    sleeve = sleeve * smoothstep(*APART, apart)
    sleeve = np.maximum(sleeve, _like_body(frame, matte, apart))
    sleeve[: max(int(chin), 0)] = 0
    return (settled + sleeve * (1 - settled)).astype(np.float32)


def _like_body(frame: Uint8Image, matte: Float32Array, apart: Float32Array) -> Float32Array:
    """Where a doubtful pixel has the colour of the body beside it, (512, 512).

    :param apart: (512, 512) difference from the background.
    """
    small = cv.resize(frame, None, fx=0.25, fy=0.25, interpolation=cv.INTER_AREA)
    solid = cv.resize(matte, small.shape[1::-1], interpolation=cv.INTER_AREA) > SURE
    body = fill_outside(small.astype(np.float32), solid.astype(np.float32))
    body = cv.resize(body, frame.shape[1::-1], interpolation=cv.INTER_LINEAR)
    unlike = np.abs(frame - body).max(-1)
    beside = smoothstep(*BESIDE, matte) * smoothstep(*APART, apart)
    beside = beside * (unlike < BODY_LIKENESS * apart)
    like: Float32Array = cv.blur(beside.astype(np.float32), (5, 5))
    return like
