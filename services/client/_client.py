"""A connection to a mesh, and the calls over it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator
from contextlib import aclosing
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import grpc

from talkingface.client._errors import (
    client_error,
)
from talkingface.client._resume import ResumableSession, lost
from talkingface.contract.call_status import CallStatus
from talkingface.contract.channel import CLIENT_OPTIONS
from talkingface.contract.errors import ServiceError
from talkingface.v1.controls_pb2 import (
    Controls,
    ControlUpdate,
)
from talkingface.v1.media_pb2 import (
    AUDIO_ENCODING_FILE,
    AUDIO_ENCODING_PCM_F32LE,
    AUDIO_ENCODING_PCM_S16LE,
    FRAMING_CROP,
    OUTPUT_KIND_FMP4,
    AudioFormat,
    Framing,
    OutputKind,
)
from talkingface.v1.renderer_pb2 import Portrait
from talkingface.v1.talking_face_pb2 import PACING_LIVE as PACING_LIVE
from talkingface.v1.talking_face_pb2 import PACING_OFFLINE as PACING_OFFLINE
from talkingface.v1.talking_face_pb2 import (
    AnimateConfig,
    AnimateRequest,
    EndOfUtterance,
    Event,
    GetCapabilitiesRequest,
    GetCapabilitiesResponse,
    Media,
    Motion,
    Pacing,
    SelfTestRequest,
    SelfTestResponse,
    Started,
    Summary,
    UploadPortraitRequest,
)
from talkingface.v1.talking_face_pb2_grpc import TalkingFaceServiceStub


class Interrupt:
    """Sent between pieces of a live session's audio: drop what has not been played."""


Piece = bytes | ControlUpdate | EndOfUtterance | Interrupt
Message = Started | Media | Motion | Event | Summary
_CHUNK = 64 << 10
_INLINE_PORTRAIT = 1 << 20  # larger ones are uploaded


def pcm(sample_rate: int, channels: int = 1, *, floats: bool = False) -> AudioFormat:
    """Format of raw little-endian samples: 16-bit integers, or 32-bit floats in [-1, 1]."""
    encoding = AUDIO_ENCODING_PCM_F32LE if floats else AUDIO_ENCODING_PCM_S16LE
    return AudioFormat(encoding=encoding, sample_rate=sample_rate, channels=channels)


