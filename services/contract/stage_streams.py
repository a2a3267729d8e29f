"""The bidirectional methods of the three stages as types: all have the same shape.

A stream is `config`, then any input, then `end`; answered by `started`, then results and
checkpoints.
"""

from __future__ import annotations

from typing import TypeVar

from talkingface.v1.audio_features_pb2 import ExtractConfig, ExtractRequest, ExtractResponse
from talkingface.v1.motion_gen_pb2 import GenerateConfig, GenerateRequest, GenerateResponse
from talkingface.v1.renderer_pb2 import RenderConfig, RenderRequest, RenderResponse

StreamConfig = TypeVar("StreamConfig", bound=ExtractConfig | GenerateConfig | RenderConfig)
StreamRequest = TypeVar("StreamRequest", bound=ExtractRequest | GenerateRequest | RenderRequest)
StreamResponse = TypeVar(
    "StreamResponse", bound=ExtractResponse | GenerateResponse | RenderResponse
)
