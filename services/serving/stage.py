"""What the three stages share: their Triton, their life, and the loop of a stream.

A stage gives a `StageHandler`: how messages become input of its session, and the session's results
messages. `Stage.serve` moves the data:

    client -> reader (bounded queue) -> session -> Triton -> session -> client

The reader goes on while the model runs, but never more than a few messages ahead; a client that
does not take its results stops the model and, in the end, its own sending.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar, Protocol

import grpc
from numpy.typing import NDArray

import talkingface
from talkingface.contract.errors import ServiceError, invalid_field
from talkingface.contract.identity import digest
from talkingface.serving.calibration import HEADROOM, Rehearsal, realtime_streams
from talkingface.serving.checkpoint import MAX_BYTES, mismatch
from talkingface.serving.config import StageConfig
from talkingface.serving.server import Call, Context, ServiceHost
from talkingface.serving.triton import shared_memory
from talkingface.serving.triton.client import Arrays, TritonClient
from talkingface.serving.triton.server import EmbeddedTriton, TritonError
from talkingface.v1 import stage_pb2, stage_pb2_grpc

log = logging.getLogger(__name__)

_QUEUED_MESSAGES = 8
_WATCH_SECONDS = 0.5
_CANCEL_SECONDS = 0.05
_SESSION_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")


class StageHandler(Protocol):
    """One stream of a stage: its session, and how that speaks protobuf."""

    model: str
    """Triton model that answers the requests."""
    in_flight: int
    """Inferences at a time; 1 where a request depends on the answer before."""
    per_second: int
    """Inferences for a second of the session."""

    def take(self, payload: str, message: Any) -> None:
        """Check a message (its oneof is `payload`) and give its content to the session."""

    def end(self) -> None:
        """No more messages."""

    def next_request(self) -> Mapping[str, NDArray[Any]] | None:
        """Inputs of the next inference, or None."""

    async def accept(self, outputs: Arrays) -> Iterable[Any]:
        """The messages that an inference gives, in order of the requests."""

    def snapshot(self) -> bytes:
        """The stream's state before its end, when nothing but what is in flight is missing."""

    def restore(self, state: bytes) -> None:
        """Go on where `snapshot` was made, at once after the stream was opened.

        :raises ServiceError: CHECKPOINT_MISMATCH.
        """

    def close(self) -> None:
        """Free what the stream holds; called once, however it ends."""


# What every stage's results depend on, and the libraries whose versions do.
SHARED = ("contract", "v1", "serving/checkpoint.py", "serving/triton/backends")
LIBRARIES = ("numpy", "onnxruntime", "numba", "opencv-python-headless", "ai-edge-litert", "av")


