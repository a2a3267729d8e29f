"""Audio in, MP4 out: the orchestrator's media code without a network."""

from __future__ import annotations

import io
import math
import threading
import time
from fractions import Fraction

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from talkingface.contract.errors import ServiceError
from talkingface.contract.rates import SAMPLE_RATE
from talkingface.orchestrator.media.decoding import AudioIntake, Resampler, Sound
from talkingface.orchestrator.media.file_decoder import file_format
from talkingface.orchestrator.media.packaging import FramePackager, Mp4Packager
from talkingface.v1 import media_pb2 as media
from talkingface.v1 import talking_face_pb2 as talking_face

Array = NDArray[np.float32]


def tone(seconds: float, rate: int, channels: int = 1) -> Array:
    """A gliding tone with some noise: (n, channels)."""
    t = np.arange(round(seconds * rate)) / rate
    noise = np.random.default_rng(1).standard_normal(len(t))
    wave = 0.5 * np.sin(2 * np.pi * (200 * t + 150 * t**2)) + 0.01 * noise
    return np.repeat(wave[:, None], channels, axis=1).astype(np.float32)


# Container, codec and sample format of every kind of file that is taken.
FILES = {
    "wav": ("wav", "pcm_s16le", "s16"),
    "wav-float": ("wav", "pcm_f32le", "flt"),
    "flac": ("flac", "flac", "s16"),
    "mp3": ("mp3", "libmp3lame", "s16p"),
    "opus": ("ogg", "libopus", "s16"),
    "vorbis": ("ogg", "vorbis", "fltp"),
}


def encode(sound: Array, rate: int, kind: str) -> bytes:
    """A whole audio file."""
    container, codec, sample_format = FILES[kind]
    channels = 2 if codec == "vorbis" else sound.shape[1]  # FFmpeg's Vorbis encoder is stereo only
    if channels != sound.shape[1]:
        sound = np.repeat(sound, channels, axis=1)
    layout = "mono" if channels == 1 else "stereo"
    options = {"strict": "experimental"} if codec == "vorbis" else {}
    file = io.BytesIO()
    with av.open(file, "w", format=container) as out:
        stream = out.add_stream(codec, rate=rate, layout=layout, options=options)
        stream.format = sample_format
        frame = av.AudioFrame.from_ndarray(sound.reshape(1, -1), format="flt", layout=layout)
        frame.sample_rate = rate
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            out.mux(packet)
    return file.getvalue()


def cut(data: bytes, size: int) -> list[bytes]:
    return [data[i : i + size] for i in range(0, len(data), size)]


def intake(data: bytes, chunk: int = 1 << 20, **audio_format: int) -> tuple[AudioIntake, Sound]:
    """Everything that `data` decodes to."""
    taker = AudioIntake(media.AudioFormat(**audio_format))
    try:
        sounds = [sound for piece in cut(data, chunk) for sound in taker.push(piece)]
        sounds += list(taker.end())
    finally:
        taker.close()
    return taker, Sound(
        np.concatenate([s.original for s in sounds]), np.concatenate([s.voice for s in sounds])
    )


FILE = {"encoding": media.AUDIO_ENCODING_FILE}


def pcm(rate: int, channels: int = 1, *, kind: int = media.AUDIO_ENCODING_PCM_F32LE) -> dict:
    return {"encoding": kind, "sample_rate": rate, "channels": channels}


@pytest.mark.parametrize("rate", [8000, 11025, 16000, 22050, 44100, 48000])
@pytest.mark.parametrize("channels", [1, 2])
def test_pcm_of_any_rate_becomes_mono_16_khz(rate: int, channels: int) -> None:
    sound = tone(1.7301, rate, channels)
    taker, got = intake(sound.tobytes(), **pcm(rate, channels))
    assert (taker.rate, taker.channels) == (rate, channels)
    assert len(got.voice) == math.ceil(len(sound) / rate * SAMPLE_RATE)
    np.testing.assert_array_equal(got.original, sound)
    expected = tone(1.7301, SAMPLE_RATE)[:, 0]
    inner = slice(2000, -2000)
    assert np.corrcoef(got.voice[: len(expected)][inner], expected[inner])[0, 1] > 0.99


