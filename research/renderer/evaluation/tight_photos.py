"""Portraits whose photo cuts hair, chin or a side: what is seen of the photo's border in frames.

Uncut portraits are cut, so what the photo would have shown beyond its border is known. Three
figures for each border that a frame shows, each beside that of the uncut portrait:

- *seam*: mean step of colour across the border over that across parallel lines 3 to 10 pixels away;
- *mirror*: correlation of detail just beyond the border with the mirror image of that inside;
- *detail*: amplitude of detail just beyond the border over that just inside.

A border counts as visible where a window of it (`borders.WINDOW`) has a seam above `VISIBLE`
whose step exceeds the parallel lines' by `VISIBLE_STEP` grey values; where its mirror exceeds
`MIRRORED`; or where its detail is below `BLURRED`.
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from talkingface.contract.motion import DISTANCE
from talkingface.renderer.analysis import AnalysedPortrait, PortraitError, cut_frame, decode
from talkingface_research.renderer.evaluation import contact_sheets
from talkingface_research.renderer.evaluation.borders import (
    Border,
    along,
    photo_borders,
    seams,
    shown_borders,
    strips,
)
from talkingface_research.renderer.evaluation.flow import sample
from talkingface_research.renderer.evaluation.models import models
from talkingface_research.renderer.evaluation.offline_renderer import (
    OfflineRenderer,
    prepare_analysed,
)
from talkingface_research.renderer.evaluation.poses import motion_of
from talkingface_research.report import Bar, Report, Row

Array = NDArray[np.float32]
Image = NDArray[np.uint8]
Mask = NDArray[np.bool_]
cv: Any = cv2  # OpenCV's stubs have no element types

SEED = 13
PORTRAITS = 40
CUTS = ("hair", "chin", "side", "hair and chin", "all")
# How far from the face's box a cut lies, over the box's larger side: least and most. Hair is cut
# at the forehead's upper end, a chin or cheek is just inside.
CLEARANCE = {"top": (0.02, 0.14), "bottom": (0.04, 0.14), "side": (0.05, 0.16)}
FAR = 1.15  # distance ratio
REST = "rest"
VISIBLE, VISIBLE_STEP = 2.0, 6.0  # ratio, grey values; by eye
MIRRORED, BLURRED = 0.3, 0.4  # by eye; 2 of 40 uncut photos are beyond them
COLUMNS = 7  # of a sheet
TITLES = {"generated": "ours", "real": "uncut photo"}


@dataclass(frozen=True)
class CutPhoto:
    """A part of a photo."""

    name: str
    cut: str  # one of `CUTS`
    whole: Image  # (H, W, 3) RGB
    box: tuple[int, int, int, int]  # left, top, right, bottom of the part

    @property
    def part(self) -> Image:
        """(H, W, 3) RGB."""
        left, top, right, bottom = self.box
        return np.ascontiguousarray(self.whole[top:bottom, left:right])

    def content(self) -> bytes:
        """The part as the bytes of a PNG file."""
        return bytes(cv.imencode(".png", self.part[..., ::-1])[1])


def motions() -> dict[str, Array]:
    """The motion frames (60,) that every portrait is rendered with."""
    far = motion_of()
    far[DISTANCE] = FAR
    return {
        REST: motion_of(),
        "yaw -15": motion_of(yaw=-15),
        "yaw +15": motion_of(yaw=15),
        "pitch +10": motion_of(pitch=10),
        "far": far,
    }


def cut_photos(folder: Path, count: int = PORTRAITS) -> Iterator[CutPhoto]:
    """Cut every n-th photo of a folder, all kinds of cut in turn; the same on every run."""
    files = sorted(file for file in folder.iterdir() if file.suffix.lower() in (".jpg", ".png"))
    chosen = files[7 :: max(len(files) // PORTRAITS, 1)]
    random = np.random.default_rng(SEED)
    made = 0
    for file in chosen:
        if made == count:
            return
        photo = decode(file.read_bytes())
        faces = models().analyser.faces(photo)
        if len(faces) != 1:
            continue
        cut = CUTS[made % len(CUTS)]
        yield CutPhoto(file.stem, cut, photo, _box(photo, faces[0].box, cut, random))
        made += 1


def _box(
    photo: Image, face: Sequence[float], cut: str, random: np.random.Generator
) -> tuple[int, int, int, int]:
    height, width = photo.shape[:2]
    size = max(face[2] - face[0], face[3] - face[1])
    gap = {side: size * random.uniform(*limits) for side, limits in CLEARANCE.items()}
    left, top, right, bottom = 0.0, 0.0, float(width), float(height)
    if cut in ("hair", "hair and chin", "all"):
        top = max(face[1] - gap["top"], 0)
    if cut in ("chin", "hair and chin", "all"):
        bottom = min(face[3] + gap["bottom"], height)
    on_left = random.uniform() < 0.5
    if cut in ("side", "all"):
        if on_left:
            left = max(face[0] - gap["side"], 0)
        else:
            right = min(face[2] + gap["side"], width)
    return round(left), round(top), round(right), round(bottom)


def _real_frame(photo: CutPhoto, analysed: AnalysedPortrait) -> tuple[Image, Mask]:
    """The uncut photo in a cut portrait's frame, (512, 512, 3), and where it is known."""
    to_whole = analysed.to_photo.copy()
    to_whole[:, 2] += photo.box[:2]
    frame, beyond = cut_frame(photo.whole, to_whole)
    return frame, beyond < 0.5


