"""From a motion frame to the coefficients and the camera that a portrait is drawn with."""

from __future__ import annotations

import math

import numpy as np

from talkingface.contract.motion import (
    ARKIT_DIM,
    ARKIT_INDEX,
    ARKIT_NAMES,
    DISTANCE,
    MOTION_DIM,
    PITCH,
    ROLL,
    TONGUE_BACK,
    TONGUE_TIP,
    TRANSLATION_X,
    TRANSLATION_Y,
)
from talkingface.renderer.arrays import Float32Array, Int64Array
from talkingface.renderer.compiler import njit
from talkingface.renderer.face.camera import Camera
from talkingface.renderer.face.model import GAZE_COLUMNS, rotation_matrix
from talkingface.renderer.geometry.portrait import BLINKS, PreparedPortrait
from talkingface.renderer.geometry.tongue import Tongue

# How much of the portrait's own expression stays where the motion asks for less; by eye.
OWN_UPPER_FACE = 0.6  # of brows, cheeks, nose
OWN_MOUTH = 0.15  # coefficient of the mouth's shape, at most
# Degrees of the head's whole turn at which its limit begins, and lies: nobody is shown from a side
# of which the photo knows nothing. By eye.
YAW_LIMIT = (35.0, 50.0)
MIN_DISTANCE = 0.2  # distance ratio below which the head grows no further


def _columns(*prefixes: str) -> Int64Array:
    """Columns of the coefficients whose names begin with one of some prefixes."""
    return np.array([i for i, name in enumerate(ARKIT_NAMES) if name.startswith(prefixes)])


def _both_sides(name: str) -> Int64Array:
    return np.array([ARKIT_INDEX[f"{name}{side}"] for side in ("Right", "Left")])


LIDS = _columns("eyeSquint", "eyeWide")
# What shapes the lips without parting them.
MOUTH_SHAPE = _columns(
    "mouthSmile", "mouthFrown", "mouthDimple", "mouthStretch", "mouthPress", "mouthRoll"
)
ASYMMETRY = np.array([ARKIT_INDEX[n] for n in ("mouthLeft", "mouthRight", "jawLeft", "jawRight")])
SMILING = _columns("mouthSmile", "mouthDimple", "cheek")
SMILES, FROWNS = _both_sides("mouthSmile"), _both_sides("mouthFrown")
CHEEKS = _both_sides("cheekSquint")
UPPER_FACE = _columns("brow", "cheek", "nose")


def _kept_share() -> tuple[Float32Array, Float32Array]:
    """Share of the portrait's own coefficients that stays, (52,), and how much at most, (52,)."""
    share, most = np.zeros(ARKIT_DIM, np.float32), np.ones(ARKIT_DIM, np.float32)
    share[UPPER_FACE] = OWN_UPPER_FACE
    for columns in (LIDS, MOUTH_SHAPE, ASYMMETRY):
        share[columns] = 1
    most[MOUTH_SHAPE] = OWN_MOUTH
    return share, most


KEPT_SHARE, KEPT_AT_MOST = _kept_share()


def target_pose(
    portrait: PreparedPortrait, motion: Float32Array
) -> tuple[Float32Array, Camera, Tongue]:
    """Resolve a motion frame (60,) into absolute coefficients (52,), a camera and the tongue.

    :raises ValueError: if the motion has another shape or is not finite.
    """
    if motion.shape != (MOTION_DIM,) or not np.isfinite(motion).all():
        raise ValueError(f"motion must be {MOTION_DIM} finite numbers")
    motion = motion.astype(np.float32, copy=False)
    coefficients = _target_coefficients(portrait.fit.coefficients, motion[:ARKIT_DIM])
    tip, back = motion[TONGUE_TIP : TONGUE_BACK + 1].clip(0, 1).tolist()
    return coefficients, _target_camera(portrait.fit.camera, motion), Tongue(tip, back)


@njit(cache=True, error_model="numpy")
def _target_coefficients(own: Float32Array, asked: Float32Array) -> Float32Array:
    """Coefficients (52,) that are asked for, over what stays of the portrait's own.

    From nothing up to the portrait's own expression they rise evenly from what stays; beyond that
    they are what is asked for. So asking for the portrait's own expression changes nothing, and
    every change of what is asked for shows. Blinks and gaze count from the portrait's own.

    :param own: (52,) coefficients of the photo.
    :param asked: (52,) coefficients of the motion.
    """
    zero, one = np.float32(0), np.float32(1)
    out, kept = np.empty_like(own), np.empty_like(own)
    for n in range(len(own)):
        out[n] = min(max(asked[n], zero), one)
        kept[n] = min(KEPT_SHARE[n] * own[n], KEPT_AT_MOST[n])
    # Corners that go down take smile and raised cheeks with them.
    frown, sunk = zero, zero
    for n in FROWNS:
        frown += out[n]
    for n in SMILING:
        kept[n] *= one - frown / 2
    # What a smile had raised sinks back with it.
    for n in SMILES:
        sunk += max(own[n] - out[n], zero)
    for n in CHEEKS:
        kept[n] *= one - sunk / 2
    for n in range(len(own)):
        if out[n] < own[n]:
            out[n] = kept[n] + (own[n] - kept[n]) * out[n] / own[n]
    for n in BLINKS:
        out[n] = own[n] + (one - own[n]) * out[n]
    for eye in range(2):
        # Raised against lowered, turned right against left.
        for way in range(0, 4, 2):
            there, back = GAZE_COLUMNS[eye, way], GAZE_COLUMNS[eye, way + 1]
            turned = own[there] - own[back] + out[there] - out[back]
            out[there] = min(max(turned, zero), one)
            out[back] = min(max(-turned, zero), one)
    return out


def _target_camera(photo: Camera, motion: Float32Array) -> Camera:
    """The photo's camera moved by the pose of a motion frame (60,)."""
    pitch, yaw, roll = photo.angles[0].tolist()
    turned = motion[PITCH : ROLL + 1].tolist()
    moved = motion[TRANSLATION_X : TRANSLATION_Y + 1] * photo.scale[0]
    yaw_now = _limited_yaw(yaw + turned[1]) + yaw - _limited_yaw(yaw)
    return Camera(
        rotation_matrix(pitch + turned[0], yaw_now, roll + turned[2])[None],
        photo.scale / np.float32(max(float(motion[DISTANCE]), MIN_DISTANCE)),
        photo.translation + moved,
    )


def _limited_yaw(yaw: float) -> float:
    """Degrees, unchanged up to `YAW_LIMIT[0]`, then softly held below `YAW_LIMIT[1]`."""
    free, room = YAW_LIMIT[0], YAW_LIMIT[1] - YAW_LIMIT[0]
    beyond = max(abs(yaw) - free, 0.0)
    return math.copysign(min(abs(yaw), free) + room * math.tanh(beyond / room), yaw)
