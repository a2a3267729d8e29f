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
import math
import time
from bisect import bisect_right
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from google.protobuf.message import DecodeError

import talkingface
from talkingface.contract.errors import ServiceError, invalid_field
from talkingface.orchestrator.media.decoding import SAMPLE_RATE
from talkingface.serving.checkpoint import mismatch
from talkingface.v1 import resume_pb2 as resume
from talkingface.v1 import stage_pb2 as stage
from talkingface.v1 import talking_face_pb2 as talking_face

MAX_TOKEN_BYTES = 1 << 20
# What a client may have been sent after its last token.
MAX_FRAMES_AFTER = 60 * 60
MAX_PLACE = 1 << 40  # messages or bytes of an utterance
_SIGNATURE = hashlib.sha256().digest_size

# What a resampler must hear before what it gives is to be used.
_PREROLL_SECONDS = 0.25


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
        state.version = talkingface.__version__
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
        if state.version != talkingface.__version__:
            raise mismatch(f"made by version {state.version}")
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


@dataclass(frozen=True)
class Kept:
    """A stage's checkpoint, with its place among all that the stage takes and gives."""

    checkpoint: stage.Checkpoint | None = None
    taken: int = 0  # items: samples, rows or motion frames
    given: int = 0  # items: rows, motion frames or pictures
    messages: int = 0

    @classmethod
    def of(cls, state: resume.StageState) -> Kept:
        """What a token tells."""
        checkpoint = state.checkpoint if state.HasField("checkpoint") else None
        return cls(checkpoint, state.taken, state.given)

    def to_proto(self) -> resume.StageState:
        """As it stands in a token."""
        return resume.StageState(checkpoint=self.checkpoint, taken=self.taken, given=self.given)


class Trail:
    """The last checkpoints of one stage."""

    def __init__(self, begin: Kept) -> None:
        """
        :param begin: where the stream begins.
        """
        self._kept = deque([begin])
        self._messages = 0
        self._taken = begin.taken
        self._controls: deque[tuple[int, Any]] = deque()  # and the messages before each

    def keep(
        self, checkpoint: stage.Checkpoint, contained: list[dict[str, Any]], given: int
    ) -> None:
        """Take note of a checkpoint.

        :param contained: the messages that it contains and the one before did not.
        :param given: items of the results before it.
        """
        for message in contained:
            if "control" in message:
                self._controls.append((self._messages, message["control"]))
            self._taken = _reach(message, self._taken)
            self._messages += 1
        copy = stage.Checkpoint()
        copy.CopyFrom(checkpoint)
        self._kept.append(Kept(copy, self._taken, given, self._messages))

    def last(self, given: float = math.inf, taken: float = math.inf) -> Kept:
        """The last checkpoint that gave and took no more; those before it are forgotten."""
        fitting = [i for i, k in enumerate(self._kept) if k.given <= given and k.taken <= taken]
        for _ in range(fitting[-1] if fitting else 0):
            self._kept.popleft()
        found = self._kept[0]
        while self._controls and self._controls[0][0] < found.messages:
            self._controls.popleft()
        return found

    def controls_after(self) -> list[Any]:
        """The changes of controls that the checkpoint found last does not contain."""
        return [control for _, control in self._controls]


def _reach(message: Mapping[str, Any], before: int) -> int:
    """Items of input that a stage has taken with a message."""
    for name, content in message.items():
        match name:
            case "audio":
                return before + len(content) // 4
            case "features":
                return int(content.first_row + content.rows)
            case "motion" | "unseen" if content.frames:
                return int(content.frames[-1].index + 1)
    return before


class Cuts:
    """The trails of a session's stages, and the cut through them."""

    def __init__(self, begin: resume.SessionState, *, pictures: bool) -> None:
        """
        :param begin: where the session begins; empty: at its beginning.
        """
        names = ("audio_features", "motion_gen", *(("renderer",) if pictures else ()))
        self.trails = {name: Trail(Kept.of(getattr(begin, name))) for name in names}
        self.last = names[-1]

    def cut(self, frames: int, frame_rate: int, sent_controls: list[Any]) -> resume.SessionState:
        """A consistent cut, as far as the stages tell.

        :param frames: that have been given to the client; it has them all.
        :param sent_controls: changes that the motion generator was sent after its last checkpoint.
        """
        state = resume.SessionState(frames=frames)
        seen = math.inf
        if "renderer" in self.trails:
            renderer = self.trails["renderer"].last()
            state.renderer.CopyFrom(renderer.to_proto())
            seen = renderer.taken
        motion = self.trails["motion_gen"].last(given=seen)
        state.motion_gen.CopyFrom(motion.to_proto())
        state.controls.extend(self.trails["motion_gen"].controls_after())
        state.controls.extend(sent_controls)
        heard = self.trails["audio_features"].last(
            given=motion.taken, taken=frames * SAMPLE_RATE // frame_rate
        )
        state.audio_features.CopyFrom(heard.to_proto())
        return state