class Figures:
    """Figures of all borders by name and pose; `visible` counts those that can be seen."""

    def __init__(self) -> None:
        self.values: dict[tuple[str, str], list[float]] = defaultdict(list)
        self.visible: dict[str, set[str]] = defaultdict(set)  # by pose, names of portraits

    def add(
        self,
        pose: str,
        name: str,
        images: tuple[Image, Image],
        source: Array,
        border: Border,
        where: Mask,
    ) -> None:
        """Measure one border.

        :param images: a frame, and the portrait's own.
        """
        found = seams(images[0], source, border, where)
        if found:
            across, beside = np.array(found).T
            self.values["seam", pose].append(float(across.mean() / max(beside.mean(), 0.25)))
            worst = (across > VISIBLE * beside) & (across - beside > VISIBLE_STEP)
            if worst.any():
                self.visible[pose].add(name)
        if both := strips(*images, source, border, where):
            self.values["mirror", pose].append(both[0])
            self.values["detail", pose].append(both[1])
            if both[0] > MIRRORED or both[1] < BLURRED:
                self.visible[pose].add(name)

    def mean(self, name: str, poses: Iterable[str]) -> float:
        """Mean over the borders in some poses; NaN for none."""
        values = [value for pose in poses for value in self.values[name, pose]]
        return float(np.mean(values)) if values else float("nan")

    def upper(self, name: str, poses: Iterable[str]) -> float:
        """Ninth decile over the borders in some poses; NaN for none."""
        values = [value for pose in poses for value in self.values[name, pose]]
        return float(np.quantile(values, 0.9)) if values else float("nan")


def measure_photo(photo: CutPhoto, ours: Figures, real: Figures) -> tuple[list[Image], float]:
    """Render one photo in all poses.

    :return: tiles for a sheet, and the share of the frame that is beyond the photo.
    :raises PortraitError: the part is no usable portrait.
    """
    analysed = models().analyser.analyse(photo.content())
    renderer = OfflineRenderer(prepare_analysed(analysed), models().inpainter)
    size = analysed.frame.shape[0]
    identity = np.stack(np.meshgrid(*[np.arange(size, dtype=np.float32)] * 2), -1)
    borders = photo_borders(analysed)
    whole, known = _real_frame(photo, analysed)
    name = f"{photo.name} {photo.cut}"
    everywhere = np.ones((size, size), bool)
    for border in borders:
        # Figures of both from the same borders, where the uncut photo goes on.
        where = known & along(borders, border, identity)
        ours.add(REST, name, (analysed.frame, analysed.frame), identity, border, where)
        real.add(REST, name, (whole, whole), identity, border, where)
    tiles = [contact_sheets.tile(whole, f"{name} uncut"), _with_border(analysed, borders)]
    for pose, motion in motions().items():
        rendered = renderer.render(motion, traced=True)
        tiles.append(contact_sheets.tile(rendered.image, pose))
        if pose == REST:
            continue
        source = rendered.warped.flow
        assert source is not None
        # The background stands still, whatever the flow is there.
        person = everywhere & (sample(analysed.matte, source) > 0.5)
        for border in shown_borders(borders, size):
            where = person & along(borders, border, source)
            ours.add(pose, name, (rendered.image, analysed.frame), source, border, where)
    return tiles, float(analysed.pad_mask.mean())


