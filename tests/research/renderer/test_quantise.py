"""The inpainting network in 8 bits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest

pytest.importorskip("torch", reason="training extra")
from talkingface_research.renderer.network import Inpainter
from talkingface_research.renderer.training.export import export
from talkingface_research.renderer.training.quantise import Inputs, changes, quantise


def inputs(seed: int) -> Inputs:
    rng = np.random.default_rng(seed)
    crops = {
        "mouth": rng.integers(0, 256, (1, 128, 128, 8), np.uint8),
        "eyes": rng.integers(0, 256, (1, 2, 64, 64, 8), np.uint8),
    }
    crops["mouth"][:, :64, :, 3] = crops["eyes"][:, :, :32, :, 3] = 0  # not drawn
    controls = {"mouth_control": (1, 6), "eyes_control": (1, 2, 6)}
    return crops | {name: rng.random(size, np.float32) for name, size in controls.items()}


def test_colours_hardly_change_and_alpha_not_at_all(tmp_path: Path) -> None:
    model, small = export(Inpainter(), tmp_path), tmp_path / "small.onnx"
    quantise(model, [inputs(seed) for seed in range(4)], small)
    assert changes(model, small, [inputs(9)]).max() < 4.0
    assert small.stat().st_size < 0.5 * model.stat().st_size
    sessions = [onnxruntime.InferenceSession(str(path)) for path in (model, small)]
    for before, after in zip(*(session.run(None, inputs(9)) for session in sessions), strict=True):
        assert (before[..., 3] == after[..., 3]).all()
        assert (before[..., 3] == 0).any()
