"""Controls that change in the course of a session: partial updates, each from a frame on."""

from __future__ import annotations

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import DecodeError

from talkingface.common.errors import invalid_field
from talkingface.common.motion import MOTION_FPS
from talkingface.v1.controls_pb2 import Controls

_MAX_SECONDS = 24 * 3600


def frame_of(time: Duration, path: str) -> int:
    """The first frame that is shown at `time` or later.

    :raises ServiceError: FIELD_INVALID for a time before the session or beyond a day.
    """
    nanoseconds = time.seconds * 10**9 + time.nanos
    if not 0 <= nanoseconds <= _MAX_SECONDS * 10**9:
        raise invalid_field(path, f"{nanoseconds / 1e9:g} s is outside [0, {_MAX_SECONDS}]")
    return -(-nanoseconds * MOTION_FPS // 10**9)


def overlay(controls: Controls, update: Controls) -> Controls:
    """`controls` with every field that `update` holds put in its place, as a whole."""
    result = Controls()
    result.CopyFrom(controls)
    for field, _ in update.ListFields():
        result.ClearField(field.name)
    result.MergeFrom(update)
    return result


class ControlTrack:
    """The controls in force at each frame, as updates come in, in any order of their frames."""

    def __init__(self, initial: Controls) -> None:
        self._updates: list[tuple[int, Controls]] = [(0, initial)]

    def update(self, frame: int, update: Controls, made: int) -> list[tuple[int, Controls]]:
        """Take an update.

        :param frame: where it begins; not before `made`.
        :param made: frames made already; what began before is settled.
        :return: complete controls for each frame at which they change from `frame` on.
        """
        merged = dict(self._updates)  # later arrivals win at one frame
        merged[frame] = overlay(merged.get(frame, Controls()), update)
        self._updates = sorted(merged.items(), key=lambda entry: entry[0])
        state = Controls()
        settled = state
        changes: dict[int, Controls] = {}
        for begin, partial in self._updates:
            state = overlay(state, partial)
            if begin <= made:
                settled = state
            if begin >= frame:
                changes[begin] = state
        later = [entry for entry in self._updates if entry[0] > made]
        self._updates = [(made, settled), *later]
        return list(changes.items())

    def state(self) -> list[tuple[int, str]]:
        """All of the state, as JSON can carry it."""
        return [(frame, part.SerializeToString().hex()) for frame, part in self._updates]

    def load_state(self, state: list[tuple[int, str]]) -> None:
        """Go on where `state` was taken.

        :raises ValueError: it is broken
        """
        try:
            self._updates = [
                (int(frame), Controls.FromString(bytes.fromhex(part))) for frame, part in state
            ]
        except DecodeError as error:
            raise ValueError(str(error)) from None
