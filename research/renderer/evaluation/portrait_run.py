"""One portrait through all poses, and everything that is measured of it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from talkingface.renderer.analysis import AnalysedPortrait, PortraitError
from talkingface.renderer.geometry.portrait import BLINKS, PreparedPortrait
from talkingface_research.renderer.evaluation import features, flow, sheets
from talkingface_research.renderer.evaluation.face_recognition import DESCRIPTOR
from talkingface_research.renderer.evaluation.models import studio
from talkingface_research.renderer.evaluation.offline_renderer import Drawn, Painter, prepared
from talkingface_research.renderer.evaluation.pictures import detail, sharpness
from talkingface_research.renderer.evaluation.poses import NEUTRAL, SHUT_EYES, Pose, poses, shown
from talkingface_research.renderer.evaluation.readback import AXES, from_rest, iris_angle, read
from talkingface_research.renderer.evaluation.regions import Regions, regions

Array = NDArray[np.float32]
Image = NDArray[np.uint8]
cv: Any = cv2  # OpenCV's stubs do not tell element types

COLUMNS = 6  # of a portrait's sheet
REENCODED = 60  # JPEG quality of the photo that identity is compared with
LIDS = list(AXES).index("lids")
SHUT_ALREADY = 0.5  # of a blink in the photo
LEAST_AREA = 400  # pixels of skin or hair whose detail is compared
JUMP_CLEARANCE = 9  # pixels about a jump of the flow whose light steps are no detail


def _unknown() -> Array:
    return np.full(DESCRIPTOR, np.nan, np.float32)


@dataclass
class Sitting:
    """What was measured of one portrait."""

    name: str
    refused: str = ""  # why there is no portrait
    descriptor: Array = field(default_factory=_unknown)  # (128,) of the photo
    reencoded: Array = field(default_factory=_unknown)  # (128,) of the photo as a strong JPEG
    descriptors: dict[str, Array] = field(default_factory=dict)  # by hard pose, where a face is
    lost: list[str] = field(default_factory=list)  # poses in which no face is found any more
    readings: dict[str, Array] = field(default_factory=dict)  # by pose, (8,) from rest
    lids: float = np.nan  # height of the photo's eyes as read, face widths
    irises: dict[str, float] = field(default_factory=dict)  # by gaze sideways, yaw by pixels
    eyes_seen: bool = True  # not hidden by dark glasses, and open: there is something to move
    # By measure and pose.
    figures: dict[str, dict[str, float]] = field(default_factory=lambda: defaultdict(dict))


def found(
    sittings: Sequence[Sitting], figure: str, names: Sequence[str]
) -> list[tuple[float, str]]:
    """A figure of all portraits in some poses, each with the name of its picture."""
    return [
        (one.figures[figure][name], f"{one.name}, {name}")
        for one in sittings
        for name in names
        if name in one.figures[figure]
    ]


def median(values: Sequence[tuple[float, str]]) -> float:
    """Of what `found` gives; not a number for nothing."""
    return float(np.median([value for value, _ in values])) if values else float("nan")


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
    out.eyes_seen = _eyes_seen(painter.portrait)
    areas = regions(analysed.landmarks, analysed.matte)
    photo = _photo(out, analysed, areas)
    out.figures["exact"]["own"] = float(
        np.array_equal(painter(painter.portrait.own_motion), analysed.frame)
    )
    tiles = [sheets.tile(analysed.frame, f"{path.stem} photo")]
    names: list[str] = []
    seen: list[Array] = []
    rest: tuple[Image, Array] | None = None
    shutters: dict[str, Image] = {}
    looked_at = {pose.name for pose in shown()}
    for pose in poses():
        traced = pose.name in looked_at
        drawn = painter.draw(pose.motion, traced=traced)
        if traced:
            tiles.append(sheets.tile(drawn.image, pose.name))
            _surface(out, pose, drawn, analysed, areas, photo)
        found = here.analyser.landmarks(drawn.image)
        if found is None:
            out.lost.append(pose.name)
            continue
        names.append(pose.name)
        seen.append(found)
        if pose.name == NEUTRAL:
            rest = drawn.image, found
            _line(out, "shut", drawn.image, found)
        if pose.hard:
            out.descriptors[pose.name] = here.recogniser(drawn.image, found)
        if rest is not None:
            _eyes(out, pose, drawn.image, found, rest, painter)
            if pose.axis == "lids":
                shutters[pose.name] = drawn.image
    if rest is not None:
        readings = read(np.stack([*seen, analysed.landmarks]), painter.portrait.fit)
        out.lids = float(readings[-1, LIDS])
        still = readings[names.index(NEUTRAL)]
        out.readings = dict(zip(names, from_rest(readings[:-1], still), strict=True))
        if SHUT_EYES in out.readings:
            share = float(out.readings[SHUT_EYES][LIDS] / still[LIDS])
            out.figures["shut"][SHUT_EYES] = share
        for name, gone in features.covered(shutters, rest, SHUT_EYES).items():
            out.figures["covered"][name] = gone
    sheets.write(report / "portraits" / f"{path.stem}.png", sheets.grid(tiles, COLUMNS))
    return out


def _photo(out: Sitting, analysed: AnalysedPortrait, areas: Regions) -> Array:
    """Measure the photo itself; its detail (512, 512)."""
    here = studio()
    frame = analysed.frame
    seen = here.analyser.landmarks(frame)
    marks = analysed.landmarks if seen is None else seen
    out.descriptor = here.recogniser(frame, marks)
    _, data = cv2.imencode(".jpg", frame[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, REENCODED])
    again = cv2.imdecode(data, cv2.IMREAD_COLOR)[..., ::-1]
    out.reencoded = here.recogniser(np.ascontiguousarray(again, np.uint8), marks)
    out.figures["opening"]["photo"] = features.opening_in_picture(marks)
    _line(out, "photo", frame, marks)
    whites = [features.white(frame, marks, eye) for eye in range(2)]
    if whites[0] is not None and whites[1] is not None:
        out.figures["white"]["photo"] = float(np.linalg.norm(whites[0] - whites[1]))
    energy = detail(frame)
    # What any warp loses that does not fall on whole pixels.
    shift = np.array([[1, 0, 0.5], [0, 1, 0.5]], np.float32)
    shifted = cv.warpAffine(frame, shift, frame.shape[1::-1], flags=cv.INTER_CUBIC)
    for name, where in (("skin", areas.skin), ("hair", areas.hair)):
        if where.sum() >= LEAST_AREA:
            out.figures[name]["photo"] = sharpness(detail(shifted), energy, where)
    return energy


def _surface(
    out: Sitting, pose: Pose, drawn: Drawn, analysed: AnalysedPortrait, areas: Regions, photo: Array
) -> None:
    """Folds and stretching, detail kept, and what should have stood still."""
    field, carried = drawn.warped.flow, drawn.warped.flow_weight
    assert field is not None and carried is not None
    judged = flow.surface(field, carried, drawn.image, analysed.frame, areas.head)
    for name, part in (
        ("folded", judged.folded), ("stretched", judged.stretched), ("seams", judged.seams)
    ):  # fmt: skip
        out.figures[name][pose.name] = judged.share(part)
    energy, wanted = detail(drawn.image), flow.look(photo, field)
    clear = cv.dilate(flow.jumps(field).astype(np.uint8), np.ones((JUMP_CLEARANCE,) * 2)) == 0
    for name, where in (("skin", areas.skin), ("hair", areas.hair)):
        there = (flow.look(where.astype(np.float32), field) > 0.99) & clear
        if there.sum() >= LEAST_AREA:
            out.figures[name][pose.name] = sharpness(energy, wanted, there)
    change = np.abs(drawn.image.astype(np.float32) - analysed.frame).mean(axis=2)
    for name, where in (("background", areas.background), ("shoulders", areas.shoulders)):
        if where.any():
            out.figures[name][pose.name] = float(change[where].mean())


def _eyes_seen(portrait: PreparedPortrait) -> bool:
    visible = max(eye.visible for eye in portrait.eyes)
    return visible > 0.5 and float(portrait.fit.coefficients[BLINKS].mean()) < SHUT_ALREADY


def _line(out: Sitting, name: str, image: Image, landmarks: Array) -> None:
    line = features.lip_line(image, landmarks)
    out.figures["dark line"][name], out.figures["light line"][name] = line
    out.figures["gap"][name] = features.opening_in_picture(landmarks)


def _eyes(
    out: Sitting,
    pose: Pose,
    image: Image,
    landmarks: Array,
    rest: tuple[Image, Array],
    painter: Painter,
) -> None:
    """Irises and whites of looking eyes; what shut ones leave of the open eye's contrast."""
    if pose.name == SHUT_EYES:
        opened = features.contrast(*rest)
        out.figures["contrast"][pose.name] = features.contrast(image, rest[1]) / opened
    if pose.axis == "gaze yaw":  # upwards and downwards the lids cover other parts of the iris
        shift, score = features.iris_shift(image, *rest)
        if np.isfinite(score):
            out.irises[pose.name] = float(iris_angle(shift, painter.portrait.fit.camera)[0])
            out.figures["iris"][pose.name] = score
    if not (pose.hard and pose.axis.startswith("gaze")):
        return
    apart = []
    for eye in range(2):
        before, now = (features.white(*one, eye) for one in (rest, (image, landmarks)))
        if before is not None and now is not None:
            apart.append(now - before)
    if apart:
        out.figures["white"][pose.name] = float(np.linalg.norm(apart, axis=1).mean())
        out.figures["white light"][pose.name] = float(np.mean([one[0] for one in apart]))
