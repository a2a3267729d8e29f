"""Reenactment of a clip of a real person by a single frame of it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from talkingface.contract.motion import (
    ARKIT_DIM,
    ARKIT_INDEX,
    ARKIT_NAMES,
    DISTANCE,
    PITCH,
    ROLL,
    TRANSLATION_X,
    TRANSLATION_Y,
    neutral,
)
from talkingface.renderer.analysis import PortraitError, cut_frame
from talkingface.renderer.face.fitting import track
from talkingface.renderer.face.landmarks import LID_PAIRS, LIPS, OUTLINE
from talkingface.renderer.geometry.portrait import BLINKS, GAZES, PreparedPortrait
from talkingface_research.renderer.evaluation import contact_sheets, features
from talkingface_research.renderer.evaluation.face_recognition import distance
from talkingface_research.renderer.evaluation.image_metrics import (
    detail,
    flicker,
    psnr,
    sharpness,
    ssim,
)
from talkingface_research.renderer.evaluation.models import models
from talkingface_research.renderer.evaluation.offline_renderer import (
    OfflineRenderer,
    prepare_analysed,
)
from talkingface_research.renderer.evaluation.regions import CHEEKS, grown, hull, regions

Array = NDArray[np.float32]
Image = NDArray[np.uint8]
cv: Any = cv2  # OpenCV's stubs have no element types

FRAMES = 75  # of a clip, three seconds
STEP = 3  # frames from one comparison to the next
OPEN_LIDS = 0.85  # share of the clip's median lid height that the portrait must have
BLINK = 0.5  # share of the clip's median lid height, below which a frame is a blink
STRIP = 8  # frames of a clip's contact sheet
COLUMNS = ("real", "generated", "bare", "static")
LABELS = {"real": "real", "generated": "ours", "bare": "bare warp", "static": "static portrait"}


@dataclass
class Reenactment:
    """The measurements of one clip, by figure and column of the table."""

    name: str
    refused: str = ""
    frames: int = 0
    figures: dict[str, dict[str, float]] = field(default_factory=lambda: defaultdict(dict))
    distances: list[float] = field(default_factory=list)  # of real frames from the portrait


def reenact(path: Path, report: Path) -> Reenactment:
    """Measure one clip and write its contact sheet."""
    loaded = models()
    out = Reenactment(f"{path.parent.name}/{path.stem}")
    with av.open(str(path)) as video:
        video_frames = [
            frame.to_ndarray(format="rgb24").astype(np.uint8)
            for _, frame in zip(range(FRAMES), video.decode(video=0), strict=False)
        ]
    meshes = [(frame, loaded.analyser.landmarks(frame)) for frame in video_frames]
    seen = [(frame, mesh) for frame, mesh in meshes if mesh is not None]
    if len(seen) < 3:
        out.refused = "no face"
        return out
    points = np.stack([mesh for _, mesh in seen])[..., :2]
    start = _resting(points)
    _, portrait_file = cv2.imencode(".png", seen[start][0][..., ::-1])
    try:
        analysed = loaded.analyser.analyse(portrait_file.tobytes())
    except PortraitError as error:
        out.refused = str(error)
        return out
    real = np.stack([cut_frame(frame, analysed.to_photo)[0] for frame, _ in seen])
    points = ((points - analysed.to_photo[:, 2]) / analysed.to_photo[0, 0]).astype(np.float32)
    portrait = prepare_analysed(analysed)
    renderer = OfflineRenderer(portrait, loaded.inpainter)
    rendered = [renderer.render(motion) for motion in motions(portrait, points, start)]
    shown = {
        "real": real,
        "generated": np.stack([one.image for one in rendered]),
        "bare": np.stack([one.bare for one in rendered]),
        "static": np.broadcast_to(analysed.frame, real.shape),
    }
    out.frames = len(real)
    _compare(out, shown, points)
    _blink(out, shown, points)
    areas = regions(points[start], analysed.matte)
    around = grown(areas.face.astype(np.uint8), 0.1 * _width(points[start])) > 0
    for column, frames in shown.items():
        out.figures["flicker, face"][column] = flicker(frames, around)
        if areas.background.any():
            out.figures["flicker, background"][column] = flicker(frames, areas.background)
    own = loaded.face_recognition(analysed.frame, analysed.landmarks)
    out.distances = [
        float(distance(loaded.face_recognition(real[i], points[i]), own))
        for i in np.linspace(0, len(real) - 1, STRIP).round().astype(int)
        if i != start
    ]
    name = out.name.replace("/", "_")
    contact_sheets.write(report / "clips" / f"{name}.png", _strip(shown, points))
    return out


def motions(portrait: PreparedPortrait, landmarks: Array, start: int) -> Array:
    """The clip's motion as input of the renderer, (T, 60).

    :param landmarks: (T, 478, 2) in the portrait's frame; `start` is the portrait's own
    """
    followed = track(landmarks, portrait.fit.identity)
    out = neutral(len(landmarks))
    coefficients, camera = followed.coefficients, followed.camera
    change = coefficients - coefficients[start]
    out[:, :ARKIT_DIM] = np.clip(portrait.own_motion[:ARKIT_DIM] + change, 0, 1)
    # Lids and gaze are relative to the portrait; a coefficient of the gaze that falls below that of
    # the portrait raises the opposite one.
    out[:, BLINKS] = np.clip(change[:, BLINKS] / (1 - coefficients[start, BLINKS]), 0, 1)
    rises = np.maximum(change[:, GAZES], 0)
    falls = np.maximum(-change[:, GAZES[_opposites()]], 0)
    out[:, GAZES] = np.clip(rises + falls, 0, 1)
    out[:, PITCH : ROLL + 1] = camera.angles - camera.angles[start]
    moved = camera.translation - camera.translation[start]
    out[:, TRANSLATION_X : TRANSLATION_Y + 1] = moved / camera.scale[start]
    out[:, DISTANCE] = camera.scale[start] / camera.scale
    return out


def _opposites() -> NDArray[np.int64]:
    """Indices in `GAZES` of each direction's opposite: down - up, in - out."""
    swap = {"Down": "Up", "Up": "Down", "In": "Out", "Out": "In"}
    indices = []
    for index in GAZES:
        name = ARKIT_NAMES[index]
        direction = next(d for d in swap if name.startswith(f"eyeLook{d}"))
        indices.append(
            int(np.nonzero(ARKIT_INDEX[name.replace(direction, swap[direction])] == GAZES)[0][0])
        )
    return np.array(indices)


