"""What is measured in the photo: its light, its teeth, its lashes, the inside of its mouth."""

from __future__ import annotations

import numpy as np

from talkingface.renderer.arrays import Float32Array, Uint8Image
from talkingface.renderer.face.camera import Camera
from talkingface.renderer.geometry.eyes import LUMA, RINGS, EyeTexture
from talkingface.renderer.geometry.frame import FRAME, bounding_box
from talkingface.renderer.geometry.mouth import TOOTH
from talkingface.renderer.geometry.surface import smoothstep
from talkingface.renderer.geometry.topology import INNER_LOWER, INNER_UPPER, SKIN, topology
from talkingface.renderer.opencv import cv

TEETH_SHOW = 0.032  # face widths
TOOTHLIKE = 0.6  # of white's brightness, from which on something between the lips may be teeth
TOOTH_SATURATION = 0.4
TOOTH_LIT = 0.92  # brightness of well-lit teeth as drawn over their paint


def teeth_edge(
    frame: Uint8Image, landmarks: Float32Array, camera: Camera, lip: float, closed_lip: float
) -> float:
    """Height of the upper front teeth's biting edge in the head's frame.

    Where the photo shows teeth, their lower end under the upper lip (`lip` = its height); else a
    little below the lip of the neutral face (`closed_lip`).
    """
    upper, lower = landmarks[13, :2], landmarks[14, :2]
    opening = float(np.linalg.norm(lower - upper)) / float(camera.scale[0])
    if opening < 0.025:
        return closed_lip - TEETH_SHOW
    share = np.linspace(0, 1, 24)
    across = (landmarks[308, :2] - landmarks[78, :2]) * 0.06
    columns = [
        upper + share[:, None] * (lower - upper) + shift * across for shift in (-1.0, 0.0, 1.0)
    ]
    places = np.stack(columns, 1).astype(np.float32)
    seen = cv.remap(frame, places[..., 0], places[..., 1], cv.INTER_LINEAR).astype(np.float32)
    luma = np.median(seen @ LUMA, 1)
    bright = luma > 0.62 * luma[:16].max()
    first = int(np.argmax(bright))
    if first > len(luma) // 3:
        return lip - TEETH_SHOW  # what is bright are the lower teeth
    end = first + int(np.argmin(np.append(bright[first:], False)))
    depth = min((end / 23) * opening, 0.08)
    return lip - max(depth, TEETH_SHOW)


def near_background(
    frame: Uint8Image, rear: Uint8Image, cleared: Uint8Image, background: Uint8Image
) -> Uint8Image:
    """The background changed so that the rear plate (RGBA) before it makes up the photo.

    Not where the plate is `cleared`: there the photo's edge would stay behind the moving jaw.
    """
    seen = rear[..., 3:].astype(np.float32) / 255
    lacking = frame - seen * rear[..., :3] - (1 - seen) * background
    lacking *= smoothstep(64, 16, np.abs(rear[..., 3:].astype(np.float32) - cleared[..., 3:]))
    return np.clip(background + lacking / np.maximum(1 - seen, 0.15) + 0.5, 0, 255).astype(np.uint8)


def inside_mouth(source: Float32Array, part: Uint8Image) -> Float32Array:
    """Soft mask (512, 512) of the mouth's inside in the photo."""
    shape = topology()
    left, top, right, bottom = bounding_box(source[shape.lip > 0.3], 2)
    inner = np.zeros((FRAME, FRAME), np.uint8)
    inner[top:bottom, left:right] = part[top:bottom, left:right] != SKIN
    inner = cv.erode(inner, np.ones((3, 3), np.uint8))
    return cv.GaussianBlur(inner.astype(np.float32), (0, 0), 0.8) * inner


def white_point(
    frame: Uint8Image, eyes: tuple[EyeTexture, EyeTexture], landmarks: Float32Array
) -> Float32Array:
    """What white looks like in the photo's light, RGB, from teeth, else from eyes and cheeks."""
    cheeks = landmarks[[50, 280, 205, 425, 101, 330], :2].round().astype(int).clip(2, FRAME - 3)
    skin = np.median([frame[y - 2 : y + 3, x - 2 : x + 3].mean((0, 1)) for x, y in cheeks], 0)
    eye = np.mean([e.white for e in eyes], 0)
    bright = float(skin @ LUMA)
    luma = min(float(np.clip(1.15 * eye @ LUMA, 0.95 * bright, 1.35 * bright)), 235.0)
    tint = eye / max(float(eye @ LUMA), 1.0)
    # The sclera's own tint is not all the light's; some of it has come by way of the skin.
    tint = 0.35 * tint + 0.45 + 0.2 * skin / max(bright, 1.0)
    white = luma * tint
    teeth = _photographed_teeth(frame, landmarks)
    if teeth is not None and teeth @ LUMA > TOOTHLIKE * luma:
        white = teeth / (TOOTH * TOOTH_LIT)
    return np.clip(white, 0, 255).astype(np.float32)


def _photographed_teeth(frame: Uint8Image, landmarks: Float32Array) -> Float32Array | None:
    """The brightest of what is seen between the lips, RGB, if that is hardly coloured."""
    ring = landmarks[[*INNER_UPPER, *INNER_LOWER[::-1]], :2]
    inside = np.zeros((FRAME, FRAME), np.uint8)
    cv.fillPoly(inside, [np.round(ring).astype(np.int32)], 1)
    inside = cv.erode(inside, np.ones((3, 3), np.uint8)) > 0
    if np.count_nonzero(inside) < 40:
        return None
    seen = frame[inside].astype(np.float32)
    luma = seen @ LUMA
    colour = seen[luma >= np.percentile(luma, 85)].mean(0)
    return colour if float(np.ptp(colour) / colour.max()) < TOOTH_SATURATION else None


def saturation(frame: Uint8Image, landmarks: Float32Array) -> float:
    """0 in a photo without colours, 1 in an ordinary one, by the cheeks' skin."""
    cheeks = landmarks[[50, 280, 205, 425], :2].round().astype(int).clip(0, FRAME - 1)
    skin = frame[cheeks[:, 1], cheeks[:, 0]].astype(np.float32)
    share = float(np.median(np.ptp(skin, 1) / np.maximum(skin.max(1), 1)))
    return float(np.clip((share - 0.03) / 0.3, 0, 1))


def lash_colour(frame: Uint8Image, landmarks: Float32Array) -> Float32Array:
    """The dark of the upper lid rims, RGB."""
    rims = landmarks[[i for ring in RINGS for i in ring[9:]], :2].round().astype(int)
    rims = rims.clip(2, FRAME - 3)
    around = np.stack([frame[y - 2 : y + 3, x - 1 : x + 2].reshape(-1, 3) for x, y in rims])
    luma = around @ LUMA
    darkest = np.take_along_axis(around, luma.argmin(1)[:, None, None], 1)[:, 0]
    return np.median(darkest, 0).astype(np.float32)
