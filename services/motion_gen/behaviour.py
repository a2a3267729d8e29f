"""When the eyes blink and where they look: a seeded statistical plan.

The plan is handed to the generator as conditions, which turns it into lids, eyes, brows and
head together. Sources of the statistics:

- blink intervals log-normal, 26 a minute in conversation and 17 at rest (Bentivoglio et al.
  1997; normal range in conversation 10.5-32.5, Doughty 2001); closing 40-47 % faster than
  opening; most blinks nearly complete;
- saccade size A = -6.9 ln(P / 15.7) degrees, P uniform in 1..15, and the direction table of
  Lee, Badler and Badler, "Eyes Alive" (2002);
- the head sways slowly at all times (below 0.3 Hz) and moves at 1 Hz or so while speaking
  (head and face follow the voice at 1-2 Hz, PLoS Comput Biol 1010273), 0.2-0.5 degrees a frame in
  real talking video;
- gaze aversion every 4.0 +- 1.0 s when speaking and 5.0 +- 1.0 s when listening, for
  1.0 +- 0.2 s; 70 % sideways, 10 % up, 20 % down (Andrist, Mutlu and Gleicher 2013).
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from talkingface.common.motion import MOTION_FPS, Array

BLINK_RATE_SPEAKING = 22.0
BLINK_RATE_SILENT = 16.0
BLINK_SIGMA = 0.55  # of the log of the interval
BLINK_MIN_INTERVAL = 0.45  # seconds
BLINK_WITH_SHIFT = 0.35  # chance of a blink with a large gaze shift
LARGE_SHIFT = 8.0  # degrees

AVERSION_INTERVAL = {True: (4.0, 1.0), False: (5.0, 1.0)}
AVERSION_LENGTH = (1.0, 0.2)
AVERSION_AT_ONSET = 0.4  # chance that a speaker looks away as speech begins
AVERSION_DIRECTIONS = (("side", 0.7), ("up", 0.1), ("down", 0.2))
AVERSION_RANGE = (5.0, 15.0)  # degrees

# Looking from one of the partner's eyes to the other, or to the mouth.
FIXATION_INTERVAL = (0.9, 0.5)  # median seconds, sigma of the log
FIXATION_SPREAD = 1.1  # degrees
FIXATION_SPREAD_CONTROLLED = 0.4

# Pitch, yaw, roll: standard deviations in degrees; centre frequencies in Hz.
SWAY_DEGREES, SWAY_HZ = np.array([1.2, 1.6, 0.8]), 0.12
TALK_DEGREES, TALK_HZ = np.array([1.5, 1.8, 1.0]), 0.9
TALK_AT_REST = 0.2  # share of the talking motion that stays while silent
TALK_FADE = 0.6  # seconds
DAMPING = 0.7
MUSCLE = 0.12  # seconds over which a force builds up
NECK = 0.006  # face widths of shift per degree of turn: the neck is below the face

DIRECTION_DEGREES = tuple(range(0, 360, 45))
DIRECTION_CHANCE = np.array([15.5, 6.5, 17.7, 7.4, 16.8, 7.9, 20.4, 7.8]) / 100.0


@dataclass(frozen=True)
class Blink:
    """One blink; times in seconds on the stream's clock."""

    start: float
    closing: float
    closed: float
    opening: float
    depth: float

    @property
    def end(self) -> float:
        return self.start + self.closing + self.closed + self.opening

    def closure(self, time: float) -> float:
        """Planned lid closure at `time`, 0..depth."""
        since = time - self.start
        if since <= 0.0 or time >= self.end:
            return 0.0
        if since < self.closing:
            phase = since / self.closing
        elif since < self.closing + self.closed:
            phase = 1.0
        else:
            phase = (self.end - time) / self.opening
        return self.depth * 0.5 * (1.0 - math.cos(math.pi * phase))


def draw_blink(rng: np.random.Generator, start: float) -> Blink:
    """A blink of 200 to 370 ms that closes faster than it opens."""
    closing = rng.uniform(0.07, 0.11)
    complete = rng.random() < 0.75
    return Blink(
        start=start,
        closing=closing,
        closed=rng.uniform(0.02, 0.06),
        opening=closing * rng.uniform(1.6, 2.1),
        depth=1.0 if complete else rng.uniform(0.7, 0.95),
    )


def saccade_size(rng: np.random.Generator) -> float:
    """Degrees, by the "Eyes Alive" law: 0.3 to 19."""
    return -6.9 * math.log(rng.uniform(1.0, 15.0) / 15.7)


