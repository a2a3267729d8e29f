"""The checkpoints of a session's stages, and consistent sets of them."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from talkingface.contract.rates import SAMPLE_RATE
from talkingface.v1 import resume_pb2 as resume
from talkingface.v1 import stage_pb2 as stage
from talkingface.v1.controls_pb2 import ControlUpdate


@dataclass(frozen=True)
class CheckpointRecord:
    """A stage's checkpoint, and its position in the input and output of the stage."""

    checkpoint: stage.Checkpoint | None = None
    consumed: int = 0  # items: samples, rows or motion frames
    produced: int = 0  # items: rows, motion frames or video frames
    number: int = 0  # of the checkpoints of its stage

    @classmethod
    def of(cls, state: resume.StageState) -> CheckpointRecord:
        """Return what a token contains."""
        checkpoint = state.checkpoint if state.HasField("checkpoint") else None
        return cls(checkpoint, state.consumed, state.produced)

    def to_proto(self) -> resume.StageState:
        """Return the form that a token contains."""
        return resume.StageState(
            checkpoint=self.checkpoint, consumed=self.consumed, produced=self.produced
        )


class CheckpointHistory:
    """The last checkpoints of one stage."""

    def __init__(self, begin: CheckpointRecord) -> None:
        """
        :param begin: record of the beginning of the stream.
        """
        self._records = deque([begin])
        self._controls: deque[tuple[int, ControlUpdate]] = deque()  # first record with it

    def keep(
        self,
        checkpoint: stage.Checkpoint,
        consumed: int,
        produced: int,
        controls: Iterable[ControlUpdate] = (),
    ) -> None:
        """Add a checkpoint.

        :param consumed: input items that it contains.
        :param produced: index of the item that follows the results it contains.
        :param controls: updates that it contains and the previous one does not.
        """
        copy = stage.Checkpoint()
        copy.CopyFrom(checkpoint)
        record = CheckpointRecord(copy, consumed, produced, self._records[-1].number + 1)
        self._records.append(record)
        self._controls.extend((record.number, control) for control in controls)

    def last(self, produced: float = math.inf, consumed: float = math.inf) -> CheckpointRecord:
        """Return the newest checkpoint within both bounds, and drop older ones."""
        fitting = [
            i
            for i, record in enumerate(self._records)
            if record.produced <= produced and record.consumed <= consumed
        ]
        for _ in range(fitting[-1] if fitting else 0):
            self._records.popleft()
        found = self._records[0]
        while self._controls and self._controls[0][0] <= found.number:
            self._controls.popleft()
        return found

    def controls_after(self) -> list[ControlUpdate]:
        """Return the updates that the checkpoint found last does not contain."""
        return [control for _, control in self._controls]


class CheckpointSet:
    """The checkpoint histories of a session's stages, and consistent sets of checkpoints."""

    def __init__(self, begin: resume.SessionState, *, renders: bool) -> None:
        """
        :param begin: state at which the session begins; empty for a new session.
        :param renders: whether the renderer takes part.
        """
        names = ("audio_features", "motion_gen", *(("renderer",) if renders else ()))
        self.histories = {
            name: CheckpointHistory(CheckpointRecord.of(getattr(begin, name))) for name in names
        }
        self.last = names[-1]

    def consistent_snapshot(
        self, frames: int, frame_rate: int, sent_controls: Iterable[ControlUpdate]
    ) -> resume.SessionState:
        """Return a consistent set of the newest checkpoints.

        :param frames: frames that have been sent to the client.
        :param sent_controls: updates sent to the motion generator after its last checkpoint.
        """
        state = resume.SessionState(frames=frames)
        rendered = math.inf
        if "renderer" in self.histories:
            renderer = self.histories["renderer"].last()
            state.renderer.CopyFrom(renderer.to_proto())
            rendered = renderer.consumed
        motion = self.histories["motion_gen"].last(produced=rendered)
        state.motion_gen.CopyFrom(motion.to_proto())
        state.controls.extend(self.histories["motion_gen"].controls_after())
        state.controls.extend(sent_controls)
        encoder = self.histories["audio_features"].last(
            produced=motion.consumed, consumed=frames * SAMPLE_RATE // frame_rate
        )
        state.audio_features.CopyFrom(encoder.to_proto())
        return state
