"""What the three stages share: their Triton, their lifecycle, and the loop of a stream.

A stage supplies a `StageHandler` for each stream: the translation of messages to the input of its
session and of the session's results to messages. `Stage.serve` moves the data:

    client -> reader (bounded queue) -> session -> Triton -> session -> client

The reader continues while the model runs, but never more than a few messages ahead; a client that
does not read its results stops the model and, in the end, its own sending.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar, Generic

import grpc
from numpy.typing import NDArray

import talkingface
from talkingface.contract.errors import ServiceError, invalid_field
from talkingface.contract.identity import digest
from talkingface.contract.stage_streams import StreamConfig, StreamRequest, StreamResponse
from talkingface.serving.calibration import HEADROOM, Probe, realtime_streams
from talkingface.serving.checkpoint import MAX_BYTES, mismatch
from talkingface.serving.config import StageConfig
from talkingface.serving.inference_loop import InferenceLoop, StageHandler
from talkingface.serving.server import Call, Context, ServiceHost
from talkingface.serving.stream_io import read, write
from talkingface.serving.triton import shared_memory
from talkingface.serving.triton.client import Arrays, TritonClient
from talkingface.serving.triton.server import EmbeddedTriton, TritonError
from talkingface.v1 import stage_pb2, stage_pb2_grpc

log = logging.getLogger(__name__)

_QUEUED_MESSAGES = 8
_WATCH_SECONDS = 0.5
_CANCEL_SECONDS = 0.05
_SESSION_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")


# What every stage's results depend on, and the libraries whose versions do.
SHARED = ("contract", "v1", "serving/checkpoint.py", "serving/triton/backends")
LIBRARIES = ("numpy", "onnxruntime", "numba", "opencv-python-headless", "ai-edge-litert", "av")


class Stage(Generic[StreamConfig, StreamRequest, StreamResponse]):
    """A stage: models in a Triton of its own, and the service in front of it."""

    name: ClassVar[str]
    """Short name, as in `StageInfo.stage`."""
    service: ClassVar[str]
    """Full name of the gRPC service."""
    repository: ClassVar[Path]
    """Triton's model repository."""
    models: ClassVar[tuple[str, ...]]
    """The models that must be ready; the first is the one that `StageInfo.model` names."""
    parts: ClassVar[tuple[str, ...]]
    """What decides the results beside the contract: see `contract.identity.digest`."""
    look_ahead_ms: ClassVar[int]

    def __init__(self, config: StageConfig) -> None:
        self.config = config
        self.host = ServiceHost(self.name, config)
        self.triton: TritonClient
        self._embedded: EmbeddedTriton | None = None
        self._watcher: asyncio.Task[None] | None = None
        self._ready = False
        self._measuring = asyncio.Lock()
        self._model_id = ""

    async def run(self) -> int:
        """Run until a signal; see `ServiceHost.run`."""
        return await self.host.run(self.service, self._add_all, self.start, self.stop)

    def _add_all(self, server: grpc.aio.Server) -> None:
        self.add_to(server)
        stage_pb2_grpc.add_StageStatusServiceServicer_to_server(_Status(self), server)

    def add_to(self, server: grpc.aio.Server) -> None:
        """Register the servicer."""
        raise NotImplementedError

    def triton_environment(self) -> dict[str, str]:
        """Variables for the models of an embedded Triton."""
        return {}

    def probe(self) -> Probe[StreamRequest, StreamResponse]:
        """Return a stream with default settings and endless input, to measure the capacity."""
        raise NotImplementedError

    async def warm_up(self) -> None:
        """Run every model once, so that the first session finds it warm."""
        for model in self.models:
            await self.triton.warm_up(model)

    async def start(self) -> None:
        """Connect to Triton, or start it, and warm its models up."""
        build = await asyncio.to_thread(digest, (*SHARED, *self.parts), LIBRARIES, processor=True)
        self._model_id = f"{self.models[0]}@{build}"
        shared_memory.sweep()
        timeout = self.config.triton_start_timeout
        url = self.config.triton_url
        if url is None:
            self._embedded = EmbeddedTriton(self.repository, self.triton_environment())
            await self._embedded.start(timeout)
            url = self._embedded.url
            log.info("event=triton_started url=%s pid=%d", url, self._embedded.pid or 0)
        self.triton = TritonClient(url, self.config.triton_timeout)
        try:
            await self.triton.wait_ready(self.models, timeout)
            await self.warm_up()
            if not self.config.slots:
                await self._measure_slots()
        except BaseException:
            await self.triton.close()
            raise
        self._ready = True
        self._watcher = asyncio.create_task(self._watch())

    async def _measure_slots(self) -> None:
        """Take as many slots as streams are carried in real time, and some to spare."""
        begin = time.perf_counter()
        carried = await self.measure_capacity()
        self.host.slots.total = slots = max(1, int(HEADROOM * carried))
        seconds = time.perf_counter() - begin
        log.info("event=measured slots=%d carried=%.1f seconds=%.2f", slots, carried, seconds)

    async def measure_capacity(self) -> float:
        """Return the number of streams carried in real time; takes one to three seconds.

        :raises ServiceError: an inference failed.
        """
        async with self._measuring:
            return await realtime_streams(self.probe, self._infer)

    async def stop(self) -> None:
        """End the connection, and the Triton if it is our own."""
        self._ready = False
        if self._watcher is not None:
            self._watcher.cancel()
            await asyncio.wait([self._watcher])
            await self.triton.close()
        if self._embedded is not None:
            await self._embedded.stop()

    async def _watch(self) -> None:
        """Follow Triton: not serving while it is away; restart an embedded one that has died."""
        while True:
            await asyncio.sleep(_WATCH_SECONDS)
            try:
                if self._embedded is not None and not self._embedded.running:
                    await self._set_ready(False)
                    log.error("event=triton_died; restarting\n%s", self._embedded.tail(10))
                    await self._embedded.stop()
                    await self._embedded.start(self.config.triton_start_timeout)
                ready = await self.triton.is_ready(self.models)
                if ready and not self._ready:
                    await self.warm_up()
                if ready != self._ready:
                    await self._set_ready(ready)
            except (TritonError, ServiceError, OSError) as error:  # tried again
                log.error("event=triton_not_ready %s", error)

    async def _set_ready(self, ready: bool) -> None:
        self._ready = ready
        log.warning("event=triton_%s", "back" if ready else "away")
        if not self.host.draining.is_set():
            await self.host.set_serving(ready)

    def check_ready(self) -> None:
        """
        :raises ServiceError: STAGE_UNAVAILABLE while Triton is away.
        """
        if not self._ready:
            raise ServiceError("STAGE_UNAVAILABLE", f"the Triton of {self.name} is not ready")

    def status(self) -> stage_pb2.GetStatusResponse:
        """How the stage is now."""
        draining = self.host.draining.is_set()
        return stage_pb2.GetStatusResponse(
            info=self.identity(),
            slots_total=self.host.slots.total,
            slots_in_use=self.host.slots.in_use,
            serving=self._ready and not draining,
            draining=draining,
        )

    def identity(self, extra_look_ahead_ms: int = 0) -> stage_pb2.StageInfo:
        """Return the description of the stage."""
        return stage_pb2.StageInfo(
            stage=self.name,
            version=talkingface.__version__,
            model=self._model_id,
            look_ahead_ms=self.look_ahead_ms + extra_look_ahead_ms,
            replica=self.config.replica,
        )

    async def serve(
        self,
        context: Context,
        method: str,
        open_stream: Callable[[StreamConfig], StageHandler[StreamRequest, StreamResponse]],
        response: type[StreamResponse],
    ) -> None:
        """Serve one call of the stage's bidirectional method.

        :param method: its name, for logs and metrics.
        :param open_stream: opens the stream that a `config` message asks for.
        :param response: class of the responses.
        """
        async with self.host.call(context, method) as call:
            self.check_ready()
            first = await call.admit(lambda: read(context, self.config.idle_timeout))
            if first is None or first.WhichOneof("payload") != "config":
                raise ServiceError("MESSAGE_ORDER", "the first message must be `config`")
            if not _SESSION_ID.fullmatch(first.config.session_id):
                raise invalid_field("config.session_id", "must be 1 to 64 of [A-Za-z0-9_-]")
            call.session_id = first.config.session_id
            stream = open_stream(first.config)
            reader: asyncio.Task[None] | None = None
            try:
                if first.config.HasField("resume"):
                    self._restore(stream, first.config.resume)
                started = self.identity(stream.extra_look_ahead_ms)
                await self._write(context, response(started=started))
                queue: asyncio.Queue[StreamRequest | Exception] = asyncio.Queue(_QUEUED_MESSAGES)
                reader = asyncio.create_task(self._read_all(context, queue))
                intake = _Intake(stream, queue)
                checkpoints = response if first.config.checkpoints else None
                await self._run_stream(context, call, intake, checkpoints)
            finally:
                if reader is not None:
                    reader.cancel()
                stream.close()

    async def _write(self, context: Context, message: StreamResponse) -> None:
        await write(context, message, self.config.idle_timeout)

    async def _read_all(
        self, context: Context, queue: asyncio.Queue[StreamRequest | Exception]
    ) -> None:
        """Queue the messages up to `end`; a failure becomes the last item."""
        try:
            while True:
                message = await read(context, self.config.idle_timeout)
                if message is None:
                    # A client that cancels is first seen to close its side.
                    await asyncio.sleep(_CANCEL_SECONDS)
                    raise ServiceError("MESSAGE_ORDER", "the stream was closed without `end`")
                await queue.put(message)
                if message.WhichOneof("payload") == "end":
                    return
        except Exception as error:
            await queue.put(error)

    def _restore(
        self,
        stream: StageHandler[StreamRequest, StreamResponse],
        checkpoint: stage_pb2.Checkpoint,
    ) -> None:
        """
        :raises ServiceError: CHECKPOINT_MISMATCH.
        """
        if checkpoint.model != self._model_id:
            raise mismatch(f"made by {checkpoint.model}, this is {self._model_id}")
        if len(checkpoint.state) > MAX_BYTES:
            raise mismatch(f"{len(checkpoint.state)} bytes")
        stream.restore(checkpoint.state)

    async def _run_stream(
        self,
        context: Context,
        call: Call,
        intake: _Intake[StreamRequest, StreamResponse],
        checkpoints: type[StreamResponse] | None,
    ) -> None:
        """Run a stream to its end.

        :param checkpoints: class of the responses if the client wants checkpoints.
        """
        stream = intake.stream
        loop = InferenceLoop(stream, self._infer, intake.take_waiting)
        inferences = 0
        try:
            while True:
                results = await loop.next_results()
                if results is None:
                    if intake.ended:
                        return
                    await intake.take_next()
                    continue
                for message in results:
                    await self._write(context, message)
                    call.result()
                inferences += 1
                if checkpoints and not intake.ended and inferences % stream.per_second == 0:
                    checkpoint = stage_pb2.Checkpoint(
                        messages=intake.messages,
                        version=talkingface.__version__,
                        model=self._model_id,
                        state=stream.snapshot(),
                    )
                    await self._write(context, checkpoints(checkpoint=checkpoint))
        finally:
            loop.cancel()

    async def _infer(
        self,
        stream: StageHandler[StreamRequest, StreamResponse],
        request: Mapping[str, NDArray[Any]],
    ) -> Arrays:
        try:
            with self.host.metrics.timed(stream.model):
                return await self.triton.infer(stream.model, request, shapes=stream.output_shapes)
        except ServiceError as error:
            if error.reason == "STAGE_UNAVAILABLE" and self._ready:
                await self._set_ready(False)  # until the watcher has found it well
            raise