@pytest.mark.parametrize("kind", FILES)
@pytest.mark.parametrize("chunk", [61, 4097])
def test_the_result_does_not_depend_on_the_cut(kind: str, chunk: int) -> None:
    data = encode(tone(0.6, 48000), 48000, kind)
    _, whole = intake(data, **FILE)
    _, pieces = intake(data, chunk, **FILE)
    np.testing.assert_array_equal(pieces.voice, whole.voice)
    np.testing.assert_array_equal(pieces.original, whole.original)


@pytest.mark.parametrize("chunk", [1, 3, 641, 1 << 20])
def test_pcm_does_not_depend_on_the_cut(chunk: int) -> None:
    data = (tone(0.5, 44100, 2) * 32767).astype("<i2").tobytes()
    audio_format = pcm(44100, 2, kind=media.AUDIO_ENCODING_PCM_S16LE)
    _, whole = intake(data, **audio_format)
    _, pieces = intake(data, chunk, **audio_format)
    np.testing.assert_array_equal(pieces.voice, whole.voice)


@pytest.mark.parametrize("kind", FILES)
@pytest.mark.parametrize("rate", [16000, 44100, 48000])
def test_files_decode_to_their_length_and_sound(kind: str, rate: int) -> None:
    if kind == "opus" and rate == 44100:
        rate = 24000  # Opus knows no 44.1 kHz
    taker, got = intake(encode(tone(2.0, rate), rate, kind), **FILE)
    # Vorbis and MP3 encoders of FFmpeg add up to two blocks of silence at the end.
    slack = {"mp3": 0.06, "vorbis": 0.15, "opus": 0.03}.get(kind, 0.0)
    assert 2.0 <= taker.seconds <= 2.0 + slack
    assert len(got.voice) == math.ceil(taker.seconds * SAMPLE_RATE)
    expected = tone(2.0, SAMPLE_RATE)[:, 0]
    lags = [
        np.corrcoef(got.voice[4000 + d : 28000 + d], expected[4000:28000])[0, 1]
        for d in range(-800, 801)
    ]
    best = int(np.argmax(lags)) - 800
    assert max(lags) > 0.98
    assert abs(best) <= 16, "the sound must not move by more than 1 ms"


def test_stereo_keeps_both_channels_and_mixes_the_voice() -> None:
    sound = tone(0.5, 16000, 2)
    sound[:, 1] *= -1
    _, got = intake(sound.tobytes(), **pcm(16000, 2))
    np.testing.assert_array_equal(got.original, sound)
    assert np.abs(got.voice).max() < 1e-6


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
    taker = AudioIntake(media.AudioFormat(**FILE))
    data = encode(tone(20, 48000), 48000, "flac")
    next(taker.push(data))  # FFmpeg still has samples to hand over
    taker.close()
    taker.close()
    deadline = time.monotonic() + 1
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threading.active_count() == before


