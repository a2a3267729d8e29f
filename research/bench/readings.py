"""What the pictures of a recording show: lips, irises and head, read from the decoded pictures.

Read by the project's own landmarks (`renderer.analysis`), a network that looks at pixels and knows
nothing of how they were made, and only where asked: it takes about 20 ms a picture.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from talkingface.client import OUTPUT_KIND_H264, OutputKind
from talkingface.renderer.analysis import FaceAnalyser
from talkingface.renderer.analysis.analyser import head_rotation
from talkingface.renderer.face.landmarks import EYE_CORNERS, IRISES
from talkingface_research.bench.recording import Piece
from talkingface_research.renderer.evaluation.readback import MIDDLE_LIPS

Array = NDArray[np.float64]
Image = NDArray[np.uint8]
cv: Any = cv2  # OpenCV's stubs do not tell element types

_CHEEKS = (234, 454)


@dataclass(frozen=True)
class Curves:
    """One value a picture, NaN where it was not looked at or no face was found."""

    opening: Array  # gap of the inner lips' middle, face widths
    gaze: Array  # irises from the middle of their eyes, eye widths, > 0 to the viewer's right
    yaw: Array  # of the head, degrees, > 0 to the viewer's right
    broken: int = 0  # pictures that could not be decoded


def pictures(
    pieces: Sequence[Piece], output: OutputKind
) -> Iterator[tuple[int, Callable[[], Image]]]:
    """The pictures that can be decoded, in order: place in `pieces`, and what gives it in RGB."""
    if output != OUTPUT_KIND_H264:
        for i, piece in enumerate(pieces):
            image = cv.imdecode(np.frombuffer(piece.data, np.uint8), cv.IMREAD_COLOR)
            if image is not None:
                yield i, lambda image=image: image[..., ::-1]  # type: ignore[misc]
        return
    decoder = av.CodecContext.create("h264", "r")
    for i in range(len(pieces) + 1):
        packet = av.Packet(pieces[i].data) if i < len(pieces) else None
        if packet is not None:
            packet.pts = i
        try:
            frames = decoder.decode(packet)
        except av.FFmpegError:
            continue
        for frame in frames:
            yield frame.pts, lambda frame=frame: frame.to_ndarray(format="rgb24")  # type: ignore[misc]


def read(
    pieces: Sequence[Piece],
    output: OutputKind,
    wanted: NDArray[np.bool_],
) -> Curves:
    """Read the wanted pictures.

    :param wanted: (n,) which.
    """
    analyser = FaceAnalyser()
    values = np.full((len(pieces), 3), np.nan)
    decoded = 0
    for i, picture in pictures(pieces, output):
        decoded += 1
        if not wanted[i]:
            continue
        marks = analyser.landmarks(np.ascontiguousarray(picture()))
        if marks is not None:
            values[i] = measure(marks)
    opening, gaze, yaw = values.T
    return Curves(opening, gaze, yaw, broken=len(pieces) - decoded)


def measure(marks: NDArray[Any]) -> tuple[float, float, float]:
    """Opening, gaze and yaw of one face as `Curves` has them, from (478, 3) landmarks."""
    flat = marks[:, :2].astype(np.float64)
    gap = np.mean([np.linalg.norm(flat[a] - flat[b]) for a, b in MIDDLE_LIPS])
    width = np.linalg.norm(flat[_CHEEKS[0]] - flat[_CHEEKS[1]])
    places = []
    for iris, (left, right) in zip(IRISES, EYE_CORNERS, strict=True):
        across = flat[right] - flat[left]
        middle = (flat[left] + flat[right]) / 2
        places.append((flat[iris] - middle) @ across / (across @ across))
    return float(gap / width), float(np.mean(places)), head_rotation(marks)[1]


def sheet(pieces: Sequence[Piece], output: OutputKind, titles: dict[int, str]) -> Image:
    """Some pictures side by side, four a row, each with its title.

    :param titles: by place in `pieces`.
    """
    tiles = []
    for i, picture in pictures(pieces, output):
        if i not in titles:
            continue
        tile = cv.resize(picture(), (320, 320), interpolation=cv.INTER_AREA)
        for colour, thick in (((0, 0, 0), 3), ((255, 255, 0), 1)):
            cv.putText(tile, titles[i], (6, 18), cv.FONT_HERSHEY_SIMPLEX, 0.45, colour, thick)
        tiles.append(tile)
    tiles += [np.full_like(tiles[0], 128)] * (-len(tiles) % 4)
    rows = [np.concatenate(tiles[i : i + 4], 1) for i in range(0, len(tiles), 4)]
    return np.asarray(np.concatenate(rows), np.uint8)