class _Intake(Generic[StreamRequest, StreamResponse]):
    """Passes the messages of a client to a stream, in order."""

    def __init__(
        self,
        stream: StageHandler[StreamRequest, StreamResponse],
        queue: asyncio.Queue[StreamRequest | Exception],
    ) -> None:
        self.stream = stream
        self.messages = 0
        self.ended = False
        self._queue = queue

    def take_waiting(self) -> bool:
        """Pass the next message if there is one; False if not.

        :raises ServiceError: the client or the message is at fault.
        """
        if self.ended or self._queue.empty():
            return False
        self._take(self._queue.get_nowait())
        return True

    async def take_next(self) -> None:
        """Wait for the next message and pass it.

        :raises ServiceError: the client or the message is at fault.
        """
        self._take(await self._queue.get())

    def _take(self, message: StreamRequest | Exception) -> None:
        if isinstance(message, Exception):
            raise message
        self.messages += 1
        match message.WhichOneof("payload"):
            case "config":
                raise ServiceError("MESSAGE_ORDER", "a second `config`")
            case None:
                raise ServiceError("MESSAGE_ORDER", "a message without content")
            case "end":
                self.stream.end()
                self.ended = True
            case _:
                self.stream.take(message)


class _Status(stage_pb2_grpc.StageStatusServiceServicer):
    """Reports the status of a stage."""

    def __init__(self, stage: Stage[Any, Any, Any]) -> None:
        self._stage = stage

    async def GetStatus(
        self, request: stage_pb2.GetStatusRequest, context: Context
    ) -> stage_pb2.GetStatusResponse:
        """See stage.proto."""
        return self._stage.status()

    async def MeasureCapacity(
        self, request: stage_pb2.MeasureCapacityRequest, context: Context
    ) -> stage_pb2.MeasureCapacityResponse:
        """See stage.proto."""
        async with self._stage.host.call(context, "MeasureCapacity"):
            self._stage.check_ready()
            streams = await self._stage.measure_capacity()
            return stage_pb2.MeasureCapacityResponse(streams=streams)
        raise AssertionError("unreachable: a call that fails is aborted")
