"""What is measured in the photo: its light, its teeth, its lashes, the inside of its mouth."""

from __future__ import annotations

import numpy as np

from talkingface.renderer.arrays import Float32Array, Uint8Image
from talkingface.renderer.face.camera import Camera
from talkingface.renderer.face.landmarks import LIP_CORNERS, LOWER_LIP, UPPER_LIP
from talkingface.renderer.face.model import FaceModel
from talkingface.renderer.geometry.eyes import LUMA, RINGS, EyeTexture
from talkingface.renderer.geometry.frame import FRAME, bounding_box
from talkingface.renderer.geometry.mouth import TOOTH
from talkingface.renderer.geometry.rasterizer import draw_mesh
from talkingface.renderer.geometry.surface import smoothstep
from talkingface.renderer.geometry.topology import INNER_LOWER, INNER_UPPER, SKIN, topology
from talkingface.renderer.opencv import cv

CHEEKS = (50, 280, 205, 425)  # landmarks
CHEEKS_WIDE = (*CHEEKS, 101, 330)

# All by eye. Brightness is luma, 0..255.
TEETH_SHOW = 0.03  # face widths of the upper teeth below the lip, at least
TEETH_LONGEST = 0.08  # ... and at most
TEETH_OPENING = 0.025  # face widths of the lips' opening below which it shows no teeth
TEETH_COLUMNS, TEETH_ASIDE = (-1.0, 0.0, 1.0), 0.06  # lines that are searched; mouth widths apart
TEETH_SAMPLES, TEETH_SEARCHED = 24, 16  # along each line; of these, where the brightest lie
TEETH_BRIGHT = 0.62  # of the brightest, down to which it is a tooth
TOOTHLIKE = 0.65  # of the teeth's expected brightness, from which on a mouth may show some
TOOTH_SATURATION = 0.4
TOOTH_LIT = 0.92  # brightness of well-lit teeth as drawn, over their colour
TOOTH_PIXELS, TOOTH_BRIGHT = 40, 85  # between the lips at least; percentile that may be teeth
BACKGROUND_OPACITY = 0.15  # of the background at least, where the photo's rest is ascribed to it
CLEARED = (64, 16)  # change of opacity, 0..255, over which the background stays as it is
# Teeth from skin, where the photo shows none: luma as a factor and a power of the cheeks' luma, and
# colour over luma as parts of the sclera's and the skin's, and a rest. Fitted by
# `training/fit_teeth.py`; parts of eyes and skin are larger than fitted (0.1), for coloured light.
TEETH_LUMA, TEETH_POWER = 22.0, 0.42
IN_SPEECH = 0.9  # of that, since all those photographs smile; by eye
BRIGHTEST = 235.0
SCLERA_TINT, SKIN_TINT = 0.25, 0.2
TEETH_TINT = np.array([0.577, 0.543, 0.516], np.float32)
GREY, COLOURED = 0.03, 0.3  # saturation of skin in a grey photo; more in an ordinary one


def teeth_edge(
    frame: Uint8Image, landmarks: Float32Array, camera: Camera, lip: float, closed_lip: float
) -> float:
    """Height of the upper front teeth's biting edge in the head, face widths.

    Where the photo shows teeth, their lower end under the upper lip; else a little below the lip of
    the neutral face.

    :param lip: height of the upper lip's inner edge in the photo.
    :param closed_lip: height of the neutral face's.
    """
    upper, lower = landmarks[UPPER_LIP, :2], landmarks[LOWER_LIP, :2]
    opening = float(np.linalg.norm(lower - upper)) / float(camera.scale[0])
    if opening < TEETH_OPENING:
        return closed_lip - TEETH_SHOW
    luma = _luma_between_lips(frame, landmarks)
    bright = luma > TEETH_BRIGHT * luma[:TEETH_SEARCHED].max()
    first = int(np.argmax(bright))
    if first > len(luma) // 3:
        return lip - TEETH_SHOW  # what is bright are the lower teeth
    end = first + int(np.argmin(np.append(bright[first:], False)))
    depth = min((end / (TEETH_SAMPLES - 1)) * opening, TEETH_LONGEST)
    return lip - max(depth, TEETH_SHOW)


def _luma_between_lips(frame: Uint8Image, landmarks: Float32Array) -> Float32Array:
    """Brightness from the upper lip down to the lower one, (TEETH_SAMPLES,)."""
    upper, lower = landmarks[UPPER_LIP, :2], landmarks[LOWER_LIP, :2]
    down = np.linspace(0, 1, TEETH_SAMPLES)[:, None]
    right, left = (landmarks[corner, :2] for corner in LIP_CORNERS)
    across = (left - right) * TEETH_ASIDE
    lines = [upper + down * (lower - upper) + shift * across for shift in TEETH_COLUMNS]
    at = np.stack(lines, 1).astype(np.float32)
    seen = cv.remap(frame, at[..., 0], at[..., 1], cv.INTER_LINEAR).astype(np.float32)
    luma: Float32Array = np.median(seen @ LUMA, 1)
    return luma


