"""A prepared portrait: everything that its frames have in common."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from talkingface.contract.motion import ARKIT_DIM, ARKIT_INDEX, ARKIT_NAMES, neutral
from talkingface.renderer.arrays import Float32Array, Uint8Image
from talkingface.renderer.face.camera import FaceFit
from talkingface.renderer.geometry.eyes import EyeTexture
from talkingface.renderer.geometry.occluded_side import OccludedSide
from talkingface.renderer.geometry.portrait_layers import PortraitLayers
from talkingface.renderer.pixels.mouth import Palette

# Columns of ARKit coefficients.
BLINKS = np.array([ARKIT_INDEX["eyeBlinkRight"], ARKIT_INDEX["eyeBlinkLeft"]])
GAZES = np.array([i for i, n in enumerate(ARKIT_NAMES) if n.startswith("eyeLook")])


@dataclass(frozen=True)
class PreparedPortrait:
    """What preparation makes of a photo, for V vertices and T triangles of the face mesh.

    Texture coordinates (uv) are pixels of the portrait's frame.
    """

    frame: Uint8Image  # (512, 512, 3) RGB
    layers: PortraitLayers
    matte: Uint8Image  # (512, 512) opacity of the person, before doubtful parts were decided
    fit: FaceFit
    neutral: Float32Array  # (V, 3) the person without expression, exact at the landmarks
    photographed: Float32Array  # (V, 3) the person as in the photo, unposed
    lid_closure: Float32Array  # (2, V, 3) from the photographed lids to shut ones: right, left eye
    lip_closure: Float32Array  # (V, 3) what the neutral lips lack to touch
    uv: Float32Array  # (V, 2) where in the frame each vertex is
    lip_uv_shift: Float32Array  # (V, 2) change of `uv` that keeps a parting lip's edge clean
    lid_uv_shift: Float32Array  # (2, V, 2) the same that keeps lashes off a closing lid
    lash_colour: Float32Array  # (3,) RGB of the lash line
    inward_uv_shift: Float32Array  # (V, 2) the same that keeps the background off the face's edge
    side_weight: Float32Array  # (2, V) how little the photo shows of the viewer's left, right side
    edge_visible: Float32Array  # (V,) 0 on the jaw's underside and the cheeks' unseen backs
    depth_proxy: Float32Array  # (6, N, N) see `depth_proxy.build_depth_proxy`
    occluded_side: OccludedSide  # what a turned portrait hides
    inner_lip: Float32Array  # (V,) 1 on the lips' inner sides, which are darker when they turn out
    triangle_area: Float32Array  # (T,) signed area of the triangles in the frame, square pixels
    eyes: tuple[EyeTexture, EyeTexture]
    eye_depth: Float32Array  # (2,) camera depth of the eyes in face widths
    mouth_mask: Float32Array  # (512, 512) 1 where the photo shows the mouth's inside
    mouth_colours: Palette
    crops: tuple[Uint8Image, Uint8Image, Uint8Image]  # of the photo: mouth, eyes as in `Crop.rgb`

    @property
    def own_motion(self) -> Float32Array:
        """The motion frame (60,) that gives back the photo."""
        motion: Float32Array = neutral(1)[0]
        motion[:ARKIT_DIM] = self.fit.coefficients
        motion[BLINKS] = 0
        motion[GAZES] = 0
        return motion
