"""Joins encoded frames and audio to the `Media` messages that a client receives."""

from __future__ import annotations

import math
from collections import deque
from typing import Protocol

import numpy as np

from talkingface.contract.arrays import Float32Array
from talkingface.contract.durations import duration
from talkingface.contract.rates import SAMPLE_RATE
from talkingface.orchestrator.media import mp4
from talkingface.orchestrator.media.aac import AacEncoder
from talkingface.orchestrator.media.decoding import AudioChunk
from talkingface.orchestrator.media.fading import AudioFader
from talkingface.v1 import media_pb2 as media
from talkingface.v1 import talking_face_pb2 as talking_face

COMMENT = "This video is AI-generated: talkingface animated a still portrait to a voice."

# An offline client gains nothing from small fragments; a live one waits for no second frame.
_FRAGMENTS_PER_SECOND = {talking_face.PACING_OFFLINE: 5, talking_face.PACING_LIVE: 25}


class Packager(Protocol):
    """Joins frames and audio, in whatever order they arrive."""

    def push_audio(self, chunk: AudioChunk, rate: int) -> None:
        """Add the next audio.

        :param rate: samples per second of `chunk.source`.
        """

    def end_audio(self) -> None:
        """Note that no more audio follows."""

    def push_frame(self, frame: media.EncodedFrame) -> list[talking_face.Media]:
        """Add the next frame, and return the media that it completes."""

    def flush_audio(self, until: float) -> list[talking_face.Media]:
        """Return the audio up to `until` seconds, without the frames, which are late."""

    def mute(self, until: float) -> float:
        """Fade out the audio that has not been returned yet, up to `until` seconds.

        :return: time from which it is silent, in seconds.
        """

    def end(self) -> list[talking_face.Media]:
        """Return the rest, after the last frame and the last audio."""


