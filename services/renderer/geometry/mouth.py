"""The inside of the mouth, drawn: teeth, gums, tongue and cavity in the photo's light."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit

from talkingface.renderer.arrays import Float32Array, Uint8Image
from talkingface.renderer.face.model import PARTS, FaceModel

MILLIMETRES = 133.8  # in a face width of the mean head
# Where one tooth ends and the next begins, millimetres along the arch from the middle
# (mean mesiodistal widths, Wheeler's Dental Anatomy).
UPPER_TEETH = np.array([0.0, 8.5, 15.0, 22.5, 29.5, 36.0, 46.0], np.float32)
LOWER_TEETH = np.array([0.0, 5.0, 10.5, 17.5, 24.5, 31.5, 42.5], np.float32)
TOOTH = np.array([0.97, 0.92, 0.82], np.float32)  # reflectance
CROWN = 10.0  # millimetres of a front tooth outside the gum
SKIN, CAVITY, TONGUE = PARTS.index("skin"), PARTS.index("cavity"), PARTS.index("tongue")
UPPER, LOWER = PARTS.index("teeth_upper"), PARTS.index("teeth_lower")
DEPTH = 0.16  # face widths behind the lips at which light on teeth has fallen to 1/e
WIDE_OPEN = 0.03  # height of the lips' opening, face widths, that lets all light in
REACH = 0.05  # face widths to each side from where light gets in
TONGUE_HALF = 21.7  # millimetres
ARCH_TURN = 24.0  # millimetres along the arch in which it turns by a radian
BOUNCED = 0.07  # light reflected by the walls
REDDISH = (-0.2, 0.1, 0.2)  # what has bounced is red: powers of the light, for RGB


@dataclass(frozen=True)
class MouthPaint:
    """Colours of the mouth's inside in a photo's light, RGB 0..255."""

    tooth: Float32Array
    gum: Float32Array
    tongue: Float32Array
    cavity: Float32Array


def mouth_paint(white: Float32Array, saturation: float) -> MouthPaint:
    """Colours under a light in which white looks like `white` (3,); saturation 0 = grey photo."""

    def shade(*reflectance: float) -> Float32Array:
        colour = white * np.array(reflectance)
        grey = colour @ np.array([0.299, 0.587, 0.114])
        return (grey + saturation * (colour - grey)).astype(np.float32)

    return MouthPaint(
        tooth=shade(*TOOTH),
        gum=shade(0.62, 0.33, 0.32),
        tongue=shade(0.62, 0.33, 0.31),
        cavity=shade(0.25, 0.09, 0.08),
    )


def tooth_coordinates(model: FaceModel) -> Float32Array:
    """(V, 2) millimetres along the arch from the middle, and above the biting edge.

    On the tongue: from the middle, and behind the tip.
    """
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
    tongue = model.part_vertices("tongue")
    place = model.mean[tongue]
    out[tongue, 0] = place[:, 0] * MILLIMETRES
    out[tongue, 1] = (place[:, 2].max() - place[:, 2]) * MILLIMETRES
    return out


@njit(cache=True, fastmath=True)
def _smooth(low: float, high: float, x: float) -> float:
    t = min(max((x - low) / (high - low), 0.0), 1.0)
    return t * t * (3 - 2 * t)


@njit(cache=True, fastmath=True)
def light_between(opened: float) -> float:
    """How much light a mouth lets in that stands open by a height in face widths, 0..1."""
    return 0.07 + 0.93 * _smooth(0.0, WIDE_OPEN, opened)


@njit(cache=True)
def openings(part: Uint8Image, unit: float, out: Float32Array) -> None:
    """Where in each column of pixels the mouth's inside begins, ends, and how high it stands open.

    :param part: (H, W) index into PARTS, 255 nothing; unit: pixels a face width.
    :param out: (3, W): first row, last row, height in face widths, smooth along the lips.
    """
    height, width = part.shape
    for x in range(width):
        first, last = height, -1
        for y in range(height):
            if part[y, x] != 0 and part[y, x] != 255:
                if first == height:
                    first = y
                last = y
        out[0, x], out[1, x] = first, last
    reach = int(REACH * unit) + 1
    for x in range(width):
        total = 0.0
        weight = 0.0
        for d in range(-reach, reach + 1):
            w = 1.0 - abs(d) / (reach + 1.0)
            weight += w
            if 0 <= x + d < width and out[1, x + d] >= 0:
                total += w * (out[1, x + d] - out[0, x + d] + 1.0)
        out[2, x] = total / (weight * unit)


@njit(cache=True, fastmath=True)
def paint_inside(
    part: Uint8Image,
    carried: Float32Array,
    opened: Float32Array,
    unit: float,
    boundaries: Float32Array,
    colours: Float32Array,
    lit: Float32Array,
    out: Float32Array,
) -> None:
    """Colour every pixel that shows the mouth's inside.

    :param part: (H, W) index into PARTS; pixels of skin (and 255, nothing) are left alone.
    :param carried: (H, W, 6): along the arch (mm), above the edge (mm; of the tongue: behind its
        tip), depth behind the lips (face widths), surface normal.
    :param opened: (3, W) from `openings`; unit: pixels a face width.
    :param boundaries: (2, N) tooth boundaries of the upper and lower jaw.
    :param colours: (4, 3) RGB 0..255 of tooth, gum, tongue, cavity.
    :param lit: (H, W) out: how much light gets in, 0..1.
    :param out: (H, W, 3) float, RGB 0..255.
    """
    height, width = part.shape
    for y in range(height):
        for x in range(width):
            p = part[y, x]
            if p == 0 or p == 255:
                continue
            along, above = abs(carried[y, x, 0]), carried[y, x, 1]
            depth = max(carried[y, x, 2], 0.0)
            ny, nz = carried[y, x, 4], carried[y, x, 5]
            below_lip = (y - opened[0, x]) / unit
            above_lip = (opened[1, x] - y) / unit
            # Light comes in between the lips, and the upper one throws its shadow.
            light = light_between(opened[2, x])
            light *= 0.6 + 0.4 * _smooth(-0.008, 0.035, below_lip)
            light *= 0.82 + 0.18 * _smooth(-0.006, 0.02, above_lip)
            lit[y, x] = light
            if p in (UPPER, LOWER):
                light *= np.exp(-depth / DEPTH)
                row = boundaries[0 if p == UPPER else 1]
                gap = 100.0
                for b in row:
                    gap = min(gap, abs(along - b))
                crown = CROWN - 0.06 * along
                edge = 0.5 * np.exp(-((gap / 0.9) ** 2))
                line = crown - 1.6 * np.exp(-((gap / 1.6) ** 2))
                enamel = _smooth(edge - 0.35, edge + 0.35, above)
                gums = _smooth(line - 0.5, line + 0.5, above)
                fissure, bulge = np.exp(-((gap / 0.45) ** 2)), np.exp(-((gap / 2.0) ** 2))
                round_ = 1 - 0.20 * fissure - 0.10 * bulge
                # Enamel turns clearer at the biting edge and yellower at the neck.
                tip = 0.88 + 0.12 * _smooth(0.0, 2.5, above)
                turned = 0.6 + 0.4 * np.cos(min(along / ARCH_TURN, 1.5))
                for k in range(3):
                    neck = 1.0 - (0.03 + 0.04 * k) * _smooth(4.0, 9.0, above)
                    colour = colours[0, k] * round_ * tip * neck * turned
                    colour = colour * (1 - gums) + colours[1, k] * gums
                    colour = colours[3, k] * 0.8 * (1 - enamel) + colour * enamel
                    out[y, x, k] = colour * light
            elif p == TONGUE:
                # Round to both sides, a groove in the middle, in the dark at its root.
                side = carried[y, x, 0] / TONGUE_HALF
                groove = 0.16 * np.exp(-((along / 2.6) ** 2)) * _smooth(3.0, 14.0, above)
                lean = max(min(0.55 * nz + 0.75 * ny, 1.0), 0.0)
                form = (0.55 + 0.6 * lean) * (1 - 0.35 * side * side) * (1 - groove)
                root = np.exp(-max(above - 8.0, 0.0) / 30.0)
                # Wet: light glances off where the tip bends towards the viewer.
                shine = np.exp(-(((above - 5.0) / 3.0) ** 2) - ((along - 6.0) / 3.5) ** 2)
                light *= np.exp(-0.3 * depth / DEPTH)
                for k in range(3):
                    red = 0.75 if k == 0 else 1.0
                    colour = colours[2, k] * form * root**red + 0.12 * colours[0, k] * shine
                    out[y, x, k] = colour * light
            else:
                # Gums and cheeks near the lips, darkness towards the throat.
                near = np.exp(-depth / 0.05)
                far = 0.1 + 0.9 * np.exp(-depth / 0.2)
                dim = np.exp(-depth / 0.15)
                for k in range(3):
                    wall = colours[3, k] * far + 0.1 * colours[1, k] * dim
                    colour = colours[1, k] * 0.85 * near + wall * (1 - near)
                    out[y, x, k] = colour * light
            # What little light there is has bounced off red walls.
            walls = BOUNCED * np.exp(-depth / DEPTH)
            for k in range(3):
                out[y, x, k] = out[y, x, k] * light ** REDDISH[k] + walls * colours[1, k]
