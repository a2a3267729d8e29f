"""The inferences of a stream: in order, several at a time, and results without one."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any

from talkingface.serving.inference_loop import InferenceLoop, StageHandler


class _Stream(StageHandler[Any, Any]):
    """A stream with a request for each input; a negative one needs no inference."""

    in_flight = 2
    per_second = 25

    def __init__(self) -> None:
        self.inputs: deque[int] = deque()
        self.requested: list[int] = []
        self.seconds: list[float] = []

    def take(self, message: Any) -> None:
        self.inputs.append(message)

    def next_request(self) -> dict[str, Any] | None:
        if not self.inputs:
            return None
        value = self.inputs.popleft()
        self.requested.append(value)
        return {"value": value} if value >= 0 else {}

    async def accept(self, outputs: Any) -> list[Any]:
        self.seconds.append(self.inference_seconds)
        return [outputs.get("value")]

    def end(self) -> None:
        raise AssertionError("it does not end")

    def snapshot(self) -> bytes:
        raise AssertionError("it is not moved")

    def restore(self, state: bytes) -> None:
        raise AssertionError("there is no state")


async def test_results_without_an_inference_keep_the_order_and_take_no_turn() -> None:
    stream, messages = _Stream(), deque([0, -1, 2, -1, 4, -1])
    may_end: asyncio.Queue[None] = asyncio.Queue()
    running: list[int] = []
    both_run = asyncio.Event()

    async def infer(handler: Any, request: Any) -> dict[str, Any]:
        running.append(request["value"])
        if len(running) == 2:
            both_run.set()
        await may_end.get()
        return dict(request)

    def feed() -> bool:
        if messages:
            stream.take(messages.popleft())
            return True
        return False

    loop = InferenceLoop(stream, infer, feed)
    first = asyncio.ensure_future(loop.next_results())
    await both_run.wait()
    assert running == [0, 2], "the repeated one between them does not hold the second back"
    assert stream.requested == [0, -1, 2]
    for _ in range(3):
        may_end.put_nowait(None)
    assert await first == [0]
    assert [await loop.next_results() for _ in range(5)] == [[None], [2], [None], [4], [None]]
    assert await loop.next_results() is None
    assert [seconds > 0 for seconds in stream.seconds] == [True, False] * 3
