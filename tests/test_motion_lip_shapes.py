"""Lips as landmarks say them: free of pose and size, brought to another population's size."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from talkingface.common.motion import ARKIT_DIM, ARKIT_INDEX
from talkingface.motion_gen.mouth_shapes import LIP_SHAPES, SHAPE_LIMITS
from talkingface.motion_gen.training import lip_shapes
from talkingface.renderer.face_model import FaceModel, rotation_matrix

MODEL = FaceModel.load()
LEFT, RIGHT = lip_shapes.POINTS.index(291), lip_shapes.POINTS.index(61)


def tracked(
    coefficients: dict[str, float],
    pose: tuple[float, float, float] = (0.0, 0.0, 0.0),
    pixels: float = 100.0,
) -> np.ndarray:
    """The mean face with an expression, as a tracker would see it: (478, 3)."""
    row = np.zeros(ARKIT_DIM, np.float32)
    for name, value in coefficients.items():
        row[ARKIT_INDEX[name]] = value
    points = MODEL.landmarks(np.zeros(len(MODEL.identity), np.float32), row)
    turned = points @ rotation_matrix(*pose).T * pixels
    return turned * [1, -1, -1] + [250.0, 300.0, 0.0]


def test_pose_size_and_place_do_not_count() -> None:
    open_mouth = {"jawOpen": 0.5, "mouthFunnel": 0.4}
    plain = lip_shapes.head_frame(np.stack([tracked(open_mouth)]))
    moved = lip_shapes.head_frame(np.stack([tracked(open_mouth, (8.0, -15.0, 6.0), 37.0)]))
    assert np.abs(plain - moved).max() < 1e-3


def test_a_clip_moves_about_its_own_rest() -> None:
    stretch = {"mouthStretchLeft": 0.8, "mouthStretchRight": 0.8, "jawOpen": 0.1}
    clip = np.stack([tracked({})] * 9 + [tracked(stretch)])
    moved = lip_shapes.displacements(clip).reshape(10, -1, 3)
    assert np.abs(moved[0]).max() < 1e-6
    wider = moved[-1, LEFT, 0] - moved[-1, RIGHT, 0]
    assert wider > 0.03  # face widths


def test_the_jacobian_foretells_what_a_shape_does() -> None:
    moves = lip_shapes.jacobian()
    assert moves.shape == (lip_shapes.DIMENSIONS, len(LIP_SHAPES))
    jaw = list(SHAPE_LIMITS).index("jawOpen")
    clip = np.stack([tracked({})] * 9 + [tracked({"jawOpen": 0.4})])
    seen = lip_shapes.displacements(clip)[-1]
    assert np.abs(seen - 0.4 * moves[:, jaw]).max() < 2e-3


def test_transport_brings_one_spread_to_another() -> None:
    rng = np.random.default_rng(0)
    own, wanted = (np.cov(rng.standard_normal((6, 40)) * rng.uniform(0.1, 3, (6, 1))) for _ in "ab")
    matrix = lip_shapes.transport(own, wanted)
    assert np.allclose(matrix, matrix.T)
    assert np.allclose(matrix.T @ own @ matrix, wanted, atol=1e-8)
    assert np.allclose(lip_shapes.transport(own, own), np.eye(6), atol=1e-8)


def test_statistics_of_other_landmarks_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "other.npz", points=np.arange(45))
    with pytest.raises(ValueError, match="other landmarks"):
        lip_shapes.lively(tmp_path / "other.npz", np.eye(8, lip_shapes.DIMENSIONS))
