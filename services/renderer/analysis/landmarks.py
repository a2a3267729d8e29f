"""478 facial landmarks with irises: MediaPipe's attention mesh (Grishchenko et al. 2020,
arXiv 2006.10962).

The network looks at the upright face in 192 px. Its trunk gives a coarse mesh of 468 points and a
feature map; from that map, cut out around lips and eyes of the coarse mesh, three heads give the
precise lips, lids, brows and irises. Cutting out is done here (`_region_matrix`, `_sample`),
because the stock runtime lacks those operators.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from talkingface.renderer.analysis.tflite_graph import TfliteGraph
from talkingface.renderer.arrays import Float32Array, Float64Array, Uint8Image
from talkingface.renderer.opencv import cv

LANDMARKS, SKIN_LANDMARKS = 478, 468  # the last ten are the irises
_INPUT = 192
_MAP_STRIDE = 4  # pixels of the input for a cell of the feature map
_ROI_MARGIN = 1.5  # side of the network's region over the face's larger side, as in MediaPipe
_EYE_CORNERS = (33, 263)  # outer corners, from the viewer's left to right


@dataclass(frozen=True)
class Mesh:
    """A face's landmarks."""

    points: Float32Array  # (478, 3) image pixels; z relative, growing away from the viewer
    score: float  # 0..1, the network's that this is a face

    @property
    def box(self) -> tuple[float, float, float, float]:
        """The face oval's bounds (x0, y0, x1, y1): forehead to chin, ear to ear."""
        (x0, y0), (x1, y1) = self.points[:, :2].min(0), self.points[:, :2].max(0)
        return float(x0), float(y0), float(x1), float(y1)

    @property
    def size(self) -> float:
        """The larger side of the box in pixels."""
        x0, y0, x1, y1 = self.box
        return max(x1 - x0, y1 - y0)


class FaceMesher:
    """The attention mesh."""

    def __init__(self, folder: Path) -> None:
        """:param folder: holds `face_landmark_with_attention.tflite`."""
        graph = TfliteGraph(folder / "face_landmark_with_attention.tflite")
        self._trunk = graph.cut(["input_1"], ["output_mesh", "p_re_lu_3", "conv_faceflag"])
        crops = [f"transform_tensor_bilinear_v2{suffix}" for suffix in ("", "_1", "_2")]
        heads = ["lips", "left_eye", "left_iris", "right_eye", "right_iris"]
        self._heads = graph.cut(crops, [f"conv_{name}" for name in heads])
        matrices = [f"landmarks_to_transform_matrix_v2{suffix}" for suffix in ("", "_1", "_2")]
        self._regions = [graph.custom_options(name) for name in matrices]

    def __call__(
        self, image: Uint8Image, box: tuple[float, float, float, float], eyes: Float32Array
    ) -> Mesh:
        """Find the mesh of a face.

        Two passes: the first takes its region from the detector, the second from the mesh of the
        first, so that the result hardly depends on the detector.

        :param image: (H, W, 3) RGB.
        :param box: x0, y0, x1, y1 in its pixels.
        :param eyes: (2, 2) pixels, from the viewer's left to right.
        """
        mesh = self._pass(image, box, eyes)
        return self._pass(image, mesh.box, mesh.points[list(_EYE_CORNERS), :2])

    def _pass(
        self, image: Uint8Image, box: tuple[float, float, float, float], eyes: Float32Array
    ) -> Mesh:
        """Run the networks once; arguments as for `__call__`."""
        to_image = _input_matrix(box, eyes)
        patch = _cut_out(image, to_image, _INPUT)
        mesh, features, flag = self._trunk(patch[None].astype(np.float32) / 255)
        points = self._refined(mesh.reshape(SKIN_LANDMARKS, 3), features[0])
        points[:, :2] = points[:, :2] @ to_image[:, :2].T + to_image[:, 2]
        points[:, 2] *= max(box[2] - box[0], box[3] - box[1]) * _ROI_MARGIN / _INPUT
        score = 1 / (1 + np.exp(-np.clip(float(flag.squeeze()), -80, 80)))
        return Mesh(points, float(score))

    def _refined(self, mesh: Float32Array, features: Float32Array) -> Float32Array:
        """Landmarks (478, 3) in pixels of the network's input.

        :param mesh: (468, 3) of the trunk.
        :param features: (H, W, C) map of the trunk.
        """
        points = np.zeros((LANDMARKS, 3), np.float32)
        points[:SKIN_LANDMARKS] = mesh
        coarse = points[:SKIN_LANDMARKS] / _MAP_STRIDE
        matrices = [_region_matrix(coarse, options) for options in self._regions]
        parts = self._heads(*(_sample(features, m)[None] for m in matrices))
        for part, region, first_iris in ((0, 0, None), (1, 1, 468), (3, 2, 473)):
            indices = self._regions[region]["subset_idxs"]
            points[indices, :2] = _to_input(parts[part], matrices[region])
            if first_iris is not None:
                iris = slice(first_iris, first_iris + 5)
                points[iris, :2] = _to_input(parts[part + 1], matrices[region])
                points[iris, 2] = points[indices[:16], 2].mean()
        return points


