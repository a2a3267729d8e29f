"""Acted English speech without transcripts: the dialogues of three adventure games in Debian.

    python -m talkingface_research.audio_features.training.read_dialogues --packages DIR --out DIR

DIR holds the unpacked packages `flight-of-the-amazon-queen`, `beneath-a-steel-sky` and `drascula`
(freeware; each package's copyright file names its terms). Writes dialogues_queen, dialogues_sky
and dialogues_drascula, each .wav and .npz, as `synthesise` does, with all phones unknown; `teach`
finds them. The container formats are documented by ScummVM.
"""

from __future__ import annotations

import argparse
import io
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import av
import numba
import numpy as np
import soxr
from numpy.typing import NDArray

from talkingface.contract.rates import SAMPLE_RATE
from talkingface_research.audio_features.training.phones import UNKNOWN
from talkingface_research.audio_features.training.synthesise import Audio, Clip, write_stream

RATE = 11_025  # of all three games
SHORTEST, LONGEST = 0.8, 25.0  # seconds of a line
SKY_SPEECH = range(50_000, 60_000)  # file numbers; the others are effects and images
SKY_HEADER = 22  # bytes
Bytes = NDArray[np.uint8]


def _resampled(samples: NDArray[np.float32]) -> Audio:
    return np.asarray(soxr.resample(samples, RATE, SAMPLE_RATE), np.float32)


def _unsigned(data: bytes) -> NDArray[np.float32]:
    return (np.frombuffer(data, np.uint8).astype(np.float32) - 128.0) / 128.0


def queen(packages: Path) -> Iterator[Audio]:
    """Lines of `Flight of the Amazon Queen`: MP3 in one archive that begins with a table."""
    archive = next(packages.glob("flight-of-the-amazon-queen/**/queen.1c")).read_bytes()
    (entries,) = struct.unpack_from(">H", archive, 13)
    for index in range(entries):
        name, _, offset, size = struct.unpack_from(">12sBII", archive, 15 + 21 * index)
        line = name.rstrip(b"\0").decode()
        if not line.endswith(".SB") or not line[:6].isdigit():
            continue
        file = io.BytesIO(archive[offset : offset + size])
        with av.open(file, mode="r", format="mp3") as container:
            frames = [frame.to_ndarray()[0] for frame in container.decode(audio=0)]
        if frames:
            yield _resampled(np.concatenate(frames).astype(np.float32))


def sky(packages: Path) -> Iterator[Audio]:
    """Lines of `Beneath a Steel Sky`: 8-bit audio after a header, packed by RNC method 1."""
    folder = next(packages.glob("beneath-a-steel-sky/**/sky.dsk")).parent
    disk, table = (folder / "sky.dsk").read_bytes(), (folder / "sky.dnr").read_bytes()
    (entries,) = struct.unpack_from("<I", table)
    for index in range(entries):
        entry = table[4 + 8 * index : 12 + 8 * index]
        number = int.from_bytes(entry[:2], "little")
        position = int.from_bytes(entry[2:5], "little")
        offset = (position & 0x7FFFFF) << (4 if position >> 23 else 0)
        size = int.from_bytes(entry[5:8], "little") & 0x3FFFFF
        body = disk[offset + SKY_HEADER : offset + size]
        if number in SKY_SPEECH and body[:4] == b"RNC\x01":
            (length,) = struct.unpack_from(">I", body, 4)
            padded = np.frombuffer(body + bytes(8), np.uint8)
            yield _resampled(_unsigned(unpack(padded, length).tobytes()))


def drascula(packages: Path) -> Iterator[Audio]:
    """Lines of `Drascula`: raw 8-bit audio, a file each."""
    folder = next(packages.glob("drascula/**/drascula/en"))
    for path in sorted(folder.glob("*.ALS")):
        if not path.stem.startswith("S"):  # effects
            yield _resampled(_unsigned(path.read_bytes()))


# State of a bit reader: buffered bits, their number, and the index of the next bytes.
BITS, COUNT, NEXT = 0, 1, 2


