"""A portrait taken apart once: everything that its frames share."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from talkingface.contract.motion import ARKIT_DIM, ARKIT_INDEX, ARKIT_NAMES, neutral
from talkingface.renderer.face.camera import FaceFit
from talkingface.renderer.geometry.eyes import EyeTexture
from talkingface.renderer.geometry.hidden_side import HiddenSide
from talkingface.renderer.geometry.mouth import MouthPaint

Array = NDArray[np.float32]
Image = NDArray[np.uint8]
Indices = NDArray[np.int32]

BLINKS = np.array([ARKIT_INDEX["eyeBlinkRight"], ARKIT_INDEX["eyeBlinkLeft"]])
GAZES = np.array([i for i, n in enumerate(ARKIT_NAMES) if n.startswith("eyeLook")])


@dataclass(frozen=True)
class PreparedPortrait:
    """Everything about a portrait that its frames share."""

    frame: Image  # (512, 512, 3) RGB
    fine: Image  # (1024, 1024, 3) the same at twice the size, see `layers.finely`
    background: Image  # (512, 512, 3)
    near_background: Image  # the same with the photo's own pixels right up to the matte
    rear: Image  # (704, 704, 4) hair, neck, shoulders, with the matte, beyond the frame
    rear_cleared: Image  # the same behind jaw and cheeks
    cleared_box: Indices  # (4,) left, top, right, bottom of where these two differ
    fit: FaceFit
    base: Array  # (V, 3) the person without expression, exact at the landmarks
    photographed: Array  # (V, 3) the person as in the photo, unposed
    shut: Array  # (2, V, 3) from the photographed lids to shut ones: right, left eye
    lips_shut: Array  # (V, 3) what the neutral lips lack to touch
    source: Array  # (V, 2) where in the frame each vertex is
    lip_shift: Array  # (V, 2) change of `source` that keeps a parting lip's edge clean
    lid_shift: Array  # (2, V, 2) the same that keeps lashes off a closing lid
    lash: Array  # (3,) RGB of the lash line
    inward: Array  # (V, 2) change of `source` that keeps the face's edge clear of the background
    sides: Array  # (2, V) how little the photo shows of the head's sides: viewer's left, right
    edge_seen: Array  # (V,) 0 on the jaw's underside and the cheeks' backs, unseen in the photo
    relief: Array  # (5, N, N) see `relief.build_relief`
    other_side: HiddenSide  # what a turned portrait hides
    shade: Array  # (V,) how much darker the lips' inner sides are when they turn out
    area: Array  # (T,) signed area of the triangles in the frame
    eyes: tuple[EyeTexture, EyeTexture]
    eye_depth: Array  # (2,) camera depth of the eyes in face widths
    inside: Array  # (512, 512) 1 where the photo shows the mouth's inside
    paint: MouthPaint
    crops: tuple[Image, Image, Image]  # the photo's own mouth and eyes, aligned like `Crop.rgb`

    @property
    def own_motion(self) -> Array:
        """The motion frame (58,) that gives back the photo."""
        motion = neutral(1)[0]
        motion[:ARKIT_DIM] = self.fit.coefficients
        motion[BLINKS] = 0
        motion[GAZES] = 0
        return motion
