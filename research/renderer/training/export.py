"""Checkpoint to ONNX: writes model_repository/inpainter/1/model.onnx and its config.pbtxt.

python -m talkingface_research.renderer.training.export --checkpoint inpainter.pt
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from talkingface import renderer
from talkingface_research.renderer.network import (
    CONTROL_DIM,
    CROP_CHANNELS,
    EYE_SIZE,
    MODEL_NAME,
    MOUTH_SIZE,
    RESIDUAL_CHANNELS,
    Inpainter,
)

REPOSITORY = Path(renderer.__file__).parent / "model_repository"

CONFIG = """\
name: "{name}"
backend: "onnxruntime"
max_batch_size: 8
input [
  {{ name: "mouth" data_type: TYPE_UINT8 dims: [ {mouth}, {mouth}, {channels} ] }},
  {{ name: "eyes" data_type: TYPE_UINT8 dims: [ 2, {eye}, {eye}, {channels} ] }},
  {{ name: "mouth_control" data_type: TYPE_FP32 dims: [ {control} ] }},
  {{ name: "eyes_control" data_type: TYPE_FP32 dims: [ 2, {control} ] }}
]
output [
  {{ name: "mouth_residual" data_type: TYPE_FP32 dims: [ {mouth}, {mouth}, {residual} ] }},
  {{ name: "eyes_residual" data_type: TYPE_FP32 dims: [ 2, {eye}, {eye}, {residual} ] }}
]
dynamic_batching {{ }}
parameters [
  {{ key: "intra_op_thread_count" value {{ string_value: "1" }} }},
  {{ key: "inter_op_thread_count" value {{ string_value: "1" }} }}
]
"""


def export(model: Inpainter, repository: Path) -> Path:
    """Write the Triton model into `repository`; the path of its ONNX file."""
    folder = repository / MODEL_NAME
    (folder / "1").mkdir(parents=True, exist_ok=True)
    names = ["mouth", "eyes", "mouth_control", "eyes_control", "mouth_residual", "eyes_residual"]
    example = (
        torch.zeros(2, MOUTH_SIZE, MOUTH_SIZE, CROP_CHANNELS, dtype=torch.uint8),
        torch.zeros(2, 2, EYE_SIZE, EYE_SIZE, CROP_CHANNELS, dtype=torch.uint8),
        torch.zeros(2, CONTROL_DIM),
        torch.zeros(2, 2, CONTROL_DIM),
    )
    path = folder / "1" / "model.onnx"
    torch.onnx.export(
        model.eval(),
        example,
        str(path),
        input_names=names[:4],
        output_names=names[4:],
        dynamic_axes={name: {0: "batch"} for name in names},
        opset_version=17,
        dynamo=False,
    )
    (folder / "config.pbtxt").write_text(
        CONFIG.format(
            name=MODEL_NAME,
            mouth=MOUTH_SIZE,
            eye=EYE_SIZE,
            channels=CROP_CHANNELS,
            control=CONTROL_DIM,
            residual=RESIDUAL_CHANNELS,
        )
    )
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description="write the Triton model of a checkpoint")
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--repository", type=Path, default=REPOSITORY)
    options = parser.parse_args()
    model = Inpainter()
    model.load_state_dict(torch.load(options.checkpoint, map_location="cpu")["model"])
    path = export(model, options.repository)
    print(f"{path}: {path.stat().st_size / 2**20:.1f} MB")


if __name__ == "__main__":
    main()
