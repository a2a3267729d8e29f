"""The plan of eyes, brows and head: its statistics, its tie to the voice, its determinism."""

from __future__ import annotations

import numpy as np
import pytest

from talkingface.motion_gen.behaviour import BehaviourPlanner
from talkingface.motion_gen.controls import EMOTIONS

CALM = np.zeros(len(EMOTIONS), np.float32)


def plan(seed: int, minutes: float, **fields: object) -> np.ndarray:
    planner = BehaviourPlanner(seed)
    rows = np.float32([[0.9, -25.0, 7.0, 0.8]] * 2)
    frames = range(int(minutes * 1500))
    return np.array([planner.step(rows, CALM, **fields).eyes for _ in frames])


def blink_starts(closure: np.ndarray) -> np.ndarray:
    return np.flatnonzero((closure[1:] > 0) & (closure[:-1] == 0)) / 25.0


def test_blinks_follow_the_statistics() -> None:
    closure = plan(1, 20)[:, 0]
    starts = blink_starts(closure)
    assert 15 <= len(starts) / 20 <= 30
    logs = np.log(np.diff(starts))
    skew = np.mean(((logs - logs.mean()) / logs.std()) ** 3)
    assert abs(skew) < 1.0, "log-normal: the logs are about symmetric"
    assert closure.max() == pytest.approx(1.0, abs=0.02)


@pytest.mark.parametrize("rate", [0.0, 10.0, 40.0])
def test_blink_rate_is_obeyed(rate: float) -> None:
    starts = blink_starts(plan(2, 10, blink_rate=rate)[:, 0])
    assert len(starts) / 10 == pytest.approx(rate, rel=0.2, abs=0.1)


def test_gaze_control_holds_and_natural_gaze_wanders() -> None:
    held = plan(3, 2, gaze=(5.0, -12.0))[:, 1:]
    assert np.abs(held - [5.0, -12.0]).max() < 3.0
    free = plan(3, 2)[:, 1:]
    assert np.linalg.norm(free, axis=1).max() > 5.0
    assert np.median(np.linalg.norm(free, axis=1)) < 3.0, "mostly at the viewer"


def test_plan_depends_on_the_seed_alone() -> None:
    assert (plan(4, 1) == plan(4, 1)).all()
    assert (plan(4, 1) != plan(5, 1)).any()
