"""Fitting a portrait and separating it into layers."""

from __future__ import annotations

import numpy as np

from talkingface.renderer.arrays import BoolArray, Float32Array, Uint8Image
from talkingface.renderer.face.camera import Camera
from talkingface.renderer.face.fitting import fit
from talkingface.renderer.face.landmarks import CHIN
from talkingface.renderer.face.model import FaceModel
from talkingface.renderer.geometry.appearance import (
    lash_colour,
    mouth_mask,
    near_background,
    saturation,
    white_point,
)
from talkingface.renderer.geometry.crops import crop_matrices
from talkingface.renderer.geometry.depth_proxy import (
    build_depth_proxy,
    edge_visibility,
    side_weights,
)
from talkingface.renderer.geometry.diffusion import smooth
from talkingface.renderer.geometry.eye_texture import eye_texture
from talkingface.renderer.geometry.frame import FRAME
from talkingface.renderer.geometry.matte_refinement import refine_matte
from talkingface.renderer.geometry.mouth import lip_colour, mouth_colours
from talkingface.renderer.geometry.occluded_side import occluded_side
from talkingface.renderer.geometry.personal_mesh import PersonalMesh, personal_mesh
from talkingface.renderer.geometry.portrait import PreparedPortrait
from talkingface.renderer.geometry.portrait_layers import PortraitLayers, portrait_layers
from talkingface.renderer.geometry.rasterizer import draw_mesh, triangle_areas
from talkingface.renderer.geometry.rear_extension import extend
from talkingface.renderer.geometry.rear_layer import build_rear
from talkingface.renderer.geometry.surface import smoothstep
from talkingface.renderer.geometry.topology import SKIN, topology
from talkingface.renderer.geometry.vertex_offsets import (
    lid_closure,
    lid_uv_shift,
    lip_closure,
    lip_uv_shift,
    occluded_vertices,
    outside_person,
)
from talkingface.renderer.opencv import cv

EYES = ("eye_right", "eye_left")  # parts of the face model
CHEEK_DEPTH = (0.1, 0.2)  # z of the mean head over which the face may uncover the rear; by eye
JAW_LINE = 0.035  # face widths of the jaw's edge and the dark line under it, which go with it
EDGE_INSET = 7  # pixels inside the matte that the face's edge keeps to


def prepare(
    frame: Uint8Image,
    landmarks: Float32Array,
    matte: Float32Array,
    background: Uint8Image,
    surroundings: Uint8Image | None = None,
) -> PreparedPortrait:
    """Fit a portrait and separate it into layers.

    :param frame: (512, 512, 3) RGB.
    :param landmarks: (478, 2+) in its pixels.
    :param matte: (512, 512) opacity of the person.
    :param background: (512, 512, 3) without the person.
    :param surroundings: (704, 704, 4) the person beyond the frame, too, as RGBA; None: not known.
    :raises ValueError: shapes that do not fit, landmarks that are not finite or lie outside.
    """
    _check(frame, matte, background)
    opacity = np.clip(255 * matte + 0.5, 0, 255).astype(np.uint8)
    matte = refine_matte(frame, matte, background, float(landmarks[CHIN, 1]))
    fitted = fit(landmarks)
    camera = fitted.camera
    mesh = personal_mesh(frame, landmarks, matte, fitted)
    source = camera.project(mesh.photographed[None])[0]
    layers = _layers(frame, matte, background, source, float(camera.scale[0]), surroundings)
    right, left = (eye_texture(frame, landmarks, eye, float(camera.scale[0])) for eye in range(2))
    occluded = occluded_vertices(source)
    hidden = occluded_side(frame, matte, mesh.photographed, source, camera, occluded)
    closure = lid_closure(mesh.photographed, camera)
    white = white_point(frame, (right, left), landmarks)
    areas = triangle_areas(source)
    return PreparedPortrait(
        frame=frame,
        layers=layers,
        matte=opacity,
        fit=fitted,
        neutral=mesh.neutral,
        photographed=mesh.photographed,
        lid_closure=closure,
        lip_closure=lip_closure(mesh.neutral),
        uv=np.ascontiguousarray(source[:, :2]),
        lip_uv_shift=lip_uv_shift(frame, source, landmarks, camera),
        lid_uv_shift=lid_uv_shift(closure, camera),
        lash_colour=lash_colour(frame, landmarks),
        inward_uv_shift=smooth(outside_person(source, matte, EDGE_INSET), 2),
        side_weight=side_weights(mesh.photographed, camera) * (1 - hidden.occluded)[:, None],
        edge_visible=edge_visibility(source),
        depth_proxy=build_depth_proxy(source, camera, matte),
        occluded_side=hidden,
        inner_lip=_inner_lips(occluded),
        triangle_area=areas,
        eyes=(right, left),
        eye_depth=_eye_depths(mesh, camera),
        mouth_mask=mouth_mask(source),
        mouth_colours=mouth_colours(
            white, saturation(frame, landmarks), lip_colour(frame, source, areas)
        ),
        crops=_crops(frame, source),
    )