@numba.njit(cache=True)
def _refill(data: Bytes, reader: NDArray[np.int64]) -> None:
    """Add 16 bits to the buffer, least significant first."""
    position = reader[NEXT]
    word = np.int64(data[position]) | np.int64(data[position + 1]) << 8
    reader[BITS] |= word << reader[COUNT]
    reader[COUNT] += 16


@numba.njit(cache=True)
def _skip(data: Bytes, reader: NDArray[np.int64], bits: int) -> None:
    reader[BITS] >>= bits
    reader[COUNT] -= bits
    if reader[COUNT] < 16:
        reader[NEXT] += 2
        _refill(data, reader)


@numba.njit(cache=True)
def _bits(data: Bytes, reader: NDArray[np.int64], bits: int) -> int:
    value = reader[BITS] & ((1 << bits) - 1)
    _skip(data, reader, bits)
    return int(value)


@numba.njit(cache=True)
def _read_tree(data: Bytes, reader: NDArray[np.int64]) -> NDArray[np.int64]:
    """Read a canonical Huffman tree: (leaves, 3) code, number of bits, value."""
    leaves = _bits(data, reader, 5)
    sizes = np.zeros(leaves, np.int64)
    for i in range(leaves):
        sizes[i] = _bits(data, reader, 4)
    tree = np.zeros((leaves, 3), np.int64)
    code, k = 0, 0
    for size in range(1, 16):
        for i in range(leaves):
            if sizes[i] == size:
                for b in range(size):  # codes are stored with their first bit last
                    tree[k, 0] |= ((code >> b) & 1) << (size - 1 - b)
                tree[k, 1], tree[k, 2] = size, i
                code += 1
                k += 1
        code <<= 1
    return tree[:k]


@numba.njit(cache=True)
def _value(data: Bytes, reader: NDArray[np.int64], tree: NDArray[np.int64]) -> int:
    """Read a value by a tree: 0, 1, or a power of two and as many further bits."""
    for code, size, value in tree:
        if reader[BITS] & ((1 << size) - 1) == code:
            _skip(data, reader, size)
            if value < 2:
                return int(value)
            return int((1 << (value - 1)) | _bits(data, reader, value - 1))
    return 0


@numba.njit(cache=True)
def unpack(data: Bytes, length: int) -> Bytes:
    """Unpack data of Rob Northen's method 1: literal runs, and copies of earlier output.

    :param data: from the signature on, followed by eight zero bytes
    :param length: bytes after unpacking
    """
    out = np.zeros(length, np.uint8)
    reader = np.array([0, 0, 18], np.int64)
    _refill(data, reader)
    _skip(data, reader, 2)  # flags: locked, key
    written = 0
    while written < length:
        runs = _read_tree(data, reader)
        distances = _read_tree(data, reader)
        lengths = _read_tree(data, reader)
        pairs = _bits(data, reader, 16)
        for pair in range(pairs):
            run = min(_value(data, reader, runs), length - written)
            if run:
                position = reader[NEXT]
                out[written : written + run] = data[position : position + run]
                written += run
                # The last 16 buffered bits were read from the run's bytes.
                reader[NEXT] += run
                reader[COUNT] -= 16
                reader[BITS] &= (1 << reader[COUNT]) - 1
                _refill(data, reader)
            if pair == pairs - 1:
                break
            distance = _value(data, reader, distances) + 1
            for _ in range(min(_value(data, reader, lengths) + 2, length - written)):
                out[written] = out[written - distance]
                written += 1
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--packages", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    games: list[Callable[[Path], Iterator[Audio]]] = [queen, sky, drascula]
    for index, game in enumerate(games):
        lines = [
            Clip(audio, [UNKNOWN], [len(audio) / SAMPLE_RATE])
            for audio in game(arguments.packages)
            if SHORTEST <= len(audio) / SAMPLE_RATE <= LONGEST
        ]
        write_stream(arguments.out / f"dialogues_{game.__name__}", iter(lines), 200 + index)
        minutes = sum(len(line.audio) for line in lines) / SAMPLE_RATE / 60
        print(f"{game.__name__}: {len(lines)} lines, {minutes:.1f} min", flush=True)


if __name__ == "__main__":
    main()
