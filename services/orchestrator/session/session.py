"""The state of one session, without a network: turns messages and results into answers.

    session = open_session(config)            # checks the configuration
    for chunk in session.audio(data):
        samples = session.add_chunk(chunk)    # for the speech encoder
    update = session.control(update)          # for the motion generator
    answers = session.features(features)      # events
    answers = session.motion(chunk)           # motion, or nothing if the renderer takes part
    answers = session.frame(frame)            # media
    answers = session.finish()                # the last ones

Methods named like a message of the client process that message.
"""

from __future__ import annotations

import math
import secrets
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from typing import ClassVar, TypeAlias

import numpy as np

import talkingface
from talkingface.contract.arrays import Float32Array
from talkingface.contract.controls import frame_of
from talkingface.contract.durations import duration
from talkingface.contract.errors import ServiceError
from talkingface.contract.rates import MOTION_FPS
from talkingface.contract.speech_features import SPEECH_DIM, VOICE_ACTIVITY
from talkingface.contract.video import RenderLevel, frame_count, video_format
from talkingface.orchestrator.media.decoding import MAX_SECONDS, AudioChunk, AudioIntake
from talkingface.orchestrator.media.packaging import Packager, packager
from talkingface.orchestrator.session.config import (
    check_resume,
    check_update,
    effective_config,
)
from talkingface.orchestrator.session.control_schedule import ControlSchedule
from talkingface.orchestrator.session.frame_statistics import FrameStatistics
from talkingface.orchestrator.session.muting import FeatureMuter
from talkingface.orchestrator.session.seam import Seam
from talkingface.orchestrator.session.start import SessionStart
from talkingface.orchestrator.session.voice_activity import VoiceActivity, VoiceActivityHistory
from talkingface.v1 import audio_features_pb2 as audio_features
from talkingface.v1 import controls_pb2 as controls
from talkingface.v1 import media_pb2 as media
from talkingface.v1 import motion_gen_pb2 as motion_gen
from talkingface.v1 import motion_pb2
from talkingface.v1 import renderer_pb2 as renderer
from talkingface.v1 import resume_pb2 as resume
from talkingface.v1 import stage_pb2 as stage
from talkingface.v1 import talking_face_pb2 as talking_face

Answer: TypeAlias = talking_face.AnimateResponse


