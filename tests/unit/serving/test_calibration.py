"""How many streams a stage carries, measured on a clock of the test's own."""

from __future__ import annotations

import asyncio
import selectors
from types import SimpleNamespace
from typing import Any

import pytest

from talkingface.serving import calibration
from talkingface.serving.inference_loop import StageHandler


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


class _Stream(StageHandler[Any, Any]):
    """A stream that needs ten inferences for a second of a session."""

    in_flight = 2
    per_second = 10

    def take(self, message: Any) -> None:
        raise AssertionError("it lacks no input")

    def next_request(self) -> dict[str, Any]:
        return {"input": None}

    async def accept(self, outputs: Any) -> tuple[()]:
        return ()

    def end(self) -> None:
        raise AssertionError("it does not end")

    def snapshot(self) -> bytes:
        raise AssertionError("it is not moved")

    def restore(self, state: bytes) -> None:
        raise AssertionError("there is no state")


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

        async def infer(stream: Any, request: Any) -> dict[str, Any]:
            async with free:
                await asyncio.sleep(seconds)
            return {}

        return await calibration.realtime_streams(
            lambda: calibration.Probe(_Stream(), iter(())), infer
        )

    with asyncio.Runner(loop_factory=_VirtualTimeLoop) as runner:
        assert runner.run(calibrate()) == pytest.approx(streams, rel=0.1)
