"""How many streams a stage carries, measured on a clock of the test's own."""

from __future__ import annotations

import asyncio
import selectors
from types import SimpleNamespace
from typing import Any

import pytest

from talkingface.serving import calibration


class _Selector(selectors.SelectSelector):
    """Lets the time go by at which the loop wants to be called again, without waiting."""

    now = 0.0

    def select(self, timeout: float | None = None) -> Any:
        self.now += timeout or 0.0
        return super().select(0)


class _VirtualTimeLoop(asyncio.SelectorEventLoop):
    """An event loop whose sleeps take no time, and whose clock counts sleeps alone."""

    def __init__(self) -> None:
        self._clock = _Selector()
        super().__init__(self._clock)

    def time(self) -> float:
        return self._clock.now


class _Stream:
    """A stream that needs ten inferences for a second of a session."""

    in_flight = 2
    per_second = 10

    def take(self, payload: str, message: Any) -> None:
        raise AssertionError("it lacks no input")

    def next_request(self) -> int:
        return 0

    async def accept(self, outputs: Any) -> tuple[()]:
        return ()

    def close(self) -> None:
        pass


@pytest.mark.parametrize(
    ("instances", "seconds", "streams"), [(2, 0.0025, 80.0), (1, 0.0025, 40.0), (1, 0.125, 0.8)]
)
def test_calibration_finds_what_is_carried(
    monkeypatch: pytest.MonkeyPatch, instances: int, seconds: float, streams: float
) -> None:
    """By instances of a model and the time of an inference: two of 2.5 ms make 800 a second."""

    async def calibrate() -> float:
        loop = asyncio.get_running_loop()
        monkeypatch.setattr(calibration, "time", SimpleNamespace(perf_counter=loop.time))
        free = asyncio.Semaphore(instances)

        async def infer(stream: Any, request: Any) -> None:
            async with free:
                await asyncio.sleep(seconds)

        return await calibration.realtime_streams(lambda: (_Stream(), iter(())), infer)

    with asyncio.Runner(loop_factory=_VirtualTimeLoop) as runner:
        assert runner.run(calibrate()) == pytest.approx(streams, rel=0.1)
