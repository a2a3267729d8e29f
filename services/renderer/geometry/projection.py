"""Where head and shoulders of a posed portrait lie in the frame."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numba import njit

from talkingface.renderer.arrays import Float32Array, Float64Array
from talkingface.renderer.face.camera import Camera
from talkingface.renderer.face.model import FaceModel
from talkingface.renderer.geometry.frame import FLIP
from talkingface.renderer.geometry.portrait import PreparedPortrait
from talkingface.renderer.geometry.topology import SKIN

INSIDE_SETBACK = 0.06  # face widths by which walls of mouth and eyes are set back; by eye
# What the shoulders follow of the head; by eye.
TORSO_TRANSLATION = 0.35  # share of its translation
TORSO_ROLL = 0.12  # share of its roll
TORSO_ZOOM = 0.5  # power of its change of scale: whoever leans back moves the head furthest
TORSO_CENTRE = 1.2  # face widths below the head's turning point, about which shoulders turn


class _Projection(NamedTuple):
    """How vertices go to pixels of the frame."""

    rotation: Float32Array  # (3, 3)
    scale: np.float32  # pixels a face width
    translation: Float32Array  # (2,) pixels
    torso: Float32Array  # (2, 3) pixel of the portrait to pixel of the frame


def project_vertices(
    portrait: PreparedPortrait, vertices: Float32Array, camera: Camera, torso: Float32Array
) -> Float32Array:
    """Project unposed vertices (V, 3) to pixels and depth (V, 3) of the frame.

    The neck runs over into the shoulders.

    :param torso: (2, 3) map of the shoulders, from `torso_map`.
    """
    out = np.empty_like(vertices)
    projection = _Projection(
        camera.rotation[0],
        camera.scale[0],
        camera.translation[0],
        np.asarray(torso, np.float32),
    )
    weight = FaceModel.load().head_weight
    _project(projection, vertices, weight, _setback(), portrait.uv, out)
    return out


@lru_cache(maxsize=1)
def _setback() -> Float32Array:
    """Face widths (V,) by which walls of mouth and eyes are set back.

    So they do not poke through the skin around strongly bent lips.
    """
    setback: Float32Array = (INSIDE_SETBACK * (FaceModel.load().part != SKIN)).astype(np.float32)
    return setback


@njit(cache=True)
def _project(
    projection: _Projection,
    vertices: Float32Array,
    head_weight: Float32Array,
    setback: Float32Array,
    uv: Float32Array,
    out: Float32Array,
) -> None:
    """Write pixels and depth (V, 3); arguments by vertex as in `FaceModel` and the portrait."""
    rotation, scale = projection.rotation, projection.scale
    translation, torso = projection.translation, projection.torso
    for v in range(len(vertices)):
        x, y, z = vertices[v, 0], vertices[v, 1], vertices[v, 2]
        w, u, t = head_weight[v], uv[v, 0], uv[v, 1]
        for k in range(3):
            value = scale * (rotation[k, 0] * x + rotation[k, 1] * y + rotation[k, 2] * z)
            if k == 2:
                out[v, k] = value - scale * setback[v]
                continue
            value = translation[k] + (value if k == 0 else -value)
            rest = torso[k, 0] * u + torso[k, 1] * t + torso[k, 2]
            out[v, k] = w * value + (np.float32(1.0) - w) * rest


def torso_map(photo: Camera, camera: Camera) -> Float32Array:
    """Where the shoulders go: (2, 3), pixel of the portrait to pixel of the frame."""
    zoom = float(camera.scale[0] / photo.scale[0]) ** TORSO_ZOOM
    roll = np.deg2rad(TORSO_ROLL * (camera.angles[0, 2] - photo.angles[0, 2]))
    c, s = np.cos(roll) * zoom, np.sin(roll) * zoom
    linear = np.array([[c, -s], [s, c]])
    moved = TORSO_TRANSLATION * (camera.translation[0] - photo.translation[0])
    centre = photo.translation[0] + np.array([0, TORSO_CENTRE * photo.scale[0]])
    target = photo.translation[0] + zoom * (centre - photo.translation[0])
    return _affine_matrix(linear, target + moved - linear @ centre)


def plane_map(photo: Camera, camera: Camera, depth: float) -> Float32Array:
    """Where a plane that faces the photo's camera goes, (2, 3).

    :param depth: of the plane before the head's turning point, face widths.
    """
    turn = camera.rotation[0] @ photo.rotation[0].T
    flip = np.diag(FLIP)
    linear = flip @ turn[:2, :2] @ flip * (camera.scale[0] / photo.scale[0])
    moved = camera.translation[0] + camera.scale[0] * (FLIP * turn[:2, 2]) * depth
    return _affine_matrix(linear, moved - linear @ photo.translation[0])


def _affine_matrix(
    linear: Float32Array | Float64Array, offset: Float32Array | Float64Array
) -> Float32Array:
    """(2, 3) of a linear part (2, 2) and an offset (2,)."""
    matrix: Float32Array = np.concatenate([linear, offset[:, None]], 1).astype(np.float32)
    return matrix
