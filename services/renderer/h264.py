"""H.264 by x264, or by NVENC, the encoder of an NVIDIA GPU. Both give the same kind of stream.

Annex B access units without B-frames or delay, one packet a frame; SPS and PPS before every IDR;
BT.601 matrix, limited range, tagged. Which encoder a renderer uses is decided once, by encoding a
few frames (`choose`): PyAV lists NVENC on every machine, and some GPUs (H100, H200) have none.

NVENC has not been run: no machine with a GPU was at hand. Its options are those of FFmpeg's
`h264_nvenc`, checked by name against the build in use (`tests/unit/renderer/test_h264.py`).
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from enum import StrEnum
from fractions import Fraction
from typing import NamedTuple

import av
import numpy as np
from av.codec.hwaccel import HWAccel

from talkingface.renderer.arrays import Uint8Image
from talkingface.serving.config import StartError

log = logging.getLogger(__name__)

_CHECK_SIZE = 512  # pixels; NVENC refuses frames of less than 145
_CHECK_FRAMES = 4
_CHECK_INTERVAL = 2  # frames from one IDR to the next
_SLICE, _IDR, _SPS, _PPS = 1, 5, 7, 8  # types of NAL units
_LIMITED, _SMPTE_170M, _BT_709, _SRGB = 1, 6, 1, 13  # FFmpeg's numbers of colour tags


class H264Kind(StrEnum):
    """An encoder, as the setting and `StageInfo.video_encoder` name it."""

    X264 = "x264"
    NVENC = "nvenc"


class H264Format(NamedTuple):
    """What a stream looks like."""

    width: int  # pixels, even
    height: int
    frame_rate: int  # frames a second
    crf: int  # constant rate factor of x264, lower is better
    keyframe_interval: int  # frames from one IDR to the next


def _x264_options(form: H264Format) -> dict[str, str]:
    interval = form.keyframe_interval
    return {
        "preset": "superfast",
        "tune": "zerolatency",
        "profile": "high",
        "crf": str(form.crf),
        "x264-params": f"keyint={interval}:min-keyint={interval}:scenecut=0"
        ":open-gop=0:repeat-headers=1:annexb=1:threads=1:sliced-threads=0:weightp=0",
    }


def nvenc_options(form: H264Format) -> dict[str, str]:
    """The counterparts of x264's options.

    `cq` is the crf itself: both are a mean quantiser on H.264's scale of 0 to 51, with adaptive
    quantisation. The sizes of the two encoders' frames have not been compared.
    """
    return {
        "preset": "p4",
        "tune": "ull",
        "profile": "high",
        "rc": "vbr",
        "cq": str(form.crf),
        "spatial-aq": "1",
        "delay": "0",
        "zerolatency": "1",
        "rc-lookahead": "0",
        "no-scenecut": "1",
        "forced-idr": "1",
        "strict_gop": "1",
        "bf": "0",
    }


class Codec(NamedTuple):
    """An encoder of FFmpeg."""

    name: str
    options: Callable[[H264Format], dict[str, str]]
    device: HWAccel | None


CODECS = {
    H264Kind.X264: Codec("libx264", _x264_options, None),
    # All streams of the process share the GPU's primary context: one of its own, which FFmpeg makes
    # otherwise, would take some 200 MB of GPU memory for each stream.
    H264Kind.NVENC: Codec(
        "h264_nvenc", nvenc_options, HWAccel("cuda", options={"primary_ctx": "1"})
    ),
}


def open_codec(kind: H264Kind, form: H264Format) -> av.VideoCodecContext:
    """Open an encoder. One thread, so that the same frames give the same bytes with x264.

    :raises av.FFmpegError: it does not work here, or has no session left
    :raises ValueError: PyAV's FFmpeg was built without it
    """
    name, options, device = CODECS[kind]
    codec = av.CodecContext.create(name, "w", device)
    assert isinstance(codec, av.VideoCodecContext)
    codec.width, codec.height = form.width, form.height
    codec.pix_fmt = "yuv420p"
    codec.framerate = Fraction(form.frame_rate)
    codec.time_base = Fraction(1, form.frame_rate)
    codec.thread_count = 1
    codec.gop_size = form.keyframe_interval
    codec.color_range = _LIMITED
    codec.colorspace = _SMPTE_170M  # the matrix of BT.601
    codec.color_primaries = _BT_709  # as sRGB
    codec.color_trc = _SRGB
    codec.options = options(form)
    codec.open()
    return codec


class H264Encoder:
    """One stream. It is opened with its first frame, in the thread that encodes."""

    planar = True

    def __init__(
        self,
        form: H264Format,
        kind: H264Kind = H264Kind.X264,
        on_fallback: Callable[[], None] | None = None,
    ) -> None:
        """
        :param on_fallback: called where NVENC cannot be opened and x264 takes its place, as where a
            GPU's sessions are all in use; None: the error is raised
        """
        self.kind = kind
        self._form = form
        self._on_fallback = on_fallback
        self._codec: av.VideoCodecContext | None = None
        self._frame: av.VideoFrame | None = None  # the last one
        self._index = 0

    def encode(self, image: Uint8Image) -> tuple[bytes, bool]:
        """Encode planes of I420, (3 / 2 H, W); see `video_encoder.Encoder`.

        :raises av.FFmpegError: the encoder has failed
        """
        self._frame = av.VideoFrame.from_ndarray(image, format="yuv420p")
        return self.repeat()

    def repeat(self) -> tuple[bytes, bool]:
        """Encode the last frame once more; see `video_encoder.Encoder`."""
        assert self._frame is not None, "nothing to repeat"
        if self._codec is None:
            self._codec = self._open()
        self._frame.pts = self._index
        self._index += 1
        packets = self._codec.encode(self._frame)
        if len(packets) != 1:
            raise RuntimeError(f"{self.kind} returned {len(packets)} packets for a frame")
        return bytes(packets[0]), packets[0].is_keyframe

    def _open(self) -> av.VideoCodecContext:
        try:
            return open_codec(self.kind, self._form)
        except av.FFmpegError as error:
            if self.kind is H264Kind.X264 or self._on_fallback is None:
                raise
            log.warning("event=encoder_fallback from=%s to=%s %s", self.kind, H264Kind.X264, error)
            self._on_fallback()
            self.kind = H264Kind.X264
            return open_codec(self.kind, self._form)


def choose(wanted: str) -> H264Kind:
    """Choose the encoder of a renderer; takes some 10 ms without a GPU.

    :param wanted: "auto" for NVENC where it works, or an encoder's name
    :raises StartError: NVENC is asked for and does not work
    """
    if wanted == H264Kind.X264:
        return H264Kind.X264
    problem = problem_of(H264Kind.NVENC)
    if problem is None:
        return H264Kind.NVENC
    if wanted == H264Kind.NVENC:
        text = "TALKINGFACE_VIDEO_ENCODER=nvenc, but NVENC does not work (no NVIDIA driver, or a "
        raise StartError(f"{text}GPU without an encoder): {problem}")
    log.info("event=no_nvenc %s", problem)
    return H264Kind.X264


def problem_of(kind: H264Kind) -> str | None:
    """Encode a few frames, and return why the encoder cannot be used; None if it can."""
    form = H264Format(_CHECK_SIZE, _CHECK_SIZE, 25, 20, _CHECK_INTERVAL)
    noise = np.random.default_rng(0)
    shape = _CHECK_FRAMES, _CHECK_SIZE * 3 // 2, _CHECK_SIZE
    images = noise.integers(16, 235, shape, np.uint8)
    encoder = H264Encoder(form, kind)
    try:
        packets = [encoder.encode(image) for image in images]
    except (av.FFmpegError, ValueError, RuntimeError) as error:
        return str(error)
    for index, (data, keyframe) in enumerate(packets):
        problem = packet_problem(data, keyframe, expected=index % _CHECK_INTERVAL == 0)
        if problem:
            return f"frame {index}: {problem}"
    return None


def nal_types(data: bytes) -> list[int]:
    """Return the types of the NAL units of an Annex B access unit, in order."""
    return [unit[0] & 31 for unit in re.findall(rb"\x00\x00\x01(.)", data, re.DOTALL)]


def packet_problem(data: bytes, keyframe: bool, *, expected: bool) -> str | None:
    """Return in what a packet differs from the contract; None if it meets it.

    :param keyframe: whether the encoder calls it a keyframe
    :param expected: whether it must be one
    """
    types = nal_types(data)
    if keyframe != expected:
        return "is a keyframe" if keyframe else "is no keyframe"
    wanted, unwanted = ({_SPS, _PPS, _IDR}, {_SLICE}) if expected else ({_SLICE}, {_IDR})
    if not wanted <= set(types) or unwanted & set(types):
        return f"has the NAL units {types}"
    return None
