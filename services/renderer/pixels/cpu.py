"""The loops of the CPU under one name, as `cuda` has the kernels of a GPU."""

from __future__ import annotations

from talkingface.renderer.pixels.crops import cut_crop, find_applied, paste_residual
from talkingface.renderer.pixels.eye_loops import draw_eye
from talkingface.renderer.pixels.face import (
    blend_face,
    blend_texture,
    continue_flow,
    find_hidden,
    share_opacity,
    soften,
    write_stretch,
)
from talkingface.renderer.pixels.layers import clear_pixels, compose_rear
from talkingface.renderer.pixels.mouth_loops import draw_mouth
from talkingface.renderer.pixels.planar import write_i420
from talkingface.renderer.pixels.triangles import attributes_at, draw_triangles

__all__ = [
    "attributes_at",
    "blend_face",
    "blend_texture",
    "clear_pixels",
    "compose_rear",
    "continue_flow",
    "cut_crop",
    "draw_eye",
    "draw_mouth",
    "draw_triangles",
    "find_applied",
    "find_hidden",
    "paste_residual",
    "share_opacity",
    "soften",
    "write_i420",
    "write_stretch",
]
