"""Checkpoint to ONNX: writes model_repository/speech_encoder/1/model.onnx and config.pbtxt.

python -m talkingface.audio_features.training.export --checkpoint encoder.pt
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from talkingface.audio_features.contract import (
    BLOCK_ROWS,
    BLOCK_SAMPLES,
    FEATURE_DIM,
    MODEL_NAME,
    SPEECH_DIM,
)
from talkingface.audio_features.encoder import ResidualBlock, SpeechEncoder
from talkingface.audio_features.training.features import load_encoder

REPOSITORY = Path(__file__).resolve().parents[1] / "model_repository"

CONFIG = """\
name: "{name}"
backend: "onnxruntime"
max_batch_size: 16
input [
  {{ name: "pcm" data_type: TYPE_FP32 dims: [ {samples} ] }},
  {{ name: "state" data_type: TYPE_FP32 dims: [ {state} ] }}
]
output [
  {{ name: "features" data_type: TYPE_FP32 dims: [ {rows}, {features} ] }},
  {{ name: "speech" data_type: TYPE_FP32 dims: [ {rows}, {speech} ] }},
  {{ name: "next_state" data_type: TYPE_FP32 dims: [ {state} ] }}
]
dynamic_batching {{ }}
instance_group [ {{ kind: KIND_AUTO count: 1 }} ]
parameters [
  {{ key: "intra_op_thread_count" value {{ string_value: "1" }} }},
  {{ key: "inter_op_thread_count" value {{ string_value: "1" }} }}
]
"""


def _folded(convolution: nn.Module, norm: nn.Module) -> nn.Conv1d:
    assert isinstance(convolution, nn.Conv1d)
    assert isinstance(norm, nn.BatchNorm1d)
    return fuse_conv_bn_eval(convolution, norm)


def fold_norms(model: SpeechEncoder) -> SpeechEncoder:
    """Batch norms melted into the convolutions before them; the same function in eval mode."""
    model.first = _folded(model.first, model.first_norm)
    model.embedding = _folded(model.embedding, model.embedding_norm)
    model.first_norm = model.embedding_norm = nn.Identity()
    for block in model.blocks:
        assert isinstance(block, ResidualBlock)
        block.dilated = _folded(block.dilated, block.norm1)
        block.pointwise = _folded(block.pointwise, block.norm2)
        block.norm1 = block.norm2 = nn.Identity()
    return model


def export(model: SpeechEncoder, repository: Path) -> None:
    """Write the Triton model of an encoder in eval mode into `repository`."""
    model = fold_norms(model.eval())
    folder = repository / MODEL_NAME
    (folder / "1").mkdir(parents=True, exist_ok=True)
    names = ["pcm", "state", "features", "speech", "next_state"]
    torch.onnx.export(
        model,
        (torch.zeros(2, BLOCK_SAMPLES), model.initial_state(2)),
        str(folder / "1" / "model.onnx"),
        input_names=names[:2],
        output_names=names[2:],
        dynamic_axes={name: {0: "batch"} for name in names},
        opset_version=17,
        dynamo=False,
    )
    config = CONFIG.format(
        name=MODEL_NAME,
        samples=BLOCK_SAMPLES,
        state=model.state_size,
        rows=BLOCK_ROWS,
        features=FEATURE_DIM,
        speech=SPEECH_DIM,
    )
    (folder / "config.pbtxt").write_text(config)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--repository", type=Path, default=REPOSITORY)
    arguments = parser.parse_args()
    export(load_encoder(arguments.checkpoint, "cpu"), arguments.repository)


if __name__ == "__main__":
    main()
