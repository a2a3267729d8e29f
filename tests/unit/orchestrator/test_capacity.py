"""How many sessions a machine holds whose cores the stages share."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from talkingface.contract.errors import ServiceError
from talkingface.orchestrator.stages import capacity
from talkingface.orchestrator.stages.capacity import UNKNOWN, MachineCapacity, sessions_held


@pytest.mark.parametrize(
    ("capacities", "sessions"),
    [
        ((100.0, 100.0, 100.0), 24),  # 0.8 / (3 / 100) / 1.07
        ((12.0, 5.0, 1.9), 1),
        ((24.0, 10.0, 5.0), 2),
        ((0.1, 0.1, 0.1), 1),
    ],
)
def test_a_session_costs_the_sum_of_its_streams(capacities: Sequence[float], sessions: int) -> None:
    assert sessions_held(capacities) == sessions
    assert sessions_held(capacities) <= max(1.0, min(capacities))


class Machine:
    """Stages that are measured when the test says so."""

    def __init__(self) -> None:
        self.idle = True
        self.log: list[str] = []
        self.running: dict[str, asyncio.Future[float]] = {}
        self.started = asyncio.Queue[str]()

    def stage(self, name: str) -> Stage:
        return Stage(name, self)


class Stage:
    def __init__(self, name: str, machine: Machine) -> None:
        self.name = name
        self.serving = True
        self._machine = machine

    async def measure(self) -> float:
        assert not self._machine.running, "one after the other"
        future = asyncio.get_running_loop().create_future()
        self._machine.running[self.name] = future
        self._machine.started.put_nowait(self.name)
        try:
            capacity: float = await future
            self._machine.log.append(f"{self.name} measured")
            return capacity
        except asyncio.CancelledError:
            self._machine.log.append(f"{self.name} interrupted")
            raise
        finally:
            del self._machine.running[self.name]


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    monkeypatch.setattr(capacity, "_QUIET_SECONDS", 0.002)
    monkeypatch.setattr(capacity, "_POLL_SECONDS", 0.001)
    return Machine()


async def test_stages_are_measured_in_turn_and_one_session_is_held_until_then(
    machine: Machine,
) -> None:
    measured = MachineCapacity([machine.stage(name) for name in "abc"], lambda: machine.idle)
    running = asyncio.create_task(measured.run())
    async with asyncio.timeout(60):
        for name in "abc":
            assert await machine.started.get() == name
            assert measured.sessions == UNKNOWN == 1
            machine.running[name].set_result(10.0)
        await running
    assert measured.sessions == 2


async def test_a_call_interrupts_the_measurement(machine: Machine) -> None:
    measured = MachineCapacity([machine.stage("a")], lambda: machine.idle)
    running = asyncio.create_task(measured.run())
    async with asyncio.timeout(60):
        await machine.started.get()
        machine.idle = False
        while machine.running:  # noqa: ASYNC110 - the task has no event for it
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.01)
        assert machine.log == ["a interrupted"] and machine.started.empty()
        assert measured.sessions == UNKNOWN
        machine.idle = True
        await machine.started.get()
        machine.running["a"].set_result(10.0)
        await running
    assert measured.sessions == 7


async def test_nothing_is_measured_while_a_stage_starts(machine: Machine) -> None:
    first, second = (machine.stage(name) for name in "ab")
    second.serving = False
    measured = MachineCapacity([first, second], lambda: machine.idle)
    running = asyncio.create_task(measured.run())
    async with asyncio.timeout(60):
        await asyncio.sleep(0.02)
        assert machine.started.empty()
        second.serving = True
        assert await machine.started.get() == "a"
        running.cancel()
        await asyncio.wait([running])


async def test_a_stage_that_fails_is_measured_again(machine: Machine) -> None:
    measured = MachineCapacity([machine.stage("a")], lambda: machine.idle)
    running = asyncio.create_task(measured.run())
    async with asyncio.timeout(60):
        await machine.started.get()
        machine.running["a"].set_exception(ServiceError("STAGE_UNAVAILABLE", "not yet"))
        await machine.started.get()
        machine.running["a"].set_result(10.0)
        await running
    assert measured.sessions == 7


async def test_it_ends_with_its_task(machine: Machine) -> None:
    measured = MachineCapacity([machine.stage("a")], lambda: machine.idle)
    running = asyncio.create_task(measured.run())
    async with asyncio.timeout(60):
        await machine.started.get()
        running.cancel()
        await asyncio.wait([running])
        await asyncio.sleep(0)
    assert machine.log == ["a interrupted"]
