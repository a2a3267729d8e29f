"""Errors, messages and controls: what they are on the wire and what is refused."""

from __future__ import annotations

import dataclasses
import json
import math
import re

import grpc
import numpy as np
import pytest
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2, status_pb2

from talkingface.contract import controls as contract
from talkingface.contract.controls import (
    CONTROL_RANGES,
    ControlTrack,
    changes_of,
    check_controls,
    frame_of,
    overlay,
)
from talkingface.contract.errors import DOMAIN, TABLE, ServiceError, invalid_field
from talkingface.contract.messages import (
    MOTION_HIGH,
    MOTION_LOW,
    features_arrays,
    features_message,
    float_rows,
    motion_array,
    motion_message,
)
from talkingface.contract.motion import MOTION_DIM, TONGUE_TIP, neutral
from talkingface.v1 import errors_pb2
from talkingface.v1.controls_pb2 import Controls, Emotion, Gaze
from tests.support import ROOT

PROTOS = ROOT / "protos"


def test_every_reason_of_the_proto_has_a_row() -> None:
    assert {f"ERROR_REASON_{name}" for name in TABLE} == set(errors_pb2.ErrorReason.keys())


def test_codes_agree_with_the_comments_of_the_proto() -> None:
    text = (PROTOS / "talkingface/v1/errors.proto").read_text()
    stated = re.findall(r"// ([A-Z_]+): [^\n]*(?:\n  //[^\n]*)*\n  ERROR_REASON_([A-Z_]+) =", text)
    assert len(stated) == len(TABLE) - 1  # all but UNSPECIFIED
    assert {reason: TABLE[reason].code.name for _, reason in stated} == {
        reason: code for code, reason in stated
    }


def test_an_error_survives_the_wire() -> None:
    error = ServiceError(
        "NO_CAPACITY", "full", {"slots": "4"}, {"config.seed": "too large"}, retry_delay=0.25
    )
    status = error.to_status()
    assert status.code is grpc.StatusCode.RESOURCE_EXHAUSTED
    rpc_error = grpc.aio.AioRpcError(
        status.code, grpc.aio.Metadata(), grpc.aio.Metadata(*status.trailing_metadata), "full"
    )
    received = ServiceError.from_rpc(rpc_error)
    assert (received.reason, received.message, received.metadata) == (
        "NO_CAPACITY",
        "full",
        {"slots": "4"},
    )
    assert received.field_violations == {"config.seed": "too large"}
    assert received.retry_delay == 0.25
    assert received.retryable


def test_trailers_stay_small_and_carry_the_domain() -> None:
    violations = {f"field_{i}": "x" * 5000 for i in range(100)}
    status = ServiceError("FIELD_INVALID", "y" * 9000, {"a": "z" * 9000}, violations).to_status()
    trailer = dict(status.trailing_metadata)["grpc-status-details-bin"]
    assert len(trailer) < 7000
    info = error_details_pb2.ErrorInfo()
    assert status_pb2.Status.FromString(trailer).details[0].Unpack(info)
    assert (info.domain, info.reason) == (DOMAIN, "FIELD_INVALID")


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (grpc.StatusCode.UNAVAILABLE, "STAGE_UNAVAILABLE"),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "MESSAGE_TOO_LARGE"),
        (grpc.StatusCode.DATA_LOSS, "INTERNAL"),
    ],
)
def test_errors_of_grpc_itself_get_a_reason(code: grpc.StatusCode, reason: str) -> None:
    error = grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(), "text")
    assert ServiceError.from_rpc(error).reason == reason


def test_an_error_passes_through_a_models_text() -> None:
    error = ServiceError("NO_FACE", 'no "face"\nhere', {"width": "64"})
    received = ServiceError.from_text(f"in ensemble 'x', {error.to_text()}, and more")
    assert received is not None
    assert (received.reason, received.message, received.metadata) == (
        "NO_FACE",
        'no "face"\nhere',
        {"width": "64"},
    )
    received = ServiceError.from_text(invalid_field("config.size", "is odd").to_text())
    assert received is not None
    assert received.field_violations == {"config.size": "is odd"}
    assert ServiceError.from_text("CUDA out of memory") is None


