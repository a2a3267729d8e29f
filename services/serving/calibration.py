"""Measures how many streams a stage can serve in real time, with its own streams and its Triton.

Streams that never lack input run side by side as fast as they can, in growing number until more of
them bring nothing. What they process per second, in seconds of a session, is the number of streams
that could have run in real time.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from typing import Generic, NamedTuple

from talkingface.contract.stage_streams import StreamRequest, StreamResponse
from talkingface.serving.inference_loop import Infer, InferenceLoop, StageHandler

# Share of the measured capacity that is used: a stage whose queues never empty is late.
HEADROOM = 0.8
_RAMP_SECONDS = 0.3  # not counted: the first inferences load what they need, the queues fill
_ROUND_SECONDS = 0.8
_FIRST_ROUND = 4  # streams
_MIN_GAIN = 1.2  # growth of the throughput at which more streams are tried
_MAX_STREAMS = 1024


class Probe(NamedTuple, Generic[StreamRequest, StreamResponse]):
    """A stream and endless messages for it."""

    stream: StageHandler[StreamRequest, StreamResponse]
    messages: Iterator[StreamRequest]


async def realtime_streams(
    open_probe: Callable[[], Probe[StreamRequest, StreamResponse]],
    infer: Infer[StreamRequest, StreamResponse],
) -> float:
    """Measure how many streams run in real time; takes one to three seconds.

    :param open_probe: opens a stream.
    :param infer: runs an inference of a stream.
    :raises ServiceError: an inference failed.
    """
    best, count = 0.0, _FIRST_ROUND
    while True:
        carried = await _throughput(open_probe, infer, count)
        if carried < max(count, best * _MIN_GAIN) or count >= _MAX_STREAMS:
            return max(best, carried)
        best, count = carried, count * 4


async def _throughput(
    open_probe: Callable[[], Probe[StreamRequest, StreamResponse]],
    infer: Infer[StreamRequest, StreamResponse],
    count: int,
) -> float:
    """Return the seconds of sessions that so many streams process per second."""
    begin = time.perf_counter() + _RAMP_SECONDS
    end = begin + _ROUND_SECONDS

    async def run() -> float:
        """Return the seconds of a session that one stream processes between `begin` and `end`."""
        stream, messages = open_probe()  # here, so that each that is opened is closed

        def feed() -> bool:
            stream.take(next(messages))
            return True

        loop = InferenceLoop(stream, infer, feed)
        inferences = 0
        try:
            while (now := time.perf_counter()) < end:
                inferences += now > begin
                await loop.next_results()
        finally:
            loop.cancel()
            stream.close()
        return inferences / stream.per_second

    try:
        async with asyncio.TaskGroup() as group:
            streams = [group.create_task(run()) for _ in range(count)]
    except ExceptionGroup as errors:
        raise errors.exceptions[0] from None
    return sum(stream.result() for stream in streams) / _ROUND_SECONDS
