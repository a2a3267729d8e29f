"""The speech encoder's service: `python -m talkingface.audio_features.server`."""

from __future__ import annotations

import asyncio
import itertools
import sys
from collections.abc import AsyncIterator, Iterable
from pathlib import Path

import grpc

from talkingface.audio_features.session import AudioFeaturesSession
from talkingface.contract.messages import check_start_frame, features_message, float_rows
from talkingface.contract.rates import MOTION_FPS, ROW_RATE
from talkingface.contract.speech_features import (
    CHUNK_ROWS,
    LOOK_AHEAD_SECONDS,
    MODEL_NAME,
    ROW_SAMPLES,
)
from talkingface.serving.calibration import Probe
from talkingface.serving.config import AudioFeaturesConfig, load_or_exit
from talkingface.serving.inference_loop import StageHandler
from talkingface.serving.server import Context, set_up_logging
from talkingface.serving.stage import Stage
from talkingface.serving.triton.client import Arrays
from talkingface.v1 import audio_features_pb2_grpc
from talkingface.v1.audio_features_pb2 import ExtractConfig, ExtractRequest, ExtractResponse


class ExtractStream(StageHandler[ExtractRequest, ExtractResponse]):
    """One call of `Extract`."""

    model = MODEL_NAME
    in_flight = 1
    per_second = round(ROW_RATE / CHUNK_ROWS)

    def __init__(self, stage: AudioFeaturesStage, config: ExtractConfig) -> None:
        check_start_frame(config.start_frame)
        self._metrics = stage.host.metrics
        self._session = AudioFeaturesSession(config.start_frame * ROW_RATE // MOTION_FPS)

    def take(self, message: ExtractRequest) -> None:
        self._session.push(float_rows(message.audio, 1, "audio")[:, 0])

    def end(self) -> None:
        self._session.end()

    def next_request(self) -> Arrays | None:
        return self._session.next_request()

    async def accept(self, outputs: Arrays) -> Iterable[ExtractResponse]:
        first_row = self._session.rows
        rows = self._session.accept(outputs)
        self._metrics.count("rows", len(rows.features))
        if not len(rows.features):
            return ()
        features = features_message(first_row, rows.features, rows.speech)
        return (ExtractResponse(features=features),)

    def snapshot(self) -> bytes:
        return self._session.snapshot()

    def restore(self, state: bytes) -> None:
        self._session = AudioFeaturesSession.restore(state)


class AudioFeaturesStage(
    Stage[ExtractConfig, ExtractRequest, ExtractResponse],
    audio_features_pb2_grpc.AudioFeaturesServiceServicer,
):
    """The service of the speech encoder: audio in, speech features out."""

    name = "audio_features"
    service = "talkingface.v1.AudioFeaturesService"
    repository = Path(__file__).parent / "model_repository"
    models = (MODEL_NAME,)
    parts = ("audio_features",)
    look_ahead_ms = round(LOOK_AHEAD_SECONDS * 1000)

    def add_to(self, server: grpc.aio.Server) -> None:
        audio_features_pb2_grpc.add_AudioFeaturesServiceServicer_to_server(self, server)

    def probe(self) -> Probe[ExtractRequest, ExtractResponse]:
        """See `Stage`; the audio is silence."""
        second = ExtractRequest(audio=bytes(4 * ROW_SAMPLES * ROW_RATE))
        stream = ExtractStream(self, ExtractConfig())
        return Probe(stream, itertools.repeat(second))

    async def Extract(self, requests: AsyncIterator[ExtractRequest], context: Context) -> None:
        """See audio_features.proto."""
        await self.serve(
            context,
            "Extract",
            lambda config: ExtractStream(self, config),
            ExtractResponse,
        )


async def main() -> int:
    """Serve until a signal and return the exit code."""
    config = load_or_exit(AudioFeaturesConfig)
    set_up_logging(AudioFeaturesStage.name, config.log_level)
    return await AudioFeaturesStage(config).run()


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
