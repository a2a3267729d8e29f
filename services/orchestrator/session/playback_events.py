"""Reports how much of each utterance was played, with the last frame that shows it."""

from __future__ import annotations

from collections import deque

from talkingface.contract.durations import duration
from talkingface.orchestrator.session.live_playout import PlaybackFinished
from talkingface.v1 import talking_face_pb2 as talking_face


class PlaybackEvents:
    """Pairs the utterances that have been played out to the stages with the frames."""

    def __init__(self) -> None:
        self._played: deque[PlaybackFinished] = deque()  # not shown to their end yet

    def on_playback(self, played: list[PlaybackFinished]) -> None:
        """Note utterances that have been played out to the stages."""
        self._played.extend(played)

    def on_frame(self, until: float) -> list[talking_face.Event]:
        """Return the events of the utterances that a frame completes.

        :param until: end of the frame, in seconds of the session.
        """
        events = []
        while self._played and self._played[0].end <= until:
            events.append(_event(self._played.popleft()))
        return events

    def interrupt(
        self, interrupted: list[PlaybackFinished], silent: float
    ) -> list[talking_face.Event]:
        """Return the events of an interruption, oldest utterance first.

        :param interrupted: utterances that had not been played out to their end.
        :param silent: time of the session from which the output is silent, in seconds.
        """
        utterances = (*self._played, *interrupted)
        self._played.clear()
        return [_event(_cut_at(silent, played)) for played in utterances]


def _cut_at(silent: float, played: PlaybackFinished) -> PlaybackFinished:
    """Return how much of an utterance was played where the output is silent from a time on."""
    if played.end <= silent:
        return played
    seconds = max(played.seconds - (played.end - silent), 0.0)
    return PlaybackFinished(played.utterance_id, silent, seconds, True)


def _event(played: PlaybackFinished) -> talking_face.Event:
    return talking_face.Event(
        kind=talking_face.Event.KIND_PLAYBACK_FINISHED,
        time=duration(played.end),
        utterance_id=played.utterance_id,
        played=duration(played.seconds),
        interrupted=played.interrupted,
    )
