"""The controls in effect at the last frame sent, and the updates that take effect later."""

from __future__ import annotations

from talkingface.contract.controls import frame_of, overlay
from talkingface.contract.errors import invalid_field
from talkingface.v1 import controls_pb2 as controls
from talkingface.v1 import resume_pb2 as resume

# Future motion frames at which controls may change; a checkpoint of the motion generator has room
# for that many.
MAX_PLANNED = 256


class ControlSchedule:
    """Bounds the number of control updates to come, and records them for tokens."""

    def __init__(self, in_effect: controls.Controls) -> None:
        """
        :param in_effect: controls at the first frame.
        """
        self._in_effect = controls.Controls()
        self._in_effect.CopyFrom(in_effect)
        self._later: list[tuple[int, controls.ControlUpdate]] = []  # by motion frame
        self._planned: set[int] = set()  # motion frames with changes; may contain past ones

    def plan(self, frame: int, now: int) -> None:
        """Reserve room for a change at a motion frame.

        :param now: motion frames that have been produced.
        :raises ServiceError: FIELD_INVALID if too many changes are to come.
        """
        self._planned = {other for other in self._planned if other >= now} | {frame}
        if len(self._planned) > MAX_PLANNED:
            text = f"changes at more than {MAX_PLANNED} frames are still to come"
            raise invalid_field("control.time", text)

    def add(self, update: controls.ControlUpdate, now: int) -> None:
        """Record an update for tokens.

        :param now: motion frames that have been produced; an update without a time acts there.
        """
        frame = now
        if update.HasField("time"):
            frame = max(frame, frame_of(update.time, "control.time"))
        self._later.append((frame, update))

    def write(self, state: resume.SessionState, now: int) -> None:
        """Write the controls in effect, and the later updates, into the state for a token.

        :param now: motion frame up to which the client has received frames; must not decrease.
        """
        # The sort is stable: among updates for one frame, the newest wins.
        self._later.sort(key=lambda entry: entry[0])
        while self._later and self._later[0][0] <= now:
            _, update = self._later.pop(0)
            self._in_effect = overlay(self._in_effect, update.controls)
        state.controls_in_effect.CopyFrom(self._in_effect)
        state.later_controls.extend(update for _, update in self._later)
