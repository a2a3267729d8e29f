"""The side of a turned portrait that the photo hides, made from the side that it shows.

The head is drawn nearly from the front, once for a portrait. Skin that the photo shows badly or not
at all is replaced there by the mirrored skin of the other side, in the light of its surroundings;
the vertices have texture coordinates in this image as they have in the photo.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from talkingface.renderer.arrays import BoolArray, Float32Array, Uint8Image, Uint32Array
from talkingface.renderer.face.camera import Camera
from talkingface.renderer.face.model import rotation_matrix
from talkingface.renderer.face.pyramid_fill import fill_outside
from talkingface.renderer.geometry.diffusion import smooth
from talkingface.renderer.geometry.frame import FRAME, bounding_box
from talkingface.renderer.geometry.rasterizer import draw_mesh
from talkingface.renderer.geometry.surface import smoothstep, vertex_normals
from talkingface.renderer.geometry.topology import topology
from talkingface.renderer.opencv import cv
from talkingface.renderer.pixels.packed import pack

# All by eye.
TURNED = 14.0  # degrees of a photo's yaw from which a side counts as hidden
SEEN = (0.25, 0.6)  # cosine towards the camera over which the photo's own skin comes in
EDGE = 9  # pixels about a point that have to be the person's
MARGIN = 8  # pixels around the head in the texture
LIGHT = 0.08  # face widths: what is larger than this is light, not skin
LIGHT_CHANGE, LIGHT_FLOOR = (0.45, 2.0), 4.0  # factor on mirrored skin; levels added to both
SURE = (0.8, 1.0)  # weight of the photo's own skin over which its light is known
MIRRORED = (0.1, 0.4)  # weight of the mirrored skin over which it is usable


@dataclass(frozen=True)
class OccludedSide:
    """A texture of the head from the front, complete, and how it is used."""

    texture: Uint32Array  # (h, w) packed
    uv: Float32Array  # (V, 2) where in it each vertex is
    weight: Float32Array  # (V,) how much of a vertex's colour it gives when the side turns up
    occluded: Float32Array  # (2,) 1 where the viewer's left, right side is hidden in the photo


def occluded_side(
    frame: Uint8Image,
    matte: Float32Array,
    vertices: Float32Array,
    source: Float32Array,
    camera: Camera,
    unseen: BoolArray,
) -> OccludedSide:
    """Complete the hidden side of a portrait.

    :param matte: (512, 512) opacity of the person.
    :param vertices: (V, 3) as photographed, unposed.
    :param source: (V, 3) the same in the photo, pixels and depth.
    :param unseen: (V,) which vertices lie behind others in the photo.
    """
    shape = topology()
    pitch, yaw, roll = (float(a) for a in camera.angles[0])
    occluded = np.array([yaw < -TURNED, yaw > TURNED], np.float32)
    if not occluded.any():
        nowhere, none = np.zeros((len(source), 2), np.float32), np.zeros(len(source), np.float32)
        return OccludedSide(pack(frame[:1, :1]), nowhere, none, occluded)
    facing = (vertex_normals(vertices) @ camera.rotation[0].T)[:, 2]
    seen = _seen(matte, source, facing, unseen)
    front = Camera(rotation_matrix(pitch, 0.0, roll)[None], camera.scale, camera.translation)
    points = front.project(vertices[None])[0]
    left, top, right, bottom = bounding_box(points[shape.face_vertices], MARGIN)
    points[:, :2] -= (left, top)
    columns = [source[:, :2], source[shape.mirror, :2], seen[:, None], seen[shape.mirror, None]]
    size = (bottom - top, right - left)
    ids, _, values = draw_mesh(points, shape.face, size, np.concatenate(columns, 1))
    covered = ids >= 0
    own, mirrored = _sample(frame, values[..., :2]), _sample(frame, values[..., 2:4])
    own_weight, mirrored_weight = values[..., 4] * covered, values[..., 5] * covered
    lit = _in_light_of(
        own, mirrored, own_weight, mirrored_weight, covered, LIGHT * float(camera.scale[0])
    )
    mixed = lit + own_weight[..., None] * (own - lit)
    known = np.maximum(own_weight, smoothstep(*MIRRORED, mirrored_weight))
    texture = fill_outside(mixed, known)
    return OccludedSide(
        pack(np.clip(texture + 0.5, 0, 255).astype(np.uint8)),
        np.ascontiguousarray(points[:, :2]),
        (1 - seen).astype(np.float32),
        occluded,
    )


def _seen(
    matte: Float32Array, source: Float32Array, facing: Float32Array, unseen: BoolArray
) -> Float32Array:
    """How well the photo shows each vertex, (V,) 0..1; arguments as for `occluded_side`.

    :param facing: (V,) cosines towards the camera.
    """
    # Close to the outline the fit may already be beside the face.
    reach = np.ones((EDGE, EDGE), np.uint8)
    x, y = source[:, :2].round().astype(int).clip(0, FRAME - 1).T
    clear = cv.blur(cv.erode((matte > 0.5).astype(np.float32), reach), (5, 5))[y, x]
    seen = smoothstep(*SEEN, facing) * ~unseen * clear
    seen = np.clip(smooth(seen[:, None].astype(np.float32), 4)[:, 0], 0, 1)
    limited: Float32Array = np.minimum(seen, smoothstep(*SEEN, facing) * clear)
    return limited


def _in_light_of(
    own: Float32Array,
    mirrored: Float32Array,
    own_weight: Float32Array,
    mirrored_weight: Float32Array,
    covered: BoolArray,
    sigma: float,
) -> Float32Array:
    """Mirrored skin in the light of the seen side, which in the large goes on over the hidden one.

    :param own: and `mirrored`, (h, w, 3) colours with their weights (h, w).
    :param covered: (h, w) where the head is.
    :param sigma: pixels over which light is averaged.
    """
    head = covered.astype(np.float32)
    wanted = _blurred(fill_outside(own, smoothstep(*SURE, own_weight)), head, sigma)
    there = _blurred(fill_outside(mirrored, mirrored_weight), head, sigma)
    change = np.clip((wanted + LIGHT_FLOOR) / (there + LIGHT_FLOOR), *LIGHT_CHANGE)
    lit: Float32Array = (mirrored + LIGHT_FLOOR) * change - LIGHT_FLOOR
    return lit


def _sample(frame: Uint8Image, uv: Float32Array) -> Float32Array:
    """Colours (h, w, 3) of the frame at pixels (h, w, 2) of it."""
    at = np.ascontiguousarray(uv)
    colours = cv.remap(frame, at, None, cv.INTER_CUBIC, borderMode=cv.BORDER_REFLECT_101)
    sampled: Float32Array = colours.astype(np.float32)
    return sampled


def _blurred(image: Float32Array, weight: Float32Array, sigma: float) -> Float32Array:
    """Mean colours (H, W, 3) around each pixel, of those with weight (H, W)."""
    total = cv.GaussianBlur(image * weight[..., None], (0, 0), sigma)
    mean: Float32Array = total / (cv.GaussianBlur(weight, (0, 0), sigma) + 1e-3)[..., None]
    return mean
