"""One session: what a client asked for, and how its data becomes its answers. No network here.

session = Session(config)                # checks the configuration; live ones: `live_session`
for sound in session.audio(data): ...    # sound.voice goes to the speech encoder
session.control(update)                  # goes to the motion generator
session.features(...)                    # answers with events
session.motion(...), session.frame(...)  # answers with motion or media
session.finish()                         # the last answers
"""

from __future__ import annotations

import math
import secrets
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator

import numpy as np

import talkingface
from talkingface.contract.controls import frame_of, overlay
from talkingface.contract.durations import duration
from talkingface.contract.errors import ServiceError, invalid_field
from talkingface.contract.messages import check_size
from talkingface.contract.picture import frame_count, video_format
from talkingface.contract.rates import MOTION_FPS, SAMPLE_RATE
from talkingface.contract.speech_features import SPEECH_DIM, VOICE_ACTIVITY
from talkingface.orchestrator.media.decoding import (
    MAX_SECONDS,
    Array,
    AudioIntake,
    Sound,
    sample_bytes,
)
from talkingface.orchestrator.media.packaging import Packager, packager
from talkingface.orchestrator.session.config import (
    CODECS,
    check_resume,
    check_update,
    effective_config,
)
from talkingface.orchestrator.session.muting import FeatureMuter
from talkingface.orchestrator.session.playback_position import SentAudioIndex, preroll
from talkingface.orchestrator.session.resume_token import start_frame
from talkingface.orchestrator.session.seam import Seam
from talkingface.orchestrator.session.voice_activity import VoiceActivity
from talkingface.v1 import audio_features_pb2 as audio_features
from talkingface.v1 import controls_pb2 as controls
from talkingface.v1 import media_pb2 as media
from talkingface.v1 import motion_gen_pb2 as motion_gen
from talkingface.v1 import motion_pb2
from talkingface.v1 import renderer_pb2 as renderer
from talkingface.v1 import resume_pb2 as resume
from talkingface.v1 import stage_pb2 as stage
from talkingface.v1 import talking_face_pb2 as talking_face

# Frames to come at which controls change; a checkpoint of the motion generator has room for these.
MAX_PLANNED = 256


Answer = talking_face.AnimateResponse


