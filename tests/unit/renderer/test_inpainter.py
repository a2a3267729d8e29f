"""The inpainting network as it ships: its contract with Triton and with the geometry."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
from numpy.typing import NDArray

from talkingface import renderer

REPOSITORY = Path(renderer.__file__).parent / "model_repository" / "inpainter"
MOUTH, EYE = 128, 64

Inputs = dict[str, NDArray[np.generic]]


@pytest.fixture(scope="module")
def network() -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    return ort.InferenceSession(
        str(REPOSITORY / "1" / "model.onnx"), options, providers=["CPUExecutionProvider"]
    )


def inputs(batch: int, seed: int = 0) -> Inputs:
    random = np.random.default_rng(seed)
    return {
        "mouth": random.integers(0, 256, (batch, MOUTH, MOUTH, 8), np.uint8),
        "eyes": random.integers(0, 256, (batch, 2, EYE, EYE, 8), np.uint8),
        "mouth_control": random.random((batch, 6), np.float32),
        "eyes_control": random.random((batch, 2, 6), np.float32),
    }


def test_configuration_matches_the_network(network: ort.InferenceSession) -> None:
    text = (REPOSITORY / "config.pbtxt").read_text()
    for tensor in (*network.get_inputs(), *network.get_outputs()):
        kind = {"tensor(uint8)": "TYPE_UINT8", "tensor(float)": "TYPE_FP32"}[tensor.type]
        dims = ", ".join(str(size) for size in tensor.shape[1:])
        assert f'name: "{tensor.name}" data_type: {kind} dims: [ {dims} ]' in text


def test_the_result_is_a_residual_and_its_opacity(network: ort.InferenceSession) -> None:
    mouth, eyes = network.run(None, inputs(3))
    assert mouth.shape == (3, MOUTH, MOUTH, 4)
    assert eyes.shape == (3, 2, EYE, EYE, 4)
    for result in (mouth, eyes):
        assert np.abs(result[..., :3]).max() <= 1
        assert result[..., 3].min() >= 0 and result[..., 3].max() <= 1


def test_rows_do_not_depend_on_their_batch(network: ort.InferenceSession) -> None:
    batch = inputs(5)
    together = network.run(None, batch)
    for row in range(5):
        alone = network.run(None, {name: value[row : row + 1] for name, value in batch.items()})
        for a, b in zip(together, alone, strict=True):
            assert np.array_equal(a[row], b[0])


def test_eyes_are_treated_alike(network: ort.InferenceSession) -> None:
    """A mirrored pair of eyes gets the mirrored result."""
    batch = inputs(1)
    mirrored = batch | {
        "eyes": batch["eyes"][:, ::-1, :, ::-1].copy(),
        "eyes_control": batch["eyes_control"][:, ::-1].copy(),
    }
    (_, plain), (_, other) = network.run(None, batch), network.run(None, mirrored)
    assert np.allclose(plain, other[:, ::-1, :, ::-1], atol=1e-5)


def test_what_was_photographed_is_left_alone(network: ort.InferenceSession) -> None:
    """Away from the drawn mask nothing changes at all."""
    batch = inputs(2)
    for name in ("mouth", "eyes"):
        batch[name][..., 3] = 0
    batch["mouth"][1, 50:70, 40:90, 3] = 255
    mouth, eyes = network.run(None, batch)
    assert not eyes[..., 3].any()
    assert not mouth[0, ..., 3].any()
    assert mouth[1, 50:70, 40:90, 3].min() > 0.3
    far = np.ones((MOUTH, MOUTH), bool)
    far[40:80, 30:100] = False
    assert not mouth[1, far, 3].any()


def test_drawn_mouth_is_changed(network: ort.InferenceSession) -> None:
    """White drawn teeth in a dark face come out darker; the skin around them stays."""
    batch = inputs(1)
    batch["mouth"][:] = 0
    batch["mouth"][..., :3] = batch["mouth"][..., 5:] = (60, 42, 34)
    drawn = np.s_[0, 54:72, 40:90]
    batch["mouth"][(*drawn, slice(0, 3))] = 235
    batch["mouth"][(*drawn, 3)] = 255
    batch["mouth_control"][:] = (0.3, 0.2, 0, 0, 0.3, 0)
    mouth, _ = network.run(None, batch)
    change = 255 * mouth[..., :3] * mouth[..., 3:]
    assert change[drawn].mean() < -5
    assert np.abs(change[0, :40]).max() < 4
