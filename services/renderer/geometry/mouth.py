"""The inside of the mouth, drawn: teeth, gums, tongue and cavity in the photo's light."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numba import njit

from talkingface.renderer.arrays import Float32Array, Uint8Image
from talkingface.renderer.face.model import PARTS, FaceModel
from talkingface.renderer.geometry.topology import SKIN

TONGUE = PARTS.index("tongue")
UPPER, LOWER = PARTS.index("teeth_upper"), PARTS.index("teeth_lower")
NOTHING = 255  # instead of a part, where a pixel shows none

MILLIMETRES = 133.8  # in a face width of the mean head
# Where one tooth ends and the next begins, millimetres along the arch from the middle
# (mean mesiodistal widths, Wheeler's Dental Anatomy).
UPPER_TEETH = np.array([0.0, 8.5, 15.0, 22.5, 29.5, 36.0, 46.0], np.float32)
LOWER_TEETH = np.array([0.0, 5.0, 10.5, 17.5, 24.5, 31.5, 42.5], np.float32)

# Reflectances (RGB, 0..1) and all that follows: by eye.
TOOTH = np.array([0.97, 0.92, 0.82], np.float32)
GUM, TONGUE_SURFACE, WALL = (0.62, 0.33, 0.32), (0.62, 0.33, 0.31), (0.25, 0.09, 0.08)

# Light. It comes in between the lips, and the upper one throws its shadow.
SHUT_LIGHT, OPEN_LIGHT = 0.07, 0.93  # through shut lips, and what an open mouth adds
WIDE_OPEN = 0.03  # height of the lips' opening, face widths, at which all light enters
OPENING_REACH = 0.05  # face widths to each side from where light gets in
# Share of the light that passes each lip right beside it, and that joins it further away; distance
# from the upper lip downwards, from the lower one upwards, over which it does, face widths.
UPPER_LIGHT, UPPER_REACH = (0.6, 0.4), (-0.008, 0.035)
LOWER_LIGHT, LOWER_REACH = (0.82, 0.18), (-0.006, 0.02)
DEPTH = 0.16  # face widths behind the lips at which light on teeth has fallen to 1/e
BOUNCED = 0.07  # light reflected by the walls
REDDENING = (-0.2, 0.1, 0.2)  # what has bounced is red: powers of the light, for RGB

# Teeth, in millimetres.
CROWN, CROWN_TAPER = 10.0, 0.06  # of a front tooth outside the gum; less for each along the arch
CORNER, CORNER_REACH = 0.5, 0.9  # rounding of the biting edge beside a gap between teeth
PAPILLA, PAPILLA_REACH = 1.6, 1.6  # by which the gum comes down between two teeth
EDGE_SOFTNESS, GUM_SOFTNESS = 0.35, 0.5
FISSURE_SHADE, FISSURE_REACH = 0.20, 0.45  # the dark line between two teeth
BULGE_SHADE, BULGE_REACH = 0.10, 2.0  # a tooth's rounding towards its sides
TIP_SHADE, TIP_REACH = 0.12, 2.5  # enamel turns clearer at the biting edge ...
NECK_SHADE, NECK_TINT, NECK = 0.03, 0.04, (4.0, 9.0)  # ... and yellower at the neck: for R, by RGB
ARCH_SHADE = 0.4  # of the teeth that look aside
ARCH_TURN, ARCH_END = 24.0, 1.5  # along the arch in which it turns by a radian; radians at most
BEHIND_TEETH = 0.8  # of the cavity's colour, where teeth end

# Tongue, in millimetres.
TONGUE_HALF = 21.7  # its half width
GROOVE_SHADE, GROOVE_REACH, GROOVE = 0.16, 2.6, (3.0, 14.0)  # in the middle, from behind the tip
LIGHT_FRONT, LIGHT_ABOVE = 0.55, 0.75  # direction of the light on it
TONGUE_AMBIENT, TONGUE_DIFFUSE, TONGUE_SIDE_SHADE = 0.55, 0.6, 0.35
ROOT, ROOT_REACH, ROOT_RED = 8.0, 30.0, 0.75  # darkness from behind the tip; power for red
# Wet: light glances off where the tip bends towards the viewer.
SHINE, SHINE_BEHIND, SHINE_ASIDE = 0.12, (5.0, 3.0), (6.0, 3.5)  # strength; middle and spread
TONGUE_DEPTH = 0.3  # of the teeth's darkening with depth

# Walls, in face widths behind the lips.
GUM_REACH, GUM_SHADE = 0.05, 0.85  # gums and cheeks near the lips
WALL_FAR, WALL_NEAR, WALL_REACH = 0.1, 0.9, 0.2  # darkness towards the throat
WALL_RED, WALL_RED_REACH = 0.1, 0.15  # light that the gums throw on the walls


@dataclass(frozen=True)
class MouthColours:
    """Colours of the mouth's inside in a photo's light, RGB 0..255."""

    tooth: Float32Array
    gum: Float32Array
    tongue: Float32Array
    cavity: Float32Array


class Palette(NamedTuple):
    """`MouthColours` as compiled code takes them, (3,) each."""

    tooth: Float32Array
    gum: Float32Array
    tongue: Float32Array
    cavity: Float32Array


class MouthPixels(NamedTuple):
    """What the pixels (H, W) of a mouth show."""

    part: Uint8Image  # (H, W) index into PARTS; skin and NOTHING are left alone
    # (H, W, 6): along the arch (mm), above the edge (mm; of the tongue: behind its tip), depth
    # behind the lips (face widths), surface normal.
    coordinates: Float32Array
    opening: Float32Array  # (3, W), see `openings`
    unit: float  # pixels a face width
    upper_teeth: Float32Array  # boundaries along the arch, mm
    lower_teeth: Float32Array


def mouth_colours(white: Float32Array, saturation: float) -> MouthColours:
    """Colours under a light in which white looks like `white` (3,); saturation 0 = grey photo."""

    def lit(reflectance: Float32Array | tuple[float, float, float]) -> Float32Array:
        colour = white * np.array([*reflectance])
        grey = colour @ np.array([0.299, 0.587, 0.114])
        lit: Float32Array = (grey + saturation * (colour - grey)).astype(np.float32)
        return lit

    return MouthColours(lit(TOOTH), lit(GUM), lit(TONGUE_SURFACE), lit(WALL))


def mouth_coordinates(model: FaceModel) -> Float32Array:
    """(V, 2) millimetres along the dental arch from the middle, and above the biting edge.

    On the tongue: from the middle, and behind the tip.
    """
    out = np.zeros((len(model.mean), 2), np.float32)
    for name, up in (("teeth_upper", 1.0), ("teeth_lower", -1.0)):
        vertices = model.part_vertices(name)
        position = model.mean[vertices]
        out[vertices, 0] = _along_arch(position) * MILLIMETRES
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


@njit(cache=True, fastmath=True)
def _smooth(low: float, high: float, x: float) -> float:
    """Hermite step from 0 at `low` to 1 at `high`."""
    t = min(max((x - low) / (high - low), 0.0), 1.0)
    return t * t * (3 - 2 * t)


@njit(cache=True, fastmath=True)
def light_between(opening: float) -> float:
    """How much light enters a mouth that is open by a height in face widths, 0..1."""
    return SHUT_LIGHT + OPEN_LIGHT * _smooth(0.0, WIDE_OPEN, opening)


@njit(cache=True, fastmath=True)
def _beside_lip(light: tuple[float, float], reach: tuple[float, float], distance: float) -> float:
    """Share of the light at a distance from a lip, face widths."""
    return light[0] + light[1] * _smooth(reach[0], reach[1], distance)


@njit(cache=True)
def openings(part: Uint8Image, unit: float, out: Float32Array) -> None:
    """Measure in each column of pixels where the mouth's inside begins, ends, and how high it is.

    :param part: (H, W) index into PARTS or NOTHING.
    :param unit: pixels a face width.
    :param out: (3, W): first row, last row, height in face widths, smooth along the lips.
    """
    height, width = part.shape
    for x in range(width):
        first, last = height, -1
        for y in range(height):
            if part[y, x] != SKIN and part[y, x] != NOTHING:
                if first == height:
                    first = y
                last = y
        out[0, x], out[1, x] = first, last
    reach = int(OPENING_REACH * unit) + 1
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
    mouth: MouthPixels, palette: Palette, light_map: Float32Array, out: Float32Array
) -> None:
    """Colour every pixel that shows the mouth's inside.

    :param light_map: (H, W) out: how much light gets in, 0..1.
    :param out: (H, W, 3) out: RGB 0..255.
    """
    part, coordinates, opening = mouth.part, mouth.coordinates, mouth.opening
    height, width = part.shape
    for y in range(height):
        for x in range(width):
            p = part[y, x]
            if p in (SKIN, NOTHING):
                continue
            below_lip = (y - opening[0, x]) / mouth.unit
            above_lip = (opening[1, x] - y) / mouth.unit
            light = light_between(opening[2, x])
            light *= _beside_lip(UPPER_LIGHT, UPPER_REACH, below_lip)
            light *= _beside_lip(LOWER_LIGHT, LOWER_REACH, above_lip)
            light_map[y, x] = light
            depth = max(coordinates[y, x, 2], 0.0)
            if p == UPPER:
                light = _tooth(palette, mouth.upper_teeth, coordinates[y, x], light, out[y, x])
            elif p == LOWER:
                light = _tooth(palette, mouth.lower_teeth, coordinates[y, x], light, out[y, x])
            elif p == TONGUE:
                light = _tongue(palette, coordinates[y, x], light, out[y, x])
            else:
                _cavity(palette, depth, light, out[y, x])
            # What little light there is has bounced off red walls.
            walls = BOUNCED * np.exp(-depth / DEPTH)
            for k in range(3):
                out[y, x, k] = out[y, x, k] * light ** REDDENING[k] + walls * palette.gum[k]


@njit(cache=True, fastmath=True)
def _tooth(
    palette: Palette,
    boundaries: Float32Array,
    coordinates: Float32Array,
    light: float,
    out: Float32Array,
) -> float:
    """Write the colour (3,) of a tooth and the gum above it; the light that reaches it.

    :param boundaries: between the jaw's teeth, mm along the arch.
    :param coordinates: (6,) as in `MouthPixels`.
    """
    along, above = abs(coordinates[0]), coordinates[1]
    depth = max(coordinates[2], 0.0)
    light *= np.exp(-depth / DEPTH)
    gap = 100.0  # millimetres to the nearest boundary
    for b in boundaries:
        gap = min(gap, abs(along - b))
    crown = CROWN - CROWN_TAPER * along
    edge = CORNER * np.exp(-((gap / CORNER_REACH) ** 2))
    line = crown - PAPILLA * np.exp(-((gap / PAPILLA_REACH) ** 2))
    enamel = _smooth(edge - EDGE_SOFTNESS, edge + EDGE_SOFTNESS, above)
    gums = _smooth(line - GUM_SOFTNESS, line + GUM_SOFTNESS, above)
    fissure = np.exp(-((gap / FISSURE_REACH) ** 2))
    bulge = np.exp(-((gap / BULGE_REACH) ** 2))
    form = 1 - FISSURE_SHADE * fissure - BULGE_SHADE * bulge
    tip = (1 - TIP_SHADE) + TIP_SHADE * _smooth(0.0, TIP_REACH, above)
    turned = (1 - ARCH_SHADE) + ARCH_SHADE * np.cos(min(along / ARCH_TURN, ARCH_END))
    for k in range(3):
        neck = 1.0 - (NECK_SHADE + NECK_TINT * k) * _smooth(NECK[0], NECK[1], above)
        colour = palette.tooth[k] * form * tip * neck * turned
        colour = colour * (1 - gums) + palette.gum[k] * gums
        colour = palette.cavity[k] * BEHIND_TEETH * (1 - enamel) + colour * enamel
        out[k] = colour * light
    return light


@njit(cache=True, fastmath=True)
def _tongue(palette: Palette, coordinates: Float32Array, light: float, out: Float32Array) -> float:
    """Write the colour (3,) of the tongue; the light that reaches it.

    Round to both sides, a groove in the middle, in the dark at its root.

    :param coordinates: (6,) as in `MouthPixels`.
    """
    along, behind = abs(coordinates[0]), coordinates[1]
    depth = max(coordinates[2], 0.0)
    side = coordinates[0] / TONGUE_HALF
    groove = GROOVE_SHADE * np.exp(-((along / GROOVE_REACH) ** 2))
    groove = groove * _smooth(GROOVE[0], GROOVE[1], behind)
    facing = LIGHT_FRONT * coordinates[5] + LIGHT_ABOVE * coordinates[4]
    facing = max(min(facing, 1.0), 0.0)
    form = (TONGUE_AMBIENT + TONGUE_DIFFUSE * facing) * (1 - TONGUE_SIDE_SHADE * side * side)
    form = form * (1 - groove)
    root = np.exp(-max(behind - ROOT, 0.0) / ROOT_REACH)
    shine = np.exp(
        -(((behind - SHINE_BEHIND[0]) / SHINE_BEHIND[1]) ** 2)
        - ((along - SHINE_ASIDE[0]) / SHINE_ASIDE[1]) ** 2
    )
    light *= np.exp(-TONGUE_DEPTH * depth / DEPTH)
    for k in range(3):
        power = ROOT_RED if k == 0 else 1.0
        colour = palette.tongue[k] * form * root**power + SHINE * palette.tooth[k] * shine
        out[k] = colour * light
    return light


@njit(cache=True, fastmath=True)
def _cavity(palette: Palette, depth: float, light: float, out: Float32Array) -> None:
    """Write the colour (3,) of the mouth's walls, `depth` face widths behind the lips."""
    near = np.exp(-depth / GUM_REACH)
    far = WALL_FAR + WALL_NEAR * np.exp(-depth / WALL_REACH)
    dim = np.exp(-depth / WALL_RED_REACH)
    for k in range(3):
        wall = palette.cavity[k] * far + WALL_RED * palette.gum[k] * dim
        colour = palette.gum[k] * GUM_SHADE * near + wall * (1 - near)
        out[k] = colour * light
