"""A live session: it follows the clock, renders what is in time, and can be interrupted."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator

from talkingface.contract.messages import check_size
from talkingface.contract.rates import ROW_RATE
from talkingface.contract.video import RenderLevel
from talkingface.orchestrator.media.decoding import MAX_SECONDS, AudioChunk
from talkingface.orchestrator.session.degradation import Degradation
from talkingface.orchestrator.session.live_playout import MAX_WAIT_SECONDS, PlayoutBuffer
from talkingface.orchestrator.session.playback_events import PlaybackEvents
from talkingface.orchestrator.session.session import Answer, Session, event_answers
from talkingface.v1 import controls_pb2 as controls
from talkingface.v1 import resume_pb2 as resume
from talkingface.v1 import talking_face_pb2 as talking_face


class LiveSession(Session):
    """Queues the client's audio, and processes it when it is due.

    The caller calls `pop_due` at every tick (see `PlayoutBuffer`), and `end_of_playout` at the end.
    """

    live = True
    max_lead_seconds = math.inf  # the clock paces it
    # About half a minute of audio, which goes on while the speech encoder is unavailable.
    max_queued_chunks = 750

    def __init__(
        self,
        asked: talking_face.AnimateConfig,
        clock: Callable[[], float] = time.perf_counter,
        max_seconds: float = MAX_SECONDS,
        state: resume.SessionState | None = None,
    ) -> None:
        super().__init__(asked, clock, max_seconds, state)
        resume_at = self.start.frame / self.frame_rate
        self.playout = PlayoutBuffer(
            self.config.audio,
            clock,
            asked.resume.position if self.config.resumable else None,
            self.start.source_sample,
            resume_at,
        )
        self._degradation = Degradation(clock, resume_at, self.start.state.render_level)
        self._playback_events = PlaybackEvents()

    @property
    def level(self) -> RenderLevel:
        """Level at which the next motion is rendered."""
        return self._degradation.level

    def audio(self, data: bytes) -> Iterator[AudioChunk]:
        """Queue bytes of audio, to be played when they are due.

        :raises ServiceError: MESSAGE_TOO_LARGE, or AUDIO_TOO_LONG if they are too far ahead of the
            clock.
        """
        check_size(data, "audio")
        self.playout.push(data, self.messages)
        return iter(())

    def end_of_audio(self) -> Iterator[AudioChunk]:
        self.playout.end()
        return iter(())

    def end_of_utterance(self, utterance_id: str) -> None:
        self.playout.end_of_utterance(utterance_id, self.messages)

    def interrupt(self) -> list[Answer]:
        silent = self._muter.mute(math.ceil(self.audio_seconds * ROW_RATE)) / ROW_RATE
        if self._packager is not None:
            silent = self._packager.mute(self.audio_seconds)
        interrupted = self.playout.interrupt(self.messages)
        events = self._playback_events.interrupt(interrupted, min(silent, self.audio_seconds))
        return event_answers(events)

    def pop_due(self) -> tuple[Iterator[AudioChunk], list[Answer]]:
        """Return the audio that is due now, and output audio that cannot wait for its frames.

        :return: chunks, each of which must be passed to `add_chunk`, and answers, which must be
            sent before.
        """
        data, finished = self.playout.pop_due()
        self._playback_events.on_playback(finished)
        overdue = self.audio_seconds - MAX_WAIT_SECONDS
        messages = self._packager.flush_audio(overdue) if self._packager is not None else []
        chunks = self._decode(data) if data else iter(())
        return chunks, [Answer(media=message) for message in messages]

    def end_of_playout(self) -> Iterator[AudioChunk]:
        """Return the last chunks, after `playout` has finished."""
        self._ended = True
        return self._intake.end()

    def render_level(self, until: float) -> RenderLevel | None:
        if until <= self.start.frame / self.frame_rate:
            return self.level  # the client has these frames, so that they are not rendered
        if until <= self.audio_seconds - MAX_WAIT_SECONDS:
            return None  # the audio was sent without them
        return self._degradation.level_for(until)

    def renderer_recovered(self) -> None:
        self._degradation.settle()

    @property
    def _may_drop_frames(self) -> bool:
        return self.renders

    def _set_time(self, update: controls.ControlUpdate) -> None:
        pass  # it acts on the next motion that is made

    def _write_position(self, state: resume.SessionState, token: talking_face.ResumeToken) -> None:
        state.render_level = self.level  # every frame has its position

    def _position_at(self, seconds: float) -> talking_face.StreamPosition | None:
        return self.playout.position_at(seconds)

    def _frame_events(self, until: float, load: float = 0.0, dropped: int = 0) -> list[Answer]:
        return event_answers(
            [
                *self._playback_events.on_frame(until),
                *self._degradation.on_frame(until, load, dropped),
            ]
        )
