"""The mouth shapes of speech: symmetric groups of ARKit coefficients, with limits."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np

from talkingface.contract.arrays import Float32Array
from talkingface.contract.motion import ARKIT_DIM, ARKIT_NAMES

# Largest coefficient of each shape in articulation, by eye on rendered faces. A name without a
# side stands for both. The sideways shapes of jaw and mouth are absent: audio does not predict
# them.
SHAPE_LIMITS: Mapping[str, float] = MappingProxyType(
    {
        "jawOpen": 0.8, "jawForward": 0.3, "mouthFunnel": 0.8, "mouthPucker": 1.0,
        "mouthRollUpper": 0.6, "mouthRollLower": 0.6, "mouthShrugUpper": 0.8,
        "mouthShrugLower": 0.5, "mouthClose": 0.6, "mouthStretch": 0.8, "mouthSmile": 0.7,
        "mouthFrown": 0.25, "mouthDimple": 0.5, "mouthUpperUp": 1.0, "mouthLowerDown": 0.8,
        "mouthPress": 0.5,
    }
)  # fmt: skip
SHAPE_COUNT = len(SHAPE_LIMITS)


def _columns(shape: str) -> list[int]:
    sides = [shape] if shape in ARKIT_NAMES else [f"{shape}Left", f"{shape}Right"]
    return [ARKIT_NAMES.index(name) for name in sides]


# (SHAPE_COUNT, ARKIT_DIM): 1 at the coefficients of each shape.
LIP_SHAPES: Float32Array = np.zeros((SHAPE_COUNT, ARKIT_DIM), np.float32)
for _row, _shape in enumerate(SHAPE_LIMITS):
    LIP_SHAPES[_row, _columns(_shape)] = 1.0
