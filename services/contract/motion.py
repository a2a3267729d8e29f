"""The motion frame: the format of a face's motion between the stages.

A motion clip is a float32 array of shape (T, MOTION_DIM) at MOTION_FPS. Columns:

| columns | what | unit, range |
|---|---|---|
| 0..51 | ARKit coefficients in Apple's order (`ARKIT_NAMES`) | [0, 1], 0 = neutral face |
| 52..54 | head rotation pitch, yaw, roll, relative to the portrait | degrees |
| 55..56 | head translation x, y, relative to the portrait | face widths |
| 57 | distance ratio: 1 = as photographed, 2 = twice as far (half as large) | > 0 |
| 58 | tip of the tongue raised: 1 = at the ridge behind the upper teeth | [0, 1] |
| 59 | back of the tongue raised: 1 = at the palate | [0, 1] |

Signs, as the viewer sees the frame: yaw > 0 turns the face to the viewer's right, pitch > 0
lifts the face up, roll > 0 tilts the head clockwise, x > 0 is to the right, y > 0 is down.
"Left" in an ARKit name is the *subject's* left, which a viewer sees on the right.

Gaze lies in the eyeLook coefficients, in the head's frame: a coefficient of 1 is
`GAZE_YAW_RANGE` degrees sideways or `GAZE_PITCH_RANGE` degrees up or down.
"""

from __future__ import annotations

import numpy as np

from talkingface.contract.arrays import Float32Array

ARKIT_NAMES: tuple[str, ...] = (
    "eyeBlinkLeft",
    "eyeLookDownLeft",
    "eyeLookInLeft",
    "eyeLookOutLeft",
    "eyeLookUpLeft",
    "eyeSquintLeft",
    "eyeWideLeft",
    "eyeBlinkRight",
    "eyeLookDownRight",
    "eyeLookInRight",
    "eyeLookOutRight",
    "eyeLookUpRight",
    "eyeSquintRight",
    "eyeWideRight",
    "jawForward",
    "jawLeft",
    "jawRight",
    "jawOpen",
    "mouthClose",
    "mouthFunnel",
    "mouthPucker",
    "mouthLeft",
    "mouthRight",
    "mouthSmileLeft",
    "mouthSmileRight",
    "mouthFrownLeft",
    "mouthFrownRight",
    "mouthDimpleLeft",
    "mouthDimpleRight",
    "mouthStretchLeft",
    "mouthStretchRight",
    "mouthRollLower",
    "mouthRollUpper",
    "mouthShrugLower",
    "mouthShrugUpper",
    "mouthPressLeft",
    "mouthPressRight",
    "mouthLowerDownLeft",
    "mouthLowerDownRight",
    "mouthUpperUpLeft",
    "mouthUpperUpRight",
    "browDownLeft",
    "browDownRight",
    "browInnerUp",
    "browOuterUpLeft",
    "browOuterUpRight",
    "cheekPuff",
    "cheekSquintLeft",
    "cheekSquintRight",
    "noseSneerLeft",
    "noseSneerRight",
    "tongueOut",
)
ARKIT_INDEX = {name: i for i, name in enumerate(ARKIT_NAMES)}
ARKIT_DIM = len(ARKIT_NAMES)

PITCH, YAW, ROLL = ARKIT_DIM, ARKIT_DIM + 1, ARKIT_DIM + 2
TRANSLATION_X, TRANSLATION_Y = ARKIT_DIM + 3, ARKIT_DIM + 4
DISTANCE = ARKIT_DIM + 5
TONGUE_TIP, TONGUE_BACK = ARKIT_DIM + 6, ARKIT_DIM + 7
MOTION_DIM = ARKIT_DIM + 8

# Degrees of gaze at a coefficient of 1: a convention of this format, ARKit states none.
GAZE_YAW_RANGE = 30.0
GAZE_PITCH_RANGE = 25.0
# How far the tip of the tongue is raised when it is at the upper teeth's edge: a convention, too.
TONGUE_TIP_AT_TEETH = 0.7


def neutral(frames: int) -> Float32Array:
    """Return the portrait as photographed, with a neutral expression: (frames, MOTION_DIM)."""
    motion = np.zeros((frames, MOTION_DIM), np.float32)
    motion[:, DISTANCE] = 1.0
    return motion


_LOOK_COLUMNS = [
    ARKIT_INDEX[f"eyeLook{direction}{side}"]
    for side in ("Left", "Right")
    for direction in ("Up", "Down", "Out", "In")
]


def gaze_to_arkit(pitch: Float32Array, yaw: Float32Array) -> Float32Array:
    """Convert gaze in the head's frame to the eight eyeLook columns.

    :param pitch: (T,) degrees, up is positive
    :param yaw: (T,) degrees, to the viewer's right is positive
    :return: (T, ARKIT_DIM), zero outside the eyeLook columns, clipped to [0, 1].
    """
    out = np.zeros((len(pitch), ARKIT_DIM), np.float32)
    up, right = pitch / GAZE_PITCH_RANGE, yaw / GAZE_YAW_RANGE
    left_eye, right_eye = (up, -up, right, -right), (up, -up, -right, right)
    # One call for all columns: the calls themselves are what costs time here.
    out[:, _LOOK_COLUMNS] = np.stack((*left_eye, *right_eye), axis=1).clip(0, 1)
    return out


def arkit_to_gaze(coefficients: Float32Array) -> tuple[Float32Array, Float32Array]:
    """Return the mean gaze of both eyes in the head's frame.

    :param coefficients: (T, ARKIT_DIM)
    :return: pitch and yaw in degrees, each (T,)
    """

    def column(name: str) -> Float32Array:
        return coefficients[:, ARKIT_INDEX[name]]

    pitch = (
        column("eyeLookUpLeft")
        + column("eyeLookUpRight")
        - column("eyeLookDownLeft")
        - column("eyeLookDownRight")
    ) * np.float32(GAZE_PITCH_RANGE / 2)
    yaw = (
        column("eyeLookOutLeft")
        + column("eyeLookInRight")
        - column("eyeLookInLeft")
        - column("eyeLookOutRight")
    ) * np.float32(GAZE_YAW_RANGE / 2)
    return pitch, yaw