def _with_border(analysed: AnalysedPortrait, borders: Sequence[Border]) -> Image:
    """A tile of the portrait's frame with the photo's border drawn into it."""
    image = analysed.frame.copy()
    left, top, right, bottom = (round(border.position) for border in borders)
    cv.rectangle(image, (left, top), (right, bottom), (255, 0, 0), 2)
    return contact_sheets.tile(image, f"beyond {100 * analysed.pad_mask.mean():.0f} %")


def run(folder: Path, out: Path, count: int = PORTRAITS) -> Report:
    """Measure the cut portraits of a folder; write `table.md`, `table.json` and the sheets."""
    ours, real = Figures(), Figures()
    report = Report(TITLES, {"seed": SEED})
    sheets: dict[str, list[Image]] = defaultdict(list)
    shares: list[float] = []
    for photo in cut_photos(folder, count):
        try:
            tiles, share = measure_photo(photo, ours, real)
        except PortraitError as error:
            report.about[f"refused {photo.name} {photo.cut}"] = str(error)
            continue
        shares.append(share)
        sheets[photo.cut] += tiles
    report.about["portraits"] = len(shares)
    moved = [pose for pose in motions() if pose != REST]
    rows = [
        Row(
            "share of the frame beyond the photo",
            {"generated": 100 * float(np.mean(shares))},
            "% mean",
            note=f"most {100 * max(shares):.0f}",
        )
    ]
    for name in ("seam", "mirror", "detail"):
        rows += [
            Row(
                f"{name}, at rest",
                {"generated": ours.mean(name, [REST]), "real": real.mean(name, [REST])},
                "mean",
                note=f"ninth decile {ours.upper(name, [REST]):.2f}, "
                f"uncut {real.upper(name, [REST]):.2f}; "
                f"{len(ours.values[name, REST])} borders",
            ),
            Row(
                f"{name}, person in motion",
                {"generated": ours.mean(name, moved)},
                "mean",
                note=f"ninth decile {ours.upper(name, moved):.2f}; "
                + ", ".join(f"{pose} {ours.mean(name, [pose]):.2f}" for pose in moved),
            ),
        ]
    anywhere = set().union(*(ours.visible[pose] for pose in moved)) | ours.visible[REST]
    rows += [
        Row(
            "portraits with a visible border, at rest",
            {"generated": len(ours.visible[REST]), "real": len(real.visible[REST])},
            bar=Bar(high=1),
            digits=0,
            note="; ".join(sorted(ours.visible[REST])),
        ),
        Row(
            "portraits with a visible border, in any frame",
            {"generated": len(anywhere)},
            bar=Bar(high=1),
            digits=0,
            note="; ".join(sorted(anywhere)),
        ),
    ]
    report.add("tight photos", rows)
    out.mkdir(parents=True, exist_ok=True)
    report.write(out)
    for cut, found in sheets.items():
        contact_sheets.write(
            out / f"{cut.replace(' ', '_')}.png", contact_sheets.grid(found, COLUMNS)
        )
    return report


def main() -> None:
    """Run the evaluation from the command line."""
    parser = argparse.ArgumentParser(description="borders of tightly cut photos in the frames")
    parser.add_argument("--portraits", type=Path, required=True, help="folder of uncut portraits")
    parser.add_argument("--out", type=Path, required=True, help="folder of the report")
    parser.add_argument("--limit", type=int, default=PORTRAITS, help="portraits at most")
    options = parser.parse_args()
    sys.stdout.write(run(options.portraits, options.out, options.limit).markdown())


if __name__ == "__main__":
    main()
