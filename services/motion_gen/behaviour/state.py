"""Seeded random streams, and state that can be stored as JSON."""

from __future__ import annotations

from typing import Any

import numpy as np


def random_stream(seed: int, purpose: int) -> np.random.Generator:
    """Create a counter-based random generator, which gives the same numbers on every machine.

    :param seed: of the session
    :param purpose: number of the planner that draws; each has a stream of its own
    """
    return np.random.Generator(np.random.Philox(key=[seed, purpose]))


class Serializable:
    """Base of planners whose whole state is in their attributes.

    An attribute is a number, tuple, array, random generator or another `Serializable`, and keeps
    its type over the object's life.
    """

    def state(self) -> dict[str, Any]:
        """Return the whole state; JSON represents it exactly."""
        return {name: _encode(value) for name, value in vars(self).items()}

    def load_state(self, state: dict[str, Any]) -> None:
        """Replace the state by one that `state` returned."""
        for name, value in state.items():
            setattr(self, name, _decode(getattr(self, name), value))


def _encode(value: Any) -> Any:
    if isinstance(value, Serializable):
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
    """Convert a value from JSON to the type of the attribute's old value."""
    if isinstance(old, Serializable):
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
