"""All measurements of one portrait in all poses."""

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
from talkingface_research.renderer.evaluation import contact_sheets, features, flow
from talkingface_research.renderer.evaluation.face_recognition import DESCRIPTOR
from talkingface_research.renderer.evaluation.image_metrics import detail, sharpness
from talkingface_research.renderer.evaluation.models import models
from talkingface_research.renderer.evaluation.offline_renderer import (
    OfflineRenderer,
    RenderedFrame,
    prepare_analysed,
)
from talkingface_research.renderer.evaluation.poses import (
    NEUTRAL,
    SHUT_EYES,
    Pose,
    poses,
    sheet_poses,
)
from talkingface_research.renderer.evaluation.readback import AXES, from_rest, iris_angle, measure
from talkingface_research.renderer.evaluation.regions import Regions, regions

Array = NDArray[np.float32]
Image = NDArray[np.uint8]
cv: Any = cv2  # OpenCV's stubs have no element types

COLUMNS = 6  # of a portrait's sheet
REENCODED = 60  # JPEG quality of the photo that is the baseline of identity
LIDS = list(AXES).index("lids")
CLOSED_IN_PHOTO = 0.5  # blink coefficient of the photo from which its eyes count as closed
LEAST_AREA = 400  # pixels of skin or hair whose detail is compared
JUMP_CLEARANCE = 9  # pixels about a jump of the flow that are excluded from detail


def _unknown() -> Array:
    return np.full(DESCRIPTOR, np.nan, np.float32)


@dataclass
class PortraitMeasurements:
    """The measurements of one portrait."""

    name: str
    refused: str = ""  # the reason, where the photo is not usable
    descriptor: Array = field(default_factory=_unknown)  # (128,) of the photo
    reencoded: Array = field(default_factory=_unknown)  # (128,) of the photo as a strong JPEG
    descriptors: dict[str, Array] = field(default_factory=dict)  # by hard pose, where a face is
    lost: list[str] = field(default_factory=list)  # poses in which no face is found
    readback: dict[str, Array] = field(default_factory=dict)  # by pose, (8,) from rest
    lids: float = np.nan  # measured height of the photo's eyes, face widths
    irises: dict[str, float] = field(default_factory=dict)  # by sideways gaze: yaw in degrees
    eyes_visible: bool = True  # open, and not hidden by dark glasses
    # By measure and pose.
    figures: dict[str, dict[str, float]] = field(default_factory=lambda: defaultdict(dict))


def found(
    portraits: Sequence[PortraitMeasurements], figure: str, names: Sequence[str]
) -> list[tuple[float, str]]:
    """A figure of all portraits in some poses, each with portrait and pose."""
    return [
        (one.figures[figure][name], f"{one.name}, {name}")
        for one in portraits
        for name in names
        if name in one.figures[figure]
    ]


def median(values: Sequence[tuple[float, str]]) -> float:
    """Median of what `found` returns; NaN for nothing."""
    return float(np.median([value for value, _ in values])) if values else float("nan")


def measure_portrait(path: Path, report: Path) -> PortraitMeasurements:
    """Measure one portrait and write its contact sheet."""
    loaded = models()
    out = PortraitMeasurements(path.stem)
    try:
        analysed = loaded.analyser.analyse(path.read_bytes())
    except PortraitError as error:
        out.refused = str(error)
        return out
    renderer = OfflineRenderer(prepare_analysed(analysed), loaded.inpainter)
    out.eyes_visible = _eyes_visible(renderer.portrait)
    areas = regions(analysed.landmarks, analysed.matte)
    photo = _photo(out, analysed, areas)
    out.figures["exact"]["own"] = float(
        np.array_equal(renderer(renderer.portrait.own_motion), analysed.frame)
    )
    tiles = [contact_sheets.tile(analysed.frame, f"{path.stem} photo")]
    names: list[str] = []
    seen: list[Array] = []
    rest: tuple[Image, Array] | None = None
    lid_frames: dict[str, Image] = {}
    on_sheet = {pose.name for pose in sheet_poses()}
    for pose in poses():
        traced = pose.name in on_sheet
        rendered = renderer.render(pose.motion, traced=traced)
        if traced:
            tiles.append(contact_sheets.tile(rendered.image, pose.name))
            _surface(out, pose, rendered, analysed, areas, photo)
        found = loaded.analyser.landmarks(rendered.image)
        if found is None:
            out.lost.append(pose.name)
            continue
        names.append(pose.name)
        seen.append(found)
        if pose.name == NEUTRAL:
            rest = rendered.image, found
            _line(out, "shut", rendered.image, found)
        if pose.hard:
            out.descriptors[pose.name] = loaded.face_recognition(rendered.image, found)
        if rest is not None:
            _eyes(out, pose, rendered.image, found, rest, renderer)
            if pose.axis == "lids":
                lid_frames[pose.name] = rendered.image
    if rest is not None:
        values = measure(np.stack([*seen, analysed.landmarks]), renderer.portrait.fit)
        out.lids = float(values[-1, LIDS])
        still = values[names.index(NEUTRAL)]
        out.readback = dict(zip(names, from_rest(values[:-1], still), strict=True))
        if SHUT_EYES in out.readback:
            share = float(out.readback[SHUT_EYES][LIDS] / still[LIDS])
            out.figures["shut"][SHUT_EYES] = share
        for name, covered in features.covered(lid_frames, rest, SHUT_EYES).items():
            out.figures["covered"][name] = covered
    contact_sheets.write(
        report / "portraits" / f"{path.stem}.png", contact_sheets.grid(tiles, COLUMNS)
    )
    return out


