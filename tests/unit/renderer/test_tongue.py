"""The drawn tongue: where its tip and back come to, and what stays as it is."""

from __future__ import annotations

import numpy as np
import pytest

from talkingface.contract.motion import ARKIT_INDEX, TONGUE_BACK, TONGUE_TIP, neutral
from talkingface.renderer import geometry
from talkingface.renderer.arrays import Float32Array
from talkingface.renderer.face.model import FaceModel
from talkingface.renderer.geometry.drawn_expressions import drawn_expressions
from talkingface.renderer.geometry.frame import FRAME
from talkingface.renderer.geometry.tongue import AT_REST, Tongue, raise_tongue
from talkingface.renderer.worker.frame_synthesis import grey_face

JAW = ARKIT_INDEX["jawOpen"]
JAWS = (0.2, 0.4, 0.6)


def head(jaw: float) -> Float32Array:
    """The mean head with an open jaw, (V, 3)."""
    return FaceModel.load().mean + np.float32(jaw) * drawn_expressions()[JAW]


def raised(jaw: float, tongue: Tongue, share: float = 1.0) -> Float32Array:
    vertices = head(jaw)
    raise_tongue(vertices, tongue, share)
    return vertices


def tip_of(vertices: Float32Array) -> Float32Array:
    """The vertex at the tip of the tongue, (3,)."""
    tongue = FaceModel.load().part_vertices("tongue")
    return vertices[tongue[FaceModel.load().mean[tongue, 2].argmax()]]


def incisors() -> tuple[float, float]:
    """Height and depth of the upper incisors' edge in the mean head."""
    teeth = FaceModel.load().mean[FaceModel.load().part_vertices("teeth_upper")]
    middle = teeth[np.abs(teeth[:, 0]) < 0.01]
    edge = middle[middle[:, 1].argmin()]
    return float(edge[1]), float(edge[2])


@pytest.mark.parametrize("jaw", JAWS)
def test_only_the_tongue_moves_and_at_rest_nothing(jaw: float) -> None:
    before = head(jaw)
    assert np.array_equal(raised(jaw, AT_REST), before)
    assert np.array_equal(raised(jaw, Tongue(1, 1), share=0), before)
    moved = (raised(jaw, Tongue(1, 1)) != before).any(1)
    tongue = np.zeros(len(before), bool)
    tongue[FaceModel.load().part_vertices("tongue")] = True
    assert moved.any()
    assert not moved[~tongue].any()


def test_a_tip_comes_to_the_same_place_from_any_opening() -> None:
    for tip in (0.7, 1.0):
        places = [tip_of(raised(jaw, Tongue(tip, 0))) for jaw in JAWS]
        np.testing.assert_allclose(places, [places[0]] * len(JAWS), atol=1e-4)


@pytest.mark.parametrize("jaw", JAWS)
def test_a_tip_rises_to_the_teeth_and_then_behind_them(jaw: float) -> None:
    edge, depth = incisors()
    rest, at_teeth, at_ridge = (tip_of(raised(jaw, Tongue(tip, 0))) for tip in (0, 0.7, 1))
    assert rest[1] < at_teeth[1] < edge < at_ridge[1]
    assert at_teeth[1] == pytest.approx(edge, abs=0.03)
    assert rest[2] < at_teeth[2]
    assert at_teeth[2] == pytest.approx(depth, abs=0.02)
    assert at_ridge[2] < depth - 0.03
    heights = [tip_of(raised(jaw, Tongue(tip, 0)))[1] for tip in np.linspace(0, 1, 11)]
    assert (np.diff(heights) > 0).all()


@pytest.mark.parametrize("jaw", JAWS)
def test_a_back_rises_without_the_tip(jaw: float) -> None:
    model = FaceModel.load()
    tongue = model.part_vertices("tongue")
    before, after = head(jaw)[tongue], raised(jaw, Tongue(0, 1))[tongue]
    rise = after[:, 1] - before[:, 1]
    assert (rise >= 0).all()
    assert rise.max() > 0.03
    assert rise[model.mean[tongue, 2].argmax()] < 0.1 * rise.max()
    np.testing.assert_array_equal(after[:, [0, 2]], before[:, [0, 2]])


@pytest.fixture(scope="module")
def portrait() -> geometry.PreparedPortrait:
    """A face of coarse noise."""
    _, points = grey_face()
    coarse = np.random.default_rng(0).integers(40, 216, (32, 32, 3)).astype(np.uint8)
    frame = np.kron(coarse, np.ones((16, 16, 1), np.uint8))
    return geometry.prepare(
        frame, points, np.ones((FRAME, FRAME), np.float32), np.full_like(frame, 90)
    )


def test_a_frame_changes_inside_the_lips_alone(portrait: geometry.PreparedPortrait) -> None:
    motion = neutral(1)[0]
    motion[JAW] = 0.5
    plain = geometry.render(portrait, motion).image
    for column in (TONGUE_TIP, TONGUE_BACK):
        up = motion.copy()
        up[column] = 1
        changed = (geometry.render(portrait, up).image != plain).any(2)
        assert changed.sum() > 50
        rows, columns = np.nonzero(changed)
        _, points = grey_face(jaw_open=0.5)
        inner = points[[78, 13, 308, 14], :2]
        low, high = inner.min(0) - 4, inner.max(0) + 4
        assert columns.min() > low[0] and columns.max() < high[0]
        assert rows.min() > low[1] and rows.max() < high[1]


def test_a_tongue_behind_shut_lips_is_not_seen(portrait: geometry.PreparedPortrait) -> None:
    motion = portrait.own_motion
    plain = geometry.render(portrait, motion).image
    motion[[TONGUE_TIP, TONGUE_BACK]] = 1
    assert np.array_equal(geometry.render(portrait, motion).image, plain)
