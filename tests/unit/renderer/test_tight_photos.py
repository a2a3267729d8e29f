"""Photos that cut hair, chin or shoulders: framing, outline, colours beyond the photo."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from talkingface.renderer.analysis import FRAME, AnalysedPortrait, frame_square
from talkingface.renderer.analysis.framing import TIGHT_FACE_SHARE, is_tight
from talkingface.renderer.analysis.outline import Known, continue_outline, known_rectangle
from talkingface.renderer.analysis.outpainting import complete_photo
from talkingface.renderer.geometry.rear_extension import extend, extrapolate
from talkingface.renderer.opencv import cv
from talkingface.renderer.pixels.layers import MARGIN, SOLID
from talkingface.renderer.worker.portrait_preparation import _message

Array = NDArray[np.float32]

CANVAS = FRAME + 2 * MARGIN
CENTRE = CANVAS // 2
HEAD = (150, 200)  # half axes of a drawn head, pixels


def person() -> Array:
    """The opacity of a head on shoulders, the same on both sides."""
    matte = np.zeros((CANVAS, CANVAS), np.uint8)
    cv.ellipse(matte, (CENTRE, CENTRE), HEAD, 0, 0, 360, (1,), -1)
    cv.ellipse(matte, (CENTRE, CANVAS), (300, 170), 0, 0, 360, (1,), -1)
    matte[CENTRE:, CENTRE - 70 : CENTRE + 70] = 1
    return matte.astype(np.float32)


def known(top: int = 0, bottom: int = 0, left: int = 0, right: int = 0) -> NDArray[np.bool_]:
    """Where a photo is known that lacks some rows and columns."""
    out = np.zeros((CANVAS, CANVAS), bool)
    out[top : CANVAS - bottom, left : CANVAS - right] = True
    return out


@pytest.mark.parametrize(
    ("box", "width", "height"),
    [((400, 300, 600, 550), 1000, 1000), ((140, 90, 340, 330), 640, 480)],
)
def test_frame_of_a_photo_with_room_has_half_the_face(
    box: tuple[float, float, float, float], width: int, height: int
) -> None:
    assert not is_tight(box, width, height)
    face = box[3] - box[1]
    assert 0.5 <= face / (FRAME * frame_square(box, width, height)[0, 0]) <= 0.64


def test_frame_of_a_tight_photo_is_pulled_in() -> None:
    box, side = (60, 40, 260, 290), 320  # the face is 78 % of the photo
    assert is_tight(box, side, side)
    square = frame_square(box, side, side)
    scale, origin = float(square[0, 0]), square[:, 2]
    assert (origin > -scale).all() and (origin + FRAME * scale < side + scale).all()
    assert 250 / (FRAME * scale) <= TIGHT_FACE_SHARE + 1e-3


def test_a_face_that_fills_the_photo_keeps_room_in_the_frame() -> None:
    square = frame_square((5, 5, 195, 245), 200, 250)
    assert 240 / (FRAME * square[0, 0]) == pytest.approx(TIGHT_FACE_SHARE, abs=1e-3)


def test_known_rectangle() -> None:
    assert known_rectangle(known(10, 20, 30)) == Known(slice(10, 684), slice(30, 704))


def test_hair_that_the_upper_border_cuts_is_closed_above_it() -> None:
    whole, cut = person(), 220  # the head's top is at row 152
    found = continue_outline(whole, known_rectangle(known(top=cut)), CENTRE)
    assert np.array_equal(found[cut:], whole[cut:])
    assert found[:100].max() == 0
    assert found[cut - 10, CENTRE] == 1
    rows = np.flatnonzero(found[:cut, CENTRE] > 0.5)
    assert abs(int(rows[0]) - 152) < 40
    width = (found[:cut] > 0.5).sum(1)
    assert (np.diff(width) >= 0).all()
    assert abs(int(width[cut - 1]) - int((whole[cut] > 0.5).sum())) <= 6


def test_a_side_that_is_cut_follows_the_other_side() -> None:
    whole = person()
    for name, cut in (("left", 230), ("right", 230)):
        there = known(**{name: cut})
        found = continue_outline(whole, known_rectangle(there), CENTRE - 0.5)
        assert np.array_equal(found[there], whole[there])
        assert np.abs(found - whole)[~there].mean() < 0.02


def test_shoulders_that_the_lower_border_cuts_go_on() -> None:
    whole, cut = person(), 100
    found = continue_outline(whole, known_rectangle(known(bottom=cut)), CENTRE)
    width = (found > 0.5).sum(1)
    assert (np.diff(width[CANVAS - cut :]) >= 0).all()
    assert found[-1, CENTRE] == 1


def scene() -> tuple[NDArray[np.uint8], Array, Array]:
    """A striped person before a chequered wall: colours, opacity, points around the face."""
    rng = np.random.default_rng(0)
    ys, xs = np.mgrid[:CANVAS, :CANVAS]
    hair = np.where(xs // 4 % 2, 90, 40)[..., None] * np.array([1.0, 0.7, 0.5])
    wall = np.where((xs // 16 + ys // 16) % 2, 200, 150)[..., None] * np.array([0.8, 0.9, 1.0])
    matte = person()
    colours = np.where(matte[..., None] > 0.5, hair, wall) + rng.normal(0, 3, (CANVAS, CANVAS, 1))
    angles = np.linspace(0, 2 * np.pi, 478)
    face = np.stack([CENTRE + 90 * np.sin(angles), CENTRE + 130 * np.cos(angles)], 1)
    return np.clip(colours, 0, 255).astype(np.uint8), matte, face.astype(np.float32)


def test_person_and_wall_each_go_on_as_themselves() -> None:
    colours, matte, face = scene()
    there = known(top=190, left=170)
    holed = np.where(there[..., None], colours, (255, 0, 255)).astype(np.uint8)
    found = complete_photo(holed, there, matte, face)
    inner = np.s_[MARGIN:-MARGIN, MARGIN:-MARGIN]
    shown = there[inner]
    assert np.array_equal(found.frame[shown], colours[inner][shown])
    hair, wall = (matte[inner] > 0.5) & (found.matte > 0.9), (matte[inner] < 0.5)
    wall &= found.matte < 0.1
    for what, expected in ((hair, colours[matte > 0.5]), (wall, colours[matte < 0.5])):
        made = found.frame[what & ~shown].astype(float)
        assert len(made) > 500
        assert np.abs(made.mean(0) - expected.mean(0)).max() < 15
        assert made.std(0).mean() > 0.5 * expected.std(0).mean(), "not blurred"
    # No mirror image at the border: stripes and squares would meet their like at a seam.
    assert found.surroundings.shape == (CANVAS, CANVAS, 4)
    again = complete_photo(holed, there, matte, face)
    assert np.array_equal(again.frame, found.frame)


def test_rear_layer_goes_on_into_what_surrounds_it() -> None:
    rng = np.random.default_rng(0)
    surroundings = rng.integers(0, 256, (CANVAS, CANVAS, 4), np.uint8)
    surroundings[..., 3] = 255
    inner = np.s_[MARGIN:-MARGIN, MARGIN:-MARGIN]
    rear = surroundings[inner].copy()
    found = extend(rear, surroundings)
    assert np.array_equal(found[inner], rear)
    outside = np.ones((CANVAS, CANVAS), bool)
    outside[inner] = False
    assert np.array_equal(found[outside][:, :3], surroundings[outside][:, :3])
    assert found[outside][:, 3].max() == SOLID
    assert np.array_equal(extend(rear, None), extrapolate(rear))


def test_a_step_at_the_frames_edge_fades_beyond_it() -> None:
    surroundings = np.full((CANVAS, CANVAS, 4), 100, np.uint8)
    rear = np.full((FRAME, FRAME, 4), 140, np.uint8)
    row = extend(rear, surroundings)[CANVAS // 2, :MARGIN, 0].astype(int)
    assert row[-1] >= 137 and row[0] <= 101
    assert (np.diff(row) >= 0).all()


def test_portrait_states_how_much_was_completed() -> None:
    image = np.zeros((FRAME, FRAME, 3), np.uint8)
    beyond = np.zeros((FRAME, FRAME), np.float32)
    beyond[:64] = 1
    analysed = AnalysedPortrait(
        photo=image,
        photo_size=(FRAME, FRAME),
        frame=image,
        landmarks=np.array([[100, 100, 0], [200, 250, 0]], np.float32),
        matte=beyond,
        background=image,
        pad_mask=beyond,
        to_photo=np.array([[1, 0, 0], [0, 1, -64]], np.float32),
        rotation=(0.0, 0.0, 0.0),
    )
    assert _message("sha256:0", analysed).completed_share == pytest.approx(1 / 8)
