"""The Python client: animate portraits with a mesh over gRPC.

The client is asynchronous; in a program that uses asyncio:

    import asyncio
    from pathlib import Path
    from typing import BinaryIO

    from talkingface.client import Media, TalkingFace

    async def animate(file: BinaryIO) -> None:
        async with TalkingFace("127.0.0.1:50050") as face:
            messages = face.animate(portrait=Path("face.jpg"), audio=Path("voice.flac"))
            async for message in messages:
                if isinstance(message, Media):
                    file.write(message.data)

In a synchronous program:

    from talkingface.client import BlockingTalkingFace

    with BlockingTalkingFace("127.0.0.1:50050") as face, open("talking.mp4", "wb") as file:
        for message in face.animate(portrait=Path("face.jpg"), audio=Path("voice.flac")):
            if isinstance(message, Media):
                file.write(message.data)

Both take `credentials` for TLS, `call_credentials` and channel `options`, in gRPC's own types.

A live session sends raw samples as they are recorded or synthesised, and plays them in real time:

    messages = face.animate(
        portrait=Path("face.jpg"),
        audio=microphone(),  # an asynchronous iterable of bytes
        audio_format=pcm(16_000),
        output=OUTPUT_KIND_H264,
        pacing=PACING_LIVE,
    )

An `Event` reports what the caller may want to show: speech that starts or ends, an utterance that
was played, a change of the level at which frames are rendered (`Event.KIND_LEVEL_CHANGED`, with
`level` and `level_reason`), or frames that were dropped.

Errors are subclasses of `TalkingFaceError`: `InvalidInput`, `NotFound`, `NoCapacity` and
`Unavailable`. All other public names are messages and constants of the protos, which document them.
"""

from __future__ import annotations

from talkingface.client._blocking import BlockingTalkingFace
from talkingface.client._client import TalkingFace
from talkingface.client._errors import (
    InvalidInput,
    NoCapacity,
    NotFound,
    TalkingFaceError,
    Unavailable,
)
from talkingface.client._messages import Interrupt, Message, SessionInput, pcm
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
    Background,
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
    GetCapabilitiesResponse,
    Media,
    Motion,
    Pacing,
    SelfTestResponse,
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
    "Background",
    "BlockingTalkingFace",
    "ControlUpdate",
    "Controls",
    "Emotion",
    "EndOfUtterance",
    "Event",
    "Framing",
    "Gaze",
    "GetCapabilitiesResponse",
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
    "Portrait",
    "SelfTestResponse",
    "SessionInput",
    "Started",
    "Summary",
    "TalkingFace",
    "TalkingFaceError",
    "Unavailable",
    "VideoFormat",
    "pcm",
]
