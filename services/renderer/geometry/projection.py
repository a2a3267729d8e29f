"""Where head and shoulders of a posed portrait lie in the frame."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from talkingface.renderer.arrays import Float32Array, Int64Array
from talkingface.renderer.compiler import njit
from talkingface.renderer.face.camera import Camera
from talkingface.renderer.face.model import FaceModel
from talkingface.renderer.geometry.frame import FLIP_3D
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
    portrait: PreparedPortrait,
    vertices: Float32Array,
    camera: Camera,
    torso: Float32Array,
    chosen: Int64Array | None = None,
) -> Float32Array:
    """Project unposed vertices (V, 3) to pixels and depth (V, 3) of the frame.

    The neck runs over into the shoulders.

    :param torso: (2, 3) map of the shoulders, from `torso_map`.
    :param chosen: (N,) project these vertices alone, to (N, 3).
    """
    projection = _Projection(camera.rotation[0], camera.scale[0], camera.translation[0], torso)
    by_vertex = [vertices, FaceModel.load().head_weight, _setback(), portrait.uv]
    if chosen is not None:
        by_vertex = [values.take(chosen, 0) for values in by_vertex]
    return _project(projection, *by_vertex)


@lru_cache(maxsize=1)
def _setback() -> Float32Array:
    """Face widths (V,) by which walls of mouth and eyes are set back.

    So they do not poke through the skin around strongly bent lips.
    """
    setback: Float32Array = (INSIDE_SETBACK * (FaceModel.load().part != SKIN)).astype(np.float32)
    return setback


@njit(cache=True, fastmath=True, error_model="numpy")
def _project(
    projection: _Projection,
    vertices: Float32Array,
    head_weight: Float32Array,
    setback: Float32Array,
    uv: Float32Array,
) -> Float32Array:
    """Pixels and depth (N, 3) of vertices (N, 3), with values of each as in the portrait."""
    rotation, scale, translation, torso = projection
    out = np.empty_like(vertices)
    for n in range(len(vertices)):
        x, y, z = scale * vertices[n, 0], scale * vertices[n, 1], scale * vertices[n, 2]
        w, u, v = head_weight[n], uv[n, 0], uv[n, 1]
        right = translation[0] + rotation[0, 0] * x + rotation[0, 1] * y + rotation[0, 2] * z
        down = translation[1] - rotation[1, 0] * x - rotation[1, 1] * y - rotation[1, 2] * z
        depth = rotation[2, 0] * x + rotation[2, 1] * y + rotation[2, 2] * z
        rest_right = torso[0, 0] * u + torso[0, 1] * v + torso[0, 2]
        rest_down = torso[1, 0] * u + torso[1, 1] * v + torso[1, 2]
        out[n, 0] = rest_right + w * (right - rest_right)
        out[n, 1] = rest_down + w * (down - rest_down)
        out[n, 2] = depth - scale * setback[n]
    return out


def torso_map(photo: Camera, camera: Camera) -> Float32Array:
    """Where the shoulders go: (2, 3), pixel of the portrait to pixel of the frame."""
    scale = float(photo.scale[0])
    zoom = (float(camera.scale[0]) / scale) ** TORSO_ZOOM
    roll = math.radians(TORSO_ROLL * float(camera.angles[0, 2] - photo.angles[0, 2]))
    c, s = math.cos(roll) * zoom, math.sin(roll) * zoom
    (x, y), (moved_x, moved_y) = photo.translation[0].tolist(), camera.translation[0].tolist()
    below = y + TORSO_CENTRE * scale
    target_x = x + TORSO_TRANSLATION * (moved_x - x)
    target_y = y + zoom * TORSO_CENTRE * scale + TORSO_TRANSLATION * (moved_y - y)
    return np.array(
        [[c, -s, target_x - c * x + s * below], [s, c, target_y - s * x - c * below]], np.float32
    )


class HeadTurn(NamedTuple):
    """How the head went from the photo to a frame, in image axes (x right, y down)."""

    turn: Float32Array  # (3, 3) rotation times the change of scale
    in_plane: Float32Array  # (2, 2) its part within the image plane alone
    start: Float32Array  # (2,) pixel of the head's turning point in the photo
    target: Float32Array  # (2,) ... and in the frame


def head_turn(photo: Camera, camera: Camera) -> HeadTurn:
    """Compare the camera of a frame with the photo's."""
    zoom = float(camera.scale[0]) / float(photo.scale[0])
    turn = _turn(photo.rotation[0], camera.rotation[0], zoom)
    # The rotation that comes closest to the linear map within the image plane.
    (a, b, _), (c, d, _), _ = turn.tolist()
    scale = zoom / math.hypot(a + d, b - c)
    cosine, sine = scale * (a + d), scale * (c - b)
    in_plane = np.array([[cosine, -sine], [sine, cosine]], np.float32)
    return HeadTurn(turn, in_plane, photo.translation[0], camera.translation[0])


@njit(cache=True, fastmath=True, error_model="numpy")
def _turn(photo: Float32Array, now: Float32Array, zoom: float) -> Float32Array:
    """Rotation (3, 3) from one head rotation to another in image axes, times `zoom`."""
    turn = np.empty((3, 3), np.float32)
    for i in range(3):
        for j in range(3):
            total = now[i, 0] * photo[j, 0] + now[i, 1] * photo[j, 1] + now[i, 2] * photo[j, 2]
            turn[i, j] = zoom * FLIP_3D[i] * FLIP_3D[j] * total
    return turn


def plane_map(photo: Camera, camera: Camera, depth: float) -> Float32Array:
    """Where a plane that faces the photo's camera goes, (2, 3).

    :param depth: of the plane before the head's turning point, face widths.
    """
    head = head_turn(photo, camera)
    (a, b, ahead), (c, d, below), _ = head.turn.tolist()
    (x, y), (target_x, target_y) = head.start.tolist(), head.target.tolist()
    pixels = depth * float(photo.scale[0])
    right = target_x + ahead * pixels - a * x - b * y
    down = target_y + below * pixels - c * x - d * y
    return np.array([[a, b, right], [c, d, down]], np.float32)
