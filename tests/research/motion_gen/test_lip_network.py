"""Lips predicted from speech: seals close them, whatever else the face does."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from talkingface.contract.motion import ARKIT_DIM
from talkingface.motion_gen.canonical_motion import FACE_COLUMNS, MOUTH
from talkingface.motion_gen.windows import EXTRA_ROWS, HISTORY_ROWS, ROWS_PER_FRAME
from talkingface_research.motion_gen.evaluation import mouth

if TYPE_CHECKING:
    from torch import Tensor

torch = pytest.importorskip("torch", reason="training extra")

from talkingface.motion_gen.mouth_shapes import SHAPE_LIMITS  # noqa: E402
from talkingface_research.motion_gen.lip_network import (  # noqa: E402
    COMPONENTS,
    MOUTH_DIM,
    MOUTH_NAMES,
    LipRegressor,
    frame_rows,
    sealed,
)


def arkit(mouth_columns: Tensor) -> np.ndarray:
    out = np.zeros((len(mouth_columns), ARKIT_DIM), np.float32)
    out[:, FACE_COLUMNS[MOUTH]] = mouth_columns.numpy()
    return out


@pytest.fixture
def mouths() -> Tensor:
    """Open ones of all kinds."""
    return torch.rand(200, MOUTH_DIM, generator=torch.Generator().manual_seed(0))


def test_a_full_seal_closes_any_mouth(mouths: Tensor) -> None:
    assert mouth.opening(arkit(mouths)).max() > 0.1
    shut = sealed(mouths, torch.tensor([[1.0, 0.0]]).expand(200, 2))
    assert mouth.opening(arkit(shut)).max() < mouth.CLOSED_BELOW
    assert shut.min() >= 0 and shut.max() <= 1


def test_the_lower_lip_comes_to_the_teeth(mouths: Tensor) -> None:
    speaking = mouths * 0.5
    bitten = sealed(speaking, torch.tensor([[0.0, 1.0]]).expand(200, 2))
    assert mouth.lip_below_teeth(arkit(bitten)).max() < mouth.TEETH_WITHIN
    assert mouth.lip_below_teeth(arkit(speaking)).max() > mouth.TEETH_WITHIN


def test_without_seals_nothing_changes(mouths: Tensor) -> None:
    assert (sealed(mouths, torch.zeros(200, 2)) == mouths).all()


def test_a_frame_has_its_rows_and_no_others() -> None:
    rows = torch.arange(HISTORY_ROWS + ROWS_PER_FRAME * 5 + EXTRA_ROWS).float()
    inputs = frame_rows(rows[None, :, None], 5)[0]
    assert inputs[0].tolist() == list(range(HISTORY_ROWS + ROWS_PER_FRAME + EXTRA_ROWS))
    assert (inputs[3] - inputs[0] == 3 * ROWS_PER_FRAME).all()


def test_frames_are_predicted_independently() -> None:
    torch.manual_seed(0)
    lips = LipRegressor().eval()
    count = HISTORY_ROWS + ROWS_PER_FRAME * 6 + EXTRA_ROWS
    features, speech = torch.randn(1, count, 128), torch.randn(1, count, 4)
    with torch.inference_mode():
        whole, seals = lips(features, speech)
        last, last_seals = lips(features[:, 2:], speech[:, 2:])
    assert whole.shape == (1, 6, MOUTH_DIM) and seals.shape == (1, 6, 2)
    assert torch.allclose(whole[:, 1:], last, atol=1e-5)
    assert torch.allclose(seals[:, 1:], last_seals, atol=1e-5)


def test_lips_rest_without_speech() -> None:
    torch.manual_seed(0)
    lips = LipRegressor().eval()
    lips.lively_mean.fill_(0.05)
    predicted = torch.randn(1, 6, COMPONENTS)
    rows = HISTORY_ROWS + ROWS_PER_FRAME * 6 + EXTRA_ROWS
    speech = torch.zeros(1, rows, 4)
    speech[:, -2:, 0] = 1.0
    with torch.inference_mode():
        presence = lips.presence(speech)
        mouth_ = lips.mouth(lips.lively(predicted, presence))
    assert (presence[0, 0] == 0).all() and (presence[0, -1] == 1).all()
    assert (mouth_[0, 0] == 0).all()
    assert mouth_[0, -1].abs().max() > 0


def test_no_shape_exceeds_its_limit() -> None:
    torch.manual_seed(0)
    lips = LipRegressor().eval()
    with torch.inference_mode():
        shown = lips.mouth(100 * torch.randn(200, COMPONENTS))
    for i, name in enumerate(MOUTH_NAMES):
        shape = name.removesuffix("Left").removesuffix("Right")
        most = SHAPE_LIMITS.get(name, SHAPE_LIMITS.get(shape, 0.0))
        assert shown[:, i].min() >= 0 and shown[:, i].max() <= most + 1e-6
