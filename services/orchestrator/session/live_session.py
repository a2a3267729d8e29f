"""A session by the clock: its audio is played out, its frames may be dropped, it is interrupted."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from talkingface.contract.messages import check_size
from talkingface.contract.rates import ROW_RATE
from talkingface.orchestrator.media.decoding import MAX_SECONDS
from talkingface.orchestrator.session.frame_dropping import FrameDropper
from talkingface.orchestrator.session.live_playout import MAX_WAIT_SECONDS, PlayoutBuffer
from talkingface.orchestrator.session.session import Answer, Session, event_answers
from talkingface.v1 import controls_pb2 as controls
from talkingface.v1 import resume_pb2 as resume
from talkingface.v1 import talking_face_pb2 as talking_face


def open_session(
    asked: talking_face.AnimateConfig,
    clock: Callable[[], float] = time.perf_counter,
    max_live: float = MAX_SECONDS,
    state: resume.SessionState | None = None,
) -> Session:
    """The session that a client asks for.

    :param max_live: seconds that a live session may last.
    :param state: what the token of `asked.resume` holds.
    :raises ServiceError: FIELD_INVALID or IMAGE_TOO_LARGE.
    """
    config = asked if state is None else state.config
    if config.pacing == talking_face.PACING_LIVE:
        return LiveSession(asked, clock, max_live, state)
    return Session(asked, clock, state=state)


class LiveSession(Session):
    """What the client sends goes into `take`; what `due` gives is then taken by `audio`."""

    feed: PlayoutBuffer
    _dropper: FrameDropper

    def _begin(self, position: talking_face.StreamPosition, first_sample: int) -> None:
        resume_at = self.first_frame / self.frame_rate
        tracked = position if self.config.resumable else None
        self.feed = PlayoutBuffer(self.config.audio, self._clock, tracked, first_sample, resume_at)
        self._dropper = FrameDropper(self._clock, resume_at)

    def take(self, data: bytes) -> None:
        """Take bytes of audio from the client, to be played when their time has come.

        :raises ServiceError: MESSAGE_TOO_LARGE, or AUDIO_TOO_LONG: too far ahead of the clock.
        """
        check_size(data, "audio")
        self.feed.push(data, self.messages)

    def due(self) -> tuple[bytes, list[Answer]]:
        """The bytes of audio whose time has come, to be taken by `audio`, and the sound that has
        waited too long for its pictures."""
        data, played = self.feed.due()
        self._dropper.play(played)
        overdue = self.seconds - MAX_WAIT_SECONDS
        pieces = self._packager.catch_up(overdue) if self._packager is not None else []
        return data, [Answer(media=piece) for piece in pieces]

    def interrupt(self) -> list[Answer]:
        silent = self._rows.mute(math.ceil(self.seconds * ROW_RATE)) / ROW_RATE
        if self._packager is not None:
            silent = self._packager.mute(self.seconds)
        cut = self.feed.interrupt(self.messages)
        return event_answers(self._dropper.interrupt(cut, min(silent, self.seconds)))

    def end_of_utterance(self, utterance_id: str) -> None:
        self.feed.end_of_utterance(utterance_id, self.messages)

    def leave_out(self, until: float) -> bool:
        if until <= self.first_frame / self.frame_rate:
            return False  # of what the client has, no pictures are made again
        if until <= self.seconds - MAX_WAIT_SECONDS:
            return True  # its sound has gone out without it
        return self._dropper.leave_out(until)

    @property
    def _may_drop_frames(self) -> bool:
        return self.makes_pictures

    def _set_time(self, update: controls.ControlUpdate) -> None:
        pass  # it acts on the next motion that is made

    def _write_position(self, state: resume.SessionState, token: talking_face.ResumeToken) -> None:
        pass  # the answers tell it, frame by frame

    def _played(self, until: float) -> talking_face.StreamPosition | None:
        return self.feed.played(until)

    def _see(self, until: float, left_out: int) -> list[Answer]:
        return event_answers(self._dropper.see(until, left_out))
