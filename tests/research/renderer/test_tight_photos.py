"""The figures of a photo's border, on images whose border is known."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from talkingface_research.renderer.evaluation.borders import Border, seams, strips
from talkingface_research.renderer.evaluation.tight_photos import CLEARANCE, _box

SIZE, AT = 256, 200
EVERYWHERE = np.ones((SIZE, SIZE), bool)
SOURCE = np.stack(np.meshgrid(*[np.arange(SIZE, dtype=np.float32)] * 2), -1)


def texture() -> np.ndarray:
    grain = np.random.default_rng(0).normal(0, 60, (SIZE, SIZE, 3)).astype(np.float32)
    smooth = cv2.GaussianBlur(grain, (0, 0), 1.5) * 4 + 128
    return np.clip(smooth, 0, 255).astype(np.uint8)


def ratio(image: np.ndarray, border: Border) -> float:
    across, beside = np.array(seams(image, SOURCE, border, EVERYWHERE)).T
    return float(across.mean() / beside.mean())


@pytest.mark.parametrize("axis", [0, 1])
def test_a_step_at_the_border_is_a_seam(axis: int) -> None:
    whole, border = texture(), Border(axis, AT - 0.5, 1)
    assert ratio(whole, border) == pytest.approx(1, abs=0.15)
    stepped = whole.astype(np.int16)
    stepped[(slice(None), slice(AT, None)) if axis == 0 else slice(AT, None)] += 40
    assert ratio(np.clip(stepped, 0, 255).astype(np.uint8), border) > 1.5


@pytest.mark.parametrize("axis", [0, 1])
def test_a_mirror_image_beyond_the_border_is_found(axis: int) -> None:
    whole, border = texture(), Border(axis, AT - 0.5, 1)
    found = strips(whole, whole, SOURCE, border, EVERYWHERE)
    assert found is not None
    assert abs(found[0]) < 0.15
    assert found[1] == pytest.approx(1, abs=0.15)
    across = whole if axis == 0 else whole.swapaxes(0, 1)
    across[:, AT:] = across[:, AT - 1 : 2 * AT - SIZE - 1 : -1]
    found = strips(whole, whole, SOURCE, border, EVERYWHERE)
    assert found is not None
    assert found[0] > 0.95


def test_a_smooth_continuation_has_no_detail() -> None:
    image = texture()
    image[:, AT:] = 128
    found = strips(image, image, SOURCE, Border(0, AT - 0.5, 1), EVERYWHERE)
    assert found is not None
    assert found[1] < 0.1


def test_a_border_that_a_frame_does_not_show_has_no_figures() -> None:
    border = Border(1, SIZE + 20.0, 1)
    assert seams(texture(), SOURCE, border, EVERYWHERE) == []
    assert strips(texture(), texture(), SOURCE, border, EVERYWHERE) is None


def test_cuts_keep_the_face_whole() -> None:
    photo, face = np.zeros((400, 400, 3), np.uint8), (120.0, 90.0, 280.0, 310.0)
    random = np.random.default_rng(0)
    left, top, right, bottom = _box(photo, face, "all", random)
    assert 0 <= top < face[1] and face[3] < bottom <= 400
    assert (left == 0) != (right == 400)
    assert left < face[0] and right > face[2]
    assert face[1] - top <= 220 * CLEARANCE["top"][1] + 1
    assert _box(photo, face, "chin", random)[:3] == (0, 0, 400)