def _photo(out: PortraitMeasurements, analysed: AnalysedPortrait, areas: Regions) -> Array:
    """Measure the photo itself; return its detail (512, 512)."""
    loaded = models()
    frame = analysed.frame
    seen = loaded.analyser.landmarks(frame)
    marks = analysed.landmarks if seen is None else seen
    out.descriptor = loaded.face_recognition(frame, marks)
    _, data = cv2.imencode(".jpg", frame[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, REENCODED])
    again = cv2.imdecode(data, cv2.IMREAD_COLOR)[..., ::-1]
    out.reencoded = loaded.face_recognition(np.ascontiguousarray(again, np.uint8), marks)
    out.figures["opening"]["photo"] = features.opening_in_frame(marks)
    _line(out, "photo", frame, marks)
    whites = [features.white(frame, marks, eye) for eye in range(2)]
    if whites[0] is not None and whites[1] is not None:
        out.figures["white"]["photo"] = float(np.linalg.norm(whites[0] - whites[1]))
    energy = detail(frame)
    # The loss of any warp by a fraction of a pixel, as a baseline.
    shift = np.array([[1, 0, 0.5], [0, 1, 0.5]], np.float32)
    shifted = cv.warpAffine(frame, shift, frame.shape[1::-1], flags=cv.INTER_CUBIC)
    for name, where in (("skin", areas.skin), ("hair", areas.hair)):
        if where.sum() >= LEAST_AREA:
            out.figures[name]["photo"] = sharpness(detail(shifted), energy, where)
    return energy


def _surface(
    out: PortraitMeasurements,
    pose: Pose,
    rendered: RenderedFrame,
    analysed: AnalysedPortrait,
    areas: Regions,
    photo: Array,
) -> None:
    """Measure folds and stretching, detail, and change where nothing should move."""
    field, carried = rendered.warped.flow, rendered.warped.flow_weight
    assert field is not None and carried is not None
    surface = flow.surface(field, carried, rendered.image, analysed.frame, areas.head)
    for name, part in (
        ("folded", surface.folded), ("stretched", surface.stretched), ("seams", surface.seams)
    ):  # fmt: skip
        out.figures[name][pose.name] = surface.share(part)
    energy, wanted = detail(rendered.image), flow.sample(photo, field)
    clear = cv.dilate(flow.jumps(field).astype(np.uint8), np.ones((JUMP_CLEARANCE,) * 2)) == 0
    for name, where in (("skin", areas.skin), ("hair", areas.hair)):
        there = (flow.sample(where.astype(np.float32), field) > 0.99) & clear
        if there.sum() >= LEAST_AREA:
            out.figures[name][pose.name] = sharpness(energy, wanted, there)
    change = np.abs(rendered.image.astype(np.float32) - analysed.frame).mean(axis=2)
    for name, where in (("background", areas.background), ("shoulders", areas.shoulders)):
        if where.any():
            out.figures[name][pose.name] = float(change[where].mean())


def _eyes_visible(portrait: PreparedPortrait) -> bool:
    visible = max(eye.visible for eye in portrait.eyes)
    return visible > 0.5 and float(portrait.fit.coefficients[BLINKS].mean()) < CLOSED_IN_PHOTO


def _line(out: PortraitMeasurements, name: str, image: Image, landmarks: Array) -> None:
    line = features.lip_line(image, landmarks)
    out.figures["dark line"][name], out.figures["light line"][name] = line
    out.figures["gap"][name] = features.opening_in_frame(landmarks)


def _eyes(
    out: PortraitMeasurements,
    pose: Pose,
    image: Image,
    landmarks: Array,
    rest: tuple[Image, Array],
    renderer: OfflineRenderer,
) -> None:
    """Measure irises and whites of turned eyes, and the contrast that closed eyes leave."""
    if pose.name == SHUT_EYES:
        opened = features.contrast(*rest)
        out.figures["contrast"][pose.name] = features.contrast(image, rest[1]) / opened
    if pose.axis == "gaze yaw":  # upwards and downwards the lids cover other parts of the iris
        shift, score = features.iris_shift(image, *rest)
        if np.isfinite(score):
            out.irises[pose.name] = float(iris_angle(shift, renderer.portrait.fit.camera)[0])
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
