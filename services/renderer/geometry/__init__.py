"""A portrait moved by geometry alone: fit once, then one dense warp a frame; see `rendering`."""

from talkingface.renderer.geometry.canvas import Canvas
from talkingface.renderer.geometry.crops import Crop, paste
from talkingface.renderer.geometry.frame import FRAME
from talkingface.renderer.geometry.portrait import PreparedPortrait
from talkingface.renderer.geometry.pose import target_pose
from talkingface.renderer.geometry.preparation import prepare
from talkingface.renderer.geometry.reduction import HALF, enlarged, reduced_portrait
from talkingface.renderer.geometry.rendering import (
    WarpedFrame,
    pin,
    render,
    render_pose,
    render_reduced,
)

__all__ = [
    "FRAME",
    "HALF",
    "Canvas",
    "Crop",
    "PreparedPortrait",
    "WarpedFrame",
    "enlarged",
    "paste",
    "pin",
    "prepare",
    "reduced_portrait",
    "render",
    "render_pose",
    "render_reduced",
    "target_pose",
]