class BehaviourPlanner:
    """Plans frame after frame; the same seed and the same speech give the same plan.

    Blinks and gaze draw from separate streams, so that a change of the blink rate leaves the
    gaze as it was.
    """

    def __init__(self, seed: int) -> None:
        self.frame = 0
        self.blink_rng = np.random.Generator(np.random.Philox(key=[seed, 1]))
        self.gaze_rng = np.random.Generator(np.random.Philox(key=[seed, 2]))
        # Intervals are in units of the mean, so that a new rate acts at once.
        self.blink_wait = self._draw_blink_wait()
        self.blink: Blink | None = None
        self.speaking = False
        self.aversion_wait = self._draw_normal(*AVERSION_INTERVAL[False])
        self.aversion_left = 0.0
        self.fixation_wait = self._draw_fixation()
        self.away = (0.0, 0.0)
        self.offset = (0.0, 0.0)

    def state(self) -> dict[str, Any]:
        """All of the state, as JSON can carry it."""
        streams = {name: _philox_state(getattr(self, name)) for name in ("blink_rng", "gaze_rng")}
        scalars = {name: getattr(self, name) for name in _SCALARS}
        return {**streams, **scalars, "blink": asdict(self.blink) if self.blink else None}

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on where `state` was taken."""
        for name in ("blink_rng", "gaze_rng"):
            getattr(self, name).bit_generator.state = _from_philox_state(state[name])
        for name in _SCALARS:
            value = state[name]
            setattr(self, name, tuple(value) if isinstance(value, list) else value)
        self.blink = Blink(**state["blink"]) if state["blink"] else None

    def step(
        self,
        speaking: bool,
        gaze: tuple[float, float] | None = None,
        blink_rate: float | None = None,
    ) -> tuple[float, float, float]:
        """The next frame: lid closure 0..1, gaze pitch and yaw in degrees, camera's frame.

        :param speaking: whether the voice is heard now
        :param gaze: where the caller wants the eyes; None = natural gaze
        :param blink_rate: blinks a minute; None = natural
        """
        now = self.frame / MOTION_FPS
        self.frame += 1
        shift = self._step_gaze(speaking, controlled=gaze is not None)
        closure = self._step_blink(now, speaking, blink_rate, shift)
        base = gaze if gaze is not None else self.away
        return closure, base[0] + self.offset[0], base[1] + self.offset[1]

    def _step_blink(
        self, now: float, speaking: bool, blink_rate: float | None, shift: float
    ) -> float:
        if blink_rate is None:
            rate = BLINK_RATE_SPEAKING if speaking else BLINK_RATE_SILENT
        else:
            rate = blink_rate
        self.blink_wait -= rate / 60.0 / MOTION_FPS
        if self.blink is not None and now >= self.blink.end:
            self.blink = None
        rested = self.blink is None
        with_shift = (
            blink_rate is None
            and shift > LARGE_SHIFT
            and self.blink_rng.random() < BLINK_WITH_SHIFT
        )
        if rested and rate > 0.0 and (self.blink_wait <= 0.0 or with_shift):
            self.blink = draw_blink(self.blink_rng, now)
            self.blink_wait = max(self._draw_blink_wait(), BLINK_MIN_INTERVAL * rate / 60.0)
        return self.blink.closure(now + 0.5 / MOTION_FPS) if self.blink is not None else 0.0

    def _step_gaze(self, speaking: bool, controlled: bool) -> float:
        """Moves `away` and `offset`; returns the size of this frame's shift in degrees."""
        rng, dt = self.gaze_rng, 1.0 / MOTION_FPS
        before = (self.away[0] + self.offset[0], self.away[1] + self.offset[1])
        onset = speaking and not self.speaking
        self.speaking = speaking
        if self.aversion_left > 0.0:
            self.aversion_left -= dt
            if self.aversion_left <= 0.0:
                self.away = (0.0, 0.0)
                self.aversion_wait = self._draw_normal(*AVERSION_INTERVAL[speaking])
        else:
            self.aversion_wait -= dt
            if self.aversion_wait <= 0.0 or (onset and rng.random() < AVERSION_AT_ONSET):
                self.aversion_left = self._draw_normal(*AVERSION_LENGTH)
                self.away = self._draw_aversion()
        self.fixation_wait -= dt
        if self.fixation_wait <= 0.0:
            self.fixation_wait = self._draw_fixation()
            spread = FIXATION_SPREAD_CONTROLLED if controlled else FIXATION_SPREAD
            size = abs(rng.normal(0.0, spread))
            angle = math.radians(rng.choice(DIRECTION_DEGREES, p=DIRECTION_CHANCE))
            self.offset = (0.7 * size * math.sin(angle), size * math.cos(angle))
        if controlled:
            return 0.0
        after = (self.away[0] + self.offset[0], self.away[1] + self.offset[1])
        return math.hypot(after[0] - before[0], after[1] - before[1])

    def _draw_aversion(self) -> tuple[float, float]:
        rng = self.gaze_rng
        size = min(max(saccade_size(rng), AVERSION_RANGE[0]), AVERSION_RANGE[1])
        names = [name for name, _ in AVERSION_DIRECTIONS]
        where = rng.choice(names, p=[chance for _, chance in AVERSION_DIRECTIONS])
        tilt = rng.normal(0.0, 0.25)
        sign = 1.0 if rng.random() < 0.5 else -1.0
        if where == "side":
            return size * math.sin(tilt), sign * size * math.cos(tilt)
        vertical = 0.75 * size if where == "up" else -0.75 * size
        return vertical * math.cos(tilt), size * math.sin(tilt)

    def _draw_blink_wait(self) -> float:
        """Log-normal with mean 1."""
        return float(self.blink_rng.lognormal(-0.5 * BLINK_SIGMA**2, BLINK_SIGMA))

    def _draw_fixation(self) -> float:
        median, sigma = FIXATION_INTERVAL
        return float(self.gaze_rng.lognormal(math.log(median), sigma))

    def _draw_normal(self, mean: float, deviation: float) -> float:
        return max(0.2 * mean, float(self.gaze_rng.normal(mean, deviation)))


