"""The level of a live session, by what frames cost the renderer; on a clock of the test's own."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import pairwise

import pytest

from talkingface.contract.video import RenderLevel
from talkingface.orchestrator.session.degradation import Degradation
from talkingface.orchestrator.session.ladder import (
    DOWN_LOAD,
    MAX_WAIT,
    MIN_WAIT,
    SETTLE_SECONDS,
    UP_LOAD,
    Ladder,
)
from talkingface.v1.talking_face_pb2 import Event

FPS = 25
FULL, HALF_RESOLUTION, HALF_RATE = RenderLevel


class Machine:
    """A ladder and the frames of its session, whose load depends on its level."""

    def __init__(self, ladder: Ladder | None = None) -> None:
        self.ladder = ladder or Ladder()
        self.now = 0.0
        self.changes: list[tuple[float, RenderLevel]] = []
        while self.now < SETTLE_SECONDS:
            self.frame(0.3)

    def play(self, seconds: float, load: Callable[[RenderLevel], float]) -> None:
        """Render frames in real time."""
        until = self.now + seconds
        while self.now < until:
            self.frame(load(self.ladder.level))

    def frame(self, load: float) -> Event.LevelReason | None:
        """Render a frame."""
        self.now += (2 if self.ladder.level is HALF_RATE else 1) / FPS
        reason = self.ladder.observe(load, self.ladder.level, self.now)
        if reason is not None:
            self.changes.append((self.now, self.ladder.level))
        return reason


def work(full: float) -> Callable[[RenderLevel], float]:
    """Loads on a machine where a frame at full resolution has this load."""
    return lambda level: full if level is FULL else full / 2


def frames_until_change(machine: Machine, loads: Iterable[float]) -> int:
    for count, load in enumerate(loads, 1):
        if machine.frame(load) is not None:
            return count
    raise AssertionError("the level does not change")


@pytest.mark.parametrize(("load", "most"), [(0.81, 10), (1.0, 4), (1.2, 3), (9.0, 3)])
def test_the_larger_the_load_the_sooner_it_steps_down(load: float, most: int) -> None:
    """At a load of 2 the queue of 0.32 s is full after 16 frames."""
    machine = Machine()
    assert frames_until_change(machine, [load] * 100) == most
    assert machine.ladder.level is HALF_RESOLUTION


def test_a_load_below_one_leads_to_a_step_before_the_queue_grows() -> None:
    machine = Machine()
    machine.play(2.0, work(0.9))
    assert machine.changes and machine.changes[0][1] is HALF_RESOLUTION


def test_a_step_at_a_time_down_to_the_last_level() -> None:
    machine = Machine()
    machine.play(5.0, lambda level: 3.0)
    assert [level for _, level in machine.changes] == [HALF_RESOLUTION, HALF_RATE]


@pytest.mark.parametrize("every", [10, 25])
def test_single_slow_frames_change_nothing(every: int) -> None:
    """Both frames in work take 10 times the time, as where all processes stall for a moment."""
    machine = Machine()
    for _ in range(50):
        for load in (5.0, 5.0, *[0.45] * every):
            assert machine.frame(load) is None


def test_the_first_frames_are_ignored_also_after_a_recovery() -> None:
    ladder = Ladder()
    frames = int(SETTLE_SECONDS * FPS)
    for begin in (0.0, 10.0):
        ladder.settle()
        assert all(ladder.observe(9.0, FULL, begin + i / FPS) is None for i in range(frames))
    assert ladder.level is FULL


def test_it_steps_up_after_a_wait_with_headroom_one_level_at_a_time() -> None:
    machine = Machine(Ladder(HALF_RATE))
    begin = machine.now
    machine.play(30.0, work(0.4))
    assert [level for _, level in machine.changes] == [HALF_RESOLUTION, FULL]
    times = [begin, *(time for time, _ in machine.changes)]
    assert all(b - a >= MIN_WAIT for a, b in pairwise(times))


@pytest.mark.parametrize("load", [UP_LOAD / 2 + 0.02, DOWN_LOAD - 0.02])
def test_without_headroom_it_stays(load: float) -> None:
    """At half the resolution: not so busy that it steps down, and too busy for twice the work."""
    machine = Machine(Ladder(HALF_RESOLUTION))
    machine.play(60.0, lambda level: load)
    assert machine.changes == []


def test_at_half_the_rate_only_every_other_frame_costs() -> None:
    machine = Machine(Ladder(HALF_RATE))
    machine.play(60.0, lambda level: UP_LOAD + 0.1)  # of the frames that are rendered
    assert machine.changes == []
    machine.play(60.0, lambda level: UP_LOAD - 0.1 if level is HALF_RATE else 0.6)
    assert [level for _, level in machine.changes] == [HALF_RESOLUTION]


def test_an_interrupted_headroom_is_waited_for_anew() -> None:
    machine = Machine(Ladder(HALF_RESOLUTION))
    for _ in range(5):
        machine.play(MIN_WAIT - 1.5, work(0.3))
        machine.play(1.0, work(1.0))
    assert machine.changes == []


def test_a_level_that_does_not_hold_is_tried_more_and_more_rarely() -> None:
    """The full level costs four times what the one below does, which no load foretells."""
    machine = Machine()
    machine.play(600.0, lambda level: 1.0 if level is FULL else 0.2)
    ups = [time for time, level in machine.changes if level is FULL]
    waits = [b - a for a, b in pairwise(ups)]
    assert all(b > 1.5 * a for a, b in pairwise(waits[:4]))
    assert max(waits) < MAX_WAIT + 10 and waits[-1] > MAX_WAIT - 1
    assert len(machine.changes) < 30


def test_a_level_that_held_is_soon_tried_again() -> None:
    machine = Machine()
    for load in (1.0, 0.4, 1.0, 0.4, 1.0, 0.4):
        machine.play(30.0, work(load))
    downs = [time for time, level in machine.changes if level is HALF_RESOLUTION]
    ups = [time for time, level in machine.changes if level is FULL]
    assert len(downs) == len(ups) == 3
    assert all(time % 30 < MIN_WAIT + 6 for time in ups)


def test_sessions_wait_for_different_times() -> None:
    times = []
    for spread in (1.0, 1.5):
        machine = Machine(Ladder(HALF_RESOLUTION, spread))
        machine.play(20.0, work(0.4))
        times.append(machine.changes[0][0])
    assert times[1] - times[0] == pytest.approx(MIN_WAIT / 2, abs=0.1)


# --- with the frames that are under way


@pytest.mark.parametrize(
    ("load", "steps"),
    [(1.3, [1]), (3.0, [1, 2])],
    ids=["that half the resolution relieves", "that it does not relieve"],
)
def test_frames_of_the_level_before_count_by_what_they_would_have_taken(
    load: float, steps: list[int]
) -> None:
    now = 0.0
    degradation = Degradation(lambda: now)
    for frame in range(20):  # all sent before the first comes back
        degradation.level_for((frame + 1) / FPS / 3)
    changes = []
    for frame in range(20):
        now = frame / FPS
        changes += degradation.on_frame((frame + 1) / FPS / 3, load, 0)
    assert [event.level for event in changes] == steps


def test_a_step_is_reported_with_the_time_of_the_next_motion() -> None:
    now = 0.0
    degradation = Degradation(lambda: now)
    events: list[tuple[int, Event]] = []  # motion sent, event
    for frame in range(20):
        now, sent = frame / FPS, frame + 3
        degradation.level_for(sent / FPS)
        events += [(sent, event) for event in degradation.on_frame((frame + 1) / FPS, 1.2, 0)]
    (sent, event), *_ = events
    assert event.kind == Event.KIND_LEVEL_CHANGED
    assert (event.level, event.level_reason) == (1, Event.LEVEL_REASON_OVERLOAD)
    assert event.time.ToMilliseconds() == sent * 1000 // FPS


def test_neither_a_stalled_client_nor_dropped_nor_repeated_frames_change_the_level() -> None:
    """The frames come late and in bursts, but rendering has not become slower."""
    now = 0.0
    degradation = Degradation(lambda: now)
    dropped = 0
    for burst in range(20):
        begin = burst * FPS
        for motion in range(begin, begin + FPS):
            dropped += degradation.level_for((motion + 1) / FPS) is None
        now += 1.0
        for frame in range(begin, begin + 8):
            load = 0.0 if frame % 2 else 0.5
            events = degradation.on_frame((frame + 1) / FPS, load, 0)
            assert all(event.kind != Event.KIND_LEVEL_CHANGED for event in events)
    assert dropped > 100 and degradation.level is FULL


def test_a_session_goes_on_at_its_level() -> None:
    assert Degradation(level=HALF_RESOLUTION).level is HALF_RESOLUTION
    assert Degradation(level=99).level is HALF_RATE, "of a build with more levels"
