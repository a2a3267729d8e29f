"""The 3D head: mesh, identity modes, ARKit expressions and the 478 landmarks on it.

Coordinates are those of the head: x to the viewer's right, y up, z towards the viewer when the head
faces the camera; the unit is the mean face's width (landmark 234 to 454), the origin the joint
between skull and neck, about which the head turns.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property, lru_cache
from importlib import resources
from typing import TypeVar

import numpy as np

from talkingface.contract.motion import ARKIT_DIM, ARKIT_INDEX, GAZE_PITCH_RANGE, GAZE_YAW_RANGE
from talkingface.renderer.arrays import (
    Float32Array,
    Float64Array,
    Int32Array,
    Int64Array,
    Uint8Image,
)

PARTS = (
    "skin",
    "cavity",  # inside of mouth, nostrils and eye sockets
    "tongue",
    "eye_left",
    "eye_right",
    "teeth_upper",
    "teeth_lower",
)
LANDMARKS = 478
SKIN_LANDMARKS = 468  # the last ten are the irises: 468..472 the subject's right, 473..477 the left
# Order of an iris's five landmarks: centre, then viewer's right, top, viewer's left, bottom.
IRIS_RING = np.array([[0, 0], [1, 0], [0, 1], [-1, 0], [0, -1]], np.float32)
EYES = (("Right", "eye_right", 468), ("Left", "eye_left", 473))

_Angle = TypeVar("_Angle", float, Float64Array)


def rotation_matrix(pitch: float, yaw: float, roll: float) -> Float32Array:
    """Head rotation (3, 3) for column vectors, from degrees in the sense of the motion frame.

    yaw > 0 turns the face to the viewer's right, pitch > 0 lifts it, roll > 0 tilts it clockwise;
    pitch is applied first, roll last.
    """
    p, y, r = math.radians(pitch), math.radians(yaw), math.radians(roll)
    cosines, sines = (
        (math.cos(p), math.cos(y), math.cos(r)),
        (math.sin(p), math.sin(y), math.sin(r)),
    )
    return np.array(_rotation(cosines, sines), np.float32)


def rotation_matrices(degrees: Float32Array) -> Float32Array:
    """Head rotations (T, 3, 3) of many poses (T, 3): pitch, yaw, roll, as in `rotation_matrix`."""
    angles = np.deg2rad(np.asarray(degrees, np.float64)).T
    rows = _rotation(tuple(np.cos(angles)), tuple(np.sin(angles)))
    return np.ascontiguousarray(np.moveaxis(np.array(rows, np.float32), -1, 0))


def _rotation(
    cosines: tuple[_Angle, _Angle, _Angle], sines: tuple[_Angle, _Angle, _Angle]
) -> tuple[tuple[_Angle, _Angle, _Angle], ...]:
    """Rows of a head rotation from cosines and sines of pitch, yaw, roll; numbers or arrays."""
    (cp, cy, cr), (sp, sy, sr) = cosines, sines
    return (
        (cr * cy, sr * cp - cr * sy * sp, sr * sp + cr * sy * cp),
        (-sr * cy, cr * cp + sr * sy * sp, cr * sp - sr * sy * cp),
        (-sy, -cy * sp, cy * cp),
    )


# For both eyes (right, left): columns of the coefficients that raise, lower, turn right and left.
GAZE_COLUMNS = np.array(
    [
        [ARKIT_INDEX[f"eyeLook{way}{side}"] for way in ("Up", "Down", right, left)]
        for side, right, left in (("Right", "In", "Out"), ("Left", "Out", "In"))
    ]
)
_GAZE_RANGE = np.array([GAZE_PITCH_RANGE, GAZE_YAW_RANGE], np.float32)


def gaze_angles(coefficients: Float32Array) -> Float32Array:
    """Each eye's own gaze in degrees: (..., 52) to (..., 2 eyes: right, left; 2: pitch, yaw)."""
    ways = coefficients[..., GAZE_COLUMNS]
    return ((ways[..., ::2] - ways[..., 1::2]) * _GAZE_RANGE).astype(np.float32)


