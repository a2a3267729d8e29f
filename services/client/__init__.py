"""The Python client.

async with TalkingFace("127.0.0.1:50050") as tf:
    async for message in tf.animate(portrait=Path("face.jpg"), audio=Path("voice.flac")):
        if isinstance(message, Media):
            file.write(message.data)
"""

from __future__ import annotations

from talkingface.client._client import Interrupt, Message, Piece, TalkingFace, pcm
from talkingface.client._errors import (
    InvalidInput,
    NoCapacity,
    NotFound,
    TalkingFaceError,
    Unavailable,
)
from talkingface.v1.controls_pb2 import Controls, ControlUpdate, Emotion, Gaze
from talkingface.v1.media_pb2 import (
    AUDIO_ENCODING_FILE,
    AUDIO_ENCODING_PCM_F32LE,
    AUDIO_ENCODING_PCM_S16LE,
    FRAMING_CROP,
    FRAMING_PHOTO,
    OUTPUT_KIND_FMP4,
    OUTPUT_KIND_H264,
    OUTPUT_KIND_JPEG,
    OUTPUT_KIND_MOTION,
    OUTPUT_KIND_PNG,
    AudioFormat,
    Framing,
    OutputKind,
    VideoFormat,
)
from talkingface.v1.motion_pb2 import HeadRotation, MotionFrame
from talkingface.v1.renderer_pb2 import Portrait
from talkingface.v1.talking_face_pb2 import (
    PACING_LIVE,
    PACING_OFFLINE,
    EndOfUtterance,
    Event,
    Media,
    Motion,
    Pacing,
    Started,
    Summary,
)

__all__ = [
    "AUDIO_ENCODING_FILE",
    "AUDIO_ENCODING_PCM_F32LE",
    "AUDIO_ENCODING_PCM_S16LE",
    "FRAMING_CROP",
    "FRAMING_PHOTO",
    "OUTPUT_KIND_FMP4",
    "OUTPUT_KIND_H264",
    "OUTPUT_KIND_JPEG",
    "OUTPUT_KIND_MOTION",
    "OUTPUT_KIND_PNG",
    "PACING_LIVE",
    "PACING_OFFLINE",
    "AudioFormat",
    "ControlUpdate",
    "Controls",
    "Emotion",
    "EndOfUtterance",
    "Event",
    "Framing",
    "Gaze",
    "HeadRotation",
    "Interrupt",
    "InvalidInput",
    "Media",
    "Message",
    "Motion",
    "MotionFrame",
    "NoCapacity",
    "NotFound",
    "OutputKind",
    "Pacing",
    "Piece",
    "Portrait",
    "Started",
    "Summary",
    "TalkingFace",
    "TalkingFaceError",
    "Unavailable",
    "VideoFormat",
    "pcm",
]
