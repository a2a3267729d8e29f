"""Sends a short clip through every stage, to check that they work and how long they take."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from talkingface.contract.durations import duration
from talkingface.contract.rates import SAMPLE_RATE
from talkingface.orchestrator.pipeline import AnyStream, Read
from talkingface.orchestrator.session.offline_session import OfflineSession
from talkingface.orchestrator.session.session import Session
from talkingface.v1 import media_pb2 as media
from talkingface.v1 import talking_face_pb2 as talking_face

_SECONDS = 1.0


def clip() -> bytes:
    """Return 1 s of a 130 Hz buzz that swells four times, as 16-bit samples at 16 kHz."""
    time = np.arange(int(_SECONDS * SAMPLE_RATE)) / SAMPLE_RATE
    buzz = sum(np.sin(2 * np.pi * 130 * n * time) / n for n in range(1, 20))
    swell = 0.5 - 0.5 * np.cos(2 * np.pi * 4 * time)
    pcm: bytes = (4000 * buzz * swell).astype("<i2").tobytes()
    return pcm


def prepare(request: talking_face.SelfTestRequest) -> tuple[Session, Read]:
    """Return a session for the clip, and a function that reads its messages.

    :raises ServiceError: FIELD_INVALID for an invalid handle or an invalid video format.
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

    return OfflineSession(config), read


def report(streams: Iterable[AnyStream], total: float) -> talking_face.SelfTestResponse:
    """Return how long the stages took.

    :param total: duration of the self-test, in seconds.
    """
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