def _resting(landmarks: Array) -> int:
    """The frame with the mouth most closed among those with open eyes, (T, 478, 2+)."""
    mouth = np.array([features.opening_in_frame(one) for one in landmarks])
    lids = _lids(landmarks)
    return int(np.where(lids > OPEN_LIDS * np.median(lids), mouth, np.inf).argmin())


def _lids(landmarks: Array) -> Array:
    """Height of both lid openings together, (T,) pixels."""
    pairs = [pair for eye in LID_PAIRS for pair in eye]
    heights = [np.linalg.norm(landmarks[:, a, :2] - landmarks[:, b, :2], axis=1) for a, b in pairs]
    return np.asarray(np.sum(heights, axis=0), np.float32)


def _width(landmarks: Array) -> float:
    return float(np.linalg.norm(landmarks[CHEEKS[0], :2] - landmarks[CHEEKS[1], :2]))


def _compare(out: Reenactment, shown: dict[str, NDArray[np.uint8]], points: Array) -> None:
    """Compare every `STEP`-th frame of each column with the real one."""
    loaded = models()
    gathered: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for i in range(0, len(points), STEP):
        real = shown["real"][i]
        width = _width(points[i])
        face = grown(hull(points[i][list(OUTLINE)], real.shape), 0.05 * width) > 0
        mouth = grown(hull(points[i][list(LIPS)], real.shape), 0.05 * width) > 0
        energy = detail(real)
        everywhere = np.ones_like(face)
        truth = loaded.analyser.landmarks(real)
        for column in COLUMNS[1:]:
            frame = shown[column][i]
            scores = gathered[column]
            scores["PSNR, face"].append(psnr(frame, real, face))
            scores["PSNR, mouth"].append(psnr(frame, real, mouth))
            scores["PSNR, frame"].append(psnr(frame, real, everywhere))
            alike = ssim(frame, real)
            scores["SSIM, face"].append(float(alike[face].mean()))
            scores["SSIM, mouth"].append(float(alike[mouth].mean()))
            scores["sharpness, face"].append(sharpness(detail(frame), energy, face))
            found = loaded.analyser.landmarks(frame)
            if truth is None or found is None:
                continue
            apart = np.linalg.norm(found[:, :2] - truth[:, :2], axis=1) / width
            scores["landmark distance"].append(float(apart.mean()))
            scores["landmark distance, lips"].append(float(apart[list(LIPS)].mean()))
    for column, figures in gathered.items():
        for name, values in figures.items():
            out.figures[name][column] = float(np.mean(values))


def _blink(out: Reenactment, shown: dict[str, NDArray[np.uint8]], points: Array) -> None:
    """Measure how far the lids close in the clip's deepest blink, if there is one."""
    lids = _lids(points)
    opened, deepest = float(np.median(lids)), int(lids.argmin())
    if lids[deepest] > BLINK * opened:
        return
    for column in COLUMNS:
        found = models().analyser.landmarks(shown[column][deepest])
        if found is not None:
            out.figures["deepest blink"][column] = 1 - float(_lids(found[None])[0]) / opened


def _strip(shown: dict[str, NDArray[np.uint8]], points: Array) -> Image:
    """Some frames of all columns, one row each, among them that with the widest mouth."""
    mouth = np.array([features.opening_in_frame(one) for one in points])
    chosen = np.linspace(0, len(points) - 1, STRIP).round().astype(int)
    chosen[np.abs(chosen - int(mouth.argmax())).argmin()] = int(mouth.argmax())
    tiles: Sequence[Image] = [
        contact_sheets.tile(shown[column][i], f"{LABELS[column]} {i}")
        for column in COLUMNS
        for i in chosen
    ]
    return contact_sheets.grid(tiles, STRIP)
