"""Poses that every portrait is rendered in: hard ones, and each movement in several strengths."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from talkingface.contract.motion import (
    ARKIT_DIM,
    ARKIT_INDEX,
    GAZE_PITCH_RANGE,
    GAZE_YAW_RANGE,
    PITCH,
    ROLL,
    YAW,
    gaze_to_arkit,
    neutral,
)
from talkingface_research.renderer.evaluation.readback import AXES, opening_of, smile_of

Array = NDArray[np.float32]

NEUTRAL = "neutral"  # a face at rest, with closed lips even where the photo's are open
JAW, PUCKER, SHUT_EYES = "jaw wide", "pucker", "eyes shut"
STRONG = 0.8  # of a coefficient or of the gaze's range, in hard poses
# Name, column, degrees from which a pose is hard, degrees to either side.
HEAD = (
    ("yaw", YAW, 20.0, (10.0, 20.0, 25.0)),
    ("pitch", PITCH, 15.0, (7.5, 15.0)),
    ("roll", ROLL, 15.0, (7.5, 15.0)),
)
MIXES = 6  # random motions in which everything moves


@dataclass(frozen=True)
class Pose:
    """One pose that every portrait is rendered in."""

    name: str
    motion: Array  # (60,)
    axis: str = ""  # the only one of `AXES` that moves; "" where several do or none
    hard: bool = False  # one of the poses for identity, warp artifacts and contact sheets

    @property
    def requested(self) -> Array:
        """(8,) what `readback` should measure, in the order of `AXES`; lids as share of the eye."""
        return requested(self.motion)


def motion_of(
    pitch: float = 0.0,
    yaw: float = 0.0,
    roll: float = 0.0,
    gaze: tuple[float, float] = (0.0, 0.0),
    **coefficients: float,
) -> Array:
    """A motion frame (60,) from degrees and coefficients.

    :param gaze: pitch, yaw in degrees
    :param coefficients: by their ARKit names; one without its side means both
    """
    motion = neutral(1)[0]
    motion[[PITCH, YAW, ROLL]] = pitch, yaw, roll
    motion[:ARKIT_DIM] = gaze_to_arkit(*np.array(gaze, np.float32)[:, None])[0]
    for name, value in coefficients.items():
        sides = (name,) if name in ARKIT_INDEX else (f"{name}Left", f"{name}Right")
        for side in sides:
            motion[ARKIT_INDEX[side]] = value
    result: Array = motion
    return result


def requested(motion: Array) -> Array:
    """(8,) what a motion frame requests, in the units of `AXES`, but lids as a share of the eye."""

    def both(name: str) -> float:
        return float(motion[ARKIT_INDEX[f"{name}Left"]] + motion[ARKIT_INDEX[f"{name}Right"]]) / 2

    up = (both("eyeLookUp") - both("eyeLookDown")) * GAZE_PITCH_RANGE
    right = float(motion[ARKIT_INDEX["eyeLookOutLeft"]] + motion[ARKIT_INDEX["eyeLookInRight"]])
    left = float(motion[ARKIT_INDEX["eyeLookInLeft"]] + motion[ARKIT_INDEX["eyeLookOutRight"]])
    sideways = (right - left) / 2 * GAZE_YAW_RANGE
    face = [opening_of(motion), smile_of(motion), both("eyeBlink"), sideways, up]
    return np.array([*face, *motion[[YAW, PITCH, ROLL]]], np.float32)


@lru_cache(maxsize=1)
def poses() -> tuple[Pose, ...]:
    """All poses; the first is `NEUTRAL`."""
    out = [Pose(NEUTRAL, motion_of(), "opening")]
    for value in (0.2, 0.4, 0.6, STRONG):
        hard = value == STRONG
        name = JAW if hard else f"jaw {value:.1f}"
        out.append(Pose(name, motion_of(jawOpen=value), "opening", hard))
    for value in (0.2, 0.4, 0.6, STRONG):
        hard = value == STRONG
        name = "smile" if hard else f"smile {value:.1f}"
        out.append(Pose(name, motion_of(mouthSmile=value), "smile", hard))
    for value in (0.25, 0.5, 0.75, 1.0):
        hard = value == 1.0
        name = SHUT_EYES if hard else f"lids {value:.2f}"
        out.append(Pose(name, motion_of(eyeBlink=value), "lids", hard))
    for sign, sideways, upwards in ((-1, "left", "down"), (1, "right", "up")):
        for value in (STRONG / 2, STRONG):
            hard, half = value == STRONG, "" if value == STRONG else "half "
            yaw, pitch = sign * value * GAZE_YAW_RANGE, sign * value * GAZE_PITCH_RANGE
            out.append(Pose(f"gaze {half}{sideways}", motion_of(gaze=(0, yaw)), "gaze yaw", hard))
            out.append(
                Pose(f"gaze {half}{upwards}", motion_of(gaze=(pitch, 0)), "gaze pitch", hard)
            )
    for axis, column, least, degrees in HEAD:
        for value in degrees:
            for signed in (-value, value):
                motion = neutral(1)[0]
                motion[column] = signed
                out.append(Pose(f"{axis} {signed:+g}", motion, axis, value >= least))
    out.append(Pose(PUCKER, motion_of(mouthPucker=1.0), hard=True))
    random = np.random.default_rng(4)
    for number in range(MIXES):
        draw = random.uniform(-1, 1, 6)
        lids = float(random.uniform(0.2, 0.9)) if number % 3 == 2 else 0.0
        motion = motion_of(
            yaw=20 * draw[0],
            pitch=12 * draw[1],
            roll=12 * draw[2],
            # The gaze cannot be measured behind closing lids.
            gaze=(15 * draw[3] * (lids == 0), 20 * draw[4] * (lids == 0)),
            jawOpen=0.35 * (1 + draw[5]),
            mouthSmile=float(random.uniform(0, 0.6)),
            eyeBlink=lids,
        )
        out.append(Pose(f"mix {number}", motion))
    return tuple(out)


def sheet_poses() -> list[Pose]:
    """The poses of a portrait's contact sheet: at rest, and the hard ones."""
    return [pose for pose in poses() if pose.hard or pose.name == NEUTRAL]


def on_axis(axis: str) -> list[Pose]:
    """The poses in which nothing but one of `AXES` moves."""
    assert axis in AXES
    return [pose for pose in poses() if pose.axis == axis]
