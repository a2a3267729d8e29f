"""From encoded pictures and sound to the pieces of media that a client receives."""

from __future__ import annotations

import math
from collections import deque
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from talkingface.contract.durations import duration
from talkingface.contract.rates import SAMPLE_RATE
from talkingface.orchestrator.media import mp4
from talkingface.orchestrator.media.aac import AacEncoder
from talkingface.orchestrator.media.decoding import Sound
from talkingface.orchestrator.media.fading import AudioFader
from talkingface.v1 import media_pb2 as media
from talkingface.v1 import talking_face_pb2 as talking_face

Array = NDArray[np.float32]

COMMENT = "This video is AI-generated: talkingface animated a still portrait to a voice."

_FRAGMENTS_A_SECOND = {talking_face.PACING_OFFLINE: 5, talking_face.PACING_LIVE: 25}


class Packager(Protocol):
    """Puts pictures and sound together, in any order of arrival."""

    def push_sound(self, sound: Sound, rate: int) -> None:
        """Take the next sound; `rate` is that of `sound.original`."""

    def end_sound(self) -> None:
        """No more sound comes."""

    def push_frame(self, frame: media.EncodedFrame) -> list[talking_face.Media]:
        """Take the next picture; returns the media that is complete with it."""

    def catch_up(self, until: float) -> list[talking_face.Media]:
        """The sound up to `until` seconds, without the pictures that are late."""

    def mute(self, until: float) -> float:
        """Fade the sound that has not gone out, up to `until` seconds; from when it is silent."""

    def end(self) -> list[talking_face.Media]:
        """The rest: neither pictures nor sound come any more."""


