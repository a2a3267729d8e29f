"""The face model's mesh fitted to one person: it meets the photo's landmarks, outline and teeth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from talkingface.renderer.arrays import Float32Array, Uint8Image
from talkingface.renderer.face.camera import FaceFit
from talkingface.renderer.face.landmarks import UPPER_LIP
from talkingface.renderer.face.model import SKIN_LANDMARKS, FaceModel
from talkingface.renderer.geometry.appearance import teeth_edge
from talkingface.renderer.geometry.diffusion import extend, smooth
from talkingface.renderer.geometry.expression import expression_offsets, without_blinks
from talkingface.renderer.geometry.frame import FLIP
from talkingface.renderer.geometry.mouth import ARCH_WIDTH
from talkingface.renderer.geometry.portrait import GAZES
from talkingface.renderer.geometry.surface import mean_landmarks
from talkingface.renderer.geometry.vertex_offsets import outside_person

LOWER_TEETH = 0.0  # face widths from the closed lips' line down to the lower front teeth; by eye
INCISOR_DEPTH = 0.06  # face widths of the face model's dental arch that are front teeth; by eye
MESH_INSET = 3  # pixels inside the matte that the mesh is brought to


@dataclass(frozen=True)
class PersonalMesh:
    """Vertices (V, 3) in the head, face widths."""

    fitted: Float32Array  # the fit alone, with the photo's expression
    photographed: Float32Array  # the same moved to where the photo shows it
    neutral: Float32Array  # the same without expression


def personal_mesh(
    frame: Uint8Image, landmarks: Float32Array, matte: Float32Array, face: FaceFit
) -> PersonalMesh:
    """Move the fitted model to where the photo shows it.

    :param frame: (512, 512, 3) RGB.
    :param landmarks: (478, 2+) in its pixels.
    :param matte: (512, 512) opacity of the person.
    """
    model = FaceModel.load()
    coefficients = face.coefficients.copy()
    coefficients[GAZES] = 0  # eyeballs are drawn, not turned; lids follow the gaze relatively
    fitted = model.vertices(face.identity, coefficients)
    offsets = _landmark_residuals(fitted, landmarks, face)
    offsets += _outline_residuals(fitted + offsets, matte, face)
    expression = expression_offsets(without_blinks(coefficients))
    closed_lip = float(mean_landmarks(fitted + offsets - expression)[UPPER_LIP, 1])
    lip = float(mean_landmarks(fitted + offsets)[UPPER_LIP, 1])
    upper_teeth = model.part_vertices("teeth_upper")
    edge = float((fitted + offsets)[upper_teeth, 1].min())
    wanted = teeth_edge(frame, landmarks, face.camera, lip, closed_lip)
    offsets[upper_teeth, 1] += wanted - edge
    lower_teeth = model.part_vertices("teeth_lower")
    for teeth in (upper_teeth, lower_teeth):
        offsets[teeth, 0] -= (1 - ARCH_WIDTH) * fitted[teeth, 0]
    neutral = fitted + offsets - expression
    depth = model.mean[lower_teeth, 2]
    incisors = lower_teeth[depth > depth.max() - INCISOR_DEPTH]
    excess = float(neutral[incisors, 1].max()) - (closed_lip - LOWER_TEETH)
    neutral[lower_teeth, 1] -= excess
    offsets[lower_teeth, 1] -= excess
    return PersonalMesh(fitted=fitted, photographed=fitted + offsets, neutral=neutral)


def _landmark_residuals(
    fitted: Float32Array, landmarks: Float32Array, face: FaceFit
) -> Float32Array:
    """Differences of the landmarks from the fit, spread over all vertices: (V, 3) face widths."""
    camera = face.camera
    seen = camera.project(mean_landmarks(fitted)[None])[0, :, :2]
    residuals = (landmarks[:SKIN_LANDMARKS, :2] - seen) / camera.scale[0] * FLIP
    flat = np.concatenate([residuals, np.zeros((len(residuals), 1), np.float32)], 1)
    return extend((flat @ camera.rotation[0]).astype(np.float32))


def _outline_residuals(vertices: Float32Array, matte: Float32Array, face: FaceFit) -> Float32Array:
    """What brings the sides of the face inside the person's outline: (V, 3) face widths."""
    camera = face.camera
    outside = smooth(outside_person(camera.project(vertices[None])[0], matte, MESH_INSET), 3)
    flat = np.concatenate([outside * FLIP / camera.scale[0], np.zeros((len(vertices), 1))], 1)
    offsets: Float32Array = (flat @ camera.rotation[0]).astype(np.float32)
    return offsets
