"""The fixed work by which `machine` states the speed of a machine: one process for each core.

    python -m talkingface_research.bench.machine_work CORE

The process prints "ready", then for each line that it reads one line of JSON: the best CPU time of
each part in milliseconds, and the share of the core that it got. Inputs are computed by formula and
every part runs on one thread, so the work is the same on every machine. Each part takes about 10 ms
on a quiet core of an AMD EPYC at 2.6 GHz, so that none dominates the sum.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

import cv2
import numpy as np
from numba import njit

Work = Callable[[], Any]

REPETITIONS = 7  # of all parts; the best of each counts
_SIDE = 512  # pixels of the remapped image, which is that of a usual frame
_COPIED_BYTES = 32 << 20  # more than a core's share of the caches
_CHANNELS, _LAYERS = 24, 6
cv: Any = cv2  # OpenCV's stubs have no element types


def python_loop() -> Work:
    """Return a loop of Python bytecode."""

    def work() -> int:
        total = 0
        for i in range(180_000):
            total = (total * 31 + i) & 0xFFFF
        return total

    return work


@njit(cache=True)
def _mix(count: int) -> float:
    state, total = 88172645463325252, 0.0
    for _ in range(count):
        state ^= (state << 13) & 0x7FFFFFFFFFFFFFFF
        state ^= state >> 7
        state ^= (state << 17) & 0x7FFFFFFFFFFFFFFF
        total += np.sqrt(float(state & 0xFFFFF)) * 0.5
    return total


def numba_loop() -> Work:
    """Return a compiled loop of integer shifts and square roots, which no vector unit speeds up."""
    return lambda: _mix(4_000_000)


def remap() -> Work:
    """Return eight bilinear remaps of a fixed image of 512x512x3 by OpenCV."""
    y, x = np.mgrid[:_SIDE, :_SIDE].astype(np.float32)
    image = ((x[..., None] * [3, 5, 7] + y[..., None] * [7, 5, 3]) % 256).astype(np.uint8)
    map_x = x + 9 * np.sin(y / 31, dtype=np.float32)
    map_y = y + 9 * np.cos(x / 37, dtype=np.float32)

    def work() -> None:
        for _ in range(8):
            cv.remap(image, map_x, map_y, cv.INTER_LINEAR)

    return work


def onnxruntime_run() -> Work:
    """Return one run of six 3x3 convolutions with 24 channels on 96x96 by ONNX Runtime."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(_graph(), options, providers=["CPUExecutionProvider"])
    values = np.sin(np.arange(_CHANNELS * 96 * 96, dtype=np.float32))
    inputs = {"x": values.reshape(1, _CHANNELS, 96, 96)}
    return lambda: session.run(None, inputs)


def _graph() -> bytes:
    from onnx import TensorProto, helper, numpy_helper

    weights = 0.1 * np.sin(np.arange(_CHANNELS * _CHANNELS * 9, dtype=np.float32))
    weights = weights.reshape(_CHANNELS, _CHANNELS, 3, 3)
    nodes = []
    for i in range(_LAYERS):
        name = "x" if i == 0 else f"x{i}"
        nodes += [
            helper.make_node("Conv", [name, "w"], [f"c{i}"], pads=[1, 1, 1, 1]),
            helper.make_node("Relu", [f"c{i}"], [f"x{i + 1}"]),
        ]
    shape = [1, _CHANNELS, 96, 96]
    graph = helper.make_graph(
        nodes,
        "work",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(f"x{_LAYERS}", TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(weights, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())


def memory_copy() -> Work:
    """Return four copies of 32 MiB."""
    source = np.arange(_COPIED_BYTES // 8)
    target = np.zeros_like(source)

    def work() -> None:
        for _ in range(4):
            np.copyto(target, source)

    return work


PARTS: Mapping[str, Callable[[], Work]] = {
    "Python": python_loop,
    "numba": numba_loop,
    "remap": remap,
    "onnxruntime": onnxruntime_run,
    "copy": memory_copy,
}


def measure(work: Mapping[str, Work], repetitions: int = REPETITIONS) -> dict[str, Any]:
    """Run all parts several times.

    :return: `ms`, the best CPU time of each part in milliseconds, and `share`, CPU time over wall
        time of the whole: less than 1 where other programs took the core
    """
    best = dict.fromkeys(work, float("inf"))
    begin, began = time.perf_counter(), time.process_time()
    for _ in range(repetitions):
        for name, run in work.items():
            used = time.process_time()
            run()
            best[name] = min(best[name], 1000 * (time.process_time() - used))
    wall = time.perf_counter() - begin
    return {"ms": best, "share": min((time.process_time() - began) / wall, 1.0)}


def main(core: int) -> None:
    """Answer each line of the standard input with a measurement on a core."""
    os.sched_setaffinity(0, {core})
    cv.setNumThreads(1)
    work = {name: build() for name, build in PARTS.items()}
    measure(work, repetitions=1)  # compiles, and touches all memory
    print("ready", flush=True)
    for _ in sys.stdin:
        print(json.dumps(measure(work)), flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]))
