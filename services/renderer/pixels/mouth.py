"""The inside of the mouth: teeth, gums, tongue and cavity in the photo's light; lips over it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from talkingface.renderer.arrays import Float32Array, Index, Int32Array, Pixel, Real, Uint32Array
from talkingface.renderer.face.model import PARTS
from talkingface.renderer.pixels.drawing import attribute, photo_pixel
from talkingface.renderer.pixels.shading import (
    bell,
    colour_of,
    cosine,
    decay,
    packed_pixel,
    share_of,
    smooth,
    tenth_power,
)
from talkingface.renderer.pixels.targets import device

_f = np.float32
_ZERO, _ONE, _TWO, _HALF = _f(0), _f(1), _f(2), _f(0.5)

# Attributes of the triangles drawn, after the photo's coordinates: along the arch (mm), above the
# edge (mm; of the tongue: behind its tip), depth behind the lips (face widths), two components of
# the surface's normal, weights of the lips' inner sides and of the lips.
ALONG, ABOVE, DEPTH, NORMAL_Y, NORMAL_Z, INNER_LIP, LIP = range(2, 9)
ATTRIBUTES = 9

SKIN = PARTS.index("skin")
# What the mouth's inside is drawn as; UPPER and LOWER: teeth.
UPPER, LOWER, TONGUE, WALL = range(4)
KINDS = 4
KIND_OF_PART = {"teeth_upper": UPPER, "teeth_lower": LOWER, "tongue": TONGUE}  # else WALL
OUTSIDE = -1  # instead of a kind, of skin

# Where one tooth ends and the next begins, millimetres along the arch from the middle
# (mean mesiodistal widths, Wheeler's Dental Anatomy).
UPPER_TEETH = tuple(_f(x) for x in (0.0, 8.5, 15.0, 22.5, 29.5, 36.0, 46.0))
LOWER_TEETH = tuple(_f(x) for x in (0.0, 5.0, 10.5, 17.5, 24.5, 31.5, 42.5))

# Light, by eye like all that follows. It comes in between the lips, and the upper one throws its
# shadow.
SHUT_LIGHT, OPEN_LIGHT = _f(0.07), _f(0.93)  # through shut lips, and what an open mouth adds
WIDE_OPEN = _f(0.024)  # height of the lips' opening, face widths, at which all light enters
OPENING_REACH = _f(0.05)  # face widths to each side from where light gets in
# Share of the light that passes each lip right beside it, and that joins it further away; distance
# from the upper lip downwards, from the lower one upwards, over which it does, face widths.
UPPER_LIGHT, UPPER_REACH = (_f(0.7), _f(0.3)), (_f(-0.006), _f(0.025))
LOWER_LIGHT, LOWER_REACH = (_f(0.82), _f(0.18)), (_f(-0.006), _f(0.02))
DARKENING = _f(0.2)  # face widths behind the lips at which light on teeth has fallen to 1/e
BOUNCED = _f(0.11)  # light reflected by the walls

# Teeth, in millimetres. Upper teeth follow the lower lip, the second ones are shorter, and the
# corners of their edges are the rounder the further back they stand.
CROWN, CROWN_TAPER = _f(11.5), _f(0.07)  # of a front tooth outside the gum; less along the arch
ARC, ARC_END = _f(0.0035), _f(26)  # rise of the edges, per mm, with `along` squared; to where
LATERAL, LATERAL_RISE, LATERAL_FALL = _f(0.45), (_f(8.2), _f(9)), (_f(14.4), _f(15.4))
CORNER, CORNER_MORE = _f(0.5), _f(0.02)  # rounding of the edge beside a gap; more along the arch
CORNER_REACH, CORNER_WIDER = _f(0.8), _f(0.015)
PAPILLA, PAPILLA_REACH = _f(2.2), _f(1.7)  # by which the gum comes down between two teeth
EDGE_SOFTNESS, GUM_SOFTNESS = _f(0.35), _f(0.5)
FISSURE_SHADE, FISSURE_REACH = _f(0.11), _f(0.4)  # the dark line between two teeth
BULGE_SHADE, BULGE_REACH = _f(0.16), _f(1.6)  # a tooth's rounding towards its sides
TIP_SHADE, TIP_REACH = _f(0.08), _f(2.2)  # enamel turns clearer at the biting edge
# It turns yellower at the neck: shade for red, green, blue; millimetres above the edge.
NECK_SHADE, NECK = (_f(0.04), _f(0.08), _f(0.13)), (_f(5), _f(11))
# Wet enamel: light glances off the round middle of a tooth. Strength; middle and spread above the
# edge; from the gaps.
GLINT, GLINT_ABOVE, GLINT_ASIDE = _f(0.14), (_f(6), _f(2.6)), _f(2.4)
ARCH_SHADE = _f(0.45)  # of the teeth that look aside
ARCH_TURN, ARCH_END = _f(24), _f(1.5)  # along the arch in which it turns by a radian; most radians
BEHIND_TEETH = _f(0.8)  # of the cavity's colour, where teeth end

# Tongue, in millimetres.
TONGUE_HALF = _f(21.7)  # its half width
GROOVE_SHADE, GROOVE_REACH = _f(0.16), _f(2.6)  # in the middle
GROOVE = (_f(3), _f(14))  # behind the tip, over which it begins
LIGHT_FRONT, LIGHT_ABOVE = _f(0.55), _f(0.75)  # direction of the light on it
TONGUE_AMBIENT, TONGUE_DIFFUSE, TONGUE_SIDE_SHADE = _f(0.55), _f(0.6), _f(0.35)
ROOT, ROOT_REACH, ROOT_RED = _f(10), _f(36), _f(0.75)  # darkness from behind the tip; power for red
# Wet: light glances off where the tip bends towards the viewer. Strength; middle and spread.
SHINE, SHINE_BEHIND, SHINE_ASIDE = _f(0.12), (_f(5), _f(3)), (_f(6), _f(3.5))
TONGUE_DEPTH = _f(0.3)  # of the teeth's darkening with depth

# Walls, in face widths behind the lips.
GUM_REACH, GUM_SHADE = _f(0.09), _f(0.8)  # gums and cheeks near the lips
WALL_FAR, WALL_NEAR, WALL_REACH = _f(0.2), _f(0.8), _f(0.2)  # darkness towards the throat
WALL_RED, WALL_RED_REACH = _f(0.1), _f(0.15)  # light that the gums throw on the walls
# Beside the corners, where the mouth is little open, cheeks lie against the teeth.
CHEEK, CHEEK_NEAR = (_f(0.09), _f(0.02)), _f(0.85)  # height of the opening; how much less deep

# Lips, and the photo's own mouth.
TURNED_SHADE = _f(0.2)  # by which the lips' inner sides are darker when they turn out
SLIT = _f(0.016)  # face widths of an opening that is a line rather than a mouth
SLIT_COLOUR = (_f(0.42), _f(0.34), _f(0.34))  # over the lips' own, RGB
LIP_DRAWN = (_f(0.3), _f(0.5))  # weight of a lip over which it comes to be drawn smoothly
TOOTH_DARK = (_f(0.4), _f(0.55))  # brightness over a tooth's over which the photo may show one
TOOTH_RED = (_f(0.72), _f(0.86))  # green for red over a tooth's, over which it is no lip or gum


class Palette(NamedTuple):
    """Colours of a mouth in the photo's light, RGB 0..255, (3,) each."""

    tooth: Float32Array
    gum: Float32Array
    tongue: Float32Array
    wall: Float32Array
    lip: Float32Array


