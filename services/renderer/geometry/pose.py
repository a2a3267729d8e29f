"""From a motion frame to the coefficients and the camera that a portrait is drawn with."""

from __future__ import annotations

import numpy as np

from talkingface.contract.motion import (
    ARKIT_DIM,
    ARKIT_INDEX,
    ARKIT_NAMES,
    DISTANCE,
    GAZE_PITCH_RANGE,
    GAZE_YAW_RANGE,
    MOTION_DIM,
    PITCH,
    ROLL,
    TRANSLATION_X,
    TRANSLATION_Y,
)
from talkingface.renderer.arrays import Float32Array, Int64Array
from talkingface.renderer.face.camera import Camera
from talkingface.renderer.face.model import gaze_angles, rotation_matrix
from talkingface.renderer.geometry.portrait import BLINKS, GAZES, PreparedPortrait

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
UPPER_FACE = _columns("brow", "cheek", "nose", "eyeSquint")


def target_pose(portrait: PreparedPortrait, motion: Float32Array) -> tuple[Float32Array, Camera]:
    """Resolve a motion frame (58,) into absolute coefficients (52,) and a camera.

    :raises ValueError: if the motion has another shape or is not finite.
    """
    if motion.shape != (MOTION_DIM,) or not np.isfinite(motion).all():
        raise ValueError(f"motion must be {MOTION_DIM} finite numbers")
    own, asked = portrait.fit.coefficients, np.clip(motion[:ARKIT_DIM], 0, 1)
    coefficients = _with_own_expression(own, asked)
    coefficients[BLINKS] = own[BLINKS] + (1 - own[BLINKS]) * asked[BLINKS]
    _set_gaze(coefficients, gaze_angles(own) + gaze_angles(asked))
    return coefficients, _target_camera(portrait.fit.camera, motion)


def _with_own_expression(own: Float32Array, asked: Float32Array) -> Float32Array:
    """Coefficients (52,) that are asked for, or what stays of the portrait's own if that is more.

    So asking for the portrait's own expression changes nothing.
    """
    out = asked.copy()
    own_part = OWN_UPPER_FACE * own
    own_part[LIDS] = own[LIDS]
    own_part[MOUTH_SHAPE] = np.minimum(own[MOUTH_SHAPE], OWN_MOUTH)
    # Corners that go down take smile and raised cheeks with them.
    own_part[SMILING] *= 1 - float(asked[FROWNS].sum()) / 2
    # What a smile had raised sinks back with it.
    own_part[CHEEKS] *= 1 - float(np.maximum(own[SMILES] - asked[SMILES], 0).sum()) / 2
    changed = np.concatenate([UPPER_FACE, LIDS, MOUTH_SHAPE])
    out[changed] = np.maximum(asked, own_part)[changed]
    out[ASYMMETRY] = np.maximum(asked[ASYMMETRY], own[ASYMMETRY])
    return out


def _set_gaze(coefficients: Float32Array, gaze: Float32Array) -> None:
    """Write both eyes' gaze (2 eyes: right, left; 2: pitch, yaw in degrees), in place."""
    coefficients[GAZES] = 0
    for eye, side in enumerate(("Right", "Left")):
        pitch, yaw = gaze[eye] / np.array([GAZE_PITCH_RANGE, GAZE_YAW_RANGE])
        outward = yaw if side == "Left" else -yaw
        coefficients[ARKIT_INDEX[f"eyeLookUp{side}"]] = np.clip(pitch, 0, 1)
        coefficients[ARKIT_INDEX[f"eyeLookDown{side}"]] = np.clip(-pitch, 0, 1)
        coefficients[ARKIT_INDEX[f"eyeLookOut{side}"]] = np.clip(outward, 0, 1)
        coefficients[ARKIT_INDEX[f"eyeLookIn{side}"]] = np.clip(-outward, 0, 1)


def _target_camera(photo: Camera, motion: Float32Array) -> Camera:
    """The photo's camera moved by the pose of a motion frame (58,)."""
    angles = photo.angles[0] + motion[PITCH : ROLL + 1]
    yaw = float(photo.angles[0, 1])
    angles[1] = _limited_yaw(float(angles[1])) + yaw - _limited_yaw(yaw)
    moved = motion[TRANSLATION_X : TRANSLATION_Y + 1] * photo.scale[0]
    return Camera(
        rotation_matrix(*(float(a) for a in angles))[None],
        (photo.scale / max(float(motion[DISTANCE]), MIN_DISTANCE)).astype(np.float32),
        (photo.translation + moved).astype(np.float32),
    )


def _limited_yaw(yaw: float) -> float:
    """Degrees, unchanged up to `YAW_LIMIT[0]`, then softly held below `YAW_LIMIT[1]`."""
    free, room = YAW_LIMIT[0], YAW_LIMIT[1] - YAW_LIMIT[0]
    beyond = max(abs(yaw) - free, 0.0)
    return float(np.copysign(min(abs(yaw), free) + room * np.tanh(beyond / room), yaw))
