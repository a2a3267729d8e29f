"""How light an open mouth is, its picture, and how well a classifier tells two kinds apart."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from talkingface.renderer.face.landmarks import CHIN, LIP_CORNERS, LOWER_LIP, UPPER_LIP
from talkingface.renderer.geometry.topology import INNER_LOWER, INNER_UPPER
from talkingface_research.renderer.evaluation import open_mouth
from talkingface_research.renderer.evaluation.regions import FOREHEAD

SKIN, TEETH, CAVITY = (200, 150, 130), (230, 225, 215), (40, 20, 20)


def face() -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """A frame with a mouth 120 pixels wide and 40 high, its upper half teeth; and landmarks."""
    landmarks = np.full((478, 3), 100, np.float32)
    for ring, sign in ((INNER_UPPER, -1), (INNER_LOWER, 1)):
        angle = np.linspace(np.pi, 0, len(ring))
        landmarks[list(ring), 0] = 256 + 60 * np.cos(angle)
        landmarks[list(ring), 1] = 300 + sign * 20 * np.sin(angle)
    landmarks[list(LIP_CORNERS), :2] = (196, 300), (316, 300)
    landmarks[[UPPER_LIP, LOWER_LIP], :2] = (256, 280), (256, 320)
    landmarks[[FOREHEAD, CHIN], :2] = (256, 100), (256, 420)
    y, x = np.mgrid[:512, :512]
    mouth = ((x - 256) / 60.0) ** 2 + ((y - 300) / 20.0) ** 2 < 1
    frame = np.full((512, 512, 3), SKIN, np.uint8)
    frame[mouth & (y < 300)] = TEETH
    frame[mouth & (y >= 300)] = CAVITY
    return frame, landmarks


def test_light_of_a_mouth_is_compared_with_the_cheeks() -> None:
    frame, landmarks = face()
    found = open_mouth.light(frame, landmarks)
    assert found is not None
    assert open_mouth.gap(landmarks) == pytest.approx(40 / 320)
    assert 1.2 < found.brightest < 1.4  # L* 89 over 67
    assert found.light == pytest.approx(0.5, abs=0.06)
    assert 0 < found.yellow < 8


def test_a_shut_mouth_has_no_light() -> None:
    frame, landmarks = face()
    landmarks[list(INNER_LOWER)] = landmarks[list(INNER_UPPER)]
    assert open_mouth.light(frame, landmarks) is None


def test_a_picture_of_a_mouth_is_upright_and_centred() -> None:
    frame, landmarks = face()
    picture = open_mouth.picture(frame, landmarks)
    turned = open_mouth.picture(
        np.ascontiguousarray(np.rot90(frame)),
        np.stack([landmarks[:, 1], 511 - landmarks[:, 0], landmarks[:, 2]], 1),
    )
    assert picture.shape == (64, 96, 3)
    assert np.abs(picture.astype(int) - turned).mean() < 2
    assert picture[26, 48].min() > 180
    assert picture[38, 48].max() < 90
    assert np.abs(picture[32, 3].astype(int) - SKIN).max() < 12


def test_the_area_under_the_curve_is_the_share_of_pairs_in_order() -> None:
    pytest.importorskip("torch", reason="training extra")
    from talkingface_research.renderer.evaluation.real_or_made import area_under_curve

    real, made = np.array([0, 1, 2], np.float32), np.array([1, 3], np.float32)
    assert area_under_curve(made, real) == pytest.approx((1 + 0.5 + 3) / 6)
    assert area_under_curve(made + 9, real) == 1
