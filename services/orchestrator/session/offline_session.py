"""An offline session: as fast as the stages can, with every frame."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from talkingface.contract.durations import duration
from talkingface.contract.errors import ServiceError
from talkingface.contract.messages import check_size
from talkingface.contract.video import RenderLevel
from talkingface.orchestrator.media.decoding import MAX_SECONDS, AudioChunk, sample_bytes
from talkingface.orchestrator.session.playback_position import SentAudioIndex, preroll
from talkingface.orchestrator.session.session import Answer, Session
from talkingface.v1 import controls_pb2 as controls
from talkingface.v1 import resume_pb2 as resume
from talkingface.v1 import talking_face_pb2 as talking_face


class OfflineSession(Session):
    """Processes the audio as it arrives; the client is slowed down where the stages are slower."""

    live = False
    # The models need 0.3 s of audio; the rest keeps all stages busy.
    max_lead_seconds = 4.0
    max_queued_chunks = 2

    def __init__(
        self,
        asked: talking_face.AnimateConfig,
        clock: Callable[[], float] = time.perf_counter,
        max_seconds: float = MAX_SECONDS,
        state: resume.SessionState | None = None,
    ) -> None:
        super().__init__(asked, clock, max_seconds, state)
        self._sent_audio: SentAudioIndex | None = None
        audio = self.config.audio
        if self.config.resumable and audio.sample_rate:
            self._sent_audio = SentAudioIndex(
                asked.resume.position, self.start.source_sample * sample_bytes(audio)
            )

    def audio(self, data: bytes) -> Iterator[AudioChunk]:
        self._check_not_ended()
        check_size(data, "audio")
        if self._sent_audio is not None:
            self._sent_audio.audio(self.messages, len(data))
        return self._decode(data)

    def end_of_audio(self) -> Iterator[AudioChunk]:
        self._check_not_ended()
        self._ended = True
        return self._intake.end()

    def end_of_utterance(self, utterance_id: str) -> None:
        raise ServiceError("MESSAGE_ORDER", "`end_of_utterance` is for PACING_LIVE")

    def interrupt(self) -> list[Answer]:
        raise ServiceError("MESSAGE_ORDER", "`interrupt` is for PACING_LIVE")

    def render_level(self, until: float) -> RenderLevel | None:
        return RenderLevel.FULL

    def renderer_recovered(self) -> None:
        pass  # the level does not change

    @property
    def _may_drop_frames(self) -> bool:
        return False

    def _set_time(self, update: controls.ControlUpdate) -> None:
        update.time.CopyFrom(duration(self.audio_seconds))

    def _write_position(self, state: resume.SessionState, token: talking_face.ResumeToken) -> None:
        if self._sent_audio is not None:
            audio = self.config.audio
            first, _ = preroll(state.audio_features.consumed, audio.sample_rate)
            state.position.CopyFrom(self._sent_audio.locate(first * sample_bytes(audio)))
        state.position.SetInParent()
        token.position.CopyFrom(state.position)

    def _position_at(self, seconds: float) -> talking_face.StreamPosition | None:
        return None

    def _frame_events(self, until: float, load: float = 0.0, dropped: int = 0) -> list[Answer]:
        return []
