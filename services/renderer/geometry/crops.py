"""What the inpainting network gets of a frame, and how its result is pasted into it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from talkingface.contract.motion import ARKIT_INDEX
from talkingface.renderer.arrays import Float32Array, Int64Array, Uint8Image, Uint64Array
from talkingface.renderer.compiler import njit
from talkingface.renderer.face.camera import Camera
from talkingface.renderer.face.model import FaceModel
from talkingface.renderer.geometry.canvas import Canvas
from talkingface.renderer.geometry.eyes import RINGS
from talkingface.renderer.geometry.frame import EYE_CROP, MOUTH_CROP, affine
from talkingface.renderer.geometry.frame_plan import FramePlan
from talkingface.renderer.geometry.topology import INNER_LOWER, INNER_UPPER

MOUTH_SPAN, EYE_SPAN = 0.66, 0.36  # face widths a crop spans
FADE = 0.12  # of a crop's side over which its edges fade out
# About those of the mean face, in face widths: between the eyes, from chin to nose bridge.
EYE_DISTANCE, FACE_HEIGHT = 0.43, 0.78
YAW_UNIT, OPENING_UNIT = 45.0, 0.35  # degrees, face widths that are 1 in a control


@dataclass(frozen=True)
class Crop:
    """One of the inpainter's inputs: mouth, subject's left eye, right eye."""

    matrix: Float32Array  # (2, 3) frame pixel -> crop pixel
    packed: Uint64Array  # (S, S) `pixels`, eight bytes in one number
    control: Float32Array  # (6,)

    @property
    def pixels(self) -> Uint8Image:
        """What the network sees, (S, S, 8): `rgb`, `mask`, and the portrait's own colours."""
        return self.packed.view(np.uint8).reshape(*self.packed.shape, 8)

    @property
    def rgb(self) -> Uint8Image:
        """Colours of the frame, (S, S, 3)."""
        return self.pixels[..., :3]

    @property
    def mask(self) -> Uint8Image:
        """What is drawn instead of photographed; what is stretched or uncovered: (S, S, 2)."""
        return self.pixels[..., 3:5]


def cut_crops(
    canvas: Canvas, plan: FramePlan, own: tuple[Uint8Image, Uint8Image, Uint8Image]
) -> tuple[Crop, Crop, Crop]:
    """What the inpainter sees of a frame: mouth, subject's left eye, right eye.

    :param own: the portrait's own crops (S, S, 3), aligned likewise.
    """
    controls = crop_controls(plan.coefficients, plan.face.lip_opening, plan.camera)
    placed = crop_matrices(plan.points)
    inside, eyes = canvas.crops()
    targets = (inside, eyes[0], eyes[1])
    for (matrix, _), colours, out in zip(placed, own, targets, strict=True):
        back = canvas.upload(_inverse(matrix))
        photographed = canvas.resident(colours)
        canvas.kernels.cut_crop(canvas.image, canvas.mask_pairs, photographed, back, out)
    mouth, left, right = (
        Crop(matrix, out, control)
        for (matrix, _), out, control in zip(placed, targets, controls, strict=True)
    )
    return mouth, left, right


def _inverse(matrix: Float32Array) -> Float32Array:
    """The inverse (2, 3) of a similarity (2, 3)."""
    (a, b, x), (c, d, y) = matrix.tolist()
    scale = 1 / (a * d - b * c)
    a, b, c, d = d * scale, -b * scale, -c * scale, a * scale
    return np.array([[a, b, -a * x - b * y], [c, d, -c * x - d * y]], np.float32)


def paste(canvas: Canvas, crop: Crop, residual: Float32Array) -> None:
    """Add an inpainter's result to the frame on a canvas.

    :param residual: (S, S, 4): colours in [-1, 1], the full range of a colour; opacity in [0, 1].
    """
    left, right, top, bottom = canvas.kernels.find_applied(residual)
    if right < left:
        return
    # Only the part that changes, with a margin to fade in.
    corners = np.array([[x, y] for x in (left - 1, right + 1) for y in (top - 1, bottom + 1)])
    corners = affine(_inverse(crop.matrix), corners)
    low = np.clip(np.floor(corners.min(0)), 0, canvas.side).astype(int)
    high = np.clip(np.ceil(corners.max(0)) + 1, 0, canvas.side).astype(int)
    box = (int(low[0]), int(low[1]), int(high[0]), int(high[1]))
    edge = canvas.resident(_edge(residual.shape[0]))
    canvas.kernels.paste_residual(residual, edge, canvas.upload(crop.matrix), box, canvas.image)


