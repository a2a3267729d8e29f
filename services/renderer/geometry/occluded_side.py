"""The side of a turned portrait that the photo hides, made from the side that it shows.

Once for a portrait the head is drawn nearly from the front. There, skin that the photo shows badly
or not at all is taken from the mirrored place, in the light of what is seen around; the vertices
know their places in this picture as they know those in the photo.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from talkingface.renderer.arrays import BoolArray, Float32Array, Uint8Image
from talkingface.renderer.face.camera import Camera
from talkingface.renderer.face.model import rotation_matrix
from talkingface.renderer.face.pyramid_fill import fill_outside
from talkingface.renderer.geometry.diffusion import smooth
from talkingface.renderer.geometry.frame import FRAME, bounding_box
from talkingface.renderer.geometry.rasterizer import interpolate_attributes, rasterize_mesh
from talkingface.renderer.geometry.surface import smoothstep, vertex_normals
from talkingface.renderer.geometry.topology import topology
from talkingface.renderer.opencv import cv

TURNED = 14.0  # degrees of a photo's yaw from which a side counts as hidden
SEEN = (0.25, 0.6)  # cosine towards the camera over which the photo's own skin comes in
EDGE = 9  # pixels about a point that have to be the person's
LIGHT = 0.08  # face widths: what is larger than this is light, not skin


@dataclass(frozen=True)
class HiddenSide:
    """A picture of the head from the front, complete, and how it is used."""

    picture: Uint8Image  # (h, w, 3)
    places: Float32Array  # (V, 2) where in it each vertex is
    share: Float32Array  # (V,) how much of a vertex's colour comes from it when the hidden side turns up
    hidden: Float32Array  # (2,) 1 where the viewer's left, right side is hidden in the photo


def hidden_side(
    frame: Uint8Image,
    matte: Float32Array,
    vertices: Float32Array,
    source: Float32Array,
    camera: Camera,
    unseen: BoolArray,
) -> HiddenSide:
    """Complete the hidden side of a portrait.

    :param matte: (512, 512) opacity of the person.
    :param vertices: (V, 3) as photographed, unposed; source (V, 3) the same in the photo.
    :param unseen: (V,) which vertices lie behind others in the photo.
    """
    shape = topology()
    pitch, yaw, roll = (float(a) for a in camera.angles[0])
    hidden = np.array([yaw < -TURNED, yaw > TURNED], np.float32)
    if not hidden.any():
        none = np.zeros(len(source), np.float32)
        return HiddenSide(
            frame[:1, :1].copy(), np.zeros((len(source), 2), np.float32), none, hidden
        )
    facing = (vertex_normals(vertices) @ camera.rotation[0].T)[:, 2]
    # Close to the outline the fit may already be beside the face.
    reach = np.ones((EDGE, EDGE), np.uint8)
    x, y = source[:, :2].round().astype(int).clip(0, FRAME - 1).T
    clear = cv.blur(cv.erode((matte > 0.5).astype(np.float32), reach), (5, 5))[y, x]
    seen = smoothstep(*SEEN, facing) * ~unseen * clear
    seen = np.clip(smooth(seen[:, None].astype(np.float32), 4)[:, 0], 0, 1)
    seen = np.minimum(seen, smoothstep(*SEEN, facing) * clear)
    front = Camera(rotation_matrix(pitch, 0.0, roll)[None], camera.scale, camera.translation)
    points = front.project(vertices[None])[0]
    left, top, right, bottom = bounding_box(points[shape.face_vertices], 8)
    points[:, :2] -= (left, top)
    ids, weights = rasterize_mesh(points, shape.face, bottom - top, right - left)
    covered = ids >= 0
    values = np.concatenate(
        [source[:, :2], source[shape.mirror, :2], seen[:, None], seen[shape.mirror, None]], 1
    )
    carried = interpolate_attributes(values, shape.face, ids, weights)
    own = _look(frame, carried[..., :2])
    other = _look(frame, carried[..., 2:4])
    own_share, other_share = carried[..., 4] * covered, carried[..., 5] * covered
    # In the large the light of the seen side goes on over the hidden one.
    sigma = LIGHT * float(camera.scale[0])
    sure = smoothstep(0.8, 1.0, own_share)
    wanted = _blurred(fill_outside(own, sure), covered.astype(np.float32), sigma)
    there = _blurred(fill_outside(other, other_share), covered.astype(np.float32), sigma)
    lit = (other + 4) * np.clip((wanted + 4) / (there + 4), 0.45, 2) - 4
    mixed = lit + own_share[..., None] * (own - lit)
    known = np.maximum(own_share, smoothstep(0.1, 0.4, other_share))
    picture = fill_outside(mixed, known)
    return HiddenSide(
        np.clip(picture + 0.5, 0, 255).astype(np.uint8),
        np.ascontiguousarray(points[:, :2]),
        (1 - seen).astype(np.float32),
        hidden,
    )


def _look(frame: Uint8Image, places: Float32Array) -> Float32Array:
    return cv.remap(
        frame, np.ascontiguousarray(places), None, cv.INTER_CUBIC, borderMode=cv.BORDER_REFLECT_101
    ).astype(np.float32)


def _blurred(image: Float32Array, weight: Float32Array, sigma: float) -> Float32Array:
    """Mean colours (H, W, 3) around each pixel, of those with weight (H, W)."""
    total = cv.GaussianBlur(image * weight[..., None], (0, 0), sigma)
    return total / (cv.GaussianBlur(weight, (0, 0), sigma) + 1e-3)[..., None]
