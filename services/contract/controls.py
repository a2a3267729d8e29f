"""Controls that change in the course of a session: partial updates, each from a frame on."""

from __future__ import annotations

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import DecodeError

from talkingface.contract.errors import invalid_field
from talkingface.contract.motion import MOTION_FPS
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
        self._state = initial
        self._later: dict[int, Controls] = {}

    def update(self, frame: int, update: Controls) -> None:
        """Take an update.

        :param frame: where it begins; of two at one frame the later arrival wins. Where `until` has
            passed it, it begins with what is asked for next.
        """
        self._later[frame] = overlay(self._later.get(frame, Controls()), update)

    def until(self, frame: int) -> list[tuple[int, Controls]]:
        """Complete controls for each frame before `frame` at which they change, in order, that has
        not been told yet."""
        changes = []
        for begin in sorted(begin for begin in self._later if begin < frame):
            self._state = overlay(self._state, self._later.pop(begin))
            changes.append((begin, self._state))
        return changes

    def state(self) -> list[tuple[int, str]]:
        """All of the state, as JSON can carry it."""
        entries = [(0, self._state), *self._later.items()]
        return [(frame, part.SerializeToString().hex()) for frame, part in entries]

    def load_state(self, state: list[tuple[int, str]]) -> None:
        """Go on where `state` was taken.

        :raises ValueError: it is broken
        """
        try:
            entries = [
                (int(frame), Controls.FromString(bytes.fromhex(part))) for frame, part in state
            ]
        except DecodeError as error:
            raise ValueError(str(error)) from None
        if not entries:
            raise ValueError("no controls")
        self._state = entries[0][1]
        self._later = dict(entries[1:])