def test_retries_are_spread() -> None:
    delays = {ServiceError("NO_CAPACITY", "full").retry_delay for _ in range(100)}
    assert all(delay is not None and 0.5 <= delay <= 1.5 for delay in delays)
    assert len(delays) > 90


def test_features_survive_their_message() -> None:
    features = np.random.default_rng(0).standard_normal((3, 128)).astype(np.float32)
    prosody = np.random.default_rng(1).standard_normal((3, 4)).astype(np.float32)
    back = features_arrays(features_message(8, features, prosody), 8)
    assert np.array_equal(back[0], features)
    assert np.array_equal(back[1], prosody)


def test_broken_features_are_refused() -> None:
    rows = np.zeros((3, 128), np.float32)
    prosody = np.zeros((3, 4), np.float32)
    with pytest.raises(ServiceError, match="MESSAGE_ORDER"):
        features_arrays(features_message(7, rows, prosody), 8)
    for bad in (
        features_message(8, rows, prosody[:2]),
        features_message(8, rows * np.nan, prosody),
        features_message(8, rows, prosody + np.inf),
    ):
        with pytest.raises(ServiceError, match="FIELD_INVALID"):
            features_arrays(bad, 8)
    with pytest.raises(ServiceError, match="FIELD_INVALID"):
        float_rows(bytes(6), 1, "audio")
    with pytest.raises(ServiceError, match="MESSAGE_TOO_LARGE"):
        float_rows(bytes((1 << 20) + 4), 1, "audio")


def test_motion_survives_its_message() -> None:
    share = np.random.default_rng(0).random((5, MOTION_DIM)).astype(np.float32)
    motion = np.clip(MOTION_LOW + share * (MOTION_HIGH - MOTION_LOW), MOTION_LOW, MOTION_HIGH)
    motion[0], motion[1] = MOTION_LOW, MOTION_HIGH
    assert np.array_equal(motion_array(motion_message(40, motion), 40), motion)


def test_a_message_without_a_tongue_leaves_it_at_rest() -> None:
    chunk = motion_message(0, np.full((1, MOTION_DIM), 0.8, np.float32))
    assert (motion_array(chunk, 0)[0, TONGUE_TIP:] == np.float32(0.8)).all()
    chunk.frames[0].ClearField("tongue_tip")
    chunk.frames[0].ClearField("tongue_back")
    assert (motion_array(chunk, 0)[0, TONGUE_TIP:] == 0).all()


@pytest.mark.parametrize(
    ("column", "value", "path"),
    [
        (0, -0.1, r"coefficients\[0\]"),
        (51, 1.01, r"coefficients\[51\]"),
        (17, math.nan, r"coefficients\[17\]"),
        (52, 31, "rotation.pitch"),
        (53, -31, "rotation.yaw"),
        (54, math.inf, "rotation.roll"),
        (55, 1.5, "translation.x"),
        (56, -1.5, "translation.y"),
        (57, 0.5, "distance_ratio"),
        (58, 1.01, "tongue_tip"),
        (59, -0.1, "tongue_back"),
    ],
)
def test_motion_out_of_range_is_refused(column: int, value: float, path: str) -> None:
    motion = neutral(3)
    motion[1, column] = value
    with pytest.raises(ServiceError, match=rf"FIELD_INVALID: motion.frames\[1\].{path}"):
        motion_array(motion_message(0, motion), 0)


def test_a_gap_in_motion_is_refused() -> None:
    with pytest.raises(ServiceError, match="MESSAGE_ORDER"):
        motion_array(motion_message(5, neutral(2)), 4)


def test_controls_at_their_bounds_are_taken() -> None:
    check_controls(Controls(), "c")
    check_controls(
        Controls(
            gaze_direction=Gaze(pitch=-20, yaw=25),
            distance_ratio=0.7,
            head_motion_scale=2,
            emotion=Emotion(happiness=1, strength=0),
            blink_rate=60,
            mouth_scale=1.5,
            audio_guidance=3,
            expressivity=2,
        ),
        "c",
    )