class FramePackager:
    """One piece a picture, each with its sound as 16-bit samples of 16 kHz."""

    def __init__(self, frame_rate: int, first_frame: int = 0, first_sample: int = 0) -> None:
        """
        :param first_frame: number of the first picture whose sound is wanted.
        :param first_sample: number of the first sample of `Sound.voice` that comes.
        """
        self._frame_rate = frame_rate
        self._sound: deque[Array] = deque()
        self._given = first_frame * SAMPLE_RATE // frame_rate  # samples
        self._unwanted = self._given - first_sample
        self._fader = AudioFader(SAMPLE_RATE)

    def push_sound(self, sound: Sound, rate: int) -> None:
        """See `Packager`."""
        voice = sound.voice[max(self._unwanted, 0) :]
        self._unwanted -= len(sound.voice)
        self._sound.append(voice)

    def end_sound(self) -> None:
        """See `Packager`."""

    def push_frame(self, frame: media.EncodedFrame) -> list[talking_face.Media]:
        """See `Packager`."""
        # With the sound of pictures that were left out before it.
        audio = self._sound_until((frame.index + 1) * SAMPLE_RATE // self._frame_rate)
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

    def catch_up(self, until: float) -> list[talking_face.Media]:
        """See `Packager`."""
        begin = duration(self._given / SAMPLE_RATE)
        audio = self._sound_until(round(until * SAMPLE_RATE))
        return [talking_face.Media(presentation_time=begin, audio=audio)] if audio else []

    def mute(self, until: float) -> float:
        """See `Packager`."""
        return self._fader.fade_out(self._given, math.ceil(until * SAMPLE_RATE)) / SAMPLE_RATE

    def end(self) -> list[talking_face.Media]:
        """See `Packager`."""
        left = sum(len(block) for block in self._sound)
        return self.catch_up((self._given + left) / SAMPLE_RATE)

    def _sound_until(self, samples: int) -> bytes:
        sound = self._fader.apply(self._given, self._take(max(samples - self._given, 0)))
        self._given += len(sound)
        return np.rint(sound * 32767).astype("<i2").tobytes()

    def _take(self, count: int) -> Array:
        """The next `count` samples, or what there is before the end."""
        taken: list[Array] = [np.zeros(0, np.float32)]
        while count and self._sound:
            block = self._sound.popleft()
            taken.append(block[:count])
            if len(block) > count:
                self._sound.appendleft(block[count:])
            count -= len(taken[-1])
        return np.concatenate(taken)


class Mp4Packager:
    """Fragmented MP4. The first fragment holds one frame so that playing can begin at once."""

    def __init__(
        self, picture: media.VideoFormat, pacing: talking_face.Pacing, comment: str = COMMENT
    ) -> None:
        self._picture = picture
        self._parameter_sets: tuple[bytes, bytes] | tuple[()] = ()  # those of the header
        self._fragment_frames = picture.frame_rate // _FRAGMENTS_A_SECOND[pacing]
        self._comment = comment
        self._encoder: AacEncoder | None = None
        self._sound: deque[Array] = deque()  # to be encoded when its time has come
        self._rate = self._encoded = 0  # ... in samples, of which so many are encoded
        self._fader: AudioFader | None = None
        self._audio: deque[mp4.Sample] = deque()
        self._audio_ticks = 0  # of the samples already written
        self._audio_until = 0  # ... and of those that wait as well
        self._frames: list[media.EncodedFrame] = []
        self._fragments = 0
        self._ended = False  # no more sound comes, which the encoder is to be told

    def push_sound(self, sound: Sound, rate: int) -> None:
        """See `Packager`."""
        if not len(sound.original):
            return
        if self._encoder is None:
            self._encoder = AacEncoder(rate, sound.original.shape[1])
            self._rate, self._fader = rate, AudioFader(rate)
        self._sound.append(np.clip(sound.original, -1, 1))

    def end_sound(self) -> None:
        """See `Packager`."""
        self._ended = True

    def push_frame(self, frame: media.EncodedFrame) -> list[talking_face.Media]:
        """See `Packager`.

        :raises ValueError: the first access unit has no parameter sets.
        """
        pieces = [] if self._fragments or self._frames else [self._header(frame)]
        self._frames.append(frame)
        rate = self._picture.frame_rate
        if not self._fragments or len(self._frames) >= self._fragment_frames:
            pieces.append(self._fragment((frame.index + 1) / rate))
        return pieces

    def catch_up(self, until: float) -> list[talking_face.Media]:
        """See `Packager`."""
        if not self._fragments:
            return []
        self._encode(until)
        late = self._encoder is not None and self._audio_ticks / self._encoder.track.rate < until
        return [self._fragment(until)] if self._audio and late else []

    def mute(self, until: float) -> float:
        """See `Packager`."""
        if self._fader is None:
            return until
        return self._fader.fade_out(self._encoded, math.ceil(until * self._rate)) / self._rate

    def end(self) -> list[talking_face.Media]:
        """See `Packager`."""
        self._encode(float("inf"))
        return [self._fragment(float("inf"))] if self._frames or self._audio else []

    def _encode(self, until: float) -> None:
        """Encode the sound up to `until` seconds; what follows may still be hushed."""
        encoder, fader = self._encoder, self._fader
        if encoder is None or fader is None:
            return
        while self._sound and self._audio_until / encoder.track.rate < until:
            block = fader.apply(self._encoded, self._sound.popleft())
            self._encoded += len(block)
            self._keep(encoder.push(block))
        if self._ended and not self._sound:
            self._ended = False
            self._keep(encoder.end())

    def _keep(self, samples: list[mp4.Sample]) -> None:
        self._audio.extend(samples)
        self._audio_until += sum(sample.duration for sample in samples)

    def _header(self, frame: media.EncodedFrame) -> talking_face.Media:
        sets = mp4.parameter_sets(frame.data)
        if sets is None or self._encoder is None:
            raise ValueError("the first frame came without parameter sets or before any sound")
        self._parameter_sets = sets
        picture = self._picture
        video = mp4.VideoTrack(picture.width, picture.height, picture.frame_rate, *sets)
        return talking_face.Media(data=mp4.header(video, self._encoder.track, self._comment))

    def _fragment(self, until: float) -> talking_face.Media:
        """The waiting frames, and the sound up to `until` seconds."""
        assert self._encoder is not None
        self._encode(until)
        track = self._encoder.track
        audio, audio_start = [], self._audio_ticks
        while self._audio and self._audio_ticks / track.rate < until:
            audio.append(self._audio.popleft())
            self._audio_ticks += audio[-1].duration
        frames, self._frames = self._frames, []
        self._fragments += 1
        first = frames[0].index if frames else 0
        # A frame lasts until the next one; what lies between fragments, players see for themselves.
        indices = [frame.index for frame in frames]
        lasting = np.diff([*indices, indices[-1] + 1]).tolist() if frames else []
        data = mp4.fragment(
            self._fragments,
            [
                mp4.video_sample(frame.data, count, self._parameter_sets)
                for frame, count in zip(frames, lasting, strict=True)
            ],
            first * mp4.FRAME_TICKS,
            audio,
            audio_start,
        )
        return talking_face.Media(
            first_frame=first,
            frame_count=len(frames),
            presentation_time=duration(first / self._picture.frame_rate),
            data=data,
            keyframe=bool(frames) and frames[0].keyframe,
        )


def packager(
    output: int,
    picture: media.VideoFormat,
    pacing: talking_face.Pacing,
    first_frame: int = 0,
    first_sample: int = 0,
) -> Packager:
    """The packager of an `OutputKind` that has pictures; see `FramePackager`."""
    if output == media.OUTPUT_KIND_FMP4:
        return Mp4Packager(picture, pacing)
    return FramePackager(picture.frame_rate, first_frame, first_sample)
