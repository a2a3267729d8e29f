"""The tongue's tip and back: how fast they move, what they follow; and that nothing scales them."""

from __future__ import annotations

import json

import numpy as np
import pytest

from talkingface.contract.controls import Controls
from talkingface.contract.motion import TONGUE_BACK, TONGUE_TIP
from talkingface.contract.speech_features import FEATURE_DIM, SPEECH_DIM, VOICE_ACTIVITY
from talkingface.motion_gen.canonical_motion import CANONICAL_DIM
from talkingface.motion_gen.session import MotionSession
from talkingface.motion_gen.tongue import COLUMNS, HIGH, LOW, TongueTracker
from talkingface.motion_gen.windows import HOP

TIP, BACK = 0, 1
TONGUE = slice(TONGUE_TIP, TONGUE_BACK + 1)


def rows(tongue: np.ndarray, active: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Features and speech of rows that raise tip and back by (n, 2), all else 0."""
    features = np.zeros((len(tongue), FEATURE_DIM), np.float32)
    features[:, COLUMNS] = LOW + tongue * (HIGH - LOW)
    speech = np.zeros((len(tongue), SPEECH_DIM), np.float32)
    speech[:, VOICE_ACTIVITY] = active
    return features, speech


def noise(count: int) -> np.ndarray:
    return np.random.default_rng(2).random((count, 2)).astype(np.float32)


def animate(
    tongue: np.ndarray, seed: int = 0, controls: Controls | None = None, active: float = 1.0
) -> np.ndarray:
    """The tongue's motion (n, 2) of a session in which the network returns zeros."""
    session = MotionSession(seed, controls)
    session.push(*rows(tongue, active))
    session.end()
    return drain(session)


def drain(session: MotionSession) -> np.ndarray:
    out = [np.zeros((0, 2), np.float32)]
    while session.next_request() is not None:
        motion = session.accept({"frames": np.zeros((HOP, CANONICAL_DIM), np.float32)})
        out.append(motion[:, TONGUE])
    return np.concatenate(out)


def test_a_tip_rises_within_two_frames_and_a_back_in_three_without_overshoot() -> None:
    raised = TongueTracker().step(*rows(np.ones((40, 2), np.float32)))
    assert 0.5 < raised[0, TIP] < 0.65
    assert raised[1, TIP] > 0.88
    assert raised[1, BACK] < raised[1, TIP]
    assert raised[2, BACK] > 0.88
    assert (np.diff(raised, axis=0) >= 0).all()
    assert raised[-1] == pytest.approx(1, abs=1e-5)
    assert raised.max() <= 1


def test_tip_and_back_follow_their_own_columns() -> None:
    tip = TongueTracker().step(*rows(np.tile(np.array([0.8, 0], np.float32), (20, 1))))
    back = TongueTracker().step(*rows(np.tile(np.array([0, 0.4], np.float32), (20, 1))))
    assert tip[-1] == pytest.approx([0.8, 0], abs=1e-3)
    assert back[-1] == pytest.approx([0, 0.4], abs=1e-3)


def test_a_tongue_rests_exactly_where_no_speech_is() -> None:
    assert (animate(noise(80), active=0.1) == 0).all()
    tracker = TongueTracker()
    assert tracker.step(*rows(np.ones((20, 2), np.float32))).min(0).max() > 0
    falling = tracker.step(*rows(np.ones((40, 2), np.float32), active=0.1))
    assert (np.diff(falling, axis=0) <= 0).all()
    assert (falling[10:] == 0).all(), "at rest after 0.4 s"


def test_targets_beyond_the_range_are_clipped() -> None:
    wild = np.tile(np.array([7, -3], np.float32), (30, 1))
    assert TongueTracker().step(*rows(wild))[-1] == pytest.approx([1, 0], abs=1e-3)


def test_the_cut_of_the_rows_changes_no_bit() -> None:
    features, speech = rows(noise(60))
    whole = TongueTracker().step(features, speech)
    tracker = TongueTracker()
    parts = [tracker.step(features[i : i + 2], speech[i : i + 2]) for i in range(0, 60, 2)]
    assert np.array_equal(np.concatenate(parts), whole)


def test_a_state_continues_bit_for_bit() -> None:
    features, speech = rows(noise(60))
    tracker = TongueTracker()
    tracker.step(features[:20], speech[:20])
    copy = TongueTracker()
    copy.load_state(json.loads(json.dumps(tracker.state())))
    fresh = TongueTracker()
    ends = [each.step(features[20:], speech[20:]) for each in (tracker, copy, fresh)]
    assert np.array_equal(ends[0], ends[1])
    assert not np.array_equal(ends[0], ends[2])


def test_a_session_continues_from_its_checkpoint_bit_for_bit() -> None:
    tongue = noise(80)
    whole = animate(tongue)
    session = MotionSession()
    session.push(*rows(tongue[:41]))
    start = drain(session)
    copy = MotionSession.restore(session.snapshot())
    copy.push(*rows(tongue[41:]))
    copy.end()
    assert np.array_equal(np.concatenate([start, drain(copy)]), whole)
    assert np.ptp(whole, axis=0).min() > 0.1


def test_frame_f_sees_row_2_f_plus_2_and_none_after_it() -> None:
    tongue = np.zeros((60, 2), np.float32)
    tongue[22:] = 1  # frame 10 is the first one that sees it
    motion = animate(tongue)
    assert (motion[:10] == 0).all()
    assert (motion[10] > 0).all()


def test_no_seed_and_no_control_scales_the_tongue() -> None:
    tongue = noise(60)
    plain = animate(tongue)
    for controls in (
        Controls(mouth_scale=0.2),
        Controls(mouth_scale=1.5),
        Controls(expressivity=0.0),
        Controls(emotion={"happiness": 1.0}),
        Controls(head_motion_scale=2.0),
    ):
        assert np.array_equal(animate(tongue, seed=5, controls=controls), plain)