class FramePackager:
    """Makes one message per frame, with its audio as 16-bit samples at 16 kHz."""

    def __init__(self, frame_rate: int, first_frame: int = 0, first_sample: int = 0) -> None:
        """
        :param frame_rate: frames per second.
        :param first_frame: index of the first frame whose audio is wanted.
        :param first_sample: index of the first sample of `AudioChunk.mono_16k` to arrive.
        """
        self._frame_rate = frame_rate
        self._audio: deque[Float32Array] = deque()
        self._next_sample = first_frame * SAMPLE_RATE // frame_rate  # to be returned
        self._unwanted = self._next_sample - first_sample  # samples, of the next to arrive
        self._fader = AudioFader(SAMPLE_RATE)

    def push_audio(self, chunk: AudioChunk, rate: int) -> None:
        """See `Packager`."""
        audio = chunk.mono_16k[max(self._unwanted, 0) :]
        self._unwanted -= len(chunk.mono_16k)
        self._audio.append(audio)

    def end_audio(self) -> None:
        """See `Packager`."""

    def push_frame(self, frame: media.EncodedFrame) -> list[talking_face.Media]:
        """See `Packager`."""
        # Includes the audio of dropped frames before it.
        audio = self._audio_until((frame.index + 1) * SAMPLE_RATE // self._frame_rate)
        return [
            talking_face.Media(
                first_frame=frame.index,
                frame_count=1,
                presentation_time=duration(frame.index / self._frame_rate),
                data=frame.data,
                keyframe=frame.keyframe,
                audio=audio,
            )
        ]

    def flush_audio(self, until: float) -> list[talking_face.Media]:
        """See `Packager`."""
        begin = duration(self._next_sample / SAMPLE_RATE)
        audio = self._audio_until(round(until * SAMPLE_RATE))
        return [talking_face.Media(presentation_time=begin, audio=audio)] if audio else []

    def mute(self, until: float) -> float:
        """See `Packager`."""
        end = math.ceil(until * SAMPLE_RATE)
        return self._fader.fade_out(self._next_sample, end) / SAMPLE_RATE

    def end(self) -> list[talking_face.Media]:
        """See `Packager`."""
        remaining = sum(len(audio) for audio in self._audio)
        return self.flush_audio((self._next_sample + remaining) / SAMPLE_RATE)

    def _audio_until(self, sample: int) -> bytes:
        audio = self._pop(max(sample - self._next_sample, 0))
        audio = self._fader.apply(self._next_sample, audio)
        self._next_sample += len(audio)
        pcm: bytes = np.rint(audio * 32767).astype("<i2").tobytes()
        return pcm

    def _pop(self, count: int) -> Float32Array:
        """Return the next `count` samples, or as many as there are before the end."""
        popped: list[Float32Array] = [np.zeros(0, np.float32)]
        while count and self._audio:
            audio = self._audio.popleft()
            popped.append(audio[:count])
            if len(audio) > count:
                self._audio.appendleft(audio[count:])
            count -= len(popped[-1])
        return np.concatenate(popped)


class Mp4Packager:
    """Makes fragmented MP4.

    The first fragment has one frame, so that playback can begin at once.
    """

    def __init__(
        self, video: media.VideoFormat, pacing: talking_face.Pacing, comment: str = COMMENT
    ) -> None:
        """
        :param video: format of the frames.
        :param pacing: decides how many frames a fragment has.
        :param comment: metadata of the file.
        """
        self._video = video
        self._parameter_sets: tuple[bytes, bytes] | tuple[()] = ()  # those of the header
        self._fragment_frames = video.frame_rate // _FRAGMENTS_PER_SECOND[pacing]
        self._comment = comment
        self._encoder: AacEncoder | None = None
        self._audio: deque[Float32Array] = deque()  # not encoded yet: it may still be muted
        self._rate = 0  # samples of the source per second
        self._encoded = 0  # samples of the source that are encoded
        self._fader: AudioFader | None = None
        self._encoded_audio: deque[mp4.Sample] = deque()  # not written yet
        self._written_ticks = 0  # of the audio track
        self._encoded_ticks = 0  # of the audio track, written or not
        self._frames: list[media.EncodedFrame] = []
        self._fragments = 0
        self._encoder_must_end = False  # no more audio follows, which the encoder does not know yet

    def push_audio(self, chunk: AudioChunk, rate: int) -> None:
        """See `Packager`."""
        if not len(chunk.source):
            return
        if self._encoder is None:
            self._encoder = AacEncoder(rate, chunk.source.shape[1])
            self._rate, self._fader = rate, AudioFader(rate)
        self._audio.append(np.clip(chunk.source, -1, 1))

    def end_audio(self) -> None:
        """See `Packager`."""
        self._encoder_must_end = True

    def push_frame(self, frame: media.EncodedFrame) -> list[talking_face.Media]:
        """See `Packager`.

        :raises ValueError: the first access unit has no parameter sets.
        """
        messages = [] if self._fragments or self._frames else [self._header(frame)]
        self._frames.append(frame)
        rate = self._video.frame_rate
        if not self._fragments or len(self._frames) >= self._fragment_frames:
            messages.append(self._fragment((frame.index + 1) / rate))
        return messages

    def flush_audio(self, until: float) -> list[talking_face.Media]:
        """See `Packager`."""
        if not self._fragments:
            return []
        self._encode(until)
        late = self._encoder is not None and self._written_ticks / self._encoder.track.rate < until
        return [self._fragment(until)] if self._encoded_audio and late else []

    def mute(self, until: float) -> float:
        """See `Packager`."""
        if self._fader is None:
            return until
        return self._fader.fade_out(self._encoded, math.ceil(until * self._rate)) / self._rate

    def end(self) -> list[talking_face.Media]:
        """See `Packager`."""
        self._encode(float("inf"))
        return [self._fragment(float("inf"))] if self._frames or self._encoded_audio else []

    def _encode(self, until: float) -> None:
        """Encode the audio up to `until` seconds; the rest may still be muted."""
        encoder, fader = self._encoder, self._fader
        if encoder is None or fader is None:
            return
        while self._audio and self._encoded_ticks / encoder.track.rate < until:
            audio = fader.apply(self._encoded, self._audio.popleft())
            self._encoded += len(audio)
            self._add_encoded(encoder.push(audio))
        if self._encoder_must_end and not self._audio:
            self._encoder_must_end = False
            self._add_encoded(encoder.end())

    def _add_encoded(self, samples: list[mp4.Sample]) -> None:
        self._encoded_audio.extend(samples)
        self._encoded_ticks += sum(sample.duration for sample in samples)

    def _header(self, frame: media.EncodedFrame) -> talking_face.Media:
        sets = mp4.parameter_sets(frame.data)
        if sets is None or self._encoder is None:
            raise ValueError("the first frame came without parameter sets or before any audio")
        self._parameter_sets = sets
        video = self._video
        track = mp4.VideoTrack(video.width, video.height, video.frame_rate, *sets)
        return talking_face.Media(data=mp4.header(track, self._encoder.track, self._comment))

    def _fragment(self, until: float) -> talking_face.Media:
        """Return the pending frames, and the audio up to `until` seconds."""
        assert self._encoder is not None
        self._encode(until)
        track = self._encoder.track
        audio, audio_start = [], self._written_ticks
        while self._encoded_audio and self._written_ticks / track.rate < until:
            audio.append(self._encoded_audio.popleft())
            self._written_ticks += audio[-1].duration
        frames, self._frames = self._frames, []
        self._fragments += 1
        first = frames[0].index if frames else 0
        # A frame lasts until the next one. Between fragments, players derive that from their times.
        indices = [frame.index for frame in frames]
        durations = np.diff([*indices, indices[-1] + 1]).tolist() if frames else []
        data = mp4.fragment(
            self._fragments,
            [
                mp4.video_sample(frame.data, count, self._parameter_sets)
                for frame, count in zip(frames, durations, strict=True)
            ],
            first * mp4.FRAME_TICKS,
            audio,
            audio_start,
        )
        return talking_face.Media(
            first_frame=first,
            frame_count=len(frames),
            presentation_time=duration(first / self._video.frame_rate),
            data=data,
            keyframe=bool(frames) and frames[0].keyframe,
        )


def packager(
    output: int,
    video: media.VideoFormat,
    pacing: talking_face.Pacing,
    first_frame: int = 0,
    first_sample: int = 0,
) -> Packager:
    """Return the packager of an `OutputKind` that has video.

    :param first_frame: index of the first frame whose audio is wanted.
    :param first_sample: index of the first sample of `AudioChunk.mono_16k` to arrive.
    """
    if output == media.OUTPUT_KIND_FMP4:
        return Mp4Packager(video, pacing)
    return FramePackager(video.frame_rate, first_frame, first_sample)
