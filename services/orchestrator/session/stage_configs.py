"""The configurations with which a session opens its streams to the stages."""

from __future__ import annotations

from talkingface.orchestrator.session.config import CODECS
from talkingface.orchestrator.session.resume_token import start_frame
from talkingface.orchestrator.session.session import Session
from talkingface.v1 import resume_pb2 as resume
from talkingface.v1 import stage_pb2 as stage
from talkingface.v1.audio_features_pb2 import ExtractConfig
from talkingface.v1.motion_gen_pb2 import GenerateConfig
from talkingface.v1.renderer_pb2 import RenderConfig


def extract_config(session: Session) -> ExtractConfig:
    """Return the configuration of the speech encoder's stream."""
    return ExtractConfig(
        session_id=session.session_id,
        resume=_checkpoint(session.start.state.audio_features),
        start_frame=start_frame(session.start.encoder_sample),
    )


def generate_config(session: Session) -> GenerateConfig:
    """Return the configuration of the motion generator's stream."""
    state = session.start.state.motion_gen
    return GenerateConfig(
        session_id=session.session_id,
        seed=session.config.seed,
        controls=session.config.controls,
        resume=_checkpoint(state),
        start_frame=state.produced,
    )


def render_config(session: Session, handle: str) -> RenderConfig:
    """Return the configuration of the renderer's stream.

    :param handle: handle of the portrait.
    """
    config, state = session.config, session.start.state.renderer
    return RenderConfig(
        session_id=session.session_id,
        portrait_handle=handle,
        codec=CODECS[config.output],
        quality=config.quality if config.HasField("quality") else None,
        size=config.size if config.HasField("size") else None,
        frame_rate=config.frame_rate,
        framing=config.framing,
        background=config.background,
        resume=_checkpoint(state),
        first_frame=session.start.frame,
        start_frame=state.consumed,
    )


def _checkpoint(state: resume.StageState) -> stage.Checkpoint | None:
    return state.checkpoint if state.HasField("checkpoint") else None
