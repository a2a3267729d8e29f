"""Opens the session that a client asks for."""

from __future__ import annotations

import time
from collections.abc import Callable

from talkingface.orchestrator.media.decoding import MAX_SECONDS
from talkingface.orchestrator.session.live_session import LiveSession
from talkingface.orchestrator.session.offline_session import OfflineSession
from talkingface.orchestrator.session.session import Session
from talkingface.v1 import resume_pb2 as resume
from talkingface.v1 import talking_face_pb2 as talking_face


def open_session(
    asked: talking_face.AnimateConfig,
    clock: Callable[[], float] = time.perf_counter,
    max_live: float = MAX_SECONDS,
    state: resume.SessionState | None = None,
) -> Session:
    """Return the session that a client asks for.

    :param asked: the client's configuration.
    :param clock: returns the time in seconds.
    :param max_live: seconds that a live session may last.
    :param state: content of the token of `asked.resume`.
    :raises ServiceError: FIELD_INVALID or IMAGE_TOO_LARGE.
    """
    config = asked if state is None else state.config
    if config.pacing == talking_face.PACING_LIVE:
        return LiveSession(asked, clock, max_live, state)
    return OfflineSession(asked, clock, state=state)