@lru_cache(maxsize=4)
def _edge(size: int) -> Float32Array:
    """Fades a crop of `size` pixels out towards its edges, (size,)."""
    ramp = np.clip(np.minimum(np.arange(size), np.arange(size)[::-1]) / (FADE * size), 0, 1)
    fade: Float32Array = (0.5 - 0.5 * np.cos(np.pi * ramp)).astype(np.float32)
    return fade


class _Anchors(NamedTuple):
    """Points of the face by which crops are aligned: weighted sums of vertices.

    In order: from the subject's right eye to the left, from nose bridge to chin, the middle of the
    mouth, of the left eye, of the right eye.
    """

    starts: Int64Array  # (6,) where the vertices of each begin
    vertices: Int64Array  # (E,)
    weights: Float32Array  # (E,)


@lru_cache(maxsize=1)
def _anchors() -> _Anchors:
    model = FaceModel.load()
    landmarks = np.zeros((5, len(model.landmark_corners)), np.float32)
    landmarks[0, [263, 362]], landmarks[0, [33, 133]] = 0.5, -0.5
    landmarks[1, 152], landmarks[1, 168] = 1, -1
    for lip in (INNER_UPPER, INNER_LOWER):
        np.add.at(landmarks[2], list(lip), 0.5 / len(lip))
    for row, ring in ((3, RINGS[1]), (4, RINGS[0])):
        landmarks[row, list(ring)] = 1 / len(ring)
    sums = np.zeros((5, len(model.mean)), np.float32)
    shares = landmarks[:, :, None] * model.landmark_weights
    for row in range(5):
        np.add.at(sums[row], model.landmark_corners, shares[row])
    rows, vertices = np.nonzero(sums)
    return _Anchors(np.searchsorted(rows, np.arange(6)), vertices, sums[rows, vertices])


@njit(cache=True, fastmath=True, error_model="numpy")
def _sum_anchors(anchors: _Anchors, points: Float32Array) -> Float32Array:
    """The anchors (5, 2) of a mesh (V, 2+)."""
    starts, vertices, weights = anchors
    out = np.zeros((len(starts) - 1, 2), np.float32)
    for n in range(len(out)):
        for e in range(starts[n], starts[n + 1]):
            for k in range(2):
                out[n, k] += weights[e] * points[vertices[e], k]
    return out


def crop_matrices(points: Float32Array) -> list[tuple[Float32Array, int]]:
    """Similarities frame -> crop (2, 3), upright by the eyes, and the crops' sides in pixels.

    In the order mouth, subject's left eye, right eye.

    :param points: (V, 2+) pixels of the mesh.
    """
    (right, down), down_face, *centres = _sum_anchors(_anchors(), points).tolist()
    apart = math.hypot(right, down)
    # Eye distance shrinks as the head turns, face height as it nods: take the larger.
    width = max(apart / EYE_DISTANCE, math.hypot(*down_face) / FACE_HEIGHT)
    out = []
    for (x, y), span, size in zip(
        centres, (MOUTH_SPAN, EYE_SPAN, EYE_SPAN), (MOUTH_CROP, EYE_CROP, EYE_CROP), strict=True
    ):
        zoom = size / (span * width * apart)
        c, s, middle = right * zoom, down * zoom, (size - 1) / 2
        matrix = [[c, s, middle - c * x - s * y], [-s, c, middle + s * x - c * y]]
        out.append((np.array(matrix, np.float32), size))
    return out


def crop_controls(
    coefficients: Float32Array, lip_opening: float, camera: Camera
) -> tuple[Float32Array, Float32Array, Float32Array]:
    """What the crops ought to show, as the inpainter takes it: (6,) of mouth, left, right eye.

    :param coefficients: (52,), absolute.
    :param lip_opening: face widths.
    """

    def value(name: str) -> float:
        return float(coefficients[ARKIT_INDEX[name]])

    smile = (value("mouthSmileLeft") + value("mouthSmileRight")) / 2
    rounded = value("mouthFunnel") + value("mouthPucker")
    yaw = float(camera.angles[0, 1]) / YAW_UNIT
    mouth = [lip_opening / OPENING_UNIT, value("jawOpen"), value("mouthClose"), rounded, smile, yaw]
    eyes = [
        [
            value(f"eyeBlink{side}"),
            value(f"eyeLookDown{side}"),
            value(f"eyeLookIn{side}") - value(f"eyeLookOut{side}"),
            value(f"eyeLookUp{side}"),
            value(f"eyeSquint{side}"),
            value(f"eyeWide{side}"),
        ]
        for side in ("Left", "Right")
    ]
    return (
        np.array(mouth, np.float32),
        np.array(eyes[0], np.float32),
        np.array(eyes[1], np.float32),
    )
