"""A smiling portrait's face: coming to rest, speaking, blinking, looking about."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from talkingface.contract.motion import ARKIT_DIM, ARKIT_INDEX, PITCH, YAW, neutral
from talkingface.renderer import fetch_assets, geometry
from talkingface.renderer.analysis import FaceAnalyser
from talkingface.renderer.face.fitting import fit
from talkingface.renderer.face.model import FaceModel
from talkingface.renderer.geometry.eyes import IRIS, LUMA, RINGS
from talkingface.renderer.geometry.portrait import BLINKS
from talkingface.renderer.geometry.topology import INNER_LOWER, INNER_UPPER
from talkingface.renderer.opencv import cv

ROOM = 0.08  # face widths around lips or eyes within which something may be drawn


@pytest.fixture(scope="module")
def analyser() -> FaceAnalyser:
    fetch_assets.fetch("models", fetch_assets.MODEL_DIR)
    return FaceAnalyser()


@pytest.fixture(scope="module")
def portrait(portrait_file: Path, analyser: FaceAnalyser) -> geometry.PreparedPortrait:
    """A NASA portrait that smiles with its teeth."""
    found = analyser.analyse(portrait_file.read_bytes())
    return geometry.prepare(found.frame, found.landmarks, found.matte, found.background)


def motion(pitch: float = 0.0, yaw: float = 0.0, **coefficients: float) -> np.ndarray:
    """A motion frame; names without a side mean both."""
    out = neutral(1)[0]
    out[PITCH], out[YAW] = pitch, yaw
    for name, value in coefficients.items():
        for side in ("", "Left", "Right"):
            if name + side in ARKIT_INDEX:
                out[ARKIT_INDEX[name + side]] = value
    return out


def marks_of(
    portrait: geometry.PreparedPortrait, analyser: FaceAnalyser, asked: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """A frame and the landmarks (478, 2) found in it."""
    image = geometry.render(portrait, asked).image
    found = analyser.landmarks(image)
    assert found is not None
    return image, found[:, :2]


def corner_height(marks: np.ndarray) -> float:
    """How far the mouth's corners lie above the lips' middle, face widths."""
    middle, corners = marks[[13, 14], 1].mean(), marks[[78, 308], 1].mean()
    return float(middle - corners) / float(np.linalg.norm(marks[454] - marks[234]))


def around(points: np.ndarray, reach: float) -> np.ndarray:
    """Mask (512, 512) of the convex hull of points (N, 2) and what is within reach of it."""
    mask = np.zeros((512, 512), np.uint8)
    cv.fillConvexPoly(mask, cv.convexHull(points.round().astype(np.int32)), 1)
    size = 2 * round(reach) + 1
    return cv.dilate(mask, np.ones((size, size), np.uint8)) > 0


def test_the_portraits_own_expression_gives_the_photo(portrait: geometry.PreparedPortrait) -> None:
    assert portrait.fit.coefficients[ARKIT_INDEX["mouthSmileLeft"]] > 0.5
    np.testing.assert_array_equal(
        geometry.render(portrait, portrait.own_motion).image, portrait.frame
    )


def test_a_smiling_portrait_comes_to_rest_and_frowns(
    portrait: geometry.PreparedPortrait, analyser: FaceAnalyser
) -> None:
    smiling = corner_height(marks_of(portrait, analyser, portrait.own_motion)[1])
    rest = corner_height(marks_of(portrait, analyser, motion())[1])
    frowning = corner_height(marks_of(portrait, analyser, motion(mouthFrown=1))[1])
    assert smiling > 0.04
    assert abs(rest) < 0.02
    assert frowning < rest - 0.02


def test_a_smile_is_counted_whole_only_where_there_is_one() -> None:
    model = FaceModel.load()
    person = np.zeros(len(model.identity), np.float32)
    for smile in (0.0, 0.6):
        asked = np.zeros(ARKIT_DIM, np.float32)
        for side in ("Left", "Right"):
            asked[ARKIT_INDEX[f"mouthSmile{side}"]] = smile
        marks = model.landmarks(person, asked)[:, :2] * [220, -220] + 256
        found = fit(marks.astype(np.float32)).coefficients[ARKIT_INDEX["mouthSmileLeft"]]
        assert abs(found - smile) < 0.2


def test_teeth_disappear_when_the_lips_close(portrait: geometry.PreparedPortrait) -> None:
    rest = geometry.render(portrait, motion())
    matrix = cv.invertAffineTransform(rest.crops[0].matrix)
    middle = matrix[:, :2] @ [63.5, 63.5] + matrix[:, 2]
    x, y = middle.round().astype(int)
    column = rest.image[y - 12 : y + 12, x - 10 : x + 10].astype(np.float32) @ LUMA
    cheek = rest.image[y - 60 : y - 40, x - 60 : x - 40].astype(np.float32) @ LUMA
    assert np.percentile(column, 98) < 1.12 * np.median(cheek)  # teeth are brighter than skin
    assert column.min() > 0.25 * np.median(cheek)  # and no black line stays


@pytest.mark.parametrize(
    "asked",
    [
        motion(jawOpen=0.6),
        motion(jawOpen=0.3, mouthFunnel=0.8),
        motion(pitch=-15),
        motion(yaw=20, jawOpen=0.5),
        motion(mouthSmile=1.0),
    ],
    ids=["jaw", "funnel", "head lowered", "turned", "smile"],
)
def test_nothing_is_drawn_beyond_lips_and_lids(
    portrait: geometry.PreparedPortrait, asked: np.ndarray
) -> None:
    frame = geometry.render(portrait, asked)
    allowed = np.zeros((512, 512), bool)
    for crop in frame.crops:
        back = cv.invertAffineTransform(crop.matrix)
        half = len(crop.rgb) / 2
        share = 0.72 if half == 64 else 0.8
        corners = half + share * half * np.array([[-1, -0.8], [1, -0.8], [-1, 0.8], [1, 0.8]])
        allowed |= around((corners @ back[:, :2].T + back[:, 2]).astype(np.float32), 0)
    assert not frame.mask[..., 0][~allowed].any()


def test_the_nose_hides_the_mouth_of_a_lowered_head(portrait: geometry.PreparedPortrait) -> None:
    """Nothing as dark as the mouth's inside between nose and upper lip."""
    frame = geometry.render(portrait, motion(pitch=-15))
    back = cv.invertAffineTransform(frame.crops[0].matrix)
    x, y = (back[:, :2] @ [63.5, 38.0] + back[:, 2]).round().astype(int)
    patch = frame.image[y - 6 : y + 6, x - 8 : x + 8].astype(np.float32) @ LUMA
    assert patch.min() > 60