@dataclass(frozen=True)
class _Piece:
    number: int
    begin: int  # byte of the whole sound
    end: int
    offset: int  # of `begin` in the message


class SentLog:
    """Which bytes of sound were in which message of the client."""

    def __init__(self, place: talking_face.Place, begin: int) -> None:
        """
        :param place: from where the client sends ...
        :param begin: ... and the byte of the whole sound that lies there.
        """
        self._pieces: deque[_Piece] = deque()
        self._first = place
        self._end = begin

    def audio(self, number: int, size: int) -> None:
        """A message of sound has come."""
        offset = self._first.bytes if number == self._first.messages else 0
        piece = _Piece(number, self._end, self._end + size, offset)
        self._end = piece.end
        self._pieces.append(piece)

    def place(self, position: int, after: int = -1) -> talking_face.Place:
        """Where a byte is, behind message `after`; what lies before it is forgotten."""
        while len(self._pieces) > 1 and self._pieces[1].begin < position:
            self._pieces.popleft()
        place = talking_face.Place()
        place.CopyFrom(self._first)
        if self._pieces and (piece := self._pieces[0]).begin < position:
            if position < piece.end:
                return talking_face.Place(
                    messages=piece.number, bytes=piece.offset + position - piece.begin
                )
            place = talking_face.Place(messages=piece.number + 1)
        if after >= place.messages:
            place = talking_face.Place(messages=after + 1)
        return place


class Progress:
    """How far the client's live sound had been played at each moment of the session."""

    def __init__(self, place: talking_face.Place, sample_bytes: int) -> None:
        """
        :param place: from where the client sends.
        :param sample_bytes: of a sample of all channels.
        """
        self._log = SentLog(place, 0)
        self._sample_bytes = sample_bytes
        self._fed: deque[tuple[int, int, int]] = deque([(0, 0, 0)])
        self._marks: deque[tuple[int, int, int]] = deque()
        self._after = -1
        self._utterance = -place.utterance_bytes

    def audio(self, number: int, size: int) -> None:
        """A message of sound has come."""
        self._log.audio(number, size)

    def fed(self, begin: int, taken: int, spoken: int) -> None:
        """So many bytes, of which `taken` were taken before, lie on the clock from a sample on."""
        if spoken:
            self._fed.append((begin, taken, spoken))

    def passed(self, end: int, position: int, number: int) -> None:
        """The utterance that message `number` has ended ends at a sample, and at this byte."""
        self._marks.append((end, position, number))

    def interrupted(self, position: int, number: int) -> None:
        """Message `number` has dropped all up to this byte."""
        self._fed = deque([(0, position, 0)])
        self._marks.clear()
        self._after, self._utterance = number, position

    def at(self, sample: int) -> talking_face.Place:
        """The place that has been played at a sample of the session; they never fall."""
        begins = [begin for begin, _, _ in self._fed]
        for _ in range(bisect_right(begins, sample) - 1):
            self._fed.popleft()
        begin, taken, spoken = self._fed[0]
        position = taken + min(spoken, max(sample - begin, 0) * self._sample_bytes)
        while self._marks and self._marks[0][0] <= sample:
            _, self._utterance, number = self._marks.popleft()
            self._after = max(self._after, number)
        place = self._log.place(position, self._after)
        place.utterance_bytes = max(position - self._utterance, 0)
        return place


def preroll(taken: int, rate: int) -> tuple[int, int]:
    """Where to begin again with sound at `rate` so that the resampler gives 16 kHz from `taken` on
    as it did: (sample of the source, sample at 16 kHz), which are one moment."""
    common = math.gcd(rate, SAMPLE_RATE)
    step, voice_step = rate // common, SAMPLE_RATE // common
    back = 0 if rate == SAMPLE_RATE else round(_PREROLL_SECONDS * SAMPLE_RATE)
    steps = max(taken - back, 0) // voice_step
    return steps * step, steps * voice_step