@dataclass(frozen=True)
class FaceModel:
    """Arrays of `assets/face_model.npz`: V vertices, K identity modes, 52 expressions."""

    mean: Float32Array  # (V, 3)
    identity: Float32Array  # (K, V, 3), one standard deviation each
    expressions: Float32Array  # (52, V, 3), eyeballs left out: they turn rigidly
    triangles: Int32Array  # (T, 3)
    part: Uint8Image  # (V,), index into PARTS
    head_weight: (
        Float32Array  # (V,), 1 where a vertex follows the head, 0 where it stays with the trunk
    )
    landmark_corners: Int32Array  # (468, 3)
    landmark_weights: Float32Array  # (468, 3)
    mirror: Int32Array  # (478,), each landmark's partner on the other side
    eye_radius: float
    iris_radius: float

    @classmethod
    @lru_cache(maxsize=1)
    def load(cls) -> FaceModel:
        """Load the model that ships with the package, once a process."""
        path = resources.files("talkingface.renderer") / "assets" / "face_model.npz"
        with resources.as_file(path) as file, np.load(file) as data:
            floats = ("mean", "identity", "expressions", "head_weight", "landmark_weights")
            arrays = {k: np.ascontiguousarray(data[k], np.float32) for k in floats}
            weights = arrays["landmark_weights"]
            arrays["landmark_weights"] = weights / weights.sum(1, keepdims=True)
            indices = {
                k: data[k].astype(np.int32) for k in ("triangles", "landmark_corners", "mirror")
            }
            return cls(
                mean=arrays["mean"],
                identity=arrays["identity"],
                expressions=arrays["expressions"],
                triangles=indices["triangles"],
                head_weight=arrays["head_weight"],
                landmark_corners=indices["landmark_corners"],
                landmark_weights=arrays["landmark_weights"],
                mirror=indices["mirror"],
                part=data["part"],
                eye_radius=float(data["eye_radius"]),
                iris_radius=float(data["iris_radius"]),
            )

    def part_vertices(self, name: str) -> Int64Array:
        """Indices of the vertices of one of PARTS."""
        return np.nonzero(self.part == PARTS.index(name))[0]

    def vertices(self, identity: Float32Array, coefficients: Float32Array) -> Float32Array:
        """Mesh of a person (K,) with an expression (52,), unposed, eyes turned: (V, 3)."""
        out = self.mean + np.tensordot(identity, self.identity, 1)
        active = np.nonzero(coefficients)[0]
        out += np.tensordot(coefficients[active], self.expressions[active], 1)
        for (_, name, _), (pitch, yaw) in zip(EYES, gaze_angles(coefficients), strict=True):
            ball = self.part_vertices(name)
            centre = (out[ball].max(0) + out[ball].min(0)) / 2
            out[ball] = (out[ball] - centre) @ rotation_matrix(pitch, yaw, 0.0).T + centre
        return out

    @cached_property
    def landmark_mean(self) -> Float32Array:
        """(478, 3) landmarks of the mean face."""
        return self._landmarks(self.mean, True)

    @cached_property
    def landmark_identity(self) -> Float32Array:
        """(K, 478, 3) change of the landmarks with each identity mode."""
        return np.stack([self._landmarks(m, False) for m in self.identity])

    @cached_property
    def landmark_expressions(self) -> Float32Array:
        """(52, 478, 3) change of the landmarks with each coefficient, gaze made linear."""
        out = np.stack([self._landmarks(e, False) for e in self.expressions])
        out[:, SKIN_LANDMARKS:] = 0.0
        for side, _, first in EYES:
            outward = 1.0 if side == "Left" else -1.0
            reach = self.eye_radius * np.sin(np.deg2rad([GAZE_YAW_RANGE, GAZE_PITCH_RANGE]))
            eye = slice(first, first + 5)
            out[ARKIT_INDEX[f"eyeLookOut{side}"], eye, 0] = outward * reach[0]
            out[ARKIT_INDEX[f"eyeLookIn{side}"], eye, 0] = -outward * reach[0]
            out[ARKIT_INDEX[f"eyeLookUp{side}"], eye, 1] = reach[1]
            out[ARKIT_INDEX[f"eyeLookDown{side}"], eye, 1] = -reach[1]
        return out

    def landmarks(self, identity: Float32Array, coefficients: Float32Array) -> Float32Array:
        """Landmarks (..., 478, 3) for identity (K,) and coefficients (..., 52), unposed."""
        person = self.landmark_mean + np.tensordot(identity, self.landmark_identity, 1)
        moved = coefficients.reshape(-1, ARKIT_DIM) @ self.landmark_expressions.reshape(
            ARKIT_DIM, -1
        )
        marks: Float32Array = person + moved.reshape(*coefficients.shape[:-1], LANDMARKS, 3)
        return marks

    def _landmarks(self, vertices: Float32Array, irises: bool) -> Float32Array:
        """Landmarks (478, 3) of vertex positions (irises=True) or of vertex offsets (False).

        :param vertices: (V, 3).
        """
        out = np.zeros((LANDMARKS, 3), np.float32)
        corners = vertices[self.landmark_corners]
        out[:SKIN_LANDMARKS] = (self.landmark_weights[..., None] * corners).sum(1)
        for _, name, first in EYES:
            ball = vertices[self.part_vertices(name)]
            if not irises:
                out[first : first + 5] = ball.mean(0)
                continue
            centre = (ball.max(0) + ball.min(0)) / 2
            ring = self.iris_radius * IRIS_RING
            depth = np.sqrt(self.eye_radius**2 - (ring**2).sum(1, keepdims=True))
            out[first : first + 5] = centre + np.concatenate([ring, depth], 1)
        return out