def _input_matrix(box: tuple[float, float, float, float], eyes: Float32Array) -> Float64Array:
    """Pixel of the network's input to pixel of the image, (2, 3), upright by the eyes."""
    centre = np.array([box[0] + box[2], box[1] + box[3]]) / 2
    side = max(box[2] - box[0], box[3] - box[1]) * _ROI_MARGIN
    across = eyes[1] - eyes[0]
    angle = np.arctan2(across[1], across[0])
    axis = np.array([np.cos(angle), np.sin(angle)]) * side / _INPUT
    linear = np.array([[axis[0], -axis[1]], [axis[1], axis[0]]])
    return np.column_stack([linear, centre - linear @ np.full(2, _INPUT / 2)])


def _cut_out(image: Uint8Image, to_image: Float64Array, size: int) -> Uint8Image:
    """Cut a patch (size, size, 3) out of an image; a strongly reduced one is averaged, not sampled.

    :param to_image: (2, 3) pixel of the patch to pixel of the image.
    """
    step = float(np.hypot(*to_image[:, 0]))
    if step > 2:
        scale = 1.5 / step
        image = cv.resize(image, None, fx=scale, fy=scale, interpolation=cv.INTER_AREA)
        to_image = to_image * scale
    flags = cv.INTER_LINEAR | cv.WARP_INVERSE_MAP
    patch: Uint8Image = cv.warpAffine(image, to_image, (size, size), flags=flags)
    return patch


def _region_matrix(coarse: Float32Array, options: dict[str, Any]) -> Float32Array:
    """Map a cell of a region's 16x16 crop to a cell of the feature map: (2, 3).

    The crop is the bounding box of the region's points, turned so that the line between the two
    reference points lies level, and widened.

    :param coarse: (468, 3) mesh in cells of the feature map.
    """
    first, last = coarse[options["left_rotation_idx"]], coarse[options["right_rotation_idx"]]
    angle = np.arctan2(last[1] - first[1], last[0] - first[0])
    cos, sin = np.cos(angle), np.sin(angle)
    turn = np.array([[cos, -sin], [sin, cos]])
    level = coarse[options["subset_idxs"], :2] @ turn
    low, high = level.min(0), level.max(0)
    size = np.array([options["output_width"], options["output_height"]], np.float64)
    step = (high - low) * np.array([options["scale_x"], options["scale_y"]]) / size
    linear = turn * step
    return np.column_stack([linear, turn @ ((low + high) / 2) - linear @ (size / 2)])


def _sample(features: Float32Array, matrix: Float32Array, size: int = 16) -> Float32Array:
    """Sample a feature map (H, W, C) at the cells of a crop: (size, size, C), zero outside.

    Cell centres lie at half numbers, hence the shifts by a half.
    """
    cells = np.stack(np.meshgrid(np.arange(size), np.arange(size)), -1) + 0.5
    at = cells @ matrix[:, :2].T + matrix[:, 2] - 0.5
    height, width = features.shape[:2]
    inside = ((at >= 0) & (at <= [width - 1, height - 1])).all(-1)
    low = np.clip(np.floor(at).astype(int), 0, [width - 2, height - 2])
    (fx, fy), x, y = np.moveaxis(at - low, -1, 0)[..., None], low[..., 0], low[..., 1]
    upper = features[y, x] * (1 - fx) + features[y, x + 1] * fx
    lower = features[y + 1, x] * (1 - fx) + features[y + 1, x + 1] * fx
    sampled: Float32Array = np.where(inside[..., None], upper * (1 - fy) + lower * fy, 0)
    return sampled


def _to_input(head: Float32Array, matrix: Float32Array) -> Float32Array:
    """Map a head's points (1, 1, 1, 2 n) in its crop to pixels of the network's input: (n, 2)."""
    points: Float32Array = head.reshape(-1, 2) @ matrix[:, :2].T + matrix[:, 2] * _MAP_STRIDE
    return points
