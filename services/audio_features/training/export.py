"""Checkpoint to ONNX: writes model_repository/speech_encoder/1/model.onnx and config.pbtxt.

python -m talkingface.audio_features.training.export --checkpoint encoder.pt
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from torch.nn.utils.fusion import fuse_conv_bn_eval

from talkingface.audio_features.contract import (
    BLOCK_ROWS,
    BLOCK_SAMPLES,
    FEATURE_DIM,
    MODEL_NAME,
    SPEECH_DIM,
)
from talkingface.audio_features.encoder import SpeechEncoder
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
parameters [
  {{ key: "intra_op_thread_count" value {{ string_value: "1" }} }},
  {{ key: "inter_op_thread_count" value {{ string_value: "1" }} }}
]
"""


def fold_norms(model: SpeechEncoder) -> SpeechEncoder:
    """Batch norms melted into the convolutions before them; the same function in eval mode."""
    identity = torch.nn.Identity()
    model.first, model.first_norm = fuse_conv_bn_eval(model.first, model.first_norm), identity
    model.embedding = fuse_conv_bn_eval(model.embedding, model.embedding_norm)
    model.embedding_norm = identity
    for block in model.blocks:
        block.dilated, block.norm1 = fuse_conv_bn_eval(block.dilated, block.norm1), identity
        block.pointwise, block.norm2 = fuse_conv_bn_eval(block.pointwise, block.norm2), identity
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
