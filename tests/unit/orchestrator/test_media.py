"""Decoding of audio and packaging of media, without a network."""

from __future__ import annotations

import io
import math
import threading
import time
from fractions import Fraction
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from talkingface.contract.errors import ServiceError
from talkingface.contract.rates import SAMPLE_RATE
from talkingface.orchestrator.media.decoding import AudioChunk, AudioIntake, Resampler
from talkingface.orchestrator.media.file_decoder import file_format
from talkingface.orchestrator.media.hop_buffer import HopBuffer
from talkingface.orchestrator.media.packaging import FramePackager, Mp4Packager
from talkingface.v1 import media_pb2 as media
from talkingface.v1 import talking_face_pb2 as talking_face

Array = NDArray[np.float32]


def tone(seconds: float, rate: int, channels: int = 1) -> Array:
    """Return a gliding tone with some noise, (n, channels)."""
    t = np.arange(round(seconds * rate)) / rate
    noise = np.random.default_rng(1).standard_normal(len(t))
    wave = 0.5 * np.sin(2 * np.pi * (200 * t + 150 * t**2)) + 0.01 * noise
    return np.repeat(wave[:, None], channels, axis=1).astype(np.float32)


# Container, codec and sample format of every kind of file that is accepted.
FILES = {
    "wav": ("wav", "pcm_s16le", "s16"),
    "wav-float": ("wav", "pcm_f32le", "flt"),
    "flac": ("flac", "flac", "s16"),
    "mp3": ("mp3", "libmp3lame", "s16p"),
    "opus": ("ogg", "libopus", "s16"),
    "vorbis": ("ogg", "vorbis", "fltp"),
}


def encode(audio: Array, rate: int, kind: str) -> bytes:
    """Return a whole audio file."""
    container, codec, sample_format = FILES[kind]
    channels = 2 if codec == "vorbis" else audio.shape[1]  # FFmpeg's Vorbis encoder is stereo only
    if channels != audio.shape[1]:
        audio = np.repeat(audio, channels, axis=1)
    layout = "mono" if channels == 1 else "stereo"
    options = {"strict": "experimental"} if codec == "vorbis" else {}
    file = io.BytesIO()
    with av.open(file, "w", format=container) as out:
        stream: Any = out.add_stream(codec, rate=rate, layout=layout, options=options)
        stream.format = sample_format
        frame = av.AudioFrame.from_ndarray(audio.reshape(1, -1), format="flt", layout=layout)
        frame.sample_rate = rate
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            out.mux(packet)
    return file.getvalue()


def opened(data: bytes) -> Any:
    """Open a media file for reading. Its parts are not typed: each use knows what it reads."""
    return av.open(io.BytesIO(data))


def split(data: bytes, size: int) -> list[bytes]:
    return [data[i : i + size] for i in range(0, len(data), size)]


def intake(
    data: bytes, chunk: int = 1 << 20, **audio_format: Any
) -> tuple[AudioIntake, AudioChunk]:
    """Decode all of `data`, split into chunks of bytes."""
    decoder = AudioIntake(media.AudioFormat(**audio_format))
    try:
        chunks = [out for part in split(data, chunk) for out in decoder.push(part)]
        chunks += list(decoder.end())
    finally:
        decoder.close()
    return decoder, AudioChunk(
        np.concatenate([c.source for c in chunks]), np.concatenate([c.mono_16k for c in chunks])
    )


FILE = {"encoding": media.AUDIO_ENCODING_FILE}


def pcm(rate: int, channels: int = 1, *, kind: int = media.AUDIO_ENCODING_PCM_F32LE) -> dict:
    return {"encoding": kind, "sample_rate": rate, "channels": channels}


