"""Motion between its frames: what lies where, and what it never does."""

from __future__ import annotations

import numpy as np
import pytest

from talkingface.contract.motion import MOTION_DIM, TONGUE_BACK, TONGUE_TIP
from talkingface.contract.video import frame_count
from talkingface.renderer.arrays import Float32Array
from talkingface.renderer.interpolation import MotionInterpolator

RATES = (25, 26, 30, 40, 48, 50, 59, 60)


def noise(frames: int) -> Float32Array:
    return np.random.default_rng(1).random((frames, MOTION_DIM)).astype(np.float32)


def interpolated(motion: Float32Array, rate: int, chunk: int | None = None) -> Float32Array:
    stream = MotionInterpolator(rate)
    chunk = chunk or max(len(motion), 1)
    parts = [stream.push(motion[i : i + chunk]) for i in range(0, len(motion), chunk)]
    return np.concatenate([*parts, stream.end()])


@pytest.mark.parametrize("rate", RATES)
def test_the_cut_of_the_motion_changes_nothing(rate: int) -> None:
    motion = noise(23)
    whole = interpolated(motion, rate)
    assert len(whole) == frame_count(23, rate)
    for chunk in (1, 2, 5):
        assert np.array_equal(interpolated(motion, rate, chunk), whole)


@pytest.mark.parametrize("rate", RATES)
def test_frames_lie_between_their_neighbours_and_on_them(rate: int) -> None:
    motion = noise(23)
    for i, frame in enumerate(interpolated(motion, rate)):
        k, rest = divmod(i * 25, rate)
        after = motion[min(k + 1, 22)]
        if rest == 0:
            assert np.array_equal(frame, motion[k])
        assert (frame >= np.minimum(motion[k], after)).all()
        assert (frame <= np.maximum(motion[k], after)).all()


@pytest.mark.parametrize("rate", RATES)
def test_no_frame_waits_for_more_than_the_next_motion_frame(rate: int) -> None:
    stream, motion, produced = MotionInterpolator(rate), noise(30), 0
    for k in range(30):
        produced += len(stream.push(motion[k : k + 1]))
        assert produced == k * rate // 25 + 1


def test_acceleration_is_followed() -> None:
    time = np.arange(20, dtype=np.float32)
    motion = np.repeat(time[:, None] ** 2, MOTION_DIM, axis=1)
    frames = interpolated(motion, 50)[:39, 0]
    assert np.allclose(frames[2:], (np.arange(39) / 2)[2:] ** 2)


def test_a_blink_stays_shut_and_within_range() -> None:
    motion = np.zeros((8, MOTION_DIM), np.float32)
    motion[:, 0] = [0, 0, 0.6, 1, 1, 0.5, 0.1, 0]
    lid = interpolated(motion, 50)[:, 0]
    assert lid[:3].max() == 0
    assert (lid[6:9] == 1).all()
    assert lid.min() >= 0
    assert lid.max() == 1
    assert (np.diff(lid[:8]) >= 0).all()
    assert (np.diff(lid[8:]) <= 0).all()


def test_a_tongue_reaches_the_teeth_and_no_farther() -> None:
    motion = np.zeros((6, MOTION_DIM), np.float32)
    motion[:, TONGUE_TIP] = [0, 0.6, 1, 1, 0.4, 0]
    motion[:, TONGUE_BACK] = [0, 0, 0.2, 0, 0, 0]
    frames = interpolated(motion, 50)
    assert np.array_equal(frames[::2], motion)
    assert frames[5, TONGUE_TIP] == 1
    assert 0.6 < frames[3, TONGUE_TIP] < 1
    assert frames.min() == 0


def test_the_end_holds_the_last_motion_frame() -> None:
    motion = noise(3)
    assert np.array_equal(interpolated(motion, 60)[5:], np.repeat(motion[2:], 3, axis=0))
    assert len(interpolated(noise(0), 60)) == 0
    assert len(interpolated(noise(1), 60)) == 3
