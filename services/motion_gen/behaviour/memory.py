"""What planners share: seeded streams, state as JSON, noise-driven motion."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from talkingface.contract.rates import MOTION_FPS

Floats = np.ndarray

FRAME = 1.0 / MOTION_FPS  # seconds
MUSCLE = 0.16  # seconds over which a force builds up
DAMPING = 0.7


def stream(seed: int, purpose: int) -> np.random.Generator:
    """Random numbers of one purpose: counter-based, the same on every machine."""
    return np.random.Generator(np.random.Philox(key=[seed, purpose]))


class Stateful:
    """A planner whose attributes (numbers, tuples, arrays, streams, other planners) are all of
    its state. Attributes keep their type over its life."""

    def state(self) -> dict[str, Any]:
        """All of the state, as JSON can carry it exactly."""
        return {name: _encode(value) for name, value in vars(self).items()}

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on where `state` was taken."""
        for name, value in state.items():
            setattr(self, name, _decode(getattr(self, name), value))


def _encode(value: Any) -> Any:
    if isinstance(value, Stateful):
        return value.state()
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, np.random.Generator):
        state = value.bit_generator.state
        return {
            **{name: state[name] for name in ("buffer_pos", "has_uint32", "uinteger")},
            **{name: [int(v) for v in state["state"][name]] for name in ("counter", "key")},
            "buffer": [int(v) for v in state["buffer"]],
        }
    return value


def _decode(old: Any, value: Any) -> Any:
    if isinstance(old, Stateful):
        old.load_state(value)
        return old
    if isinstance(old, np.ndarray):
        return np.array(value, old.dtype)
    if isinstance(old, np.random.Generator):
        old.bit_generator.state = {
            "bit_generator": "Philox",
            "state": {name: np.array(value[name], np.uint64) for name in ("counter", "key")},
            "buffer": np.array(value["buffer"], np.uint64),
            **{name: value[name] for name in ("buffer_pos", "has_uint32", "uinteger")},
        }
        return old
    if isinstance(old, tuple):
        return type(old)(*value) if hasattr(old, "_fields") else tuple(value)
    return value


class Drift(Stateful):
    """Damped oscillators driven by noise: unit variance each, smooth in speed.

    A force of white noise builds up over `MUSCLE` seconds; its strength follows from the H2 norm
    of the third-order system.
    """

    def __init__(self, rng: np.random.Generator, hz: Floats) -> None:
        """:param hz: (n,) natural frequency of each"""
        omega = 2 * math.pi * np.asarray(hz, np.float64)
        first, second = 1 + 2 * DAMPING * omega * MUSCLE, 2 * DAMPING * omega + omega**2 * MUSCLE
        self.rng = rng
        self.strength = np.sqrt(2 * omega**2 * (first * second - MUSCLE * omega**2) / first / FRAME)
        self.damping, self.stiffness = 2 * DAMPING * omega, omega**2
        self.place, self.speed, self.force = np.zeros((3, len(omega)))

    def step(self, drive: float = 1.0) -> Floats:
        """Places one frame on, (n,).

        :param drive: factor on the force; at 0 the oscillators come to rest
        """
        push = drive * self.strength * self.rng.standard_normal(len(self.place))
        self.force += (push - self.force) * (FRAME / MUSCLE)
        pull = self.damping * self.speed + self.stiffness * self.place
        self.speed += FRAME * (self.force - pull)
        self.place = self.place + FRAME * self.speed
        return self.place
