"""Writes fragmented MP4 with one H.264 and one AAC track, playable as it arrives.

FFmpeg's muxer is not used because a session must know which frames lie in which bytes, and one
track must never wait for the other. Boxes are those of ISO/IEC 14496-12 (file format), -14 (AAC)
and -15 (H.264), and are named by their four-character codes.
"""

from __future__ import annotations

import struct
from collections.abc import Collection
from dataclasses import dataclass

# Ticks of the video track for one frame, at any frame rate.
FRAME_TICKS = 512

_MOVIE_TIMESCALE = 1000  # ticks per second
_VIDEO, _AUDIO = 1, 2
_SYNC, _NO_SYNC = 0x02000000, 0x01010000
_MATRIX = struct.pack(">9I", 0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000)
_UNDETERMINED = 0x55C4  # the language "und"

# NAL unit types of H.264.
_NAL_IDR, _NAL_SPS, _NAL_PPS, _NAL_DELIMITER = 5, 7, 8, 9
_HIGH_PROFILES = (100, 110, 122, 144)


@dataclass(frozen=True)
class Sample:
    """One frame of video or one AAC frame, as stored in the file."""

    data: bytes
    duration: int  # ticks of its track
    sync: bool = True  # whether decoding can begin here


@dataclass(frozen=True)
class AudioTrack:
    """How the audio is encoded."""

    rate: int  # samples per second
    channels: int
    config: bytes  # AudioSpecificConfig


@dataclass(frozen=True)
class VideoTrack:
    """How the frames are encoded."""

    width: int
    height: int
    frame_rate: int
    sps: bytes
    pps: bytes


def nal_units(annex_b: bytes) -> list[bytes]:
    """Return the NAL units of an access unit in Annex B form, without start codes."""
    units = annex_b.replace(b"\0\0\0\1", b"\0\0\1").split(b"\0\0\1")[1:]
    # Zero bytes at the end of a unit belong to the next start code.
    return [unit.rstrip(b"\0") for unit in units]


def parameter_sets(annex_b: bytes) -> tuple[bytes, bytes] | None:
    """Return SPS and PPS of an access unit, or None unless it contains both."""
    kinds = {unit[0] & 31: unit for unit in nal_units(annex_b)}
    if _NAL_SPS in kinds and _NAL_PPS in kinds:
        return kinds[_NAL_SPS], kinds[_NAL_PPS]
    return None


def video_sample(annex_b: bytes, frames: int = 1, known: Collection[bytes] = ()) -> Sample:
    """Return an access unit in the form of an MP4: with sizes instead of start codes.

    :param frames: frames for which it is shown.
    :param known: parameter sets of the header, which are omitted; those of another encoder are
        kept because a decoder needs them.
    """
    units = nal_units(annex_b)
    kept = [u for u in units if u[0] & 31 != _NAL_DELIMITER and u not in known]
    data = b"".join(struct.pack(">I", len(unit)) + unit for unit in kept)
    return Sample(data, frames * FRAME_TICKS, any(unit[0] & 31 == _NAL_IDR for unit in kept))


def header(video: VideoTrack, audio: AudioTrack, comment: str) -> bytes:
    """Return the beginning of the file: `ftyp` and `moov`."""
    movie = _box(
        b"moov",
        _full(
            b"mvhd",
            struct.pack(">4I", 0, 0, _MOVIE_TIMESCALE, 0),
            struct.pack(">IH10x", 0x10000, 0x100) + _MATRIX + bytes(24),
            struct.pack(">I", 3),
        ),
        _video_trak(video),
        _audio_trak(audio),
        _box(b"mvex", _trex(_VIDEO), _trex(_AUDIO)),
        _metadata(comment),
    )
    return _box(b"ftyp", b"iso6", struct.pack(">I", 0), b"iso6isommp42avc1") + movie


def fragment(
    sequence: int, video: list[Sample], video_start: int, audio: list[Sample], audio_start: int
) -> bytes:
    """Return a `moof` and its `mdat` with the next samples of both tracks.

    :param sequence: number of the fragment, from 1.
    :param video: next samples of the video track; may be empty.
    :param video_start: ticks of the video track before these samples.
    :param audio: next samples of the audio track; may be empty.
    :param audio_start: ticks of the audio track before these samples.
    """
    tracks = [(_VIDEO, video, video_start), (_AUDIO, audio, audio_start)]
    tracks = [track for track in tracks if track[1]]

    def moof(data_offset: int) -> bytes:
        trafs = []
        for track_id, samples, start in tracks:
            trafs.append(
                _box(
                    b"traf",
                    _full(b"tfhd", struct.pack(">I", track_id), flags=0x020000),
                    _full(b"tfdt", struct.pack(">Q", start), version=1),
                    _trun(samples, data_offset),
                )
            )
            data_offset += sum(len(sample.data) for sample in samples)
        return _box(b"moof", _full(b"mfhd", struct.pack(">I", sequence)), *trafs)

    # Offsets count from the first byte of `moof`; its size does not depend on them.
    head = moof(len(moof(0)) + 8)
    return head + _box(b"mdat", *(sample.data for _, samples, _ in tracks for sample in samples))


