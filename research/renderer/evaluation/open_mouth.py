"""Mouths that a photo shows open, beside the same mouths shut and opened again.

The portrait is rendered with its mouth shut; this frame is a portrait of its own, which knows
nothing of what was between the lips, and is rendered with the mouth of the photo. So everything
between its lips is made, and the photo shows what should be there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from talkingface.contract.motion import ARKIT_NAMES
from talkingface.renderer.face.fitting import track
from talkingface.renderer.face.landmarks import CHIN, LIP_CORNERS, LOWER_LIP, UPPER_LIP
from talkingface.renderer.geometry import PreparedPortrait, prepare
from talkingface.renderer.geometry.appearance import CHEEKS_WIDE
from talkingface.renderer.geometry.topology import INNER_LOWER, INNER_UPPER
from talkingface_research.renderer.evaluation.models import models
from talkingface_research.renderer.evaluation.offline_renderer import OfflineRenderer
from talkingface_research.renderer.evaluation.regions import FOREHEAD

Array = NDArray[np.float32]
Image = NDArray[np.uint8]
cv: Any = cv2  # OpenCV's stubs have no element types

OPEN = 0.05  # gap between the inner lips over the height of the face, from which a mouth is open
MOUTH = [i for i, name in enumerate(ARKIT_NAMES) if name.startswith(("mouth", "jaw", "tongue"))]
CROP = (96, 64)  # width and height of the pictures of mouths, pixels
CROP_MOUTHS = 1.5  # widths of a mouth in a crop
CODEC = 85  # JPEG quality that both pictures are stored at
BRIGHTEST = 0.1  # share of the open mouth's pixels
LIGHT = 0.75  # of the cheek's lightness, from which a pixel counts as light
CHEEK = 3  # pixels to each side of a landmark that belong to the cheek
LEAST = 60  # pixels of an open mouth


@dataclass(frozen=True)
class MouthLight:
    """How light the inside of an open mouth is."""

    brightest: float  # lightness L* of the brightest tenth, over the cheek's
    light: float  # share of it that is lighter than three quarters of the cheek
    yellow: float  # b* of the brightest tenth


@dataclass(frozen=True)
class OpenMouth:
    """A mouth as photographed, and as made; pictures are (64, 96, 3) RGB."""

    photo: Image
    made: Image
    photo_light: MouthLight
    made_light: MouthLight
    gap: float  # of the made mouth over that of the photo


def gap(landmarks: Array) -> float:
    """Gap between the inner lips over the height of the face."""
    marks = landmarks[:, :2]
    height = np.linalg.norm(marks[CHIN] - marks[FOREHEAD])
    return float(np.linalg.norm(marks[LOWER_LIP] - marks[UPPER_LIP]) / height)


def measure(frame: Image, landmarks: Array, portrait: PreparedPortrait) -> OpenMouth | None:
    """The open mouth of a photo, made again; None where the photo's is not open.

    :param frame: (512, 512, 3) RGB, and its landmarks (478, 3).
    """
    analyser, inpainter = models().analyser, models().inpainter
    if gap(landmarks) < OPEN:
        return None
    motion = portrait.own_motion
    motion[MOUTH] = 0
    shut = OfflineRenderer(portrait, inpainter)(motion)
    marks = analyser.landmarks(shut)
    if marks is None or gap(marks) > OPEN / 2:
        return None
    second = prepare(shut, marks, np.ones(shut.shape[:2], np.float32), shut)
    # Relative to the shut face, so that a bias of the fit is no movement.
    both = track(np.stack([marks, landmarks]), second.fit.identity).coefficients[:, MOUTH]
    motion = second.own_motion
    motion[MOUTH] = np.clip(motion[MOUTH] + both[1] - both[0], 0, 1)
    made = OfflineRenderer(second, inpainter)(motion)
    found = analyser.landmarks(made)
    seen = analyser.landmarks(frame)
    if found is None or seen is None:
        return None
    photo_light, made_light = light(frame, seen), light(made, found)
    if photo_light is None or made_light is None:
        return None
    return OpenMouth(
        picture(frame, seen), picture(made, found), photo_light, made_light, gap(found) / gap(seen)
    )


def light(image: Image, landmarks: Array) -> MouthLight | None:
    """How light the inside of a mouth is; None where too little of it is seen."""
    lab = cv.cvtColor(image.astype(np.float32) / 255, cv.COLOR_RGB2Lab)
    inside = np.zeros(image.shape[:2], np.uint8)
    ring = landmarks[[*INNER_UPPER, *INNER_LOWER[::-1]], :2]
    cv.fillPoly(inside, [ring.round().astype(np.int32)], 1)
    mouth = lab[cv.erode(inside, np.ones((3, 3), np.uint8)) > 0]
    if len(mouth) < LEAST:
        return None
    points = landmarks[list(CHEEKS_WIDE), :2].round().astype(int)
    points = points.clip(CHEEK, len(image) - CHEEK - 1)
    around = range(-CHEEK, CHEEK + 1)
    cheek = np.median([lab[y + j, x + i, 0] for x, y in points for i in around for j in around])
    brightest = mouth[mouth[:, 0] >= np.quantile(mouth[:, 0], 1 - BRIGHTEST)].mean(0)
    return MouthLight(
        float(brightest[0] / cheek),
        float((mouth[:, 0] > LIGHT * cheek).mean()),
        float(brightest[2]),
    )


def picture(image: Image, landmarks: Array) -> Image:
    """A mouth cut out upright, at one scale and through a codec."""
    right, left = (landmarks[corner, :2] for corner in LIP_CORNERS)
    middle = landmarks[[*INNER_UPPER, *INNER_LOWER], :2].mean(0)
    along = (left - right) * CROP_MOUTHS / CROP[0]
    turn = np.array([[along[0], -along[1]], [along[1], along[0]]])
    start = middle - turn @ (np.array(CROP) - 1) / 2
    matrix = np.concatenate([turn, start[:, None]], 1)
    # Photos are of many sizes: reduce before cutting, so that none is sharper than its codec.
    cut = cv.warpAffine(
        image,
        matrix,
        CROP,
        flags=cv.INTER_AREA | cv.WARP_INVERSE_MAP,
        borderMode=cv.BORDER_REPLICATE,
    )
    _, data = cv.imencode(".jpg", cut[..., ::-1], [cv.IMWRITE_JPEG_QUALITY, CODEC])
    return np.ascontiguousarray(cv.imdecode(data, cv.IMREAD_COLOR)[..., ::-1], np.uint8)
