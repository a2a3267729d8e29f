"""The inside of the mouth, drawn: teeth, gums, tongue and cavity in the photo's light."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from talkingface.renderer.face_model import PARTS, FaceModel

Array = NDArray[np.float32]
Image = NDArray[np.uint8]

MILLIMETRES = 133.8  # in a face width of the mean head
# Where one tooth ends and the next begins, millimetres along the arch from the middle
# (mean mesiodistal widths, Wheeler's Dental Anatomy).
UPPER_TEETH = np.array([0.0, 8.5, 15.0, 22.5, 29.5, 36.0, 46.0], np.float32)
LOWER_TEETH = np.array([0.0, 5.0, 10.5, 17.5, 24.5, 31.5, 42.5], np.float32)
CROWN = 10.0  # millimetres of a front tooth outside the gum
SKIN, CAVITY, TONGUE = PARTS.index("skin"), PARTS.index("cavity"), PARTS.index("tongue")
UPPER, LOWER = PARTS.index("teeth_upper"), PARTS.index("teeth_lower")
DEPTH = 0.16  # face widths behind the lips at which light has fallen to 1/e


@dataclass(frozen=True)
class MouthPaint:
    """Colours of the mouth's inside in a photo's light, RGB 0..255."""

    tooth: Array
    gum: Array
    tongue: Array
    cavity: Array


def mouth_paint(white: Array, saturation: float) -> MouthPaint:
    """Colours under a light in which white looks like `white` (3,); saturation 0 = grey photo."""

    def shade(*reflectance: float) -> Array:
        colour = white * np.array(reflectance)
        grey = colour @ np.array([0.299, 0.587, 0.114])
        return (grey + saturation * (colour - grey)).astype(np.float32)

    return MouthPaint(
        tooth=shade(0.97, 0.92, 0.82),
        gum=shade(0.62, 0.33, 0.32),
        tongue=shade(0.62, 0.33, 0.31),
        cavity=shade(0.25, 0.09, 0.08),
    )


def tooth_coordinates(model: FaceModel) -> Array:
    """(V, 2) millimetres along the arch from the middle, and above the biting edge."""
    out = np.zeros((len(model.mean), 2), np.float32)
    for name, up in (("teeth_upper", 1.0), ("teeth_lower", -1.0)):
        vertices = model.part_vertices(name)
        place = model.mean[vertices]
        # The arch as seen from above is close to half an ellipse: measure along it.
        front, back = place[:, 2].max(), place[:, 2].min()
        angle = np.arctan2(
            place[:, 0] / np.abs(place[:, 0]).max(), (place[:, 2] - back) / (front - back)
        )
        grid = np.linspace(-np.pi / 2, np.pi / 2, 401)
        wide, deep = np.abs(place[:, 0]).max(), front - back
        step = np.hypot(wide * np.cos(grid), deep * np.sin(grid)) * (grid[1] - grid[0])
        arc = np.cumsum(step) - step / 2
        arc -= arc[200]
        out[vertices, 0] = np.interp(angle, grid, arc) * MILLIMETRES
        edge = place[:, 1].min() if up > 0 else place[:, 1].max()
        out[vertices, 1] = up * (place[:, 1] - edge) * MILLIMETRES
    return out


@njit(cache=True, fastmath=True)
def _smooth(low: float, high: float, x: float) -> float:
    t = min(max((x - low) / (high - low), 0.0), 1.0)
    return t * t * (3 - 2 * t)


@njit(cache=True, fastmath=True)
def paint_inside(
    part: NDArray[np.uint8],
    carried: Array,
    openness: Array,
    tooth: Array,
    gum: Array,
    tongue: Array,
    cavity: Array,
    boundaries: Array,
    out: Array,
) -> None:
    """Colour every pixel that shows the mouth's inside.

    :param part: (H, W) index into PARTS; pixels of skin (and 255, nothing) are left alone.
    :param carried: (H, W, 4): along the arch (mm), above the edge (mm), depth behind the lips
        (face widths), upward share of the surface normal.
    :param openness: (H, W) 0..1, how far a pixel lies from the lips' edge.
    :param boundaries: (2, N) tooth boundaries of the upper and lower jaw.
    :param out: (H, W, 3) float, RGB 0..255.
    """
    height, width = part.shape
    for y in range(height):
        for x in range(width):
            p = part[y, x]
            if p == 0 or p == 255:
                continue
            along, above = abs(carried[y, x, 0]), carried[y, x, 1]
            light = np.exp(-max(carried[y, x, 2], 0.0) / 0.16)
            light *= 0.25 + 0.75 * openness[y, x]
            # What little light there is has bounced off red walls.
            tinted = (light**0.8, light**1.15, light**1.15)
            if p in (UPPER, LOWER):
                row = boundaries[0 if p == UPPER else 1]
                gap = 100.0
                for b in row:
                    gap = min(gap, abs(along - b))
                crown = 10.0 - 0.06 * along
                edge = 0.4 * np.exp(-((gap / 0.8) ** 2))
                line = crown - 1.6 * np.exp(-((gap / 1.6) ** 2))
                enamel = _smooth(edge - 0.35, edge + 0.35, above)
                gums = _smooth(line - 0.5, line + 0.5, above)
                round_ = 1 - 0.17 * np.exp(-((gap / 0.5) ** 2)) - 0.10 * np.exp(-((gap / 2.0) ** 2))
                # Enamel turns clearer at the biting edge and yellower at the neck.
                tip = 0.90 + 0.10 * _smooth(0.0, 2.5, above)
                for k in range(3):
                    neck = 1.0 - (0.03 + 0.04 * k) * _smooth(4.0, 9.0, above)
                    colour = tooth[k] * round_ * tip * neck
                    colour = colour * (1 - gums) + gum[k] * gums
                    colour = cavity[k] * 0.8 * (1 - enamel) + colour * enamel
                    out[y, x, k] = colour * tinted[k]
            else:
                up = 0.6 + 0.4 * carried[y, x, 3]
                for k in range(3):
                    base = tongue[k] * up if p == TONGUE else cavity[k]
                    out[y, x, k] = base * tinted[k]
