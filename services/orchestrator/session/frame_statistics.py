"""Counts the frames of a session and measures their delay, for its summary."""

from __future__ import annotations

from collections.abc import Callable

from talkingface.contract.durations import duration
from talkingface.v1 import talking_face_pb2 as talking_face


class FrameStatistics:
    """The frames sent to the client, and when they were sent."""

    def __init__(self, clock: Callable[[], float], frames: int = 0) -> None:
        """
        :param clock: returns the time in seconds.
        :param frames: frames that the client has received already.
        """
        self.frames = frames
        self._clock = clock
        self._first_audio: float | None = None
        self._first_frame: float | None = None
        self._last_frame = 0.0

    def on_audio(self) -> None:
        """Note that audio has arrived."""
        if self._first_audio is None:
            self._first_audio = self._clock()

    def on_frames(self, count: int) -> None:
        """Note that frames are sent."""
        self.frames += count
        self._last_frame = self._clock()
        if self._first_frame is None:
            self._first_frame = self._last_frame

    def summary(self, audio_seconds: float, dropped: int) -> talking_face.Summary:
        """Return the summary of the session.

        :param audio_seconds: length of its audio.
        :param dropped: number of frames that were not sent.
        """
        begin, first = self._first_audio or 0.0, self._first_frame or 0.0
        return talking_face.Summary(
            frames=self.frames,
            audio_duration=duration(audio_seconds),
            first_frame_delay=duration(first - begin),
            elapsed=duration(self._last_frame - begin),
            dropped_frames=dropped,
        )
