"""The service that clients call: `python -m talkingface.orchestrator.server`."""

from __future__ import annotations

import asyncio
import math
import sys
import time
from collections.abc import AsyncIterator

import grpc

import talkingface
from talkingface.contract.channel import MAX_MESSAGE_BYTES
from talkingface.contract.durations import duration
from talkingface.contract.errors import ServiceError
from talkingface.contract.messages import check_size
from talkingface.contract.portrait import MAX_BYTES, MAX_PIXELS, MIN_FACE
from talkingface.contract.video import (
    DEFAULT_SIZE,
    FRAMINGS,
    MAX_FRAME_RATE,
    MAX_PHOTO_SIDE,
    MAX_SIZE,
    MIN_FRAME_RATE,
    MIN_SIZE,
)
from talkingface.orchestrator import self_test
from talkingface.orchestrator.config import OrchestratorConfig
from talkingface.orchestrator.media.decoding import MAX_SECONDS, MIN_SECONDS
from talkingface.orchestrator.pipeline import Read, SessionPipeline, Write
from talkingface.orchestrator.session.config import CODECS, default_controls
from talkingface.orchestrator.session.open_session import open_session
from talkingface.orchestrator.session.resume_token import BUILD, Tokens, without_checkpoints
from talkingface.orchestrator.session.session import Answer, Session
from talkingface.orchestrator.stages.capacity import MachineCapacity
from talkingface.orchestrator.stages.pool import Stages
from talkingface.orchestrator.stages.portraits import Portraits, UploadStore
from talkingface.serving import stream_io
from talkingface.serving.admission import Slots, check_caller
from talkingface.serving.checkpoint import mismatch
from talkingface.serving.config import load_or_exit
from talkingface.serving.server import Call, Context, ServiceHost, set_up_logging
from talkingface.v1 import media_pb2 as media
from talkingface.v1 import renderer_pb2 as renderer
from talkingface.v1 import resume_pb2 as resume
from talkingface.v1 import talking_face_pb2 as talking_face
from talkingface.v1 import talking_face_pb2_grpc as talking_face_grpc

NAME = "orchestrator"
SERVICE = "talkingface.v1.TalkingFaceService"

# When a client cancels, its stream ends a moment before the call is cancelled.
_CANCEL_SECONDS = 0.05
_UPLOAD_SECONDS = 300.0  # longest duration of an upload
_UPDATE_SECONDS = 0.5  # between updates of the number of slots