class Mouth(NamedTuple):
    """What the pixels of a mouth are made of."""

    photo: Uint32Array  # (1024, 1024) packed, the portrait's frame at twice its size
    inside: Float32Array  # (512, 512) 1 where the photo shows the mouth's inside
    palette: Palette
    kinds: Int32Array  # (T,) UPPER to WALL, or OUTSIDE, of the triangles
    opening: Float32Array  # (3, W) first row, last row, height in face widths, see `find_openings`
    unit: np.float32  # pixels a face width
    tooth: np.float32  # brightness of teeth, 0..255
    light_then: np.float32  # light that got into the mouth in the photo
    lip_change: np.float32  # how far the lips left their position in the photo, 0..1
    photo_used: np.float32  # 0: what the photo shows between the lips is not used; else 1
    seam: Float32Array  # (3,) darkness of the line between the lips, RGB


class Lips(NamedTuple):
    """The edges of a mouth's inside, in pixels of the region."""

    outline: Float32Array  # (N, 2) of the lips' opening
    reach: np.float32  # pixels from it that are still near it
    box: Float32Array  # (4,) left, top, right, bottom of where there are triangles of the inside
    strokes: Float32Array  # (S, 6) the line between them in pixels of the frame, if it is drawn
    soft: np.float32  # pixels of the frame over which its edges fade


