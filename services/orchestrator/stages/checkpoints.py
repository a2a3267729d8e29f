"""The checkpoints of a session's stages, and consistent sets of them."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from talkingface.contract.rates import SAMPLE_RATE
from talkingface.v1 import resume_pb2 as resume
from talkingface.v1 import stage_pb2 as stage


@dataclass(frozen=True)
class CheckpointRecord:
    """A stage's checkpoint, with its place among all that the stage takes and gives."""

    checkpoint: stage.Checkpoint | None = None
    consumed: int = 0  # items: samples, rows or motion frames
    produced: int = 0  # items: rows, motion frames or pictures
    messages: int = 0

    @classmethod
    def of(cls, state: resume.StageState) -> CheckpointRecord:
        """What a token tells."""
        checkpoint = state.checkpoint if state.HasField("checkpoint") else None
        return cls(checkpoint, state.consumed, state.produced)

    def to_proto(self) -> resume.StageState:
        """As it stands in a token."""
        return resume.StageState(
            checkpoint=self.checkpoint, consumed=self.consumed, produced=self.produced
        )


class CheckpointHistory:
    """The last checkpoints of one stage."""

    def __init__(self, begin: CheckpointRecord) -> None:
        """
        :param begin: where the stream begins.
        """
        self._kept = deque([begin])
        self._messages = 0
        self._consumed = begin.consumed
        self._controls: deque[tuple[int, Any]] = deque()  # and the messages before each

    def keep(
        self, checkpoint: stage.Checkpoint, contained: list[dict[str, Any]], produced: int
    ) -> None:
        """Take note of a checkpoint.

        :param contained: the messages that it contains and the one before did not.
        :param produced: items of the results before it.
        """
        for message in contained:
            if "control" in message:
                self._controls.append((self._messages, message["control"]))
            self._consumed = items_after(message, self._consumed)
            self._messages += 1
        copy = stage.Checkpoint()
        copy.CopyFrom(checkpoint)
        self._kept.append(CheckpointRecord(copy, self._consumed, produced, self._messages))

    def last(self, produced: float = math.inf, consumed: float = math.inf) -> CheckpointRecord:
        """The last checkpoint that gave and took no more; those before it are forgotten."""
        fitting = [
            i for i, k in enumerate(self._kept) if k.produced <= produced and k.consumed <= consumed
        ]
        for _ in range(fitting[-1] if fitting else 0):
            self._kept.popleft()
        found = self._kept[0]
        while self._controls and self._controls[0][0] < found.messages:
            self._controls.popleft()
        return found

    def controls_after(self) -> list[Any]:
        """The changes of controls that the checkpoint found last does not contain."""
        return [control for _, control in self._controls]


def items_after(message: Mapping[str, Any], before: int) -> int:
    """Items of input that a stage has taken with a message."""
    for name, content in message.items():
        match name:
            case "audio":
                return before + len(content) // 4
            case "features":
                return int(content.first_row + content.rows)
            case "motion" | "dropped_motion" if content.frames:
                return int(content.frames[-1].index + 1)
    return before


class CheckpointSet:
    """The checkpoint histories of a session's stages, and consistent sets of checkpoints."""

    def __init__(self, begin: resume.SessionState, *, pictures: bool) -> None:
        """
        :param begin: where the session begins; empty: at its beginning.
        """
        names = ("audio_features", "motion_gen", *(("renderer",) if pictures else ()))
        self.histories = {
            name: CheckpointHistory(CheckpointRecord.of(getattr(begin, name))) for name in names
        }
        self.last = names[-1]

    def consistent_snapshot(
        self, frames: int, frame_rate: int, sent_controls: list[Any]
    ) -> resume.SessionState:
        """A consistent cut, as far as the stages tell.

        :param frames: that have been given to the client; it has them all.
        :param sent_controls: changes that the motion generator was sent after its last checkpoint.
        """
        state = resume.SessionState(frames=frames)
        seen = math.inf
        if "renderer" in self.histories:
            renderer = self.histories["renderer"].last()
            state.renderer.CopyFrom(renderer.to_proto())
            seen = renderer.consumed
        motion = self.histories["motion_gen"].last(produced=seen)
        state.motion_gen.CopyFrom(motion.to_proto())
        state.controls.extend(self.histories["motion_gen"].controls_after())
        state.controls.extend(sent_controls)
        heard = self.histories["audio_features"].last(
            produced=motion.consumed, consumed=frames * SAMPLE_RATE // frame_rate
        )
        state.audio_features.CopyFrom(heard.to_proto())
        return state
