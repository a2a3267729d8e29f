"""A portrait taken apart once: everything that its frames share."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from talkingface.contract.motion import ARKIT_DIM, ARKIT_INDEX, ARKIT_NAMES, neutral
from talkingface.renderer.arrays import Float32Array, Int32Array, Uint8Image
from talkingface.renderer.face.camera import FaceFit
from talkingface.renderer.geometry.eyes import EyeTexture
from talkingface.renderer.geometry.mouth import MouthPaint
from talkingface.renderer.geometry.occluded_side import HiddenSide

BLINKS = np.array([ARKIT_INDEX["eyeBlinkRight"], ARKIT_INDEX["eyeBlinkLeft"]])
GAZES = np.array([i for i, n in enumerate(ARKIT_NAMES) if n.startswith("eyeLook")])


@dataclass(frozen=True)
class PreparedPortrait:
    """Everything about a portrait that its frames share."""

    frame: Uint8Image  # (512, 512, 3) RGB
    fine: Uint8Image  # (1024, 1024, 3) the same at twice the size, see `layers.finely`
    background: Uint8Image  # (512, 512, 3)
    near_background: Uint8Image  # the same with the photo's own pixels right up to the matte
    rear: Uint8Image  # (704, 704, 4) hair, neck, shoulders, with the matte, beyond the frame
    rear_cleared: Uint8Image  # the same behind jaw and cheeks
    cleared_box: Int32Array  # (4,) left, top, right, bottom of where these two differ
    fit: FaceFit
    base: Float32Array  # (V, 3) the person without expression, exact at the landmarks
    photographed: Float32Array  # (V, 3) the person as in the photo, unposed
    shut: Float32Array  # (2, V, 3) from the photographed lids to shut ones: right, left eye
    lips_shut: Float32Array  # (V, 3) what the neutral lips lack to touch
    source: Float32Array  # (V, 2) where in the frame each vertex is
    lip_shift: Float32Array  # (V, 2) change of `source` that keeps a parting lip's edge clean
    lid_shift: Float32Array  # (2, V, 2) the same that keeps lashes off a closing lid
    lash: Float32Array  # (3,) RGB of the lash line
    inward: (
        Float32Array  # (V, 2) change of `source` that keeps the face's edge clear of the background
    )
    sides: (
        Float32Array  # (2, V) how little the photo shows of the head's sides: viewer's left, right
    )
    edge_seen: (
        Float32Array  # (V,) 0 on the jaw's underside and the cheeks' backs, unseen in the photo
    )
    relief: Float32Array  # (5, N, N) see `relief.build_relief`
    other_side: HiddenSide  # what a turned portrait hides
    shade: Float32Array  # (V,) how much darker the lips' inner sides are when they turn out
    area: Float32Array  # (T,) signed area of the triangles in the frame
    eyes: tuple[EyeTexture, EyeTexture]
    eye_depth: Float32Array  # (2,) camera depth of the eyes in face widths
    inside: Float32Array  # (512, 512) 1 where the photo shows the mouth's inside
    paint: MouthPaint
    crops: tuple[
        Uint8Image, Uint8Image, Uint8Image
    ]  # the photo's own mouth and eyes, aligned like `Crop.rgb`

    @property
    def own_motion(self) -> Float32Array:
        """The motion frame (58,) that gives back the photo."""
        motion = neutral(1)[0]
        motion[:ARKIT_DIM] = self.fit.coefficients
        motion[BLINKS] = 0
        motion[GAZES] = 0
        return motion
