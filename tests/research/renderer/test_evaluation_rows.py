"""The rows of the renderer's benchmark for renderers whose faults are known."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from talkingface_research.renderer.evaluation.portrait_run import PortraitMeasurements
from talkingface_research.renderer.evaluation.poses import SHUT_EYES, poses, sheet_poses
from talkingface_research.renderer.evaluation.readback import AXES
from talkingface_research.renderer.evaluation.reenactment import Reenactment
from talkingface_research.renderer.evaluation.sections import (
    clips,
    detail,
    expression,
    features,
    identity,
    warp_artifacts,
)
from talkingface_research.report import Row


def person(number: int) -> np.ndarray:
    """A descriptor; those of different people are 1.4 apart."""
    out = np.zeros(128, np.float32)
    out[number] = 1
    return out


def ideal(number: int) -> PortraitMeasurements:
    """Measurements of a perfect renderer; every second portrait smiles with teeth."""
    out = PortraitMeasurements(
        f"{number:05}", descriptor=person(number), reencoded=person(number), lids=0.06
    )
    for pose in poses():
        out.readback[pose.name] = pose.requested
        if pose.hard:
            out.descriptors[pose.name] = person(number)
        if pose.axis == "lids":
            out.readback[pose.name] = pose.requested * out.lids
            out.figures["covered"][pose.name] = float(pose.requested[list(AXES).index("lids")])
        if pose.axis == "gaze yaw":
            out.irises[pose.name] = float(pose.requested[list(AXES).index("gaze yaw")])
            out.figures["iris"][pose.name] = 1.0
        if pose.axis.startswith("gaze") and pose.hard:
            out.figures["white"][pose.name] = out.figures["white light"][pose.name] = 0.0
    for pose in sheet_poses():
        for name in ("folded", "stretched", "seams", "background", "shoulders"):
            out.figures[name][pose.name] = 0.0
        for name in ("skin", "hair"):
            out.figures[name][pose.name] = 1.0
    for name, value in (("gap", 0.002), ("dark line", 0.01), ("light line", 0.0)):
        out.figures[name] = {"photo": value + 1e-4 * number, "shut": value}
    out.figures["opening"]["photo"] = 0.1 if number % 2 else 0.001
    out.figures["exact"]["own"] = 1.0
    out.figures["white"]["photo"] = 5.0
    out.figures["contrast"][SHUT_EYES] = 0.1
    out.figures["shut"][SHUT_EYES] = 0.8
    out.figures["skin"]["photo"] = out.figures["hair"]["photo"] = 1.0
    return out


@pytest.fixture
def portraits() -> list[PortraitMeasurements]:
    return [ideal(i) for i in range(6)]


@pytest.fixture
def reenactments() -> list[Reenactment]:
    out = Reenactment("a/b", frames=75, distances=[0.2, 0.3])
    for name, _, _ in clips.FIGURES:
        out.figures[name] = {"generated": 0.95, "bare": 0.9, "static": 0.5}
    return [out]


def missed(rows: Sequence[Row]) -> list[str]:
    return [row.what for row in rows if row.verdict.startswith("MISS")]


def row_of(rows: Sequence[Row], what: str) -> Row:
    (found,) = [row for row in rows if row.what.startswith(what)]
    return found


def test_a_perfect_renderer_misses_nothing(
    portraits: list[PortraitMeasurements], reenactments: list[Reenactment]
) -> None:
    sections = (expression, warp_artifacts, features, detail)
    every = [
        *identity.measure(portraits, reenactments),
        *(row for part in sections for row in part.measure(portraits)),
        *clips.measure(reenactments),
    ]
    assert missed(every) == []
    assert sum(row.bar is not None for row in every) > 15


def test_another_person_is_no_match(
    portraits: list[PortraitMeasurements], reenactments: list[Reenactment]
) -> None:
    for pose in list(portraits[0].descriptors):
        portraits[0].descriptors[pose] = person(1)
    rows = identity.measure(portraits, reenactments)
    held = row_of(rows, "poses nearer")
    assert held.values["generated"] == pytest.approx(100 * 5 / 6)
    assert missed(rows) == [held.what]
    assert row_of(rows, "the photo is the nearest").values["generated"] == pytest.approx(
        100 * 5 / 6
    )


def test_a_face_that_is_not_found_counts_as_lost(
    portraits: list[PortraitMeasurements], reenactments: list[Reenactment]
) -> None:
    for one in portraits[:3]:
        one.descriptors.clear()
        one.lost = [pose.name for pose in poses()]
        one.readback.clear()
    assert (
        row_of(identity.measure(portraits, reenactments), "poses nearer").values["generated"] == 50
    )
    rows = expression.measure(portraits)
    assert row_of(rows, "frames in which no face").values["generated"] == 50


def test_a_still_portrait_shows_no_requested_movement(
    portraits: list[PortraitMeasurements],
) -> None:
    noise = np.random.default_rng(0)
    for one in portraits:
        for pose in one.readback:
            one.readback[pose] = noise.normal(0, 1e-3, len(AXES)).astype(np.float32)
    assert len(missed(expression.measure(portraits))) == len(AXES)


def test_eyes_that_are_not_visible_do_not_count(portraits: list[PortraitMeasurements]) -> None:
    column = list(AXES).index("lids")
    for one in portraits[:3]:
        one.eyes_visible = False
        for pose in one.readback:
            one.readback[pose] = one.readback[pose].copy()
            one.readback[pose][column] = 0
    rows = expression.measure(portraits)
    lids = row_of(rows, "lids, requested")
    assert lids.verdict == "PASS"
    assert "with 3 behind dark glasses or closed" in lids.note


def test_folds_are_judged_in_turned_heads(portraits: list[PortraitMeasurements]) -> None:
    for one in portraits:
        one.figures["folded"]["pitch +15"] = 5.0
    assert missed(warp_artifacts.measure(portraits)) == []
    portraits[2].figures["folded"]["yaw -20"] = 3.0
    rows = warp_artifacts.measure(portraits)
    assert len(missed(rows)) == 1
    assert "00002, yaw -20" in row_of(rows, "folded inside").note


def test_blurred_hair_and_a_restless_background_are_missed(
    portraits: list[PortraitMeasurements],
) -> None:
    for one in portraits:
        for pose in one.figures["hair"]:
            one.figures["hair"][pose] = 0.8
        one.figures["background"]["jaw wide"] = 6.0
    portraits[0].figures["exact"]["own"] = 0.0
    found = missed(detail.measure(portraits))
    assert [what.split()[0] for what in found] == ["sharpness", "background:", "unmoved"]
    assert "hair" in found[0]


def test_a_light_line_between_closed_lips_is_missed(portraits: list[PortraitMeasurements]) -> None:
    for one in portraits:
        one.figures["light line"]["shut"] = 0.02
    found = missed(features.measure(portraits))
    assert found == ["light line between these lips: like naturally closed lips"]


def test_lids_that_stay_open_are_missed(portraits: list[PortraitMeasurements]) -> None:
    for one in portraits:
        one.figures["shut"][SHUT_EYES] = 0.3
    assert [what.split()[0] for what in missed(features.measure(portraits))] == ["closed"]
