"""A live session's level and a renderer's queue, in a closed loop on a clock of the test's own."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import pytest

from talkingface.contract.video import RenderLevel
from talkingface.orchestrator.session.degradation import Degradation
from talkingface.v1.talking_face_pb2 import Event

FPS = 25
TICK = 0.001  # seconds
IN_FLIGHT = 2
# Work of a frame on one core relative to the full level; a repeated frame has none.
WORK = {RenderLevel.FULL: 1.0, RenderLevel.HALF_RESOLUTION: 0.55, RenderLevel.HALF_RATE: 0.55}


@dataclass
class Job:
    """A frame in the renderer."""

    index: int
    left: float  # work, in seconds of a core
    begun: float | None = None  # seconds
    seconds: float = 0.0  # that it took


@dataclass
class Renderer:
    """Renders the motion of one session with two frames in work, which share some cores."""

    work: float  # seconds of a core for a frame at the full level
    cores: Callable[[float], float]  # at a time in seconds
    degradation: Degradation = field(init=False)
    now: float = 0.0
    dropped: list[float] = field(default_factory=list)  # times
    changes: list[tuple[float, int]] = field(default_factory=list)  # time and level
    delays: list[tuple[float, float]] = field(default_factory=list)  # time, from motion to frame

    def __post_init__(self) -> None:
        self.degradation = Degradation(lambda: self.now)
        self._queue: deque[Job] = deque()
        self._working: deque[Job] = deque()
        self._sent: dict[int, float] = {}

    def run(self, seconds: float) -> None:
        """Send motion in real time and receive the frames."""
        for frame in range(round(self.now * FPS), round((self.now + seconds) * FPS)):
            self._send(frame)
            for _ in range(round(1 / FPS / TICK)):
                self.now += TICK
                self._work()

    def _send(self, frame: int) -> None:
        level = self.degradation.level_for((frame + 1) / FPS)
        if level is None:
            self.dropped.append(self.now)
            return
        repeated = level is RenderLevel.HALF_RATE and frame % 2 == 1
        self._sent[frame] = self.now
        self._queue.append(Job(frame, 0.0 if repeated else WORK[level] * self.work))

    def _work(self) -> None:
        while self._queue and (
            not self._queue[0].left or sum(job.left > 0 for job in self._working) < IN_FLIGHT
        ):
            job = self._queue.popleft()
            job.begun = self.now if job.left else None
            self._working.append(job)
        busy = [job for job in self._working if job.left > 0]
        for job in busy:
            job.left -= min(1.0, self.cores(self.now) / len(busy)) * TICK
            if job.left <= 0:
                assert job.begun is not None
                job.left, job.seconds = 0.0, self.now - job.begun
        while self._working and not self._working[0].left:
            self._finish(self._working.popleft())

    def _finish(self, job: Job) -> None:
        self.delays.append((self.now, self.now - self._sent.pop(job.index)))
        load = job.seconds * FPS / IN_FLIGHT
        for event in self.degradation.on_frame((job.index + 1) / FPS, load, 0):
            if event.kind == Event.KIND_LEVEL_CHANGED:
                self.changes.append((self.now, event.level))


def levels(renderer: Renderer) -> list[int]:
    return [level for _, level in renderer.changes]


def later_than(times: Iterable[float], begin: float) -> int:
    return sum(time > begin for time in times)


@pytest.mark.parametrize("work", [0.01, 0.03, 0.045])
def test_a_renderer_that_keeps_up_stays_at_the_full_level(work: float) -> None:
    renderer = Renderer(work, lambda now: 2.0)
    renderer.run(60)
    assert not renderer.changes and not renderer.dropped


def slowed(overload: float) -> Renderer:
    """From 5 s on the full level takes more than the cores do, by this factor."""
    renderer = Renderer(0.03, lambda now: 2.0 if now < 5 else 0.03 * FPS / overload)
    renderer.run(35)
    return renderer


@pytest.mark.parametrize("overload", [0.8, 1.0])
def test_a_renderer_without_a_queue_is_left_alone(overload: float) -> None:
    """One frame after the other takes all the time there is, and each is in time."""
    renderer = slowed(overload)
    assert not renderer.changes and not renderer.dropped
    assert max(delay for _, delay in renderer.delays) < 0.041


@pytest.mark.parametrize("overload", [1.1, 1.3, 1.5, 1.7])
def test_an_overloaded_renderer_is_relieved_before_frames_are_dropped(overload: float) -> None:
    renderer = slowed(overload)
    assert not renderer.dropped
    assert renderer.changes[0][0] < 5.5
    # What has queued up may need the last level for some seconds.
    assert levels(renderer) in ([1], [1, 2, 1])
    assert max(delay for time, delay in renderer.delays if time > 6) < 0.1


@pytest.mark.parametrize("overload", [2.0, 3.0])
def test_a_larger_overload_ends_at_the_last_level(overload: float) -> None:
    """Frames are dropped only while those sent at the full level are rendered."""
    renderer = slowed(overload)
    assert levels(renderer) == [1, 2]
    assert later_than(renderer.dropped, 8) == 0
    assert max(delay for time, delay in renderer.delays if time > 8) < 0.1


def test_it_returns_to_the_full_level_when_the_cores_are_back() -> None:
    renderer = Renderer(0.03, lambda now: 0.3 if 5 < now < 15 else 2.0)
    renderer.run(60)
    assert levels(renderer) == [1, 2, 1, 0]
    assert later_than(renderer.dropped, 8) == 0
    assert renderer.changes[-1][0] < 15 + 2 * 7.5 + 5


def test_a_machine_on_the_edge_does_not_flicker() -> None:
    """At the full level it falls behind; below it the load is low enough to try again."""
    renderer = Renderer(0.05, lambda now: 1.1)
    renderer.run(600)
    assert not later_than(renderer.dropped, 1)
    assert len(renderer.changes) < 20
    ups = [time for time, level in renderer.changes if level == 0]
    assert not ups or ups[-1] - ups[0] > 60 * (len(ups) - 4)


def test_a_short_stall_of_the_machine_changes_nothing() -> None:
    renderer = Renderer(0.02, lambda now: 0.0 if 5 < now < 5.25 else 2.0)
    renderer.run(20)
    assert not renderer.changes and not renderer.dropped
