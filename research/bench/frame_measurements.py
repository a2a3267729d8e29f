"""Lips, irises and head, measured in the decoded frames of a recording.

By the project's own landmarks (`renderer.analysis`), a network that sees pixels alone, and only in
the frames asked for: it takes about 20 ms a frame.
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
from talkingface_research.bench.recording import ReceivedChunk
from talkingface_research.renderer.evaluation.readback import MIDDLE_LIPS

Array = NDArray[np.float64]
Image = NDArray[np.uint8]
cv: Any = cv2  # OpenCV's stubs have no element types

_CHEEKS = (234, 454)  # landmarks whose distance is the width of the face


@dataclass(frozen=True)
class Curves:
    """One value a frame, NaN where it was not measured or no face was found."""

    opening: Array  # gap of the inner lips at their middle, face widths
    gaze: Array  # irises from the middle of their eyes, eye widths, > 0 to the viewer's right
    yaw: Array  # of the head, degrees, > 0 to the viewer's right
    broken: int = 0  # frames that could not be decoded


def decoded_frames(
    chunks: Sequence[ReceivedChunk], output: OutputKind
) -> Iterator[tuple[int, Callable[[], Image]]]:
    """Yield the frames that can be decoded, in order: index in `chunks`, and a function that
    returns the frame in RGB."""
    if output != OUTPUT_KIND_H264:
        for i, chunk in enumerate(chunks):
            image = cv.imdecode(np.frombuffer(chunk.data, np.uint8), cv.IMREAD_COLOR)
            if image is not None:
                yield i, lambda image=image: image[..., ::-1]  # type: ignore[misc]
        return
    decoder = av.CodecContext.create("h264", "r")
    for i in range(len(chunks) + 1):
        packet = av.Packet(chunks[i].data) if i < len(chunks) else None
        if packet is not None:
            packet.pts = i
        try:
            frames = decoder.decode(packet)
        except av.FFmpegError:
            continue
        for frame in frames:
            yield frame.pts, lambda frame=frame: frame.to_ndarray(format="rgb24")  # type: ignore[misc]


def measure_frames(
    chunks: Sequence[ReceivedChunk],
    output: OutputKind,
    wanted: NDArray[np.bool_],
) -> Curves:
    """Measure the wanted frames.

    :param chunks: (n) with a frame each
    :param wanted: (n,) which of them
    """
    analyser = FaceAnalyser()
    values = np.full((len(chunks), 3), np.nan)
    decoded = 0
    for i, frame in decoded_frames(chunks, output):
        decoded += 1
        if not wanted[i]:
            continue
        landmarks = analyser.landmarks(np.ascontiguousarray(frame()))
        if landmarks is not None:
            values[i] = measure(landmarks)
    opening, gaze, yaw = values.T
    return Curves(opening, gaze, yaw, broken=len(chunks) - decoded)


def measure(landmarks: NDArray[Any]) -> tuple[float, float, float]:
    """Opening, gaze and yaw of one face as `Curves` has them, from (478, 3) landmarks."""
    flat = landmarks[:, :2].astype(np.float64)
    gap = np.mean([np.linalg.norm(flat[a] - flat[b]) for a, b in MIDDLE_LIPS])
    width = np.linalg.norm(flat[_CHEEKS[0]] - flat[_CHEEKS[1]])
    offsets = []
    for iris, (left, right) in zip(IRISES, EYE_CORNERS, strict=True):
        across = flat[right] - flat[left]
        middle = (flat[left] + flat[right]) / 2
        offsets.append((flat[iris] - middle) @ across / (across @ across))
    return float(gap / width), float(np.mean(offsets)), head_rotation(landmarks)[1]


def sheet(chunks: Sequence[ReceivedChunk], output: OutputKind, titles: dict[int, str]) -> Image:
    """Draw some frames side by side, four a row, each with its title.

    :param titles: by index in `chunks`
    """
    tiles = []
    for i, frame in decoded_frames(chunks, output):
        if i not in titles:
            continue
        tile = cv.resize(frame(), (320, 320), interpolation=cv.INTER_AREA)
        for colour, thick in (((0, 0, 0), 3), ((255, 255, 0), 1)):
            cv.putText(tile, titles[i], (6, 18), cv.FONT_HERSHEY_SIMPLEX, 0.45, colour, thick)
        tiles.append(tile)
    tiles += [np.full_like(tiles[0], 128)] * (-len(tiles) % 4)
    rows = [np.concatenate(tiles[i : i + 4], 1) for i in range(0, len(tiles), 4)]
    return np.asarray(np.concatenate(rows), np.uint8)
