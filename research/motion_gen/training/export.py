"""Export a trained generator, sampler and guidance included, into the model repository.

    python -m talkingface_research.motion_gen.training.export --checkpoint FILE.pt [FILE.pt ...]

Several checkpoints of one training are averaged, weight by weight (Wortsman et al. 2022). Without
a checkpoint the weights are random: for building and measuring before training.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch

from talkingface import motion_gen
from talkingface.contract.speech_features import FEATURE_DIM, SPEECH_DIM
from talkingface.motion_gen.canonical_motion import CANONICAL_DIM
from talkingface.motion_gen.windows import (
    BEHAVIOUR_DIM,
    EMOTION_DIM,
    GUIDED,
    HOP,
    MODEL_NAME,
    PAST,
    SPAN,
    WINDOW,
    WINDOW_ROWS,
)
from talkingface_research.motion_gen.network import STEPS, MotionGenerator, Sampler, load

REPOSITORY = Path(motion_gen.__file__).parent / "model_repository"
INPUTS: dict[str, tuple[int, ...]] = {
    "features": (WINDOW_ROWS, FEATURE_DIM),
    "speech": (WINDOW_ROWS, SPEECH_DIM),
    "behaviour": (WINDOW, BEHAVIOUR_DIM),
    "emotion": (WINDOW, EMOTION_DIM),
    "past": (PAST, CANONICAL_DIM),
    "past_valid": (PAST,),
    "noise": (SPAN, CANONICAL_DIM),
    "guidance": (len(GUIDED),),
}
OUTPUTS: dict[str, tuple[int, ...]] = {"frames": (HOP, CANONICAL_DIM)}
MAX_BATCH = 8


def config() -> str:
    """`config.pbtxt` of the model."""

    def tensors(kind: str, shapes: dict[str, tuple[int, ...]]) -> str:
        entries = ",\n".join(
            f'  {{ name: "{name}" data_type: TYPE_FP32 dims: {list(shape)} }}'
            for name, shape in shapes.items()
        )
        return f"{kind} [\n{entries}\n]\n"

    return (
        f'name: "{MODEL_NAME}"\n'
        'backend: "onnxruntime"\n'
        f"max_batch_size: {MAX_BATCH}\n"
        f"{tensors('input', INPUTS)}{tensors('output', OUTPUTS)}"
        "dynamic_batching { max_queue_delay_microseconds: 500 }\n"
        "instance_group [ { kind: KIND_AUTO count: 1 } ]\n"
        'parameters { key: "intra_op_thread_count" value: { string_value: "1" } }\n'
    )


def example(batch: int) -> dict[str, torch.Tensor]:
    """Random inputs of the right shapes."""
    generator = torch.Generator().manual_seed(0)
    return {
        name: torch.randn((batch, *shape), generator=generator) for name, shape in INPUTS.items()
    }


def export(sampler: Sampler, path: Path) -> None:
    """Write the ONNX graph."""
    path.parent.mkdir(parents=True, exist_ok=True)
    inputs = example(2)
    torch.onnx.export(
        sampler.eval(),
        tuple(inputs.values()),
        str(path),
        dynamo=False,
        input_names=list(inputs),
        output_names=list(OUTPUTS),
        dynamic_axes={name: {0: "batch"} for name in (*inputs, *OUTPUTS)},
        opset_version=20,
    )
    model = onnx.load(str(path))
    store_half(model.graph)
    onnx.checker.check_model(model)
    onnx.save(model, str(path))


def store_half(graph: onnx.GraphProto) -> None:
    """Store large weights in half precision, as checkpoints do; the runtime folds the casts when it
    loads the model, and computes in single precision."""
    casts = []
    for weight in graph.initializer:
        values = onnx.numpy_helper.to_array(weight)
        if values.dtype != np.float32 or values.size < 1024:
            continue
        name = f"{weight.name}.half"
        casts.append(
            onnx.helper.make_node("Cast", [name], [weight.name], to=onnx.TensorProto.FLOAT)
        )
        weight.CopyFrom(onnx.numpy_helper.from_array(values.astype(np.float16), name))
    for cast in reversed(casts):
        graph.node.insert(0, cast)


def averaged(generators: list[MotionGenerator]) -> MotionGenerator:
    """The first generator with the mean of all weights, rounded as checkpoints are."""
    states = [generator.state_dict() for generator in generators]
    mean = {
        name: torch.stack([state[name] for state in states]).mean(0).half() for name in states[0]
    }
    generators[0].load_state_dict(mean)
    return generators[0]


def check(sampler: Sampler, path: Path) -> None:
    """Compare with torch and between batch sizes, and print the time of a window."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    inputs = {**example(MAX_BATCH), "past_valid": torch.ones(MAX_BATCH, PAST)}
    arrays = {name: value.numpy() for name, value in inputs.items()}
    with torch.inference_mode():
        expected = sampler(**inputs).numpy()
    (together,) = session.run(None, arrays)
    print(f"largest difference from torch: {np.abs(together - expected).max():.2e}")
    same = True
    for size in range(1, MAX_BATCH):
        (some,) = session.run(None, {name: value[:size] for name, value in arrays.items()})
        same &= bool((some == together[:size]).all())
    print(f"bit for bit the same whatever the batch: {same}")
    one = {name: value[:1] for name, value in arrays.items()}
    began = time.perf_counter()
    for _ in range(50):
        session.run(None, one)
    took = (time.perf_counter() - began) / 50
    print(f"window of {HOP} frames: {1e3 * took:.1f} ms, real-time factor {took * 25 / HOP:.3f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", nargs="*", default=[])
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--repository", type=Path, default=REPOSITORY)
    args = parser.parse_args()
    torch.manual_seed(0)
    if args.checkpoint:
        generator = averaged([load(path) for path in args.checkpoint])
    else:
        generator = MotionGenerator()
        torch.nn.init.normal_(generator.head.weight, std=2e-3)
    sampler = Sampler(generator.eval(), args.steps).eval()
    model = args.repository / MODEL_NAME
    path = model / "1" / "model.onnx"
    export(sampler, path)
    (model / "config.pbtxt").write_text(config())
    print(f"{path}: {path.stat().st_size / 1e6:.1f} MB")
    check(sampler, path)


if __name__ == "__main__":
    main()
