"""One session: what a client asked for, and how its data becomes its answers. No network here.

session = Session(config)                # checks the configuration
for sound in session.audio(data): ...    # sound.voice goes to the speech encoder
session.control(update)                  # goes to the motion generator
session.features(...)                    # answers with events
session.motion(...), session.frame(...)  # answers with motion or media
session.finish()                         # the last answers
"""

from __future__ import annotations

import math
import re
import secrets
import time
from collections.abc import Callable, Iterable, Iterator

import numpy as np

import talkingface
from talkingface.audio_features.contract import ROW_RATE, SPEECH_DIM, VOICE_ACTIVITY
from talkingface.common.controls import frame_of, overlay
from talkingface.common.errors import ServiceError, invalid_field
from talkingface.common.messages import check_controls, check_size
from talkingface.common.motion import MOTION_FPS
from talkingface.motion_gen.controls import Controls
from talkingface.motion_gen.session import SEED_LIMIT
from talkingface.orchestrator.audio import MAX_SECONDS, AudioIntake, Sound
from talkingface.orchestrator.hush import RowHush
from talkingface.orchestrator.live import MAX_WAIT_SECONDS, LiveFeed, LivePacer
from talkingface.orchestrator.packaging import Packager, duration, packager
from talkingface.orchestrator.voice_activity import VoiceActivity
from talkingface.renderer.interpolation import frame_count
from talkingface.renderer.picture import fill_in, picture_format
from talkingface.v1 import audio_features_pb2 as audio_features
from talkingface.v1 import controls_pb2 as controls
from talkingface.v1 import media_pb2 as media
from talkingface.v1 import motion_gen_pb2 as motion_gen
from talkingface.v1 import renderer_pb2 as renderer
from talkingface.v1 import stage_pb2 as stage
from talkingface.v1 import talking_face_pb2 as talking_face

MAX_INLINE_PORTRAIT = 3 << 20
# Frames to come at which controls change; a checkpoint of the motion generator has room for these.
MAX_PLANNED = 256

# Codec, and range and default of the quality, of every output with pictures.
CODECS = {
    media.OUTPUT_KIND_FMP4: media.VIDEO_CODEC_H264,
    media.OUTPUT_KIND_H264: media.VIDEO_CODEC_H264,
    media.OUTPUT_KIND_JPEG: media.VIDEO_CODEC_JPEG,
    media.OUTPUT_KIND_PNG: media.VIDEO_CODEC_PNG,
}
_QUALITY = {media.VIDEO_CODEC_H264: (10, 40, 20), media.VIDEO_CODEC_JPEG: (50, 100, 92)}
_HANDLE = re.compile(r"sha256:[0-9a-f]{64}")

Answer = talking_face.AnimateResponse


def default_controls() -> controls.Controls:
    """The controls in force where a session states none."""
    own = Controls()
    message = controls.Controls(
        distance_ratio=own.head_distance,
        head_pose={},
        head_motion_scale=own.head_motion_scale,
        emotion=controls.Emotion(strength=own.emotion_strength),
        mouth_scale=own.mouth_scale,
        audio_guidance=own.audio_guidance,
    )
    message.natural_gaze.SetInParent()
    return message


def effective_config(asked: talking_face.AnimateConfig) -> talking_face.AnimateConfig:
    """A checked copy with all defaults filled in.

    :raises ServiceError: FIELD_INVALID or IMAGE_TOO_LARGE.
    """
    config = talking_face.AnimateConfig()
    config.CopyFrom(asked)
    if config.output == media.OUTPUT_KIND_UNSPECIFIED:
        config.output = media.OUTPUT_KIND_FMP4
    if config.output not in media.OutputKind.values():
        raise invalid_field("config.output", f"{config.output} is no kind of output")
    if config.output == media.OUTPUT_KIND_MOTION:
        for name in ("portrait_handle", "portrait_image", "size", "frame_rate", "framing"):
            config.ClearField(name)
    else:
        _check_portrait(config)
        fill_in(config)
    bounds = _QUALITY.get(CODECS.get(config.output, media.VIDEO_CODEC_UNSPECIFIED))
    if bounds is None:
        config.ClearField("quality")
    elif not config.HasField("quality"):
        config.quality = bounds[2]
    elif not bounds[0] <= config.quality <= bounds[1]:
        raise invalid_field(
            "config.quality", f"{config.quality} is outside {bounds[0]}..{bounds[1]}"
        )
    if not config.HasField("seed"):
        config.seed = secrets.randbits(32)
    if config.seed >= SEED_LIMIT:
        raise invalid_field("config.seed", f"{config.seed} is not below 2**63")
    if not config.HasField("audio"):
        raise invalid_field("config.audio", "must be stated")
    if config.pacing == talking_face.PACING_UNSPECIFIED:
        config.pacing = talking_face.PACING_OFFLINE
    if config.pacing not in talking_face.Pacing.values():
        raise invalid_field("config.pacing", f"{config.pacing} is no pacing")
    check_controls(asked.controls, "config.controls")
    config.controls.CopyFrom(overlay(default_controls(), asked.controls))
    return config