class Session:
    """The state of one session: an offline one; `LiveSession` says what is different by the clock.

    Methods raise `ServiceError` for what the client did wrong.
    """

    def __init__(
        self,
        asked: talking_face.AnimateConfig,
        clock: Callable[[], float] = time.perf_counter,
        max_seconds: float = MAX_SECONDS,
        state: resume.SessionState | None = None,
    ) -> None:
        """
        :param max_seconds: that the audio may last.
        :param state: what the token of `asked.resume` holds.
        """
        if state is not None:
            check_resume(asked, state)
        self.begin = state or resume.SessionState()
        self.session_id = self.begin.session_id or secrets.token_hex(8)
        self.config = effective_config(asked if state is None else state.config)
        self._clock = clock
        position, audio = asked.resume.position, self.config.audio
        self.first_frame = asked.resume.next_frame
        first_sample, self._first_voice = 0, 0
        if audio.sample_rate:  # a file is decoded from its beginning
            first_sample, self._first_voice = preroll(
                self.begin.audio_features.consumed, audio.sample_rate
            )
        self._intake = AudioIntake(audio, max_seconds, first_sample)
        # 16 kHz sample at which the encoder continues: without its state, at a motion frame.
        self.first_sample = self.begin.audio_features.consumed
        if not self.begin.audio_features.HasField("checkpoint"):
            self.first_sample = start_frame(self.first_sample) * SAMPLE_RATE // MOTION_FPS
        self._unheard = self.first_sample - self._first_voice
        self._sent: SentAudioIndex | None = None
        self._begin(position, first_sample)
        self.messages = position.messages
        self._rows = FeatureMuter(self.begin.motion_gen.consumed)
        self._planned: set[int] = set()  # frames of changes of controls, those to come and others
        self._voice_activity = VoiceActivity(
            self.begin.motion_gen.consumed, self.begin.speaking, self.begin.vad_run_rows
        )
        self._voice_states: deque[tuple[int, tuple[bool, int]]] = deque()  # after so many rows
        self._packager: Packager | None = None
        self._ended = False
        # Changes of controls that the motion generator's checkpoint does not contain.
        self.changes = [*self.begin.controls, *asked.resume.controls]
        pictures = self.makes_pictures
        self._motion_frames = self.first_motion = (
            self.begin.renderer.consumed if pictures else self.begin.motion_gen.produced
        )
        self._seam: Seam | None = None
        self._last_motion: motion_pb2.MotionFrame | None = None
        if self.begin.HasField("last_motion"):
            self._last_motion = self.begin.last_motion
            if not self.begin.motion_gen.HasField("checkpoint"):
                self._seam = Seam(
                    self._last_motion, self.first_frame * MOTION_FPS // self.frame_rate
                )
        # Controls at the last frame sent, and the updates after it by their frame.
        self._controls = controls.Controls()
        self._controls.CopyFrom(
            self.begin.controls_in_effect if state is not None else self.config.controls
        )
        self._later: list[tuple[int, controls.ControlUpdate]] = []
        for update in (*self.begin.later_controls, *asked.resume.controls):
            self._schedule(update)
        self._frames = asked.resume.frames
        self._next_frame = self.first_frame
        for update in asked.resume.controls:
            if update.HasField("time"):
                self._plan(frame_of(update.time, "config.resume.controls.time"))
        self._first_audio: float | None = None
        self._first_frame: float | None = None
        self._last_frame = 0.0

    def _begin(self, position: talking_face.StreamPosition, first_sample: int) -> None:
        """Get ready for the audio.

        :param position: from where the client sends.
        :param first_sample: number of the sample, at the client's rate, that lies there.
        """
        audio = self.config.audio
        if self.config.resumable and audio.sample_rate:
            self._sent = SentAudioIndex(position, first_sample * sample_bytes(audio))

    @property
    def makes_pictures(self) -> bool:
        """Whether the renderer takes part."""
        return self.config.output != media.OUTPUT_KIND_MOTION

    @property
    def frame_rate(self) -> int:
        """Frames that go out a second."""
        return self.config.frame_rate if self.makes_pictures else MOTION_FPS

    @property
    def decodes_slowly(self) -> bool:
        """Whether the generators of `audio` and `end_of_audio` should run in a thread."""
        return self._intake.blocking

    @property
    def seconds(self) -> float:
        """Length of the audio taken so far."""
        return self._intake.seconds

    @property
    def lead(self) -> float:
        """Seconds by which the audio taken is ahead of the frames that have come out."""
        return self.seconds - self._frames / self.frame_rate

    def started(self, stages: list[stage.StageInfo], portrait: renderer.Portrait | None) -> Answer:
        """The first answer; it comes before any data.

        :param portrait: whom to animate; None where no pictures are made.
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
        if portrait is not None:
            message.video.CopyFrom(video_format(self.config, portrait))
            self._packager = packager(
                self.config.output,
                message.video,
                self.config.pacing,
                self.first_frame,
                self._first_voice,
            )
        return Answer(started=message)

    def extract_config(self) -> audio_features.ExtractConfig:
        """What the speech encoder is told."""
        return audio_features.ExtractConfig(
            session_id=self.session_id,
            resume=_checkpoint(self.begin.audio_features),
            start_frame=start_frame(self.first_sample),
        )

    def generate_config(self) -> motion_gen.GenerateConfig:
        """What the motion generator is told."""
        return motion_gen.GenerateConfig(
            session_id=self.session_id,
            seed=self.config.seed,
            controls=self.config.controls,
            resume=_checkpoint(self.begin.motion_gen),
            start_frame=self.begin.motion_gen.produced,
        )

    def render_config(self, handle: str) -> renderer.RenderConfig:
        """What the renderer is told."""
        config = self.config
        return renderer.RenderConfig(
            session_id=self.session_id,
            portrait_handle=handle,
            codec=CODECS[config.output],
            quality=config.quality if config.HasField("quality") else None,
            size=config.size if config.HasField("size") else None,
            frame_rate=config.frame_rate,
            framing=config.framing,
            resume=_checkpoint(self.begin.renderer),
            first_frame=self.first_frame,
            start_frame=self.begin.renderer.consumed,
        )

    @property
    def repeats(self) -> bool:
        """Whether the client's present message had been taken already, but for its sound."""
        return self.messages < self.begin.messages

    def handled(self) -> None:
        """The client's present message has been taken."""
        self.messages += 1

    def token(
        self, state: resume.SessionState, pack: Callable[[resume.SessionState], bytes]
    ) -> Answer:
        """What the client keeps in case that this server is lost.

        :param state: a cut through the stages, of this moment.
        """
        state.session_id = self.session_id
        state.config.CopyFrom(self.config)
        state.messages = self.messages
        rows = state.motion_gen.consumed
        while self._voice_states and self._voice_states[0][0] < rows:
            self._voice_states.popleft()
        if self._voice_states and self._voice_states[0][0] == rows:
            state.speaking, state.vad_run_rows = self._voice_states[0][1]
        else:  # nothing was heard since the session began, or went on
            state.speaking, state.vad_run_rows = self.begin.speaking, self.begin.vad_run_rows
        self._write_controls(state)
        if self._last_motion is not None:
            state.last_motion.CopyFrom(self._last_motion)
        token = talking_face.ResumeToken(messages=state.messages)
        self._write_position(state, token)
        token.token = pack(state)
        return Answer(resume_token=token)

    def _write_controls(self, state: resume.SessionState) -> None:
        """Write the controls at the last frame sent into a token, and the updates after it."""
        now = self.frames_given * MOTION_FPS // self.frame_rate
        self._later.sort(key=lambda entry: entry[0])  # a stable sort: of equals the newer one wins
        while self._later and self._later[0][0] <= now:
            _, update = self._later.pop(0)
            self._controls = overlay(self._controls, update.controls)
        state.controls_in_effect.CopyFrom(self._controls)
        state.later_controls.extend(update for _, update in self._later)

    def _schedule(self, update: controls.ControlUpdate) -> None:
        frame = self._motion_frames
        if update.HasField("time"):
            frame = max(frame, frame_of(update.time, "control.time"))
        self._later.append((frame, update))

    def _write_position(self, state: resume.SessionState, token: talking_face.ResumeToken) -> None:
        """Say in a token from where the client must send again."""
        if self._sent is not None:
            audio = self.config.audio
            first, _ = preroll(state.audio_features.consumed, audio.sample_rate)
            state.position.CopyFrom(self._sent.locate(first * sample_bytes(audio)))
        state.position.SetInParent()
        token.position.CopyFrom(state.position)

    @property
    def frames_given(self) -> int:
        """Frames that the client has been given; the next one has this number."""
        if self.makes_pictures:
            return self._next_frame
        return max(self._motion_frames, self.first_frame)

    def audio(self, data: bytes) -> Iterator[Sound]:
        """Take bytes of audio; what they decode to comes in small pieces."""
        self._check_not_ended()
        check_size(data, "audio")
        if self._first_audio is None:
            self._first_audio = self._clock()
        if self._sent is not None:
            self._sent.audio(self.messages, len(data))
        return self._intake.push(data)

    def sound(self, sound: Sound) -> Array:
        """Take a piece that `audio` or `end_of_audio` gave; what of it the stages are to hear."""
        if self._packager is not None:
            self._packager.push_sound(sound, self._intake.rate)
        voice = sound.voice[max(self._unheard, 0) :]
        self._unheard -= len(sound.voice)
        return voice

    def interrupt(self) -> list[Answer]:
        """Drop what a live session has not played yet; the events that this makes."""
        raise ServiceError("MESSAGE_ORDER", "`interrupt` is for PACING_LIVE")

    def end_of_utterance(self, utterance_id: str) -> None:
        """What a live session was sent since the last one is an utterance."""
        raise ServiceError("MESSAGE_ORDER", "`end_of_utterance` is for PACING_LIVE")

    def end_of_audio(self) -> Iterator[Sound]:
        """Take the end of the audio; `sound_ended` must follow the last piece."""
        self._check_not_ended()
        self._ended = True
        return self._intake.end()

    def sound_ended(self) -> None:
        """All pieces of sound have been taken."""
        if self._packager is not None:
            self._packager.end_sound()

    def control(self, update: controls.ControlUpdate) -> controls.ControlUpdate:
        """A change of controls with its time.

        Without one it belongs to the next sample of audio, which makes it as reproducible as the
        audio; in a live session it stays without, and acts on the next motion that is made.
        """
        self._check_not_ended()
        told = controls.ControlUpdate()
        told.CopyFrom(update)
        if not update.HasField("time"):
            self._set_time(told)
        check_update(told, "control")
        if told.HasField("time"):
            self._plan(frame_of(told.time, "control.time"))
        if self.config.resumable:
            self._schedule(told)
        return told

    def _set_time(self, update: controls.ControlUpdate) -> None:
        """Give a change of controls the time that it has by its place among the audio."""
        update.time.CopyFrom(duration(self.seconds))

    def _plan(self, frame: int) -> None:
        """Take note of a change to come.

        :raises ServiceError: FIELD_INVALID where too many are to come.
        """
        self._planned = {other for other in self._planned if other >= self._motion_frames} | {frame}
        if len(self._planned) > MAX_PLANNED:
            text = f"changes at more than {MAX_PLANNED} frames are still to come"
            raise invalid_field("control.time", text)

    def heard(self, message: audio_features.AudioFeatures) -> audio_features.AudioFeatures:
        """The next rows of features, as the motion generator is to hear them."""
        return self._rows.apply(message)

    def features(self, message: audio_features.AudioFeatures) -> list[Answer]:
        """Listen to the voice: the events that the next rows of features make."""
        prosody = np.frombuffer(message.prosody, "<f4").reshape(-1, SPEECH_DIM)
        events = self._voice_activity.push(prosody[:, VOICE_ACTIVITY])
        if self.config.resumable:
            rows = message.first_row + message.rows
            self._voice_states.append((rows, self._voice_activity.state))
        return self._events(events)

    def features_ended(self) -> list[Answer]:
        """The events that the end of the features makes."""
        return self._events(self._voice_activity.end())

    def motion_restarted(self) -> None:
        """Ease into the motion that follows: it comes from another build."""
        if self._last_motion is not None:
            self._seam = Seam(self._last_motion, self._motion_frames)

    def eased(self, chunk: motion_gen.MotionChunk) -> motion_gen.MotionChunk:
        """Return the next frames of motion as they are to be shown."""
        if self._seam is not None:
            chunk = self._seam.apply(chunk)
            if chunk.frames and self._seam.ended(chunk.frames[-1].index):
                self._seam = None
        if chunk.frames:
            self._last_motion = chunk.frames[-1]
        return chunk

    def motion(self, chunk: motion_gen.MotionChunk) -> list[Answer]:
        """Take the next frames of motion: they are the answer where no pictures are made."""
        for frame in chunk.frames:
            if frame.index != self._motion_frames:
                raise ServiceError(
                    "INTERNAL",
                    f"motion frame {frame.index} came instead of {self._motion_frames}",
                )
            self._motion_frames += 1
        new = [frame for frame in chunk.frames if frame.index >= self.first_frame]
        if self.makes_pictures or not new:
            return []
        self._frames_sent(len(new))
        until = self._motion_frames / MOTION_FPS
        motion = talking_face.Motion(frames=new, position=self._played(until))
        return [Answer(motion=motion), *self._see(until, 0)]

    def leave_out(self, until: float) -> bool:
        """Whether the next motion, up to `until` seconds, comes too late to be shown."""
        return False

    def frame(self, frame: media.EncodedFrame) -> list[Answer]:
        """Take the next picture."""
        assert self._packager is not None
        left_out = frame.index - self._next_frame
        if left_out < 0 or (left_out and not self._may_drop_frames):
            raise ServiceError(
                "INTERNAL", f"frame {frame.index} came instead of {self._next_frame}"
            )
        self._next_frame = frame.index + 1
        pieces = self._packager.push_frame(frame)
        self._frames_sent(1)
        until = self._next_frame / self.frame_rate
        if pieces and (position := self._played(until)) is not None:
            pieces[-1].position.CopyFrom(position)
        events = self._see(until, left_out)
        return [*(Answer(media=piece) for piece in pieces), *events]

    def finish(self) -> list[Answer]:
        """The last answers: all stages have said all."""
        motion_frames = math.ceil(round(self.seconds * MOTION_FPS, 6))
        expected = frame_count(motion_frames, self.frame_rate)
        missing = expected - self._frames
        if missing and not self._may_drop_frames:
            raise ServiceError("INTERNAL", f"{self._frames} frames were made, not {expected}")
        pieces = self._packager.end() if self._packager is not None else []
        events = self._see(float("inf"), 0)
        begin, first = self._first_audio or 0.0, self._first_frame or 0.0
        summary = talking_face.Summary(
            frames=self._frames,
            audio_duration=duration(self.seconds),
            first_frame_delay=duration(first - begin),
            elapsed=duration(self._last_frame - begin),
            dropped_frames=missing,
        )
        return [*(Answer(media=piece) for piece in pieces), *events, Answer(summary=summary)]

    def close(self) -> None:
        """Free what the session holds, wherever it is."""
        self._intake.close()

    @property
    def _may_drop_frames(self) -> bool:
        """Whether frames may be missing in what the client is given."""
        return False

    def _check_not_ended(self) -> None:
        if self._ended:
            raise ServiceError("MESSAGE_ORDER", "a message after `end_of_audio`")

    def _frames_sent(self, count: int) -> None:
        self._frames += count
        self._last_frame = self._clock()
        if self._first_frame is None:
            self._first_frame = self._last_frame

    def _played(self, until: float) -> talking_face.StreamPosition | None:
        """What of a live session's audio has been played `until` seconds of the session."""
        return None

    def _see(self, until: float, left_out: int) -> list[Answer]:
        """The events that frames up to `until` seconds make, `left_out` being missing before."""
        return []

    @staticmethod
    def _events(events: list[tuple[talking_face.Event.Kind, float]]) -> list[Answer]:
        return event_answers(
            talking_face.Event(kind=kind, time=duration(seconds)) for kind, seconds in events
        )


def _checkpoint(state: resume.StageState) -> stage.Checkpoint | None:
    return state.checkpoint if state.HasField("checkpoint") else None


def event_answers(events: Iterable[talking_face.Event]) -> list[Answer]:
    """An answer for each event."""
    return [Answer(event=event) for event in events]