@device
def light_between(opening: Real) -> Real:
    """How much light enters a mouth that is open by a height in face widths, 0..1."""
    return SHUT_LIGHT + OPEN_LIGHT * smooth(_ZERO, WIDE_OPEN, opening)


@device
def _beside_lip(light: tuple[Real, Real], reach: tuple[Real, Real], distance: Real) -> Real:
    """Share of the light at a distance from a lip, face widths."""
    return light[0] + light[1] * smooth(reach[0], reach[1], distance)


@device
def light_at(mouth: Mouth, x: Real, y: Real) -> Real:
    """How much light gets to a pixel, 0..1."""
    column = np.uint32(x)
    below_lip = (y - mouth.opening[0, column]) / mouth.unit
    above_lip = (mouth.opening[1, column] - y) / mouth.unit
    light = light_between(mouth.opening[2, column])
    light *= _beside_lip(UPPER_LIGHT, UPPER_REACH, below_lip)
    return light * _beside_lip(LOWER_LIGHT, LOWER_REACH, above_lip)


@device
def _gap_to(boundaries: tuple[Real, ...], along: Real) -> Real:
    """Millimetres to the nearest of seven boundaries between teeth."""
    gap = abs(along - boundaries[0])
    gap = min(gap, abs(along - boundaries[1]), abs(along - boundaries[2]))
    gap = min(gap, abs(along - boundaries[3]), abs(along - boundaries[4]))
    return min(gap, abs(along - boundaries[5]), abs(along - boundaries[6]))


@device
def tooth(
    palette: Palette,
    boundaries: tuple[Real, ...],
    upper: bool,
    along: Real,
    above: Real,
    depth: Real,
    light: Real,
) -> tuple[Real, Real, Real, Real]:
    """Red, green and blue of a tooth and the gum above it, and the light that reaches it.

    :param boundaries: between the jaw's teeth, mm along the arch.
    :param upper: whether it is one of the upper jaw.
    """
    along = abs(along)
    light *= decay(depth / DARKENING)
    gap = _gap_to(boundaries, along)
    crown = CROWN - CROWN_TAPER * along
    rounding = (CORNER + CORNER_MORE * along) * bell(gap / (CORNER_REACH + CORNER_WIDER * along))
    if upper:
        bent = min(along, ARC_END)
        rounding += ARC * bent * bent
        lateral = smooth(LATERAL_RISE[0], LATERAL_RISE[1], along)
        lateral -= smooth(LATERAL_FALL[0], LATERAL_FALL[1], along)
        rounding += LATERAL * lateral
    line = crown - PAPILLA * bell(gap / PAPILLA_REACH)
    enamel = smooth(rounding - EDGE_SOFTNESS, rounding + EDGE_SOFTNESS, above)
    gums = smooth(line - GUM_SOFTNESS, line + GUM_SOFTNESS, above)
    form = _ONE - FISSURE_SHADE * bell(gap / FISSURE_REACH) - BULGE_SHADE * bell(gap / BULGE_REACH)
    form *= _ONE - TIP_SHADE + TIP_SHADE * smooth(_ZERO, TIP_REACH, above - rounding)
    form *= _ONE - ARCH_SHADE + ARCH_SHADE * cosine(min(along / ARCH_TURN, ARCH_END))
    glint = bell((above - GLINT_ABOVE[0]) / GLINT_ABOVE[1]) * (_ONE - bell(gap / GLINT_ASIDE))
    form *= _ONE + GLINT * glint
    neck = smooth(NECK[0], NECK[1], above)
    red = _tooth_channel(palette, 0, form, neck, gums, enamel)
    green = _tooth_channel(palette, 1, form, neck, gums, enamel)
    blue = _tooth_channel(palette, 2, form, neck, gums, enamel)
    return red * light, green * light, blue * light, light


