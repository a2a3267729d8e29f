"""A session without a network: configuration, order of messages, events, answers."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest
from google.protobuf.duration_pb2 import Duration

from talkingface.contract.errors import ServiceError
from talkingface.contract.portrait import handle_of
from talkingface.orchestrator.media.decoding import AudioChunk
from talkingface.orchestrator.session.config import default_controls, effective_config
from talkingface.orchestrator.session.live_playout import MAX_WAIT_SECONDS
from talkingface.orchestrator.session.live_session import LiveSession
from talkingface.orchestrator.session.open_session import open_session
from talkingface.orchestrator.session.session import Session
from talkingface.orchestrator.session.stage_configs import render_config
from talkingface.orchestrator.session.voice_activity import (
    SPEECH_ENDED,
    SPEECH_STARTED,
    VoiceActivity,
)
from talkingface.orchestrator.stages.portraits import UploadStore
from talkingface.v1 import audio_features_pb2 as audio_features
from talkingface.v1 import controls_pb2 as controls
from talkingface.v1 import media_pb2 as media
from talkingface.v1 import motion_gen_pb2 as motion_gen
from talkingface.v1 import motion_pb2 as motion
from talkingface.v1 import renderer_pb2 as renderer
from talkingface.v1 import resume_pb2 as resume
from talkingface.v1 import talking_face_pb2 as talking_face

HANDLE = "sha256:" + "0" * 64
PCM = media.AudioFormat(encoding=media.AUDIO_ENCODING_PCM_S16LE, sample_rate=16000, channels=1)


def config(**fields: Any) -> talking_face.AnimateConfig:
    fields = {"audio": PCM, "portrait_handle": HANDLE, "seed": 5, **fields}
    return talking_face.AnimateConfig(**{k: v for k, v in fields.items() if v is not None})


def add(chunks: Iterable[AudioChunk], session: Session) -> int:
    """Add all chunks to the session, and return the number of samples."""
    count = 0
    for chunk in chunks:
        session.add_chunk(chunk)
        count += len(chunk.mono_16k)
    return count


def violations(error: pytest.ExceptionInfo[ServiceError]) -> set[str]:
    return set(error.value.field_violations)


def test_defaults_are_filled_in() -> None:
    asked = config(seed=None, controls=controls.Controls(mouth_scale=0.5))
    got = effective_config(asked)
    assert got.output == media.OUTPUT_KIND_FMP4
    assert got.quality == 20
    assert (got.size, got.frame_rate, got.framing) == (512, 25, media.FRAMING_CROP)
    assert got.HasField("seed")
    assert got.controls.mouth_scale == 0.5
    assert got.controls.distance_ratio == 1
    assert got.controls.expressivity == 1
    assert got.controls.WhichOneof("gaze") == "natural_gaze"
    assert not asked.controls.HasField("distance_ratio"), "the client's message is unchanged"
    assert effective_config(config(output=media.OUTPUT_KIND_JPEG)).quality == 92
    assert not effective_config(config(output=media.OUTPUT_KIND_PNG)).HasField("quality")


def test_random_seeds_differ_between_sessions() -> None:
    assert len({effective_config(config(seed=None)).seed for _ in range(5)}) > 1


def test_motion_needs_no_portrait() -> None:
    got = effective_config(config(output=media.OUTPUT_KIND_MOTION, portrait_handle=None))
    assert got.WhichOneof("portrait") is None
    got = effective_config(config(output=media.OUTPUT_KIND_MOTION, portrait_handle="whatever"))
    assert got.WhichOneof("portrait") is None


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"portrait_handle": None}, "config.portrait_handle"),
        ({"portrait_handle": "me"}, "config.portrait_handle"),
        ({"portrait_handle": HANDLE.upper()}, "config.portrait_handle"),
        ({"output": 17}, "config.output"),
        ({"quality": 9}, "config.quality"),
        ({"quality": 41}, "config.quality"),
        ({"quality": 49, "output": media.OUTPUT_KIND_JPEG}, "config.quality"),
        ({"seed": 1 << 63}, "config.seed"),
        ({"size": 254}, "config.size"),
        ({"size": 1026}, "config.size"),
        ({"size": 513}, "config.size"),
        ({"size": 512, "framing": media.FRAMING_PHOTO}, "config.size"),
        ({"frame_rate": 24}, "config.frame_rate"),
        ({"frame_rate": 61}, "config.frame_rate"),
        ({"framing": 9}, "config.framing"),
        ({"background": {"colour": {"red": 256}}}, "config.background.colour.red"),
        ({"background": {"image": b""}}, "config.background.image"),
        ({"background": {"image": bytes((1 << 20) + 1)}}, "config.background.image"),
        (
            {"background": {"transparent": {}}, "output": media.OUTPUT_KIND_JPEG},
            "config.background.transparent",
        ),
        (
            {"background": {"transparent": {}}, "framing": media.FRAMING_PHOTO},
            "config.background",
        ),
        (
            {"background": {"image": b"x"}, "resumable": True, "output": media.OUTPUT_KIND_H264},
            "config.background.image",
        ),
        ({"audio": None}, "config.audio"),
        ({"audio": media.AudioFormat()}, "config.audio.encoding"),
        ({"controls": controls.Controls(mouth_scale=1.6)}, "config.controls.mouth_scale"),
        ({"controls": controls.Controls(mouth_scale=math.nan)}, "config.controls.mouth_scale"),
        ({"controls": controls.Controls(expressivity=2.1)}, "config.controls.expressivity"),
        (
            {"controls": controls.Controls(gaze_direction=controls.Gaze(yaw=26))},
            "config.controls.gaze_direction.yaw",
        ),
    ],
)
def test_a_bad_configuration_names_its_field(fields: dict[str, Any], path: str) -> None:
    with pytest.raises(ServiceError) as caught:
        open_session(config(**fields))
    assert caught.value.reason == "FIELD_INVALID"
    assert violations(caught) == {path}


@pytest.mark.parametrize(
    ("fields", "photo", "size"),
    [
        ({}, (3000, 2000), (512, 512)),
        ({"size": 1024}, (100, 120), (1024, 1024)),
        ({"background": {"transparent": {}}}, (100, 120), (1024, 512)),
        (
            {"background": {"transparent": {}}, "output": media.OUTPUT_KIND_PNG},
            (100, 120),
            (512, 512),
        ),
        ({"framing": media.FRAMING_PHOTO}, (801, 600), (800, 600)),
        ({"framing": media.FRAMING_PHOTO}, (3000, 4000), (1440, 1920)),
    ],
)
def test_started_reports_the_video_format(
    fields: dict[str, Any], photo: tuple[int, int], size: tuple[int, int]
) -> None:
    session = open_session(config(**fields, frame_rate=40))
    portrait = renderer.Portrait(handle=HANDLE, width=photo[0], height=photo[1])
    video = session.started([], portrait).started.video
    assert (video.width, video.height, video.frame_rate) == (*size, 40)
    asked = render_config(session, HANDLE)
    assert asked.frame_rate == 40
    assert asked.HasField("size") == (session.config.framing == media.FRAMING_CROP)
    assert asked.background == session.config.background


def test_started_leaves_out_the_image_of_a_background() -> None:
    session = open_session(config(background={"image": b"file"}))
    portrait = renderer.Portrait(handle=HANDLE, width=100, height=100)
    assert session.started([], portrait).started.config.background.image == b""
    assert render_config(session, HANDLE).background.image == b"file"


def test_a_higher_frame_rate_requires_more_frames() -> None:
    session = open_session(config(output=media.OUTPUT_KIND_JPEG, frame_rate=30))
    session.started([], renderer.Portrait(handle=HANDLE, width=512, height=512))
    add(session.audio(bytes(2 * 16000)), session)
    add(session.end_of_audio(), session)
    session.end_chunks()
    session.motion(chunk(0, 25))
    for i in range(15):
        session.frame(media.EncodedFrame(index=i))
    assert session.lead_seconds == pytest.approx(0.5)
    with pytest.raises(ServiceError, match="15 frames were made, not 30"):
        session.finish()
    for i in range(15, 30):
        (answer,) = session.frame(media.EncodedFrame(index=i))
    assert answer.media.presentation_time.ToMicroseconds() == round(29e6 / 30)
    assert session.finish()[-1].summary.frames == 30


def test_motion_output_ignores_the_video_format() -> None:
    session = motion_session(frame_rate=99, size=7, framing=9)
    assert session.frame_rate == 25
    assert not session.started([], None).started.HasField("video")


def test_a_large_portrait_must_be_uploaded() -> None:
    with pytest.raises(ServiceError) as caught:
        effective_config(config(portrait_handle=None, portrait_image=bytes(3 * 2**20 + 1)))
    assert caught.value.reason == "IMAGE_TOO_LARGE"


def test_started_reports_the_configuration_without_the_portrait() -> None:
    session = open_session(config(portrait_handle=None, portrait_image=b"JPEG"))
    started = session.started([], renderer.Portrait(handle=HANDLE)).started
    assert started.config.WhichOneof("portrait") == "portrait_handle"
    assert started.config.portrait_handle == HANDLE
    assert started.config.seed == 5
    assert started.config.controls == default_controls()


def motion_session(**fields: Any) -> Session:
    return open_session(config(output=media.OUTPUT_KIND_MOTION, portrait_handle=None, **fields))


def chunk(first: int, count: int) -> motion_gen.MotionChunk:
    return motion_gen.MotionChunk(
        frames=[motion.MotionFrame(index=first + i) for i in range(count)]
    )


def test_a_session_from_first_audio_to_summary() -> None:
    now = [10.0]
    session = open_session(
        config(output=media.OUTPUT_KIND_MOTION, portrait_handle=None), clock=lambda: now[0]
    )
    samples = add(session.audio(bytes(2 * 16000)), session)
    now[0] = 10.3
    (answer,) = session.motion(chunk(0, 20))
    assert [frame.index for frame in answer.motion.frames] == list(range(20))
    assert session.lead_seconds == pytest.approx(0.2)
    samples += add(session.end_of_audio(), session)
    session.end_chunks()
    assert samples == 16000
    now[0] = 11.0
    session.motion(chunk(20, 5))
    (answer,) = session.finish()
    summary = answer.summary
    assert summary.frames == 25
    assert summary.audio_duration.ToMilliseconds() == 1000
    assert summary.first_frame_delay.ToMilliseconds() == 300
    assert summary.elapsed.ToMilliseconds() == 1000


def test_a_missing_frame_is_an_error() -> None:
    session = motion_session()
    add(session.audio(bytes(2 * 16000)), session)
    session.motion(chunk(0, 20))
    with pytest.raises(ServiceError, match="came instead of 20"):
        session.motion(chunk(21, 1))
    session = motion_session()
    add(session.audio(bytes(2 * 16000)), session)
    add(session.end_of_audio(), session)
    session.motion(chunk(0, 24))
    with pytest.raises(ServiceError, match="24 frames were made, not 25"):
        session.finish()


@pytest.mark.parametrize("samples", [3200, 15999, 16000, 16001, 16640])
def test_the_audio_determines_the_number_of_frames(samples: int) -> None:
    session = motion_session()
    add(session.audio(bytes(2 * samples)), session)
    add(session.end_of_audio(), session)
    session.motion(chunk(0, -(-samples // 640)))
    assert session.finish()[-1].summary.frames == math.ceil(samples / 640)


def test_nothing_may_follow_the_end_of_audio() -> None:
    session = motion_session()
    add(session.audio(bytes(32000)), session)
    add(session.end_of_audio(), session)
    for late in (
        lambda: session.audio(b"\0\0"),
        session.end_of_audio,
        lambda: session.control(controls.ControlUpdate()),
    ):
        with pytest.raises(ServiceError) as caught:
            late()
        assert caught.value.reason == "MESSAGE_ORDER"


def test_an_oversized_chunk_is_refused() -> None:
    with pytest.raises(ServiceError) as caught:
        motion_session().audio(bytes(2**20 + 1))
    assert caught.value.reason == "MESSAGE_TOO_LARGE"


def test_a_control_without_time_belongs_to_the_audio_that_follows() -> None:
    session = motion_session()
    add(session.audio(bytes(2 * 20000)), session)
    timed = session.control(controls.ControlUpdate(controls={"mouth_scale": 0.5}))
    assert timed.time.ToMilliseconds() == 1250
    assert timed.controls.mouth_scale == 0.5
    update = controls.ControlUpdate(time=Duration(seconds=7), controls={"mouth_scale": 0.5})
    assert session.control(update) == update


@pytest.mark.parametrize(
    ("update", "path"),
    [
        ({"time": Duration(seconds=-1)}, "control.time"),
        ({"time": Duration(seconds=100000)}, "control.time"),
        ({"controls": controls.Controls(blink_rate=61)}, "control.controls.blink_rate"),
    ],
)
def test_a_bad_control_names_its_field(update: dict[str, Any], path: str) -> None:
    with pytest.raises(ServiceError) as caught:
        motion_session().control(controls.ControlUpdate(**update))
    assert violations(caught) == {path}


def test_speech_causes_events() -> None:
    session = motion_session()
    prosody = np.zeros((100, 4), "<f4")
    prosody[20:60, 0] = 0.9
    answers = []
    for first in range(0, 100, 4):
        rows = prosody[first : first + 4]
        answers += session.features(
            audio_features.AudioFeatures(first_row=first, rows=4, prosody=rows.tobytes())
        )
    answers += session.features_ended()
    assert [(a.event.kind, a.event.time.ToMilliseconds()) for a in answers] == [
        (SPEECH_STARTED, 400),
        (SPEECH_ENDED, 1200),
    ]


def test_short_noises_and_pauses_make_no_events() -> None:
    activity = VoiceActivity()
    rows = np.zeros(200, np.float32)
    rows[10:12] = 1  # a click
    assert activity.push(rows[:50]) == []
    rows[50:150] = 1
    rows[100:115] = 0  # a pause within speech
    assert activity.push(rows[50:150]) == [(SPEECH_STARTED, 1.0)]
    assert activity.end() == [(SPEECH_ENDED, 3.0)]
    assert activity.end() == []


def portrait_of(image: bytes) -> renderer.Portrait:
    return renderer.Portrait(handle=handle_of(image), width=3)


def test_the_store_deletes_the_least_recently_used(tmp_path: Any) -> None:
    store = UploadStore(tmp_path / "store", max_bytes=2500)
    images = [bytes([i]) * 1000 for i in range(3)]
    for image in images[:2]:
        store.put(image, portrait_of(image))
    found = store.find(handle_of(images[0]))
    assert found == portrait_of(images[0])
    store.put(images[2], portrait_of(images[2]))
    assert store.image(handle_of(images[0])) == images[0]
    assert store.find(handle_of(images[1])) is None
    assert store.image(handle_of(images[1])) is None
    assert store.image(handle_of(images[2])) == images[2]
    assert len(list((tmp_path / "store").iterdir())) == 4


def test_the_store_survives_a_restart(tmp_path: Any) -> None:
    UploadStore(tmp_path, 2**20).put(b"image", portrait_of(b"image"))
    again = UploadStore(tmp_path, 2**20)
    assert again.find(handle_of(b"image")) == portrait_of(b"image")
    assert again.find(handle_of(b"other")) is None


def test_frames_whose_audio_was_sent_without_them_are_dropped() -> None:
    now = [0.0]
    session = open_session(
        config(pacing=talking_face.PACING_LIVE, output=media.OUTPUT_KIND_H264), lambda: now[0]
    )
    assert isinstance(session, LiveSession)
    while session.audio_seconds < 2:
        chunks, _ = session.pop_due()
        add(chunks, session)
        now[0] += 0.02
    until = session.audio_seconds - MAX_WAIT_SECONDS
    assert session.render_level(until) is None
    assert session.render_level(until + 0.04) == 0


def test_a_live_session_reports_its_level_and_resumes_at_it() -> None:
    """It steps down with the renderer's load; its next motion and its token have the level."""
    now = [0.0]
    asked = config(pacing=talking_face.PACING_LIVE, output=media.OUTPUT_KIND_JPEG, resumable=True)
    session = open_session(asked, lambda: now[0])
    assert isinstance(session, LiveSession)
    session.started([], portrait_of(b"image"))
    levels, events = [], []
    for index in range(40):
        levels.append(session.render_level((index + 1) / 25))
        now[0] += 0.04
        frame = media.EncodedFrame(index=index, data=b"jpeg", keyframe=True, load=1.2)
        events += [answer.event for answer in session.frame(frame) if answer.HasField("event")]
    assert [event.level for event in events] == [1, 2]
    assert {event.kind for event in events} == {talking_face.Event.KIND_LEVEL_CHANGED}
    assert list(dict.fromkeys(levels)) == [0, 1, 2], "one after the other"
    assert session.level == 2
    states: list[resume.SessionState] = []

    def pack(state: resume.SessionState) -> bytes:
        states.append(state)
        return b"token"

    session.token(resume.SessionState(frames=40), pack)
    (state,) = states
    asked = talking_face.AnimateConfig(
        resume=talking_face.Resume(token=b"token", next_frame=40, frames=40)
    )
    resumed = open_session(asked, lambda: now[0], state=state)
    assert isinstance(resumed, LiveSession)
    assert resumed.level == resumed.render_level(41 / 25) == 2


def test_an_offline_session_is_rendered_in_full() -> None:
    session = open_session(config())
    session.started([], portrait_of(b"image"))
    add(session.audio(bytes(2 * 16_000)), session)
    for index in range(20):
        frame = media.EncodedFrame(
            index=index, data=b"\0\0\1\x67\1\2\3\0\0\1\x68\0\0\1\x65", load=9
        )
        assert not any(answer.HasField("event") for answer in session.frame(frame))
        assert session.render_level((index + 1) / 25) == 0