class Stage:
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

    def rehearse(self) -> Rehearsal:
        """A stream with defaults and endless input, to measure how many are carried."""
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
        carried = await realtime_streams(self.rehearse, self._infer)
        self.host.slots.total = slots = max(1, int(HEADROOM * carried))
        seconds = time.perf_counter() - begin
        log.info("event=measured slots=%d carried=%.1f seconds=%.2f", slots, carried, seconds)

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

    def info(self, stream: Any) -> stage_pb2.StageInfo:
        """What the stage says of itself when it has taken a stream."""
        return self.identity()

    def identity(self) -> stage_pb2.StageInfo:
        """What the stage says of itself at any time."""
        return stage_pb2.StageInfo(
            stage=self.name,
            version=talkingface.__version__,
            model=self._model_id,
            look_ahead_ms=self.look_ahead_ms,
            replica=self.config.replica,
        )

    async def serve(
        self,
        context: Context,
        method: str,
        open_stream: Callable[[Any], StageHandler],
        response: type[Any],
    ) -> None:
        """Serve one call of the stage's bidirectional method.

        :param open_stream: makes the stream from the checked config message.
        :param response: class of the answers, which has a field `started`.
        """
        async with self.host.call(context, method) as call:
            self.check_ready()
            first = await call.admit(lambda: self.read(context))
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
                await self.write(context, response(started=self.info(stream)))
                queue: asyncio.Queue[Any] = asyncio.Queue(_QUEUED_MESSAGES)
                reader = asyncio.create_task(self._read_all(context, queue))
                make_checkpoint = response if first.config.checkpoints else None
                await self._work(context, call, stream, queue, make_checkpoint)
            finally:
                if reader is not None:
                    reader.cancel()
                stream.close()

    async def read(self, context: Context) -> Any | None:
        """The client's next message, or None after its last.

        :raises ServiceError: IDLE_TIMEOUT.
        """
        try:
            async with asyncio.timeout(self.config.idle_timeout):
                message = await context.read()
        except TimeoutError:
            text = f"the client sent nothing for {self.config.idle_timeout:g} s"
            raise ServiceError("IDLE_TIMEOUT", text) from None
        return None if message is grpc.aio.EOF else message

    async def write(self, context: Context, message: Any) -> None:
        """Send a message.

        :raises ServiceError: IDLE_TIMEOUT where the client takes nothing.
        """
        try:
            async with asyncio.timeout(self.config.idle_timeout):
                await context.write(message)
        except TimeoutError:
            text = f"the client took nothing for {self.config.idle_timeout:g} s"
            raise ServiceError("IDLE_TIMEOUT", text) from None

    async def _read_all(self, context: Context, queue: asyncio.Queue[Any]) -> None:
        """Put the messages up to `end` into the queue; what goes wrong becomes the last item."""
        try:
            while True:
                message = await self.read(context)
                if message is None:
                    # A client that cancels is seen to close its side first.
                    await asyncio.sleep(_CANCEL_SECONDS)
                    raise ServiceError("MESSAGE_ORDER", "the stream was closed without `end`")
                await queue.put(message)
                if message.WhichOneof("payload") == "end":
                    return
        except Exception as error:
            await queue.put(error)

    def _restore(self, stream: StageHandler, checkpoint: stage_pb2.Checkpoint) -> None:
        """
        :raises ServiceError: CHECKPOINT_MISMATCH.
        """
        made_by = (checkpoint.version, checkpoint.model)
        if made_by != (talkingface.__version__, self._model_id):
            raise mismatch(f"made by {' '.join(made_by)}, this is {self._model_id}")
        if len(checkpoint.state) > MAX_BYTES:
            raise mismatch(f"{len(checkpoint.state)} bytes")
        stream.restore(checkpoint.state)

    async def _work(
        self,
        context: Context,
        call: Call,
        stream: StageHandler,
        queue: asyncio.Queue[Any],
        make_checkpoint: type[Any] | None,
    ) -> None:
        """Run a stream to its end; `make_checkpoint` is the response's class if it wants any."""
        running: deque[asyncio.Task[Arrays]] = deque()
        ended = False
        taken = accepted = 0

        def take(item: Any) -> None:
            nonlocal ended, taken
            taken += 1
            if isinstance(item, Exception):
                raise item
            payload = item.WhichOneof("payload")
            if payload == "config":
                raise ServiceError("MESSAGE_ORDER", "a second `config`")
            if payload is None:
                raise ServiceError("MESSAGE_ORDER", "a message without content")
            if payload == "end":
                stream.end()
                ended = True
            else:
                stream.take(payload, item)

        def fill() -> None:
            """Start inferences; only a session that lacks input is given more of it."""
            while len(running) < stream.in_flight:
                request = stream.next_request()
                if request is not None:
                    running.append(asyncio.create_task(self._infer(stream, request)))
                elif ended or queue.empty():
                    return
                else:
                    take(queue.get_nowait())

        try:
            while True:
                fill()
                if running:
                    outputs = await running.popleft()
                    if stream.in_flight > 1:
                        fill()
                    for message in await stream.accept(outputs):
                        await self.write(context, message)
                        call.result()
                    accepted += 1
                    if make_checkpoint and not ended and accepted % stream.per_second == 0:
                        checkpoint = stage_pb2.Checkpoint(
                            messages=taken,
                            version=talkingface.__version__,
                            model=self._model_id,
                            state=stream.snapshot(),
                        )
                        await self.write(context, make_checkpoint(checkpoint=checkpoint))
                elif ended:
                    break
                else:
                    take(await queue.get())
        finally:
            for task in running:
                task.add_done_callback(_look_at)
                task.cancel()

    def output_shapes(self, stream: Any) -> Mapping[str, tuple[int, ...]]:
        """Shapes of those outputs of the stream's model whose size the stream decides."""
        return {}

    async def _infer(self, stream: StageHandler, request: Mapping[str, NDArray[Any]]) -> Arrays:
        shapes = self.output_shapes(stream)
        try:
            with self.host.metrics.timed(stream.model):
                return await self.triton.infer(stream.model, request, shapes=shapes)
        except ServiceError as error:
            if error.reason == "STAGE_UNAVAILABLE" and self._ready:
                await self._set_ready(False)  # until the watcher has found it well
            raise


class _Status(stage_pb2_grpc.StageStatusServiceServicer):
    """Tells how a stage is."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage

    async def GetStatus(
        self, request: stage_pb2.GetStatusRequest, context: Context
    ) -> stage_pb2.GetStatusResponse:
        """See stage.proto."""
        return self._stage.status()


def _look_at(task: asyncio.Task[Arrays]) -> None:
    """Take note of an error that nobody waits for any more."""
    if not task.cancelled():
        task.exception()