class Session(ABC):
    """What offline and live sessions have in common.

    Methods raise `ServiceError` for errors of the client.
    """

    live: ClassVar[bool]
    """Whether the session follows the clock."""
    max_lead_seconds: ClassVar[float]
    """Length of audio that is processed ahead of the frames sent."""
    max_queued_chunks: ClassVar[int]
    """Chunks of audio that may wait for the speech encoder."""

    def __init__(
        self,
        asked: talking_face.AnimateConfig,
        clock: Callable[[], float] = time.perf_counter,
        max_seconds: float = MAX_SECONDS,
        state: resume.SessionState | None = None,
    ) -> None:
        """
        :param asked: the client's configuration.
        :param clock: returns the time in seconds.
        :param max_seconds: longest audio that is accepted.
        :param state: content of the token of `asked.resume`.
        :raises ServiceError: FIELD_INVALID or IMAGE_TOO_LARGE.
        """
        if state is not None:
            check_resume(asked, state)
        initial = state or resume.SessionState()
        self.session_id = initial.session_id or secrets.token_hex(8)
        self.config = effective_config(asked if state is None else state.config)
        self.start = SessionStart.of(
            initial, asked.resume.next_frame, self.config.audio.sample_rate, renders=self.renders
        )
        self.messages = asked.resume.position.messages
        """Number of the client's current message."""
        self.initial_controls = [*initial.controls, *asked.resume.controls]
        """Control updates that the motion generator's checkpoint does not contain."""
        self._clock = clock
        self._intake = AudioIntake(self.config.audio, max_seconds, self.start.source_sample)
        # Decoded samples that precede those for the speech encoder.
        self._samples_to_skip = self.start.encoder_sample - self.start.decoded_sample
        self._muter = FeatureMuter(initial.motion_gen.consumed)
        self._voice_activity = VoiceActivity(
            initial.motion_gen.consumed, initial.speaking, initial.vad_run_rows
        )
        self._voice_activity_history = VoiceActivityHistory(self._voice_activity.state)
        self._packager: Packager | None = None
        self._ended = False
        self._motion_frames = self.start.motion_frame
        self._next_frame = self.start.frame
        self._statistics = FrameStatistics(clock, asked.resume.frames)
        self._seam: Seam | None = None
        self._last_motion: motion_pb2.MotionFrame | None = None
        if initial.HasField("last_motion"):
            self._last_motion = initial.last_motion
            if not initial.motion_gen.HasField("checkpoint"):
                self._seam = Seam(
                    self._last_motion, self.start.frame * MOTION_FPS // self.frame_rate
                )
        self._control_schedule = ControlSchedule(
            initial.controls_in_effect if state is not None else self.config.controls
        )
        for update in (*initial.later_controls, *asked.resume.controls):
            self._control_schedule.add(update, self._motion_frames)
        for update in asked.resume.controls:
            if update.HasField("time"):
                frame = frame_of(update.time, "config.resume.controls.time")
                self._control_schedule.plan(frame, self._motion_frames)

    @property
    def renders(self) -> bool:
        """Whether the renderer takes part."""
        return self.config.output != media.OUTPUT_KIND_MOTION

    @property
    def frame_rate(self) -> int:
        """Frames sent to the client per second."""
        return self.config.frame_rate if self.renders else MOTION_FPS

    @property
    def decoding_blocks(self) -> bool:
        """Whether the generators of audio chunks take so long that they belong in a thread."""
        return self._intake.blocking

    @property
    def audio_seconds(self) -> float:
        """Length of the audio decoded so far."""
        return self._intake.seconds

    @property
    def lead_seconds(self) -> float:
        """Time by which the decoded audio is ahead of the frames sent."""
        return self.audio_seconds - self._statistics.frames / self.frame_rate

    @property
    def next_frame(self) -> int:
        """Index of the next frame for the client."""
        if self.renders:
            return self._next_frame
        return max(self._motion_frames, self.start.frame)

    @property
    def replaying(self) -> bool:
        """Whether the current message is older than the token: only its audio is needed."""
        return self.messages < self.start.state.messages

    def started(self, stages: list[stage.StageInfo], portrait: renderer.Portrait | None) -> Answer:
        """Return the first answer, which precedes any data.

        :param portrait: portrait to animate; None if the renderer takes no part.
        """
        if portrait is not None:
            self.config.portrait_handle = portrait.handle
        message = talking_face.Started(
            session_id=self.session_id,
            version=talkingface.__version__,
            stages=stages,
            config=self.config,
            portrait=portrait,
        )
        if self.config.background.HasField("image"):
            message.config.background.image = b""
        if portrait is not None:
            message.video.CopyFrom(video_format(self.config, portrait))
            self._packager = packager(
                self.config.output,
                message.video,
                self.config.pacing,
                self.start.frame,
                self.start.decoded_sample,
            )
        return Answer(started=message)

    def message_handled(self) -> None:
        """Note that the client's current message has been processed."""
        self.messages += 1

    def token(
        self, state: resume.SessionState, pack: Callable[[resume.SessionState], bytes]
    ) -> Answer:
        """Return the token with which the client can continue after the answers so far.

        :param state: consistent checkpoints of the stages; the rest is filled in.
        :param pack: turns the state into the bytes of a token.
        """
        state.session_id = self.session_id
        state.config.CopyFrom(self.config)
        state.messages = self.messages
        state.speaking, state.vad_run_rows = self._voice_activity_history.after(
            state.motion_gen.consumed
        )
        self._control_schedule.write(state, self.next_frame * MOTION_FPS // self.frame_rate)
        if self._last_motion is not None:
            state.last_motion.CopyFrom(self._last_motion)
        token = talking_face.ResumeToken(messages=state.messages)
        self._write_position(state, token)
        token.token = pack(state)
        return Answer(resume_token=token)

    @abstractmethod
    def audio(self, data: bytes) -> Iterator[AudioChunk]:
        """Process bytes of audio.

        :return: the chunks to process now, each of which must be passed to `add_chunk`.
        """

    @abstractmethod
    def end_of_audio(self) -> Iterator[AudioChunk]:
        """Process the end of the audio.

        :return: the chunks to process now, each of which must be passed to `add_chunk`.
        """

    @abstractmethod
    def end_of_utterance(self, utterance_id: str) -> None:
        """Mark the audio since the last mark as an utterance."""

    @abstractmethod
    def interrupt(self) -> list[Answer]:
        """Drop the audio that has not been played yet, and return the events of that."""

    def add_chunk(self, chunk: AudioChunk) -> Float32Array:
        """Add a chunk of audio to the output.

        :return: its 16 kHz samples for the speech encoder, (n,) in [-1, 1].
        """
        if self._packager is not None:
            self._packager.push_audio(chunk, self._intake.rate)
        samples = chunk.mono_16k[max(self._samples_to_skip, 0) :]
        self._samples_to_skip -= len(chunk.mono_16k)
        return samples

    def end_chunks(self) -> None:
        """Note that the last chunk has been added."""
        if self._packager is not None:
            self._packager.end_audio()

    def control(self, update: controls.ControlUpdate) -> controls.ControlUpdate:
        """Return a control update with the time at which it takes effect.

        Offline, an update without a time belongs to the next sample of audio, which makes it as
        reproducible as the audio. In a live session it stays without one, and acts on the next
        motion that is made.
        """
        self._check_not_ended()
        timed = controls.ControlUpdate()
        timed.CopyFrom(update)
        if not update.HasField("time"):
            self._set_time(timed)
        check_update(timed, "control")
        if timed.HasField("time"):
            frame = frame_of(timed.time, "control.time")
            self._control_schedule.plan(frame, self._motion_frames)
        if self.config.resumable:
            self._control_schedule.add(timed, self._motion_frames)
        return timed

    def muted(self, message: audio_features.AudioFeatures) -> audio_features.AudioFeatures:
        """Return the next rows of features, with silence where the client has interrupted them."""
        return self._muter.apply(message)

    def features(self, message: audio_features.AudioFeatures) -> list[Answer]:
        """Return the events that the next rows of features cause."""
        prosody = np.frombuffer(message.prosody, "<f4").reshape(-1, SPEECH_DIM)
        events = self._voice_activity.push(prosody[:, VOICE_ACTIVITY])
        if self.config.resumable:
            rows = message.first_row + message.rows
            self._voice_activity_history.add(rows, self._voice_activity.state)
        return _speech_answers(events)

    def features_ended(self) -> list[Answer]:
        """Return the events that the end of the features causes."""
        return _speech_answers(self._voice_activity.end())

    def motion_restarted(self) -> None:
        """Ease into the next motion, because it comes from another build."""
        if self._last_motion is not None:
            self._seam = Seam(self._last_motion, self._motion_frames)

    def eased(self, chunk: motion_gen.MotionChunk) -> motion_gen.MotionChunk:
        """Return the next frames of motion, eased after a change of the build."""
        if self._seam is not None:
            chunk = self._seam.apply(chunk)
            if chunk.frames and self._seam.ended(chunk.frames[-1].index):
                self._seam = None
        if chunk.frames:
            self._last_motion = chunk.frames[-1]
        return chunk

    def motion(self, chunk: motion_gen.MotionChunk) -> list[Answer]:
        """Process the next frames of motion, which are the output if the renderer takes no part."""
        for frame in chunk.frames:
            if frame.index != self._motion_frames:
                raise ServiceError(
                    "INTERNAL",
                    f"motion frame {frame.index} came instead of {self._motion_frames}",
                )
            self._motion_frames += 1
        new = [frame for frame in chunk.frames if frame.index >= self.start.frame]
        if self.renders or not new:
            return []
        self._statistics.on_frames(len(new))
        until = self._motion_frames / MOTION_FPS
        motion = talking_face.Motion(frames=new, position=self._position_at(until))
        return [Answer(motion=motion), *self._frame_events(until)]

    @abstractmethod
    def render_level(self, until: float) -> RenderLevel | None:
        """Return the level at which the next motion is rendered.

        :param until: end of the motion, in seconds of the session.
        :return: None to drop the motion because its frames would be shown too late.
        """

    @abstractmethod
    def renderer_recovered(self) -> None:
        """Note that another renderer has taken over."""

    def frame(self, frame: media.EncodedFrame) -> list[Answer]:
        """Process the next frame of the renderer."""
        assert self._packager is not None
        dropped = frame.index - self._next_frame
        if dropped < 0 or (dropped and not self._may_drop_frames):
            raise ServiceError(
                "INTERNAL", f"frame {frame.index} came instead of {self._next_frame}"
            )
        self._next_frame = frame.index + 1
        messages = self._packager.push_frame(frame)
        self._statistics.on_frames(1)
        until = self._next_frame / self.frame_rate
        if messages and (position := self._position_at(until)) is not None:
            messages[-1].position.CopyFrom(position)
        events = self._frame_events(until, frame.load, dropped)
        return [*(Answer(media=message) for message in messages), *events]

    def finish(self) -> list[Answer]:
        """Return the last answers, after the results of all stages."""
        motion_frames = math.ceil(round(self.audio_seconds * MOTION_FPS, 6))
        expected, frames = frame_count(motion_frames, self.frame_rate), self._statistics.frames
        if frames != expected and not self._may_drop_frames:
            raise ServiceError("INTERNAL", f"{frames} frames were made, not {expected}")
        messages = self._packager.end() if self._packager is not None else []
        events = self._frame_events(math.inf)
        summary = self._statistics.summary(self.audio_seconds, expected - frames)
        return [*(Answer(media=message) for message in messages), *events, Answer(summary=summary)]

    def close(self) -> None:
        """Release what the session holds, also before its end."""
        self._intake.close()

    def _decode(self, data: bytes) -> Iterator[AudioChunk]:
        self._statistics.on_audio()
        return self._intake.push(data)

    def _check_not_ended(self) -> None:
        if self._ended:
            raise ServiceError("MESSAGE_ORDER", "a message after `end_of_audio`")

    @property
    @abstractmethod
    def _may_drop_frames(self) -> bool:
        """Whether frames may be missing in the output."""

    @abstractmethod
    def _set_time(self, update: controls.ControlUpdate) -> None:
        """Set the time of a control update without one."""

    @abstractmethod
    def _write_position(self, state: resume.SessionState, token: talking_face.ResumeToken) -> None:
        """Write into a token and its state from where the client must send again."""

    @abstractmethod
    def _position_at(self, seconds: float) -> talking_face.StreamPosition | None:
        """Return how much of the client's messages was played at a time; None to omit it.

        :param seconds: time of the session.
        """

    @abstractmethod
    def _frame_events(self, until: float, load: float = 0.0, dropped: int = 0) -> list[Answer]:
        """Return the events that frames cause.

        :param until: end of the frames, in seconds of the session; infinite after the last.
        :param load: of the renderer, as in `EncodedFrame`.
        :param dropped: number of frames dropped before them.
        """


def event_answers(events: Iterable[talking_face.Event]) -> list[Answer]:
    """Return an answer for each event."""
    return [Answer(event=event) for event in events]


def _speech_answers(events: list[tuple[talking_face.Event.Kind, float]]) -> list[Answer]:
    return event_answers(
        talking_face.Event(kind=kind, time=duration(seconds)) for kind, seconds in events
    )
