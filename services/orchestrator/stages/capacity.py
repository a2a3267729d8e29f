"""How many sessions a machine holds whose cores all stages share.

Each stage can measure how many streams it carries with the machine to itself. A session then takes
the sum of what its streams take, so that with capacities c it takes 1/c1 + 1/c2 + 1/c3 of the
machine. The stages are measured one after the other, and only while no client waits for anything: a
measurement needs all cores. Until all are known, one session is admitted.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from typing import Protocol

from talkingface.contract.errors import ServiceError
from talkingface.serving.calibration import HEADROOM

log = logging.getLogger(__name__)

UNKNOWN = 1  # sessions that are admitted before the capacities are known
# What all processes of a session take, relative to its three stages: with the orchestrator, which
# took 0.12 of 1.78 cores on a two-core machine (`talkingface bench live`, November 2026).
_WITH_ORCHESTRATOR = 1.78 / 1.66

_QUIET_SECONDS = 2.0  # without a call before a measurement, by eye
_POLL_SECONDS = 0.05


class Measurable(Protocol):
    """A stage that can measure its capacity."""

    name: str

    @property
    def serving(self) -> bool:
        """Whether it accepts streams."""

    async def measure(self) -> float:
        """Return the streams that it carries with the machine to itself.

        :raises ServiceError: it cannot be measured now.
        """


def sessions_held(capacities: Iterable[float]) -> int:
    """Return the number of sessions that a machine holds in real time, at least 1.

    :param capacities: streams that each stage carries with the machine to itself.
    """
    cost = sum(1 / capacity for capacity in capacities)  # share of the machine for a session
    return max(1, int(HEADROOM / (cost * _WITH_ORCHESTRATOR)))


class MachineCapacity:
    """Measures the stages of a machine in the background."""

    def __init__(self, stages: Iterable[Measurable], is_idle: Callable[[], bool]) -> None:
        """
        :param is_idle: returns whether no call of a client is running.
        """
        self.sessions = UNKNOWN
        """Sessions that the machine holds, as far as is known."""
        self._stages = list(stages)
        self._is_idle = is_idle

    async def run(self) -> None:
        """Measure all stages, and return; calls of clients interrupt it."""
        capacities: dict[str, float] = {}
        for stage in self._stages:
            while (capacity := await self._measure(stage)) is None:
                pass  # each attempt waits until it is quiet
            capacities[stage.name] = capacity
        self.sessions = sessions_held(capacities.values())
        log.info(
            "event=capacity sessions=%d %s",
            self.sessions,
            " ".join(f"{name}={capacity:.1f}" for name, capacity in capacities.items()),
        )

    async def _measure(self, stage: Measurable) -> float | None:
        """Measure a stage when it is quiet; None if that was interrupted or has failed."""
        await self._until_quiet()
        measuring = asyncio.create_task(stage.measure())
        try:
            while not measuring.done():
                if not self._is_idle():
                    return None
                await asyncio.wait([measuring], timeout=_POLL_SECONDS)
            return measuring.result() or None
        except ServiceError as error:
            log.info("event=not_measured stage=%s %s", stage.name, error)
            return None
        finally:
            measuring.cancel()

    async def _until_quiet(self) -> None:
        quiet = 0.0
        while quiet < _QUIET_SECONDS:
            await asyncio.sleep(_POLL_SECONDS)
            # A stage that starts takes as much as a call does.
            is_quiet = self._is_idle() and all(stage.serving for stage in self._stages)
            quiet = quiet + _POLL_SECONDS if is_quiet else 0.0
