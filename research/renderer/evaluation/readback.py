"""Movements of a face, measured from landmarks of finished frames.

The landmarks are the project's own (`analysis`): a network that sees pixels alone. Its bias still
enters: it expects ordinary faces, so it understates extremes, and a closed eye keeps a little
height. The person's head is known from the photo; a frame gives the camera (`fit.track`), by which
landmarks are turned to the front before lengths are measured.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from talkingface.contract.motion import ARKIT_DIM, ARKIT_INDEX
from talkingface.renderer.face.camera import Camera, FaceFit
from talkingface.renderer.face.eye_measurement import lid_apertures
from talkingface.renderer.face.fitting import track
from talkingface.renderer.face.landmarks import IRISES, LID_PAIRS, LIP_PAIRS
from talkingface.renderer.face.model import FaceModel

Array = NDArray[np.float32]

# Name and unit of each measured axis; opening is absolute, the others count from the face at rest.
# Lids are requested as a share of their height in the photo, and measured as a length.
AXES = {
    "opening": "face widths",
    "smile": "face widths",
    "lids": "face widths",
    "gaze yaw": "degrees",
    "gaze pitch": "degrees",
    "yaw": "degrees",
    "pitch": "degrees",
    "roll": "degrees",
}
ABSOLUTE = ("opening",)
MIDDLE_LIPS = LIP_PAIRS[:3]
CORNERS = {"Right": 61, "Left": 291}  # of the lips' outline, by the subject's side


@lru_cache(maxsize=1)
def _smile() -> Array:
    """Displacement of the two corners of the mouth in a full smile, (2, 2) face widths, y up."""
    shapes = FaceModel.load().landmark_expressions
    return np.stack(
        [shapes[ARKIT_INDEX[f"mouthSmile{side}"], corner, :2] for side, corner in CORNERS.items()]
    )


def smile_of(motion: Array) -> float:
    """Displacement of the corners along a smile that motion (>= 52,) requests, face widths."""
    share = [float(motion[ARKIT_INDEX[f"mouthSmile{side}"]]) for side in CORNERS]
    return float(np.mean(share * np.linalg.norm(_smile(), axis=1)))


def opening_of(motion: Array) -> float:
    """Gap of the inner lips at their middle that motion (>= 52,) requests, face widths."""
    shapes = FaceModel.load().landmark_expressions
    gap = np.mean([shapes[:, a, 1] - shapes[:, b, 1] for a, b in MIDDLE_LIPS], axis=0)
    return max(float(motion[:ARKIT_DIM] @ gap), 0.0)


def measure(landmarks: Array, person: FaceFit) -> Array:
    """Absolute values (T, 8) in frames of one person, in the order of `AXES`.

    Lengths are in face widths, positions of the irises in radii of the eyeball.

    :param landmarks: (T, 478, 2+) pixels
    :param person: fit of the photo
    """
    model = FaceModel.load()
    points = np.asarray(landmarks[..., :2], np.float32)
    lids = lid_apertures(points[:1], person.camera)[0]
    followed = track(points, person.identity, lids)
    camera = followed.camera
    depth = np.stack([model.landmarks(person.identity, c)[:, 2] for c in followed.coefficients])
    flip = np.array([1, -1], np.float32)
    seen = (points - camera.translation[:, None]) / camera.scale[:, None, None] * flip
    seen = seen - camera.rotation[:, None, :2, 2] * depth[..., None]
    front = np.einsum("tij,tnj->tni", np.linalg.inv(camera.rotation[:, :2, :2]), seen)

    def height(pairs: tuple[tuple[int, int], ...]) -> Array:
        result: Array = np.mean([front[:, a, 1] - front[:, b, 1] for a, b in pairs], axis=0)
        return result

    directions = _smile() / np.linalg.norm(_smile(), axis=1, keepdims=True)
    smile = np.mean(
        [
            front[:, c] @ direction
            for c, direction in zip(CORNERS.values(), directions, strict=True)
        ],
        axis=0,
    )
    # In the head's frame, not between the eye's corners, whose landmarks follow the iris a little.
    irises = front[:, list(IRISES)].mean(axis=1) / model.eye_radius
    angles = camera.angles
    result: Array = np.stack(
        [
            height(MIDDLE_LIPS),
            smile,
            np.mean([height(pairs) for pairs in LID_PAIRS], axis=0),
            irises[:, 0],
            irises[:, 1],
            angles[:, 1],
            angles[:, 0],
            angles[:, 2],
        ],
        axis=1,
    ).astype(np.float32)
    return result


def iris_angle(shift: Array, camera: Camera) -> Array:
    """Yaw and pitch (2,) in degrees of an iris that moved by `shift` (2,) pixels."""
    flip = np.array([1, -1], np.float32)
    offset = np.linalg.inv(camera.rotation[0, :2, :2]) @ (shift * flip) / camera.scale[0]
    return _angle(offset / FaceModel.load().eye_radius)


def _angle(radii: Array) -> Array:
    return np.asarray(np.rad2deg(np.arcsin(np.clip(radii, -1, 1))), np.float32)


def from_rest(values: Array, rest: Array) -> Array:
    """Values (T, 8) in the units of `AXES`, relative to the face at rest (8,) but for `ABSOLUTE`.

    An iris that moved by the eyeball's radius times a sine has turned by that angle.
    """
    out = values - rest
    for i, axis in enumerate(AXES):
        if axis in ABSOLUTE:
            out[:, i] = values[:, i]
        elif axis == "lids":
            out[:, i] = rest[i] - values[:, i]
        elif axis.startswith("gaze"):
            out[:, i] = _angle(out[:, i])
    return out
