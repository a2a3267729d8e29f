"""CPU time and memory of a frame and of a portrait, in a process that does nothing else."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from talkingface.contract.rates import MOTION_FPS
from talkingface.contract.video import RenderLevel, View, photo_size
from talkingface.renderer.analysis import PortraitError
from talkingface.renderer.geometry import PreparedPortrait
from talkingface.renderer.video_encoder import make_encoder
from talkingface.renderer.worker.frame_synthesis import finish
from talkingface.renderer.worker.viewport import Canvases, CropViewer, PhotoPixels, photo_pixels
from talkingface.v1.media_pb2 import Framing, VideoCodec, VideoFormat
from talkingface.v1.renderer_pb2 import RenderConfig
from talkingface_research.renderer.evaluation.models import models
from talkingface_research.renderer.evaluation.offline_renderer import prepare_analysed
from talkingface_research.renderer.evaluation.poses import motion_of

Array = NDArray[np.float32]

FRAMES = 30  # of talking
REPEATS = 3  # of which the fastest counts, since other processes can only slow one down
PARTS = ("geometry", "network", "finishing", "encoding")


@dataclass(frozen=True)
class Preparation:
    """Cost of preparing portraits."""

    seconds: list[float]  # CPU time of each
    megabytes: float  # at most resident
    portrait: PreparedPortrait  # the last one, with its photo's pixels
    pixels: PhotoPixels


@dataclass(frozen=True)
class Rendering:
    """Cost of rendering."""

    milliseconds: dict[str, float]  # CPU time of a frame by part of `PARTS`
    slow: float  # of a whole frame, 95th percentile
    megabytes: float


def measure_preparation(photos: list[Path]) -> Preparation | None:
    """Prepare photos one after the other; None where none can be prepared."""
    here = models()
    seconds: list[float] = []
    last: tuple[PreparedPortrait, PhotoPixels] | None = None
    for path in photos:
        content = path.read_bytes()
        began = time.process_time()
        try:
            analysed = here.analyser.analyse(content)
        except PortraitError:
            continue
        portrait = prepare_analysed(analysed)
        size = photo_size(*analysed.photo_size)
        pixels = photo_pixels(analysed.photo, analysed.frame, analysed.to_photo, size)
        seconds.append(time.process_time() - began)
        last = portrait, pixels
    return None if last is None else Preparation(seconds, _peak(), *last)


def measure_rendering(portrait: PreparedPortrait, pixels: PhotoPixels, size: int) -> Rendering:
    """Render and encode talking of `size` pixels."""
    inpainter = models().inpainter
    viewer = CropViewer(portrait, pixels, View(Framing.FRAMING_CROP, size, size, planar=True))
    config = RenderConfig(codec=VideoCodec.VIDEO_CODEC_H264)
    picture = VideoFormat(width=size, height=size, frame_rate=MOTION_FPS)
    canvases = Canvases()
    best: dict[str, float] = {}
    slow = np.inf
    for _ in range(REPEATS):
        encoder = make_encoder(config, picture)
        spent: dict[str, list[float]] = {part: [] for part in PARTS}
        clock = _Clock(spent)
        for motion in talking():
            frame = viewer.render(motion, RenderLevel.FULL, canvases)
            clock.lap("geometry")
            answer = inpainter(frame)
            clock.lap("network")
            finish(frame, *answer)
            image = viewer.show(frame)
            clock.lap("finishing")
            encoder.encode(image)
            clock.lap("encoding")
        whole = np.sum(list(spent.values()), axis=0)
        slow = min(slow, float(np.quantile(whole, 0.95)))
        for part, each in spent.items():
            best[part] = min(best.get(part, np.inf), float(np.mean(each)))
    return Rendering(best, slow, _peak())


class _Clock:
    """Milliseconds of CPU time since the last lap, by part."""

    def __init__(self, spent: dict[str, list[float]]) -> None:
        self._spent = spent
        self._last = time.process_time()

    def lap(self, part: str) -> None:
        """Count the time since the last lap for this part."""
        now = time.process_time()
        self._spent[part].append(1000 * (now - self._last))
        self._last = now


def talking() -> list[Array]:
    """Motion of a speaking head, (60,) a frame, in which everything moves."""
    at = np.arange(FRAMES) / MOTION_FPS
    mouth = np.clip(np.sin(2 * np.pi * 4 * at), 0, 1)
    return [
        motion_of(
            yaw=float(8 * np.sin(2 * np.pi * 0.4 * t)),
            pitch=float(4 * np.sin(2 * np.pi * 0.7 * t)),
            roll=float(3 * np.sin(2 * np.pi * 0.3 * t)),
            gaze=(0.0, float(5 * np.sin(2 * np.pi * 0.5 * t))),
            jawOpen=float(0.3 * opened),
            mouthFunnel=float(0.3 * (1 - opened)),
            eyeBlink=float(np.clip(1 - abs(t - 1) / 0.12, 0, 1)),
            browInnerUp=0.2,
        )
        for t, opened in zip(at, mouth, strict=True)
    ]


def _peak() -> float:
    """Largest resident size of this process so far, MB (Linux)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1000
    return float("nan")
