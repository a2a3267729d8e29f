"""Does motion that is made frame by frame run as smoothly as a face?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike


def roughness(tracks: Sequence[ArrayLike]) -> float:
    """Third differences over first ones, RMS: what is left when speed and acceleration go on.

    0 for a path that bends evenly, 2.4 for steps by pure chance, 3.2 for places by pure chance.

    :param tracks: (T,) or (T, n) each
    """
    steps, jerks = (
        np.concatenate([np.diff(np.asarray(track, float), order, axis=0) for track in tracks])
        for order in (1, 3)
    )
    return float(np.sqrt((jerks**2).mean() / (steps**2).mean()))