@device
def _tooth_channel(
    palette: Palette, k: int, form: Real, neck: Real, gums: Real, enamel: Real
) -> Real:
    colour = palette.tooth[k] * form * (_ONE - NECK_SHADE[k] * neck)
    colour += gums * (palette.gum[k] - colour)
    behind = BEHIND_TEETH * palette.wall[k]
    return behind + enamel * (colour - behind)


@device
def tongue(
    palette: Palette,
    along: Real,
    behind: Real,
    depth: Real,
    normal_y: Real,
    normal_z: Real,
    light: Real,
) -> tuple[Real, Real, Real, Real]:
    """Red, green and blue of the tongue, and the light that reaches it.

    Round to both sides, a groove in the middle, in the dark at its root.
    """
    side = along / TONGUE_HALF
    along = abs(along)
    groove = GROOVE_SHADE * bell(along / GROOVE_REACH) * smooth(GROOVE[0], GROOVE[1], behind)
    facing = min(max(LIGHT_FRONT * normal_z + LIGHT_ABOVE * normal_y, _ZERO), _ONE)
    form = (TONGUE_AMBIENT + TONGUE_DIFFUSE * facing) * (_ONE - TONGUE_SIDE_SHADE * side * side)
    form *= _ONE - groove
    root = max(behind - ROOT, _ZERO) / ROOT_REACH
    shine = SHINE * bell((behind - SHINE_BEHIND[0]) / SHINE_BEHIND[1])
    shine *= bell((along - SHINE_ASIDE[0]) / SHINE_ASIDE[1])
    light *= decay(TONGUE_DEPTH * depth / DARKENING)
    other = form * decay(root)
    red = palette.tongue[0] * form * decay(ROOT_RED * root) + palette.tooth[0] * shine
    green = palette.tongue[1] * other + palette.tooth[1] * shine
    blue = palette.tongue[2] * other + palette.tooth[2] * shine
    return red * light, green * light, blue * light, light


@device
def wall(palette: Palette, depth: Real, light: Real) -> tuple[Real, Real, Real, Real]:
    """Red, green and blue of the mouth's walls, and the light that reaches them."""
    near = decay(depth / GUM_REACH)
    far = WALL_FAR + WALL_NEAR * decay(depth / WALL_REACH)
    dim = WALL_RED * decay(depth / WALL_RED_REACH)
    red = _wall_channel(palette, 0, near, far, dim)
    green = _wall_channel(palette, 1, near, far, dim)
    blue = _wall_channel(palette, 2, near, far, dim)
    return red * light, green * light, blue * light, light


@device
def _wall_channel(palette: Palette, k: int, near: Real, far: Real, dim: Real) -> Real:
    throat = palette.wall[k] * far + palette.gum[k] * dim
    return throat + near * (palette.gum[k] * GUM_SHADE - throat)


@device
def _reddening(light: Real) -> tuple[Real, Real, Real]:
    """Factors of red, green and blue: light that has bounced is red.

    They are the light's powers of -0.2, 0.1 and 0.2.
    """
    tenth = tenth_power(light)
    return _ONE / (tenth * tenth), tenth, tenth * tenth


