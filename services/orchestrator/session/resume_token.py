"""What lets a session outlive its orchestrator: tokens that clients keep, and what goes into them.

A token is a consistent cut through the session. The client has all frames up to F; the renderer's
checkpoint gave no picture after F; the motion generator's gave no frame that the renderer's has not
taken; the encoder's gave no row that the generator's has not taken, and took no sound after F. What
lies between two of them is made again and left out by its number. The sound after the encoder's
checkpoint comes from the client, which sends it again.
"""

from __future__ import annotations

import hashlib
import hmac
import time

from google.protobuf.message import DecodeError

from talkingface.contract.errors import ServiceError, invalid_field
from talkingface.contract.identity import digest
from talkingface.serving.checkpoint import mismatch
from talkingface.v1 import resume_pb2 as resume

MAX_TOKEN_BYTES = 1 << 20
# What a client may have been sent after its last token.
MAX_FRAMES_AFTER = 60 * 60
MAX_POSITION = 1 << 40  # messages or bytes of an utterance
# What a token means: the sessions, and how their stages' streams are cut.
BUILD = digest(("contract", "v1", "orchestrator"), ("av", "numpy", "soxr"))
_SIGNATURE = hashlib.sha256().digest_size


class Tokens:
    """Makes tokens and reads them. They are signed, because stages go on from what they hold."""

    def __init__(self, key: str, seconds: float) -> None:
        """
        :param key: the same in all orchestrators.
        :param seconds: age beyond which a token is refused.
        """
        self._key = key.encode()
        self._seconds = seconds

    def pack(self, state: resume.SessionState) -> bytes:
        """A token."""
        state.version = BUILD
        state.issued.FromNanoseconds(time.time_ns())
        content = state.SerializeToString()
        return self._sign(content) + content

    def unpack(self, token: bytes) -> resume.SessionState:
        """What a token holds.

        :raises ServiceError: FIELD_INVALID, SESSION_EXPIRED or CHECKPOINT_MISMATCH.
        """
        signature, content = token[:_SIGNATURE], token[_SIGNATURE:]
        if len(token) > MAX_TOKEN_BYTES or not hmac.compare_digest(signature, self._sign(content)):
            raise invalid_field("config.resume.token", "is not a token of this service")
        try:
            state = resume.SessionState.FromString(content)
        except DecodeError:
            raise invalid_field("config.resume.token", "is not a token of this version") from None
        if state.version != BUILD:
            raise mismatch(f"made by {state.version}, this is {BUILD}")
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
