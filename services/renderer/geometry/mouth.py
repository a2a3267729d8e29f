"""The inside of the mouth in a photo's light, and where on teeth and tongue its vertices lie."""

from __future__ import annotations

import numpy as np

from talkingface.renderer.arrays import Float32Array, Uint8Image
from talkingface.renderer.face.model import FaceModel
from talkingface.renderer.geometry.topology import SKIN, topology
from talkingface.renderer.pixels.mouth import Palette

MILLIMETRES = 133.8  # in a face width of the mean head
ARCH_WIDTH = 0.92  # of the face model's dental arches, the upper 67 mm wide; by eye
LIP_SKIN = 0.6  # weight of a lip from which its colour counts as the lips'; by eye

# Reflectances (RGB, 0..1), by eye.
TOOTH = np.array([0.97, 0.93, 0.86], np.float32)
GUM, TONGUE_SURFACE, WALL = (0.62, 0.33, 0.32), (0.62, 0.33, 0.31), (0.25, 0.09, 0.08)


def mouth_colours(white: Float32Array, saturation: float, lip: Float32Array) -> Palette:
    """Colours under a light in which white looks like `white` (3,).

    :param saturation: 0 = grey photo.
    :param lip: (3,) the photo's colour of the lips.
    """

    def lit(reflectance: Float32Array | tuple[float, float, float]) -> Float32Array:
        colour = white * np.array([*reflectance])
        grey = colour @ np.array([0.299, 0.587, 0.114])
        lit: Float32Array = (grey + saturation * (colour - grey)).astype(np.float32)
        return lit

    return Palette(lit(TOOTH), lit(GUM), lit(TONGUE_SURFACE), lit(WALL), lip)


def lip_colour(frame: Uint8Image, source: Float32Array, area: Float32Array) -> Float32Array:
    """The mean colour of a photo's lips, RGB 0..255, (3,).

    :param frame: (512, 512, 3) RGB.
    :param source: (V, 3) mesh as photographed, pixels and depth.
    :param area: (T,) signed area of its triangles, positive when facing the viewer.
    """
    shape, triangles = topology(), FaceModel.load().triangles
    lips = (shape.triangle_part == SKIN) & (shape.lip[triangles].min(1) > LIP_SKIN)
    size = np.maximum(area, 0) * lips
    middle = source[triangles, :2].mean(1).round().astype(int).clip(0, len(frame) - 1)
    colour: Float32Array = size @ frame[middle[:, 1], middle[:, 0]] / max(float(size.sum()), 1e-3)
    return colour.astype(np.float32)


def mouth_coordinates(model: FaceModel) -> Float32Array:
    """(V, 2) millimetres along the dental arch from the middle, and above the biting edge.

    On the tongue: from the middle, and behind the tip.
    """
    out = np.zeros((len(model.mean), 2), np.float32)
    for name, up in (("teeth_upper", 1.0), ("teeth_lower", -1.0)):
        vertices = model.part_vertices(name)
        position = model.mean[vertices]
        out[vertices, 0] = _along_arch(position) * ARCH_WIDTH * MILLIMETRES
        edge = position[:, 1].min() if up > 0 else position[:, 1].max()
        out[vertices, 1] = up * (position[:, 1] - edge) * MILLIMETRES
    tongue = model.part_vertices("tongue")
    position = model.mean[tongue]
    out[tongue, 0] = position[:, 0] * MILLIMETRES
    out[tongue, 1] = (position[:, 2].max() - position[:, 2]) * MILLIMETRES
    return out


def _along_arch(position: Float32Array) -> Float32Array:
    """How far vertices (N, 3) of a jaw's teeth lie along its arch, (N,) face widths.

    The arch as seen from above is close to half an ellipse: measure along it.
    """
    front, back = position[:, 2].max(), position[:, 2].min()
    wide, deep = np.abs(position[:, 0]).max(), front - back
    angle = np.arctan2(position[:, 0] / wide, (position[:, 2] - back) / deep)
    grid = np.linspace(-np.pi / 2, np.pi / 2, 401)
    step = np.hypot(wide * np.cos(grid), deep * np.sin(grid)) * (grid[1] - grid[0])
    arc = np.cumsum(step) - step / 2
    arc -= arc[200]
    along: Float32Array = np.interp(angle, grid, arc)
    return along
