"""The network in 8 bits: writes model_repository/inpainter/1/model.onnx from its fp32 form.

python -m talkingface_research.renderer.training.quantise --model fp32.onnx --photos FOLDER

Convolutions are computed in integers (Jacob et al. 2018, arXiv 1712.05877): weights per channel,
activations with ranges measured on rendered frames. Weights have 7 bits, so that no sum saturates
on processors without VNNI instructions, and all processors give the same result. Drawn masks, and
so where a residual is applied, stay in floating point.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnxruntime
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_static,
)
from onnxruntime.quantization.shape_inference import quant_pre_process

from talkingface.contract.motion import ARKIT_DIM, PITCH, ROLL, neutral
from talkingface.renderer.analysis import FaceAnalyser, PortraitError
from talkingface.renderer.arrays import AnyArray, Float32Array
from talkingface.renderer.geometry import render
from talkingface.renderer.worker.frame_synthesis import inpainter_inputs
from talkingface_research.renderer.evaluation.offline_renderer import INPAINTER, prepare_analysed
from talkingface_research.renderer.training.build_pairs import HELD_OUT_PHOTOS

FRAMES = 8  # of each portrait
QUANTISED = ["Add", "Conv", "LeakyRelu", "Resize"]  # operators
Inputs = dict[str, AnyArray]


def random_motion(rng: np.random.Generator) -> Float32Array:
    """Return a motion frame (60,) with a strong expression and a turned head."""
    motion: Float32Array = neutral(1)[0]
    motion[:ARKIT_DIM] = rng.random(ARKIT_DIM).astype(np.float32) ** 3
    motion[PITCH : ROLL + 1] = rng.uniform(-15, 15, 3)
    return motion


def inputs_of(photos: list[Path], seed: int) -> Iterator[Inputs]:
    """Yield the network's inputs for random motion of each portrait."""
    analyser, rng = FaceAnalyser(), np.random.default_rng(seed)
    for photo in photos:
        try:
            portrait = prepare_analysed(analyser.analyse(photo.read_bytes()))
        except PortraitError:
            continue
        for _ in range(FRAMES):
            inputs = inpainter_inputs(render(portrait, random_motion(rng)))
            yield {name: value[None] for name, value in inputs.items()}


class _Reader(CalibrationDataReader):
    def __init__(self, inputs: list[Inputs]) -> None:
        self._rest = iter(inputs)

    def get_next(self) -> Inputs | None:
        return next(self._rest, None)


def quantise(model: Path, inputs: list[Inputs], out: Path) -> None:
    """Write the 8-bit form of a model.

    :param inputs: on which the ranges of activations are measured.
    """
    with tempfile.TemporaryDirectory() as folder:
        prepared = Path(folder) / "prepared.onnx"
        quant_pre_process(str(model), str(prepared), skip_symbolic_shape=True)
        quantize_static(
            str(prepared),
            str(out),
            _Reader(inputs),
            quant_format=QuantFormat.QDQ,  # which GPUs run, in floating point
            op_types_to_quantize=QUANTISED,
            per_channel=True,
            reduce_range=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.MinMax,
        )


def changes(model: Path, other: Path, inputs: list[Inputs]) -> Float32Array:
    """Return by how many levels the colours of two models' results differ, where applied."""
    first, second = (onnxruntime.InferenceSession(str(path)) for path in (model, other))
    differences = []
    for one in inputs:
        for a, b in zip(first.run(None, one), second.run(None, one), strict=True):
            applied = [255 * residual[..., :3] * residual[..., 3:] for residual in (a, b)]
            differences.append(np.abs(applied[0] - applied[1]).ravel())
    result: Float32Array = np.concatenate(differences)
    return result


def cost(model: Path, inputs: list[Inputs]) -> float:
    """Return the CPU time of a frame on one core, in milliseconds, after one round to warm up."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(model), options)
    begin = 0.0
    for _ in range(2):
        begin = time.thread_time()
        for one in inputs:
            session.run(None, one)
    return 1000 * (time.thread_time() - begin) / len(inputs)


def main() -> None:
    """Quantise a model, and print cost and change on portraits that were held out."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--model", type=Path, required=True, help="the network in fp32")
    parser.add_argument("--photos", type=Path, required=True, help="folder of portraits")
    parser.add_argument("--every", type=int, default=12, help="use every so many portraits")
    parser.add_argument("--out", type=Path, default=INPAINTER)
    options = parser.parse_args()
    photos = sorted(options.photos.glob("*.jpg"))
    held_out = photos[::HELD_OUT_PHOTOS]
    training = [photo for photo in photos if photo not in held_out][:: options.every]
    quantise(options.model, list(inputs_of(training, seed=0)), options.out)
    inputs = list(inputs_of(held_out[:: options.every], seed=1))
    change = changes(options.model, options.out, inputs)
    times = [cost(path, inputs) for path in (options.model, options.out)]
    size = options.out.stat().st_size / 2**20
    print(f"{options.out}: {size:.2f} MB, ranges from {len(training)} portraits")
    print(f"CPU time of a frame: {times[1]:.2f} ms, before {times[0]:.2f} ms")
    print(
        f"levels of change on {len(held_out[:: options.every])} held-out portraits: mean "
        f"{change.mean():.3f}, 99.9 % below {np.quantile(change, 0.999):.2f}, at most "
        f"{change.max():.2f}"
    )


if __name__ == "__main__":
    main()
