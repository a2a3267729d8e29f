"""One portrait through all poses, and everything that is measured of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from talkingface.renderer.analysis import PortraitError
from talkingface.renderer.evaluation import sheets
from talkingface.renderer.evaluation.painter import Painter, prepared
from talkingface.renderer.evaluation.poses import NEUTRAL, poses
from talkingface.renderer.evaluation.reading import from_rest, read
from talkingface.renderer.evaluation.studio import studio

Array = NDArray[np.float32]
Image = NDArray[np.uint8]

COLUMNS = 6  # of a portrait's sheet
REENCODED = 60  # JPEG quality of the photo that identity is compared with


@dataclass
class Sitting:
    """What was measured of one portrait."""

    name: str
    refused: str = ""  # why there is no portrait
    descriptor: Array | None = None  # (128,) of the photo
    reencoded: Array | None = None  # (128,) of the photo as a strong JPEG
    descriptors: dict[str, Array] = field(default_factory=dict)  # by hard pose, where a face is
    lost: list[str] = field(default_factory=list)  # poses in which no face is found any more
    readings: dict[str, Array] = field(default_factory=dict)  # by pose, (8,) from rest


def sit(path: Path, report: Path) -> Sitting:
    """Measure one portrait and draw its sheet."""
    here = studio()
    out = Sitting(path.stem)
    try:
        analysed = here.analyser.analyse(path.read_bytes())
    except PortraitError as error:
        out.refused = str(error)
        return out
    painter = Painter(prepared(analysed), here.inpainter)
    person = painter.portrait.fit
    photo, seen = analysed.frame, here.analyser.landmarks(analysed.frame)
    out.descriptor = here.recogniser(photo, analysed.landmarks if seen is None else seen)
    out.reencoded = here.recogniser(_as_jpeg(photo), analysed.landmarks if seen is None else seen)
    tiles = [sheets.tile(photo, f"{path.stem} photo")]
    names, landmarks = [], []
    for pose in poses():
        drawn = painter.draw(pose.motion)
        found = here.analyser.landmarks(drawn.image)
        if pose.hard or pose.name == NEUTRAL:
            tiles.append(sheets.tile(drawn.image, pose.name))
        if found is None:
            out.lost.append(pose.name)
            continue
        names.append(pose.name)
        landmarks.append(found)
        if pose.hard:
            out.descriptors[pose.name] = here.recogniser(drawn.image, found)
    if NEUTRAL in names:
        readings = read(np.stack(landmarks), person)
        rest = readings[names.index(NEUTRAL)]
        out.readings = dict(zip(names, from_rest(readings, rest), strict=True))
    sheets.write(report / "portraits" / f"{path.stem}.png", sheets.grid(tiles, COLUMNS))
    return out


def _as_jpeg(image: Image) -> Image:
    _, data = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, REENCODED])
    return np.ascontiguousarray(cv2.imdecode(data, cv2.IMREAD_COLOR)[..., ::-1], np.uint8)
