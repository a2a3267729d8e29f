"""The face model's mesh made one person's: it meets the photo's landmarks, outline and teeth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from talkingface.renderer.arrays import Float32Array, Uint8Image
from talkingface.renderer.face.camera import FaceFit
from talkingface.renderer.face.model import SKIN_LANDMARKS, FaceModel
from talkingface.renderer.geometry.appearance import teeth_edge
from talkingface.renderer.geometry.diffusion import extend, smooth
from talkingface.renderer.geometry.frame import FLIP
from talkingface.renderer.geometry.portrait import GAZES
from talkingface.renderer.geometry.pose import expression_offsets, without_blinks
from talkingface.renderer.geometry.surface import mean_landmarks
from talkingface.renderer.geometry.vertex_offsets import outside_person

LOWER_TEETH = 0.01  # face widths from the closed lips' line down to the lower front teeth


@dataclass(frozen=True)
class PersonalMesh:
    """Vertices (V, 3) in the head, face widths."""

    fitted: Float32Array  # the fit alone, with the photo's expression
    photographed: Float32Array  # ... moved to where the photo shows it
    base: Float32Array  # ... without expression


def personal_mesh(
    frame: Uint8Image, landmarks: Float32Array, matte: Float32Array, face: FaceFit
) -> PersonalMesh:
    """Move the fitted model to where the photo shows it.

    :param frame: (512, 512, 3) RGB; `landmarks` (478, 2+) in its pixels.
    :param matte: (512, 512) opacity of the person.
    """
    model, camera = FaceModel.load(), face.camera
    rest = face.coefficients.copy()
    rest[GAZES] = 0  # eyeballs are drawn, not turned; lids follow the gaze relatively
    fitted = model.vertices(face.identity, rest)
    offsets = _landmark_residuals(fitted, landmarks, face)
    outside = smooth(outside_person(camera.project((fitted + offsets)[None])[0], matte, 3), 3)
    flat = np.concatenate([outside * FLIP / camera.scale[0], np.zeros((len(fitted), 1))], 1)
    offsets += (flat @ camera.rotation[0]).astype(np.float32)
    moved = expression_offsets(without_blinks(rest))
    upper_teeth = model.part_vertices("teeth_upper")
    edge = float((fitted + offsets)[upper_teeth, 1].min())
    lip = float(mean_landmarks(fitted + offsets)[13, 1])
    closed_lip = float(mean_landmarks(fitted + offsets - moved)[13, 1])
    offsets[upper_teeth, 1] += teeth_edge(frame, landmarks, camera, lip, closed_lip) - edge
    base = fitted + offsets - moved
    lower_teeth = model.part_vertices("teeth_lower")
    incisors = lower_teeth[model.mean[lower_teeth, 2] > model.mean[lower_teeth, 2].max() - 0.06]
    sunk = float(base[incisors, 1].max()) - (closed_lip - LOWER_TEETH)
    base[lower_teeth, 1] -= sunk
    offsets[lower_teeth, 1] -= sunk
    return PersonalMesh(fitted=fitted, photographed=fitted + offsets, base=base)


def _landmark_residuals(
    fitted: Float32Array, landmarks: Float32Array, face: FaceFit
) -> Float32Array:
    """What lies between the fit and the landmarks, spread over all vertices: (V, 3)."""
    camera = face.camera
    seen = camera.project(mean_landmarks(fitted)[None])[0, :, :2]
    gap = (landmarks[:SKIN_LANDMARKS, :2] - seen) / camera.scale[0] * FLIP
    flat = np.concatenate([gap, np.zeros((len(gap), 1), np.float32)], 1)
    return extend((flat @ camera.rotation[0]).astype(np.float32))
