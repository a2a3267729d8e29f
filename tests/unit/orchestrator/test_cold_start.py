"""Streams and sessions that continue at another build, which cannot restore their state."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from talkingface.contract.messages import features_message, motion_array, motion_message
from talkingface.contract.motion import ARKIT_INDEX, YAW, neutral
from talkingface.contract.speech_features import FEATURE_DIM, SPEECH_DIM
from talkingface.orchestrator.session.open_session import open_session
from talkingface.orchestrator.session.resume_token import without_checkpoints
from talkingface.orchestrator.session.seam import EASE_SECONDS, Seam
from talkingface.orchestrator.session.stage_configs import extract_config, generate_config
from talkingface.orchestrator.stages.history import InputHistory
from talkingface.orchestrator.stages.methods import ExtractMethod, GenerateMethod, RenderMethod
from talkingface.v1.audio_features_pb2 import ExtractConfig, ExtractRequest, ExtractResponse
from talkingface.v1.controls_pb2 import Controls, ControlUpdate
from talkingface.v1.media_pb2 import AUDIO_ENCODING_PCM_S16LE, OUTPUT_KIND_MOTION, AudioFormat
from talkingface.v1.motion_gen_pb2 import (
    GenerateConfig,
    GenerateRequest,
    GenerateResponse,
)
from talkingface.v1.renderer_pb2 import RenderConfig, RenderRequest
from talkingface.v1.resume_pb2 import SessionState, StageState
from talkingface.v1.stage_pb2 import Checkpoint
from talkingface.v1.talking_face_pb2 import (
    PACING_LIVE,
    PACING_OFFLINE,
    AnimateConfig,
    Resume,
    StreamPosition,
)


def audio(samples: np.ndarray) -> ExtractRequest:
    return ExtractRequest(audio=samples.astype("<f4").tobytes())


def samples_of(requests: list[ExtractRequest]) -> np.ndarray:
    return np.concatenate([np.frombuffer(request.audio, "<f4") for request in requests])


@pytest.mark.parametrize("seed", range(20))
def test_audio_starts_at_a_motion_frame(seed: int) -> None:
    """However it is split, the audio is sent again from that frame on."""
    rng = np.random.default_rng(seed)
    samples = np.arange(40_000, dtype=np.float32)
    cuts = np.unique(rng.integers(0, 40_000, 60)).tolist()
    history = InputHistory(ExtractMethod(), ExtractConfig(session_id="s"), 0, warm_up=0.5)
    for begin, end in zip([0, *cuts], [*cuts, 40_000], strict=True):
        history.add(audio(samples[begin:end]))
        if rng.integers(4) == 0:
            contained = int(rng.integers(0, len(history.pending) + 1))
            _, consumed = history.checkpoint(contained)
            assert consumed == history.consumed - len(
                samples_of([audio(samples[:0]), *history.pending])
            )
    config, cold = history.cold_start()
    begin = config.start_frame * 640
    assert (samples_of(cold.pending) == samples[begin:]).all()
    assert cold.consumed == 40_000
    kept = 40_000 - begin
    assert kept >= 8000 - 640 or begin == 0
    assert config.session_id == "s"
    # It is a history itself: whatever it contains can start cold again.
    cold.checkpoint(len(cold.pending))
    again, _ = cold.cold_start()
    assert config.start_frame <= again.start_frame <= (40_000 - 8000) // 640 + 20


def test_a_stream_that_was_sent_nothing_starts_cold_where_it_is() -> None:
    history = InputHistory(ExtractMethod(), ExtractConfig(), 1000, warm_up=10.0)
    config, cold = history.cold_start()
    assert (config.start_frame, cold.pending, cold.consumed) == (2, [], 1000)
    # The samples before that frame, which are still to come, are left out.
    assert cold.add(audio(np.arange(1000, 1100, dtype=np.float32))) is None
    kept = cold.add(audio(np.arange(1100, 1500, dtype=np.float32)))
    assert kept is not None
    assert (samples_of([kept]) == np.arange(1280, 1500)).all()
    assert (cold.pending, cold.consumed) == ([kept], 1500)


def rows(first: int, count: int) -> GenerateRequest:
    features = np.full((count, FEATURE_DIM), first, np.float32)
    return GenerateRequest(features=features_message(first, features, features[:, :SPEECH_DIM]))


def change(seconds: float | None = None, **fields: Any) -> GenerateRequest:
    update = ControlUpdate(controls=Controls(**fields))
    if seconds is not None:
        update.time.FromMilliseconds(round(1000 * seconds))
    return GenerateRequest(control=update)


def test_controls_outlive_the_history() -> None:
    """Those in effect become part of the configuration; later ones are sent again."""
    config = GenerateConfig(seed=5, controls=Controls(mouth_scale=1.0, blink_rate=3.0))
    history = InputHistory(GenerateMethod(), config, 0, warm_up=0.2)
    history.add(change(distance_ratio=1.25))
    history.add(change(9.0, mouth_scale=0.5))
    history.add(change(1.0, blink_rate=7.0))
    for first in range(0, 200, 4):
        history.add(rows(first, 4))
    history.add(change(head_motion_scale=2.0))
    history.checkpoint(53)  # all but the last
    cold_config, cold = history.cold_start()
    assert cold_config.controls == Controls(mouth_scale=1.0, blink_rate=7.0, distance_ratio=1.25)
    assert cold_config.seed == 5
    later, *features, last = cold.pending
    assert later == change(9.0, mouth_scale=0.5)
    assert last == change(head_motion_scale=2.0)
    assert features[0].features.first_row == 2 * cold_config.start_frame
    assert 188 <= features[0].features.first_row <= 192
    assert cold.consumed == 200
    assert config.controls.blink_rate == 3.0, "the stream's own configuration is unchanged"


def test_rows_may_start_between_two_frames() -> None:
    history = InputHistory(GenerateMethod(), GenerateConfig(), 7, warm_up=1.0)
    history.add(rows(7, 4))
    config, cold = history.cold_start()
    (request,) = cold.pending
    assert config.start_frame == 4
    assert (request.features.first_row, request.features.rows) == (8, 3)
    assert len(request.features.embedding) == 3 * FEATURE_DIM * 4


def test_the_first_items_of_a_result_are_dropped() -> None:
    method = GenerateMethod()
    response = GenerateResponse(motion=motion_message(10, neutral(5)))
    assert method.output_range(response) == (10, 5)
    method.drop_first(response, 2)
    assert method.output_range(response) == (12, 3)
    features = features_message(
        4, np.zeros((3, FEATURE_DIM), np.float32), np.zeros((3, SPEECH_DIM), np.float32)
    )
    encoded = ExtractResponse(features=features)
    ExtractMethod().drop_first(encoded, 1)
    assert ExtractMethod().output_range(encoded) == (5, 2)
    assert len(encoded.features.prosody) == 2 * SPEECH_DIM * 4


def test_dropped_motion_counts_as_input() -> None:
    history = InputHistory(RenderMethod(40), RenderConfig(), 0, warm_up=0.0)
    history.add(RenderRequest(motion=motion_message(0, neutral(5))))
    history.add(RenderRequest(dropped_motion=motion_message(5, neutral(5))))
    history.checkpoint(1)
    config, cold = history.cold_start()
    assert config.start_frame == 5
    assert [request.WhichOneof("payload") for request in cold.pending] == ["dropped_motion"]


def test_motion_eases_from_one_build_to_the_next() -> None:
    last, new = neutral(1), neutral(40)
    last[0, YAW], last[0, ARKIT_INDEX["jawOpen"]] = 10.0, 0.5
    new[:, YAW] = -4.0
    seam = Seam(motion_message(99, last).frames[0], 100)
    ends = np.linspace(0, 40, 8).astype(int).tolist()
    chunks = [motion_message(96 + a, new[a:b]) for a, b in itertools.pairwise(ends)]
    motion = np.concatenate(
        [motion_array(blended, blended.frames[0].index) for blended in map(seam.apply, chunks)]
    )
    assert motion[:4, YAW] == pytest.approx(10.0), "frames that are not shown"
    shown = motion[4:, YAW]
    frames = round(25 * EASE_SECONDS)
    assert (np.diff(shown[: frames + 1]) < 0).all()
    assert shown[0] > 9.0, "no jump"
    assert np.abs(np.diff(shown)).max() < 14 * 2 / frames
    assert (motion[4 + frames :] == new[4 + frames :]).all()
    assert not seam.ended(100 + frames - 1)
    assert seam.ended(100 + frames)


def test_a_token_of_another_build_keeps_what_any_build_understands() -> None:
    state = SessionState(session_id="s", frames=120, messages=9, speaking=True, vad_run_rows=4)
    for name, consumed, produced in (
        ("audio_features", 64_100, 190), ("motion_gen", 190, 90), ("renderer", 88, 115)
    ):  # fmt: skip
        part: StageState = getattr(state, name)
        part.checkpoint.CopyFrom(Checkpoint(model=name, state=b"secret"))
        part.consumed, part.produced = consumed, produced
    state.config.controls.CopyFrom(Controls(mouth_scale=1.0))
    state.controls_in_effect.CopyFrom(Controls(mouth_scale=0.5))
    state.controls.add(controls=Controls(blink_rate=1.0))
    state.later_controls.add(controls=Controls(blink_rate=2.0))
    cold = without_checkpoints(state)
    assert b"secret" not in cold.SerializeToString()
    assert cold.audio_features.consumed == 64_100, "the position from which the client sends again"
    assert (cold.motion_gen.consumed, cold.motion_gen.produced) == (202, 101)
    assert cold.renderer.consumed == 101
    assert cold.config.controls == Controls(mouth_scale=0.5)
    assert [update.controls.blink_rate for update in cold.controls] == [2.0]
    assert (cold.session_id, cold.frames, cold.messages) == ("s", 120, 9)
    assert not cold.speaking


@pytest.mark.parametrize("live", [False, True])
def test_a_session_resumes_cold_at_a_motion_frame(live: bool) -> None:
    """All stages start at one frame, and motion is eased from the last one."""
    config = AnimateConfig(
        audio=AudioFormat(encoding=AUDIO_ENCODING_PCM_S16LE, sample_rate=24_000, channels=1),
        output=OUTPUT_KIND_MOTION,
        pacing=PACING_LIVE if live else PACING_OFFLINE,
        resumable=True,
        seed=3,
    )
    state = SessionState(session_id="s", config=config, frames=110)
    state.audio_features.consumed, state.motion_gen.produced = 64_100, 108
    state.audio_features.checkpoint.state = b"secret"
    state.position.bytes = 100
    last = neutral(1)
    last[0, YAW] = 8.0
    state.last_motion.CopyFrom(motion_message(112, last).frames[0])
    state.controls_in_effect.CopyFrom(Controls(blink_rate=0.0))
    asked = AnimateConfig(
        resume=Resume(next_frame=112, frames=112, position=StreamPosition(bytes=100))
    )
    session = open_session(asked, state=without_checkpoints(state))
    frame = 101  # the first after 64,100 samples
    assert extract_config(session).start_frame == frame
    assert not extract_config(session).HasField("resume")
    assert generate_config(session).start_frame == frame
    assert generate_config(session).controls.blink_rate == 0.0
    assert session.start.encoder_sample == frame * 640
    chunk = session.eased(motion_message(frame, neutral(12)))
    motion = motion_array(chunk, frame)
    assert motion[:11, YAW] == pytest.approx(8.0), "what the client has already"
    assert 7.0 < motion[11, YAW] < 8.0
    rest = motion_array(session.eased(motion_message(frame + 12, neutral(20))), frame + 12)
    assert rest[-1, YAW] == 0.0
    session.close()
