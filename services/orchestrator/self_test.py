"""A short clip through every stage, to see that they work and how long they take."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from talkingface.contract.durations import duration
from talkingface.contract.rates import SAMPLE_RATE
from talkingface.orchestrator.pipeline import AnyStream, Read
from talkingface.orchestrator.session.session import Session
from talkingface.v1 import media_pb2 as media
from talkingface.v1 import talking_face_pb2 as talking_face

_SECONDS = 1.0


def clip() -> bytes:
    """A second of a buzz at 130 Hz that swells four times, as 16-bit samples at 16 kHz."""
    time = np.arange(int(_SECONDS * SAMPLE_RATE)) / SAMPLE_RATE
    buzz = sum(np.sin(2 * np.pi * 130 * n * time) / n for n in range(1, 20))
    swell = 0.5 - 0.5 * np.cos(2 * np.pi * 4 * time)
    return (4000 * buzz * swell).astype("<i2").tobytes()


def prepare(request: talking_face.SelfTestRequest) -> tuple[Session, Read]:
    """A session of the clip, and the client that sends it.

    :raises ServiceError: FIELD_INVALID for a handle that is none, or pictures that cannot be made.
    """
    pcm = media.AudioFormat(
        encoding=media.AUDIO_ENCODING_PCM_S16LE, sample_rate=SAMPLE_RATE, channels=1
    )
    config = talking_face.AnimateConfig(audio=pcm, seed=1)
    config.output = media.OUTPUT_KIND_MOTION
    if request.HasField("portrait_handle"):
        config.output = media.OUTPUT_KIND_FMP4
        config.portrait_handle = request.portrait_handle
        config.framing = request.framing
        for name in ("size", "frame_rate"):
            if request.HasField(name):
                setattr(config, name, getattr(request, name))
    requests = iter(
        (
            talking_face.AnimateRequest(audio=clip()),
            talking_face.AnimateRequest(end_of_audio={}),
        )
    )

    async def read(idle: bool) -> talking_face.AnimateRequest | None:
        return next(requests, None)

    return Session(config), read


def report(streams: Iterable[AnyStream], total: float) -> talking_face.SelfTestResponse:
    """What the stages took; `total` is in seconds."""
    timings = [
        talking_face.StageTiming(
            stage=stream.info,
            first_result=duration((stream.first_result or stream.opened) - stream.opened),
            total=duration((stream.last_result or stream.opened) - stream.opened),
            results=stream.results,
        )
        for stream in streams
    ]
    return talking_face.SelfTestResponse(timings=timings, total=duration(total))
