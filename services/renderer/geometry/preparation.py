"""Fitting a portrait and taking it apart."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from talkingface.renderer.arrays import Float32Array, Int32Array, Uint8Image
from talkingface.renderer.face.fitting import fit
from talkingface.renderer.face.model import FaceModel
from talkingface.renderer.geometry.appearance import (
    inside_mouth,
    lash_colour,
    near_background,
    saturation,
    white_point,
)
from talkingface.renderer.geometry.compositing import finely
from talkingface.renderer.geometry.crops import crop_matrices
from talkingface.renderer.geometry.depth_proxy import build_relief, edge_seen, side_shares
from talkingface.renderer.geometry.diffusion import smooth
from talkingface.renderer.geometry.eyes import eye_texture
from talkingface.renderer.geometry.frame import FRAME
from talkingface.renderer.geometry.mouth import mouth_paint
from talkingface.renderer.geometry.occluded_side import hidden_side
from talkingface.renderer.geometry.personal_mesh import personal_mesh
from talkingface.renderer.geometry.portrait import PreparedPortrait
from talkingface.renderer.geometry.rasterizer import (
    interpolate_attributes,
    rasterize_mesh,
    triangle_areas,
)
from talkingface.renderer.geometry.rear_layer import continued, rear_plate, settled_matte
from talkingface.renderer.geometry.surface import smoothstep
from talkingface.renderer.geometry.topology import SKIN, topology
from talkingface.renderer.geometry.vertex_offsets import (
    hidden_vertices,
    lid_shift,
    lip_shift,
    outside_person,
    shut_lids,
    shut_lips,
)
from talkingface.renderer.opencv import cv

EYE_NAMES = (("Right", "eye_right"), ("Left", "eye_left"))


def prepare(
    frame: Uint8Image, landmarks: Float32Array, matte: Float32Array, background: Uint8Image
) -> PreparedPortrait:
    """Fit a portrait and take it apart into layers.

    :param frame: (512, 512, 3) RGB; landmarks (478, 2+) in its pixels.
    :param matte: (512, 512) opacity of the person; background (512, 512, 3) without the person.
    :raises ValueError: shapes that do not fit, landmarks that are not finite or lie outside.
    """
    if frame.shape != (FRAME, FRAME, 3) or frame.dtype != np.uint8:
        raise ValueError(f"frame must be uint8 ({FRAME}, {FRAME}, 3)")
    if matte.shape != (FRAME, FRAME) or background.shape != frame.shape:
        raise ValueError("matte and background must have the frame's size")
    matte = settled_matte(frame, matte, background, float(landmarks[152, 1]))
    model, shape = FaceModel.load(), topology()
    fitted = fit(landmarks)
    camera = fitted.camera
    mesh = personal_mesh(frame, landmarks, matte, fitted)
    source = camera.project(mesh.photographed[None])[0]
    ids, weights = rasterize_mesh(source, model.triangles, FRAME, FRAME)
    part = np.where(ids >= 0, shape.triangle_part[ids], SKIN)
    # Beside the cheeks the layer ends on the ears, which it never uncovers.
    edged = shape.front * shape.hard_edge * smoothstep(0.1, 0.2, model.mean[:, 2])
    hidden = interpolate_attributes(edged, model.triangles, ids, weights)
    solid, _ = rasterize_mesh(source, shape.rear, FRAME, FRAME, False)
    behind = cv.GaussianBlur((solid >= 0).astype(np.float32), (0, 0), 1.5)
    # The jaw's edge and the dark line under it go with the jaw.
    down = max(round(0.035 * float(camera.scale[0])), 1)
    hidden = cv.dilate(hidden, np.ones((down, 5), np.uint8), anchor=(2, 0))
    hidden = cv.dilate(hidden, np.ones((down, 5), np.uint8), anchor=(2, down - 1))
    rear, cleared = rear_plate(frame, matte, background, hidden, behind)
    inside = inside_mouth(source, part)
    eyes = (
        eye_texture(frame, landmarks, 0, float(camera.scale[0])),
        eye_texture(frame, landmarks, 1, float(camera.scale[0])),
    )
    depth = [
        float((mesh.fitted[model.part_vertices(n)] @ camera.rotation[0].T)[:, 2].max())
        for _, n in EYE_NAMES
    ]
    unseen = hidden_vertices(source)
    other_side = hidden_side(frame, matte, mesh.photographed, source, camera, unseen)
    plates = continued(rear), continued(cleared)
    inner_lips = unseen & (shape.lip > 0.25) & (model.part == SKIN)
    shut = shut_lids(mesh.photographed)
    portrait = PreparedPortrait(
        frame=frame,
        fine=finely(frame),
        background=background,
        near_background=near_background(frame, rear, cleared, background),
        rear=plates[0],
        rear_cleared=plates[1],
        cleared_box=_difference_box(*plates),
        fit=fitted,
        base=mesh.base,
        photographed=mesh.photographed,
        shut=shut,
        lips_shut=shut_lips(mesh.base),
        source=np.ascontiguousarray(source[:, :2]),
        lip_shift=lip_shift(source, landmarks, camera),
        lid_shift=lid_shift(shut, camera),
        lash=lash_colour(frame, landmarks),
        inward=smooth(outside_person(source, matte, 7), 2),
        sides=side_shares(mesh.photographed, camera) * (1 - other_side.hidden)[:, None],
        other_side=other_side,
        edge_seen=edge_seen(source),
        relief=build_relief(source, camera, matte),
        shade=inner_lips.astype(np.float32),
        area=triangle_areas(source),
        eyes=eyes,
        eye_depth=np.array(depth, np.float32),
        inside=inside,
        paint=mouth_paint(white_point(frame, eyes, landmarks), saturation(frame, landmarks)),
        crops=(frame, frame, frame),
    )
    cut = [
        cv.warpAffine(frame, matrix, (size, size), flags=cv.INTER_AREA)
        for matrix, size in crop_matrices(source)
    ]
    return replace(portrait, crops=(cut[0], cut[1], cut[2]))


def _difference_box(one: Uint8Image, other: Uint8Image) -> Int32Array:
    """left, top, right, bottom of where two pictures differ, (4,)."""
    differ = (one != other).any(-1)
    left, top, width, height = cv.boundingRect(differ.astype(np.uint8))
    return np.array([left, top, left + width, top + height], np.int32)