@device
def inside_mask(values: Float32Array, u: Real, v: Real) -> Real:
    """Interpolate an image (H, W) at a pixel."""
    height, width = values.shape
    u = min(max(u, _ZERO), _f(width) - _f(1.01))
    v = min(max(v, _ZERO), _f(height) - _f(1.01))
    j, i = np.uint32(u), np.uint32(v)
    a, b = u - _f(j), v - _f(i)
    one = np.uint32(1)
    upper = values[i, j] + a * (values[i, j + one] - values[i, j])
    lower = values[i + one, j] + a * (values[i + one, j + one] - values[i + one, j])
    return upper + b * (lower - upper)


@device
def finished(
    mouth: Mouth,
    drawn: tuple[Real, Real, Real, Real],
    seen: Pixel,
    inside: Real,
    kept: Real,
    x: Real,
    entering: Real,
    depth: Real,
) -> Pixel:
    """The packed pixel of what is painted, with what the photo shows laid over it.

    :param drawn: red, green, blue, and the light that reaches it.
    :param seen: the photo's packed pixel, and `inside`, how much it shows the mouth's inside.
    :param kept: how much of it could move along.
    :param entering: light that gets in.
    """
    palette, change = mouth.palette, mouth.lip_change
    # What little light there is has bounced off red walls.
    red, green, blue, light = drawn
    more_red, more_green, more_blue = _reddening(light)
    bounced = BOUNCED * decay(depth / DARKENING)
    red = red * more_red + bounced * palette.gum[0]
    green = green * more_green + bounced * palette.gum[1]
    blue = blue * more_blue + bounced * palette.gum[2]
    # Lips that hardly part show a line of their own colour.
    opened = smooth(_ZERO, SLIT, mouth.opening[2, np.uint32(x)])
    slit = SLIT_COLOUR[0] * palette.lip[0]
    red = slit + opened * (red - slit)
    slit = SLIT_COLOUR[1] * palette.lip[1]
    green = slit + opened * (green - slit)
    slit = SLIT_COLOUR[2] * palette.lip[2]
    blue = slit + opened * (blue - slit)
    # Lips that do not move show the photo; lips that close put the photo's teeth in the dark.
    # In a slit teeth of the photo would be flecks.
    keep = mouth.photo_used * kept * (_ONE - change * (_ONE - inside * opened))
    darker = _ONE - change * keep * (_ONE - min(entering / mouth.light_then, _ONE))
    more_red, more_green, more_blue = _reddening(darker)
    seen_r, seen_g, seen_b = colour_of(seen)
    red += keep * (seen_r * darker * more_red - red)
    green += keep * (seen_g * darker * more_green - green)
    blue += keep * (seen_b * darker * more_blue - blue)
    return packed_pixel(red, green, blue, _ONE - keep)


@device
def _photographed(
    mouth: Mouth, table: Float32Array, t: Index, x: Real, y: Real
) -> tuple[Pixel, Real]:
    """What the photo shows at a pixel, packed, and how much of it is the mouth's inside."""
    u, v = attribute(table, t, 0, x, y), attribute(table, t, 1, x, y)
    return photo_pixel(mouth.photo, table, t, x, y), inside_mask(mouth.inside, u, v)


@device
def tooth_pixel(
    mouth: Mouth,
    boundaries: tuple[Real, ...],
    upper: bool,
    table: Float32Array,
    t: Index,
    x: Real,
    y: Real,
) -> Pixel:
    """A pixel of teeth or gums, packed."""
    along, above = attribute(table, t, ALONG, x, y), attribute(table, t, ABOVE, x, y)
    depth = max(attribute(table, t, DEPTH, x, y), _ZERO)
    entering = light_at(mouth, x, y)
    drawn = tooth(mouth.palette, boundaries, upper, along, above, depth, entering)
    seen, inside = _photographed(mouth, table, t, x, y)
    # Upper teeth move with the head, the rest of the mouth with the jaw. What the photo shows dark
    # where upper teeth are now is no tooth, and must not move so.
    kept = _ONE - mouth.lip_change
    if upper:
        red, green, blue = colour_of(seen)
        luma = (_f(0.299) * red + _f(0.587) * green + _f(0.114) * blue) / mouth.tooth
        pale = green * mouth.palette.tooth[0] / (max(red, _ONE) * mouth.palette.tooth[1])
        toothlike = smooth(TOOTH_DARK[0], TOOTH_DARK[1], luma)
        toothlike *= smooth(TOOTH_RED[0], TOOTH_RED[1], pale)
        kept = _ONE - mouth.lip_change * (_ONE - toothlike)
    return finished(mouth, drawn, seen, inside, kept, x, entering, depth)


