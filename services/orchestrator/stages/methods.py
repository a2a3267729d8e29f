"""What the orchestrator knows of each stage's method: its rates, and how to read its messages."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, Generic

import grpc

from talkingface.contract.controls import frame_of, overlay
from talkingface.contract.rates import MOTION_FPS, ROW_RATE, SAMPLE_RATE
from talkingface.contract.speech_features import FEATURE_DIM, SPEECH_DIM
from talkingface.contract.stage_streams import StreamConfig, StreamRequest, StreamResponse
from talkingface.v1.audio_features_pb2 import (
    AudioFeatures,
    ExtractConfig,
    ExtractRequest,
    ExtractResponse,
)
from talkingface.v1.audio_features_pb2_grpc import AudioFeaturesServiceStub
from talkingface.v1.controls_pb2 import ControlUpdate
from talkingface.v1.motion_gen_pb2 import (
    GenerateConfig,
    GenerateRequest,
    GenerateResponse,
    MotionChunk,
)
from talkingface.v1.motion_gen_pb2_grpc import MotionGenServiceStub
from talkingface.v1.renderer_pb2 import RenderConfig, RenderRequest, RenderResponse
from talkingface.v1.renderer_pb2_grpc import RendererServiceStub

_FLOAT_BYTES = 4


class StageMethod(ABC, Generic[StreamConfig, StreamRequest, StreamResponse]):
    """The bidirectional method of a stage.

    Input and output of a stage are counted in items: samples, rows, motion frames or video frames.
    """

    name: ClassVar[str]
    """Name of the stage, as in `StageInfo.stage`."""
    request: type[StreamRequest]
    """Class of the requests."""
    input_rate: int
    """Input items per second of the session."""
    output_rate: int
    """Output items per second of the session."""

    @abstractmethod
    def call(
        self, channel: grpc.aio.Channel
    ) -> grpc.aio.StreamStreamCall[StreamRequest, StreamResponse]:
        """Start a call."""

    @abstractmethod
    def first_request(self, config: StreamConfig) -> StreamRequest:
        """Return the request that opens a stream."""

    @abstractmethod
    def consumed(self, request: StreamRequest, before: int) -> int:
        """Return the input items consumed after a request; `before` were consumed before it."""

    @abstractmethod
    def without_first(self, request: StreamRequest, count: int) -> StreamRequest:
        """Return a request without its first input items."""

    @abstractmethod
    def output_range(self, response: StreamResponse) -> tuple[int, int]:
        """Return the index of a result's first item, and the number of items."""

    @abstractmethod
    def drop_first(self, response: StreamResponse, count: int) -> None:
        """Remove the first items of a result."""

    def expects_result(self, request: StreamRequest) -> bool:
        """Whether the stage returns a result for the input of a request."""
        return True

    def skip_delivered(self, config: StreamConfig, following: int) -> None:
        """Tell the stage not to produce the items before `following` again, if it can skip them."""

    def portrait(self, config: StreamConfig) -> str:
        """Return the handle of the portrait that the stage must have prepared; "" for none."""
        return ""

    def forget(self, config: StreamConfig, request: StreamRequest, frame: int) -> bool:
        """Absorb a request that is no longer kept into the configuration of a cold start.

        :param frame: motion frame at which the cold start would be.
        :return: False if the request still has an effect later, so that it must be kept.
        """
        return True


class ExtractMethod(StageMethod[ExtractConfig, ExtractRequest, ExtractResponse]):
    """Speech encoder: 16 kHz samples to rows of features."""

    name = "audio_features"
    request = ExtractRequest
    input_rate = SAMPLE_RATE
    output_rate = ROW_RATE

    def call(
        self, channel: grpc.aio.Channel
    ) -> grpc.aio.StreamStreamCall[ExtractRequest, ExtractResponse]:
        call: grpc.aio.StreamStreamCall[ExtractRequest, ExtractResponse] = AudioFeaturesServiceStub(
            channel
        ).Extract()
        return call

    def first_request(self, config: ExtractConfig) -> ExtractRequest:
        return ExtractRequest(config=config)

    def consumed(self, request: ExtractRequest, before: int) -> int:
        return before + len(request.audio) // _FLOAT_BYTES

    def without_first(self, request: ExtractRequest, count: int) -> ExtractRequest:
        return ExtractRequest(audio=request.audio[count * _FLOAT_BYTES :])

    def output_range(self, response: ExtractResponse) -> tuple[int, int]:
        return response.features.first_row, response.features.rows

    def drop_first(self, response: ExtractResponse, count: int) -> None:
        _drop_rows(response.features, count)


