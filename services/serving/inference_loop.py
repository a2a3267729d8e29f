"""Runs the inferences of one stream: several at a time, their results in order."""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, Generic, NamedTuple

from numpy.typing import NDArray

from talkingface.contract.stage_streams import StreamRequest, StreamResponse
from talkingface.serving.triton.client import Arrays


class StageHandler(ABC, Generic[StreamRequest, StreamResponse]):
    """One stream of a stage: its session, and the translation from and to protobuf."""

    model: str
    """Triton model that the stream's inferences run."""
    in_flight: int
    """Concurrent inferences; 1 if an inference depends on the result of the previous one."""
    per_second: int
    """Inferences per second of the session."""
    extra_look_ahead_ms: int = 0
    """Look-ahead that this stream adds to that of its stage."""
    inference_seconds: float = 0.0
    """Duration of the inference whose outputs are passed to `accept`; set by the loop."""

    @property
    def output_shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Shapes of the model's outputs whose size depends on the stream."""
        return {}

    @abstractmethod
    def take(self, message: StreamRequest) -> None:
        """Check a message of the client and pass its content to the session."""

    @abstractmethod
    def end(self) -> None:
        """Note that no more messages follow."""

    @abstractmethod
    def next_request(self) -> Mapping[str, NDArray[Any]] | None:
        """Return the inputs of the next inference, or None if input is missing.

        No inputs stand for a result that needs no inference: `accept` gets no outputs for it.
        """

    @abstractmethod
    async def accept(self, outputs: Arrays) -> Iterable[StreamResponse]:
        """Return the messages that an inference results in; called in order of the requests."""

    @abstractmethod
    def snapshot(self) -> bytes:
        """Return the state of the stream, except for inferences that are running.

        Called before the end of the stream.
        """

    @abstractmethod
    def restore(self, state: bytes) -> None:
        """Continue from a snapshot; called before any other method.

        :raises ServiceError: CHECKPOINT_MISMATCH.
        """

    def close(self) -> None:
        """Free what the stream holds; called once, however it ends."""


class _Timed(NamedTuple):
    """Outputs of an inference, and its duration."""

    outputs: Arrays
    seconds: float


_NOTHING = _Timed({}, 0.0)  # without an inference

Infer = Callable[
    [StageHandler[StreamRequest, StreamResponse], Mapping[str, NDArray[Any]]], Awaitable[Arrays]
]


class InferenceLoop(Generic[StreamRequest, StreamResponse]):
    """Keeps as many inferences of a stream running as it allows.

    A session is given more input only when it lacks some, so that its state stays small.
    """

    def __init__(
        self,
        stream: StageHandler[StreamRequest, StreamResponse],
        infer: Infer[StreamRequest, StreamResponse],
        feed: Callable[[], bool],
    ) -> None:
        """
        :param infer: runs an inference.
        :param feed: passes the next message to the stream; False if none is available now.
        """
        self._stream = stream
        self._infer = infer
        self._feed = feed
        # Inferences, and None for each result that needs none, in order.
        self._running: deque[asyncio.Task[_Timed] | None] = deque()

    async def next_results(self) -> Iterable[StreamResponse] | None:
        """Wait for the oldest inference and return its messages; None if nothing is running."""
        self._fill()
        if not self._running:
            return None
        running = self._running.popleft()
        outputs, self._stream.inference_seconds = await running if running else _NOTHING
        if self._stream.in_flight > 1:  # the next one runs while this result is processed
            self._fill()
        return await self._stream.accept(outputs)

    def cancel(self) -> None:
        """Cancel the inferences that are running."""
        for task in self._running:
            if task is not None:
                task.add_done_callback(_retrieve_exception)
                task.cancel()

    def _fill(self) -> None:
        while sum(task is not None for task in self._running) < self._stream.in_flight:
            request = self._stream.next_request()
            if request is not None:
                task = asyncio.ensure_future(self._run(request)) if request else None
                self._running.append(task)
            elif not self._feed():
                return

    async def _run(self, request: Mapping[str, NDArray[Any]]) -> _Timed:
        begin = time.perf_counter()
        outputs = await self._infer(self._stream, request)
        return _Timed(outputs, time.perf_counter() - begin)


def _retrieve_exception(task: asyncio.Task[_Timed]) -> None:
    """Retrieve the exception, so that asyncio does not log it as never retrieved."""
    if not task.cancelled():
        task.exception()