@pytest.mark.parametrize(
    ("controls", "path"),
    [
        (Controls(gaze_direction=Gaze(pitch=21)), "gaze_direction.pitch"),
        (Controls(distance_ratio=1.7), "distance_ratio"),
        (Controls(distance_ratio=math.nan), "distance_ratio"),
        (Controls(emotion=Emotion(anger=-0.1)), "emotion.anger"),
        (Controls(emotion=Emotion(strength=2)), "emotion.strength"),
        (Controls(blink_rate=-1), "blink_rate"),
        (Controls(expressivity=2.1), "expressivity"),
        (Controls(expressivity=math.nan), "expressivity"),
    ],
)
def test_a_control_out_of_range_is_named(controls: Controls, path: str) -> None:
    with pytest.raises(ServiceError) as refused:
        check_controls(controls, "config.controls")
    assert list(refused.value.field_violations) == [f"config.controls.{path}"]


def test_the_ranges_of_the_controls_are_those_of_the_proto() -> None:
    text = (PROTOS / "talkingface/v1/controls.proto").read_text()
    bounds = re.findall(r"[Ii]n \[(-?[\d.]+), (-?[\d.]+)\]", text)
    assert {(float(a), float(b)) for a, b in bounds} == {
        (float(a), float(b)) for a, b in CONTROL_RANGES.values()
    }


def test_an_update_keeps_what_it_does_not_name() -> None:
    before = Controls(gaze_direction=Gaze(pitch=5, yaw=7), blink_rate=10)
    after = overlay(before, Controls(gaze_direction=Gaze(yaw=-3)))
    assert after == Controls(gaze_direction=Gaze(pitch=0, yaw=-3), blink_rate=10)
    natural = Controls()
    natural.natural_gaze.SetInParent()
    assert overlay(before, natural).WhichOneof("gaze") == "natural_gaze"


def test_updates_take_effect_by_their_frame_not_by_their_arrival() -> None:
    track = ControlTrack(contract.Controls(blink_rate=10))
    track.update(250, {"head_distance": 1.5})
    assert track.at(20) == contract.Controls(blink_rate=10)
    # An earlier one that arrives later: the distance does not change before frame 250.
    track.update(100, {"blink_rate": 30})
    assert track.at(99) == contract.Controls(blink_rate=10)
    assert track.at(100) == contract.Controls(blink_rate=30)
    copy = ControlTrack(contract.Controls())
    copy.load_state(json.loads(json.dumps(track.state())))
    for one in (track, copy):
        assert one.at(250) == contract.Controls(blink_rate=30, head_distance=1.5)
        one.update(300, {"mouth_scale": 1.0})
        one.update(300, {"mouth_scale": 1.2, "gaze": (1.0, 2.0)})
        assert one.at(299) == contract.Controls(blink_rate=30, head_distance=1.5)
        last = contract.Controls(blink_rate=30, head_distance=1.5, mouth_scale=1.2, gaze=(1.0, 2.0))
        assert one.at(300) == last


def test_a_message_changes_the_fields_that_it_sets() -> None:
    message = Controls(head_pose={"yaw": 3}, emotion={"anger": 0.5}, distance_ratio=1.25)
    changes = changes_of(message)
    assert changes.keys() == {"pose_offset", "emotion", "emotion_strength", "head_distance"}
    controls = contract.Controls(gaze=(1.0, 2.0), emotion={"happiness": 1.0})
    changed = dataclasses.replace(controls, **changes)
    assert changed.gaze == (1.0, 2.0)
    assert changed.pose_offset == (0.0, 3.0, 0.0)
    assert (changed.emotion["anger"], changed.emotion["happiness"]) == (0.5, 0.0)
    natural = Controls()
    natural.natural_gaze.SetInParent()
    assert changes_of(natural) == {"gaze": None}


def test_a_time_is_the_first_frame_not_before_it() -> None:
    assert frame_of(Duration(), "t") == 0
    assert frame_of(Duration(nanos=1), "t") == 1
    assert frame_of(Duration(nanos=40_000_000), "t") == 1
    assert frame_of(Duration(seconds=2, nanos=40_000_001), "t") == 52
    for bad in (Duration(seconds=-1), Duration(seconds=86401)):
        with pytest.raises(ServiceError, match="FIELD_INVALID"):
            frame_of(bad, "t")


def test_invalid_field_names_the_field() -> None:
    assert invalid_field("a.b", "is bad").field_violations == {"a.b": "is bad"}