class IdleHead:
    """Head motion that no word explains: two damped oscillators an axis, driven by noise."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.Generator(np.random.Philox(key=[seed, 3]))
        self.place = np.zeros((2, 3))  # sway, talk; unit variance
        self.speed = np.zeros((2, 3))
        self.force = np.zeros((2, 3))
        self.liveliness = TALK_AT_REST

    def state(self) -> dict[str, Any]:
        """All of the state, as JSON can carry it."""
        return {
            "rng": _philox_state(self.rng),
            "place": self.place.tolist(),
            "speed": self.speed.tolist(),
            "force": self.force.tolist(),
            "liveliness": self.liveliness,
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on where `state` was taken."""
        self.rng.bit_generator.state = _from_philox_state(state["rng"])
        for name in ("place", "speed", "force"):
            setattr(self, name, np.array(state[name]))
        self.liveliness = state["liveliness"]

    def step(self, speaking: bool) -> tuple[Array, Array]:
        """The next frame: rotation (3,) in degrees, translation (2,) in face widths."""
        dt = 1.0 / MOTION_FPS
        omega = 2 * math.pi * np.array([[SWAY_HZ], [TALK_HZ]])
        # White noise, smoothed, drives the oscillators; of this strength it gives them unit
        # variance (the H2 norm of the third-order system).
        first, second = 1 + 2 * DAMPING * omega * MUSCLE, 2 * DAMPING * omega + omega**2 * MUSCLE
        strength = np.sqrt(2 * omega**2 * (first * second - MUSCLE * omega**2) / first / dt)
        self.force += (strength * self.rng.standard_normal((2, 3)) - self.force) * dt / MUSCLE
        self.speed += dt * (self.force - 2 * DAMPING * omega * self.speed - omega**2 * self.place)
        self.place += dt * self.speed
        target = 1.0 if speaking else TALK_AT_REST
        self.liveliness += (target - self.liveliness) * dt / TALK_FADE
        sway, talk = self.place
        turn = SWAY_DEGREES * sway + self.liveliness * TALK_DEGREES * talk
        shift = np.array([NECK * (0.5 * turn[1] + turn[2]), -NECK * turn[0]])
        return turn.astype(np.float32), shift.astype(np.float32)


_SCALARS = (
    "frame", "blink_wait", "speaking", "aversion_wait", "aversion_left", "fixation_wait", "away",
    "offset",
)  # fmt: skip


def _philox_state(generator: np.random.Generator) -> dict[str, Any]:
    state = generator.bit_generator.state
    return {
        **{name: state[name] for name in ("buffer_pos", "has_uint32", "uinteger")},
        **{name: [int(v) for v in state["state"][name]] for name in ("counter", "key")},
        "buffer": [int(v) for v in state["buffer"]],
    }


def _from_philox_state(state: dict[str, Any]) -> dict[str, Any]:
    return {
        "bit_generator": "Philox",
        "state": {name: np.array(state[name], np.uint64) for name in ("counter", "key")},
        "buffer": np.array(state["buffer"], np.uint64),
        **{name: state[name] for name in ("buffer_pos", "has_uint32", "uinteger")},
    }
