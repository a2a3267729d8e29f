"""The parts of a session: its start, controls, statistics, jitter buffer and speech detection."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration

from talkingface.contract.errors import ServiceError
from talkingface.orchestrator.session.control_schedule import MAX_PLANNED, ControlSchedule
from talkingface.orchestrator.session.frame_statistics import FrameStatistics
from talkingface.orchestrator.session.jitter_buffer import MAX_SECONDS, JitterBuffer
from talkingface.orchestrator.session.start import SessionStart
from talkingface.orchestrator.session.voice_activity import VoiceActivityHistory
from talkingface.v1.controls_pb2 import Controls, ControlUpdate
from talkingface.v1.resume_pb2 import SessionState
from talkingface.v1.stage_pb2 import Checkpoint


def update(seconds: int | None = None, **fields: Any) -> ControlUpdate:
    time = None if seconds is None else Duration(seconds=seconds)
    return ControlUpdate(time=time, controls=Controls(**fields))


def test_controls_take_effect_at_their_frame() -> None:
    schedule = ControlSchedule(Controls(mouth_scale=1.0, blink_rate=3.0))
    schedule.add(update(2, mouth_scale=0.5), now=0)
    schedule.add(update(1, mouth_scale=0.8), now=0)
    schedule.add(update(blink_rate=9.0), now=30)
    schedule.add(update(1, expressivity=0.5), now=40)  # late, so that it acts at once
    expected = (
        (29, Controls(mouth_scale=0.8, blink_rate=3.0), 3),
        (49, Controls(mouth_scale=0.8, blink_rate=9.0, expressivity=0.5), 1),
        (50, Controls(mouth_scale=0.5, blink_rate=9.0, expressivity=0.5), 0),
    )
    for now, in_effect, later in expected:
        state = SessionState()
        schedule.write(state, now)
        assert state.controls_in_effect == in_effect
        assert len(state.later_controls) == later


def test_the_newest_of_updates_for_one_frame_wins() -> None:
    schedule = ControlSchedule(Controls())
    schedule.add(update(1, mouth_scale=0.8), now=0)
    schedule.add(update(1, mouth_scale=0.6), now=0)
    state = SessionState()
    schedule.write(state, 25)
    assert state.controls_in_effect.mouth_scale == pytest.approx(0.6)


def test_the_number_of_changes_to_come_is_bounded() -> None:
    schedule = ControlSchedule(Controls())
    for frame in range(MAX_PLANNED):
        schedule.plan(frame, now=0)
        schedule.plan(frame, now=0)
    with pytest.raises(ServiceError, match="FIELD_INVALID"):
        schedule.plan(MAX_PLANNED, now=0)
    schedule.plan(MAX_PLANNED + 1, now=2)


def test_statistics_measure_from_the_first_audio() -> None:
    now = 11.0
    statistics = FrameStatistics(lambda: now, frames=5)
    statistics.on_audio()
    now = 11.25
    statistics.on_audio()
    statistics.on_frames(2)
    now = 13.5
    statistics.on_frames(2)
    summary = statistics.summary(0.5, 3)
    assert (summary.frames, summary.dropped_frames) == (9, 3)
    assert summary.audio_duration.ToMilliseconds() == 500
    assert summary.first_frame_delay.ToMilliseconds() == 250
    assert summary.elapsed.ToMilliseconds() == 2500


def test_a_new_session_starts_at_zero() -> None:
    start = SessionStart.of(SessionState(), 0, 48_000, renders=True)
    assert (start.frame, start.source_sample, start.decoded_sample) == (0, 0, 0)
    assert (start.encoder_sample, start.motion_frame) == (0, 0)


@pytest.mark.parametrize("rate", [8000, 16_000, 44_100, 48_000])
def test_a_resumed_session_starts_at_its_checkpoints(rate: int) -> None:
    state = SessionState()
    state.audio_features.consumed = 64_100
    state.motion_gen.produced, state.renderer.consumed = 90, 88
    cold = SessionStart.of(state, 120, rate, renders=True)
    assert cold.encoder_sample == 101 * 640, "a cold start is at a motion frame"
    assert (cold.frame, cold.motion_frame) == (120, 88)
    state.audio_features.checkpoint.CopyFrom(Checkpoint(model="m"))
    start = SessionStart.of(state, 120, rate, renders=False)
    assert (start.encoder_sample, start.motion_frame) == (64_100, 90)
    assert start.source_sample * 16_000 == start.decoded_sample * rate, "the same moment"
    assert start.decoded_sample <= start.encoder_sample
    assert SessionStart.of(state, 120, 0, renders=True).source_sample == 0, "a file"


def test_speech_is_resumed_in_the_state_of_the_row() -> None:
    history = VoiceActivityHistory((True, 7))
    assert history.after(0) == (True, 7)
    for rows in (4, 8, 12):
        history.add(rows, (False, rows))
    assert history.after(8) == (False, 8)
    assert history.after(12) == (False, 12)
    assert history.after(16) == (True, 7), "no row was processed since the session started"


def test_a_late_packet_delays_the_next_start_of_speech() -> None:
    now = 0.0
    buffer = JitterBuffer(lambda: now)
    buffer.on_packet()
    assert buffer.ready(0.02, complete=False), "nothing was late yet"
    buffer.on_read(underrun=True, complete=False)
    now = 0.04
    buffer.on_packet()
    assert buffer.delay == pytest.approx(0.06)
    assert not buffer.ready(0.02, complete=False)
    assert buffer.ready(0.02, complete=True), "the whole utterance has arrived"
    buffer.on_pause()
    buffer.on_packet()
    now += 0.07
    assert buffer.ready(0.02, complete=False)


def test_a_pause_is_not_a_late_packet() -> None:
    now = 0.0
    buffer = JitterBuffer(lambda: now)
    for underrun, complete, pause in ((True, False, 2 * MAX_SECONDS), (True, True, 0.01)):
        buffer.on_packet()
        assert buffer.ready(0.02, complete=False)
        buffer.on_read(underrun=underrun, complete=complete)
        now += pause
        buffer.on_packet()
        assert buffer.delay == 0
        buffer.on_pause()
