"""How many streams a stage carries in real time, measured with its own streams and its own Triton.

A stage gives a way to open a stream that never lacks input. So many of them run side by side, as
fast as they can, that more of them would bring nothing; what they do in a second, counted in
seconds of a session, is the number of streams that could have gone on in real time.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import Any, Protocol

# The part of what was carried that is taken: a stage whose queues never empty is late.
HEADROOM = 0.8
_RAMP_SECONDS = 0.3  # for what the first inferences load, and for the queues to fill
_ROUND_SECONDS = 0.8
_FIRST_ROUND = 4  # streams
_WORTH_MORE = 1.2  # growth for which more streams are tried
_MOST = 1024


class Rehearsed(Protocol):
    """The part of a `StageHandler` that is needed here."""

    in_flight: int
    per_second: int

    def take(self, payload: str, message: Any) -> None: ...
    def next_request(self) -> Any: ...
    async def accept(self, outputs: Any) -> Iterable[Any]: ...
    def close(self) -> None: ...


# A stream, and messages for it without end.
Rehearsal = tuple[Rehearsed, Iterator[Any]]
Infer = Callable[[Any, Any], Awaitable[Any]]


async def realtime_streams(rehearse: Callable[[], Rehearsal], infer: Infer) -> float:
    """How many streams are carried in real time; takes one to three seconds.

    :param rehearse: opens a stream.
    :param infer: runs an inference of a stream.
    :raises ServiceError: what an inference raises.
    """
    best, count = 0.0, _FIRST_ROUND
    while True:
        carried = await _round(rehearse, infer, count)
        if carried < max(count, best * _WORTH_MORE) or count >= _MOST:
            return max(best, carried)
        best, count = carried, count * 4


async def _round(rehearse: Callable[[], Rehearsal], infer: Infer, count: int) -> float:
    """Seconds of sessions that so many streams make in a second."""
    begin = time.perf_counter() + _RAMP_SECONDS
    end = begin + _ROUND_SECONDS

    async def run(stream: Rehearsed, messages: Iterator[Any]) -> float:
        """Seconds of the session that one stream makes between `begin` and `end`."""
        running: deque[asyncio.Task[Any]] = deque()
        made = 0
        try:
            while (now := time.perf_counter()) < end:
                made += now > begin
                while len(running) < stream.in_flight:
                    request = stream.next_request()
                    if request is None:
                        message = next(messages)
                        stream.take(message.WhichOneof("payload"), message)
                    else:
                        running.append(asyncio.ensure_future(infer(stream, request)))
                await stream.accept(await running.popleft())
        finally:
            await asyncio.gather(*running, return_exceptions=True)
            stream.close()
        return made / stream.per_second

    async with asyncio.TaskGroup() as group:
        streams = [group.create_task(run(*rehearse())) for _ in range(count)]
    return sum(stream.result() for stream in streams) / _ROUND_SECONDS
