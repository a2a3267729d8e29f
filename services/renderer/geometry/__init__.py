"""A portrait moved by geometry alone: fit once, then one dense warp a frame; see `rendering`."""

from talkingface.renderer.geometry.canvas import Canvas
from talkingface.renderer.geometry.crops import Crop, paste
from talkingface.renderer.geometry.frame import FRAME
from talkingface.renderer.geometry.portrait import PreparedPortrait
from talkingface.renderer.geometry.pose import target_pose
from talkingface.renderer.geometry.preparation import prepare
from talkingface.renderer.geometry.rendering import WarpedFrame, render, render_pose

__all__ = [
    "FRAME",
    "Canvas",
    "Crop",
    "PreparedPortrait",
    "WarpedFrame",
    "paste",
    "prepare",
    "render",
    "render_pose",
    "target_pose",
]
