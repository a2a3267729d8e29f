"""The camera, and a face fitted to a photo or to a clip."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from talkingface.contract.motion import (
    ARKIT_DIM,
    DISTANCE,
    PITCH,
    ROLL,
    TRANSLATION_X,
    TRANSLATION_Y,
    YAW,
    neutral,
)
from talkingface.renderer.arrays import Float32Array


@dataclass(frozen=True)
class Camera:
    """Weak perspective of T frames."""

    rotation: Float32Array  # (T, 3, 3)
    scale: Float32Array  # (T,) pixels a face width
    translation: Float32Array  # (T, 2) pixels of the head's turning point

    def project(self, points: Float32Array) -> Float32Array:
        """Project head points (T or 1, N, 3) to pixels and depth in pixels (T, N, 3).

        Depth grows towards the camera.
        """
        turned = np.einsum("tij,tnj->tni", self.rotation, points, optimize=True)
        out: Float32Array = turned * self.scale[:, None, None]
        out[..., 1] *= -1
        out[..., :2] += self.translation[:, None]
        return out

    @cached_property
    def angles(self) -> Float32Array:
        """Pitch, yaw, roll in degrees, (T, 3), with the signs of a motion frame."""
        r = self.rotation
        pitch = np.arctan2(-r[:, 2, 1], r[:, 2, 2])
        yaw = -np.arcsin(np.clip(r[:, 2, 0], -1, 1))
        roll = np.arctan2(-r[:, 1, 0], r[:, 0, 0])
        angles: Float32Array = np.rad2deg(np.stack([pitch, yaw, roll], 1)).astype(np.float32)
        return angles


@dataclass(frozen=True)
class FaceFit:
    """A head fitted to one photo."""

    identity: Float32Array  # (K,)
    coefficients: Float32Array  # (52,) ARKit order, [0, 1]
    camera: Camera  # of one frame
    error: float  # mean landmark distance in face widths

    @property
    def angles(self) -> Float32Array:
        """(3,) pitch, yaw, roll in degrees."""
        angles: Float32Array = self.camera.angles[0]
        return angles


@dataclass(frozen=True)
class Track:
    """A head followed through T frames."""

    identity: Float32Array  # (K,)
    coefficients: Float32Array  # (T, 52)
    camera: Camera
    error: Float32Array  # (T,) mean landmark distance in face widths

    def motion(self) -> Float32Array:
        """Motion frames (T, 60), pose relative to the median frame."""
        motion = neutral(len(self.coefficients))
        motion[:, :ARKIT_DIM] = self.coefficients
        angles = self.camera.angles
        motion[:, [PITCH, YAW, ROLL]] = angles - np.median(angles, 0)
        moved = self.camera.translation - np.median(self.camera.translation, 0)
        motion[:, [TRANSLATION_X, TRANSLATION_Y]] = moved / np.median(self.camera.scale)
        motion[:, DISTANCE] = np.median(self.camera.scale) / self.camera.scale
        return motion