class TalkingFace:
    """A connection to a mesh. Any number of calls may run side by side."""

    def __init__(self, target: str) -> None:
        """
        :param target: host:port of the orchestrator, or any other gRPC target.
        """
        self._target = target
        self._channel = grpc.aio.insecure_channel(target, options=CLIENT_OPTIONS)
        self._stub = TalkingFaceServiceStub(self._channel)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """End the connection and all calls."""
        await self._channel.close()

    async def animate(
        self,
        *,
        portrait: Path | bytes | str | None,
        audio: Path | bytes | AsyncIterable[Piece],
        audio_format: AudioFormat | None = None,
        output: OutputKind = OUTPUT_KIND_FMP4,
        controls: Controls | None = None,
        seed: int | None = None,
        quality: int | None = None,
        size: int | None = None,
        frame_rate: int | None = None,
        framing: Framing = FRAMING_CROP,
        pacing: Pacing = PACING_OFFLINE,
        resumable: bool = False,
    ) -> AsyncIterator[Message]:
        """Animate a portrait; messages come while the audio is still being sent.

        :param portrait: an image file, its bytes, or a handle from `upload_portrait`; None only
            for OUTPUT_KIND_MOTION.
        :param audio: an audio file, its bytes, or bytes as they come, with changes of controls
            between them. A change without time belongs to the bytes that follow it, in a live
            session to the next motion made. Live sessions may be told of the ends of utterances,
            and interrupted.
        :param audio_format: default: an audio file; see `pcm` for raw samples.
        :param size: width and height of the picture, even, 256..1024; default 512.
        :param frame_rate: pictures a second, 25..60; default 25.
        :param framing: FRAMING_PHOTO shows the whole photo at its own size: then no `size`.
        :param pacing: PACING_LIVE runs by the clock until `audio` ends and is played; it takes raw
            samples (`pcm`).
        :param resumable: go on at another server, or at the same one when it is back, where this
            one is lost or leaves. Nothing comes twice, and an Event (KIND_RECOVERED, stage
            "orchestrator") tells how long nothing came: in a live session the clock stands still
            meanwhile. Costs 110 KB a second; not for OUTPUT_KIND_FMP4, so `output` must be
            stated.
        :raises TalkingFaceError: what the server refuses with. `Unavailable`: the server is lost,
            and the session with it, or could not be found again within a minute: call again.
        """
        config = AnimateConfig(
            audio=audio_format or AudioFormat(encoding=AUDIO_ENCODING_FILE),
            output=output,
            controls=controls,
            seed=seed,
            quality=quality,
            size=size,
            frame_rate=frame_rate,
            framing=framing,
            pacing=pacing,
            resumable=resumable,
        )
        if isinstance(portrait, Path):
            portrait = await asyncio.to_thread(portrait.read_bytes)
        image = portrait
        if isinstance(portrait, bytes) and len(portrait) > _INLINE_PORTRAIT:
            portrait = (await self.upload_portrait(portrait)).handle
        if isinstance(portrait, bytes):
            config.portrait_image = portrait
        elif portrait is not None:
            config.portrait_handle = portrait
        if resumable:
            async with aclosing(self._resumable(config, audio, image)) as messages:
                async for message in messages:
                    yield message
            return
        call = self._stub.Animate()
        status = CallStatus(call)
        sender = asyncio.create_task(_send(call, config, audio))
        try:
            while (answer := await call.read()) is not grpc.aio.EOF:
                yield getattr(answer, answer.WhichOneof("payload"))
            await sender
        except grpc.aio.AioRpcError as error:
            told = await status.error(error)
            if lost(told):
                told.message += ": the session is lost, call again"
            raise client_error(told) from None
        except asyncio.CancelledError:
            if sender.done() and not sender.cancelled() and (cause := sender.exception()):
                raise cause from None  # the source of audio has failed, which ended the call
            raise
        finally:
            sender.cancel()
            call.cancel()

    async def _resumable(
        self,
        config: AnimateConfig,
        audio: Path | bytes | AsyncIterable[Piece],
        image: bytes | str | None,
    ) -> AsyncGenerator[Message, None]:
        async def upload() -> None:
            assert isinstance(image, bytes)
            await self.upload_portrait(image)

        session = ResumableSession(
            self._target, config, _pieces(audio), upload if isinstance(image, bytes) else None
        )
        async with aclosing(session.messages()) as messages:
            try:
                async for message in messages:
                    yield message
            except ServiceError as error:
                raise client_error(error) from None

    async def upload_portrait(self, image: Path | bytes) -> Portrait:
        """Check and store a portrait; its handle serves any number of sessions.

        :raises TalkingFaceError: InvalidInput where it cannot be animated.
        """
        data = await asyncio.to_thread(image.read_bytes) if isinstance(image, Path) else image

        async def pieces() -> AsyncIterator[UploadPortraitRequest]:
            for first in range(0, len(data), _CHUNK):
                yield UploadPortraitRequest(data=data[first : first + _CHUNK])

        try:
            response = await self._stub.UploadPortrait(pieces())
        except grpc.aio.AioRpcError as error:
            raise client_error(ServiceError.from_rpc(error)) from None
        portrait: Portrait = response.portrait
        return portrait

    async def capabilities(self) -> GetCapabilitiesResponse:
        """What the server can do."""
        try:
            response: GetCapabilitiesResponse = await self._stub.GetCapabilities(
                GetCapabilitiesRequest()
            )
        except grpc.aio.AioRpcError as error:
            raise client_error(ServiceError.from_rpc(error)) from None
        return response

    async def self_test(self, portrait_handle: str | None = None) -> SelfTestResponse:
        """Send a short clip through every stage."""
        try:
            response: SelfTestResponse = await self._stub.SelfTest(
                SelfTestRequest(portrait_handle=portrait_handle)
            )
        except grpc.aio.AioRpcError as error:
            raise client_error(ServiceError.from_rpc(error)) from None
        return response


async def _pieces(
    audio: Path | bytes | AsyncIterable[Piece],
) -> AsyncIterator[AnimateRequest]:
    if isinstance(audio, Path):
        audio = await asyncio.to_thread(audio.read_bytes)
    if isinstance(audio, bytes):
        for first in range(0, len(audio), _CHUNK):
            yield AnimateRequest(audio=audio[first : first + _CHUNK])
        return
    async for piece in audio:
        match piece:
            case ControlUpdate():
                yield AnimateRequest(control=piece)
            case EndOfUtterance():
                yield AnimateRequest(end_of_utterance=piece)
            case Interrupt():
                yield AnimateRequest(interrupt={})
            case _:
                for first in range(0, len(piece), _CHUNK):
                    yield AnimateRequest(audio=piece[first : first + _CHUNK])


async def _send(
    call: Any, config: AnimateConfig, audio: Path | bytes | AsyncIterable[Piece]
) -> None:
    try:
        await call.write(AnimateRequest(config=config))
        async for request in _pieces(audio):
            await call.write(request)
        await call.write(AnimateRequest(end_of_audio={}))
        await call.done_writing()
    except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
        return  # the call has ended: its reader knows why
    except BaseException:
        call.cancel()
        raise