@pytest.mark.parametrize("kind", FILES)
def test_sound_comes_out_while_the_file_still_arrives(kind: str) -> None:
    data = encode(tone(6, 48000), 48000, kind)
    taker = AudioIntake(media.AudioFormat(**FILE))
    for piece in cut(data[: len(data) // 2], 3200):
        for _ in taker.push(piece):
            pass
    taker.close()
    # FFmpeg looks at ten frames of FLAC before it hands out sound.
    assert taker.seconds > 1.5


@pytest.mark.parametrize("kind", ["wav", "wav-float"])
def test_a_plain_wav_is_heard_from_its_first_bytes(kind: str) -> None:
    data = encode(tone(1, 16000), 16000, kind)
    taker = AudioIntake(media.AudioFormat(**FILE))
    heard = [len(s.original) for piece in cut(data[:5000], 100) for s in taker.push(piece)]
    taker.close()
    assert sum(heard) > 1000


def test_wav_files_that_end_anyhow() -> None:
    data = encode(tone(1, 16000), 16000, "wav")
    at = data.index(b"data") + 4
    _, whole = intake(data, **FILE)
    for size in (0, 0xFFFFFFFF):  # written by someone who does not know the end
        taker, _ = intake(data[:at] + size.to_bytes(4, "little") + data[at + 4 :], **FILE)
        assert taker.seconds == 1
    _, got = intake(data + b"LIST\4\0\0\0abcd", **FILE)  # what follows the samples is no sound
    np.testing.assert_array_equal(got.voice, whole.voice)
    taker, _ = intake(data[:-1001], **FILE)
    assert taker.seconds == pytest.approx(1 - 501 / 16000)


@pytest.mark.parametrize("codec", ["pcm_u8", "pcm_s24le", "pcm_mulaw", "pcm_s32le"])
def test_other_wav_files(codec: str) -> None:
    sample_format = {"pcm_u8": "u8", "pcm_mulaw": "s16"}.get(codec, "s32")
    FILES["other"] = ("wav", codec, sample_format)
    try:
        data = encode(tone(1, 16000), 16000, "other")
    finally:
        del FILES["other"]
    taker, got = intake(data, 333, **FILE)
    assert taker.seconds == 1
    assert np.corrcoef(got.voice, tone(1, 16000)[:, 0])[0, 1] > 0.99


def test_formats_are_told_by_their_first_bytes() -> None:
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


def pictures(count: int, fps: int = 25) -> list[media.EncodedFrame]:
    """H.264 access units of a square that moves 8 pixels a frame, as the renderer makes them."""
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


def mp4_of(sound: Array, rate: int, fps: int = 25) -> tuple[bytes, list]:
    """A whole file: sound and pictures pushed by turns, as in a session."""
    taker = AudioIntake(media.AudioFormat(**pcm(rate, sound.shape[1])))
    packager = Mp4Packager(
        media.VideoFormat(width=WIDTH, height=HEIGHT, frame_rate=fps), talking_face.PACING_OFFLINE
    )
    pieces, count = [], math.ceil(len(sound) / rate * fps)
    frames = iter(pictures(count, fps))
    step = rate // 25
    for first in range(0, len(sound), step):
        for part in taker.push(sound[first : first + step].tobytes()):
            packager.push_sound(part, rate)
        ready = first / rate - 0.24  # what the models look ahead
        for _ in range(math.floor(ready * fps) - math.floor((ready - 0.04) * fps)):
            if ready > 0.04:
                pieces += packager.push_frame(next(frames))
    for part in taker.end():
        packager.push_sound(part, rate)
    packager.end_sound()
    for frame in frames:
        pieces += packager.push_frame(frame)
    pieces += packager.end()
    return b"".join(piece.data for piece in pieces), pieces


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
def test_mp4_has_every_frame_and_the_sound_in_step(
    rate: int, channels: int, seconds: float, fps: int
) -> None:
    sound = tone(seconds, rate, channels)
    data, pieces = mp4_of(sound, rate, fps)
    count = math.ceil(len(sound) / rate * fps)
    with av.open(io.BytesIO(data)) as file:
        video = list(file.decode(video=0))
        assert len(video) == count
        assert [f.time * fps for f in video] == pytest.approx(range(count))
        assert file.streams.video[0].average_rate == fps
        assert (video[0].width, video[0].height) == (WIDTH, HEIGHT)
        assert "AI-generated" in file.metadata["comment"]
    with av.open(io.BytesIO(data)) as file:
        stream = file.streams.audio[0]
        aac_rate = 44100 if rate == 44100 else 48000
        assert (stream.rate, stream.channels) == (aac_rate, channels)
        packets = [packet for packet in file.demux(stream) if packet.size]
        length = math.ceil(len(sound) / rate * aac_rate)
        assert packets[-1].pts + packets[-1].duration == length
        blocks = [block for packet in [*packets, None] for block in stream.decode(packet)]
    heard = np.concatenate([block.to_ndarray().T for block in blocks])[:, 0]
    start = round(float(blocks[0].time) * aac_rate)
    heard = (heard[-start:] if start < 0 else np.pad(heard, (start, 0)))[:length]
    expected = tone(seconds, aac_rate)[:, 0]
    inner = slice(1000, len(expected) - 1000)
    shifts = range(-200, 201)
    match = [
        np.corrcoef(np.roll(heard, -s)[: len(expected)][inner], expected[inner])[0, 1]
        for s in shifts
    ]
    assert max(match) > 0.95
    assert abs(shifts[int(np.argmax(match))]) <= 2, "sound and picture must not drift"
    frames = [
        i
        for piece in pieces
        for i in range(piece.first_frame, piece.first_frame + piece.frame_count)
    ]
    assert frames == list(range(count))


def test_mp4_plays_from_every_prefix_of_pieces() -> None:
    _, pieces = mp4_of(tone(2.0, 16000), 16000)
    assert pieces[0].frame_count == 0
    assert pieces[1].frame_count == 1
    for upto in (2, 3, 6):
        data = b"".join(piece.data for piece in pieces[:upto])
        with av.open(io.BytesIO(data)) as file:
            got = sum(1 for _ in file.decode(video=0))
        assert got == sum(piece.frame_count for piece in pieces[:upto])


def test_frames_carry_their_own_sound() -> None:
    sound = tone(1.01, 16000)
    packager = FramePackager(25)
    packager.push_sound(Sound(sound, sound[:, 0]), 16000)
    packager.end_sound()
    pieces = [p for frame in pictures(26) for p in packager.push_frame(frame)] + packager.end()
    assert [piece.first_frame for piece in pieces] == list(range(26))
    assert [len(piece.audio) for piece in pieces] == [1280] * 25 + [320]
    back = np.frombuffer(b"".join(piece.audio for piece in pieces), "<i2") / 32767
    np.testing.assert_allclose(back, sound[:, 0], atol=1e-4)
    assert [piece.keyframe for piece in pieces] == [True] + [False] * 25


def test_frames_of_any_rate_have_their_time_and_all_the_sound() -> None:
    sound = tone(1.0, 16000)
    packager = FramePackager(30)
    packager.push_sound(Sound(sound, sound[:, 0]), 16000)
    packager.end_sound()
    pieces = [piece for frame in pictures(30, 30) for piece in packager.push_frame(frame)]
    assert {len(piece.audio) // 2 for piece in pieces} == {533, 534}
    assert sum(len(piece.audio) for piece in pieces) == 32000
    times = [piece.presentation_time.ToMicroseconds() for piece in pieces]
    assert times == [round(i * 1e6 / 30) for i in range(30)]


def test_sound_goes_on_without_pictures_and_both_stay_in_step() -> None:
    rate, seconds = 16000, 2.0
    sound = tone(seconds, rate, 1)
    packager = Mp4Packager(
        media.VideoFormat(width=WIDTH, height=HEIGHT, frame_rate=25), talking_face.PACING_LIVE
    )
    packager.push_sound(Sound(sound, sound[:, 0]), rate)
    packager.end_sound()
    assert packager.catch_up(1.0) == [], "nothing can be played before the header"
    shown = [0, 1, 2, 3, 30, 31, 40, 49]
    frames = pictures(50, 25)
    pieces = []
    for index in shown:
        if index == 30:
            (late,) = packager.catch_up(1.0)
            assert (late.frame_count, packager.catch_up(1.0)) == (0, [])
            pieces.append(late)
        frame = frames[index]
        frame.keyframe = True
        pieces += packager.push_frame(frame)
    pieces += packager.end()
    with av.open(io.BytesIO(b"".join(piece.data for piece in pieces))) as container:
        packets = [p for p in container.demux(container.streams.video[0]) if p.size]
    times = [float(p.pts * p.time_base) for p in packets]
    assert times == pytest.approx([index / 25 for index in shown])
    with av.open(io.BytesIO(b"".join(piece.data for piece in pieces))) as container:
        blocks = [p for p in container.demux(container.streams.audio[0]) if p.size]
    ends = [float((p.pts + p.duration) * p.time_base) for p in blocks]
    assert ends[-1] == pytest.approx(seconds, abs=0.001)
    assert np.diff(ends).max() < 0.022, "no gap in the sound"


def test_single_pictures_bring_the_sound_of_those_left_out() -> None:
    sound = tone(1.0, 16000, 1)
    packager = FramePackager(25)
    packager.push_sound(Sound(sound, sound[:, 0]), 16000)
    pieces = packager.push_frame(media.EncodedFrame(index=0, data=b"x"))
    pieces += packager.push_frame(media.EncodedFrame(index=4, data=b"x"))
    pieces += packager.catch_up(0.5)
    assert packager.catch_up(0.4) == []
    pieces += packager.push_frame(media.EncodedFrame(index=6, data=b"x"))
    pieces += packager.push_frame(media.EncodedFrame(index=24, data=b"x"))
    assert [len(piece.audio) // 2 for piece in pieces] == [640, 2560, 4800, 0, 8000]
    assert b"".join(p.audio for p in pieces) == np.rint(sound[:, 0] * 32767).astype("<i2").tobytes()
