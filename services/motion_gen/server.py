"""The motion generator's service: `python -m talkingface.motion_gen.server`."""

from __future__ import annotations

import asyncio
import itertools
import sys
from collections.abc import AsyncIterator, Iterable
from pathlib import Path

import grpc
import numpy as np

from talkingface.contract.controls import (
    SEED_LIMIT,
    Controls,
    changes_of,
    check_controls,
    frame_of,
)
from talkingface.contract.errors import invalid_field
from talkingface.contract.messages import (
    MOTION_HIGH,
    MOTION_LOW,
    check_start_frame,
    features_arrays,
    features_message,
    motion_message,
)
from talkingface.contract.rates import MOTION_FPS
from talkingface.contract.speech_features import FEATURE_DIM, SPEECH_DIM
from talkingface.motion_gen.session import MotionSession
from talkingface.motion_gen.windows import EXTRA_ROWS, HOP, MODEL_NAME, ROWS_PER_FRAME
from talkingface.serving.calibration import Probe
from talkingface.serving.config import MotionGenConfig, load_or_exit
from talkingface.serving.inference_loop import StageHandler
from talkingface.serving.server import Context, set_up_logging
from talkingface.serving.stage import Stage
from talkingface.serving.triton.client import Arrays
from talkingface.v1 import controls_pb2, motion_gen_pb2_grpc
from talkingface.v1.motion_gen_pb2 import GenerateConfig, GenerateRequest, GenerateResponse


class GenerateStream(StageHandler[GenerateRequest, GenerateResponse]):
    """One call of `Generate`."""

    model = MODEL_NAME
    in_flight = 1
    per_second = round(MOTION_FPS / HOP)

    def __init__(self, stage: MotionGenStage, config: GenerateConfig) -> None:
        check_controls(config.controls, "config.controls")
        if config.seed >= SEED_LIMIT:
            raise invalid_field("config.seed", f"{config.seed} is not below 2**63")
        self._metrics = stage.host.metrics
        check_start_frame(config.start_frame)
        controls = Controls(**changes_of(config.controls))
        self._session = MotionSession(config.seed, controls, config.start_frame)

    def take(self, message: GenerateRequest) -> None:
        if message.HasField("features"):
            self._session.push(*features_arrays(message.features, self._session.rows))
        else:
            self._control(message.control)

    def _control(self, control: controls_pb2.ControlUpdate) -> None:
        check_controls(control.controls, "control.controls")
        frame = frame_of(control.time, "control.time") if control.HasField("time") else 0
        self._session.set_controls(frame, **changes_of(control.controls))

    def end(self) -> None:
        self._session.end()

    def next_request(self) -> Arrays | None:
        return self._session.next_request()

    async def accept(self, outputs: Arrays) -> Iterable[GenerateResponse]:
        first = self._session.frames
        motion = self._session.accept(outputs).clip(MOTION_LOW, MOTION_HIGH)
        self._metrics.count("frames", len(motion))
        return (GenerateResponse(motion=motion_message(first, motion)),)

    def snapshot(self) -> bytes:
        return self._session.snapshot()

    def restore(self, state: bytes) -> None:
        self._session = MotionSession.restore(state)


class MotionGenStage(
    Stage[GenerateConfig, GenerateRequest, GenerateResponse],
    motion_gen_pb2_grpc.MotionGenServiceServicer,
):
    """The service of the motion generator: speech features and controls in, motion out."""

    name = "motion_gen"
    service = "talkingface.v1.MotionGenService"
    repository = Path(__file__).parent / "model_repository"
    models = (MODEL_NAME,)
    parts = ("motion_gen",)
    # The first frame of a window waits for the window's last rows.
    look_ahead_ms = round(1000 / MOTION_FPS * (HOP + EXTRA_ROWS / ROWS_PER_FRAME))

    def add_to(self, server: grpc.aio.Server) -> None:
        motion_gen_pb2_grpc.add_MotionGenServiceServicer_to_server(self, server)

    def probe(self) -> Probe[GenerateRequest, GenerateResponse]:
        """See `Stage`; the features are those of silence."""
        rows = ROWS_PER_FRAME * MOTION_FPS  # a second
        features, prosody = (np.zeros((rows, n), np.float32) for n in (FEATURE_DIM, SPEECH_DIM))
        seconds = (
            GenerateRequest(features=features_message(first, features, prosody))
            for first in itertools.count(0, rows)
        )
        return Probe(GenerateStream(self, GenerateConfig()), seconds)

    async def Generate(self, requests: AsyncIterator[GenerateRequest], context: Context) -> None:
        """See motion_gen.proto."""
        await self.serve(
            context,
            "Generate",
            lambda config: GenerateStream(self, config),
            GenerateResponse,
        )


async def main() -> int:
    """Serve until a signal and return the exit code."""
    config = load_or_exit(MotionGenConfig)
    set_up_logging(MotionGenStage.name, config.log_level)
    return await MotionGenStage(config).run()


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