@pytest.mark.parametrize("rate", [8000, 11025, 16000, 22050, 44100, 48000])
@pytest.mark.parametrize("channels", [1, 2])
def test_pcm_of_any_rate_becomes_mono_16_khz(rate: int, channels: int) -> None:
    audio = tone(1.7301, rate, channels)
    decoder, got = intake(audio.tobytes(), **pcm(rate, channels))
    assert (decoder.rate, decoder.channels) == (rate, channels)
    assert len(got.mono_16k) == math.ceil(len(audio) / rate * SAMPLE_RATE)
    np.testing.assert_array_equal(got.source, audio)
    expected = tone(1.7301, SAMPLE_RATE)[:, 0]
    inner = slice(2000, -2000)
    assert np.corrcoef(got.mono_16k[: len(expected)][inner], expected[inner])[0, 1] > 0.99


@pytest.mark.parametrize("kind", FILES)
@pytest.mark.parametrize("chunk", [61, 4097])
def test_the_result_does_not_depend_on_the_split(kind: str, chunk: int) -> None:
    data = encode(tone(0.6, 48000), 48000, kind)
    _, whole = intake(data, **FILE)
    _, messages = intake(data, chunk, **FILE)
    np.testing.assert_array_equal(messages.mono_16k, whole.mono_16k)
    np.testing.assert_array_equal(messages.source, whole.source)


@pytest.mark.parametrize("chunk", [1, 3, 641, 1 << 20])
def test_pcm_does_not_depend_on_the_split(chunk: int) -> None:
    data = (tone(0.5, 44100, 2) * 32767).astype("<i2").tobytes()
    audio_format = pcm(44100, 2, kind=media.AUDIO_ENCODING_PCM_S16LE)
    _, whole = intake(data, **audio_format)
    _, messages = intake(data, chunk, **audio_format)
    np.testing.assert_array_equal(messages.mono_16k, whole.mono_16k)


@pytest.mark.parametrize("kind", FILES)
@pytest.mark.parametrize("rate", [16000, 44100, 48000])
def test_files_decode_to_their_length_and_content(kind: str, rate: int) -> None:
    if kind == "opus" and rate == 44100:
        rate = 24000  # Opus knows no 44.1 kHz
    decoder, got = intake(encode(tone(2.0, rate), rate, kind), **FILE)
    # Vorbis and MP3 encoders of FFmpeg add up to two frames of silence at the end.
    slack = {"mp3": 0.06, "vorbis": 0.15, "opus": 0.03}.get(kind, 0.0)
    assert 2.0 <= decoder.seconds <= 2.0 + slack
    assert len(got.mono_16k) == math.ceil(decoder.seconds * SAMPLE_RATE)
    expected = tone(2.0, SAMPLE_RATE)[:, 0]
    lags = [
        np.corrcoef(got.mono_16k[4000 + d : 28000 + d], expected[4000:28000])[0, 1]
        for d in range(-800, 801)
    ]
    best = int(np.argmax(lags)) - 800
    assert max(lags) > 0.98
    assert abs(best) <= 16, "the audio is shifted by at most 1 ms"


def test_stereo_is_kept_and_mixed_to_mono() -> None:
    audio = tone(0.5, 16000, 2)
    audio[:, 1] *= -1
    _, got = intake(audio.tobytes(), **pcm(16000, 2))
    np.testing.assert_array_equal(got.source, audio)
    assert np.abs(got.mono_16k).max() < 1e-6


def reason_of(data: bytes, chunk: int = 1 << 20, **audio_format: int) -> str:
    with pytest.raises(ServiceError) as caught:
        intake(data, chunk, **audio_format)
    return caught.value.reason


NAN = tone(1, 16000).copy()
NAN[8000] = np.nan


