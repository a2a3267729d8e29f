"""Removal of jaw and cheeks from the rear layer where the face moves away from them."""

from __future__ import annotations

import numpy as np

from talkingface.renderer.arrays import Float32Array
from talkingface.renderer.face.camera import Camera
from talkingface.renderer.pixels.layers import MARGIN, Clearing


def clearing(camera: Camera, cleared: float, turned: Float32Array) -> Clearing:
    """What is to be removed of jaw and cheeks.

    :param camera: of the photo.
    :param cleared: how far face and rear layer have parted, 0..1.
    :param turned: (2,) how far the viewer's left, right side turned towards the viewer, 0..1.
    """
    scale, roll = float(camera.scale[0]), np.deg2rad(float(camera.angles[0, 2]))
    left, top = (camera.translation[0] + MARGIN).tolist()
    c, s = np.cos(roll) / scale, np.sin(roll) / scale
    return Clearing(
        np.float32(cleared),
        (np.float32(turned[0]), np.float32(turned[1])),
        (np.float32(c), np.float32(s), np.float32(-c * left - s * top)),
        (np.float32(s), np.float32(-c), np.float32(c * top - s * left)),
    )
