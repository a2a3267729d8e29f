"""Where a session starts: at its beginning, or where a token continues it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from talkingface.contract.rates import MOTION_FPS, SAMPLE_RATE
from talkingface.orchestrator.session.playback_position import preroll
from talkingface.orchestrator.session.resume_token import start_frame
from talkingface.v1 import resume_pb2 as resume


@dataclass(frozen=True)
class SessionStart:
    """The indices at which the client and the stages start; all 0 for a new session."""

    state: resume.SessionState
    """Content of the token; empty for a new session."""
    frame: int
    """First frame that the client wants."""
    source_sample: int
    """First sample that the client sends, at the rate of its audio."""
    decoded_sample: int
    """The same moment as a sample at 16 kHz."""
    encoder_sample: int
    """First sample for the speech encoder, at 16 kHz; at or after `decoded_sample`."""
    motion_frame: int
    """First motion frame that the motion generator returns."""

    @classmethod
    def of(
        cls, state: resume.SessionState, next_frame: int, sample_rate: int, *, renders: bool
    ) -> Self:
        """Return the start of a session.

        :param state: content of the token; empty for a new session.
        :param next_frame: first frame that the client wants.
        :param sample_rate: rate of the client's audio, in Hz; 0 for a file, which is decoded from
            its beginning.
        :param renders: whether the renderer takes part.
        """
        encoder = state.audio_features
        source_sample, decoded_sample = 0, 0
        if sample_rate:
            source_sample, decoded_sample = preroll(encoder.consumed, sample_rate)
        encoder_sample = encoder.consumed
        if not encoder.HasField("checkpoint"):  # a cold start is at a motion frame
            encoder_sample = start_frame(encoder.consumed) * SAMPLE_RATE // MOTION_FPS
        motion_frame = state.renderer.consumed if renders else state.motion_gen.produced
        return cls(state, next_frame, source_sample, decoded_sample, encoder_sample, motion_frame)
