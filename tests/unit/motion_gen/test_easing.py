"""Controls: ranges are enforced, changes ease in without a jump."""

from __future__ import annotations

import math

import numpy as np
import pytest

from talkingface.contract.controls import EMOTIONS, ControlError, Controls
from talkingface.motion_gen.easing import ControlEasing


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"gaze": (0.0, 31.0)}, "gaze_yaw"),
        ({"gaze": (math.nan, 0.0)}, "gaze_pitch"),
        ({"head_distance": 0.0}, "head_distance"),
        ({"head_distance": math.inf}, "head_distance"),
        ({"pose_offset": (0.0, 36.0, 0.0)}, "pose_yaw"),
        ({"head_motion_scale": -0.1}, "head_motion_scale"),
        ({"emotion": {"joy": 1.0}}, "emotion"),
        ({"emotion": {"anger": 1.5}}, "emotion.anger"),
        ({"emotion_strength": 2.0}, "emotion_strength"),
        ({"blink_rate": 61.0}, "blink_rate"),
        ({"mouth_scale": -1.0}, "mouth_scale"),
        ({"expressivity": -0.1}, "expressivity"),
        ({"expressivity": 2.1}, "expressivity"),
        ({"audio_guidance": 5.0}, "audio_guidance"),
    ],
)
def test_out_of_range_names_the_field(fields: dict, named: str) -> None:
    with pytest.raises(ControlError) as error:
        Controls(**fields)
    assert error.value.field == named


def test_emotion_mixture_is_at_most_one() -> None:
    vector = Controls(emotion={"anger": 1.0, "fear": 1.0}, emotion_strength=0.5).emotion_vector()
    assert vector.sum() == pytest.approx(0.5)
    assert vector[EMOTIONS.index("anger")] == pytest.approx(0.25)


def test_change_arrives_within_600_ms_without_a_jump() -> None:
    before = Controls()
    after = Controls(head_distance=1.5, pose_offset=(5.0, -10.0, 3.0), expressivity=2.0)
    easing = ControlEasing(before)
    still = easing.step([before] * 5)
    assert np.allclose(still.distance, 1.0) and np.allclose(still.pose_offset, 0.0)
    eased = easing.step([after] * 15)
    assert eased.distance[-1] == pytest.approx(1.5, rel=0.015)
    assert eased.pose_offset[-1] == pytest.approx([5.0, -10.0, 3.0], rel=0.03)
    assert still.expressivity == pytest.approx(1.0)
    assert eased.expressivity[-1] == pytest.approx(2.0, rel=0.015)
    assert 1.0 < eased.expressivity[0] < 1.1, "no jump"
    yaw = np.concatenate([[0.0], eased.pose_offset[:, 1]])
    assert (np.diff(yaw) < 0).all(), "no overshoot"
    assert np.abs(np.diff(yaw)).max() < 2.5, "no jump"
    turned = easing.step([before] * 30)
    speed = np.diff(np.concatenate([yaw, turned.pose_offset[:, 1]]))
    assert np.abs(np.diff(speed)).max() < 1.5, "a change in mid-motion does not jerk"
