"""Checkpoint to ONNX: writes model_repository/speech_encoder/1/model.onnx and config.pbtxt.

python -m talkingface_research.audio_features.training.export --checkpoint encoder.pt
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from talkingface import audio_features
from talkingface.contract.speech_features import (
    CHUNK_ROWS,
    CHUNK_SAMPLES,
    FEATURE_DIM,
    MODEL_NAME,
    SPEECH_DIM,
)
from talkingface_research.audio_features.network import SpeechEncoder, fold_norms
from talkingface_research.audio_features.training.features import load_encoder

REPOSITORY = Path(audio_features.__file__).parent / "model_repository"

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


def export(model: SpeechEncoder, repository: Path) -> None:
    """Write the Triton model of an encoder in eval mode into `repository`."""
    model = fold_norms(model.eval())
    folder = repository / MODEL_NAME
    (folder / "1").mkdir(parents=True, exist_ok=True)
    names = ["pcm", "state", "features", "speech", "next_state"]
    torch.onnx.export(
        model,
        (torch.zeros(2, CHUNK_SAMPLES), model.initial_state(2)),
        str(folder / "1" / "model.onnx"),
        input_names=names[:2],
        output_names=names[2:],
        dynamic_axes={name: {0: "batch"} for name in names},
        opset_version=17,
        dynamo=False,
    )
    config = CONFIG.format(
        name=MODEL_NAME,
        samples=CHUNK_SAMPLES,
        state=model.state_size,
        rows=CHUNK_ROWS,
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