class Orchestrator(talking_face_grpc.TalkingFaceServiceServicer):
    """Owns the sessions."""

    def __init__(self, config: OrchestratorConfig) -> None:
        self._config = config
        self._host = ServiceHost(NAME, config, config.caller_slots)
        self._uploads = Slots(f"{NAME} for uploads", config.upload_slots)
        self._slot_updates: asyncio.Task[None] | None = None
        self._capacity: MachineCapacity | None = None
        self._measuring: asyncio.Task[None] | None = None
        self._tokens = Tokens(config.resume_key, config.resume_seconds)
        self._stages = Stages(config, self._host.metrics)
        store = UploadStore(config.upload_store, config.upload_store_bytes)
        self._portraits = Portraits(self._stages, store)

    async def run(self) -> int:
        """Serve until a signal, and return the exit code."""
        return await self._host.run(SERVICE, self._add_to, self._start, self._stop)

    def _add_to(self, server: grpc.aio.Server) -> None:
        talking_face_grpc.add_TalkingFaceServiceServicer_to_server(self, server)

    async def _start(self) -> None:
        await self._stages.start()
        if self._config.slots:
            return
        if self._config.shared_machine:
            self._capacity = MachineCapacity(self._stages.measurable, lambda: self._host.idle)
            self._measuring = asyncio.create_task(self._capacity.run())
        self._slot_updates = asyncio.create_task(self._update_slots())

    async def _stop(self) -> None:
        for task in (self._slot_updates, self._measuring):
            if task is not None:
                task.cancel()
        await self._stages.close()

    async def _update_slots(self) -> None:
        """Offer as many slots as the stages have together, as their replicas change.

        On a machine that they share, as many as the machine holds: stages do not limit them there.
        """
        while True:
            shared = self._capacity
            self._host.slots.total = shared.sessions if shared else self._stages.slots
            await asyncio.sleep(_UPDATE_SECONDS)

    # The methods of the service; see talking_face.proto.

    async def Animate(
        self, requests: AsyncIterator[talking_face.AnimateRequest], context: Context
    ) -> None:
        """Animate a portrait."""
        async with self._host.call(context, "Animate") as call:
            seconds = self._config.session_seconds
            call.limit(seconds, "SESSION_TIMEOUT", f"the session has lasted {seconds:g} s")
            first = await call.admit(
                lambda: self._read(context, self._config.idle_timeout), self._caller(context)
            )
            if first is None or first.WhichOneof("payload") != "config":
                raise ServiceError("MESSAGE_ORDER", "the first message must be `config`")
            await self._animate_or_resume(context, call, first.config)

    async def _animate_or_resume(
        self, context: Context, call: Call, config: talking_face.AnimateConfig
    ) -> None:
        """Run the session; a resumed one starts cold if another build made its checkpoints."""
        if not config.HasField("resume"):
            return await self._animate(context, call, config)
        state = self._tokens.unpack(config.resume.token)
        try:
            if state.version != BUILD:
                raise mismatch(f"made by {state.version}, this is {BUILD}")
            return await self._animate(context, call, config, state)
        except ServiceError as error:  # from here, or from a stage
            if error.reason != "CHECKPOINT_MISMATCH" or config.resume.same_build:
                raise
        return await self._animate(context, call, config, without_checkpoints(state))

    async def _animate(
        self,
        context: Context,
        call: Call,
        config: talking_face.AnimateConfig,
        state: resume.SessionState | None = None,
    ) -> None:
        # A live session is bounded by the clock, not by its audio.
        session = open_session(config, max_live=math.inf, state=state)
        call.session_id = session.session_id
        self._stages.check_capacity(renders=session.renders)
        portrait = await self._portrait_of(session)
        timeout = self._config.live_idle_timeout if session.live else self._config.idle_timeout

        async def read(idle: bool) -> talking_face.AnimateRequest | None:
            return await self._read(context, timeout if idle else None)

        async def write(answer: Answer) -> None:
            await stream_io.write(context, answer, self._config.idle_timeout)
            if answer.WhichOneof("payload") in ("media", "motion"):
                call.result()

        await self._run_pipeline(session, portrait, read, write)

    async def UploadPortrait(
        self, requests: AsyncIterator[talking_face.UploadPortraitRequest], context: Context
    ) -> talking_face.UploadPortraitResponse:
        """Store a portrait."""
        async with self._host.call(context, "UploadPortrait") as call:
            call.reserve(self._uploads)
            call.limit(_UPLOAD_SECONDS, "SESSION_TIMEOUT", "the upload takes too long")
            image, idle = bytearray(), self._config.idle_timeout
            while (request := await stream_io.read(context, idle)) is not None:
                check_size(request.data, "data")
                image += request.data
                if len(image) > MAX_BYTES:
                    raise ServiceError(
                        "IMAGE_TOO_LARGE", f"the file has more than {MAX_BYTES} bytes"
                    )
            portrait = await self._portraits.add(bytes(image))
            return talking_face.UploadPortraitResponse(portrait=portrait)
        raise AssertionError("unreachable: a call that fails is aborted")

    async def GetCapabilities(
        self, request: talking_face.GetCapabilitiesRequest, context: Context
    ) -> talking_face.GetCapabilitiesResponse:
        """Return what this server supports, and its limits."""
        return talking_face.GetCapabilitiesResponse(
            version=talkingface.__version__,
            stages=self._stages.infos(),
            frame_size=DEFAULT_SIZE,
            frame_rate=MIN_FRAME_RATE,
            outputs=[*CODECS, media.OUTPUT_KIND_MOTION],
            audio_encodings=[
                media.AUDIO_ENCODING_PCM_S16LE,
                media.AUDIO_ENCODING_PCM_F32LE,
                media.AUDIO_ENCODING_FILE,
            ],
            limits=talking_face.Limits(
                max_message_bytes=MAX_MESSAGE_BYTES,
                max_portrait_bytes=MAX_BYTES,
                max_portrait_pixels=MAX_PIXELS,
                min_face_pixels=MIN_FACE,
                min_audio=duration(MIN_SECONDS),
                max_audio=duration(MAX_SECONDS),
                max_sessions=self._host.slots.total,
                idle_timeout=duration(self._config.idle_timeout),
                min_frame_size=MIN_SIZE,
                max_frame_size=MAX_SIZE,
                min_frame_rate=MIN_FRAME_RATE,
                max_frame_rate=MAX_FRAME_RATE,
                max_photo_side=MAX_PHOTO_SIDE,
                session_time=duration(self._config.session_seconds),
                live_idle_timeout=duration(self._config.live_idle_timeout),
                max_sessions_per_caller=self._config.caller_slots,
                resume_window=duration(self._config.resume_seconds),
            ),
            default_controls=default_controls(),
            framings=FRAMINGS,
        )

    async def SelfTest(
        self, request: talking_face.SelfTestRequest, context: Context
    ) -> talking_face.SelfTestResponse:
        """Send a short clip through every stage."""
        async with self._host.call(context, "SelfTest") as call:
            call.reserve(caller=self._caller(context))
            session, read = self_test.prepare(request)
            call.session_id = session.session_id
            portrait = await self._portrait_of(session)

            async def write(answer: Answer) -> None:
                pass

            pipeline = await self._run_pipeline(session, portrait, read, write)
            return self_test.report(pipeline.streams, time.perf_counter() - call.started)
        raise AssertionError("unreachable: a call that fails is aborted")

    def _caller(self, context: Context) -> str:
        """Return the name of the caller; "" if it is not given, or not needed.

        :raises ServiceError: FIELD_INVALID.
        """
        if not self._config.caller_slots:
            return ""
        key = self._config.caller_key
        names = [str(value) for name, value in context.invocation_metadata() or () if name == key]
        return check_caller(names, key)

    async def _portrait_of(self, session: Session) -> renderer.Portrait | None:
        """Return the session's portrait, stored if it is new; None if it needs none.

        :raises ServiceError: PORTRAIT_NOT_FOUND, or the renderer's refusal.
        """
        config = session.config
        match config.WhichOneof("portrait"):
            case "portrait_image":
                return await self._portraits.add(config.portrait_image)
            case "portrait_handle":
                return await self._portraits.find(config.portrait_handle)
        return None

    async def _run_pipeline(
        self, session: Session, portrait: renderer.Portrait | None, read: Read, write: Write
    ) -> SessionPipeline:
        pipeline = SessionPipeline(
            session, self._stages, self._portraits, self._config.recovery_timeout, self._tokens
        )
        draining = asyncio.create_task(self._announce_draining(session, pipeline))
        try:
            await pipeline.run(portrait, read, write)
        finally:
            draining.cancel()
        self._host.metrics.count("sessions")
        return pipeline

    async def _announce_draining(self, session: Session, pipeline: SessionPipeline) -> None:
        await self._host.draining.wait()
        event = talking_face.Event(
            kind=talking_face.Event.KIND_DRAINING,
            time=duration(session.audio_seconds),
            deadline=duration(self._host.drain_left),
        )
        await pipeline.announce(Answer(event=event))

    async def _read(
        self, context: Context, seconds: float | None
    ) -> talking_face.AnimateRequest | None:
        """Return the client's next message, or None after its last.

        :param seconds: longest time to wait for it; None for no limit.
        :raises ServiceError: IDLE_TIMEOUT.
        """
        message: talking_face.AnimateRequest | None = await stream_io.read(context, seconds)
        if message is None:  # a client that cancels seems to close its side first
            await asyncio.sleep(_CANCEL_SECONDS)
        return message


async def main() -> int:
    """Serve until a signal, and return the exit code."""
    config = load_or_exit(OrchestratorConfig)
    set_up_logging(NAME, config.log_level)
    return await Orchestrator(config).run()


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