@pytest.mark.parametrize(
    ("data", "audio_format", "reason"),
    [
        (b"", pcm(16000), "AUDIO_TOO_SHORT"),
        (b"", FILE, "AUDIO_TOO_SHORT"),
        (tone(0.19, 16000).tobytes(), pcm(16000), "AUDIO_TOO_SHORT"),
        (encode(tone(0.1, 16000), 16000, "wav"), FILE, "AUDIO_TOO_SHORT"),
        (tone(1, 16000).tobytes()[:-1], pcm(16000), "AUDIO_BROKEN"),
        (NAN.tobytes(), pcm(16000), "AUDIO_NOT_FINITE"),
        (encode(NAN, 16000, "wav-float"), FILE, "AUDIO_NOT_FINITE"),
        ((tone(1, 16000) * 32767).tobytes(), pcm(16000), "AUDIO_BROKEN"),
        (bytes(16000 * 601 * 2), pcm(16000, kind=media.AUDIO_ENCODING_PCM_S16LE), "AUDIO_TOO_LONG"),
        (b"RIFF", FILE, "AUDIO_BROKEN"),
        (b"this is no audio at all" * 100, FILE, "AUDIO_BROKEN"),
        (b"RIFF\xff\xff\xff\xffWAVE" + bytes(5000), FILE, "AUDIO_BROKEN"),
        (b"fLaC" + np.random.default_rng(0).bytes(50000), FILE, "AUDIO_BROKEN"),
        (b"OggS" + np.random.default_rng(0).bytes(50000), FILE, "AUDIO_BROKEN"),
        (b"ID3" + np.random.default_rng(0).bytes(50000), FILE, "AUDIO_BROKEN"),
        (b"#EXTM3U\n#EXT-X-VERSION:3\nfile:///etc/passwd\n", FILE, "AUDIO_BROKEN"),
        (encode(tone(1, 4000), 4000, "wav"), FILE, "AUDIO_BROKEN"),
        (encode(tone(0.1, 2_000_000), 2_000_000, "wav"), FILE, "AUDIO_BROKEN"),
    ],
)
def test_bad_audio_has_its_reason(data: bytes, audio_format: dict, reason: str) -> None:
    assert reason_of(data, **audio_format) == reason


@pytest.mark.parametrize(
    "audio_format",
    [
        {},
        {"encoding": media.AUDIO_ENCODING_FILE, "sample_rate": 16000},
        {"encoding": media.AUDIO_ENCODING_FILE, "channels": 1},
        pcm(7999),
        pcm(48001),
        pcm(16000, 0),
        pcm(16000, 3),
    ],
)
def test_a_bad_format_names_its_field(audio_format: dict) -> None:
    with pytest.raises(ServiceError) as caught:
        AudioIntake(media.AudioFormat(**audio_format))
    assert caught.value.reason == "FIELD_INVALID"
    assert all(path.startswith("config.audio.") for path in caught.value.field_violations)


def test_a_file_that_unpacks_to_hours_is_refused_early() -> None:
    silence = np.zeros((30 * 60 * 8000, 1), np.float32)
    data = encode(silence, 8000, "flac")
    assert len(data) < 1 << 20
    assert reason_of(data, **FILE) == "AUDIO_TOO_LONG"


def test_closing_in_the_middle_ends_the_thread() -> None:
    before = threading.active_count()
    decoder = AudioIntake(media.AudioFormat(**FILE))
    data = encode(tone(20, 48000), 48000, "flac")
    next(decoder.push(data))  # FFmpeg still has samples to return
    decoder.close()
    decoder.close()
    deadline = time.monotonic() + 1
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threading.active_count() == before


