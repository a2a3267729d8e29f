"""Canonical motion, the output format of the generator, and its conversion to motion frames.

A *canonical motion* frame describes the face before the geometric controls are applied:

| columns | what | unit |
|---|---|---|
| 0..43 | ARKit coefficients without the eyeLook ones (`FACE_NAMES`) | [0, 1] |
| 44..45 | gaze pitch, yaw **in the camera's frame** (0, 0 = into the camera) | degrees |
| 46..48 | head pitch, yaw, roll about the resting pose | degrees |
| 49..50 | head translation x, y | face widths |
| 51 | log of the distance ratio | - |

Keeping gaze in the camera's frame makes the eyes counter-rotate the head exactly
(the vestibulo-ocular reflex), whatever pose offset or motion scale a control adds:
`compose` subtracts the final head rotation to get the eye's turn within the head.
"""

from __future__ import annotations

import numpy as np

from talkingface.contract.arrays import Float32Array
from talkingface.contract.motion import (
    ARKIT_DIM,
    ARKIT_INDEX,
    ARKIT_NAMES,
    DISTANCE,
    MOTION_DIM,
    PITCH,
    TRANSLATION_X,
    arkit_to_gaze,
    gaze_to_arkit,
)

FACE_NAMES = tuple(name for name in ARKIT_NAMES if not name.startswith("eyeLook"))
FACE_INDEX = {name: i for i, name in enumerate(FACE_NAMES)}
FACE_DIM = len(FACE_NAMES)
FACE_COLUMNS = np.array([ARKIT_INDEX[name] for name in FACE_NAMES])

# The columns of jaw and lips, which are adjacent.
MOUTH = slice(FACE_INDEX["jawForward"], FACE_INDEX["mouthUpperUpRight"] + 1)

GAZE = slice(FACE_DIM, FACE_DIM + 2)
ROTATION = slice(FACE_DIM + 2, FACE_DIM + 5)
TRANSLATION = slice(FACE_DIM + 5, FACE_DIM + 7)
LOG_DISTANCE = FACE_DIM + 7
CANONICAL_DIM = FACE_DIM + 8
HEAD = slice(ROTATION.start, CANONICAL_DIM)

# Coefficients that articulation moves; the control `mouth_scale` scales these.
ARTICULATION_NAMES = (
    "jawForward", "jawLeft", "jawRight", "jawOpen", "mouthClose", "mouthFunnel", "mouthPucker",
    "mouthRollLower", "mouthRollUpper", "mouthShrugLower", "mouthShrugUpper",
    "mouthPressLeft", "mouthPressRight", "mouthStretchLeft", "mouthStretchRight",
    "mouthLowerDownLeft", "mouthLowerDownRight", "mouthUpperUpLeft", "mouthUpperUpRight",
    "tongueOut",
)  # fmt: skip
ARTICULATION = np.array([FACE_INDEX[name] for name in ARTICULATION_NAMES])

# Largest coefficient that expression may add up to, by prefix of the name, by eye: everyday
# expressions are smaller than the blend shapes' full size.
_EXPRESSION_LIMITS = {
    "brow": 0.9, "mouthSmile": 0.8, "cheekSquint": 0.8, "jawOpen": 0.22, "mouthLowerDown": 0.35,
    "mouthUpperUp": 0.35, "": 0.6,
}  # fmt: skip
EXPRESSION_LIMIT = np.array(
    [
        next(limit for prefix, limit in _EXPRESSION_LIMITS.items() if name.startswith(prefix))
        for name in FACE_NAMES
    ],
    np.float32,
)


def compose(
    canonical: Float32Array,
    pose_offset: Float32Array,
    head_scale: Float32Array,
    distance: Float32Array,
    mouth_scale: Float32Array,
    expression: Float32Array | None = None,
) -> Float32Array:
    """Apply the geometric controls to canonical motion.

    :param canonical: (T, CANONICAL_DIM)
    :param pose_offset: (T, 3) pitch, yaw, roll in degrees, added to the head's rotation
    :param head_scale: (T,) factor on the head motion, >= 0
    :param distance: (T,) distance ratio, > 0
    :param mouth_scale: (T,) factor on the mouth's articulation, >= 0
    :param expression: (T, FACE_DIM) added to the face on top of articulation, >= 0; it
        raises no coefficient above `EXPRESSION_LIMIT`
    :return: (T, MOTION_DIM) float32 motion frames
    """
    face = canonical[:, :FACE_DIM].copy()
    face[:, ARTICULATION] *= mouth_scale[:, None]
    if expression is not None:
        face = np.maximum(face, np.minimum(face + expression, EXPRESSION_LIMIT))
    rotation = pose_offset + head_scale[:, None] * canonical[:, ROTATION]
    eye = canonical[:, GAZE] - rotation[:, :2]
    motion = np.zeros((len(canonical), MOTION_DIM), np.float32)
    motion[:, :ARKIT_DIM] = gaze_to_arkit(eye[:, 0], eye[:, 1])
    motion[:, FACE_COLUMNS] = face.clip(0, 1)
    motion[:, PITCH : PITCH + 3] = rotation
    motion[:, TRANSLATION_X : TRANSLATION_X + 2] = head_scale[:, None] * canonical[:, TRANSLATION]
    motion[:, DISTANCE] = distance * np.exp(head_scale * canonical[:, LOG_DISTANCE])
    return motion


def from_motion(motion: Float32Array) -> Float32Array:
    """Convert tracked motion to canonical motion: the inverse of `compose` without controls.

    :param motion: (T, MOTION_DIM)
    :return: (T, CANONICAL_DIM) float32
    """
    out = np.empty((len(motion), CANONICAL_DIM), np.float32)
    out[:, :FACE_DIM] = motion[:, FACE_COLUMNS]
    out[:, GAZE] = (
        np.stack(arkit_to_gaze(motion[:, :ARKIT_DIM]), axis=1) + motion[:, PITCH : PITCH + 2]
    )
    out[:, ROTATION] = motion[:, PITCH : PITCH + 3]
    out[:, TRANSLATION] = motion[:, TRANSLATION_X : TRANSLATION_X + 2]
    out[:, LOG_DISTANCE] = np.log(motion[:, DISTANCE])
    return out
