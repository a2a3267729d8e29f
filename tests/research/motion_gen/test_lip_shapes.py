"""Lips from landmarks: free of pose and size, mapped to another population's size."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from talkingface.contract.motion import ARKIT_DIM, ARKIT_INDEX
from talkingface.motion_gen.mouth_shapes import LIP_SHAPES, SHAPE_LIMITS
from talkingface.renderer.face.model import FaceModel, rotation_matrix
from talkingface_research.motion_gen.training import lip_shapes

MODEL = FaceModel.load()
LEFT, RIGHT = lip_shapes.POINTS.index(291), lip_shapes.POINTS.index(61)


def tracked(
    coefficients: dict[str, float],
    pose: tuple[float, float, float] = (0.0, 0.0, 0.0),
    pixels: float = 100.0,
) -> np.ndarray:
    """The mean face with an expression, in a tracker's coordinates: (478, 3)."""
    row = np.zeros(ARKIT_DIM, np.float32)
    for name, value in coefficients.items():
        row[ARKIT_INDEX[name]] = value
    points = MODEL.landmarks(np.zeros(len(MODEL.identity), np.float32), row)
    turned = points @ rotation_matrix(*pose).T * pixels
    return turned * [1, -1, -1] + [250.0, 300.0, 0.0]


def test_pose_size_and_position_do_not_count() -> None:
    open_mouth = {"jawOpen": 0.5, "mouthFunnel": 0.4}
    plain = lip_shapes.head_frame(np.stack([tracked(open_mouth)]))
    moved = lip_shapes.head_frame(np.stack([tracked(open_mouth, (8.0, -15.0, 6.0), 37.0)]))
    assert np.abs(plain - moved).max() < 1e-3


def test_a_clip_is_relative_to_its_own_rest() -> None:
    stretch = {"mouthStretchLeft": 0.8, "mouthStretchRight": 0.8, "jawOpen": 0.1}
    clip = np.stack([tracked({})] * 9 + [tracked(stretch)])
    moved = lip_shapes.displacements(clip).reshape(10, -1, 3)
    assert np.abs(moved[0]).max() < 1e-6
    wider = moved[-1, LEFT, 0] - moved[-1, RIGHT, 0]
    assert wider > 0.03  # face widths


def test_the_jacobian_predicts_the_displacement_of_a_shape() -> None:
    moves = lip_shapes.jacobian()
    assert moves.shape == (lip_shapes.DIMENSIONS, len(LIP_SHAPES))
    jaw = list(SHAPE_LIMITS).index("jawOpen")
    clip = np.stack([tracked({})] * 9 + [tracked({"jawOpen": 0.4})])
    seen = lip_shapes.displacements(clip)[-1]
    assert np.abs(seen - 0.4 * moves[:, jaw]).max() < 2e-3


def test_transport_maps_one_covariance_to_another() -> None:
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


@pytest.mark.parametrize(
    "shape",
    [
        {"mouthStretch": 0.6, "mouthUpperUp": 0.4, "mouthLowerDown": 0.5},  # ee
        {"mouthPucker": 0.7, "mouthFunnel": 0.2},  # oo
        {"jawOpen": 0.5, "mouthLowerDown": 0.3},  # ah
    ],
)
def test_the_fit_finds_the_shape(shape: dict[str, float]) -> None:
    names = list(SHAPE_LIMITS)
    made = np.zeros(len(names))
    for name, value in shape.items():
        made[names.index(name)] = value
    moved = (lip_shapes.jacobian() @ made)[None].astype(np.float32)
    again = lip_shapes.fitted(moved, sweeps=200) @ lip_shapes.jacobian().T
    true, seen = lip_shapes.measures(moved), lip_shapes.measures(again)
    for name, curve in true.items():
        assert seen[name][0] == pytest.approx(curve[0], abs=0.003), name
    assert abs(true["width"][0]) > 0.01
