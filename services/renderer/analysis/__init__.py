"""Analysis of a client's portrait: decoding, checks, face, frame, landmarks, matte."""

from talkingface.renderer.analysis.analyser import AnalysedPortrait, FaceAnalyser
from talkingface.renderer.analysis.errors import (
    FaceError,
    ImageError,
    PortraitError,
    PortraitReason,
)
from talkingface.renderer.analysis.framing import FRAME, cut_frame, frame_square
from talkingface.renderer.analysis.photo import decode

__all__ = [
    "FRAME",
    "AnalysedPortrait",
    "FaceAnalyser",
    "FaceError",
    "ImageError",
    "PortraitError",
    "PortraitReason",
    "cut_frame",
    "decode",
    "frame_square",
]
