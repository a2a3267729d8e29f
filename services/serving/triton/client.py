"""Asynchronous client of a Triton server: named arrays in, named arrays out.

Tensors of 64 KiB and more are passed in system shared memory, in regions that are registered once
and reused (786 KB in each direction: about 1 ms instead of 3.5 ms). Triton must run on the same
machine or in the same pod, with /dev/shm shared; newer servers need `--allow-client-shm=true`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
from collections.abc import AsyncIterator, Awaitable, Iterable, Mapping, MutableMapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, TypeVar

import grpc
import numpy as np
from tritonclient.grpc import model_config_pb2, service_pb2, service_pb2_grpc
from tritonclient.utils import np_to_triton_dtype, triton_to_np_dtype

from talkingface.contract.arrays import AnyArray
from talkingface.contract.errors import ServiceError
from talkingface.serving.triton.device import CPU, GPU
from talkingface.serving.triton.shared_memory import Region

log = logging.getLogger(__name__)

Arrays = dict[str, AnyArray]  # by name of the tensor
T = TypeVar("T")

_MIN_SHARED = 64 * 1024  # bytes of a tensor; smaller ones are sent in the message
# Inferences with shared memory at a time: more than a GPU's largest batch, 0.5 MB each at 512x512.
_MAX_SHARING = 256
_MAX_POOLED = 8 << 20  # bytes; larger regions, for a whole photo, are released at once

_CHANNEL_OPTIONS = (
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 500),
)

# Codes of a Triton that is starting, stopping or lost. NOT_FOUND is "unknown model", from a server
# that is shutting down.
_UNAVAILABLE = {
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
}


@dataclass(frozen=True)
class TensorSpec:
    """A tensor of a model; the shape is without the batch dimension, -1 where it varies."""

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]

    @property
    def bytes(self) -> int | None:
        """Bytes of one row, or None if they vary."""
        if any(side < 0 for side in self.shape) or self.dtype.hasobject:
            return None
        return math.prod(self.shape) * self.dtype.itemsize


@dataclass(frozen=True)
class ModelSpec:
    """The inputs and outputs of a model."""

    name: str
    batched: bool
    inputs: Mapping[str, TensorSpec]
    outputs: Mapping[str, TensorSpec]


class TritonClient:
    """A connection to one Triton server, for any number of sessions in one event loop."""

    def __init__(self, url: str, timeout: float = 10.0) -> None:
        """
        :param url: host:port of its gRPC server
        :param timeout: seconds that one inference may take, queueing included
        """
        self.url = url
        self._timeout = timeout
        self._channel = grpc.aio.insecure_channel(url, _CHANNEL_OPTIONS)
        self._stub = service_pb2_grpc.GRPCInferenceServiceStub(self._channel)
        self._regions = _RegionPool(self._stub)
        # Limits inferences, not regions: inferences that each hold some regions and wait for more
        # would deadlock.
        self._sharing = asyncio.Semaphore(_MAX_SHARING)
        self._specs: dict[str, ModelSpec] = {}
        self._running: set[asyncio.Task[Arrays]] = set()

    async def close(self) -> None:
        """Wait for running inferences, and release the shared memory."""
        if self._running:
            await asyncio.wait(self._running, timeout=self._timeout)
        await self._regions.close()
        await self._channel.close()

    async def is_ready(self, models: Iterable[str] = ()) -> bool:
        """Return whether the server and these models are ready."""
        try:
            server = await self._stub.ServerReady(service_pb2.ServerReadyRequest(), timeout=2)
            if not server.ready:
                return False
            for name in models:
                model = await self._stub.ModelReady(
                    service_pb2.ModelReadyRequest(name=name), timeout=2
                )
                if not model.ready:
                    return False
        except grpc.aio.AioRpcError:
            return False
        return True

    async def wait_ready(self, models: Iterable[str], within: float = 120.0) -> None:
        """Wait until these models are ready.

        :param models: names of the models
        :param within: seconds to wait
        :raises ServiceError: STAGE_UNAVAILABLE after `within`
        """
        models = list(models)
        try:
            async with asyncio.timeout(within):
                while not await self.is_ready(models):  # noqa: ASYNC110
                    await asyncio.sleep(0.1)
        except TimeoutError:
            text = f"Triton at {self.url}: {', '.join(models)} not ready after {within:g} s"
            raise ServiceError("STAGE_UNAVAILABLE", text) from None

    async def model(self, name: str) -> ModelSpec:
        """Return the inputs and outputs of a model; requested once."""
        if name not in self._specs:
            request = service_pb2.ModelConfigRequest(name=name)
            config = (await self._call(self._stub.ModelConfig(request, timeout=5))).config
            specs = [
                {
                    tensor.name: TensorSpec(tensor.name, _dtype(tensor.data_type), (*tensor.dims,))
                    for tensor in tensors
                }
                for tensors in (config.input, config.output)
            ]
            self._specs[name] = ModelSpec(name, config.max_batch_size > 0, *specs)
        return self._specs[name]

    async def device(self, name: str) -> str:
        """Return where a model's instances run, "cpu" or "gpu"."""
        request = service_pb2.ModelConfigRequest(name=name)
        config = (await self._call(self._stub.ModelConfig(request, timeout=5))).config
        kinds = {group.kind for group in config.instance_group}
        return GPU if model_config_pb2.ModelInstanceGroup.KIND_GPU in kinds else CPU

    async def warm_up(self, name: str, times: int = 2) -> None:
        """Run a model a few times on zeros, so that start-up work is done.

        The shapes of the model's inputs must be fixed.
        """
        spec = await self.model(name)
        zeros = {t.name: np.zeros(t.shape, t.dtype) for t in spec.inputs.values()}
        for _ in range(times):
            await self.infer(name, zeros)

    async def infer(
        self,
        name: str,
        inputs: Mapping[str, AnyArray],
        seconds: float | None = None,
        shapes: Mapping[str, tuple[int, ...]] = MappingProxyType({}),
    ) -> Arrays:
        """Run a model on one row.

        :param name: name of the model
        :param inputs: arrays without batch dimension, one for each input of the model
        :param seconds: time limit, queueing included; default: the client's `timeout`
        :param shapes: shapes of outputs whose size the model's configuration does not fix, so that
            they can use shared memory as well; the model may return them flat
        :return: arrays without batch dimension, owned by the caller
        :raises ServiceError: STAGE_UNAVAILABLE if a retry may help; a typed error that the model
            itself reported; INTERNAL for any other failure of the model
        """
        spec = await self.model(name)
        request = service_pb2.ModelInferRequest(model_name=name)
        shared: list[tuple[service_pb2.ModelInferRequest.InferInputTensor, AnyArray]] = []
        for tensor in spec.inputs.values():
            array = np.ascontiguousarray(inputs[tensor.name], tensor.dtype)
            entry = request.inputs.add(
                name=tensor.name,
                datatype=np_to_triton_dtype(tensor.dtype),
                shape=(1, *array.shape) if spec.batched else array.shape,
            )
            if array.nbytes >= _MIN_SHARED:
                shared.append((entry, array))
            else:
                # Triton expects raw contents in the order of the inputs that are not shared.
                request.raw_input_contents.append(array.tobytes())
        outputs = [
            replace(tensor, shape=shapes.get(tensor.name, tensor.shape))
            for tensor in spec.outputs.values()
        ]
        large = [tensor for tensor in outputs if (tensor.bytes or 0) >= _MIN_SHARED]
        for tensor in spec.outputs.values():
            request.outputs.add(name=tensor.name)
        if not shared and not large:
            return self._unpack(spec, await self._infer(request, seconds), {})
        # Triton writes into the regions until it responds. When the caller is cancelled, the task
        # therefore continues, and returns the regions to the pool when it ends.
        task = asyncio.create_task(self._infer_shared(spec, request, seconds, shared, large))
        self._running.add(task)
        task.add_done_callback(self._on_done)
        return await asyncio.shield(task)

    def _on_done(self, task: asyncio.Task[Arrays]) -> None:
        self._running.discard(task)
        if not task.cancelled():
            # Retrieved so that asyncio does not log it where the caller was cancelled.
            task.exception()

    async def _infer_shared(
        self,
        spec: ModelSpec,
        request: service_pb2.ModelInferRequest,
        seconds: float | None,
        shared: list[tuple[service_pb2.ModelInferRequest.InferInputTensor, AnyArray]],
        large: list[TensorSpec],
    ) -> Arrays:
        async with self._sharing, contextlib.AsyncExitStack() as stack:
            for entry, array in shared:
                region = await stack.enter_async_context(self._regions.borrow(array.nbytes))
                region.view(array.dtype, array.shape)[...] = array
                _use_region(entry.parameters, region, array.nbytes)
            views: Arrays = {}
            for tensor in large:
                size = tensor.bytes
                assert size is not None
                region = await stack.enter_async_context(self._regions.borrow(size))
                entry = next(o for o in request.outputs if o.name == tensor.name)
                _use_region(entry.parameters, region, size)
                views[tensor.name] = region.view(tensor.dtype, tensor.shape)
            response = await self._infer(request, seconds)
            return self._unpack(spec, response, views)

    async def _infer(
        self, request: service_pb2.ModelInferRequest, seconds: float | None
    ) -> service_pb2.ModelInferResponse:
        timeout = self._timeout if seconds is None else seconds
        return await self._call(self._stub.ModelInfer(request, timeout=timeout))

    async def _call(self, call: Awaitable[T]) -> T:
        """Await a call, and convert its errors as `infer` documents."""
        try:
            return await call
        except grpc.aio.AioRpcError as error:
            text = error.details() or ""
            typed = ServiceError.from_text(text)
            if typed is not None:
                raise typed from None
            if error.code() in _UNAVAILABLE or "shared memory region" in text:
                # A restarted server does not know the regions, and may have other models.
                self._regions.discard()
                self._specs.clear()
                raise ServiceError(
                    "STAGE_UNAVAILABLE", f"Triton: {error.code().name}: {text}"
                ) from error
            raise ServiceError("INTERNAL", "the model failed") from error

    def _unpack(
        self, spec: ModelSpec, response: service_pb2.ModelInferResponse, views: Arrays
    ) -> Arrays:
        outputs: Arrays = {name: view.copy() for name, view in views.items()}
        contents = iter(response.raw_output_contents)
        for tensor in response.outputs:
            # Triton leaves an empty entry for an output that it has written to shared memory.
            raw = next(contents) if response.raw_output_contents else b""
            if tensor.name in outputs:
                if math.prod(tensor.shape) != outputs[tensor.name].size:
                    raise ServiceError("INTERNAL", f"the model returned shape {tensor.shape}")
                continue
            array = np.frombuffer(raw, spec.outputs[tensor.name].dtype).copy()
            outputs[tensor.name] = array.reshape(tensor.shape[1:] if spec.batched else tensor.shape)
        return outputs


