"""A portrait and the plan of a frame at half their size, for frames that have to cost less.

Motion is planned in full, so that a reduced frame shows the same pose; only its pixels are fewer.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from talkingface.renderer.arrays import AnyArray, Float32Array, Uint8Image, Uint32Array
from talkingface.renderer.face.camera import Camera
from talkingface.renderer.geometry.eyes import EyeTexture
from talkingface.renderer.geometry.frame import FRAME
from talkingface.renderer.geometry.frame_plan import FramePlan
from talkingface.renderer.geometry.portrait import PreparedPortrait
from talkingface.renderer.geometry.portrait_layers import PortraitLayers, join_layers
from talkingface.renderer.opencv import cv
from talkingface.renderer.pixels.layers import MARGIN
from talkingface.renderer.pixels.packed import channels

HALF = FRAME // 2  # pixels a side


def reduced_portrait(portrait: PreparedPortrait) -> PreparedPortrait:
    """What drawing needs of a portrait, for frames of `HALF` pixels a side.

    Fields that only `plan_frame` reads stay as they are.
    """
    hidden, fit = portrait.occluded_side, portrait.fit
    right, left = (_reduced_eye(eye) for eye in portrait.eyes)
    return replace(
        portrait,
        frame=_halved(portrait.frame),
        layers=_reduced_layers(portrait.layers),
        fit=replace(fit, camera=_reduced_camera(fit.camera)),
        occluded_side=replace(
            hidden, texture=_halved_pixels(hidden.texture), uv=_halved_points(hidden.uv)
        ),
        triangle_area=portrait.triangle_area / np.float32(4),
        eyes=(right, left),
        mouth_mask=_halved(portrait.mouth_mask),
    )


def reduced_plan(plan: FramePlan) -> FramePlan:
    """The plan of the same frame in pixels twice as large."""
    flow = plan.rear_flow
    corners = flow[::2, ::2] + flow[::2, 1::2] + flow[1::2, ::2] + flow[1::2, 1::2]
    points = plan.points / np.float32(2)
    points[:, :2] = _halved_points(plan.points[:, :2])
    return replace(
        plan,
        camera=_reduced_camera(plan.camera),
        points=points,
        uv=_halved_points(plan.uv),
        texture_uv=_halved_points(plan.texture_uv),
        rear_flow=_halved_points(corners / np.float32(4)),
    )


def enlarged(pixels: Uint32Array) -> Uint32Array:
    """A packed frame of any size with `FRAME` pixels a side."""
    if len(pixels) == FRAME:
        return pixels
    large: Uint8Image = cv.resize(channels(pixels), (FRAME, FRAME), interpolation=cv.INTER_LINEAR)
    packed: Uint32Array = large.view(np.uint32)[..., 0]
    return packed


def _halved_points(points: Float32Array) -> Float32Array:
    """Positions in pixels of half the resolution; centres of pixels are whole numbers."""
    halved: Float32Array = (points + np.float32(0.5)) / np.float32(2) - np.float32(0.5)
    return halved


def _halved(image: AnyArray) -> AnyArray:
    """An image (H, W, ...) with half the sides, rounded up."""
    height, width = image.shape[:2]
    size = (-(-width // 2), -(-height // 2))
    halved: AnyArray = cv.resize(image, size, interpolation=cv.INTER_AREA)
    return halved


def _halved_pixels(packed: Uint32Array) -> Uint32Array:
    halved: Uint32Array = np.ascontiguousarray(_halved(channels(packed))).view(np.uint32)[..., 0]
    return halved


def _reduced_camera(camera: Camera) -> Camera:
    return replace(
        camera,
        scale=camera.scale / np.float32(2),
        translation=_halved_points(camera.translation),
    )


def _reduced_eye(eye: EyeTexture) -> EyeTexture:
    return replace(
        eye,
        origin=_halved_points(eye.origin),
        rest=_halved_pixels(eye.rest),
        ball=_halved_pixels(eye.ball),
        iris=_halved_pixels(eye.iris),
        lid=_halved_pixels(eye.lid),
    )


def _reduced_layers(layers: PortraitLayers) -> PortraitLayers:
    without = layers.rear.copy()
    without.ravel()[layers.jaw_places] = layers.behind_jaw
    return join_layers(
        _halved_pixels(layers.photo),
        _halved_pixels(layers.background),
        _halved_pixels(layers.near_background),
        _reduced_rear(layers.rear),
        _reduced_rear(without),
    )


def _reduced_rear(rear: Uint32Array) -> Uint32Array:
    """A rear layer at half its size, continued to the margin that it has at any size."""
    missing = MARGIN // 2
    padded: Uint8Image = cv.copyMakeBorder(
        _halved(channels(rear)), missing, missing, missing, missing, cv.BORDER_REPLICATE
    )
    packed: Uint32Array = padded.view(np.uint32)[..., 0]
    return packed
