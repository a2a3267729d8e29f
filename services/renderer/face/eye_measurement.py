"""Lids and gaze, measured directly on the landmarks, which is more exact than a fitted mesh."""

from __future__ import annotations

import numpy as np

from talkingface.contract.motion import ARKIT_DIM, ARKIT_INDEX, GAZE_PITCH_RANGE, GAZE_YAW_RANGE
from talkingface.renderer.arrays import Float32Array
from talkingface.renderer.face.camera import Camera
from talkingface.renderer.face.landmarks import EYE_CORNERS, IRISES, LID_PAIRS
from talkingface.renderer.face.model import FaceModel

GAZE_SHUT = 0.45  # lid opening over that of open eyes, below which gaze is unknown; by eye
# Iris landmarks of people who look into the camera lie this many degrees low (293 synthetic
# portraits).
GAZE_PITCH_BIAS = -2.3
MIN_TILT = 0.5  # cosine of the pitch, at least, by which lids count as foreshortened; by eye
LOWEST_LID = 0.4  # of the open eye's height, at the lowest gaze; by eye


def lid_apertures(points: Float32Array, camera: Camera) -> Float32Array:
    """Height of the lid openings in face widths, (T, 2): subject's right eye, left.

    :param points: (T, 478, 2) pixels.
    """
    heights = [
        np.mean([np.linalg.norm(points[:, a] - points[:, b], axis=1) for a, b in eye], 0)
        for eye in LID_PAIRS
    ]
    # A pitched head shows its eyes foreshortened.
    tilt = np.clip(camera.rotation[:, 1, 1], MIN_TILT, 1.0)
    openings = np.stack(heights, 1) / (camera.scale * tilt)[:, None]
    apertures: Float32Array = openings.astype(np.float32)
    return apertures


def neutral_apertures(person: Float32Array) -> Float32Array:
    """Height of the lid openings of a person's landmarks (478, 3) without expression, (2,)."""
    return np.array(
        [np.mean([np.linalg.norm(person[a] - person[b]) for a, b in eye]) for eye in LID_PAIRS]
    )


def measure_gaze(
    points: Float32Array, person: Float32Array, camera: Camera, openness: Float32Array
) -> Float32Array:
    """Gaze (T, 2) pitch, yaw in degrees, both eyes as one; bridged where the lids are shut.

    :param points: (T, 478, 2) pixels.
    :param person: (478, 3) landmarks of the person without expression.
    :param openness: (T, 2) height of the lid openings over that of the open eyes.
    """
    model = FaceModel.load()
    axes = np.array([[1], [-1]], np.float32)  # y down
    inverse = np.linalg.inv(camera.rotation[:, :2, :2] * axes)
    reach = model.eye_radius * np.sin(np.deg2rad([GAZE_YAW_RANGE, GAZE_PITCH_RANGE]))
    eyes = []
    for corners, iris in zip(EYE_CORNERS, IRISES, strict=True):
        seen = (points[:, iris] - points[:, list(corners)].mean(1)) / camera.scale[:, None]
        rest = person[iris] - person[list(corners)].mean(0)
        planar = camera.rotation[:, :2] * axes
        offset = seen - planar @ rest
        eyes.append(np.einsum("tij,tj->ti", inverse, offset) / reach)
    gaze = np.mean(eyes, 0)[:, ::-1] * np.array([GAZE_PITCH_RANGE, GAZE_YAW_RANGE])
    gaze[:, 0] -= GAZE_PITCH_BIAS
    shut = openness.min(1) < GAZE_SHUT
    if shut.any() and not shut.all():
        times = np.arange(len(gaze))
        for k in range(2):
            gaze[shut, k] = np.interp(times[shut], times[~shut], gaze[~shut, k])
    limit = np.array([GAZE_PITCH_RANGE, GAZE_YAW_RANGE])
    limited: Float32Array = np.clip(gaze, -limit, limit).astype(np.float32)
    return limited


def measure_blinks(
    apertures: Float32Array, opened: Float32Array, gaze: Float32Array
) -> Float32Array:
    """Coefficients (T, 52) of which only the blinks are set.

    :param apertures: (T, 2) of `lid_apertures`.
    :param opened: (2,) those of the open eyes.
    :param gaze: (T, 2) pitch, yaw in degrees.
    """
    model = FaceModel.load()
    out = np.zeros((len(apertures), ARKIT_DIM), np.float32)
    down = np.clip(-gaze[:, 0] / GAZE_PITCH_RANGE, 0, 1)
    for k, side in enumerate(("Right", "Left")):
        # Looking down lowers the lid by itself; that is no blink.
        look = model.landmark_expressions[ARKIT_INDEX[f"eyeLookDown{side}"], :, 1]
        lowered = np.mean([look[b] - look[a] for a, b in LID_PAIRS[k]])
        expected = np.maximum(opened[k] - lowered * down, LOWEST_LID * opened[k])
        out[:, ARKIT_INDEX[f"eyeBlink{side}"]] = np.clip(1 - apertures[:, k] / expected, 0, 1)
    return out
