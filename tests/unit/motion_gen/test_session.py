"""The motion session with the real model: fixed windows, exact counts, same bits."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

import talkingface.motion_gen
from talkingface.contract.controls import Controls
from talkingface.contract.motion import DISTANCE, MOTION_DIM, PITCH, YAW, arkit_to_gaze
from talkingface.contract.speech_features import FEATURE_DIM, SPEECH_DIM
from talkingface.motion_gen.canonical_motion import (
    CANONICAL_DIM,
    GAZE,
    LOG_DISTANCE,
    ROTATION,
    compose,
    from_motion,
)
from talkingface.motion_gen.session import MotionSession
from talkingface.motion_gen.windows import EXTRA_ROWS, HOP, MODEL_NAME, ROWS_PER_FRAME

MODEL = Path(talkingface.motion_gen.__file__).parent / "model_repository" / MODEL_NAME


@cache
def model() -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(
        str(MODEL / "1" / "model.onnx"), options, providers=["CPUExecutionProvider"]
    )


def infer(request: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    (frames,) = model().run(["frames"], {name: value[None] for name, value in request.items()})
    return {"frames": frames[0]}


def drain(session: MotionSession) -> list[np.ndarray]:
    out = []
    while (request := session.next_request()) is not None:
        out.append(session.accept(infer(request)))
    return out


def rows(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    features = rng.normal(0, 0.3, (count, FEATURE_DIM)).astype(np.float32)
    speech = np.tile(np.array([0.9, -25.0, 7.0, 0.8], np.float32), (count, 1))
    assert speech.shape == (count, SPEECH_DIM)
    return features, speech


def animate(count: int, chunk: int, session: MotionSession | None = None) -> np.ndarray:
    session = session or MotionSession(seed=3)
    features, speech = rows(count)
    out = []
    for start in range(0, count, chunk):
        session.push(features[start : start + chunk], speech[start : start + chunk])
        out += drain(session)
    session.end()
    out += drain(session)
    return np.concatenate(out) if out else np.zeros((0, MOTION_DIM), np.float32)


@pytest.mark.parametrize("count", [0, 1, 2, 4, 5, 37, 50])
def test_frame_count(count: int) -> None:
    motion = animate(count, 7)
    assert motion.shape == (-(-count // 2), MOTION_DIM)
    assert np.isfinite(motion).all()
    assert (motion[:, :52] >= 0).all() and (motion[:, :52] <= 1).all()


def test_chunking_changes_no_bit() -> None:
    whole = animate(101, 101)
    for chunk in (1, 4, 9):
        assert (animate(101, chunk) == whole).all()


def test_seed_changes_the_performance() -> None:
    other = animate(50, 50, MotionSession(seed=4))
    assert (other != animate(50, 50)).any()


def test_window_comes_as_soon_as_the_encoder_block_is_there() -> None:
    session = MotionSession()
    needed = ROWS_PER_FRAME * HOP + EXTRA_ROWS
    features, speech = rows(needed)
    session.push(features[:-1], speech[:-1])
    assert session.next_request() is None
    session.push(features[-1:], speech[-1:])
    request = session.next_request()
    assert request is not None
    assert session.next_request() is None, "one request at a time"
    assert len(session.accept(infer(request))) == HOP


def test_snapshot_goes_on_bit_for_bit() -> None:
    features, speech = rows(120)
    session = MotionSession(seed=9, controls=Controls(gaze=(2.0, 3.0)))
    session.set_controls(40, head_distance=1.2, emotion={"anger": 0.5})
    session.push(features[:61], speech[:61])
    drain(session)
    copy = MotionSession.restore(session.snapshot())
    ends = []
    for one in (session, copy):
        one.push(features[61:], speech[61:])
        one.end()
        ends.append(np.concatenate(drain(one)))
    assert (ends[0] == ends[1]).all()
    assert len(session.snapshot()) < 2_000_000


def test_a_stream_may_start_at_any_frame() -> None:
    """Frames, rows and controls keep their indices."""
    features, speech = rows(60)
    session = MotionSession(seed=9, controls=Controls(blink_rate=0), start_frame=37)
    assert (session.frames, session.rows) == (37, 74)
    assert session.set_controls(50, head_distance=1.5) == 50
    assert session.set_controls(mouth_scale=0.5) == 37
    session.push(features, speech)
    session.end()
    copy = MotionSession.restore(session.snapshot())
    motion = np.concatenate(drain(session))
    assert len(motion) == 30
    assert (session.frames, session.rows) == (67, 134)
    assert motion[:13, DISTANCE] == pytest.approx(motion[0, DISTANCE], abs=0.03)
    assert motion[-1, DISTANCE] > 1.4
    assert (np.concatenate(drain(copy)) == motion).all()


def test_controls_act_at_their_frame() -> None:
    features, speech = rows(120)
    session = MotionSession(seed=1)
    assert session.set_controls(20, head_distance=1.5) == 20
    session.push(features, speech)
    session.end()
    motion = np.concatenate(drain(session))
    plain = animate(120, 120, MotionSession(seed=1))
    assert (motion[:20] == plain[:20]).all()
    ratio = motion[:, DISTANCE] / plain[:, DISTANCE]
    assert ratio[20] > 1.0
    assert ratio[35:] == pytest.approx(1.5, rel=0.02)


def test_expressivity_does_not_change_the_generators_input() -> None:
    features, speech = rows(60)
    requests, motion = [], []
    for expressivity in (0.0, 1.0, 2.0):
        session = MotionSession(seed=1, controls=Controls(expressivity=expressivity))
        session.push(features, speech)
        asked = []
        while (request := session.next_request()) is not None:
            asked.append(request)
            motion.append(session.accept(infer(request)))
        requests.append(asked)
    for first, *others in zip(*requests, strict=True):
        for name, value in first.items():
            assert all((value == other[name]).all() for other in others), name
    still, _, lively = np.split(np.concatenate(motion), 3)
    assert (still != lively).any()


def test_a_late_control_acts_at_the_next_frame() -> None:
    features, speech = rows(41)
    session = MotionSession()
    session.push(features, speech)
    drain(session)
    assert session.set_controls(mouth_scale=0.5) == session.frames


def test_bad_rows_leave_the_stream_as_it_was() -> None:
    session = MotionSession(seed=3)
    features, speech = rows(50)
    broken = features.copy()
    broken[3, 7] = np.nan
    with pytest.raises(ValueError, match="finite"):
        session.push(broken, speech)
    with pytest.raises(ValueError, match="rows must be"):
        session.push(features[:, :100], speech)
    assert (animate(50, 50, session) == animate(50, 50)).all()
    with pytest.raises(RuntimeError):
        session.push(features, speech)


def test_eyes_counter_rotate_the_head() -> None:
    canonical = np.zeros((1, CANONICAL_DIM), np.float32)
    canonical[0, GAZE] = (2.0, -6.0)
    canonical[0, ROTATION] = (1.0, 4.0, 0.5)
    one = np.ones(1, np.float32)
    motion = compose(canonical, np.array([[3.0, 10.0, 0.0]], np.float32), 2 * one, one, one)
    pitch, yaw = arkit_to_gaze(motion[:, :52])
    assert pitch + motion[:, PITCH] == pytest.approx(2.0, abs=1e-4)
    assert yaw + motion[:, YAW] == pytest.approx(-6.0, abs=1e-4)
    assert motion[0, PITCH] == pytest.approx(5.0)


def test_performance_and_motion_are_inverse() -> None:
    rng = np.random.default_rng(0)
    canonical = rng.uniform(0, 1, (5, CANONICAL_DIM)).astype(np.float32)
    canonical[:, LOG_DISTANCE] *= 0.1
    one = np.ones(5, np.float32)
    motion = compose(canonical, np.zeros((5, 3), np.float32), one, one, one)
    assert from_motion(motion) == pytest.approx(canonical, abs=1e-5)
