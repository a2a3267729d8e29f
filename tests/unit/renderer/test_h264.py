"""Streams of H.264: their form with each encoder, and how the encoder is chosen."""

from __future__ import annotations

import av
import numpy as np
import pytest

from talkingface.renderer import h264
from talkingface.renderer.h264 import H264Encoder, H264Format, H264Kind, nal_types
from talkingface.serving.config import StartError

FORM = H264Format(256, 256, frame_rate=25, crf=20, keyframe_interval=3)
IMAGES = np.random.default_rng(0).integers(16, 235, (7, 384, 256), np.uint8)
NVENC_PROBLEM = h264.problem_of(H264Kind.NVENC)  # None on a machine whose GPU has an encoder
KINDS = [
    H264Kind.X264,
    pytest.param(
        H264Kind.NVENC,
        marks=pytest.mark.skipif(NVENC_PROBLEM is not None, reason="no GPU with an encoder"),
    ),
]


@pytest.mark.parametrize("kind", KINDS)
def test_an_encoder_meets_the_contract_of_a_stream(kind: H264Kind) -> None:
    assert h264.problem_of(kind) is None


@pytest.mark.parametrize("kind", KINDS)
def test_each_frame_has_a_packet_and_each_idr_its_headers(kind: H264Kind) -> None:
    encoder = H264Encoder(FORM, kind)
    packets = [encoder.encode(image) for image in IMAGES]
    assert [keyframe for _, keyframe in packets] == [i % 3 == 0 for i in range(7)]
    for data, keyframe in packets:
        types = nal_types(data)
        assert data.startswith((b"\0\0\1", b"\0\0\0\1"))
        assert ({5, 7, 8} <= set(types)) if keyframe else set(types) <= {1, 6}
    # Decoding begins at any IDR, as where a stream goes on with another encoder.
    for first in (0, 3, 6):
        codec = av.CodecContext.create("h264", "r")
        frames = [f for data, _ in packets[first:] for f in codec.decode(av.Packet(data))]
        frames += codec.decode(None)
        assert len(frames) == 7 - first
        assert frames[0].colorspace == 6  # BT.601
        assert frames[0].color_range == 1  # limited


@pytest.mark.parametrize("kind", KINDS)
def test_a_repeated_frame_is_encoded_once_more(kind: H264Kind) -> None:
    encoder = H264Encoder(FORM, kind)
    first, _ = encoder.encode(IMAGES[0])
    again, keyframe = encoder.repeat()
    assert not keyframe
    assert len(again) < len(first) / 10
    _, keyframe = encoder.encode(IMAGES[1])
    assert not keyframe
    assert encoder.repeat()[1]  # the fourth frame: repeats count towards the interval


@pytest.mark.skipif(NVENC_PROBLEM is None, reason="this GPU has an encoder")
def test_nvenc_falls_back_to_x264_at_the_start_of_a_stream() -> None:
    fallbacks: list[str] = []
    encoder = H264Encoder(FORM, H264Kind.NVENC, lambda: fallbacks.append("x264"))
    packets = [encoder.encode(image) for image in IMAGES]
    assert fallbacks == ["x264"]
    assert encoder.kind is H264Kind.X264
    x264 = H264Encoder(FORM)
    assert packets == [x264.encode(image) for image in IMAGES]


@pytest.mark.skipif(NVENC_PROBLEM is None, reason="this GPU has an encoder")
def test_without_a_fallback_the_error_of_nvenc_is_raised() -> None:
    with pytest.raises(av.FFmpegError):
        H264Encoder(FORM, H264Kind.NVENC).encode(IMAGES[0])


@pytest.mark.parametrize(
    "problem, wanted, chosen",
    [
        (None, "auto", H264Kind.NVENC),
        (None, "nvenc", H264Kind.NVENC),
        (None, "x264", H264Kind.X264),
        ("no driver", "auto", H264Kind.X264),
        ("no driver", "x264", H264Kind.X264),
    ],
)
def test_the_encoder_is_chosen_by_what_works(
    monkeypatch: pytest.MonkeyPatch, problem: str | None, wanted: str, chosen: H264Kind
) -> None:
    monkeypatch.setattr(h264, "problem_of", lambda kind: problem)
    assert h264.choose(wanted) is chosen


def test_nvenc_that_is_asked_for_and_absent_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(h264, "problem_of", lambda kind: "no driver")
    with pytest.raises(StartError, match=r"TALKINGFACE_VIDEO_ENCODER=nvenc.*no driver"):
        h264.choose("nvenc")


def test_a_packet_of_another_form_is_refused() -> None:
    encoder = H264Encoder(FORM)
    (first, _), (second, _) = encoder.encode(IMAGES[0]), encoder.encode(IMAGES[1])
    assert h264.packet_problem(first, True, expected=True) is None
    assert h264.packet_problem(second, False, expected=False) is None
    assert h264.packet_problem(first, False, expected=True) == "is no keyframe"
    assert h264.packet_problem(first, True, expected=False) == "is a keyframe"
    without_headers = first[first.index(b"\0\0\1\x65") :]
    assert h264.packet_problem(without_headers, True, expected=True) == "has the NAL units [5]"
    assert h264.packet_problem(first, False, expected=False) == "has the NAL units [7, 8, 6, 5]"


@pytest.mark.skipif(NVENC_PROBLEM is None, reason="this GPU has an encoder")
@pytest.mark.parametrize("option", h264.nvenc_options(FORM))
def test_each_option_of_nvenc_exists_in_this_build(
    monkeypatch: pytest.MonkeyPatch, option: str
) -> None:
    """FFmpeg ignores options that it does not know, and reads the values of others before it looks
    for a driver, so that a wrong value gives another error than the missing driver."""
    nvenc = h264.CODECS[H264Kind.NVENC]._replace(device=None)  # its absence is noticed earlier
    monkeypatch.setitem(h264.CODECS, H264Kind.NVENC, nvenc)
    with pytest.raises(av.FFmpegError) as no_driver:
        h264.open_codec(H264Kind.NVENC, FORM)
    wrong = nvenc.options(FORM) | {option: "no such value"}
    monkeypatch.setitem(h264.CODECS, H264Kind.NVENC, nvenc._replace(options=lambda form: wrong))
    with pytest.raises(av.FFmpegError) as refused:
        h264.open_codec(H264Kind.NVENC, FORM)
    assert refused.value.errno != no_driver.value.errno
