"""Resume tokens: with one, a client continues its session at another orchestrator.

A token holds consistent checkpoints of the stages. The client has all frames up to F. The
renderer's checkpoint is from before it produced a frame after F; the motion generator's, from
before it produced a frame that the renderer's has not consumed; and the encoder's, from before it
produced a row that the motion generator's has not consumed, or consumed audio after F. Results
between two of them are produced again, and dropped by their index. The audio after the encoder's
checkpoint is sent again by the client.
"""

from __future__ import annotations

import hashlib
import hmac
import time

from google.protobuf.message import DecodeError

from talkingface.contract.errors import ServiceError, invalid_field
from talkingface.contract.identity import digest
from talkingface.contract.rates import MOTION_FPS, ROW_RATE, SAMPLE_RATE
from talkingface.v1 import resume_pb2 as resume

MAX_TOKEN_BYTES = 1 << 20
# Frames that a client may have received after its last token: a minute at the highest rate.
MAX_FRAMES_AFTER = 60 * 60
MAX_POSITION = 1 << 40  # messages or bytes of an utterance
# Identifies the code that decides what a token means.
BUILD = digest(("contract", "v1", "orchestrator"), ("av", "numpy", "soxr"))
_SIGNATURE = hashlib.sha256().digest_size


class Tokens:
    """Makes and reads tokens.

    They are signed, because stages restore the state that a token holds.
    """

    def __init__(self, key: str, seconds: float) -> None:
        """
        :param key: secret shared by all orchestrators.
        :param seconds: age beyond which a token is refused.
        """
        self._key = key.encode()
        self._seconds = seconds

    def pack(self, state: resume.SessionState) -> bytes:
        """Return the token of a state."""
        state.version = BUILD
        state.issued.FromNanoseconds(time.time_ns())
        content = state.SerializeToString()
        return self._sign(content) + content

    def unpack(self, token: bytes) -> resume.SessionState:
        """Return the content of a token, also of one that another build has made.

        :raises ServiceError: FIELD_INVALID or SESSION_EXPIRED.
        """
        signature, content = token[:_SIGNATURE], token[_SIGNATURE:]
        if len(token) > MAX_TOKEN_BYTES or not hmac.compare_digest(signature, self._sign(content)):
            raise invalid_field("config.resume.token", "is not a token of this service")
        try:
            state = resume.SessionState.FromString(content)
        except DecodeError:
            raise invalid_field("config.resume.token", "is not a token of this version") from None
        age = time.time() - state.issued.ToNanoseconds() / 1e9
        if age > self._seconds:
            raise ServiceError(
                "SESSION_EXPIRED",
                f"the token is {age:.1f} s old, at most {self._seconds:g} s are allowed: "
                "begin a new session",
            )
        return state

    def _sign(self, content: bytes) -> bytes:
        return hmac.new(self._key, content, hashlib.sha256).digest()


def without_checkpoints(state: resume.SessionState) -> resume.SessionState:
    """Return the part of a state that any build understands.

    All stages start cold, from a neutral face, at the first motion frame after the audio that the
    encoder has consumed.
    """
    cold = resume.SessionState()
    cold.CopyFrom(state)
    for name in ("audio_features", "motion_gen", "renderer"):
        getattr(cold, name).Clear()
    consumed = state.audio_features.consumed
    frame = start_frame(consumed)
    cold.audio_features.consumed = consumed
    cold.motion_gen.consumed = frame * ROW_RATE // MOTION_FPS
    cold.motion_gen.produced = cold.renderer.consumed = frame
    cold.config.controls.CopyFrom(state.controls_in_effect)
    del cold.controls[:]
    cold.controls.extend(state.later_controls)
    cold.speaking, cold.vad_run_rows = False, 0
    return cold


def start_frame(consumed: int) -> int:
    """Return the first motion frame of which no sample was consumed.

    :param consumed: number of samples consumed, at 16 kHz.
    """
    return -(-consumed * MOTION_FPS // SAMPLE_RATE)
