"""Moves the data of one session: client, speech encoder, motion generator, renderer, client.

Each of these steps is a task with a bounded queue, so that a slow one holds back those before it,
up to the client, and no other session. However the session ends, all its streams end with it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from typing import Any, TypeAlias

from talkingface.contract.arrays import Float32Array
from talkingface.contract.durations import duration
from talkingface.contract.errors import ServiceError
from talkingface.contract.rates import MOTION_FPS
from talkingface.contract.stage_streams import StreamConfig, StreamRequest, StreamResponse
from talkingface.contract.video import RenderLevel
from talkingface.orchestrator.media.decoding import AudioChunk
from talkingface.orchestrator.media.hop_buffer import HopBuffer
from talkingface.orchestrator.session.live_session import LiveSession
from talkingface.orchestrator.session.resume_token import Tokens
from talkingface.orchestrator.session.session import Answer, Session
from talkingface.orchestrator.session.stage_configs import (
    extract_config,
    generate_config,
    render_config,
)
from talkingface.orchestrator.stages.checkpoints import CheckpointSet
from talkingface.orchestrator.stages.methods import (
    ExtractMethod,
    GenerateMethod,
    RenderMethod,
    StageMethod,
)
from talkingface.orchestrator.stages.pool import Stages
from talkingface.orchestrator.stages.portraits import Portraits
from talkingface.orchestrator.stages.stream import (
    Connect,
    KeptCheckpoint,
    Recovery,
    ResilientStream,
)
from talkingface.v1 import renderer_pb2 as renderer
from talkingface.v1 import stage_pb2 as stage
from talkingface.v1 import talking_face_pb2 as talking_face
from talkingface.v1.audio_features_pb2 import ExtractRequest
from talkingface.v1.controls_pb2 import ControlUpdate
from talkingface.v1.motion_gen_pb2 import GenerateRequest
from talkingface.v1.renderer_pb2 import RenderRequest

_QUEUED_ANSWERS = 16
# Labels of the metric.
_LEVEL_REASONS = {
    talking_face.Event.LEVEL_REASON_OVERLOAD: "overload",
    talking_face.Event.LEVEL_REASON_HEADROOM: "headroom",
}

# Returns the client's next message, or None after its last. Its argument says whether the client
# may be ended for sending nothing.
Read = Callable[[bool], Awaitable[talking_face.AnimateRequest | None]]
Write = Callable[[Answer], Awaitable[None]]

AnyStream: TypeAlias = ResilientStream[Any, Any, Any]


class SessionPipeline:
    """Runs one session."""

    def __init__(
        self,
        session: Session,
        stages: Stages,
        portraits: Portraits,
        recovery_timeout: float,
        tokens: Tokens | None = None,
    ) -> None:
        """
        :param recovery_timeout: seconds within which a stage's broken stream must continue.
        :param tokens: makes the tokens of a resumable session.
        """
        self._session = session
        self._tokens = tokens if session.config.resumable else None
        self._checkpoints = CheckpointSet(session.start.state, renders=session.renders)
        self._stages = stages
        self._recovery_timeout = recovery_timeout
        self._features = self._stream(ExtractMethod(), partial(stages.open, ExtractMethod()))
        self._motion = self._stream(
            GenerateMethod(), partial(stages.open, GenerateMethod()), _controls_of
        )
        render = RenderMethod(session.frame_rate)
        self._renderer = self._stream(
            render, partial(portraits.open_renderer, render, live=session.live)
        )
        self._hops = HopBuffer(session.start.encoder_sample)
        # Samples for the speech encoder; None is the end.
        self._audio: asyncio.Queue[bytes | None] = asyncio.Queue(session.max_queued_chunks)
        self._answers: asyncio.Queue[Answer | None] = asyncio.Queue(_QUEUED_ANSWERS)
        self._progress = asyncio.Event()  # set when frames have come out
        self._level: RenderLevel | None = None  # at which the session is counted in the metrics

    @property
    def streams(self) -> list[AnyStream]:
        """The streams of the session, in the order of the data."""
        streams: list[AnyStream] = [self._features, self._motion]
        return [*streams, self._renderer] if self._session.renders else streams

    def _stream(
        self,
        method: StageMethod[StreamConfig, StreamRequest, StreamResponse],
        connect: Connect[StreamConfig, StreamRequest, StreamResponse],
        controls_of: Callable[[list[StreamRequest]], list[ControlUpdate]] = lambda _: [],
    ) -> ResilientStream[StreamConfig, StreamRequest, StreamResponse]:
        """Make the stream to a stage.

        :param controls_of: returns the control updates among requests.
        """

        async def keep(kept: KeptCheckpoint[StreamRequest]) -> None:
            history = self._checkpoints.histories[method.name]
            controls = controls_of(kept.contained)
            history.keep(kept.checkpoint, kept.consumed, kept.produced, controls)
            if method.name == self._checkpoints.last:
                await self._answers.put(self._token())

        return ResilientStream(
            method,
            connect,
            self._recovery_timeout,
            self._on_recovery,
            self._stages.config.live_stage_timeout if self._session.live else None,
            keep if self._tokens is not None else None,
        )

    def _token(self) -> Answer:
        """Return the token with which the session can continue after the queued answers."""
        assert self._tokens is not None
        session = self._session
        state = self._checkpoints.consistent_snapshot(
            session.next_frame, session.frame_rate, _controls_of(self._motion.history.pending)
        )
        return session.token(state, self._tokens.pack)

    async def _on_recovery(self, recovery: Recovery) -> None:
        self._stages.metrics.recovered(recovery.name, recovery.cause, recovery.stall)
        if recovery.restarted and recovery.name == self._motion.name:
            self._session.motion_restarted()
        if recovery.name == self._renderer.name:
            self._session.renderer_recovered()
        if recovery.stall is None:
            return
        event = talking_face.Event(
            kind=talking_face.Event.KIND_RECOVERED,
            time=duration(self._session.audio_seconds),
            stage=recovery.name,
            stall=duration(recovery.stall),
            restarted=recovery.restarted,
        )
        await self.announce(Answer(event=event))

    async def run(self, portrait: renderer.Portrait | None, read: Read, write: Write) -> None:
        """Run the session from its first answer to its last.

        :param portrait: portrait to animate; None if the renderer takes no part.
        :param read: reads from the client.
        :param write: writes to the client.
        :raises ServiceError: an error of the client or of a stage.
        """
        session = self._session
        reader: asyncio.Task[None] | None = None
        try:
            infos = await self._open(portrait)
            await write(session.started(infos, portrait))
            if self._tokens is not None and not session.start.state.HasField("config"):
                await write(self._token())
            for control in session.initial_controls:
                await self._motion.send(GenerateRequest(control=control))
            if isinstance(session, LiveSession) and session.renders:
                self._count_at_level(session.level)
            async with asyncio.TaskGroup() as group:
                reader = group.create_task(self._read_client(read))
                if isinstance(session, LiveSession):
                    group.create_task(self._play_out(session))
                group.create_task(self._send_audio())
                group.create_task(self._forward_features())
                group.create_task(self._forward_motion())
                if session.renders:
                    group.create_task(self._forward_frames())
                while (answer := await self._answers.get()) is not None:
                    await write(answer)
                reader.cancel()
        except BaseExceptionGroup as errors:
            raise _first_cause(errors) from None
        finally:
            self.close()

    def close(self) -> None:
        """End all streams at once."""
        for stream in self.streams:
            stream.cancel()
        self._count_at_level(None)
        self._session.close()

    def _count_at_level(self, level: RenderLevel | None) -> None:
        """Count the session at a level in the metrics; None to count it no more."""
        self._stages.metrics.session_at_level(self._level, level)
        self._level = level

    async def _open(self, portrait: renderer.Portrait | None) -> list[stage.StageInfo]:
        """Open the streams concurrently, each of which takes a slot of its stage."""
        session, start = self._session, self._session.start
        row = start.state.motion_gen.consumed
        async with asyncio.TaskGroup() as group:
            group.create_task(
                self._features.open(extract_config(session), row, start.encoder_sample)
            )
            group.create_task(self._motion.open(generate_config(session), start.motion_frame, row))
            if portrait is not None:
                config = render_config(session, portrait.handle)
                consumed = start.state.renderer.consumed
                group.create_task(self._renderer.open(config, start.frame, consumed))
        return [stream.info for stream in self.streams]

    async def _answer(self, answers: list[Answer]) -> None:
        for answer in answers:
            await self._answers.put(answer)

    async def announce(self, answer: Answer) -> None:
        """Send the client an answer that is not caused by its data."""
        await self._answers.put(answer)

    async def _read_client(self, read: Read) -> None:
        session = self._session
        while True:
            message = await read(True)
            if message is None:
                raise ServiceError("MESSAGE_ORDER", "the stream was closed without `end_of_audio`")
            match message.WhichOneof("payload"):
                case "audio":
                    await self._add_chunks(session.audio(message.audio))
                case "control" if session.replaying:
                    pass
                case "control":
                    update = session.control(message.control)
                    await self._motion.send(GenerateRequest(control=update))
                case "end_of_utterance":
                    session.end_of_utterance(message.end_of_utterance.id)
                case "interrupt":
                    await self._answer(session.interrupt())
                case "end_of_audio":
                    break
                case "config":
                    raise ServiceError("MESSAGE_ORDER", "a second `config`")
                case _:
                    raise ServiceError("MESSAGE_ORDER", "a message without content")
            session.message_handled()
        await self._add_chunks(session.end_of_audio())
        if not session.live:
            await self._end_chunks()
        if await read(False) is not None:
            raise ServiceError("MESSAGE_ORDER", "a message after `end_of_audio`")

    async def _play_out(self, session: LiveSession) -> None:
        """Process the audio of a live session when it is due."""
        while not session.playout.finished:
            chunks, overdue = session.pop_due()
            await self._answer(overdue)
            await self._add_chunks(chunks)
            await asyncio.sleep(session.playout.seconds_to_tick())
        await self._add_chunks(session.end_of_playout())
        await self._end_chunks()

    async def _add_chunks(self, chunks: Iterator[AudioChunk]) -> None:
        session = self._session
        while True:
            if session.decoding_blocks:
                chunk = await asyncio.to_thread(next, chunks, None)
            else:
                chunk = next(chunks, None)
            if chunk is None:
                return
            while session.lead_seconds > session.max_lead_seconds:
                self._progress.clear()
                await self._progress.wait()
            await self._queue_audio(self._hops.push(session.add_chunk(chunk)))

    async def _queue_audio(self, samples: Float32Array) -> None:
        if len(samples):
            await self._audio.put(samples.astype("<f4").tobytes())

    async def _end_chunks(self) -> None:
        self._session.end_chunks()
        await self._queue_audio(self._hops.end())
        await self._audio.put(None)

    async def _send_audio(self) -> None:
        # A task of its own, so that output audio goes on while the speech encoder reconnects.
        while (audio := await self._audio.get()) is not None:
            await self._features.send(ExtractRequest(audio=audio))
        await self._features.end()

    async def _forward_features(self) -> None:
        while (result := await self._features.receive()) is not None:
            features = self._session.muted(result.features)
            answers = self._session.features(features)
            await self._motion.send(GenerateRequest(features=features))
            await self._answer(answers)
        await self._motion.end()
        await self._answer(self._session.features_ended())

    async def _forward_motion(self) -> None:
        while (result := await self._motion.receive()) is not None:
            chunk = self._session.eased(result.motion)
            answers = self._session.motion(chunk)
            if chunk.frames and self._session.renders:
                level = self._session.render_level((chunk.frames[-1].index + 1) / MOTION_FPS)
                if level is None:
                    await self._renderer.send(RenderRequest(dropped_motion=chunk))
                else:
                    await self._renderer.send(RenderRequest(motion=chunk, level=level))
            self._progress.set()
            await self._answer(answers)
        if self._session.renders:
            await self._renderer.end()
        else:
            await self._finish()

    async def _forward_frames(self) -> None:
        while (result := await self._renderer.receive()) is not None:
            answers = self._session.frame(result.frame)
            for answer in answers:
                if answer.event.kind == talking_face.Event.KIND_LEVEL_CHANGED:
                    self._stages.metrics.level_changed(
                        answer.event.level, _LEVEL_REASONS[answer.event.level_reason]
                    )
                    self._count_at_level(RenderLevel(answer.event.level))
            self._progress.set()
            await self._answer(answers)
        await self._finish()

    async def _finish(self) -> None:
        await self._answer(self._session.finish())
        await self._answers.put(None)


def _controls_of(requests: list[GenerateRequest]) -> list[ControlUpdate]:
    return [request.control for request in requests if request.HasField("control")]


def _first_cause(error: BaseException) -> BaseException:
    """Return the first leaf of a nested group, with preference for a `ServiceError`."""
    if not isinstance(error, BaseExceptionGroup):
        return error
    causes = [_first_cause(part) for part in error.exceptions]
    return next((cause for cause in causes if isinstance(cause, ServiceError)), causes[0])