def _check_portrait(config: talking_face.AnimateConfig) -> None:
    match config.WhichOneof("portrait"):
        case "portrait_handle":
            if not _HANDLE.fullmatch(config.portrait_handle):
                raise invalid_field(
                    "config.portrait_handle", "must be 'sha256:' and 64 hexadecimal digits"
                )
        case "portrait_image":
            if len(config.portrait_image) > MAX_INLINE_PORTRAIT:
                raise ServiceError(
                    "IMAGE_TOO_LARGE",
                    f"a portrait of {len(config.portrait_image)} bytes must be uploaded first: "
                    f"at most {MAX_INLINE_PORTRAIT} fit into the configuration",
                )
        case None:
            raise invalid_field("config.portrait_handle", "a portrait is needed to make pictures")


class Session:
    """The state of one session. Its methods raise `ServiceError` for what the client did wrong."""

    def __init__(
        self,
        asked: talking_face.AnimateConfig,
        clock: Callable[[], float] = time.perf_counter,
        max_live: float = MAX_SECONDS,
    ) -> None:
        """
        :param max_live: seconds that a live session may last.
        """
        self.session_id = secrets.token_hex(8)
        self.config = effective_config(asked)
        self._clock = clock
        live = self.config.pacing == talking_face.PACING_LIVE
        self.feed = LiveFeed(self.config.audio, clock) if live else None
        self._pacer = LivePacer(clock) if live else None
        self._intake = AudioIntake(self.config.audio, max_live if live else MAX_SECONDS)
        self._rows = RowHush()
        self._planned: set[int] = set()  # frames of changes of controls, those to come and others
        self._voice_activity = VoiceActivity()
        self._packager: Packager | None = None
        self._ended = False
        self._motion_frames = 0
        self._frames = 0
        self._next_frame = 0
        self._first_audio: float | None = None
        self._first_frame: float | None = None
        self._last_frame = 0.0

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
        message = talking_face.Started(
            session_id=self.session_id,
            version=talkingface.__version__,
            stages=stages,
            config=self.config,
            portrait=portrait,
        )
        if portrait is not None:
            message.config.portrait_handle = portrait.handle
            message.picture.CopyFrom(picture_format(self.config, portrait))
            self._packager = packager(self.config.output, message.picture, self.config.pacing)
        return Answer(started=message)

    def generate_config(self) -> motion_gen.GenerateConfig:
        """What the motion generator is told."""
        return motion_gen.GenerateConfig(
            session_id=self.session_id, seed=self.config.seed, controls=self.config.controls
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
        )

    def audio(self, data: bytes) -> Iterator[Sound]:
        """Take bytes of audio; what they decode to comes in small pieces."""
        self._check_not_ended()
        check_size(data, "audio")
        if self._first_audio is None:
            self._first_audio = self._clock()
        return self._intake.push(data)

    def sound(self, sound: Sound) -> None:
        """Take a piece that `audio` or `end_of_audio` gave, when it is sent to the stages."""
        if self._packager is not None:
            self._packager.push_sound(sound, self._intake.rate)

    def due(self) -> tuple[bytes, list[Answer]]:
        """The bytes of a live session's sound whose time has come, to be taken by `audio`, and
        the sound that has waited too long for its pictures."""
        assert self.feed is not None and self._pacer is not None
        data, played = self.feed.due()
        self._pacer.play(played)
        overdue = self.seconds - MAX_WAIT_SECONDS
        pieces = self._packager.catch_up(overdue) if self._packager is not None else []
        return data, [Answer(media=piece) for piece in pieces]

    def interrupt(self) -> list[Answer]:
        """Drop what a live session has not played yet; the events that this makes."""
        if self.feed is None or self._pacer is None:
            raise ServiceError("MESSAGE_ORDER", "`interrupt` is for PACING_LIVE")
        silent = self._rows.hush(math.ceil(self.seconds * ROW_RATE)) / ROW_RATE
        if self._packager is not None:
            silent = self._packager.hush(self.seconds)
        return _told(self._pacer.interrupt(self.feed.interrupt(), min(silent, self.seconds)))

    def end_of_utterance(self, utterance_id: str) -> None:
        """What a live session was sent since the last one is an utterance."""
        if self.feed is None:
            raise ServiceError("MESSAGE_ORDER", "`end_of_utterance` is for PACING_LIVE")
        self.feed.end_of_utterance(utterance_id)

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
        if not update.HasField("time") and self.feed is None:
            told.time.CopyFrom(duration(self.seconds))
        check_controls(told.controls, "control.controls")
        if told.HasField("time"):
            self._plan(frame_of(told.time, "control.time"))
        return told

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
        return self._events(self._voice_activity.push(prosody[:, VOICE_ACTIVITY]))

    def features_ended(self) -> list[Answer]:
        """The events that the end of the features makes."""
        return self._events(self._voice_activity.end())

    def motion(self, chunk: motion_gen.MotionChunk) -> list[Answer]:
        """Take the next frames of motion: they are the answer where no pictures are made."""
        for frame in chunk.frames:
            if frame.index != self._motion_frames:
                raise ServiceError(
                    "INTERNAL",
                    f"motion frame {frame.index} came instead of {self._motion_frames}",
                )
            self._motion_frames += 1
        if self.makes_pictures or not chunk.frames:
            return []
        self._frames_sent(len(chunk.frames))
        return [
            Answer(motion=talking_face.Motion(frames=chunk.frames)),
            *self._see(self._motion_frames / MOTION_FPS, 0),
        ]

    def leave_out(self, until: float) -> bool:
        """Whether the next motion, up to `until` seconds, comes too late to be shown."""
        return self._pacer is not None and self._pacer.leave_out(until)

    def frame(self, frame: media.EncodedFrame) -> list[Answer]:
        """Take the next picture."""
        assert self._packager is not None
        left_out = frame.index - self._next_frame
        if left_out < 0 or (left_out and self._pacer is None):
            raise ServiceError(
                "INTERNAL", f"frame {frame.index} came instead of {self._next_frame}"
            )
        self._next_frame = frame.index + 1
        pieces = self._packager.push_frame(frame)
        self._frames_sent(1)
        events = self._see(self._next_frame / self.frame_rate, left_out)
        return [*(Answer(media=piece) for piece in pieces), *events]

    def finish(self) -> list[Answer]:
        """The last answers: all stages have said all."""
        motion_frames = math.ceil(round(self.seconds * MOTION_FPS, 6))
        expected = frame_count(motion_frames, self.frame_rate)
        missing = expected - self._frames
        if missing and (self._pacer is None or not self.makes_pictures):
            raise ServiceError("INTERNAL", f"{self._frames} frames were made, not {expected}")
        pieces = self._packager.end() if self._packager is not None else []
        events = self._see(float("inf"), 0)
        begin, first = self._first_audio or 0.0, self._first_frame or 0.0
        summary = talking_face.Summary(
            frames=self._frames,
            audio_duration=duration(self.seconds),
            first_frame_delay=duration(first - begin),
            elapsed=duration(self._last_frame - begin),
            late_frames=missing,
        )
        return [*(Answer(media=piece) for piece in pieces), *events, Answer(summary=summary)]

    def close(self) -> None:
        """Free what the session holds, wherever it is."""
        self._intake.close()

    def _check_not_ended(self) -> None:
        if self._ended:
            raise ServiceError("MESSAGE_ORDER", "a message after `end_of_audio`")

    def _frames_sent(self, count: int) -> None:
        self._frames += count
        self._last_frame = self._clock()
        if self._first_frame is None:
            self._first_frame = self._last_frame

    def _see(self, until: float, left_out: int) -> list[Answer]:
        """A live session's pictures have come up to `until` seconds: the events of it."""
        return [] if self._pacer is None else _told(self._pacer.see(until, left_out))

    @staticmethod
    def _events(events: list[tuple[talking_face.Event.Kind, float]]) -> list[Answer]:
        return _told(
            talking_face.Event(kind=kind, time=duration(seconds)) for kind, seconds in events
        )


def _told(events: Iterable[talking_face.Event]) -> list[Answer]:
    return [Answer(event=event) for event in events]
