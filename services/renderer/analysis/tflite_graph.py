"""Parts of a TensorFlow Lite model that the stock runtime can execute.

MediaPipe's attention mesh and selfie matte hold operators of MediaPipe's own, which LiteRT does
not know. Between and behind them the graphs are ordinary; `cut` makes a model of such an ordinary
part, and its users compute the few custom operators in numpy.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import flatbuffers  # type: ignore[import-untyped]
import numpy as np
from ai_edge_litert import schema_py_generated as schema  # type: ignore[import-untyped]
from ai_edge_litert.interpreter import Interpreter  # type: ignore[import-untyped]
from flatbuffers import flexbuffers

from talkingface.renderer.arrays import Float32Array


class TfliteGraph:
    """The first subgraph of a model file, open for cutting."""

    def __init__(self, path: Path) -> None:
        self._content = path.read_bytes()
        graph = self._parse().subgraphs[0]
        self._index = {tensor.name.decode(): i for i, tensor in enumerate(graph.tensors)}

    def _parse(self) -> Any:
        return schema.ModelT.InitFromObj(schema.Model.GetRootAs(self._content, 0))

    def custom_options(self, output: str) -> dict[str, Any]:
        """Return the options of the custom operator that writes the tensor `output`."""
        graph = self._parse().subgraphs[0]
        (operator,) = (o for o in graph.operators if self._index[output] in o.outputs)
        options: dict[str, Any] = flexbuffers.Loads(bytes(operator.customOptions))
        return options

    def constant(self, name: str) -> Float32Array:
        """Return a half-precision constant, named by the float32 tensor that it is converted to."""
        model = self._parse()
        graph = model.subgraphs[0]
        (operator,) = (o for o in graph.operators if self._index[name] in o.outputs)
        tensor = graph.tensors[operator.inputs[0]]
        if tensor.type != schema.TensorType.FLOAT16:
            raise ValueError(f"{name} is not a half-precision constant")
        values = np.frombuffer(bytes(model.buffers[tensor.buffer].data), np.float16)
        return values.astype(np.float32).reshape(tensor.shape)

    def cut(self, inputs: list[str], outputs: list[str]) -> Runner:
        """Cut out the part of the graph between the tensors `inputs` and the tensors `outputs`."""
        model = self._parse()
        graph = model.subgraphs[0]
        graph.inputs = [self._index[name] for name in inputs]
        graph.outputs = [self._index[name] for name in outputs]
        needed, kept = set(graph.outputs), []
        for operator in reversed(graph.operators):
            if needed.intersection(operator.outputs) - set(graph.inputs):
                kept.append(operator)
                needed.update(operator.inputs)
        graph.operators = kept[::-1]
        model.signatureDefs = []
        model.metadata, model.metadataBuffer = [], []
        builder = flatbuffers.Builder(len(self._content))
        builder.Finish(model.Pack(builder), b"TFL3")
        return Runner(bytes(builder.Output()), len(outputs))


class Runner:
    """One single-threaded interpreter; calls from several threads run one after the other."""

    def __init__(self, content: bytes, output_count: int | None = None) -> None:
        self._interpreter = Interpreter(model_content=content, num_threads=1)
        self._interpreter.allocate_tensors()
        self._inputs = [d["index"] for d in self._interpreter.get_input_details()]
        self._outputs = [d["index"] for d in self._interpreter.get_output_details()]
        if output_count is not None and len(self._outputs) != output_count:
            raise ValueError("the cut graph lacks outputs")
        self._lock = threading.Lock()

    def __call__(self, *inputs: Float32Array) -> list[Float32Array]:
        """Run the model: inputs and outputs in the model's order, with batch dimension."""
        with self._lock:
            for index, value in zip(self._inputs, inputs, strict=True):
                self._interpreter.set_tensor(index, np.ascontiguousarray(value, np.float32))
            self._interpreter.invoke()
            return [self._interpreter.get_tensor(index) for index in self._outputs]
