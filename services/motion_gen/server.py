"""The motion generator's service: `python -m talkingface.motion_gen.server`."""

from __future__ import annotations

import asyncio
import itertools
import sys
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any

import grpc
import numpy as np

from talkingface.contract.controls import (
    EMOTIONS,
    SEED_LIMIT,
    Controls,
    ControlTrack,
    check_controls,
    frame_of,
)
from talkingface.contract.errors import invalid_field
from talkingface.contract.messages import (
    MOTION_HIGH,
    MOTION_LOW,
    features_arrays,
    features_message,
    motion_message,
)
from talkingface.contract.rates import MOTION_FPS
from talkingface.contract.speech_features import FEATURE_DIM, SPEECH_DIM
from talkingface.motion_gen.session import MotionSession
from talkingface.motion_gen.windows import EXTRA_ROWS, HOP, MODEL_NAME, ROWS_PER_FRAME
from talkingface.serving import checkpoint
from talkingface.serving.calibration import Rehearsal
from talkingface.serving.config import MotionGenConfig, load_or_exit
from talkingface.serving.server import Context, set_up_logging
from talkingface.serving.stage import Stage
from talkingface.serving.triton.client import Arrays
from talkingface.v1 import controls_pb2, motion_gen_pb2, motion_gen_pb2_grpc


def session_controls(message: controls_pb2.Controls) -> Controls:
    """The session's controls for a complete and checked message."""
    given: dict[str, Any] = {}
    if message.HasField("gaze_direction"):
        given["gaze"] = (message.gaze_direction.pitch, message.gaze_direction.yaw)
    if message.HasField("head_pose"):
        pose = message.head_pose
        given["pose_offset"] = (pose.pitch, pose.yaw, pose.roll)
    if message.HasField("emotion"):
        emotion = message.emotion
        given["emotion"] = {name: getattr(emotion, name) for name in EMOTIONS if name != "neutral"}
        given["emotion_strength"] = emotion.strength if emotion.HasField("strength") else 1.0
    if message.HasField("distance_ratio"):
        given["head_distance"] = message.distance_ratio
    if message.HasField("head_motion_scale"):
        given["head_motion_scale"] = message.head_motion_scale
    if message.HasField("blink_rate"):
        given["blink_rate"] = message.blink_rate
    if message.HasField("mouth_scale"):
        given["mouth_scale"] = message.mouth_scale
    if message.HasField("audio_guidance"):
        given["audio_guidance"] = message.audio_guidance
    if message.HasField("expressivity"):
        given["expressivity"] = message.expressivity
    return Controls(**given)


class GenerateStream:
    """One call of `Generate`."""

    model = MODEL_NAME
    in_flight = 1
    per_second = round(MOTION_FPS / HOP)

    def __init__(self, stage: MotionGenStage, config: motion_gen_pb2.GenerateConfig) -> None:
        check_controls(config.controls, "config.controls")
        if config.seed >= SEED_LIMIT:
            raise invalid_field("config.seed", f"{config.seed} is not below 2**63")
        self._metrics = stage.host.metrics
        self._track = ControlTrack(config.controls)
        self._session = MotionSession(config.seed, session_controls(config.controls))
        self._rows = 0

    def take(self, payload: str, message: motion_gen_pb2.GenerateRequest) -> None:
        if payload == "features":
            features, prosody = features_arrays(message.features, self._rows)
            self._session.push(features, prosody)
            self._rows += len(features)
        else:
            self._control(message.control)

    def _control(self, control: controls_pb2.ControlUpdate) -> None:
        check_controls(control.controls, "control.controls")
        frame = self._session.frames
        if control.HasField("time"):
            frame = max(frame, frame_of(control.time, "control.time"))
        self._track.update(frame, control.controls)

    def end(self) -> None:
        self._session.end()

    def next_request(self) -> Arrays | None:
        if self._session.ready:
            for begin, controls in self._track.until(self._session.frames + HOP):
                self._session.set_controls(session_controls(controls), begin)
        return self._session.next_request()

    async def accept(self, outputs: Arrays) -> Iterable[motion_gen_pb2.GenerateResponse]:
        first = self._session.frames
        motion = np.clip(self._session.accept(outputs), MOTION_LOW, MOTION_HIGH)
        self._metrics.count("frames", len(motion))
        return (motion_gen_pb2.GenerateResponse(motion=motion_message(first, motion)),)

    def snapshot(self) -> bytes:
        session = self._session.snapshot()
        values = {"track": self._track.state(), "rows": self._rows}
        return checkpoint.pack(values, {"session": np.frombuffer(session, np.uint8)})

    def restore(self, state: bytes) -> None:
        values, arrays = checkpoint.unpack(state)
        try:
            self._rows = int(values["rows"])
            self._track.load_state(values["track"])
            self._session = MotionSession.restore(arrays["session"].tobytes())
        except (KeyError, TypeError, ValueError) as error:
            raise checkpoint.mismatch(repr(error)) from None

    def close(self) -> None:
        pass


class MotionGenStage(Stage, motion_gen_pb2_grpc.MotionGenServiceServicer):
    """Features in, motion out."""

    name = "motion_gen"
    service = "talkingface.v1.MotionGenService"
    repository = Path(__file__).parent / "model_repository"
    models = (MODEL_NAME,)
    parts = ("motion_gen",)
    # The first frame of a window waits for the window's last rows.
    look_ahead_ms = round(1000 / MOTION_FPS * (HOP + EXTRA_ROWS / ROWS_PER_FRAME))

    def add_to(self, server: grpc.aio.Server) -> None:
        motion_gen_pb2_grpc.add_MotionGenServiceServicer_to_server(self, server)

    def rehearse(self) -> Rehearsal:
        """See `Stage`: silence."""
        rows = ROWS_PER_FRAME * MOTION_FPS  # a second
        features, prosody = (np.zeros((rows, n), np.float32) for n in (FEATURE_DIM, SPEECH_DIM))
        seconds = (
            motion_gen_pb2.GenerateRequest(features=features_message(first, features, prosody))
            for first in itertools.count(0, rows)
        )
        return GenerateStream(self, motion_gen_pb2.GenerateConfig()), seconds

    async def Generate(
        self, requests: AsyncIterator[motion_gen_pb2.GenerateRequest], context: Context
    ) -> None:
        """See motion_gen.proto."""
        await self.serve(
            context,
            "Generate",
            lambda config: GenerateStream(self, config),
            motion_gen_pb2.GenerateResponse,
        )


async def main() -> int:
    """Serve until a signal; the result is the exit code."""
    config = load_or_exit(MotionGenConfig)
    set_up_logging(MotionGenStage.name, config.log_level)
    return await MotionGenStage(config).run()


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
