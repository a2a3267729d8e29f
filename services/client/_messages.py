"""What callers send to a session and receive from it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator
from pathlib import Path
from typing import TypeAlias

from talkingface.v1.controls_pb2 import ControlUpdate
from talkingface.v1.media_pb2 import (
    AUDIO_ENCODING_PCM_F32LE,
    AUDIO_ENCODING_PCM_S16LE,
    AudioFormat,
)
from talkingface.v1.talking_face_pb2 import (
    AnimateRequest,
    AnimateResponse,
    EndOfUtterance,
    Event,
    Media,
    Motion,
    Started,
    Summary,
)


class Interrupt:
    """An item of a live session's audio: discard the audio that has not been played yet."""


SessionInput: TypeAlias = bytes | ControlUpdate | EndOfUtterance | Interrupt
Message: TypeAlias = Started | Media | Motion | Event | Summary
Audio: TypeAlias = Path | bytes | AsyncIterable[SessionInput]

CHUNK_BYTES = 64 << 10  # of audio or image in one message


def pcm(sample_rate: int, channels: int = 1, *, floats: bool = False) -> AudioFormat:
    """Return the format of raw little-endian samples.

    :param sample_rate: samples a second of each channel
    :param channels: number of interleaved channels
    :param floats: 32-bit floats in [-1, 1] instead of 16-bit integers
    """
    encoding = AUDIO_ENCODING_PCM_F32LE if floats else AUDIO_ENCODING_PCM_S16LE
    return AudioFormat(encoding=encoding, sample_rate=sample_rate, channels=channels)


def payload(response: AnimateResponse) -> Message:
    """Return the message in a response that is not a resume token."""
    message: Message = getattr(response, response.WhichOneof("payload") or "")
    return message


async def requests(audio: Audio) -> AsyncIterator[AnimateRequest]:
    """Convert audio to the requests that follow the configuration, without the end."""
    if isinstance(audio, Path):
        audio = await asyncio.to_thread(audio.read_bytes)
    if isinstance(audio, bytes):
        for chunk in chunks(audio):
            yield AnimateRequest(audio=chunk)
        return
    async for item in audio:
        match item:
            case ControlUpdate():
                yield AnimateRequest(control=item)
            case EndOfUtterance():
                yield AnimateRequest(end_of_utterance=item)
            case Interrupt():
                yield AnimateRequest(interrupt={})
            case _:
                for chunk in chunks(item):
                    yield AnimateRequest(audio=chunk)


def chunks(data: bytes) -> list[bytes]:
    """Split bytes into chunks for one message each."""
    return [data[i : i + CHUNK_BYTES] for i in range(0, len(data), CHUNK_BYTES)]