class GenerateMethod(StageMethod[GenerateConfig, GenerateRequest, GenerateResponse]):
    """Motion generator: rows of features to motion frames."""

    name = "motion_gen"
    request = GenerateRequest
    input_rate = ROW_RATE
    output_rate = MOTION_FPS

    def call(
        self, channel: grpc.aio.Channel
    ) -> grpc.aio.StreamStreamCall[GenerateRequest, GenerateResponse]:
        call: grpc.aio.StreamStreamCall[GenerateRequest, GenerateResponse] = MotionGenServiceStub(
            channel
        ).Generate()
        return call

    def first_request(self, config: GenerateConfig) -> GenerateRequest:
        return GenerateRequest(config=config)

    def consumed(self, request: GenerateRequest, before: int) -> int:
        if not request.HasField("features"):
            return before
        return request.features.first_row + request.features.rows

    def without_first(self, request: GenerateRequest, count: int) -> GenerateRequest:
        rest = GenerateRequest()
        rest.CopyFrom(request)
        _drop_rows(rest.features, count)
        return rest

    def output_range(self, response: GenerateResponse) -> tuple[int, int]:
        return _frame_range(response.motion)

    def drop_first(self, response: GenerateResponse, count: int) -> None:
        del response.motion.frames[:count]

    def forget(self, config: GenerateConfig, request: GenerateRequest, frame: int) -> bool:
        if not request.HasField("control"):
            return True
        if _is_later(request.control, frame):
            return False
        config.controls.CopyFrom(overlay(config.controls, request.control.controls))
        return True


class RenderMethod(StageMethod[RenderConfig, RenderRequest, RenderResponse]):
    """Renderer: motion frames to encoded video frames."""

    name = "renderer"
    request = RenderRequest
    input_rate = MOTION_FPS

    def __init__(self, frame_rate: int) -> None:
        """
        :param frame_rate: video frames per second.
        """
        self.output_rate = frame_rate

    def call(
        self, channel: grpc.aio.Channel
    ) -> grpc.aio.StreamStreamCall[RenderRequest, RenderResponse]:
        call: grpc.aio.StreamStreamCall[RenderRequest, RenderResponse] = RendererServiceStub(
            channel
        ).Render()
        return call

    def first_request(self, config: RenderConfig) -> RenderRequest:
        return RenderRequest(config=config)

    def consumed(self, request: RenderRequest, before: int) -> int:
        chunk = request.motion if request.HasField("motion") else request.dropped_motion
        return chunk.frames[-1].index + 1 if chunk.frames else before

    def without_first(self, request: RenderRequest, count: int) -> RenderRequest:
        rest = RenderRequest()
        rest.CopyFrom(request)
        del (rest.motion if rest.HasField("motion") else rest.dropped_motion).frames[:count]
        return rest

    def output_range(self, response: RenderResponse) -> tuple[int, int]:
        return response.frame.index, 1

    def drop_first(self, response: RenderResponse, count: int) -> None:
        raise AssertionError("a response holds one frame")

    def expects_result(self, request: RenderRequest) -> bool:
        return not request.HasField("dropped_motion")

    def skip_delivered(self, config: RenderConfig, following: int) -> None:
        config.first_frame = following

    def portrait(self, config: RenderConfig) -> str:
        return config.portrait_handle


def _is_later(update: ControlUpdate, frame: int) -> bool:
    return update.HasField("time") and frame_of(update.time, "control.time") > frame


def _drop_rows(features: AudioFeatures, count: int) -> None:
    features.first_row += count
    features.rows -= count
    features.embedding = features.embedding[count * FEATURE_DIM * _FLOAT_BYTES :]
    features.prosody = features.prosody[count * SPEECH_DIM * _FLOAT_BYTES :]


def _frame_range(chunk: MotionChunk) -> tuple[int, int]:
    return (chunk.frames[0].index if chunk.frames else 0), len(chunk.frames)