@pytest.mark.parametrize("kind", FILES)
def test_audio_is_decoded_while_the_file_still_arrives(kind: str) -> None:
    data = encode(tone(6, 48000), 48000, kind)
    decoder = AudioIntake(media.AudioFormat(**FILE))
    for message in split(data[: len(data) // 2], 3200):
        for _ in decoder.push(message):
            pass
    decoder.close()
    # FFmpeg reads ten frames of FLAC before it returns audio.
    assert decoder.seconds > 1.5


@pytest.mark.parametrize("kind", ["wav", "wav-float"])
def test_a_plain_wav_is_decoded_from_its_first_bytes(kind: str) -> None:
    data = encode(tone(1, 16000), 16000, kind)
    decoder = AudioIntake(media.AudioFormat(**FILE))
    samples = [len(s.source) for message in split(data[:5000], 100) for s in decoder.push(message)]
    decoder.close()
    assert sum(samples) > 1000


def test_wav_files_may_have_a_wrong_length() -> None:
    data = encode(tone(1, 16000), 16000, "wav")
    at = data.index(b"data") + 4
    _, whole = intake(data, **FILE)
    for size in (0, 0xFFFFFFFF):  # written by a program that does not know the length
        decoder, _ = intake(data[:at] + size.to_bytes(4, "little") + data[at + 4 :], **FILE)
        assert decoder.seconds == 1
    _, got = intake(data + b"LIST\4\0\0\0abcd", **FILE)  # not audio
    np.testing.assert_array_equal(got.mono_16k, whole.mono_16k)
    decoder, _ = intake(data[:-1001], **FILE)
    assert decoder.seconds == pytest.approx(1 - 501 / 16000)


@pytest.mark.parametrize("codec", ["pcm_u8", "pcm_s24le", "pcm_mulaw", "pcm_s32le"])
def test_other_wav_files(codec: str) -> None:
    sample_format = {"pcm_u8": "u8", "pcm_mulaw": "s16"}.get(codec, "s32")
    FILES["other"] = ("wav", codec, sample_format)
    try:
        data = encode(tone(1, 16000), 16000, "other")
    finally:
        del FILES["other"]
    decoder, got = intake(data, 333, **FILE)
    assert decoder.seconds == 1
    assert np.corrcoef(got.mono_16k, tone(1, 16000)[:, 0])[0, 1] > 0.99


def test_formats_are_recognised_by_their_first_bytes() -> None:
    for kind, (container, _, _) in FILES.items():
        assert file_format(encode(tone(0.3, 48000), 48000, kind)[:12]) == container
    for other in (b"", b"\xff", b"\xff\xd8\xff\xe0 a JPEG", b"\x00\x00\x00 ftypM4A "):
        assert file_format(other) is None


def test_resampling_gives_the_exact_number_of_samples() -> None:
    for rate in (8000, 11025, 22050, 44100, 48000):
        for samples in (rate, rate + 1, 12345):
            resampler = Resampler(rate, 16000, 1)
            out = resampler.push(np.zeros((samples, 1), np.float32), last=True)
            assert len(out) == math.ceil(samples * 16000 / rate)


WIDTH, HEIGHT = 400, 300


def video_frames(count: int, fps: int = 25) -> list[media.EncodedFrame]:
    """Return H.264 access units of a square that moves 8 pixels per frame, as of the renderer."""
    encoder = av.CodecContext.create("libx264", "w")
    encoder.width, encoder.height = WIDTH, HEIGHT
    encoder.pix_fmt = "yuv420p"
    encoder.framerate, encoder.time_base = Fraction(fps), Fraction(1, fps)
    encoder.options = {"preset": "ultrafast", "tune": "zerolatency", "g": "50"}
    frames = []
    for i in range(count):
        image = np.full((HEIGHT, WIDTH, 3), 40, np.uint8)
        image[200:260, 8 * (i % 40) : 8 * (i % 40) + 60] = 220
        frame = av.VideoFrame.from_ndarray(image, format="rgb24")
        frame.pts = i
        (packet,) = encoder.encode(frame)
        frames.append(media.EncodedFrame(index=i, data=bytes(packet), keyframe=packet.is_keyframe))
    return frames


def mp4_of(audio: Array, rate: int, fps: int = 25) -> tuple[bytes, list]:
    """Return a whole file, with audio and frames added alternately, as in a session."""
    decoder = AudioIntake(media.AudioFormat(**pcm(rate, audio.shape[1])))
    packager = Mp4Packager(
        media.VideoFormat(width=WIDTH, height=HEIGHT, frame_rate=fps), talking_face.PACING_OFFLINE
    )
    messages, count = [], math.ceil(len(audio) / rate * fps)
    frames = iter(video_frames(count, fps))
    step = rate // 25
    for first in range(0, len(audio), step):
        for part in decoder.push(audio[first : first + step].tobytes()):
            packager.push_audio(part, rate)
        ready = first / rate - 0.24  # look-ahead of the models
        for _ in range(math.floor(ready * fps) - math.floor((ready - 0.04) * fps)):
            if ready > 0.04:
                messages += packager.push_frame(next(frames))
    for part in decoder.end():
        packager.push_audio(part, rate)
    packager.end_audio()
    for frame in frames:
        messages += packager.push_frame(frame)
    messages += packager.end()
    return b"".join(message.data for message in messages), messages


@pytest.mark.parametrize(
    ("rate", "channels", "seconds", "fps"),
    [
        (16000, 1, 2.0, 25),
        (48000, 2, 3.1234, 25),
        (44100, 1, 2.01, 30),
        (24000, 1, 0.2, 25),
        (8000, 1, 1.0, 60),
    ],
)
def test_mp4_has_every_frame_in_sync_with_the_audio(
    rate: int, channels: int, seconds: float, fps: int
) -> None:
    audio = tone(seconds, rate, channels)
    data, messages = mp4_of(audio, rate, fps)
    count = math.ceil(len(audio) / rate * fps)
    with opened(data) as file:
        video = list(file.decode(video=0))
        assert len(video) == count
        assert [f.time * fps for f in video] == pytest.approx(range(count))
        assert file.streams.video[0].average_rate == fps
        assert (video[0].width, video[0].height) == (WIDTH, HEIGHT)
        assert "AI-generated" in file.metadata["comment"]
    with opened(data) as file:
        stream = file.streams.audio[0]
        aac_rate = 44100 if rate == 44100 else 48000
        assert (stream.rate, stream.channels) == (aac_rate, channels)
        packets = [packet for packet in file.demux(stream) if packet.size]
        length = math.ceil(len(audio) / rate * aac_rate)
        assert packets[-1].pts + packets[-1].duration == length
        blocks = [block for packet in [*packets, None] for block in stream.decode(packet)]
    decoded = np.concatenate([block.to_ndarray().T for block in blocks])[:, 0]
    start = round(float(blocks[0].time) * aac_rate)
    decoded = (decoded[-start:] if start < 0 else np.pad(decoded, (start, 0)))[:length]
    expected = tone(seconds, aac_rate)[:, 0]
    inner = slice(1000, len(expected) - 1000)
    shifts = range(-200, 201)
    match = [
        np.corrcoef(np.roll(decoded, -s)[: len(expected)][inner], expected[inner])[0, 1]
        for s in shifts
    ]
    assert max(match) > 0.95
    assert abs(shifts[int(np.argmax(match))]) <= 2, "audio and video must not drift"
    frames = [
        i
        for message in messages
        for i in range(message.first_frame, message.first_frame + message.frame_count)
    ]
    assert frames == list(range(count))


def test_every_prefix_of_the_mp4_plays() -> None:
    _, messages = mp4_of(tone(2.0, 16000), 16000)
    assert messages[0].frame_count == 0
    assert messages[1].frame_count == 1
    for upto in (2, 3, 6):
        data = b"".join(message.data for message in messages[:upto])
        with opened(data) as file:
            got = sum(1 for _ in file.decode(video=0))
        assert got == sum(message.frame_count for message in messages[:upto])


def test_frames_have_their_own_audio() -> None:
    audio = tone(1.01, 16000)
    packager = FramePackager(25)
    packager.push_audio(AudioChunk(audio, audio[:, 0]), 16000)
    packager.end_audio()
    messages = [
        p for frame in video_frames(26) for p in packager.push_frame(frame)
    ] + packager.end()
    assert [message.first_frame for message in messages] == list(range(26))
    assert [len(message.audio) for message in messages] == [1280] * 25 + [320]
    back = np.frombuffer(b"".join(message.audio for message in messages), "<i2") / 32767
    np.testing.assert_allclose(back, audio[:, 0], atol=1e-4)
    assert [message.keyframe for message in messages] == [True] + [False] * 25


def test_frames_of_any_rate_have_their_time_and_all_the_audio() -> None:
    audio = tone(1.0, 16000)
    packager = FramePackager(30)
    packager.push_audio(AudioChunk(audio, audio[:, 0]), 16000)
    packager.end_audio()
    messages = [message for frame in video_frames(30, 30) for message in packager.push_frame(frame)]
    assert {len(message.audio) // 2 for message in messages} == {533, 534}
    assert sum(len(message.audio) for message in messages) == 32000
    times = [message.presentation_time.ToMicroseconds() for message in messages]
    assert times == [round(i * 1e6 / 30) for i in range(30)]


def test_audio_goes_on_without_frames_and_stays_in_sync() -> None:
    rate, seconds = 16000, 2.0
    audio = tone(seconds, rate, 1)
    packager = Mp4Packager(
        media.VideoFormat(width=WIDTH, height=HEIGHT, frame_rate=25), talking_face.PACING_LIVE
    )
    packager.push_audio(AudioChunk(audio, audio[:, 0]), rate)
    packager.end_audio()
    assert packager.flush_audio(1.0) == [], "nothing can be played before the header"
    shown = [0, 1, 2, 3, 30, 31, 40, 49]
    frames = video_frames(50, 25)
    messages = []
    for index in shown:
        if index == 30:
            (late,) = packager.flush_audio(1.0)
            assert (late.frame_count, packager.flush_audio(1.0)) == (0, [])
            messages.append(late)
        frame = frames[index]
        frame.keyframe = True
        messages += packager.push_frame(frame)
    messages += packager.end()
    with opened(b"".join(message.data for message in messages)) as container:
        packets = [p for p in container.demux(container.streams.video[0]) if p.size]
    times = [float(p.pts * p.time_base) for p in packets]
    assert times == pytest.approx([index / 25 for index in shown])
    with opened(b"".join(message.data for message in messages)) as container:
        blocks = [p for p in container.demux(container.streams.audio[0]) if p.size]
    ends = [float((p.pts + p.duration) * p.time_base) for p in blocks]
    assert ends[-1] == pytest.approx(seconds, abs=0.001)
    assert np.diff(ends).max() < 0.022, "no gap in the audio"


def test_frames_have_the_audio_of_dropped_ones_before_them() -> None:
    audio = tone(1.0, 16000, 1)
    packager = FramePackager(25)
    packager.push_audio(AudioChunk(audio, audio[:, 0]), 16000)
    messages = packager.push_frame(media.EncodedFrame(index=0, data=b"x"))
    messages += packager.push_frame(media.EncodedFrame(index=4, data=b"x"))
    messages += packager.flush_audio(0.5)
    assert packager.flush_audio(0.4) == []
    messages += packager.push_frame(media.EncodedFrame(index=6, data=b"x"))
    messages += packager.push_frame(media.EncodedFrame(index=24, data=b"x"))
    assert [len(message.audio) // 2 for message in messages] == [640, 2560, 4800, 0, 8000]
    assert (
        b"".join(p.audio for p in messages) == np.rint(audio[:, 0] * 32767).astype("<i2").tobytes()
    )


@pytest.mark.parametrize("first_sample", [0, 640, 1000])
def test_the_encoders_audio_is_cut_where_its_hops_end(first_sample: int) -> None:
    samples = tone(1.0, SAMPLE_RATE)[:, 0]
    hops = HopBuffer(first_sample)
    chunks = [hops.push(samples[i : i + 336]) for i in range(0, len(samples), 336)]
    ends = first_sample + np.cumsum([len(chunk) for chunk in chunks])
    pushed = first_sample + np.minimum(336 * np.arange(1, len(chunks) + 1), len(samples))
    complete = np.maximum(pushed // 640 * 640, first_sample)
    assert ends.tolist() == complete.tolist()  # nothing that completes a hop is held back
    assert np.array_equal(np.concatenate([*chunks, hops.end()]), samples)