def _box(kind: bytes, *parts: bytes) -> bytes:
    body = b"".join(parts)
    return struct.pack(">I", len(body) + 8) + kind + body


def _full(kind: bytes, *parts: bytes, version: int = 0, flags: int = 0) -> bytes:
    return _box(kind, struct.pack(">I", version << 24 | flags), *parts)


def _trun(samples: list[Sample], data_offset: int) -> bytes:
    table = b"".join(
        struct.pack(">3I", s.duration, len(s.data), _SYNC if s.sync else _NO_SYNC) for s in samples
    )
    return _full(b"trun", struct.pack(">Ii", len(samples), data_offset), table, flags=0x000701)


def _trex(track_id: int) -> bytes:
    return _full(b"trex", struct.pack(">5I", track_id, 1, 0, 0, 0))


def _trak(
    track_id: int,
    timescale: int,
    size: tuple[int, int],
    volume: int,
    handler: bytes,
    name: bytes,
    media_header: bytes,
    sample_entry: bytes,
) -> bytes:
    tkhd = _full(
        b"tkhd",
        struct.pack(">5I8x", 0, 0, track_id, 0, 0),
        struct.pack(">4H", 0, 0, volume, 0) + _MATRIX,
        struct.pack(">2I", size[0] << 16, size[1] << 16),
        flags=7,  # enabled, in movie, in preview
    )
    data_information = _box(b"dinf", _full(b"dref", struct.pack(">I", 1), _full(b"url ", flags=1)))
    no_samples = [_full(kind, bytes(4)) for kind in (b"stts", b"stsc", b"stco")]
    table = _box(
        b"stbl",
        _full(b"stsd", struct.pack(">I", 1), sample_entry),
        *no_samples,
        _full(b"stsz", bytes(8)),
    )
    media = _box(
        b"mdia",
        _full(b"mdhd", struct.pack(">4I2H", 0, 0, timescale, 0, _UNDETERMINED, 0)),
        _full(b"hdlr", bytes(4) + handler + bytes(12) + name + b"\0"),
        _box(b"minf", media_header, data_information, table),
    )
    return _box(b"trak", tkhd, media)


def _video_trak(track: VideoTrack) -> bytes:
    sps, pps = track.sps, track.pps
    config = bytes((1, sps[1], sps[2], sps[3], 0xFF, 0xE1))
    config += struct.pack(">H", len(sps)) + sps + b"\1" + struct.pack(">H", len(pps)) + pps
    if sps[1] in _HIGH_PROFILES:
        config += bytes((0xFD, 0xF8, 0xF8, 0))  # 4:2:0, 8 bits
    entry = _box(
        b"avc1",
        struct.pack(">6xH16x2H", 1, track.width, track.height),
        struct.pack(">3IH", 0x480000, 0x480000, 0, 1) + bytes(32) + struct.pack(">Hh", 24, -1),
        _box(b"avcC", config),
    )
    return _trak(
        _VIDEO,
        FRAME_TICKS * track.frame_rate,
        (track.width, track.height),
        0,
        b"vide",
        b"video",
        _full(b"vmhd", bytes(8), flags=1),
        entry,
    )


def _audio_trak(track: AudioTrack) -> bytes:
    def descriptor(tag: int, body: bytes) -> bytes:
        return bytes((tag, len(body))) + body

    decoder = descriptor(4, struct.pack(">BB3xII", 0x40, 0x15, 0, 0) + descriptor(5, track.config))
    entry = _box(
        b"mp4a",
        struct.pack(">6xH8x2H4xI", 1, track.channels, 16, track.rate << 16),
        _full(b"esds", descriptor(3, struct.pack(">HB", 1, 0) + decoder + descriptor(6, b"\2"))),
    )
    return _trak(
        _AUDIO,
        track.rate,
        (0, 0),
        0x100,
        b"soun",
        b"sound",
        _full(b"smhd", bytes(4)),
        entry,
    )


def _metadata(comment: str) -> bytes:
    text = _box(b"\xa9cmt", _box(b"data", struct.pack(">2I", 1, 0), comment.encode()))
    handler = _full(b"hdlr", bytes(4) + b"mdirappl" + bytes(9))
    return _box(b"udta", _full(b"meta", handler, _box(b"ilst", text)))