@device
def tongue_pixel(mouth: Mouth, table: Float32Array, t: Index, x: Real, y: Real) -> Pixel:
    """A pixel of the tongue, packed."""
    along, behind = attribute(table, t, ALONG, x, y), attribute(table, t, ABOVE, x, y)
    depth = max(attribute(table, t, DEPTH, x, y), _ZERO)
    normal_y, normal_z = attribute(table, t, NORMAL_Y, x, y), attribute(table, t, NORMAL_Z, x, y)
    entering = light_at(mouth, x, y)
    drawn = tongue(mouth.palette, along, behind, depth, normal_y, normal_z, entering)
    seen, inside = _photographed(mouth, table, t, x, y)
    return finished(mouth, drawn, seen, inside, _ONE - mouth.lip_change, x, entering, depth)


@device
def wall_pixel(mouth: Mouth, table: Float32Array, t: Index, x: Real, y: Real) -> Pixel:
    """A pixel of the mouth's walls, packed."""
    depth = max(attribute(table, t, DEPTH, x, y), _ZERO)
    depth *= _ONE - CHEEK_NEAR * smooth(CHEEK[0], CHEEK[1], mouth.opening[2, np.uint32(x)])
    entering = light_at(mouth, x, y)
    drawn = wall(mouth.palette, depth, entering)
    seen, inside = _photographed(mouth, table, t, x, y)
    return finished(mouth, drawn, seen, inside, _ONE - mouth.lip_change, x, entering, depth)


@device
def lip_weight(mouth: Mouth, table: Float32Array, t: Index, x: Real, y: Real) -> Real:
    """How much of a pixel of skin is drawn: bent lips fold over and are drawn smoothly, too."""
    lip = attribute(table, t, LIP, x, y)
    return mouth.lip_change * smooth(LIP_DRAWN[0], LIP_DRAWN[1], lip)


@device
def lip_pixel(mouth: Mouth, table: Float32Array, t: Index, x: Real, y: Real) -> Pixel:
    """A pixel of skin, packed: lips are darker where their inner sides turn out."""
    turned = mouth.lip_change * attribute(table, t, INNER_LIP, x, y)
    red, green, blue = colour_of(photo_pixel(mouth.photo, table, t, x, y))
    light = _ONE - TURNED_SHADE * turned
    return packed_pixel(red * light, green * light, blue * light, turned)


@device
def seam_pixel(pixel: Pixel, seam: Float32Array, line: Real) -> Pixel:
    """A packed pixel under the line between the lips."""
    red, green, blue = colour_of(pixel)
    red *= _ONE - line * seam[0]
    green *= _ONE - line * seam[1]
    return packed_pixel(red, green, blue * (_ONE - line * seam[2]), share_of(pixel))


@device
def beside_edge(
    edge: Float32Array | tuple[Real, ...], reach: Real, x: Real, y: Real, state: Index
) -> Index:
    """Go on with the test whether a pixel lies in an outline or near it, by one of its edges.

    :param edge: (4,) from x, y to x, y.
    :param reach: pixels.
    :param state: of the edges so far: 1 if inside of them, 2 if near one.
    """
    dx, dy = edge[2] - edge[0], edge[3] - edge[1]
    u, v = x - edge[0], y - edge[1]
    crossed = (edge[1] > y) != (edge[3] > y)
    right = dx * v - dy * u
    crossed = crossed and ((right > 0) == (dy > 0))
    t = min(max((u * dx + v * dy) / max(dx * dx + dy * dy, _f(1e-6)), _ZERO), _ONE)
    u, v = u - t * dx, v - t * dy
    near = u * u + v * v <= reach * reach
    return (state ^ np.int32(crossed)) | (np.int32(near) * np.int32(2))
