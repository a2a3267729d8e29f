"""Moves the data of one session: client, speech encoder, motion generator, renderer, client.

Every arrow is a task of its own with a bounded buffer, so that a slow part holds back those before
it, up to the client, and nobody else. Whatever ends the session ends all its streams.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from typing import Any, TypeAlias

from talkingface.contract.durations import duration
from talkingface.contract.errors import ServiceError
from talkingface.contract.rates import MOTION_FPS
from talkingface.contract.stage_streams import StreamConfig, StreamRequest, StreamResponse
from talkingface.orchestrator.media.decoding import Sound
from talkingface.orchestrator.session.live_session import LiveSession
from talkingface.orchestrator.session.resume_token import Tokens
from talkingface.orchestrator.session.session import Answer, Session
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

# Audio is taken at most this far ahead of the frames that have come out. The models need 0.3 s;
# the rest keeps all stages busy.
MAX_LEAD_SECONDS = 4.0
_QUEUED_ANSWERS = 16
_QUEUED_VOICE = 2  # pieces of sound
_QUEUED_LIVE_VOICE = 1500  # about half a minute, while the speech encoder is away

# The client's next message; `idle` says whether silence counts against it. None: it has closed.
Read = Callable[[bool], Awaitable[talking_face.AnimateRequest | None]]
Write = Callable[[Answer], Awaitable[None]]

AnyStream: TypeAlias = ResilientStream[Any, Any, Any]


class SessionPipeline:
    """One session in motion."""

    def __init__(
        self,
        session: Session,
        stages: Stages,
        portraits: Portraits,
        patience: float,
        tokens: Tokens | None = None,
    ) -> None:
        """
        :param patience: seconds within which a stage's broken stream must go on.
        :param tokens: makes what a resumable session's client is sent.
        """
        self._session = session
        self._tokens = tokens if session.config.resumable else None
        self._checkpoints = CheckpointSet(session.begin, pictures=session.makes_pictures)
        self._stages = stages
        self._patience = patience
        live = isinstance(session, LiveSession)
        self._features = self._stream(ExtractMethod(), partial(stages.open, ExtractMethod()))
        self._motion = self._stream(
            GenerateMethod(), partial(stages.open, GenerateMethod()), _controls_of
        )
        render = RenderMethod(session.frame_rate)
        self._renderer = self._stream(render, partial(portraits.open_renderer, render, live=live))
        # What is to be heard; None: the end.
        self._voice: asyncio.Queue[bytes | None] = asyncio.Queue(
            _QUEUED_LIVE_VOICE if live else _QUEUED_VOICE
        )
        self._answers: asyncio.Queue[Answer | None] = asyncio.Queue(_QUEUED_ANSWERS)
        self._progress = asyncio.Event()

    @property
    def streams(self) -> list[AnyStream]:
        """The streams of the session, in the order of the data."""
        streams: list[AnyStream] = [self._features, self._motion]
        return [*streams, self._renderer] if self._session.makes_pictures else streams

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

        live = isinstance(self._session, LiveSession)
        return ResilientStream(
            method,
            connect,
            self._patience,
            self._recovered,
            self._stages.config.live_stage_timeout if live else None,
            keep if self._tokens is not None else None,
        )

    def _token(self) -> Answer:
        """Return the token with which the session can continue after the queued answers."""
        assert self._tokens is not None
        session = self._session
        state = self._checkpoints.consistent_snapshot(
            session.frames_given, session.frame_rate, _controls_of(self._motion.history.pending)
        )
        return session.token(state, self._tokens.pack)

    async def _recovered(self, recovery: Recovery) -> None:
        self._stages.metrics.recovered(recovery.name, recovery.cause, recovery.stall)
        if recovery.restarted and recovery.name == self._motion.name:
            self._session.motion_restarted()
        if recovery.stall is None:
            return
        event = talking_face.Event(
            kind=talking_face.Event.KIND_RECOVERED,
            time=duration(self._session.seconds),
            stage=recovery.name,
            stall=duration(recovery.stall),
            restarted=recovery.restarted,
        )
        await self.announce(Answer(event=event))

    async def run(self, portrait: renderer.Portrait | None, read: Read, write: Write) -> None:
        """Run the session from its first answer to its last.

        :param portrait: whom to animate; None where no pictures are made.
        :raises ServiceError: what the client or a stage did wrong.
        """
        session = self._session
        reader: asyncio.Task[None] | None = None
        try:
            infos = await self._open(portrait)
            await write(session.started(infos, portrait))
            if self._tokens is not None and not session.begin.HasField("config"):
                await write(self._token())
            for control in session.changes:
                await self._motion.send(GenerateRequest(control=control))
            async with asyncio.TaskGroup() as group:
                reader = group.create_task(self._take_client(read))
                if isinstance(session, LiveSession):
                    group.create_task(self._play(session))
                group.create_task(self._move_voice())
                group.create_task(self._move_features())
                group.create_task(self._move_motion())
                if session.makes_pictures:
                    group.create_task(self._move_frames())
                while (answer := await self._answers.get()) is not None:
                    await write(answer)
                reader.cancel()
        except BaseExceptionGroup as errors:
            raise _cause(errors) from None
        finally:
            self.close()

    def close(self) -> None:
        """End all streams, wherever they are."""
        for stream in self.streams:
            stream.cancel()
        self._session.close()

    async def _open(self, portrait: renderer.Portrait | None) -> list[stage.StageInfo]:
        """Take a slot in every stage, at once."""
        session, begin = self._session, self._session.begin
        samples, rows = session.first_sample, begin.motion_gen.consumed
        motion = session.first_motion
        async with asyncio.TaskGroup() as group:
            group.create_task(self._features.open(session.extract_config(), rows, samples))
            group.create_task(self._motion.open(session.generate_config(), motion, rows))
            if portrait is not None:
                config = session.render_config(portrait.handle)
                first = session.first_frame
                group.create_task(self._renderer.open(config, first, begin.renderer.consumed))
        return [stream.info for stream in self.streams]

    async def _answer(self, answers: list[Answer]) -> None:
        for answer in answers:
            await self._answers.put(answer)

    async def announce(self, answer: Answer) -> None:
        """Tell the client something that does not come from the data."""
        await self._answers.put(answer)

    async def _take_client(self, read: Read) -> None:
        session = self._session
        live = session if isinstance(session, LiveSession) else None
        while True:
            message = await read(True)
            if message is None:
                raise ServiceError("MESSAGE_ORDER", "the stream was closed without `end_of_audio`")
            match message.WhichOneof("payload"):
                case "audio" if live is not None:
                    live.take(message.audio)
                case "audio":
                    await self._take_sound(session.audio(message.audio))
                case "control" if session.repeats:
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
            session.handled()
        if live is None:
            await self._end_sound()
        else:
            live.feed.end()
        if await read(False) is not None:
            raise ServiceError("MESSAGE_ORDER", "a message after `end_of_audio`")

    async def _play(self, session: LiveSession) -> None:
        """Feed a live session by the clock."""
        while not session.feed.finished:
            data, overdue = session.due()
            await self._answer(overdue)
            if data:
                await self._take_sound(session.audio(data))
            await asyncio.sleep(session.feed.pause)
        await self._end_sound()

    async def _end_sound(self) -> None:
        await self._take_sound(self._session.end_of_audio())
        self._session.sound_ended()
        await self._voice.put(None)

    async def _take_sound(self, sounds: Iterator[Sound]) -> None:
        session = self._session
        live = isinstance(session, LiveSession)
        while True:
            if session.decodes_slowly:
                sound = await asyncio.to_thread(next, sounds, None)
            else:
                sound = next(sounds, None)
            if sound is None:
                return
            while not live and session.lead > MAX_LEAD_SECONDS:
                self._progress.clear()
                await self._progress.wait()
            voice = session.sound(sound)
            if len(voice):
                await self._voice.put(voice.astype("<f4").tobytes())

    async def _move_voice(self) -> None:
        """Apart from `_play`, so that the client has its sound while nobody hears it."""
        while (audio := await self._voice.get()) is not None:
            await self._features.send(ExtractRequest(audio=audio))
        await self._features.end()

    async def _move_features(self) -> None:
        while (result := await self._features.receive()) is not None:
            features = self._session.heard(result.features)
            answers = self._session.features(features)
            await self._motion.send(GenerateRequest(features=features))
            await self._answer(answers)
        await self._motion.end()
        await self._answer(self._session.features_ended())

    async def _move_motion(self) -> None:
        while (result := await self._motion.receive()) is not None:
            chunk = self._session.eased(result.motion)
            answers = self._session.motion(chunk)
            if chunk.frames and self._session.makes_pictures:
                if self._session.leave_out((chunk.frames[-1].index + 1) / MOTION_FPS):
                    await self._renderer.send(RenderRequest(dropped_motion=chunk))
                else:
                    await self._renderer.send(RenderRequest(motion=chunk))
            self._progress.set()
            await self._answer(answers)
        if self._session.makes_pictures:
            await self._renderer.end()
        else:
            await self._finish()

    async def _move_frames(self) -> None:
        while (result := await self._renderer.receive()) is not None:
            answers = self._session.frame(result.frame)
            self._progress.set()
            await self._answer(answers)
        await self._finish()

    async def _finish(self) -> None:
        await self._answer(self._session.finish())
        await self._answers.put(None)


def _controls_of(requests: list[GenerateRequest]) -> list[ControlUpdate]:
    return [request.control for request in requests if request.HasField("control")]


def _cause(error: BaseException) -> BaseException:
    """The first error within a group of groups; one that a client is told goes before others."""
    if not isinstance(error, BaseExceptionGroup):
        return error
    causes = [_cause(part) for part in error.exceptions]
    return next((cause for cause in causes if isinstance(cause, ServiceError)), causes[0])