@pytest.mark.parametrize("share", [0.25, 0.5, 1.0])
def test_lids_close_as_far_as_asked(portrait: geometry.PreparedPortrait, share: float) -> None:
    asked = motion(eyeBlink=share)
    coefficients, *_ = geometry.target_pose(portrait, asked)
    own = portrait.fit.coefficients[BLINKS]
    np.testing.assert_allclose(coefficients[BLINKS], own + (1 - own) * share, atol=1e-5)


def test_shut_lids_cover_eyes_with_skin(portrait: geometry.PreparedPortrait) -> None:
    shut = geometry.render(portrait, motion(eyeBlink=1)).image
    for eye, ring in enumerate(RINGS):
        points = portrait_marks(portrait)[list(ring)]
        inside = around(points, 0)
        inside[int(points[:, 1].mean()) + 2 :] = False  # above the lash line
        seen, photo = shut[inside] @ LUMA, portrait.frame[inside] @ LUMA
        assert np.ptp(seen) < 0.5 * np.ptp(photo), eye
        assert seen.min() > photo.min() + 40, eye  # neither pupil nor lashes


def portrait_marks(portrait: geometry.PreparedPortrait) -> np.ndarray:
    """Skin landmarks (468, 2) of the photo by the fitted mesh."""
    model = FaceModel.load()
    corners = portrait.uv[model.landmark_corners]
    return (model.landmark_weights[..., None] * corners).sum(1)


def test_gaze_moves_the_iris_and_leaves_it_whole(
    portrait: geometry.PreparedPortrait, analyser: FaceAnalyser
) -> None:
    _, rest = marks_of(portrait, analyser, motion(mouthSmile=1))
    for asked, axis, sign in (
        (motion(eyeLookInLeft=0.8, eyeLookOutRight=0.8), 0, -1),
        (motion(eyeLookOutLeft=0.8, eyeLookInRight=0.8), 0, 1),
        (motion(eyeLookUp=0.8), 1, -1),
        (motion(eyeLookDown=0.8), 1, 1),
    ):
        _, found = marks_of(portrait, analyser, asked)
        for iris in IRIS:
            assert sign * (found[iris] - rest[iris])[axis] > 0.8


def test_the_mouth_opens_without_a_jump(portrait: geometry.PreparedPortrait) -> None:
    """Small steps change the frame by small steps, from shut lips to an open mouth."""
    frames = [
        geometry.render(portrait, motion(jawOpen=float(v))).image.astype(np.float32)
        for v in np.linspace(0, 0.2, 21)
    ]
    lips = around(portrait_marks(portrait)[[*INNER_UPPER, *INNER_LOWER]], 20)
    steps = [np.abs(b - a)[lips].mean() for a, b in pairwise(frames)]
    assert max(steps) < 4 * np.median(steps) + 0.5


def test_rendering_eyes_and_mouth_is_deterministic(portrait: geometry.PreparedPortrait) -> None:
    asked = motion(jawOpen=0.4, eyeBlink=0.4, eyeLookUp=0.3, yaw=8)
    first, second = (geometry.render(portrait, asked) for _ in range(2))
    np.testing.assert_array_equal(first.image, second.image)
    np.testing.assert_array_equal(first.mask, second.mask)