def _dtype(data_type: int) -> np.dtype[Any]:
    """Return the numpy type of an entry of Triton's `model_config.DataType`."""
    name = model_config_pb2.DataType.Name(data_type).removeprefix("TYPE_")
    return np.dtype(triton_to_np_dtype({"STRING": "BYTES"}.get(name, name)))


def _use_region(
    parameters: MutableMapping[str, service_pb2.InferParameter],
    region: _RegisteredRegion,
    size: int,
) -> None:
    """Let Triton read or write a tensor in a region instead of in the message."""
    parameters["shared_memory_region"].string_param = region.key
    parameters["shared_memory_byte_size"].int64_param = size


class _RegisteredRegion:
    """A region that is registered with Triton under the name `key`."""

    def __init__(self, size: int) -> None:
        self.region = Region("tensor", size)
        self.key = self.region.name[1:]

    def view(self, dtype: np.dtype[Any], shape: tuple[int, ...]) -> AnyArray:
        return np.ndarray(shape, dtype, buffer=self.region.memory)


class _RegionPool:
    """Regions that are registered with Triton and reused. Sizes are powers of two."""

    def __init__(self, stub: service_pb2_grpc.GRPCInferenceServiceStub) -> None:
        self._stub = stub
        self._free: dict[int, list[_RegisteredRegion]] = {}
        self._generation = 0

    @asynccontextmanager
    async def borrow(self, size: int) -> AsyncIterator[_RegisteredRegion]:
        """Lend a region of at least `size` bytes."""
        size = 1 << (size - 1).bit_length()
        generation = self._generation
        free = self._free.setdefault(size, [])
        region = free.pop() if free else await self._register(size)
        responded = False
        try:
            yield region
            responded = True
        except ServiceError as error:
            responded = error.reason != "STAGE_UNAVAILABLE"
            raise
        finally:
            # Without a response Triton may still write into it: never use it again.
            if not responded or generation != self._generation:
                region.region.close()
            elif size > _MAX_POOLED:
                await self._release(region)
            else:
                self._free.setdefault(size, []).append(region)

    async def _register(self, size: int) -> _RegisteredRegion:
        region = _RegisteredRegion(size)
        request = service_pb2.SystemSharedMemoryRegisterRequest(
            name=region.key, key=region.region.name, offset=0, byte_size=size
        )
        try:
            await self._stub.SystemSharedMemoryRegister(request, timeout=5)
        except grpc.aio.AioRpcError as error:
            region.region.close()
            text = f"Triton refuses shared memory: {error.details()}"
            raise ServiceError("STAGE_UNAVAILABLE", text) from error
        return region

    async def _release(self, region: _RegisteredRegion) -> None:
        request = service_pb2.SystemSharedMemoryUnregisterRequest(name=region.key)
        with contextlib.suppress(grpc.aio.AioRpcError):
            await self._stub.SystemSharedMemoryUnregister(request, timeout=1)
        region.region.close()

    def discard(self) -> None:
        """Discard the free regions, because the server that knew them is lost."""
        self._generation += 1
        for regions in self._free.values():
            for region in regions:
                region.region.close()
        self._free.clear()

    async def close(self) -> None:
        """Unregister and remove the free regions."""
        regions = [region for free in self._free.values() for region in free]
        self._free.clear()
        for region in regions:
            await self._release(region)