def near_background(
    frame: Uint8Image, rear: Uint8Image, cleared: Uint8Image, background: Uint8Image
) -> Uint8Image:
    """The background changed so that the rear layer (RGBA) before it makes up the photo.

    Not where the rear layer without face, `cleared`, is another: there the photo's edge would stay
    behind the moving jaw.
    """
    seen = rear[..., 3:].astype(np.float32) / 255
    missing = frame - seen * rear[..., :3] - (1 - seen) * background
    missing *= smoothstep(*CLEARED, np.abs(rear[..., 3:].astype(np.float32) - cleared[..., 3:]))
    near = background + missing / np.maximum(1 - seen, BACKGROUND_OPACITY)
    image: Uint8Image = np.clip(near + 0.5, 0, 255).astype(np.uint8)
    return image


def mouth_mask(source: Float32Array) -> Float32Array:
    """Soft mask (512, 512) of the mouth's inside in the photo.

    :param source: (V, 3) mesh as photographed, pixels and depth.
    """
    shape = topology()
    ids = draw_mesh(source, FaceModel.load().triangles, (FRAME, FRAME)).ids
    part = np.where(ids >= 0, shape.triangle_part[ids], SKIN)
    left, top, right, bottom = bounding_box(source[shape.lip > 0.3], 2)
    inner = np.zeros((FRAME, FRAME), np.uint8)
    inner[top:bottom, left:right] = part[top:bottom, left:right] != SKIN
    inner = cv.erode(inner, np.ones((3, 3), np.uint8))
    mask: Float32Array = cv.GaussianBlur(inner.astype(np.float32), (0, 0), 0.8) * inner
    return mask


def white_point(
    frame: Uint8Image, eyes: tuple[EyeTexture, EyeTexture], landmarks: Float32Array
) -> Float32Array:
    """What white looks like in the photo's light, RGB, from teeth as photographed or expected."""
    skin = skin_colour(frame, landmarks)
    eye = np.mean([e.white for e in eyes], 0)
    bright = max(float(skin @ LUMA), 1.0)
    luma = min(IN_SPEECH * TEETH_LUMA * bright**TEETH_POWER, BRIGHTEST)
    tint = SCLERA_TINT * eye / max(float(eye @ LUMA), 1.0) + SKIN_TINT * skin / bright + TEETH_TINT
    teeth = luma * tint
    seen = photographed_teeth(frame, landmarks)
    if seen is not None and seen @ LUMA > TOOTHLIKE * luma:
        teeth = seen
    colour: Float32Array = np.clip(teeth / (TOOTH * TOOTH_LIT), 0, 255).astype(np.float32)
    return colour


def skin_colour(frame: Uint8Image, landmarks: Float32Array) -> Float32Array:
    """The median colour of the cheeks, RGB, (3,)."""
    cheeks = landmarks[list(CHEEKS_WIDE), :2].round().astype(int).clip(2, FRAME - 3)
    around = [frame[y - 2 : y + 3, x - 2 : x + 3].mean((0, 1)) for x, y in cheeks]
    colour: Float32Array = np.median(around, 0)
    return colour


def photographed_teeth(frame: Uint8Image, landmarks: Float32Array) -> Float32Array | None:
    """The brightest of what is seen between the lips, RGB, if that is hardly coloured."""
    ring = landmarks[[*INNER_UPPER, *INNER_LOWER[::-1]], :2]
    inside = np.zeros((FRAME, FRAME), np.uint8)
    cv.fillPoly(inside, [np.round(ring).astype(np.int32)], 1)
    inside = cv.erode(inside, np.ones((3, 3), np.uint8)) > 0
    if np.count_nonzero(inside) < TOOTH_PIXELS:
        return None
    seen = frame[inside].astype(np.float32)
    luma = seen @ LUMA
    colour = seen[luma >= np.percentile(luma, TOOTH_BRIGHT)].mean(0)
    return colour if float(np.ptp(colour) / colour.max()) < TOOTH_SATURATION else None


def saturation(frame: Uint8Image, landmarks: Float32Array) -> float:
    """0 in a photo without colours, 1 in an ordinary one, by the cheeks' skin."""
    cheeks = landmarks[list(CHEEKS), :2].round().astype(int).clip(0, FRAME - 1)
    skin = frame[cheeks[:, 1], cheeks[:, 0]].astype(np.float32)
    coloured = float(np.median(np.ptp(skin, 1) / np.maximum(skin.max(1), 1)))
    return float(np.clip((coloured - GREY) / COLOURED, 0, 1))


def lash_colour(frame: Uint8Image, landmarks: Float32Array) -> Float32Array:
    """The dark of the upper lid rims, RGB."""
    rims = landmarks[[i for ring in RINGS for i in ring[9:]], :2].round().astype(int)
    rims = rims.clip(2, FRAME - 3)
    around = np.stack([frame[y - 2 : y + 3, x - 1 : x + 2].reshape(-1, 3) for x, y in rims])
    luma = around @ LUMA
    darkest = np.take_along_axis(around, luma.argmin(1)[:, None, None], 1)[:, 0]
    colour: Float32Array = np.median(darkest, 0).astype(np.float32)
    return colour
