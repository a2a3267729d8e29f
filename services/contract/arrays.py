"""Types of arrays by their elements; shapes and units stand where an array is used."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Float32Array: TypeAlias = NDArray[np.float32]
Float64Array: TypeAlias = NDArray[np.float64]
Int32Array: TypeAlias = NDArray[np.int32]
Uint8Array: TypeAlias = NDArray[np.uint8]
AnyArray: TypeAlias = NDArray[Any]  # the element type is known at run time only
