"""Whether motion that is generated frame by frame is as smooth as a real face's."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike


def roughness(tracks: Sequence[ArrayLike]) -> float:
    """Root mean square of third differences over that of first ones.

    0 for constant acceleration, 2.4 for random steps, 3.2 for random positions.

    :param tracks: (T,) or (T, n) each
    """
    steps, jerks = (
        np.concatenate([np.diff(np.asarray(track, float), order, axis=0) for track in tracks])
        for order in (1, 3)
    )
    return float(np.sqrt((jerks**2).mean() / (steps**2).mean()))