def _check(frame: Uint8Image, matte: Float32Array, background: Uint8Image) -> None:
    """:raises ValueError: shapes that do not fit."""
    if frame.shape != (FRAME, FRAME, 3) or frame.dtype != np.uint8:
        raise ValueError(f"frame must be uint8 ({FRAME}, {FRAME}, 3)")
    if matte.shape != (FRAME, FRAME) or background.shape != frame.shape:
        raise ValueError("matte and background must have the frame's size")


def _layers(
    frame: Uint8Image,
    matte: Float32Array,
    background: Uint8Image,
    source: Float32Array,
    scale: float,
    surroundings: Uint8Image | None,
) -> PortraitLayers:
    """Complete hair, neck and shoulders behind the face.

    :param source: (V, 3) mesh as photographed, pixels and depth.
    :param scale: pixels a face width.
    :param surroundings: as in `prepare`.
    """
    model, shape = FaceModel.load(), topology()
    # Beside the cheeks the layer ends on the ears, which it never uncovers.
    edge = shape.front * shape.hard_edge * smoothstep(*CHEEK_DEPTH, model.mean[:, 2])
    face = draw_mesh(source, model.triangles, (FRAME, FRAME), edge[:, None]).values[..., 0]
    solid = draw_mesh(source, shape.rear, (FRAME, FRAME), cull=False).ids
    skull = cv.GaussianBlur((solid >= 0).astype(np.float32), (0, 0), 1.5)
    down = max(round(JAW_LINE * scale), 1)
    face = cv.dilate(face, np.ones((down, 5), np.uint8), anchor=(2, 0))
    face = cv.dilate(face, np.ones((down, 5), np.uint8), anchor=(2, down - 1))
    rear, cleared = build_rear(frame, matte, background, face, skull)
    near = near_background(frame, rear, cleared, background)
    rear, cleared = (extend(layer, surroundings) for layer in (rear, cleared))
    return portrait_layers(frame, background, near, rear, cleared)


def _inner_lips(occluded: BoolArray) -> Float32Array:
    """1 on the lips' inner sides, which the photo does not show, (V,)."""
    shape = topology()
    inner = occluded & (shape.lip > 0.25) & (FaceModel.load().part == SKIN)
    weight: Float32Array = inner.astype(np.float32)
    return weight


def _eye_depths(mesh: PersonalMesh, camera: Camera) -> Float32Array:
    """Depth of the eyeballs' fronts before the head's turning point, (2,) face widths."""
    model = FaceModel.load()
    turned = [mesh.fitted[model.part_vertices(eye)] @ camera.rotation[0].T for eye in EYES]
    return np.array([float(eye[:, 2].max()) for eye in turned], np.float32)


def _crops(frame: Uint8Image, source: Float32Array) -> tuple[Uint8Image, Uint8Image, Uint8Image]:
    """The photo's own mouth, left eye and right eye, aligned like `Crop.rgb`."""
    mouth, left, right = (
        cv.warpAffine(frame, matrix, (size, size), flags=cv.INTER_AREA)
        for matrix, size in crop_matrices(source)
    )
    return mouth, left, right
