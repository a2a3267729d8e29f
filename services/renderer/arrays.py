"""Names for the array types of the renderer; shapes stand beside the variables. Runs of flags."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

AnyArray = NDArray[Any]  # of any element type
Float32Array = NDArray[np.float32]
Float64Array = NDArray[np.float64]
Int16Array = NDArray[np.int16]
Int32Array = NDArray[np.int32]
Int64Array = NDArray[np.int64]
Uint8Array = NDArray[np.uint8]
Uint8Image = NDArray[np.uint8]
Uint16Array = NDArray[np.uint16]
Uint32Array = NDArray[np.uint32]
Uint64Array = NDArray[np.uint64]
BoolArray = NDArray[np.bool_]

# Numbers of compiled functions. numba infers their exact types from the arrays' and keeps them
# narrow, which mypy cannot follow.
Pixel = Any  # uint32, packed, see `pixels.packed`
Real = Any  # float32
Index = Any  # a signed or unsigned integer


def runs(flags: BoolArray) -> list[tuple[int, int]]:
    """First and one past the last index of every run of True in (N,)."""
    ends = np.flatnonzero(np.diff(np.concatenate([[0], flags.astype(np.int8), [0]])))
    return [(int(a), int(b)) for a, b in ends.reshape(-1, 2)]
