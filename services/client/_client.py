"""A connection to a mesh, and the calls over it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from pathlib import Path
from types import TracebackType
from typing import Self

import grpc

from talkingface.client._call import CALL_ENDED, AnimateStream, is_server_lost
from talkingface.client._endpoint import ChannelOptions, Endpoint
from talkingface.client._errors import client_error
from talkingface.client._messages import Audio, Message, chunks, payload, requests
from talkingface.client._resume import ResumableSession
from talkingface.contract.call_status import CallStatus
from talkingface.contract.errors import ServiceError
from talkingface.v1.controls_pb2 import Controls
from talkingface.v1.media_pb2 import (
    AUDIO_ENCODING_FILE,
    FRAMING_CROP,
    OUTPUT_KIND_FMP4,
    AudioFormat,
    Background,
    Framing,
    OutputKind,
)
from talkingface.v1.renderer_pb2 import Portrait
from talkingface.v1.talking_face_pb2 import (
    PACING_OFFLINE,
    AnimateConfig,
    AnimateRequest,
    AnimateResponse,
    GetCapabilitiesRequest,
    GetCapabilitiesResponse,
    Pacing,
    SelfTestRequest,
    SelfTestResponse,
    UploadPortraitRequest,
)
from talkingface.v1.talking_face_pb2_grpc import TalkingFaceServiceStub

_MAX_INLINE_PORTRAIT = 1 << 20  # bytes in the configuration; larger images are uploaded first


class TalkingFace:
    """A connection to a mesh, for any number of concurrent calls in one event loop.

    Use it as an asynchronous context manager, or call `close`. Connecting is lazy: an unreachable
    server makes the first call fail.
    """

    def __init__(
        self,
        target: str,
        *,
        credentials: grpc.ChannelCredentials | None = None,
        call_credentials: grpc.CallCredentials | None = None,
        options: ChannelOptions = (),
    ) -> None:
        """
        :param target: host:port of the orchestrator, or any other gRPC target
        :param credentials: of TLS, such as `grpc.ssl_channel_credentials(...)`; default: in the
            clear
        :param call_credentials: sent with every call over TLS, such as
            `grpc.access_token_call_credentials(...)`
        :param options: of the gRPC channels, beside or in place of this client's own
        :raises ValueError: call credentials without TLS
        """
        self._endpoint = Endpoint(target, credentials, call_credentials, options)
        self._channel = self._endpoint.channel()
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
        """Close the connection and end all calls."""
        await self._channel.close()

    async def animate(
        self,
        *,
        portrait: Path | bytes | str | None,
        audio: Audio,
        audio_format: AudioFormat | None = None,
        output: OutputKind = OUTPUT_KIND_FMP4,
        controls: Controls | None = None,
        seed: int | None = None,
        quality: int | None = None,
        size: int | None = None,
        frame_rate: int | None = None,
        framing: Framing = FRAMING_CROP,
        background: Background | None = None,
        pacing: Pacing = PACING_OFFLINE,
        resumable: bool = False,
    ) -> AsyncGenerator[Message, None]:
        """Animate a portrait, and yield messages while the audio is still being sent.

        The messages are `Started`, then `Media` (`Motion` for OUTPUT_KIND_MOTION) and `Event` in
        order of time, then `Summary`. Closing the generator (`aclose`) ends the session.

        :param portrait: path of an image file, its bytes, or a handle from `upload_portrait`; None
            only for OUTPUT_KIND_MOTION
        :param audio: path of an audio file, its bytes, or an asynchronous iterable of bytes, with
            control updates between them. An update without a time takes effect with the bytes that
            follow it, in a live session with the next motion frame. In live sessions the iterable
            may also contain `EndOfUtterance` and `Interrupt`
        :param audio_format: format of the bytes; default: an audio file; see `pcm` for raw samples
        :param output: container or codec of the media
        :param controls: initial controls; default: those of `capabilities`
        :param seed: 0 .. 2**63 - 1; the same seed, audio and controls give the same motion;
            default: random
        :param quality: CRF of H.264, 10 (best) to 40, default 20; or quality of JPEG, 50 to 100,
            default 92
        :param size: width and height of the video in pixels, even, 256..1024; default 512
        :param frame_rate: frames a second, 25..60; default 25
        :param framing: FRAMING_PHOTO shows the whole photo at its own size, and excludes `size`
        :param background: what is seen behind the person: a colour, an image, or nothing
            (`transparent`: RGBA, or H.264 of double width); default: the photo's
        :param pacing: PACING_LIVE runs in real time until `audio` has ended and has been played;
            it needs raw samples (`pcm`)
        :param resumable: continue at another server, or at the restarted one, when the server is
            lost or shuts down. No message is delivered twice, and an `Event` (KIND_RECOVERED, stage
            "orchestrator") reports the length of the interruption, during which the clock of a live
            session stands still. Costs 110 KB a second; impossible for OUTPUT_KIND_FMP4, so
            `output` must be set
        :raises InvalidInput: the portrait, the audio, a parameter or a control is invalid
        :raises NotFound: there is no portrait with this handle
        :raises NoCapacity: the mesh, or this caller's share of it, is full
        :raises Unavailable: the server or a stage cannot be reached, or was lost; a resumable
            session raises it if no server could take over within a minute
        :raises TalkingFaceError: any other error of the server; base class of the above
        :raises OSError: a file cannot be read
        """
        if isinstance(portrait, Path):
            portrait = await asyncio.to_thread(portrait.read_bytes)
        config = AnimateConfig(
            audio=audio_format or AudioFormat(encoding=AUDIO_ENCODING_FILE),
            output=output,
            controls=controls,
            seed=seed,
            quality=quality,
            size=size,
            frame_rate=frame_rate,
            framing=framing,
            background=background,
            pacing=pacing,
            resumable=resumable,
        )
        if isinstance(portrait, str):
            config.portrait_handle = portrait
        elif portrait is not None and len(portrait) > _MAX_INLINE_PORTRAIT:
            config.portrait_handle = (await self.upload_portrait(portrait)).handle
        elif portrait is not None:
            config.portrait_image = portrait
        if resumable:
            image = portrait if isinstance(portrait, bytes) else None
            session = self._animate_resumable(config, audio, image)
        else:
            session = self._animate_once(config, audio)
        async with aclosing(session) as messages:
            async for message in messages:
                yield message

    async def _animate_once(
        self, config: AnimateConfig, audio: Audio
    ) -> AsyncGenerator[Message, None]:
        """Run a session as one call, which ends with its server."""
        call: AnimateStream = self._stub.Animate()
        status = CallStatus(call)
        sender = asyncio.create_task(_send(call, config, audio))
        try:
            while isinstance(response := await call.read(), AnimateResponse):
                yield payload(response)
            await sender
        except grpc.aio.AioRpcError as rpc_error:
            error = await status.error(rpc_error)
            if is_server_lost(error):
                error.message += ": the session is lost, call again"
            raise client_error(error) from None
        except asyncio.CancelledError:
            if sender.done() and not sender.cancelled() and (cause := sender.exception()):
                raise cause from None  # the audio source has failed, which cancelled the call
            raise
        finally:
            sender.cancel()
            call.cancel()

    async def _animate_resumable(
        self, config: AnimateConfig, audio: Audio, image: bytes | None
    ) -> AsyncGenerator[Message, None]:
        """Run a session that continues at another server when its server is lost.

        :param image: the portrait, for servers that do not have it
        """

        async def upload() -> None:
            assert image is not None
            await self.upload_portrait(image)

        session = ResumableSession(
            self._endpoint, config, requests(audio), None if image is None else upload
        )
        async with aclosing(session.messages()) as messages:
            try:
                async for message in messages:
                    yield message
            except ServiceError as error:
                raise client_error(error) from None

    async def upload_portrait(self, image: Path | bytes) -> Portrait:
        """Check and store a portrait; its handle can be used in any number of sessions.

        :param image: path of an image file (JPEG, PNG or WebP), or its bytes
        :raises InvalidInput: it cannot be animated; `reason` says why, such as "NO_FACE"
        :raises TalkingFaceError: any other error, see `animate`
        :raises OSError: the file cannot be read
        """
        data = await asyncio.to_thread(image.read_bytes) if isinstance(image, Path) else image

        async def messages() -> AsyncIterator[UploadPortraitRequest]:
            for chunk in chunks(data):
                yield UploadPortraitRequest(data=chunk)

        try:
            response = await self._stub.UploadPortrait(messages())
        except grpc.aio.AioRpcError as error:
            raise client_error(ServiceError.from_rpc(error)) from None
        portrait: Portrait = response.portrait
        return portrait

    async def capabilities(self) -> GetCapabilitiesResponse:
        """Return the server's versions, formats, limits and default controls.

        :raises TalkingFaceError: see `animate`
        """
        try:
            response: GetCapabilitiesResponse = await self._stub.GetCapabilities(
                GetCapabilitiesRequest()
            )
        except grpc.aio.AioRpcError as error:
            raise client_error(ServiceError.from_rpc(error)) from None
        return response

    async def self_test(self, portrait_handle: str | None = None) -> SelfTestResponse:
        """Send a short clip through every stage, and return the time that each took.

        :param portrait_handle: portrait to render; None: the clip is not rendered
        :raises TalkingFaceError: see `animate`
        """
        try:
            response: SelfTestResponse = await self._stub.SelfTest(
                SelfTestRequest(portrait_handle=portrait_handle)
            )
        except grpc.aio.AioRpcError as error:
            raise client_error(ServiceError.from_rpc(error)) from None
        return response


async def _send(call: AnimateStream, config: AnimateConfig, audio: Audio) -> None:
    """Send the configuration and the audio; an exception of the audio source ends the call."""
    try:
        await call.write(AnimateRequest(config=config))
        async for request in requests(audio):
            await call.write(request)
        await call.write(AnimateRequest(end_of_audio={}))
        await call.done_writing()
    except CALL_ENDED:
        return  # the call has ended; its reader gets the reason
    except BaseException:
        call.cancel()
        raise
